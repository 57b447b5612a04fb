// SPDX-License-Identifier: MIT
#include "cuda/plan.h"

#include <algorithm>
#include <cmath>

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

constexpr std::int64_t kMostBlocks = 3 * kMultiprocessors;  // of images

// Whether the channels of a pixel stand side by side in memory, and planes have no value each. Strips of all channels
// are then read at the same time: so each sector of memory is read once.
bool has_channels_together(const Problem& p) {
    const auto is_last = [](const View& v) { return v.c > 0 && v.c < v.w; };
    return p.channels > 1 && p.planes_per_group % p.channels == 0 && (is_last(p.x) || is_last(p.y));
}

// How many planes stand side by side in a sheet, and how many strips that is.
struct Sheet {
    int planes, pitch, width, strips;
};
// Those of one value, if nothing is wanted for which a thread would have to know its plane while it walks, and if there
// are few strips less: a plane of its own has its strips at whole cache lines.
template <class Shape>
Sheet make_sheet(const Problem& p, bool may_share) {
    const Sheet alone = {1, 0, p.width, tiles(p.width, Shape::out)};
    if (!may_share || has_channels_together(p) || p.border != Border::zeros || p.upstream == kUpstreamPlane ||
        p.map.data || p.data_ranges.data || p.coarse_x.data || p.coarse_y.data)
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

// A number of blocks, and how long the longest of them takes, in batches of rows.
struct Share {
    std::int64_t blocks, cost;
};
// How many blocks share strips of so many rows, if `at_once` of them run at a time. Each piece pays for its halo, in
// whole batches of rows, and for its beginning. Blocks of equal shares have two pieces, or one more than they have
// whole strips. Where strips are short, blocks that do not cross from one to the next are faster.
template <class Shape>
Share share_strips(std::int64_t strips, int rows, bool are_together, std::int64_t at_once) {
    const auto cost = [](std::int64_t all_rows, std::int64_t pieces) {  // of a block, in batches
        constexpr int kBegin = 2, kAfter = Shape::has_both ? 1 : 0;
        return pieces * (kBegin + ceil_div(all_rows / pieces + 2 * Shape::halo, Shape::rows) + kAfter);
    };
    const std::int64_t blocks = std::clamp<std::int64_t>(strips * rows / kShortest, 1, at_once);
    const std::int64_t share = strips * rows / blocks;
    const Share equal = {blocks, cost(share, 1 + ceil_div(share, rows))};
    Share whole;  // blocks that begin and end with strips
    if (strips <= at_once) {
        const std::int64_t parts = std::clamp<std::int64_t>(at_once / strips, 1, std::max(1, rows / kShortest));
        whole = {strips * parts, are_together ? 0 : cost(ceil_div(rows, parts), 1)};
    } else {
        const std::int64_t each = ceil_div(strips, at_once);
        if (strips % each) return equal;
        whole = {strips / each, cost(each * rows, each)};
    }
    return 100 * whole.cost < 97 * equal.cost ? whole : equal;
}
// Without a gradient and weights, a block alone on a multiprocessor takes 0.58 of the time of two, and 0.7 of it where
// beginning and end count as well. Half as many blocks have half the halos, and are faster for small images. (With a
// gradient, a block alone takes 0.7 of the time even of large images.)
template <class Shape>
std::int64_t count_blocks(const Problem& p, std::int64_t strips, bool are_together) {
    const Share full = share_strips<Shape>(strips, p.height, are_together, kSlots<Shape>);
    const bool is_fast_alone = Shape::rows == 8 && !p.mask.data && !are_together;
    if (!is_fast_alone || full.blocks <= kMultiprocessors) return full.blocks;
    const Share half = share_strips<Shape>(strips, p.height, are_together, kMultiprocessors);
    return 70 * half.cost < 100 * full.cost ? half.blocks : full.blocks;
}

// `sheet` without its strips.
template <class Shape>
Blocks cut_images(const Problem& p, Sheet sheet) {
    sheet.strips = tiles(sheet.width, Shape::out);
    Blocks b{};
    Partition& part = b.partition;
    part.planes = sheet.planes;
    part.pitch = sheet.pitch;
    part.strips = sheet.strips;
    if (sheet.planes > 1) {
        part.by_pitch = Divisor::of(unsigned(sheet.pitch));
        part.by_channels = Divisor::of(unsigned(p.channels));
    }
    part.together = has_channels_together(p) ? int(p.channels) : 1;
    part.sheets = p.planes() / part.planes;
    part.rows = p.height;
    // Strips of equal width, in whole sectors of 32 bytes.
    part.columns = std::min(Shape::out, 8 * tiles(tiles(sheet.width, part.strips), 8));
    const std::int64_t strips = part.sheets * part.strips, rows = strips * part.rows;
    part.blocks = part.together > 1 && strips > kSlots<Shape> && strips <= kMostBlocks
                      ? strips
                      : count_blocks<Shape>(p, strips, part.together > 1);
    part.share = rows / part.blocks;
    part.extra = rows % part.blocks;
    part.by_blocks = Divisor::of(unsigned(part.blocks));
    b.total = part.blocks;
    b.sums = part.sums();
    return b;
}

KernelType general_kernels(const Problem& p) {
    return general_type(p.arithmetic, p.is_3d, p.is_normalized, p.max_radius(), map_grads(p));
}

// Offsets in a slice of the partial maps have 32 bits in the kernels for the usual calls.
bool has_short_maps(const Problem& p) { return double(partial_maps_layout(p, p.height).d) < 0xffffffff; }

// Whether the kernels for the usual calls serve, unless it is for a mask that normalises or for the images' strides.
bool is_usual(const Problem& p) {
    return has_usual_kernels(p.x_dtype, p.is_3d, p.max_radius(), map_grads(p)) && p.y_dtype == p.x_dtype &&
           arithmetic_dtype(p.x_dtype) == p.arithmetic && p.border == Border::zeros && p.variance_grad_scale == 1 &&
           (!p.is_3d || has_short_maps(p));
}

// The usual kernels, or their variant for masks. That of images takes an upstream map in place of a mask as well.
KernelType with_mask(const Problem& p, KernelType usual) {
    const bool has_l1 = p.reduction.l1_weight != 0, has_map = p.upstream == kUpstreamMap;
    const Variant variant = has_l1 ? Variant::masked_loss : Variant::masked;
    const bool has_weights = p.mask.data ? !has_map : has_map && !p.is_3d && !has_l1;
    const bool is_masked = has_weights && !p.map.data && has_variant(variant, p.is_3d, usual, map_grads(p));
    return is_masked ? variant_of(usual, variant) : usual;
}
// Whether the pass that has the rows can write the pooled images: blocks of elements begin at even places then.
bool is_pooling(const Problem& p, KernelType usual) {
    return p.pooled_x.data && p.height % 2 == 0 && p.width % 2 == 0 && !p.is_3d && !p.mask.data && !p.map.data &&
           has_variant(Variant::pooling, p.is_3d, usual, p.grads());
}

// Whether forward can load pairs of a volume's elements, from one offset of 32 bits in both images.
bool fits_pairs(const Problem& p) {
    const std::size_t size = dtype_size(p.x_dtype);
    const double extent = double(size) * (double(p.x.h) * p.height + p.width);
    return p.width % 2 == 0 && is_packed(p.x, size, 2) && is_packed(p.y, size, 2) && p.x.h == p.y.h && p.x.h >= 0 &&
           extent < 0xffffffff;
}
// The same of a mask.
bool has_mask_pairs(const Problem& p) {
    const std::size_t size = mask_size(p);
    return is_packed(p.mask, size, 2) && p.mask.h >= 0 &&
           double(size) * (double(p.mask.h) * p.height + p.width) < 0xffffffff;
}
// Whether it can load single elements, from an offset of 32 bits with a sign in each image.
bool has_short_offsets(const Problem& p) {
    const auto is_short = [&](const View& v) {
        const double extent = std::abs(double(v.h)) * p.height + std::abs(double(v.w)) * p.width;
        return extent * dtype_size(p.x_dtype) < 0x7fffffff;
    };
    return is_short(p.x) && is_short(p.y);
}

// The kernels for a mask that normalises windows.
KernelType normalized(const Problem& p, KernelType usual, KernelType general) {
    const bool is_able = (!p.is_3d || (fits_pairs(p) && has_mask_pairs(p))) && !p.map.data &&
                         p.upstream != kUpstreamMap && has_variant(Variant::normalized, p.is_3d, usual, map_grads(p));
    return is_able ? variant_of(usual, Variant::normalized) : general;
}

}  // namespace

