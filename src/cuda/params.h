// SPDX-License-Identifier: MIT
//
// The parameter blocks of the kernels, included by the device code and by the launchers. NVRTC compiles this without
// any standard header: only built-in types, of the same size on both sides.
#pragma once

#include "core/border.h"
#include "core/pooling.h"
#include "core/ssim_math.h"
#include "core/view.h"
#include "core/window.h"

namespace fusedssim {

// The radii that kernels are compiled for. A window runs in the smallest bucket that holds its radius (of the largest
// axis, if axes should differ), with taps of 0 at its ends.
constexpr int kRadiusBuckets[] = {3, 5, 8, 10, kMaxRadius};
// That of 11 taps, which usual calls have: the largest that all types of usual kernels are compiled for, and that makes
// the gradient of images in one pass. The smallest of general kernels.
constexpr int kUsualRadius = 5;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool kHasLongBatches = false;
#else
constexpr bool kHasLongBatches = true;
#endif

// The shapes of blocks. The kernels are compiled for them, and the launchers cut planes into them. Template parameters
// here and in all kernels:
//
//     T            what the kernel takes: f32, f16, bf16, f64 or u8, the type of the elements of both images and their
//                  gradients, with zeros beyond the border; or any or any64, which are *general*: each image may have
//                  any dtype, and what is beyond the border is decided at run time
//     A            the type of the arithmetic: double for f64 and any64, float for the others
//     R            the radius bucket
//     G            the number of gradients: 0 (value or map only), 1 (by x), 2 (by x and y)
//     kNormalized  the windows are normalised by the mass of a mask
//     kSheets      several planes may stand side by side in a sheet: see Partition
//     kPass        what a kernel of images does: see Pass
//     kWith        what a usual kernel does besides: see With
//     kMoments     the filtered quantities of a position: 4, or 5 if kNormalized
//     kMaps        the partial maps: 3 for one gradient, 4 for two

// What a kernel of images does. The usual kernels make statistics and gradients in one pass over memory. With longer
// windows, or those that a mask normalises, and in general kernels, there are no registers for the filters of both: the
// forward pass writes partial maps, and the backward pass makes gradients of them, as it is with volumes.
enum class Pass { both, forward, backward };

// What a usual kernel does besides. `mask`: weights are requested before they are needed, where other kernels wait for
// them; they are those of a mask, or, for the gradient of images, an upstream map (SsimParams::weights). `mask_and_l1`:
// also those of |x - y|, which `mask` leaves out, since it has no registers for them. `pooling`: it writes the images
// of MS-SSIM's next level.
enum class With { nothing, mask, mask_and_l1, pooling };

// ssim2d: a strip of columns.
template <class A, int R, int G, bool kNormalized, Pass kPass = Pass::both>
struct Strip2d {
    static constexpr bool narrow = R <= 5, wide = R > 10;
    static constexpr bool has_statistics = kPass != Pass::backward, has_gradient = G && kPass != Pass::forward;
    static constexpr bool has_both = has_statistics && has_gradient;
    // A thread has no registers for all vertical filters of a column if windows are long: two threads share them. (Five
    // quantities, with the mass of a mask, are none to be shared.)
    static constexpr bool is_long = sizeof(A) == 4 && has_gradient ? !narrow : wide;
    static constexpr int split = is_long && !(kNormalized && has_statistics) ? 2 : 1;
    // Columns that are read. Doubles need more shared memory, a second gradient in one pass more registers. Where a
    // mask normalises, a pivot has to be near the level of its strip: a wide one may have two.
    static constexpr int columns = sizeof(A) == 8 || (kNormalized && has_statistics) ? 128
                                   : has_both && G == 2                              ? 192
                                                                                     : 256;
    static constexpr int threads = columns * split;
    // Rows of a batch. Each batch has a cost of its own, so long batches are cheaper. But with a gradient or a mass
    // there are no registers for 8 rows, and on GPUs before sm_80 no shared memory for a second block.
    static constexpr int rows =
        split == 2 || (kHasLongBatches && sizeof(A) == 4 && narrow && !kNormalized && !G) ? 8 : 4;
    static constexpr int group = rows / split;  // adjacent columns that a thread filters horizontally, of one row
    // Rows and columns on each side of an output that are read, and those that have partials.
    static constexpr int halo = has_both ? 2 * R : R, margin = has_gradient ? R : 0;
    static constexpr int gap = R;  // columns that are zero between two planes of a sheet
    // Columns that a block writes, and those that have statistics or partials: in one pass shared memory has room for
    // 248 of these.
    static constexpr int most = has_both ? 248 - 2 * margin : columns;
    static constexpr int out = (columns - 2 * halo < most ? columns - 2 * halo : most) / 4 * 4;
    static constexpr int inner = (out + 2 * margin + group - 1) / group * group;
    // Blocks on a multiprocessor: as many as registers allow, of which a thread has 255 at the most.
    static constexpr int min_blocks = split == 2 ? 1 : threads == 128 && narrow && sizeof(A) == 4 ? 3 : 2;
    static_assert(out > 0, "the strip is all margin");
};

// The type of a position in a slice of partial maps. has_short_maps() in the launchers sees that 32 bits suffice where
// they are used.
template <bool kNarrow>
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
    static constexpr bool narrow = R <= 5;
    static constexpr int columns = narrow && sizeof(A) == 4 ? 2 : 1;     // adjacent along x, of a thread
    static constexpr int out_x = 32, out_y = threads / out_x * columns;  // outputs of a block
    static constexpr int in_x = out_x + 2 * R, in_y = out_y + 2 * R;     // inputs of a block
    // Slices go through shared memory. For wide windows of doubles it has room for a *band* of columns at a time.
    static constexpr int bands = narrow || sizeof(A) == 4 ? 1 : 4, band_x = in_x / bands;
    static_assert(in_x % bands == 0, "bands are of one width");
    // On a multiprocessor. Two leave 128 registers to a thread: too few if the mass of a mask is filtered as well.
    template <bool kHasMass>
    static constexpr int min_blocks = R <= 10 && sizeof(A) == 4 && !kHasMass ? 2 : 1;
};

