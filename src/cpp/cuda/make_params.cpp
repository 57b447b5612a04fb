// SPDX-License-Identifier: MIT
#include "cuda/make_params.h"

#include <algorithm>
#include <cstdint>

#include "core/dtype.h"
#include "core/ssim_math.h"

namespace fusedssim::cuda {

namespace {

ByteView in_bytes(const View& v, std::size_t size) {
    const auto bytes = (long long)(size);
    return {v.data, bytes * v.n, bytes * v.c, bytes * v.d, bytes * v.h, bytes * v.w};
}

// The upstream map from where the image's first element would be. That may be before the memory, so it is computed with
// numbers.
ByteView upstream_in_image(const Problem& p) {
    ByteView v = in_bytes(p.grad_out, dtype_size(p.arithmetic));
    const long long crops = p.crop(Axis::z) * v.d + p.crop(Axis::y) * v.h + p.crop(Axis::x) * v.w;
    v.data = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(v.data) - std::uintptr_t(crops));
    return v;
}

template <class A>
AxisTaps<A> make_taps(const Problem& p, Axis axis) {
    AxisTaps<A> taps{};
    const int radius = p.radius(axis);
    double beyond = 0;
    for (int k = radius; k >= 0; --k) {
        taps.window[k] = A(p.taps(axis)[k]);
        beyond += double(taps.window[k]);
        taps.edge[k] = A(beyond);
    }
    taps.sum = A(p.window_sum<A>(axis));
    if (p.size(axis) == 1) taps.edge[0] = taps.sum;  // it is at both ends
    return taps;
}

// Groups are planes, or images, or one: only planes have a channel.
template <class P>
int group_channels(const P& p) {
    return p.planes_per_group == 1 ? int(p.channels) : 1;
}

// Whether the elements of a gradient, which do not overlap, leave no gaps.
bool is_dense(const ScaleProblem& p) {
    const View& v = p.grad;
    if (v.n < 0 || v.c < 0 || v.d < 0 || v.h < 0 || v.w < 0) return false;
    const double last = double(p.images - 1) * v.n + double(p.channels - 1) * v.c + double(p.depth - 1) * v.d +
                        double(p.height - 1) * v.h + double(p.width - 1) * v.w;
    return last + 1 == double(p.images * p.channels) * double(p.depth * p.height * p.width);
}

}  // namespace