bool is_packed(const View& v, std::size_t size, int count) {
    const std::size_t alignment = std::min<std::size_t>(std::size_t(count) * size, 16);
    return v.data && v.w == 1 && reinterpret_cast<std::uintptr_t>(v.data) % alignment == 0 && v.n % count == 0 &&
           v.c % count == 0 && v.d % count == 0 && v.h % count == 0;
}

KernelType kernel_type(const Problem& p) {
    const KernelType general = general_kernels(p);
    if (!is_usual(p)) return general;
    const KernelType usual = usual_type(p.x_dtype, p.is_3d, p.max_radius(), map_grads(p));
    if (p.is_normalized) return normalized(p, usual, general);
    const KernelType widest = {usual.element, kUsualRadius};
    if (p.is_3d) {
        if (fits_pairs(p)) return with_mask(p, usual);
        const bool is_strided = has_variant(Variant::strided, p.is_3d, usual, map_grads(p)) && has_short_offsets(p);
        return is_strided ? variant_of(usual, Variant::strided) : general;
    }
    if (const KernelType type = with_mask(p, usual); type.variant != Variant::usual) return type;
    if (is_pooling(p, usual)) return variant_of(usual, Variant::pooling);
    if (has_sheet_kernels(usual, p.grads())) return usual;
    // Where the smallest kernels have no sheets, others are faster if planes are small enough.
    const auto strips = [&](KernelType type, bool may_share) {
        const Partition part = cut_blocks(p, type, kernel_grads(p, type), may_share).partition;
        return part.sheets * part.strips;
    };
    if (has_sheet_kernels(widest, p.grads()))
        return 4 * strips(widest, true) < 3 * strips(usual, false) ? widest : usual;
    return 5 * strips(general, true) < 2 * strips(usual, false) ? general : usual;
}

