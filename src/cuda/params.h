// SPDX-License-Identifier: MIT
//
// The parameter blocks of the kernels, included by the device code and by the launchers. NVRTC compiles this without
// any standard header: only built-in types, of the same size on both sides.
#pragma once

#include "core/view.h"

namespace fusedssim {

// Windows run in the smallest bucket that holds their radius, with zero taps at their ends.
constexpr int kRadiusBuckets[] = {5, kMaxRadius};

// The shapes of blocks, which the kernels are compiled for and the launchers cut planes into. A is the type of the
// arithmetic, R the radius bucket, G the number of gradients.

// ssim2d: a strip of columns.
template <class A, int R, int G>
struct Strip2d {
    static constexpr bool small = sizeof(A) == 4 && R <= 5;
    static constexpr int role_threads = 128;
    static constexpr int threads = role_threads * (G ? 2 : 1);  // statistics, and gradients
    // Two columns a thread halve the shared-memory reads; doubles and wide windows have no registers for it.
    static constexpr int cols = small ? 2 : 1;
    static constexpr int batch = small ? 4 : 2;  // rows of partials that change hands at a time
    static constexpr int halo = G ? 2 * R : R;   // rows that are read above and below an output
    // Columns at each end for which there are statistics, but no gradient, in whole threads.
    static constexpr int margin = G ? (R + cols - 1) / cols * cols : 0;
    static constexpr int out = role_threads * cols - 2 * margin;  // columns that a block writes
    static constexpr int min_blocks = small ? (G ? 2 : 4) : 1;    // on a multiprocessor: 128 registers a thread
    static_assert(out > 0, "the strip is all margin");
};

// ssim3d: a tile of columns along z.
template <class A, int R>
struct Block3d {
    static constexpr int threads = 256;
    static constexpr bool staged = R <= 5;
    static constexpr int cols = staged && sizeof(A) == 4 ? 2 : 1;  // adjacent columns in y that a thread owns
    static constexpr int tx = 32, ty = threads / tx * cols;        // outputs of a block
    static constexpr int x_outputs = staged ? 4 : 1;               // adjacent results along x that a thread computes
    static constexpr int sx = tx + 2 * R, sy = ty + 2 * R;         // inputs of a block
    static constexpr int min_blocks = staged && sizeof(A) == 4 ? 2 : 1;  // on a multiprocessor: 128 registers a thread
};

constexpr int kThreadsReduce = 256;

// Values of fusedssim_dtype, for the device code.
enum Dtype : int { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBfloat16 = 3 };

// Parameters of the kernels in ssim2d.cu and ssim3d.cu. A is the type of the arithmetic.
template <class A>
struct SsimParams {
    View x, y;            // the images
    View map;             // SSIM, for the positions that padding keeps (out)
    View grad_out;        // of type A, as `upstream` says
    View grad_x, grad_y;  // (out)
    // Partial maps, of type A and contiguous, [filtered_maps(G), planes, D, H, W] (out of the forward, in of the
    // backward): a view of the first, and the distance to the next.
    View maps;
    long long maps_stride;
    double* sums;  // for each block, its sum of DSSIM = (1 - SSIM) / 2 (out)
    long long planes;
    long long blocks;  // of this launch: planes * chunks * tiles_y * tiles_x
    int channels, depth, height, width;
    int crop;   // map positions closer than this to a border do not count: the radius for padding valid
    int chunk;  // rows (2D) or slices (3D) that a block walks along
    int chunks, tiles_y, tiles_x;
    int upstream;            // an Upstream
    int dtype;               // of x, y, grad_x, grad_y, for kernels that serve several
    A scale;                 // multiplies the gradients
    A c1x2, c2x2;            // 2 C1, 2 C2
    A taps[kMaxRadius + 1];  // of the window from its centre outwards
};

// out[g] = base - 2 * (the sum of a group's blocks) / divisor.
struct ReduceParams {
    const double* sums;
    long long blocks_per_group, groups;
    View out;      // n and c strides
    int channels;  // groups are numbered n * channels + c
    double base, divisor;
};

// grad *= factor * scale.
struct ScaleParams {
    View scale, grad;
    long long rows;  // planes * D * H
    int channels, depth, height, width;
    int scale_is_f64;
    double factor;
};

}  // namespace fusedssim
