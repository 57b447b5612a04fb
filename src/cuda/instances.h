// SPDX-License-Identifier: MIT
//
// The list of all kernels. Everything that names a kernel is an expansion of this list:
//
//     the kernels themselves, `extern "C" __global__ NAME`     src/cuda/<unit>.cu, at its end
//     the enum of families and the table of the launchers      src/cpp/cuda/kernel_list.h
//     the kernels of the simulated device                      tests/simulator/unit.cpp
//
// A *unit* is a file src/cuda/<unit>.cu; each unit is compiled to an image of its own. A *family* is a function
// template of a unit. A *kernel* is an instance of it for an element type, a radius bucket and a number of gradients.
// The list has two levels, and a user gives the macro that is expanded for each entry:
//
//     FUSEDSSIM_<UNIT>_FAMILIES(F)     F(FAMILY, KERNELS) for each family of a unit; KERNELS is the second level:
//     KERNELS(X)                       X(NAME, FAMILY, UNIT, PARAMS, TYPE, RADIUS, GRADS) for each kernel of the family
//
// PARAMS is the parameter block (params.h). The code of a kernel is FAMILY<TYPE, RADIUS, GRADS>(p), and FAMILY<TYPE>(p)
// in reduce.cu, whose kernels have radius 0 and 0 gradients here.
//
// To add a family: its kernels and a line in the FAMILIES of its unit; the function template in the .cu file; a
// launcher. To add an element type: the rows of types below; loads and stores in elements.h; Element and the functions
// behind it in kernel_list.h. If one of these is forgotten, a file does not compile: kernel_list.h asserts that each
// call finds a kernel, and that each kernel is found by a call.
#pragma once

// clang-format off

// M(TYPE, RADIUS, ...) for the kernels that filter. What is specialised, and why:
//
//     f32, f16, bf16    both images of that dtype, zeros beyond the border or     the usual calls
//                       padding valid, windows up to radius 5
//     f64               the same                                                  1.4 to 1.7 times as fast as any64
//                                                                                 for images, 1.1 times for volumes
//     u8                the same, for values                                      what files hold
//     f32, radius 3     the same, for values and one gradient                     windows of 7 taps and less
//     f32, wide         the same with radius 8, 10 and 16                         up to 2 times as fast as any
//     f32, strided      forward of volumes whose elements lie in no pairs, or     odd sizes, and crops
//                       in other places in each image
//     f32, masked,      the same as usual under a mask: its weights are           masks; with sums or gradients of
//     masked_loss       requested before they are needed                          |x - y| as well: losses under masks
//     f32, normalized   the same as usual where a mask normalises windows         1.5 times as fast as any
//     f32, pooling      images: also writes those of half the size                MS-SSIM
//     any, any64        anything else, in float and double arithmetic: other      at most 2.5 times slower than kernels
//                       borders, other integers, images of two dtypes, strided    of their own
//                       volumes of 16 bits, wide windows, and windows that a
//                       mask normalises
#define FUSEDSSIM_USUAL_TYPES(M, ...) \
    M(f32, 5, __VA_ARGS__)            \
    M(f16, 5, __VA_ARGS__)            \
    M(bf16, 5, __VA_ARGS__)           \
    M(f64, 5, __VA_ARGS__)
#define FUSEDSSIM_GENERAL_TYPES(M, ...) \
    M(any, 5, __VA_ARGS__)              \
    M(any64, 5, __VA_ARGS__)            \
    M(any, 8, __VA_ARGS__)              \
    M(any, 10, __VA_ARGS__)             \
    M(any64, 10, __VA_ARGS__)           \
    M(any, 16, __VA_ARGS__)             \
    M(any64, 16, __VA_ARGS__)
#define FUSEDSSIM_NORMALIZED_TYPES(M, ...) \
    M(any, 5, __VA_ARGS__)                 \
    M(any64, 5, __VA_ARGS__)               \
    M(any, 10, __VA_ARGS__)                \
    M(any64, 10, __VA_ARGS__)              \
    M(any, 16, __VA_ARGS__)                \
    M(any64, 16, __VA_ARGS__)
