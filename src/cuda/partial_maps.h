// SPDX-License-Identifier: MIT
//
// The partial maps of a volume: the forward kernel of volume.h writes them, the backward kernel filters them.
#pragma once

#include "slice_walk.h"

namespace fusedssim {

// The place of a row in the partial maps.
template <class A>
__device__ __forceinline__ int row_of_maps(const SsimParams<A>& p, int row) {
    while (row >= p.maps_rows) row -= p.maps_rows;
    return row;
}

// Where the partial maps of a tile's plane stand in memory (SsimParams::maps): the first two maps of a position side by
// side, and elsewhere the rest, one or two. Index: the type of an offset in a slice.
template <class A, int kMaps, class Index = long long>
struct PartialMaps {
    using First = Column<A, 2>;
    using Second = Column<A, kMaps - 2>;
    const SsimParams<A>& p;
    const Tile& tile;
    const Index at;  // in a slice

    __device__ __forceinline__ PartialMaps(const SsimParams<A>& params, const Tile& of, int y, int x)
        : p(params), tile(of), at(Index(row_of_maps(params, y) * params.maps.h + x)) {}
    __device__ __forceinline__ long long slice(int z) const {
        return tile.image * p.maps.n + tile.channel * p.maps.c + z * p.maps.d;
    }
    __device__ __forceinline__ First* first(int z) const { return static_cast<First*>(p.maps.data) + slice(z) + at; }
    __device__ __forceinline__ Second* second(int z) const { return static_cast<Second*>(p.more_maps) + slice(z) + at; }
    // Writes the partials of kPositions adjacent positions; the first column is a multiple of their number.
    template <int kPositions>
    __device__ __forceinline__ void store(int z, const A (&partials)[kMaps][kPositions]) const {
        A pairs[2 * kPositions], rest[(kMaps - 2) * kPositions];
#pragma unroll
        for (int i = 0; i < kPositions; ++i)
#pragma unroll
            for (int q = 0; q < kMaps; ++q) (q < 2 ? pairs[2 * i + q] : rest[(kMaps - 2) * i + q - 2]) = partials[q][i];
        Packed<A, 2 * kPositions>::store(first(z), pairs);
        Packed<A, (kMaps - 2) * kPositions>::store(second(z), rest);
    }
};

// The partial maps as a source, multiplied by the upstream map. They are zero where the map has no element, and have
// the weights of a mask already.
template <class A, int R, int kMaps, bool kGeneral>
struct PartialSource : SliceSource<A, kMaps> {
    using Block = Block3d<A, R>;
    using Maps = PartialMaps<A, kMaps>;
    static constexpr bool kOverlaps = kHasAsyncCopies;
    // Parts of a slice: pairs of positions, or single ones.
    static constexpr int kWidth = kGeneral ? 1 : 2;
    static constexpr int kMargin = kGeneral ? R : R + R % 2;  // columns before the tile: whole parts
    static constexpr int kParts = kGeneral ? Block::band_x : (Block::out_x + kMargin + R + kWidth - 1) / kWidth;
    static constexpr int kPitch = kWidth * kParts;
    using PartSlots = either_t<kGeneral, ElementSlots<A, R>, Slots<A, R, kParts, kWidth, kMargin>>;
    static constexpr int kPositions = PartSlots::kAll * kWidth;
    using Stage = Planes<A, kMaps, kPositions + kPositions % 2>;
    const SsimParams<A>& p;
    const Tile& tile;
    PartSlots slots;
    // General kernels: where the rows of this thread's parts stand, and a bit for each part: edge_partial_weight() of
    // its row is 2.
    int row_at[kGeneral ? PartSlots::kCount : 1];
    static constexpr unsigned kEdgeRow = PartSlots::kFree;
    // The slice that will be requested next.
    const typename Maps::First* first;
    const typename Maps::Second* second;

