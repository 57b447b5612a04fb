// SPDX-License-Identifier: MIT
//
// SSIM of volumes: the forward kernel (value, map, and the partial maps that a backward needs) and the backward kernel
// (partial maps -> gradient).
//
// A block of 256 threads owns a tile of columns of one volume, out_x by out_y of them (Block3d in params.h), and walks
// along z through a chunk of its slices. A thread owns one or two columns, adjacent in x. For each slice
// (slice_walk.h):
//
//     load in_x x in_y --shared--> taps along y, in_x columns --shared--> taps along x --> taps along z
//     the next slice is being loaded                                                       (transposed FIR)
//
//     <R><--- out_x --->
//     +-+--------------+-+ <R>      staged: read, and kept in shared memory as s and d (image_source.h);
//     +-+--------------+-+          backward: the partial maps (partial_maps.h)
//     | |   outputs    | | out_y    filtered along y: in_x x out_y (slice_filter.h)
//     +-+--------------+-+
//     +-+--------------+-+ <R>
//      <----- in_x ---->
//
// Beyond the border there are zeros: the stage is cleared once, and nothing is written there. Slices before and behind
// the volume are not filtered at all. On sm_90 the float32 kernels for R = 5 take 128 registers per thread and 20 KB
// (forward) or 43 KB (backward) of shared memory, so that two blocks fit on a multiprocessor. Wide windows of doubles
// need more than there is: their slices are loaded and filtered along y in bands of columns. Equation numbers:
// docs/derivation.md. Template parameters: params.h.
//
// This is what ssim3d.cu, ssim3d_variants.cu and ssim3d_general.cu have in common.
#pragma once

#include "block_sums.h"
#include "core/ssim_math.h"
#include "image_source.h"
#include "instances.h"
#include "partial_maps.h"
#include "pivot_sample.h"
#include "slice_walk.h"

