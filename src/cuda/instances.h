// SPDX-License-Identifier: MIT
//
// The one list of kernels that are built. X(unit, name) is expanded by the device code, which defines
// `extern "C" __global__ name`, and by the launchers, which look `name` up. A name is
//
//     <kernel>_<type>_r<radius bucket>[_g<gradients>]
//
// To add a dtype or a radius bucket, extend the lists here (and kRadiusBuckets in params.h).
#pragma once

// The element types for which a radius-5 kernel of its own is built, and those of the wider windows, where "any" reads
// and writes float32, float16 and bfloat16 by a run-time switch: they are rare, and would double the build time.
#define FUSEDSSIM_TYPES_R5(X, ...) \
    X(f32, 5, __VA_ARGS__) X(f16, 5, __VA_ARGS__) X(bf16, 5, __VA_ARGS__) X(f64, 5, __VA_ARGS__)
#define FUSEDSSIM_TYPES_R16(X, ...) X(any, 16, __VA_ARGS__) X(f64, 16, __VA_ARGS__)
#define FUSEDSSIM_TYPES(X, ...) FUSEDSSIM_TYPES_R5(X, __VA_ARGS__) FUSEDSSIM_TYPES_R16(X, __VA_ARGS__)

// (type, radius, gradients): 0 is the value alone.
#define FUSEDSSIM_SSIM2D_KERNELS(X) FUSEDSSIM_TYPES(X, 0) FUSEDSSIM_TYPES(X, 1) FUSEDSSIM_TYPES(X, 2)
#define FUSEDSSIM_SSIM3D_FORWARD_KERNELS(X) FUSEDSSIM_TYPES(X, 0) FUSEDSSIM_TYPES(X, 1) FUSEDSSIM_TYPES(X, 2)
#define FUSEDSSIM_SSIM3D_BACKWARD_KERNELS(X) FUSEDSSIM_TYPES(X, 1) FUSEDSSIM_TYPES(X, 2)

// Windows that a mask normalises are rarer still.
#define FUSEDSSIM_NORMALIZED_TYPES(X, ...) X(any, 5, __VA_ARGS__) X(any, 16, __VA_ARGS__) X(f64, 16, __VA_ARGS__)
#define FUSEDSSIM_SSIM2D_NORMALIZED_KERNELS(X) \
    FUSEDSSIM_NORMALIZED_TYPES(X, 0) FUSEDSSIM_NORMALIZED_TYPES(X, 1) FUSEDSSIM_NORMALIZED_TYPES(X, 2)
#define FUSEDSSIM_SSIM3D_NORMALIZED_KERNELS(X) FUSEDSSIM_SSIM2D_NORMALIZED_KERNELS(X)

// The element types of the small kernels.
#define FUSEDSSIM_SCALE_KERNELS(X) X(f32) X(f16) X(bf16) X(f64)
#define FUSEDSSIM_POOL_KERNELS(X) X(f32) X(f16) X(bf16) X(f64)
#define FUSEDSSIM_REDUCE_KERNELS(X) X(f32) X(f64)
#define FUSEDSSIM_COMBINE_KERNELS(X) X(f32) X(f64)
#define FUSEDSSIM_SUM_MASK_KERNELS(X) X(f32) X(f64)
#define FUSEDSSIM_REDUCE_MASK_KERNELS(X) X(f64)
