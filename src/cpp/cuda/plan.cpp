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
    b.steps = best_cost;
    b.total = b.sums = columns * b.chunks;
    return b;
}

constexpr int kShortest = 8;  // rows of a block of images, or more
// Blocks of images that run at a time.
template <class Shape>
constexpr std::int64_t kSlots = std::int64_t(kMultiprocessors) * Shape::min_blocks;

// How many planes stand side by side in a sheet, and how many strips that is.
struct Sheet {
    int planes, pitch, width, strips;
};
// Those of one value, if nothing is wanted for which a thread would have to know its plane while it walks, and if there
// are few strips less: a plane of its own has its strips at whole cache lines.
template <class Shape>
Sheet make_sheet(const Problem& p, bool may_share) {
    const Sheet alone = {1, 0, p.width, tiles(p.width, Shape::out)};
    if (!may_share || p.border != Border::zeros || p.upstream != kUpstreamOne || p.mask.data || p.map.data ||
        p.data_ranges.data || p.coarse_x.data || p.coarse_y.data)
        return alone;
    // While there are multiprocessors without work, narrow strips are faster.
    const std::int64_t planes = p.planes_per_group, strips = planes * alone.strips;
    if (p.groups * strips * p.height <= kShortest * kSlots<Shape>) return alone;
    const std::int64_t pitch = round_up(std::int64_t(p.width) + Shape::gap, Shape::group);
    constexpr double kMost = 4e9;  // what a Divisor divides: below 2^32 / divisor
    if (double(planes) * double(pitch) * double(pitch) > kMost ||
        double(planes + p.channels) * double(p.channels) > kMost)
        return alone;
    Sheet shared = {int(planes), int(pitch), int((planes - 1) * pitch) + p.width, 0};
    shared.strips = tiles(shared.width, Shape::out);
    return 20 * std::int64_t(shared.strips) <= 19 * strips ? shared : alone;
}

// How many blocks share strips of so many rows. Each piece pays for its halo, in whole batches of rows, and for its
// beginning. Blocks of equal shares have two pieces, or one more than they have whole strips. Where strips are short,
// blocks that do not cross from one to the next are faster.
template <class Shape>
std::int64_t count_blocks(std::int64_t strips, int rows) {
    constexpr std::int64_t kAtOnce = kSlots<Shape>;
    const auto cost = [](std::int64_t all_rows, std::int64_t pieces) {  // of a block, in batches
        constexpr int kBegin = 2, kBefore = int(ceil_div(Shape::halo, Shape::rows)), kAfter = Shape::margin ? 1 : 0;
        const std::int64_t of_piece =
            kBegin + kBefore + ceil_div(all_rows / pieces + Shape::halo, Shape::rows) + kAfter;
        return pieces * of_piece;
    };
    const std::int64_t equal = std::clamp<std::int64_t>(strips * rows / kShortest, 1, kAtOnce);
    const std::int64_t share = strips * rows / equal;
    std::int64_t whole, cost_of_whole;  // blocks that begin and end with strips
    if (strips <= kAtOnce) {
        const std::int64_t parts = std::clamp<std::int64_t>(kAtOnce / strips, 1, std::max(1, rows / kShortest));
        whole = strips * parts;
        cost_of_whole = cost(ceil_div(rows, parts), 1);
    } else {
        const std::int64_t each = ceil_div(strips, kAtOnce);
        if (strips % each) return equal;
        whole = strips / each;
        cost_of_whole = cost(each * rows, each);
    }
    return 100 * cost_of_whole < 97 * cost(share, 1 + ceil_div(share, rows)) ? whole : equal;
}

template <class Shape>
Blocks cut_images(const Problem& p, bool may_share) {
    const Sheet sheet = make_sheet<Shape>(p, may_share);
    Blocks b{};
    Partition& part = b.partition;
    part.planes = sheet.planes;
    part.pitch = sheet.pitch;
    part.strips = sheet.strips;
    if (sheet.planes > 1) {
        part.by_pitch = Divisor::of(unsigned(sheet.pitch));
        part.by_channels = Divisor::of(unsigned(p.channels));
    }
    part.sheets = p.planes() / part.planes;
    part.rows = p.height;
    // Strips of equal width, in whole sectors of 32 bytes.
    part.columns = std::min(Shape::out, 8 * tiles(tiles(sheet.width, part.strips), 8));
    const std::int64_t strips = part.sheets * part.strips, rows = strips * part.rows;
    part.blocks = count_blocks<Shape>(strips, part.rows);
    part.share = rows / part.blocks;
    part.extra = rows % part.blocks;
    part.by_blocks = Divisor::of(unsigned(part.blocks));
    b.total = part.blocks;
    b.sums = part.sums();
    return b;
}

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
           double(partial_maps_layout(p, p.height).d) < 0xffffffff;
}

}  // namespace

