// SPDX-License-Identifier: MIT
#include "cuda_language.h"
// After the language that it is written in.
#include "ssim3d.cu"

namespace {

using namespace fusedssim;

#define KERNEL(NAME, TYPE) SIMULATOR_KERNEL(NAME, SsimParams<arithmetic_t<TYPE>>)
#define FORWARD(TYPE, RADIUS, GRADS) KERNEL(ssim3d_forward_##TYPE##_r##RADIUS##_g##GRADS, TYPE)
#define NORMALIZED(TYPE, RADIUS, GRADS) KERNEL(ssim3d_forward_normalized_##TYPE##_r##RADIUS##_g##GRADS, TYPE)
#define BACKWARD(TYPE, RADIUS, GRADS) KERNEL(ssim3d_backward_##TYPE##_r##RADIUS##_g##GRADS, TYPE)
constexpr simulator::Kernel kKernels[] = {FUSEDSSIM_SSIM3D_FORWARD_KERNELS(FORWARD)        //
                                          FUSEDSSIM_SSIM3D_NORMALIZED_KERNELS(NORMALIZED)  //
                                          FUSEDSSIM_SSIM3D_BACKWARD_KERNELS(BACKWARD)};

}  // namespace

simulator::Kernels simulator::ssim3d_kernels() { return kKernels; }
