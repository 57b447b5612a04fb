// SPDX-License-Identifier: MIT
#pragma once

#include "problem.h"

namespace fusedssim::cpu {

// `threads` at the most, the calling one included; 0 is default_threads().
void run(const Problem& p, int threads);
void scale(const ScaleProblem& p, int threads);
void pool(const PoolProblem& p, int threads);
void combine(const CombineProblem& p);

// The instruction set in use: the best that the processor has, or what the environment variable FUSEDSSIM_CPU_ISA names.
const char* isa();
int default_threads();

}  // namespace fusedssim::cpu