KernelType kernel_type(const Problem& p) {
    const KernelType general = general_type(p.arithmetic, p.is_normalized, p.max_radius());
    if (!may_be_usual(p) || p.y_dtype != p.x_dtype || (p.is_3d && !has_one_offset(p))) return general;
    const KernelType usual = usual_type(p.x_dtype);
    if (p.is_3d || has_sheet_kernels(usual, p.grads())) return usual;
    // Where the usual kernels have no sheets, general ones are faster if planes are small enough.
    const auto strips = [&](KernelType type, bool may_share) {
        const Partition part = cut_blocks(p, type, kernel_grads(p, type), may_share).partition;
        return part.sheets * part.strips;
    };
    return 5 * strips(general, true) < 2 * strips(usual, false) ? general : usual;
}

Blocks cut_blocks(const Problem& p, KernelType type, int grads, bool may_share) {
    if (p.is_3d) {
        const Slabs slabs = plan_slabs(p, type, grads);
        Blocks all{};
        slabs.each([&](const Part& forward, const Part&) {
            const Blocks blocks = cut_part(p, type, forward);
            if (slabs.is_whole())
                all = blocks;
            else
                all.sums = all.total += blocks.total;
        });
        all.slabs = slabs;
        return all;
    }
    return with_constants(type, grads, [&](auto zero, auto radius, auto gradients, auto is_general) {
        using A = decltype(zero);
        const bool shares = may_share && has_sheet_kernels(type, grads);
        return p.is_normalized ? cut_images<Strip2d<A, radius, gradients, true, true>>(p, shares)
                               : cut_images<Strip2d<A, radius, gradients, false, is_general>>(p, shares);
    });
}

Blocks cut_part(const Problem& p, KernelType type, const Part& part) {
    constexpr int kAnyGrads = 0;
    return with_constants(type, kAnyGrads, [&](auto zero, auto radius, auto, auto) {
        using Shape = Block3d<decltype(zero), radius>;
        return cut_volume(part.planes, tiles(p.width, Shape::out_x), part.tiles_y, p.depth, 2 * radius,
                          kMultiprocessors * Shape::min_blocks);
    });
}

constexpr std::int64_t kMaskBlocks = 8 * kMultiprocessors;  // of sum_mask, or one for each plane

MaskPlanes mask_planes(const Problem& p) {
    MaskPlanes m{p.images, p.channels, 0};
    if (p.mask.c == 0 && p.planes_per_group > 1) m.channels = 1;
    if (p.mask.n == 0 && p.groups == 1) m.images = 1;
    const std::int64_t rows = std::int64_t(p.depth) * p.height;
    m.parts = std::min<std::int64_t>(ceil_div(rows, 8), std::max<std::int64_t>(1, kMaskBlocks / m.planes()));
    return m;
}

Workspace plan_workspace(const Problem& p) {
    // Whoever asks for the size does not know all strides and dtypes yet: the workspace is large enough for either kind
    // of kernel, and for images in any number of sheets and blocks.
    const KernelType type = general_type(p.arithmetic, p.is_normalized, p.max_radius());
    std::int64_t blocks = 0, sums = 0, maps = 0;
    constexpr std::int64_t kMostBlocks = 3 * kMultiprocessors;  // of images
    const auto count = [&](KernelType t) {
        const int grads = kernel_grads(p, t);
        const Blocks b = cut_blocks(p, t, grads, false);
        blocks = std::max(blocks, p.is_3d ? b.total : kMostBlocks);
        const std::int64_t pieces = b.partition.sheets * b.partition.strips + kMostBlocks + 1;
        sums = std::max(sums, p.is_3d ? b.sums : pieces);
        if (p.is_3d)
            maps = std::max(maps, std::int64_t(partial_maps_bytes(p, grads, b.slabs.planes, b.slabs.map_rows)));
    };
    count(type);
    if (may_be_usual(p)) count(usual_type(p.x_dtype));
    Workspace w{};
    const auto take = [&](std::int64_t bytes) {
        const std::size_t at = w.total;
        w.total += std::size_t(round_up(bytes, 16));
        return at;
    };
    constexpr std::int64_t kDouble = sizeof(double), kTag = sizeof(*Completion::tags);
    if (p.value.data) {
        w.sums = take(sums * (p.reduction.l1_weight != 0 ? 2 : 1) * kDouble);
        w.tags = take(std::min<std::int64_t>(blocks, kMostSums) * kTag);
    }
    if (p.needs_mask_sums()) {
        w.parts = take(2 * std::max(p.planes(), kMaskBlocks) * kDouble);
        w.mask_sums = take(2 * p.groups * kDouble);
    }
    if (!p.saved) w.maps = take(maps);
    return w;
}

}  // namespace fusedssim::cuda
