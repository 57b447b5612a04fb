// SPDX-License-Identifier: MIT
#include "cuda/plan.h"

#include <algorithm>

namespace fusedssim::cuda {

namespace {

// In 64 bits: for the longest axes the sum in ceil_div() is beyond an int.
int tiles(int size, int of_tile) { return int(ceil_div(std::int64_t(size), of_tile)); }

// Blocks walk along an axis of `length`, each through a chunk, and each pays for `halo` steps more. Fewer chunks waste
// less on halos, more chunks fill the device better. This takes the number of chunks that finishes first if `slots`
// blocks run at a time.
Blocks cut_volume(std::int64_t planes, int tiles_x, int tiles_y, std::int64_t length, int halo, int slots) {
    constexpr int kShortest = 8, kMost = 512;
    const std::int64_t columns = planes * tiles_x * tiles_y;
    std::int64_t best_chunk = length, best_cost = INT64_MAX;
    const int most = int(std::clamp<std::int64_t>(length / kShortest, 1, kMost));
    for (int chunks = 1; chunks <= most; ++chunks) {
        const std::int64_t chunk = ceil_div(length, chunks);
        const std::int64_t cost = ceil_div(columns * ceil_div(length, chunk), slots) * (chunk + halo);
        if (cost < best_cost) {
            best_cost = cost;
            best_chunk = chunk;
        }
        if (columns * chunks > 16 * slots) break;  // the device is full, and will stay so
    }
    Blocks b{};
    b.tiles_x = tiles_x;
    b.tiles_y = tiles_y;
    b.chunk = int(best_chunk);
    b.chunks = int(ceil_div(length, best_chunk));
    b.total = b.sums = columns * b.chunks;
    return b;
}

template <class Shape>
Blocks cut_images(const Problem& p) {
    constexpr int kShortest = 8;
    Blocks b{};
    Partition& part = b.partition;
    part.planes = p.planes();
    part.rows = p.height;
    part.strips = tiles(p.width, Shape::out);
    // Strips of equal width, in whole sectors of 32 bytes.
    part.columns = std::min(Shape::out, 8 * tiles(tiles(p.width, part.strips), 8));
    const std::int64_t rows = part.planes * part.strips * part.rows;
    part.blocks = std::clamp<std::int64_t>(rows / kShortest, 1, kMultiprocessors * Shape::min_blocks);
    part.share = rows / part.blocks;
    part.extra = rows % part.blocks;
    b.total = part.blocks;
    b.sums = part.sums();
    return b;
}

}  // namespace

namespace {

// Whether the kernels for the usual calls serve, as far as one image of those to come tells.
bool may_be_usual(const Problem& p) {
    return has_usual_kernels(p.x_dtype, p.is_3d, p.grads()) && arithmetic_dtype(p.x_dtype) == p.arithmetic &&
           p.border == Border::zeros && !p.is_normalized && p.max_radius() <= kRadiusBuckets[0] &&
           p.variance_grad_scale == 1;
}

// For volumes these have one offset for x and y: their rows and columns need the same strides. It has 32 bits.
bool has_one_offset(const Problem& p) {
    const double extent = double(p.x.h) * p.height + double(p.x.w) * p.width;
    return p.x.h == p.y.h && p.x.w == p.y.w && p.x.h >= 0 && p.x.w >= 0 && 8 * extent < 0xffffffff &&
           double(partial_maps_layout(p).d) < 0xffffffff;
}

}  // namespace

KernelType kernel_type(const Problem& p) {
    if (may_be_usual(p) && p.y_dtype == p.x_dtype && (!p.is_3d || has_one_offset(p))) return usual_type(p.x_dtype);
    return general_type(p.arithmetic, p.is_normalized, p.max_radius());
}

Blocks cut_blocks(const Problem& p, KernelType type, int grads) {
    return with_constants(type, grads, [&](auto zero, auto radius, auto gradients, auto is_general) {
        using A = decltype(zero);
        if (p.is_3d) {
            using Shape = Block3d<A, radius>;
            return cut_volume(p.planes(), tiles(p.width, Shape::out_x), tiles(p.height, Shape::out_y), p.depth,
                              2 * radius, kMultiprocessors * Shape::min_blocks);
        }
        return p.is_normalized ? cut_images<Strip2d<A, radius, gradients, true, true>>(p)
                               : cut_images<Strip2d<A, radius, gradients, false, is_general>>(p);
    });
}

std::int64_t mask_parts(const Problem& p) {
    const std::int64_t rows = std::int64_t(p.depth) * p.height;
    return std::min<std::int64_t>(ceil_div(rows, 8), std::max<std::int64_t>(1, 8 * kMultiprocessors / p.planes()));
}

View partial_maps_layout(const Problem& p) {
    const std::int64_t row = round_up(std::int64_t(p.width), 2), slice = row * p.height, volume = slice * p.depth;
    return {nullptr, p.channels * volume, volume, slice, row, 1};
}

std::size_t partial_maps_bytes(const Problem& p, int grads) {
    return std::size_t(filtered_maps(grads)) * std::size_t(p.planes()) * std::size_t(partial_maps_layout(p).c) *
           dtype_size(p.arithmetic);
}

Workspace plan_workspace(const Problem& p) {
    // Whoever asks for the size does not know all strides and dtypes yet: the workspace is large enough for either kind
    // of kernel.
    const auto blocks_of = [&](KernelType type) { return cut_blocks(p, type, kernel_grads(p, type)); };
    const KernelType type = general_type(p.arithmetic, p.is_normalized, p.max_radius());
    const Blocks general = blocks_of(type), usual = may_be_usual(p) ? blocks_of(usual_type(p.x_dtype)) : general;
    Workspace w{};
    const auto take = [&](std::int64_t bytes) {
        const std::size_t at = w.total;
        w.total += std::size_t(round_up(bytes, 16));
        return at;
    };
    constexpr std::int64_t kDouble = sizeof(double), kTag = sizeof(*Completion::tags);
    if (p.value.data) {
        w.sums = take(std::max(general.sums, usual.sums) * (p.reduction.l1_weight != 0 ? 2 : 1) * kDouble);
        w.tags = take(std::min<std::int64_t>(std::max(general.total, usual.total), kMostSums) * kTag);
    }
    if (p.needs_mask_sums()) {
        w.parts = take(2 * p.planes() * mask_parts(p) * kDouble);
        w.mask_sums = take(2 * p.groups * kDouble);
    }
    if (p.is_3d && p.grads() && !p.saved) w.maps = take(std::int64_t(partial_maps_bytes(p, kernel_grads(p, type))));
    return w;
}

}  // namespace fusedssim::cuda