    __device__ __forceinline__ PartialSource(const SsimParams<A>& params, const Tile& at)
        : p(params), tile(at), slots(make_slots()) {
        if constexpr (kGeneral) {
            slots.seek(p, tile, border(), 0);
#pragma unroll
            for (int i = 0; i < PartSlots::kCount; ++i) {
                const int seen = row_seen(i);
                row_at[i] = row_of_maps(p, seen);
                if (is_seen_once(border(), seen, p.height)) slots.flags |= kEdgeRow << i;
            }
        }
    }
    // What lies beyond the image has partials if the border is a mirror.
    __device__ __forceinline__ Border border() const {
        return kGeneral && is_mirror(p.border) ? p.border : Border::zeros;
    }
    __device__ __forceinline__ bool is_endless() const { return border() != Border::zeros; }
    __device__ __forceinline__ bool has_edge_taps() const { return kGeneral && p.border == Border::replicate; }
    // General kernels: the row of a part.
    __device__ __forceinline__ int row_seen(int i) const {
        return PartSlots::row_seen(p, tile, border(), PartSlots::row_in_tile() + i * PartSlots::kRowStep);
    }
    __device__ __forceinline__ PartSlots make_slots() const {
        if constexpr (kGeneral)
            return PartSlots();
        else
            return PartSlots(p, tile, p.maps, int(p.maps.h), [&](int y) { return row_of_maps(p, y); });
    }
    __device__ __forceinline__ void seek(int z) {
        const Maps maps(p, tile, 0, 0);
        first = maps.first(z);
        second = maps.second(z);
    }
    __device__ __forceinline__ static Column<A, 2> beyond() { return {}; }
    __device__ __forceinline__ int empty_slices() const { return p.crop_z(); }
    __device__ __forceinline__ void request(int z, int band, Stage& stage) {
        if constexpr (kGeneral) {
            seek(element_seen(border(), z, p.depth));
            if (Block::bands > 1) slots.seek(p, tile, border(), band);
        }
#pragma unroll
        for (int i = 0; i < PartSlots::kCount; ++i)
            if (slots.is_valid(i)) {
                const int to = kWidth * PartSlots::index(i);
                copy_async<kWidth * sizeof(typename Maps::First)>(stage.pairs[0] + to, first + offset(i));
                if constexpr (kMaps == 3)
                    copy_async<kWidth * sizeof(typename Maps::Second)>(stage.last + to, second + offset(i));
                else
                    copy_async<kWidth * sizeof(typename Maps::Second)>(stage.pairs[1] + to, second + offset(i));
            }
        first += p.maps.d;
        second += p.maps.d;
    }
    __device__ __forceinline__ long long offset(int i) const {
        if constexpr (kGeneral)
            return (long long)row_at[i] * int(p.maps.h) + slots.column_seen;
        else
            return slots.offset[i];
    }
    __device__ __forceinline__ void deliver(int z, int band, Stage& stage) const {
        wait_for_copies();
        if constexpr (Block::bands > 1) {
            // Before this band the place was another's.
            const A nothing[kMaps] = {};
#pragma unroll
            for (int i = 0; i < PartSlots::kCount; ++i)
                if (!slots.is_valid(i) && PartSlots::exists(i)) stage.put(PartSlots::index(i), nothing);
        }
        if constexpr (kGeneral) {
            if (p.upstream == kUpstreamMap || border() == Border::reflect) weight_elements(z, stage);
        } else {
            if (p.upstream == kUpstreamMap) weight_pairs(z, stage);
        }
    }
    // Both multiply the partials that this thread has copied: by the upstream map, and by what their edges weigh.
    __device__ __forceinline__ void weight_elements(int z, Stage& stage) const {
        const int z_at = element_seen(border(), z, p.depth), x_at = slots.column_seen;
        const int of_others =
            edge_partial_weight(border(), z_at, p.depth) * edge_partial_weight(border(), x_at, p.width);
        A weights[PartSlots::kCount];
#pragma unroll
        for (int i = 0; i < PartSlots::kCount; ++i)
            weights[i] = A(slots.flags & kEdgeRow << i ? 2 * of_others : of_others);
        if (p.upstream == kUpstreamMap) {
            const char* const column = address(p.grad_out, tile, z_at - p.crop_z(), -p.crop_y(), x_at - p.crop_x());
#pragma unroll
            for (int i = 0; i < PartSlots::kCount; ++i) {
                const int y_at = row_seen(i);
                if (slots.is_valid(i) && p.in_map(y_at, x_at))
                    weights[i] *= *reinterpret_cast<const A*>(column + y_at * p.grad_out.h);
            }
        }
#pragma unroll
        for (int i = 0; i < PartSlots::kCount; ++i) {
            if (weights[i] == A(1) || !slots.is_valid(i)) continue;
            A partials[1][kMaps];
            stage.get(PartSlots::index(i), partials);
#pragma unroll
            for (int q = 0; q < kMaps; ++q) partials[0][q] = weighted(weights[i], partials[0][q]);
            stage.put(PartSlots::index(i), partials[0]);
        }
    }
    __device__ __forceinline__ void weight_pairs(int z, Stage& stage) const {
#pragma unroll 1
        for (int e = thread_again(); e < PartSlots::kAll; e += Block::threads) {
#pragma unroll 1
            for (int c = 0; c < kWidth; ++c) {
                const int row = PartSlots::row(tile, e), column = PartSlots::column(tile, e) + c;
                if (!p.in_map(row, column)) continue;
                const A weight =
                    Cursor<A>(p.grad_out, tile, z - p.crop_z(), row - p.crop_y(), column - p.crop_x()).value();
                A partials[1][kMaps];
                stage.get(kWidth * e + c, partials);
#pragma unroll
                for (int q = 0; q < kMaps; ++q) partials[0][q] = weighted(weight, partials[0][q]);
                stage.put(kWidth * e + c, partials[0]);
            }
        }
    }
    __device__ __forceinline__ void read(const Stage& stage, int row, int column, A (&out)[1][kMaps]) const {
        stage.get(row * kPitch + column + (kMargin - R), out);
    }
};

}  // namespace fusedssim