// For the value and for one gradient, since those for two would make the wheel larger than they are worth: windows up
// to 7 taps, and above 11; images that stand side by side in a sheet (general kernels can do this, too); volumes whose
// elements are loaded one by one; masks, also those that normalise windows; MS-SSIM.
#define FUSEDSSIM_SMALL_WINDOWS(X, FAMILY, UNIT, GRADS) FUSEDSSIM_TILED(f32, 3, X, FAMILY, UNIT, GRADS)
#define FUSEDSSIM_WIDE_WINDOWS(X, FAMILY, UNIT, GRADS) \
    FUSEDSSIM_TILED(f32, 8, X, FAMILY, UNIT, GRADS)    \
    FUSEDSSIM_TILED(f32, 10, X, FAMILY, UNIT, GRADS)   \
    FUSEDSSIM_TILED(f32, 16, X, FAMILY, UNIT, GRADS)
#define FUSEDSSIM_USUAL_WINDOWS(X, FAMILY, UNIT, GRADS) FUSEDSSIM_TILED(f32, 5, X, FAMILY, UNIT, GRADS)
// Values alone.
#define FUSEDSSIM_VALUE_TYPES(M, ...) M(u8, 5, __VA_ARGS__)
// M(TYPE, ...) for the kernels of reduce.cu: types of images, of gradients, and of arithmetic.
#define FUSEDSSIM_IMAGE_TYPES(M, ...) M(f32, __VA_ARGS__) M(any, __VA_ARGS__) M(any64, __VA_ARGS__)
#define FUSEDSSIM_GRAD_TYPES(M, ...)  M(f32, __VA_ARGS__) M(f16, __VA_ARGS__) M(bf16, __VA_ARGS__) M(f64, __VA_ARGS__)
#define FUSEDSSIM_ARITHMETIC_TYPES(M, ...) M(f32, __VA_ARGS__) M(f64, __VA_ARGS__)

