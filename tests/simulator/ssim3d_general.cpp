// SPDX-License-Identifier: MIT
#include "cuda_language.h"
// After the language that it is written in.
#include "ssim3d_general.cu"

namespace {

using namespace fusedssim;

#define FAMILY(FAMILY, KERNELS) KERNELS(SIMULATOR_KERNEL)
constexpr simulator::Kernel kKernels[] = {FUSEDSSIM_SSIM3D_GENERAL_FAMILIES(FAMILY)};

}  // namespace

simulator::Kernels simulator::ssim3d_general_kernels() { return kKernels; }
