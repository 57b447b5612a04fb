// SPDX-License-Identifier: MIT
//
// Stands for the CUDA backend in a build without it.
#include "cuda/backend.h"
#include "error.h"

namespace fusedssim::cuda {

namespace {
constexpr char kProblem[] =
    "this fused-ssim was built without CUDA (FUSEDSSIM_CUDA=off): install a build that has it, or use the CPU";

template <class Result, class... Arguments>
Result refuse(Arguments...) {
    fail(FUSEDSSIM_CUDA_UNAVAILABLE, "%s", kProblem);
}

void fill_info(fusedssim_info& info) {
    info.cuda_architectures = "";
    info.cuda_compiler = "";
    info.cuda_problem = kProblem;
}

}  // namespace

constexpr bool kUsesWorkspace = true, kIsHost = false;
const Backend backend = {kUsesWorkspace, kIsHost, refuse, refuse, refuse, refuse, refuse, fill_info};

void fill_device_info(int, fusedssim_cuda_device_info&) { fail(FUSEDSSIM_CUDA_UNAVAILABLE, "%s", kProblem); }

}  // namespace fusedssim::cuda
