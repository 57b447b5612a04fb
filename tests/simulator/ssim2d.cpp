// SPDX-License-Identifier: MIT
#include "cuda_language.h"
// After the language that it is written in.
#include "ssim2d.cu"

namespace {

using namespace fusedssim;

#define KERNEL(NAME, TYPE) SIMULATOR_KERNEL(NAME, SsimParams<arithmetic_t<TYPE>>)
#define PLAIN(TYPE, RADIUS, GRADS) KERNEL(ssim2d_##TYPE##_r##RADIUS##_g##GRADS, TYPE)
#define NORMALIZED(TYPE, RADIUS, GRADS) KERNEL(ssim2d_normalized_##TYPE##_r##RADIUS##_g##GRADS, TYPE)
constexpr simulator::Kernel kKernels[] = {FUSEDSSIM_SSIM2D_KERNELS(PLAIN)  //
                                          FUSEDSSIM_SSIM2D_NORMALIZED_KERNELS(NORMALIZED)};

}  // namespace

simulator::Kernels simulator::ssim2d_kernels() { return kKernels; }