// A View with its strides in bytes, so that kernels can add them to an address, whatever the type of the elements. The
// comments below give shapes as [N, C, D, H, W]; images have D = 1 and a stride d of 0.
struct ByteView {
    void* data;
    long long n, c, d, h, w;
};

// Divides by a constant of a launch: exact for numbers below 2^32 / divisor.
struct Divisor {
    unsigned long long factor;  // 2^32 / divisor, rounded up
    FUSEDSSIM_MATH static Divisor of(unsigned divisor) { return {((1ull << 32) + divisor - 1) / divisor}; }
    FUSEDSSIM_MATH unsigned quotient(unsigned number) const { return unsigned(number * factor >> 32); }
};

// How the blocks of ssim2d share the rows of all strips. Planes whose width makes poor strips stand side by side: so
// many make a *sheet*, with a gap of zeros behind each that the windows of both neighbours see. Any other plane is a
// sheet of its own. Number the rows of all strips of all sheets, one strip after the other: each block takes an equal
// share of adjacent numbers. The rows of a block in one strip are a *piece*. Blocks have one piece, or two, or more if
// strips are short. So halos cost little, and all blocks end at about the same time.
struct Partition {
    long long blocks, sheets;
    int planes, pitch;              // of a sheet; columns from one plane to the next
    Divisor by_pitch, by_channels;  // 0, which gives 0, if sheets have one plane
    int strips, rows;               // of a sheet
    int together;                   // sheets whose strips take turns, because their elements do so in memory
    int columns;                    // of a strip: a multiple of 4
    long long share, extra;         // rows of a block; `extra` blocks, evenly among the others, have one more
    Divisor by_blocks;