template <class A>
SsimParams<A> make_ssim_params(const Problem& p, const Blocks& blocks, bool is_general) {
    SsimParams<A> k{};
    const std::size_t x_size = dtype_size(p.x_dtype), y_size = dtype_size(p.y_dtype);
    k.x = in_bytes(p.x, x_size);
    k.y = in_bytes(p.y, y_size);
    k.map = in_bytes(p.map, sizeof(A));
    k.grad_out = in_bytes(p.grad_out, sizeof(A));
    k.grad_x = in_bytes(p.grad_x, x_size);
    k.grad_y = in_bytes(p.grad_y, y_size);
    k.mask = in_bytes(p.mask, mask_size(p));
    k.weights = !p.mask.data && p.upstream == kUpstreamMap ? upstream_in_image(p) : k.mask;
    k.coarse_x = in_bytes(p.coarse_x, sizeof(A));
    k.coarse_y = in_bytes(p.coarse_y, sizeof(A));
    k.pooled_x = in_bytes(p.pooled_x, sizeof(A));
    k.pooled_y = in_bytes(p.pooled_y, sizeof(A));
    k.groups = p.groups;
    k.planes_per_group = p.planes_per_group;
    k.blocks = blocks.total;
    k.sums_stride = blocks.sums;
    k.partition = blocks.partition;
    k.channels = int(p.channels);
    k.depth = p.depth;
    k.height = p.height;
    k.width = p.width;
    for (const Axis axis : {Axis::z, Axis::y, Axis::x}) {
        k.crops[int(axis)] = p.crop(axis);
        k.taps[int(axis)] = make_taps<A>(p, axis);
    }
    k.upstream = p.upstream;
    k.border = p.border;
    k.x_format = {p.x_dtype, A(p.x_scale)};
    k.y_format = {p.y_dtype, A(p.y_scale)};
    k.mask_is_bool = p.mask_is_bool;
    k.is_normalized = p.is_normalized;
    k.is_loss = p.reduction.is_loss;
    k.has_l1 = p.reduction.l1_weight != 0;
    k.packed_map = p.crop(Axis::x) % 4 == 0 && is_packed(p.map, sizeof(A), 4);
    k.packed_mask = is_packed(p.mask, mask_size(p), 4);
    const auto is_packed_or_absent = [&](const View& v, std::size_t size) {
        return !v.data || is_packed(v, size, p.is_3d ? 2 : 4);
    };
    const bool is_of_arithmetic = p.x_dtype == p.arithmetic && p.y_dtype == p.arithmetic;
    k.packed_grads = (!is_general || is_of_arithmetic) && is_packed_or_absent(p.x, x_size) &&
                     is_packed_or_absent(p.y, y_size) && is_packed_or_absent(p.grad_x, x_size) &&
                     is_packed_or_absent(p.grad_y, y_size);
    k.maps = partial_maps_layout(p, p.height);
    k.maps_stride = p.images * k.maps.n;
    k.scale = A(p.ssim_factor() * kGradientFactor);
    k.l1_scale = A(p.reduction.l1_weight != 0 ? p.l1_factor() : 0);
    k.coarse_scale = A(p.coarse_factor());
    k.ssim_weight = A(p.reduction.ssim_weight);
    k.l1_weight = A(p.reduction.l1_weight);
    k.stability = stability_of<A>(p.k1, p.k2, p.data_range);
    k.data_ranges = in_bytes(p.data_ranges, sizeof(A));
    k.k1 = p.k1;
    k.k2 = p.k2;
    k.variance_grad_scale = A(p.variance_grad_scale);
    k.pivot_share = A(p.seen_share());
    k.window_rest = A(p.window_rest<A>());
    return k;
}

template SsimParams<float> make_ssim_params(const Problem&, const Blocks&, bool);
template SsimParams<double> make_ssim_params(const Problem&, const Blocks&, bool);

template <class A>
void set_part(SsimParams<A>& k, const Problem& p, const Part& part, const Blocks& blocks, const Slabs& slabs,
              void* maps, int grads) {
    k.first_plane = part.first_plane;
    k.first_tile_y = part.first_tile_y;
    k.blocks = blocks.total;
    k.chunk = blocks.chunk;
    k.chunks = blocks.chunks;
    k.tiles_y = blocks.tiles_y;
    k.tiles_x = blocks.tiles_x;
    k.maps = partial_maps_layout(p, slabs.map_rows);
    k.maps_rows = slabs.map_rows;
    // Where the first plane of all would stand. That may be before the memory, so it is computed with numbers.
    const auto at_first = [&](std::uintptr_t first_of_part, int numbers) {
        return reinterpret_cast<void*>(first_of_part -
                                       std::uintptr_t(part.first_plane * k.maps.c * numbers) * sizeof(A));
    };
    const std::uintptr_t positions = std::uintptr_t(partial_maps_positions(p, slabs.planes, slabs.map_rows));
    const auto first = reinterpret_cast<std::uintptr_t>(maps);
    k.maps.data = at_first(first, 2);
    k.more_maps = at_first(first + 2 * positions * sizeof(A), filtered_maps(grads) - 2);
}

template void set_part(SsimParams<float>&, const Problem&, const Part&, const Blocks&, const Slabs&, void*, int);
template void set_part(SsimParams<double>&, const Problem&, const Part&, const Blocks&, const Slabs&, void*, int);

