// SPDX-License-Identifier: MIT
//
// SSIM and its gradient without any tricks: the way into this folder. One thread computes one position, straight from
// the formulas in core/ssim_math.h, with all (2R + 1)^3 taps of the window. Nothing of the library uses these two
// kernels; tests/simulator compares them with the real ones.
//
// How to read on. Each file adds something to what stands here:
//
//     core/ssim_math.h   the formulas themselves (docs/derivation.md derives them)
//     params.h           what a real kernel is told: strides, masks, reductions, and how planes are cut into blocks
//     elements.h         element types
//     device.h           the filter along the axis that a block walks, in registers (TransposedFir)
//     pivot_sample.h     the level that is subtracted from the images, so that float32 keeps its digits
//     strip.h            one kernel instead of two: the filter separated by axis, a block that walks down a strip, and
//                        partial maps that never leave the chip (strip_rows.h is its shared memory)
//     block_sums.h       sums in a fixed order, and how the last block of a launch computes the value
//     volume.h           volumes. Two kernels again, since the partial maps of a tile do not fit on the chip. Both walk
//                        along z (slice_walk.h), one over the images (image_source.h), the other over the partial maps
//                        (partial_maps.h); slice_filter.h has the taps along y and x
//     reduce.cu          the small kernels around them
//     instances.h        the list of all kernels; src/cpp/cuda/plan.cpp and backend.cpp choose and launch them
#include "core/border.h"
#include "core/ssim_math.h"
#include "core/window.h"

namespace fusedssim {

struct NaiveParams {
    const float *x, *y;      // [size[0], size[1], size[2]]: depth, height, width
    float* map;              // the same shape: SSIM; 0 where padding valid has no element (out)
    float* partials;         // the same shape, with 4 numbers each (out of the first kernel, in of the second)
    float *grad_x, *grad_y;  // the gradient of the sum of the map (out)
    int size[3], radius[3], crop[3];
    float taps[3][kMaxRadius + 1];  // for each axis, from the centre of the window outwards
    float c1x2, c2x2;               // 2 C1, 2 C2
};

// Calls use(weight, element) for each element that the window around a position sees. Beyond the border it sees zeros,
// which add nothing.
template <class Use>
__device__ void each_in_window(const NaiveParams& p, int z, int y, int x, Use use) {
    for (int k = z - p.radius[0]; k <= z + p.radius[0]; ++k)
        for (int j = y - p.radius[1]; j <= y + p.radius[1]; ++j)
            for (int i = x - p.radius[2]; i <= x + p.radius[2]; ++i)
                if (sees_element(Border::zeros, k, p.size[0]) && sees_element(Border::zeros, j, p.size[1]) &&
                    sees_element(Border::zeros, i, p.size[2]))
                    use(p.taps[0][k < z ? z - k : k - z] * p.taps[1][j < y ? y - j : j - y] *
                            p.taps[2][i < x ? x - i : i - x],
                        (k * p.size[1] + j) * p.size[2] + i);
}

// The map, and the derivatives of each of its elements by the four filtered quantities (eq. 4 and 5).
extern "C" __global__ void naive_statistics(const __grid_constant__ NaiveParams p) {
    const int at = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (at >= p.size[0] * p.size[1] * p.size[2]) return;
    const int x = at % p.size[2], y = at / p.size[2] % p.size[1], z = at / p.size[2] / p.size[1];
    // Without a pivot: its purpose is to save digits.
    const Pivot<float> pivot = {};
    Moments<float> moments = moments_begin(pivot, 0.0f, p.c2x2);
    each_in_window(p, z, y, x, [&](float weight, int element) {
        const float s = p.x[element] + p.y[element], d = p.x[element] - p.y[element];
        moments.m_s += weight * s;
        moments.m_d += weight * d;
        moments.sq += weight * (s * s + d * d);
        moments.sq_d += weight * d * d;
    });
    const Stability<float> constants = {p.c1x2, p.c2x2};
    float* const partials = p.partials + 4 * at;
    const float ssim = ssim_from_dssim(dssim_and_partials<2>(moments, pivot, constants, 1.0f, partials));
    const bool in_map = is_counted(z, p.size[0], p.crop[0]) && is_counted(y, p.size[1], p.crop[1]) &&
                        is_counted(x, p.size[2], p.crop[2]);
    p.map[at] = in_map ? ssim : 0.0f;
    if (!in_map)
        for (int q = 0; q < 4; ++q) partials[q] = 0;
}

// The gradient: filters the partial maps with the same window, and combines them with the images (eq. 6).
extern "C" __global__ void naive_gradient(const __grid_constant__ NaiveParams p) {
    const int at = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (at >= p.size[0] * p.size[1] * p.size[2]) return;
    const int x = at % p.size[2], y = at / p.size[2] % p.size[1], z = at / p.size[2] / p.size[1];
    float filtered[4] = {};
    each_in_window(p, z, y, x, [&](float weight, int element) {
        for (int q = 0; q < 4; ++q) filtered[q] += weight * p.partials[4 * element + q];
    });
    unpack_gradient<2>(filtered, p.x[at], p.y[at], Pivot<float>{}, p.grad_x[at], p.grad_y[at]);
    p.grad_x[at] *= float(kGradientFactor);
    p.grad_y[at] *= float(kGradientFactor);
}

}  // namespace fusedssim
