// SPDX-License-Identifier: MIT
#include "cuda_language.h"
// After the language that it is written in.
#include "ssim2d_general.cu"

namespace {

using namespace fusedssim;

#define FAMILY(FAMILY, KERNELS) KERNELS(SIMULATOR_KERNEL)
constexpr simulator::Kernel kKernels[] = {FUSEDSSIM_SSIM2D_GENERAL_FAMILIES(FAMILY)};

}  // namespace

simulator::Kernels simulator::ssim2d_general_kernels() { return kKernels; }