    // The first row of a block, and the block of a row. Rows are numbered over all strips. If a strip has a whole
    // number of blocks, no block crosses from one strip to the next.
    FUSEDSSIM_MATH long long begin(long long block) const {
        return block * share + by_blocks.quotient(unsigned(block * extra));
    }
    FUSEDSSIM_MATH long long block_at(long long row) const {
        long long block = row / (share + 1);  // this one, or one soon after it
        while (begin(block + 1) <= row) ++block;
        return block;
    }
    // The sheet of a strip, and which one of its strips that is, if several sheets take turns.
    FUSEDSSIM_MATH void take_turns(long long strip, long long& sheet, int& of_sheet) const {
        const long long turn = strip / together, turns = turn / strips;
        of_sheet = int(turn - turns * strips);
        sheet = turns * together + (strip - turn * together);
    }
    // The sum of a piece stands at index strip + block: from one piece to the next, one of the two grows by 1. Below,
    // the index of a sheet's first sum, if that is the first of those together, and the number of all sums.
    FUSEDSSIM_MATH long long first_sum(long long sheet) const {
        return sheet * strips + block_at(sheet * strips * rows);
    }
    FUSEDSSIM_MATH long long sums() const { return sheets * strips + blocks + 1; }
};

constexpr int kThreadsReduce = 256;

// How general kernels read the elements of an image.
template <class A>
struct Format {
    Dtype dtype;
    A scale;  // of integers; otherwise 1
};

// The taps of one axis, in a kernel's radius bucket.
template <class A>
struct AxisTaps {
    A window[kMaxRadius + 1];  // from the centre outwards
    A edge[kMaxRadius + 1];    // of an edge, by distance: from there on, for Border::replicate
    A sum;                     // of the whole window
};

// reduce_sums: the values of the groups, from the sums of their blocks.
struct ReduceParams {
    const double* sums;  // [1 or 2][sums_stride], as in SsimParams
    long long sums_stride;
    const double* mask_sums;   // [2][groups], or NULL: the elements are counted below
    Partition partition;       // ssim2d
    long long sums_per_group;  // 0: the partition gives the sums of each group
    long long groups, sheets_per_group;
    double map_elements, image_elements;  // of a group
    Reduction reduction;
    ByteView out;  // [], [N] or [N, C] (out)
    int channels;  // groups are numbered n * channels + c
};

// A sum in a launch with a Completion: the bits of a number, and these bits XOR the number of the launch. A reader for
// whom the two fit has the sum of this launch, whichever word arrived first: a word that fits and is an old one has the
// same bits as the new one. So no fence is needed between a sum and a sign that it is there.
struct alignas(16) SealedSum {
    unsigned long long number, sealed;
};
// If there is a single result, the last block of the launch computes it, without a second kernel: it waits for all
// sums. No two launches have the same number, so nothing needs to be cleared before. But a CUDA graph that is launched
// again repeats its number: therefore the last block leaves 0 where it has read a sum.
struct Completion {
    unsigned long long launch;  // odd; 0: reduce_sums makes the values
    SealedSum* sums;            // [1 or 2][sums_stride], in place of SsimParams::sums
    ReduceParams reduce;
};
constexpr int kMostSums = 1024;  // that the last block adds up; each block has one or more
// Which kernels can do it: only the usual ones, since it is much code, and saves time in short launches only.
template <class A>
FUSEDSSIM_CONSTEXPR bool has_completion(int radius_bucket, bool is_normalized) {
    return sizeof(A) == sizeof(float) && radius_bucket <= kUsualRadius && !is_normalized;
}

