// SPDX-License-Identifier: MIT
//
// The parameter blocks of the kernels, included by the device code and by the launchers. NVRTC compiles this without
// any standard header: only built-in types, of the same size on both sides.
#pragma once

#include "core/pooling.h"
#include "core/ssim_math.h"
#include "core/view.h"
#include "core/window.h"

namespace fusedssim {

// Windows run in the smallest bucket that holds their radius, with zero taps at their ends.
constexpr int kRadiusBuckets[] = {5, kMaxRadius};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool kHasLongBatches = false;
#else
constexpr bool kHasLongBatches = true;
#endif

// The shapes of blocks, which the kernels are compiled for and the launchers cut planes into. A is the type of the
// arithmetic, R the radius bucket, G the number of gradients.

// ssim2d: a strip of columns. N: statistics are normalised by the mass of a mask.
template <class A, int R, int G, bool N>
struct Strip2d {
    static constexpr bool wide = R > 5;
    // Columns that are read, one for each thread of a role. Doubles, and a fifth quantity, take more shared memory; wide
    // windows, and both gradients, more registers.
    static constexpr int columns = sizeof(A) == 8 || N ? 128 : wide || G == 2 ? 192 : 256;
    // Wide windows have no registers for both vertical filters in a thread: statistics and gradients are two roles then.
    static constexpr int roles = wide && G ? 2 : 1;
    static constexpr int threads = columns * roles;
    // Rows of a batch: with more, what each batch costs once costs less. A gradient or a mass leaves no registers for them,
    // and GPUs before sm_80 no shared memory for a second block.
    static constexpr int rows = kHasLongBatches && sizeof(A) == 4 && !wide && !N && !G ? 8 : 4;
    static constexpr int group = rows;          // adjacent columns that a thread filters horizontally, of one row
    static constexpr int halo = G ? 2 * R : R;  // rows and columns that are read on each side of an output
    static constexpr int out = (columns - 2 * halo) / 4 * 4;  // columns that a block writes
    static constexpr int margin = G ? R : 0;                  // columns on each side of them with statistics
    static constexpr int statistics = (out + 2 * margin + group - 1) / group * group;
    static constexpr int min_blocks = sizeof(A) == 4 && !wide && !N ? 2 : 1;  // on a multiprocessor
    static_assert(out > 0, "the strip is all margin");
};

// Where an element is in its slice: launchers see to it that 32 bits are enough for the kernels that count on it.
template <bool NARROW>
struct Position {
    using type = unsigned;
};
template <>
struct Position<false> {
    using type = long long;
};

// ssim3d: a tile of columns along z.
template <class A, int R>
struct Block3d {
    static constexpr int threads = 256;
    static constexpr bool staged = R <= 5;
    using Offset = typename Position<staged>::type;
    static constexpr int cols = staged && sizeof(A) == 4 ? 2 : 1;        // adjacent columns in x that a thread owns
    static constexpr int tx = 32, ty = threads / tx * cols;              // outputs of a block
    static constexpr int sx = tx + 2 * R, sy = ty + 2 * R;               // inputs of a block
    static constexpr int min_blocks = staged && sizeof(A) == 4 ? 2 : 1;  // on a multiprocessor: 128 registers a thread
};

// A View with its strides in bytes: what kernels add to an address, whatever the type of the elements.
struct ByteView {
    void* data;
    long long n, c, d, h, w;
};

// How the blocks of ssim2d share the rows of all strips: evenly, from strip to strip and from plane to plane. A block's rows
// in one strip are a piece; most blocks have two, so that halos cost little, and all end at about the same time.
struct Partition {
    long long blocks, planes;
    int strips, rows;        // of a plane
    long long share, extra;  // rows of a block; the first `extra` blocks have one more

