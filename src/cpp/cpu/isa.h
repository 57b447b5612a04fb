// SPDX-License-Identifier: MIT
//
// The instruction sets that this build has kernels for, and the choice among them.
#pragma once

#include "cpu/kernels.h"

namespace fusedssim::cpu {

// The kernels of the instruction set in use: the best that the processor has, or the one that the environment variable
// FUSEDSSIM_CPU_ISA names. Chosen at the first call.
const Kernels& kernels();

}  // namespace fusedssim::cpu