// Parameters of the kernels that filter. A is the type of the arithmetic.
template <class A>
struct SsimParams {
    ByteView x, y;            // [N, C, D, H, W], the images
    ByteView map;             // [N, C, D - 2 crop_z, H - 2 crop_y, W - 2 crop_x] of A (out)
    ByteView grad_out;        // of A. kUpstreamPlane: [N, C], kUpstreamMap: the shape of the map
    ByteView grad_x, grad_y;  // [N, C, D, H, W] (out)
    // The partial maps, of A (out of the forward kernel, in of the backward kernel); the strides count positions.
    // Of volumes, the first two stand side by side, [N, C, D, maps_rows, maps.h, 2], and the others in more_maps,
    // [N, C, D, maps_rows, maps.h, 1 or 2]. maps.h is W, rounded up to an even number. maps_rows is H, or less if the
    // planes are worked through in slabs: row y stands where row y - maps_rows stood before. Planes are those of the
    // images, but there is memory for the planes of the launch alone.
    // Of images, one stands behind the other, maps_stride positions from one to the next, [3 or 4, N, C, H, maps.h].
    // maps.h is W, rounded up to a multiple of 4.
    View maps;
    long long maps_stride;
    void* more_maps;
    int maps_rows;
    ByteView mask;  // [N, C, D, H, W]; strides are 0 where it is broadcast. data NULL: none
    // [N, C, (D+1)/2, (H+1)/2, (W+1)/2] of A: gradients of the pooled images. data NULL: none
    ByteView coarse_x, coarse_y;
    // [1 or 2][sums_stride]: for each block (ssim2d: piece) its sum of DSSIM = (1 - SSIM) / 2, and, if has_l1, its sum
    // of |x - y| (out). NULL: no sums are wanted.
    double* sums;
    long long sums_stride;
    Partition partition;  // ssim2d
    // [2][groups]: the sums of the mask over the map, and over the image. The gradients of a mean are divided by them.
    // NULL: nothing is to be divided.
    const double* mask_sums;
    long long groups, planes_per_group;
    long long blocks;  // of this launch; ssim3d: planes * chunks * tiles_y * tiles_x
    Completion completion;
    int channels, depth, height, width;
    int crops[kAxes];
    int chunk;  // ssim3d: slices that a block walks along
    int chunks, tiles_y, tiles_x;
    int first_tile_y;              // ssim3d: of this launch, which has tiles_y rows of tiles
    long long first_plane;         // ssim3d: of this launch
    int upstream;                  // an Upstream
    Border border;                 // for general kernels; zeros in the others
    Format<A> x_format, y_format;  // for general kernels
    int mask_is_bool;              // the mask has bytes; otherwise elements of A
    int is_normalized;
    int is_loss;  // the map is that of the loss
    int has_l1;   // sums of |x - y| are wanted
    // Four adjacent elements of a row (of gradients in ssim3d: two) are aligned to be read and written as one.
    int packed_map, packed_grads, packed_mask;
    A scale;                   // factor of the gradients of SSIM
    A l1_scale;                // factor of the gradients of |x - y|; 0: there is no such part
    A coarse_scale;            // factor of the gradients of the pooled images
    A ssim_weight, l1_weight;  // of the map of a loss
    // Of all images, unless there are data_ranges. Aligned so that kernels read two of its numbers, and two taps, at
    // once.
    alignas(2 * sizeof(A)) Stability<A> stability;
    AxisTaps<A> taps[kAxes];
    A pivot_share;  // of a mean, for the pivot: Problem::seen_share()
    A window_rest;  // what the mass of the window, over all axes, lacks to be 1

    ByteView
        data_ranges;  // of A: of each image, in place of `stability`, with the constants k1 and k2. data NULL: none
    double k1, k2;
    A variance_grad_scale;  // for general kernels; 1 in the others
    // [N, C, (D+1)/2, (H+1)/2, (W+1)/2] of A: the pooled images, for kernels with pooling (out)
    ByteView pooled_x, pooled_y;
    // For With::mask: the mask, or, if there is none, the upstream map, from where the image's first element would be.
    ByteView weights;