KernelType backward_type(const Problem& p) {
    KernelType type = kernel_type(p);
    if (is_usual(p)) type.element = element_of(p.x_dtype);
    if (p.is_normalized && p.upstream != kUpstreamMap && is_usual(p) &&
        has_variant(Variant::masked_loss, p.is_3d, type, map_grads(p)))
        type.variant = Variant::masked_loss;
    return type;
}

Blocks cut_blocks(const Problem& p, KernelType type, int grads, bool may_share) {
    if (p.is_3d) {
        const Slabs slabs = plan_slabs(p, type, grads);
        Blocks all{};
        slabs.each([&](const Part& forward, const Part&) {
            const Blocks blocks = cut_part(p, type, slabs, forward);
            if (slabs.is_whole())
                all = blocks;
            else
                all.sums = all.total += blocks.total;
        });
        all.slabs = slabs;
        return all;
    }
    return with_strips(p, type, grads, [&](auto shape) {
        using Shape = decltype(shape);
        const bool has_weights = p.mask.data || p.upstream == kUpstreamMap;
        const bool is_able = has_sheet_kernels(type, grads) && (!has_weights || type.variant != Variant::usual);
        return cut_images<Shape>(p, make_sheet<Shape>(p, may_share && is_able));
    });
}

Blocks cut_second_pass(const Problem& p, KernelType type, int grads, const Blocks& first) {
    const Partition& part = first.partition;
    const Sheet sheet = {part.planes, part.pitch, (part.planes - 1) * part.pitch + p.width, 0};
    return with_second_strips(type, grads, [&](auto shape) { return cut_images<decltype(shape)>(p, sheet); });
}

namespace {

// Those of volumes, for so many planes and rows of tiles, or all rows (0). Both kernels of a type have the same.
Blocks cut_tiles(const Problem& p, KernelType type, std::int64_t planes, int tiles_y) {
    constexpr int kAnyGrads = 0;
    return with_constants(type, kAnyGrads, [&](auto zero, auto radius, auto) {
        using Shape = Block3d<decltype(zero), radius>;
        int at_once = Shape::template min_blocks<false>;
        if (p.is_normalized) at_once = Shape::template min_blocks<true>;
        if (!tiles_y) tiles_y = tiles(p.height, Shape::out_y);
        return cut_volume(planes, tiles(p.width, Shape::out_x), tiles_y, p.depth, 2 * radius,
                          kMultiprocessors * at_once);
    });
}

}  // namespace