namespace fusedssim {

// The pivot of the partials of a plane.
template <class T>
__device__ __forceinline__ Pivot<arithmetic_t<T>> plane_pivot(const SsimParams<arithmetic_t<T>>& p, const Tile& tile) {
    const auto in_plane = [&](int column) { return Spot{tile, column}; };
    return PivotSample<T>(p, 0, p.depth, 0, p.height, 0, p.width, in_plane).pivot();
}

// Statistics of a tile: sums, the map, and, if G, the partial maps. kWith: see With; with a mask no map is written.
template <class T, int R, int G, bool kNormalized, bool kStrided, With kWith = With::nothing>
__device__ __forceinline__ void volume_forward(const SsimParams<arithmetic_t<T>>& p) {
    using A = arithmetic_t<T>;
    using Block = Block3d<A, R>;
    constexpr int kMoments = kNormalized ? 5 : 4, kMaps = G ? filtered_maps(G) : 1;

    const Tile tile(p);
    if (tile.block >= p.blocks) return;
    const Place<A, R> at(p, tile, threadIdx.x);
    constexpr bool kMask = kWith != With::nothing;
    using Source = ImageSource<T, R, kNormalized, kStrided, kWith>;
    __shared__ typename Source::Constants shared;
    const auto in_plane = [&](int column) { return Spot{tile, column}; };
    const PivotSample<T> near(p, at.z_begin, at.z_end - at.z_begin, tile.tile_y * Block::out_y,
                              imin(Block::out_y, p.height - tile.tile_y * Block::out_y), tile.tile_x * Block::out_x,
                              imin(Block::out_x, p.width - tile.tile_x * Block::out_x), in_plane);
    Pivot<A> pivot = near.pivot();
    // Registers of the warp are faster here if there is no gradient, and slower if there is one.
    if (!G) pivot = {of_warp(pivot.s), of_warp(pivot.d)};
    // The partials of neighbouring tiles are filtered together: they have the pivot of their plane.
    A shift_s = A(0), shift_d = A(0);  // from one to the other
    if (G) {
        const Pivot<A> of_plane = plane_pivot<T>(p, tile);
        shift_s = pivot.s - of_plane.s;
        shift_d = pivot.d - of_plane.d;
    }
    Source source(p, tile, pivot, shared);
    using Offset = typename Position<!is_general<T>>::type;
    const PartialMaps<A, imax(kMaps, 3), Offset> maps(p, tile, at.row, at.column);
    const auto has_maps = [&] {
        const Place<A, R> place(p, tile, thread_again());
        return place.row < p.height && place.column < p.maps.h;
    };
    A dssim_sum = A(0);
    const bool is_rare = !kMask && (p.mask.data || p.map.data);
    // A bit for each column of this thread: the map has elements there.
    constexpr unsigned kAll = (1u << Block::columns) - 1;
    const auto counted = [&] {
        const Place<A, R> place(p, tile, thread_again());
        unsigned bits = 0;
#pragma unroll
        for (int c = 0; c < Block::columns; ++c)
            bits |= unsigned(place.row >= p.map_begin_y() && place.row < p.map_end_y() &&
                             place.column + c >= p.map_begin_x() && place.column + c < p.map_end_x())
                    << c;
        return bits;
    };
    // In most tiles the map has elements everywhere, and nothing rare is wanted.
    if (counted() == kAll && !is_rare) source.slots.flags |= source.kPlain;

    const auto expand = [](const A(&in)[kNormalized ? 3 : 2], A(&out)[kMoments]) {
        fusedssim::expand<kNormalized>(in[0], in[1], in[kNormalized ? 2 : 0], out);
    };
    // The mask and the map. `now`: a bit for each column that has an element of the map.
    const auto use_rarely = [&](int z, unsigned now, const A(&here)[Block::columns],
                                A(&partials)[kMaps][Block::columns]) {
        const Place<A, R> place(p, tile, thread_again());
        MaskBits<A> mask[Block::columns];
        if (p.mask.data) {
            const char* const at = address(p.mask, tile, z, place.row, place.column);
            load_mask_row(p, at, now, mask);
            if (now && z + 1 < p.depth) prefetch_line(at + p.mask.d);
        }
#pragma unroll
        for (int c = 0; c < Block::columns; ++c) {
            const int column = place.column + c;
            if (place.row >= p.height || column >= p.width) continue;
            const A weight = p.mask.data ? mask[c].weight(p.mask_is_bool) : A(1);
            A difference = A(0);
            if (p.has_l1 && p.map.data)
                difference = absolute(Cursor<T>(p.x, tile, z, place.row, column).value(p.x_format) -
                                      Cursor<T>(p.y, tile, z, place.row, column).value(p.y_format));
            if (!(now >> c & 1)) continue;
            dssim_sum += weighted(weight, here[c]);
            if (G && p.mask.data)
#pragma unroll
                for (int q = 0; q < kMaps; ++q) partials[q][c] = weighted(weight, partials[q][c]);
            if (!p.map.data) continue;
            // The formulas of map_value(), written out: a call of it changes the order of instructions all over the
            // kernel.
            A value = p.is_loss ? A(-2) * p.ssim_weight * not_negative(here[c]) + p.l1_weight * difference
                                : ssim_from_dssim(here[c]);
            if (p.mask.data) value = weighted(weight, value);
            Cursor<A>(p.map, tile, z - p.crop_z(), place.row - p.crop_y(), column - p.crop_x()).store(0, 0, value);
        }
    };
    // kMask: the weights of the slice that is used next. Where the map has no element, they are 0.
    WeightsAhead<A, Block::columns> weights_ahead;
    const char* weights_at = address(p.mask, tile, at.z_begin, at.row, at.column);
    const auto prepare = [&] {
        if constexpr (kMask) {
            weights_ahead.request(p, weights_at, source.slots.flags & source.kPlain ? kAll : counted(), false);
            weights_at += p.mask.d;
        }
    };
    const auto weigh = [&](const A(&here)[Block::columns], A(&partials)[kMaps][Block::columns]) {
        dssim_sum += weights_ahead.sum_of(p, kAll, false, here);
        if (!G) return;
        A weights[Block::columns];
        weights_ahead.get(p, kAll, false, weights);
#pragma unroll
        for (int c = 0; c < Block::columns; ++c) {
#pragma unroll
            for (int q = 0; q < kMaps; ++q) partials[q][c] = weighted(weights[c], partials[q][c]);
        }
    };
    const auto use = [&](int z, bool in_chunk, const A(&filtered)[Block::columns][kMoments]) {
        // If only the value is wanted, what follows is cheaper than the branch that would skip it.
        if (G && !in_chunk) return;
        const bool in_map = in_chunk && unsigned(z - p.map_begin_z()) < unsigned(p.depth - 2 * p.crop_z());
        A here[Block::columns], partials[kMaps][Block::columns];
        // With partials there are no registers for both constants at once: each is read when it is used.
        const Stability<A> stability = shared.stability;
        const volatile Stability<A>& stability_read_late = shared.stability;
        Moments<A> moments[Block::columns];
#pragma unroll
        for (int c = 0; c < Block::columns; ++c)
            moments[c] = {filtered[c][0], filtered[c][1], filtered[c][2], filtered[c][3]};
        if (!kNormalized) {
            if (p.window_rest != A(0)) {
                const volatile A* const first = shared.begin.v;  // not read in advance
#pragma unroll
                for (int c = 0; c < Block::columns; ++c) {
                    moments[c].m_s += first[0];
                    moments[c].m_d += first[1];
                    moments[c].sq += first[2];
                    moments[c].sq_d += first[3];
                }
            } else {
#pragma unroll
                for (int c = 0; c < Block::columns; ++c) moments[c].sq += stability.c2x2;
            }
        }
#pragma unroll
        for (int c = 0; c < Block::columns; ++c) {
            Moments<A> m = moments[c];
            A u = A(1);
            if constexpr (kNormalized) u = normalize(m, filtered[c][kMoments - 1], stability.c2x2);
            if constexpr (G != 0) {
                A values[kMaps];
                here[c] = dssim_and_partials<G>(m, pivot, stability_read_late, u, m.m_s + shift_s, m.m_d + shift_d,
                                                values, variance_grad_scale<T>(p));
#pragma unroll
                for (int q = 0; q < kMaps; ++q) partials[q][c] = values[q];
            } else {
                here[c] = dssim(m, pivot, stability);
            }
        }
        if (kMask && in_map) weigh(here, partials);
        if (in_map && (source.slots.flags & source.kPlain)) {
            if constexpr (G != 0) maps.store(z, partials);
            if (!kMask)
#pragma unroll
                for (int c = 0; c < Block::columns; ++c) dssim_sum += here[c];
            return;
        }
        if (!in_chunk) return;
        const unsigned now = in_map ? counted() : 0;
        if constexpr (G != 0) {
            // Zeros where the map has no element, up to the end of a row: so the backward kernel can read pairs.
            if (now != kAll)
#pragma unroll
                for (int c = 0; c < Block::columns; ++c)
#pragma unroll
                    for (int q = 0; q < kMaps; ++q) partials[q][c] = now >> c & 1 ? partials[q][c] : A(0);
        }
        if (is_rare) {
            use_rarely(z, now, here, partials);
        } else if (!kMask) {
#pragma unroll
            for (int c = 0; c < Block::columns; ++c) dssim_sum += now >> c & 1 ? here[c] : A(0);
        }
        if constexpr (G != 0)
            if (has_maps()) maps.store(z, partials);
    };
    walk_slices<A, R, kMoments>(p, tile, source, expand, prepare, use);
    store_block_sums<Block::threads>(p, tile.block, dssim_sum, source.l1_sum);
    if constexpr (has_completion<A>(R, kNormalized)) finish_block<Block::threads>(p, tile.block);
}

// The gradient of a tile from the partial maps. With::mask_and_l1: also that of |x - y| under a mask.
template <class T, int R, int G, With kWith = With::nothing>
__device__ __forceinline__ void volume_backward(const SsimParams<arithmetic_t<T>>& p) {
    using A = arithmetic_t<T>;
    using Block = Block3d<A, R>;
    constexpr int kMaps = filtered_maps(G);

    const Tile tile(p);
    if (tile.block >= p.blocks) return;
    const Place<A, R> at(p, tile, threadIdx.x);
    const auto cursor = [&](const ByteView& v) { return Cursor<T>(v, tile, at.z_begin, at.row, at.column); };
    Cursor<T> x = cursor(p.x), y = cursor(p.y), to_x = cursor(p.grad_x), to_y = cursor(p.grad_y);
    const Pivot<A> level = plane_pivot<T>(p, tile), pivot = {of_warp(level.s), of_warp(level.d)};
    A scale = p.scale, l1_scale = p.l1_scale;
    plane_scales(p, tile, scale, l1_scale);
    const unsigned inside = at.inside(p);

    const auto expand = [](const A(&in)[kMaps], A(&out)[kMaps]) {
#pragma unroll
        for (int q = 0; q < kMaps; ++q) out[q] = in[q];
    };
    using Access = Elements<T>;
    RawRow<T, Block::columns> xs, ys;
    constexpr bool kMask = kWith == With::mask_and_l1;
    WeightsAhead<A, Block::columns> weights_ahead;
    const char* weights_at = address(p.mask, tile, at.z_begin, at.row, at.column);
    const bool packed = p.packed_grads && inside == (1u << Block::columns) - 1;
    const auto prepare = [&] {
        if constexpr (kMask) {
            weights_ahead.request(p, weights_at, inside, false);
            weights_at += p.mask.d;
        }
        if (packed) {
            xs.load(x.at);
            ys.load(y.at);
        } else if constexpr (is_general<T>) {
            xs = ys = {};
            const auto is_inside = [&](int c) { return inside >> c & 1; };
            Access::load(xs.v, p.x_format, is_inside, [&](int c) { return x.at + c * x.v.w; });
            Access::load(ys.v, p.y_format, is_inside, [&](int c) { return y.at + c * y.v.w; });
        } else {
#pragma unroll
            for (int c = 0; c < Block::columns; ++c) {
                xs.set(c, x.load(0, c, p.x_format, inside >> c & 1));
                ys.set(c, y.load(0, c, p.y_format, inside >> c & 1));
            }
        }
    };
    const bool is_rare = has_rare_parts(p, l1_scale);
    const auto store = [&](const Cursor<T>& to, const Format<A>& format, const A(&values)[Block::columns]) {
        if (packed) {
            Packed<T, Block::columns>::store(to.at, values);
        } else {
#pragma unroll
            for (int c = 0; c < Block::columns; ++c)
                if (inside >> c & 1) to.store(0, c, values[c], format);
        }
    };
    const auto use = [&](int z, bool in_chunk, const A(&filtered)[Block::columns][kMaps]) {
        if (!in_chunk) return;
        if (p.mask.data)
#pragma unroll
            for (int c = 0; c < Block::columns; ++c) {
                typename Access::Raw x_raw = xs.get(c), y_raw = ys.get(c);
                hide_holes<T>(x_raw, p.x_format);
                hide_holes<T>(y_raw, p.y_format);
                xs.set(c, x_raw);
                ys.set(c, y_raw);
            }
        const auto x_here = [&](int c) { return Access::value(xs.get(c), p.x_format); };
        const auto y_here = [&](int c) { return Access::value(ys.get(c), p.y_format); };
        A grad_x[Block::columns], grad_y[Block::columns];
#pragma unroll
        for (int c = 0; c < Block::columns; ++c) {
            unpack_gradient<G>(filtered[c], x_here(c), y_here(c), pivot, grad_x[c], grad_y[c]);
            A factor = scale;
            if (border_of<T>(p) == Border::reflect) {
                const Place<A, R> place(p, tile, thread_again());
                factor *= A(edge_gradient_weight(Border::reflect, z, p.depth) *
                            edge_gradient_weight(Border::reflect, place.row, p.height) *
                            edge_gradient_weight(Border::reflect, place.column + c, p.width));
            }
            grad_x[c] *= factor;
            if (G == 2) grad_y[c] *= factor;
        }
        if constexpr (kMask) {
            A weights[Block::columns];
            weights_ahead.get(p, inside, false, weights);
            // 0, but NaN if the mean is one of nothing.
            const A excluded = A(0) * scale;
#pragma unroll
            for (int c = 0; c < Block::columns; ++c) {
                if (p.is_normalized) grad_x[c] = weights[c] != A(0) ? weights[c] * grad_x[c] : excluded;
                const A l1 = weighted(weights[c], l1_derivative(l1_scale, x_here(c) - y_here(c)));
                grad_x[c] += l1;
                if (G == 2) grad_y[c] -= l1;
            }
        } else if (l1_scale != A(0) && !is_rare) {
#pragma unroll
            for (int c = 0; c < Block::columns; ++c) {
                const A l1 = l1_derivative(l1_scale, x_here(c) - y_here(c));
                grad_x[c] += l1;
                if (G == 2) grad_y[c] -= l1;
            }
        } else if (is_rare) {
            const Place<A, R> place(p, tile, thread_again());
#pragma unroll
            for (int c = 0; c < Block::columns; ++c)
                if (place.row < p.height && place.column + c < p.width)
                    add_to_gradient<G>(p, tile, z, place.row, place.column + c,
                                       weight_at(p, tile, z, place.row, place.column + c),
                                       l1_derivative(l1_scale, x_here(c) - y_here(c)), scale, grad_x[c], grad_y[c]);
        }
        // Maps that were saved for both gradients also serve a backward that wants one of them.
        if (G == 1 || p.grad_x.data) store(to_x, p.x_format, grad_x);
        if (G == 2 && p.grad_y.data) store(to_y, p.y_format, grad_y);
        x.next_slice();
        y.next_slice();
        to_x.next_slice();
        if (G == 2) to_y.next_slice();
    };
    PartialSource<A, R, kMaps, is_general<T>> source(p, tile);
    walk_slices<A, R, kMaps>(p, tile, source, expand, prepare, use);
}

// The kernels of a family (instances.h). FAMILY##_has_mass: whether it filters the mass of a mask as well.
#define FUSEDSSIM_VOLUME_KERNEL(NAME, FAMILY, UNIT, PARAMS, TYPE, RADIUS, GRADS)                                     \
    extern "C" __global__ void __launch_bounds__(Block3d<arithmetic_t<TYPE>, RADIUS>::threads,                       \
                                                 Block3d<arithmetic_t<TYPE>, RADIUS>::min_blocks<FAMILY##_has_mass>) \
        NAME(const __grid_constant__ PARAMS p) {                                                                     \
        FAMILY<TYPE, RADIUS, GRADS>(p);                                                                              \
    }
#define FUSEDSSIM_VOLUME_KERNELS(FAMILY, KERNELS) KERNELS(FUSEDSSIM_VOLUME_KERNEL)

}  // namespace fusedssim