    FUSEDSSIM_MATH const A* taps_z() const { return taps[int(Axis::z)].window; }
    FUSEDSSIM_MATH const A* taps_y() const { return taps[int(Axis::y)].window; }
    FUSEDSSIM_MATH const A* taps_x() const { return taps[int(Axis::x)].window; }
    FUSEDSSIM_MATH A window_sum_yx() const { return taps[int(Axis::y)].sum * taps[int(Axis::x)].sum; }
    // Positions closer than this to a border are not in the map: the radius for padding valid, otherwise 0.
    FUSEDSSIM_MATH int crop_z() const { return crops[int(Axis::z)]; }
    FUSEDSSIM_MATH int crop_y() const { return crops[int(Axis::y)]; }
    FUSEDSSIM_MATH int crop_x() const { return crops[int(Axis::x)]; }
    // The map has the positions from map_begin to map_end: those for which is_counted() (core/window.h). Some places
    // compare with begin and end instead of asking in_map(), because a condition from two functions costs instructions
    // and registers there: the compiler then stores answers instead of branching.
    FUSEDSSIM_MATH int map_begin_z() const { return crop_z(); }
    FUSEDSSIM_MATH int map_begin_y() const { return crop_y(); }
    FUSEDSSIM_MATH int map_begin_x() const { return crop_x(); }
    FUSEDSSIM_MATH int map_end_z() const { return depth - crop_z(); }
    FUSEDSSIM_MATH int map_end_y() const { return height - crop_y(); }
    FUSEDSSIM_MATH int map_end_x() const { return width - crop_x(); }
    FUSEDSSIM_MATH bool in_map(int row, int column) const {
        return row >= map_begin_y() && row < map_end_y() && column >= map_begin_x() && column < map_end_x();
    }
};

// sum_mask: the sums of a mask over the map and over the image, for each part of each plane. reduce_mask: for each
// group. A plane that stands for several of a group is read once and counts `repeats` times.
struct MaskParams {
    ByteView mask;     // [N, C, D, H, W] of the planes that are read
    int mask_is_bool;  // the mask has bytes; otherwise elements of the arithmetic
    int channels, depth, height, width;
    int crops[kAxes];
    int parts;  // of a plane
    long long planes, groups;
    double repeats;
    double* parts_sums;  // [2][planes][parts]: over the map, over the image (out of sum_mask, in of reduce_mask)
    double* mask_sums;   // [2][groups] (out)

    // As in SsimParams.
    FUSEDSSIM_MATH int map_begin_z() const { return crops[int(Axis::z)]; }
    FUSEDSSIM_MATH int map_begin_y() const { return crops[int(Axis::y)]; }
    FUSEDSSIM_MATH int map_begin_x() const { return crops[int(Axis::x)]; }
    FUSEDSSIM_MATH int map_end_z() const { return depth - crops[int(Axis::z)]; }
    FUSEDSSIM_MATH int map_end_y() const { return height - crops[int(Axis::y)]; }
    FUSEDSSIM_MATH int map_end_x() const { return width - crops[int(Axis::x)]; }
};

// pool: averages over blocks of 2 elements along each spatial axis.
struct PoolParams {
    ByteView in;                         // [N, C, D, H, W]
    Dtype dtype;                         // of in
    double scale;                        // of in, if those are integers; otherwise 1
    ByteView out;                        // [N, C, out_depth, out_height, out_width] of the arithmetic, contiguous (out)
    long long rows;                      // of out
    int channels, depth, height, width;  // of in
    int out_depth, out_height, out_width, is_3d;
    int packed;  // 8 adjacent elements of `in` are aligned to be read as two times four, and 4 of `out` as one
};

// combine: MS-SSIM from the means of its levels.
struct CombineParams {
    const void* means;  // [levels][planes]
    void* upstream;     // [levels][planes], the derivatives of the value by the means, or NULL (out)
    ByteView out;       // [], [N] or [N, C]; data NULL: not wanted (out)
    long long planes, groups, planes_per_group;
    int channels, levels, is_mean;
    double weights[kMaxLevels];
};

// scale: grad = factor * scale * grad + coarse_factor * coarse.
struct ScaleParams {
    ByteView scale;   // [], [N] or [N, C] of the arithmetic
    ByteView grad;    // [N, C, D, H, W] (in and out)
    ByteView coarse;  // [N, C, (D+1)/2, (H+1)/2, (W+1)/2] of the arithmetic; data NULL: none
    long long rows;   // N * C * D * H
    // The number of elements, if all have one scale and stand side by side from an aligned address on; otherwise 0, and
    // the kernel goes through the rows.
    long long flat;
    int channels, depth, height, width;
    int scale_is_f64;
    int packed;  // four adjacent elements of a gradient's row are aligned to be accessed as one, and two of `coarse`
    double factor, coarse_factor;
};

}  // namespace fusedssim
