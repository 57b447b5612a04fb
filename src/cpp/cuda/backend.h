// SPDX-License-Identifier: MIT
//
// The CUDA backend as the rest of the library sees it. In a build without CUDA, unavailable.cpp stands for it.
#pragma once

#include <cstddef>

#include "problem.h"

namespace fusedssim::cuda {

// Device memory that run() takes from exec.workspace.
std::size_t workspace_bytes(const Problem& p);

void run(const Problem& p, const fusedssim_exec& exec);
void scale(const ScaleProblem& p, const fusedssim_exec& exec);
void pool(const PoolProblem& p, const fusedssim_exec& exec);
void combine(const CombineProblem& p, const fusedssim_exec& exec);

// The CUDA fields of `info`.
void fill_info(fusedssim_info& info);
void fill_device_info(int device_id, fusedssim_cuda_device_info& info);

}  // namespace fusedssim::cuda
