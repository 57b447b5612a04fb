// SPDX-License-Identifier: MIT
//
// Stands for the CUDA backend in a build without it.
#include "cuda/backend.h"
#include "error.h"

namespace fusedssim::cuda {

namespace {
constexpr char kProblem[] =
    "this fused-ssim was built without CUDA (FUSEDSSIM_CUDA=off): install a build that has it, or use the CPU";
}

std::size_t workspace_bytes(const Problem&) { fail(FUSEDSSIM_CUDA_UNAVAILABLE, "%s", kProblem); }
void run(const Problem&, const fusedssim_exec&) { fail(FUSEDSSIM_CUDA_UNAVAILABLE, "%s", kProblem); }
void scale(const ScaleProblem&, const fusedssim_exec&) { fail(FUSEDSSIM_CUDA_UNAVAILABLE, "%s", kProblem); }
void pool(const PoolProblem&, const fusedssim_exec&) { fail(FUSEDSSIM_CUDA_UNAVAILABLE, "%s", kProblem); }
void combine(const CombineProblem&, const fusedssim_exec&) { fail(FUSEDSSIM_CUDA_UNAVAILABLE, "%s", kProblem); }

void fill_info(fusedssim_info& info) {
    info.cuda_architectures = "";
    info.cuda_compiler = "";
    info.cuda_problem = kProblem;
}
void fill_device_info(int, fusedssim_cuda_device_info&) { fail(FUSEDSSIM_CUDA_UNAVAILABLE, "%s", kProblem); }

}  // namespace fusedssim::cuda
