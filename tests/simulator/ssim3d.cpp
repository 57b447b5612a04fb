// SPDX-License-Identifier: MIT
#include "cuda_language.h"
// After the language that it is written in.
#include "ssim3d.cu"

namespace {

using namespace fusedssim;

#define FAMILY(FAMILY, KERNELS) KERNELS(SIMULATOR_KERNEL)
constexpr simulator::Kernel kKernels[] = {FUSEDSSIM_SSIM3D_FAMILIES(FAMILY)};

}  // namespace

simulator::Kernels simulator::ssim3d_kernels() { return kKernels; }