// The kernels of a family for each of `TYPES`, for 1 and 2 gradients, or also for 0: the value and the map alone.
#define FUSEDSSIM_TILED(TYPE, RADIUS, X, FAMILY, UNIT, GRADS) \
    X(FAMILY##_##TYPE##_r##RADIUS##_g##GRADS, FAMILY, UNIT, SsimParams<arithmetic_t<TYPE>>, TYPE, RADIUS, GRADS)
#define FUSEDSSIM_SMALL(TYPE, X, FAMILY, PARAMS) X(FAMILY##_##TYPE, FAMILY, reduce, PARAMS, TYPE, 0, 0)
#define FUSEDSSIM_WITH_GRADS(X, FAMILY, UNIT, TYPES) \
    TYPES(FUSEDSSIM_TILED, X, FAMILY, UNIT, 1)       \
    TYPES(FUSEDSSIM_TILED, X, FAMILY, UNIT, 2)
#define FUSEDSSIM_WITH_VALUE(X, FAMILY, UNIT, TYPES) \
    TYPES(FUSEDSSIM_TILED, X, FAMILY, UNIT, 0)       \
    FUSEDSSIM_WITH_GRADS(X, FAMILY, UNIT, TYPES)

// And for windows of float32, `WINDOWS` above, for 0 and 1.
#define FUSEDSSIM_TO_ONE_GRAD(X, FAMILY, UNIT, WINDOWS) WINDOWS(X, FAMILY, UNIT, 0) WINDOWS(X, FAMILY, UNIT, 1)

// ssim2d.cu: value, map and gradient of images.
#define FUSEDSSIM_SSIM2D(X)                                      \
    FUSEDSSIM_VALUE_TYPES(FUSEDSSIM_TILED, X, ssim2d, ssim2d, 0) \
    FUSEDSSIM_SMALL_WINDOWS(X, ssim2d, ssim2d, 0)                \
    FUSEDSSIM_SMALL_WINDOWS(X, ssim2d, ssim2d, 1)                \
    FUSEDSSIM_WITH_VALUE(X, ssim2d, ssim2d, FUSEDSSIM_USUAL_TYPES)
#define FUSEDSSIM_SSIM2D_SHEETS(X) FUSEDSSIM_TO_ONE_GRAD(X, ssim2d_sheets, ssim2d, FUSEDSSIM_USUAL_WINDOWS)
#define FUSEDSSIM_SSIM2D_FAMILIES(F) \
    F(ssim2d, FUSEDSSIM_SSIM2D)      \
    F(ssim2d_sheets, FUSEDSSIM_SSIM2D_SHEETS)

// ssim2d_variants.cu: what else float32 has kernels of its own for. Wide windows, and those that a mask normalises,
// take two passes.
#define FUSEDSSIM_SSIM2D_MASKED(X) FUSEDSSIM_TO_ONE_GRAD(X, ssim2d_masked, ssim2d_variants, FUSEDSSIM_USUAL_WINDOWS)
#define FUSEDSSIM_SSIM2D_MASKED_LOSS(X) \
    FUSEDSSIM_TO_ONE_GRAD(X, ssim2d_masked_loss, ssim2d_variants, FUSEDSSIM_USUAL_WINDOWS)
#define FUSEDSSIM_SSIM2D_POOLING(X) FUSEDSSIM_TO_ONE_GRAD(X, ssim2d_pooling, ssim2d_variants, FUSEDSSIM_USUAL_WINDOWS)
#define FUSEDSSIM_SSIM2D_WIDE_FORWARD(X) \
    FUSEDSSIM_TO_ONE_GRAD(X, ssim2d_wide_forward, ssim2d_variants, FUSEDSSIM_WIDE_WINDOWS)
#define FUSEDSSIM_SSIM2D_WIDE_BACKWARD(X) FUSEDSSIM_WIDE_WINDOWS(X, ssim2d_wide_backward, ssim2d_variants, 1)
#define FUSEDSSIM_SSIM2D_NORMALIZED(X) \
    FUSEDSSIM_TO_ONE_GRAD(X, ssim2d_normalized, ssim2d_variants, FUSEDSSIM_USUAL_WINDOWS)
#define FUSEDSSIM_SSIM2D_NORMALIZED_BACKWARD(X) \
    FUSEDSSIM_USUAL_WINDOWS(X, ssim2d_normalized_backward, ssim2d_variants, 1)
#define FUSEDSSIM_SSIM2D_VARIANTS_FAMILIES(F)               \
    F(ssim2d_masked, FUSEDSSIM_SSIM2D_MASKED)               \
    F(ssim2d_masked_loss, FUSEDSSIM_SSIM2D_MASKED_LOSS)     \
    F(ssim2d_pooling, FUSEDSSIM_SSIM2D_POOLING)             \
    F(ssim2d_wide_forward, FUSEDSSIM_SSIM2D_WIDE_FORWARD)   \
    F(ssim2d_wide_backward, FUSEDSSIM_SSIM2D_WIDE_BACKWARD) \
    F(ssim2d_normalized, FUSEDSSIM_SSIM2D_NORMALIZED)       \
    F(ssim2d_normalized_backward, FUSEDSSIM_SSIM2D_NORMALIZED_BACKWARD)

// ssim2d_general.cu: the same in two passes, of which the second makes the gradient. It does not care whether windows
// are normalised.
#define FUSEDSSIM_SSIM2D_GENERAL_FORWARD(X) \
    FUSEDSSIM_WITH_VALUE(X, ssim2d_general_forward, ssim2d_general, FUSEDSSIM_GENERAL_TYPES)
#define FUSEDSSIM_SSIM2D_GENERAL_FORWARD_NORMALIZED(X) \
    FUSEDSSIM_WITH_VALUE(X, ssim2d_general_forward_normalized, ssim2d_general, FUSEDSSIM_NORMALIZED_TYPES)
#define FUSEDSSIM_SSIM2D_GENERAL_BACKWARD(X) \
    FUSEDSSIM_WITH_GRADS(X, ssim2d_general_backward, ssim2d_general, FUSEDSSIM_GENERAL_TYPES)
#define FUSEDSSIM_SSIM2D_GENERAL_FAMILIES(F)                                          \
    F(ssim2d_general_forward, FUSEDSSIM_SSIM2D_GENERAL_FORWARD)                       \
    F(ssim2d_general_forward_normalized, FUSEDSSIM_SSIM2D_GENERAL_FORWARD_NORMALIZED) \
    F(ssim2d_general_backward, FUSEDSSIM_SSIM2D_GENERAL_BACKWARD)

// ssim3d.cu: of volumes. The gradient is always a second kernel.
#define FUSEDSSIM_SSIM3D_FORWARD(X)                                      \
    FUSEDSSIM_VALUE_TYPES(FUSEDSSIM_TILED, X, ssim3d_forward, ssim3d, 0) \
    FUSEDSSIM_SMALL_WINDOWS(X, ssim3d_forward, ssim3d, 0)                \
    FUSEDSSIM_SMALL_WINDOWS(X, ssim3d_forward, ssim3d, 1)                \
    FUSEDSSIM_WITH_VALUE(X, ssim3d_forward, ssim3d, FUSEDSSIM_USUAL_TYPES)
#define FUSEDSSIM_SSIM3D_FORWARD_STRIDED(X) \
    FUSEDSSIM_TO_ONE_GRAD(X, ssim3d_forward_strided, ssim3d, FUSEDSSIM_USUAL_WINDOWS)
#define FUSEDSSIM_SSIM3D_BACKWARD(X)                       \
    FUSEDSSIM_SMALL_WINDOWS(X, ssim3d_backward, ssim3d, 1) \
    FUSEDSSIM_WITH_GRADS(X, ssim3d_backward, ssim3d, FUSEDSSIM_USUAL_TYPES)
#define FUSEDSSIM_SSIM3D_FAMILIES(F)                            \
    F(ssim3d_forward, FUSEDSSIM_SSIM3D_FORWARD)                 \
    F(ssim3d_forward_strided, FUSEDSSIM_SSIM3D_FORWARD_STRIDED) \
    F(ssim3d_backward, FUSEDSSIM_SSIM3D_BACKWARD)

// ssim3d_variants.cu: what else float32 has kernels of its own for.
#define FUSEDSSIM_SSIM3D_FORWARD_MASKED(X) \
    FUSEDSSIM_TO_ONE_GRAD(X, ssim3d_forward_masked, ssim3d_variants, FUSEDSSIM_USUAL_WINDOWS)
#define FUSEDSSIM_SSIM3D_FORWARD_MASKED_LOSS(X) \
    FUSEDSSIM_TO_ONE_GRAD(X, ssim3d_forward_masked_loss, ssim3d_variants, FUSEDSSIM_USUAL_WINDOWS)
#define FUSEDSSIM_SSIM3D_FORWARD_NORMALIZED(X) \
    FUSEDSSIM_TO_ONE_GRAD(X, ssim3d_forward_normalized, ssim3d_variants, FUSEDSSIM_USUAL_WINDOWS)
#define FUSEDSSIM_SSIM3D_BACKWARD_WEIGHTED(X) \
    FUSEDSSIM_USUAL_WINDOWS(X, ssim3d_backward_weighted, ssim3d_variants, 1)
#define FUSEDSSIM_SSIM3D_WIDE_FORWARD(X) \
    FUSEDSSIM_TO_ONE_GRAD(X, ssim3d_wide_forward, ssim3d_variants, FUSEDSSIM_WIDE_WINDOWS)
#define FUSEDSSIM_SSIM3D_WIDE_BACKWARD(X) FUSEDSSIM_WIDE_WINDOWS(X, ssim3d_wide_backward, ssim3d_variants, 1)
#define FUSEDSSIM_SSIM3D_VARIANTS_FAMILIES(F)                           \
    F(ssim3d_forward_masked, FUSEDSSIM_SSIM3D_FORWARD_MASKED)           \
    F(ssim3d_forward_masked_loss, FUSEDSSIM_SSIM3D_FORWARD_MASKED_LOSS) \
    F(ssim3d_forward_normalized, FUSEDSSIM_SSIM3D_FORWARD_NORMALIZED)   \
    F(ssim3d_backward_weighted, FUSEDSSIM_SSIM3D_BACKWARD_WEIGHTED)     \
    F(ssim3d_wide_forward, FUSEDSSIM_SSIM3D_WIDE_FORWARD)               \
    F(ssim3d_wide_backward, FUSEDSSIM_SSIM3D_WIDE_BACKWARD)

// ssim3d_general.cu
#define FUSEDSSIM_SSIM3D_GENERAL_FORWARD(X) \
    FUSEDSSIM_WITH_VALUE(X, ssim3d_general_forward, ssim3d_general, FUSEDSSIM_GENERAL_TYPES)
#define FUSEDSSIM_SSIM3D_GENERAL_FORWARD_NORMALIZED(X) \
    FUSEDSSIM_WITH_VALUE(X, ssim3d_general_forward_normalized, ssim3d_general, FUSEDSSIM_NORMALIZED_TYPES)
#define FUSEDSSIM_SSIM3D_GENERAL_BACKWARD(X) \
    FUSEDSSIM_WITH_GRADS(X, ssim3d_general_backward, ssim3d_general, FUSEDSSIM_GENERAL_TYPES)
#define FUSEDSSIM_SSIM3D_GENERAL_FAMILIES(F)                                          \
    F(ssim3d_general_forward, FUSEDSSIM_SSIM3D_GENERAL_FORWARD)                       \
    F(ssim3d_general_forward_normalized, FUSEDSSIM_SSIM3D_GENERAL_FORWARD_NORMALIZED) \
    F(ssim3d_general_backward, FUSEDSSIM_SSIM3D_GENERAL_BACKWARD)

// reduce.cu: the small kernels.
#define FUSEDSSIM_REDUCE_SUMS(X) FUSEDSSIM_ARITHMETIC_TYPES(FUSEDSSIM_SMALL, X, reduce_sums, ReduceParams)
#define FUSEDSSIM_SUM_MASK(X)    FUSEDSSIM_ARITHMETIC_TYPES(FUSEDSSIM_SMALL, X, sum_mask, MaskParams)
#define FUSEDSSIM_REDUCE_MASK(X) FUSEDSSIM_SMALL(f64, X, reduce_mask, MaskParams)
#define FUSEDSSIM_SCALE(X)       FUSEDSSIM_GRAD_TYPES(FUSEDSSIM_SMALL, X, scale, ScaleParams)
#define FUSEDSSIM_POOL(X)        FUSEDSSIM_IMAGE_TYPES(FUSEDSSIM_SMALL, X, pool, PoolParams)
#define FUSEDSSIM_COMBINE(X)     FUSEDSSIM_ARITHMETIC_TYPES(FUSEDSSIM_SMALL, X, combine, CombineParams)
#define FUSEDSSIM_REDUCE_FAMILIES(F)      \
    F(reduce_sums, FUSEDSSIM_REDUCE_SUMS) \
    F(sum_mask, FUSEDSSIM_SUM_MASK)       \
    F(reduce_mask, FUSEDSSIM_REDUCE_MASK) \
    F(scale, FUSEDSSIM_SCALE)             \
    F(pool, FUSEDSSIM_POOL)               \
    F(combine, FUSEDSSIM_COMBINE)

// clang-format on

#define FUSEDSSIM_FAMILIES(F)             \
    FUSEDSSIM_SSIM2D_FAMILIES(F)          \
    FUSEDSSIM_SSIM2D_VARIANTS_FAMILIES(F) \
    FUSEDSSIM_SSIM2D_GENERAL_FAMILIES(F)  \
    FUSEDSSIM_SSIM3D_FAMILIES(F)          \
    FUSEDSSIM_SSIM3D_VARIANTS_FAMILIES(F) \
    FUSEDSSIM_SSIM3D_GENERAL_FAMILIES(F)  \
    FUSEDSSIM_REDUCE_FAMILIES(F)