    // Where a block begins, and which one a row belongs to, of all rows from 0 on.
    FUSEDSSIM_MATH long long begin(long long block) const { return block * share + (block < extra ? block : extra); }
    FUSEDSSIM_MATH long long block_at(long long row) const {
        const long long longer = extra * (share + 1);
        return row < longer ? row / (share + 1) : extra + (row - longer) / share;
    }
    // The sum of a piece stands at strip + block: both grow from piece to piece. That of the first piece of a plane, and the
    // end of all.
    FUSEDSSIM_MATH long long first_sum(long long plane) const {
        return plane * strips + block_at(plane * strips * rows);
    }
    FUSEDSSIM_MATH long long sums() const { return planes * strips + blocks + 1; }
};

constexpr int kThreadsReduce = 256;

// What the kernels that serve several dtypes switch over.
constexpr int kFloat16 = int(Dtype::float16), kBfloat16 = int(Dtype::bfloat16);

// The values of the groups, from the sums of their blocks.
struct ReduceParams {
    const double* sums;  // as in SsimParams
    long long sums_stride;
    const double* mask_sums;   // [2][groups], or NULL: the elements are counted below
    Partition partition;       // ssim2d
    long long sums_per_group;  // 0: as the partition says, for more groups than one
    long long groups, planes_per_group;
    double map_elements, image_elements;  // of a group
    Reduction reduction;
    ByteView out;  // n and c strides
    int channels;  // groups are numbered n * channels + c
};

// How the last block of a launch makes the value of the one group there is. It waits until all have written `launch`, a number
// that no other launch has, to their tags: so these need not be zero before. It leaves zeros, for a CUDA graph launches the
// same number again.
struct Completion {
    unsigned long long launch;  // 0: a kernel of its own makes the values
    unsigned long long* tags;   // one a block
    ReduceParams reduce;
};
constexpr int kMostSums = 1024;  // of a launch that is completed so; each block has one or more
// Which kernels can: the usual ones. It is much code, and shows in short launches only.
template <class A>
FUSEDSSIM_CONSTEXPR bool has_completion(int radius_bucket, bool is_normalized) {
    return sizeof(A) == sizeof(float) && radius_bucket == kRadiusBuckets[0] && !is_normalized;
}

// Parameters of the kernels in ssim2d.cu and ssim3d.cu. A is the type of the arithmetic.
template <class A>
struct SsimParams {
    ByteView x, y;            // the images
    ByteView map;             // SSIM, for the positions that padding keeps (out)
    ByteView grad_out;        // of type A, as `upstream` says
    ByteView grad_x, grad_y;  // (out)
    // Partial maps, of type A (out of the forward, in of the backward). The first two of a position stand side by side,
    // [planes, D, H, maps.h, 2], and behind all of them the others, [planes, D, H, maps.h, 1 or 2]; maps.h is W rounded up
    // to an even number. The strides count positions, of which there are maps_stride.
    View maps;
    long long maps_stride;
    ByteView mask;                // data NULL: none
    ByteView coarse_x, coarse_y;  // gradients of the pooled images, of type A; data NULL: none
    // For each block (ssim2d: piece) its sum of DSSIM = (1 - SSIM) / 2 (out), and, sums_stride further, if has_l1, its sum
    // of |x - y|.
    double* sums;
    long long sums_stride;
    Partition partition;  // ssim2d
    // The sums of the mask by which the gradients of a mean are divided: for each group over the map, and then over the
    // image. NULL: nothing is to be divided.
    const double* mask_sums;
    long long groups, planes_per_group;
    long long blocks;  // of this launch: planes * chunks * tiles_y * tiles_x
    Completion completion;
    int channels, depth, height, width;
    int crop;   // map positions closer than this to a border do not count: the radius for padding valid
    int chunk;  // (ssim3d) slices that a block walks along
    int chunks, tiles_y, tiles_x;
    int upstream;      // an Upstream
    int dtype;         // of x, y, grad_x, grad_y, for kernels that serve several
    int mask_is_bool;  // bytes; otherwise of type A
    int is_normalized;
    int is_loss;  // the map is that of the loss
    int has_l1;   // sums of |x - y| are wanted
    // Four adjacent elements of a row (of gradients in ssim3d: two) are aligned to be read and written as one.
    int packed_map, packed_grads;
    int packed_images;         // (ssim3d) two adjacent elements of x and y are aligned so, and rows have an even number
    A scale;                   // multiplies the gradients of SSIM
    A l1_scale;                // and those of |x - y|; 0: there is no such part
    A coarse_scale;            // and those of the pooled images
    A ssim_weight, l1_weight;  // of the map of a loss
    A c1x2, c2x2;              // 2 C1, 2 C2
    A taps[kMaxRadius + 1];    // of the window from its centre outwards
};

// Sums of a mask, for each part of each plane, over the map and over the image; and then for each group.
struct MaskParams {
    ByteView mask;
    int mask_is_bool;
    int channels, depth, height, width, crop;
    int is_3d;
    int parts;  // of a plane
    long long planes, groups;
    double* parts_sums;  // [2][planes][parts]
    double* mask_sums;   // [2][groups]
};

// out = averages over blocks of 2 elements along each spatial axis.
struct PoolParams {
    ByteView in, out;
    long long elements;                  // of out
    int channels, depth, height, width;  // of in
    int out_depth, out_height, out_width, is_3d;
};

// MS-SSIM from the means of its levels.
struct CombineParams {
    const void* means;  // [levels][planes]
    void* upstream;     // [levels][planes], or NULL (out)
    ByteView out;
    long long planes, groups, planes_per_group;
    int channels, levels, is_mean;
    double weights[kMaxLevels];
};

// grad *= factor * scale.
struct ScaleParams {
    ByteView scale, grad;
    long long rows;  // planes * D * H
    // Elements that stand side by side from an aligned address on, and have one scale; 0: the rows are gone through.
    long long flat;
    int channels, depth, height, width;
    int scale_is_f64;
    double factor;
};

}  // namespace fusedssim