Blocks cut_part(const Problem& p, KernelType type, const Slabs& slabs, const Part& part) {
    Blocks blocks = cut_tiles(p, type, slabs.planes, part.tiles_y);
    blocks.total = blocks.sums = blocks.total / slabs.planes * part.planes;  // the last launch may have fewer planes
    return blocks;
}

std::int64_t volume_steps(const Problem& p) { return cut_tiles(p, general_kernels(p), p.planes(), 0).steps; }

constexpr std::int64_t kMaskBlocks = 8 * kMultiprocessors;  // of sum_mask, or one for each plane

MaskPlanes mask_planes(const Problem& p) {
    MaskPlanes m{p.mask, p.images, p.channels, 0, p.depth, p.height, p.width};
    if (p.mask.c == 0 && p.planes_per_group > 1) m.channels = 1;
    if (p.mask.n == 0 && p.groups == 1) m.images = 1;
    // A warp reads a row. Short ones that lie side by side are read as one, if the map has all of their elements.
    constexpr std::int64_t kShort = 2048, kLong = 4 * kShort;  // bytes
    const std::int64_t row = std::int64_t(p.width) * std::int64_t(mask_size(p));
    const bool is_dense = p.mask.w == 1 && p.mask.h == p.width &&
                          (p.depth == 1 || p.mask.d == std::int64_t(p.width) * p.height) &&
                          p.map_volume() == p.volume();
    for (std::int64_t i = kShort / row; is_dense && i > 1 && i * row <= kLong; ++i) {
        if (m.rows() % i) continue;
        m.mask.h = i * p.width;
        m.height = int(m.rows() / i);
        m.depth = 1;
        m.width = int(m.mask.h);
        break;
    }
    m.parts = std::min<std::int64_t>(ceil_div(m.rows(), 8), std::max<std::int64_t>(1, kMaskBlocks / m.planes()));
    return m;
}

Workspace plan_workspace(const Problem& p) {
    std::int64_t sums = 0, maps = 0;
    const auto count = [&](KernelType type) {
        const int grads = kernel_grads(p, type);
        const Blocks b = cut_blocks(p, type, grads, false);
        const std::int64_t pieces = b.partition.sheets * b.partition.strips + kMostBlocks + 1;
        sums = std::max(sums, p.is_3d ? b.sums : pieces);
        if (!p.grads() || p.saved || !has_two_passes(p.is_3d, type, grads)) return;
        const std::size_t bytes = p.is_3d ? partial_maps_bytes(p, grads, b.slabs.planes, b.slabs.map_rows)
                                          : partial_maps_bytes(p, grads, p.planes(), p.height);
        maps = std::max(maps, std::int64_t(bytes));
    };
    // Whoever asks for the size does not know all addresses yet, on which the kernels of volumes depend. Of those that
    // normalise, either has the same blocks and partial maps: their radius is that of the general ones.
    if (!p.is_3d || !is_usual(p) || p.is_normalized) {
        count(kernel_type(p));
    } else {
        count(general_kernels(p));
        count(usual_type(p.x_dtype, p.is_3d, p.max_radius(), map_grads(p)));
        if (p.max_radius() <= kUsualRadius) count({element_of(p.x_dtype), kUsualRadius});
    }
    Workspace w{};
    const auto take = [&](std::int64_t bytes) {
        const std::size_t at = w.total;
        w.total += std::size_t(round_up(bytes, 16));
        return at;
    };
    constexpr std::int64_t kDouble = sizeof(double), kSealed = sizeof(SealedSum);
    if (p.value.data) {
        const std::int64_t kinds = p.reduction.l1_weight != 0 ? 2 : 1;
        w.sums = take(kinds * std::max(sums * kDouble, std::min<std::int64_t>(sums, kMostSums) * kSealed));
    }
    if (p.needs_mask_sums()) {
        w.parts = take(2 * std::max(p.planes(), kMaskBlocks) * kDouble);
        w.mask_sums = take(2 * p.groups * kDouble);
    }
    w.maps = take(maps);
    return w;
}

}  // namespace fusedssim::cuda