ReduceParams make_reduce_params(const Problem& p, const double* sums, const double* mask_sums, const Blocks& blocks) {
    ReduceParams k{};
    k.sums = sums;
    k.mask_sums = mask_sums;
    k.sums_stride = blocks.sums;
    k.partition = blocks.partition;
    if (p.is_3d)
        k.sums_per_group = blocks.total / p.groups;
    else if (p.groups == 1)
        k.sums_per_group = blocks.partition.first_sum(blocks.partition.sheets);
    k.groups = p.groups;
    k.sheets_per_group = p.is_3d ? 0 : blocks.partition.sheets / p.groups;
    k.map_elements = p.map_elements();
    k.image_elements = p.image_elements();
    k.reduction = p.reduction;
    k.out = in_bytes(p.value, dtype_size(p.arithmetic));
    k.channels = group_channels(p);
    return k;
}

MaskParams make_mask_params(const Problem& p, double* parts_sums, double* mask_sums) {
    const MaskPlanes m = mask_planes(p);
    MaskParams k{};
    k.mask = in_bytes(m.mask, mask_size(p));
    k.mask_is_bool = p.mask_is_bool;
    k.channels = int(m.channels);
    k.depth = m.depth;
    k.height = m.height;
    k.width = m.width;
    for (const Axis axis : {Axis::z, Axis::y, Axis::x}) k.crops[int(axis)] = p.crop(axis);
    k.parts = int(m.parts);
    k.planes = m.planes();
    k.groups = p.groups;
    const std::int64_t repeats = p.planes() / m.planes();
    k.repeats = double(repeats);
    k.parts_sums = parts_sums;
    k.mask_sums = mask_sums;
    return k;
}

ScaleParams make_scale_params(const ScaleProblem& p) {
    ScaleParams k{};
    k.scale = in_bytes(p.scale, dtype_size(p.scale_dtype));
    k.grad = in_bytes(p.grad, dtype_size(p.grad_dtype));
    k.rows = p.rows();
    k.channels = int(p.channels);
    k.depth = int(p.depth);
    k.height = int(p.height);
    k.width = int(p.width);
    k.scale_is_f64 = p.scale_dtype == Dtype::float64;
    k.factor = p.factor;
    k.coarse = in_bytes(p.coarse, dtype_size(p.scale_dtype));
    k.coarse_factor = p.coarse_factor;
    k.packed = p.width % 4 == 0 && is_packed(p.grad, dtype_size(p.grad_dtype), 4) &&
               (!p.coarse.data || is_packed(p.coarse, dtype_size(p.scale_dtype), 2));
    const std::int64_t elements = k.rows * k.width;
    const bool has_one_scale = p.scale.n == 0 && p.scale.c == 0 && !p.coarse.data;
    if (has_one_scale && is_dense(p) && reinterpret_cast<std::uintptr_t>(p.grad.data) % 16 == 0) k.flat = elements;
    return k;
}

PoolParams make_pool_params(const Problem& p, Dtype dtype, double scale, const View& in, const View& out) {
    PoolParams k{};
    k.dtype = dtype;
    k.scale = scale;
    k.in = in_bytes(in, dtype_size(dtype));
    k.out = in_bytes(out, dtype_size(p.arithmetic));
    k.channels = int(p.channels);
    k.depth = p.depth;
    k.height = p.height;
    k.width = p.width;
    k.is_3d = p.is_3d;
    k.out_depth = p.is_3d ? pooled_size(p.depth) : 1;
    k.out_height = pooled_size(p.height);
    k.out_width = pooled_size(p.width);
    k.rows = p.images * p.channels * k.out_depth * k.out_height;
    k.packed = dtype == Dtype::float32 && p.arithmetic == Dtype::float32 && p.width % 8 == 0 &&
               is_packed(in, sizeof(float), 4) && is_packed(out, sizeof(float), 4);
    return k;
}

CombineParams make_combine_params(const CombineProblem& p) {
    CombineParams k{};
    k.means = p.means;
    k.upstream = p.upstream;
    k.out = in_bytes(p.value, dtype_size(p.arithmetic));
    k.planes = p.images * p.channels;
    k.groups = p.groups;
    k.planes_per_group = p.planes_per_group;
    k.channels = group_channels(p);
    k.levels = p.levels;
    k.is_mean = p.is_mean;
    std::copy_n(p.weights, p.levels, k.weights);
    return k;
}

}  // namespace fusedssim::cuda
