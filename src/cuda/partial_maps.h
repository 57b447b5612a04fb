// SPDX-License-Identifier: MIT
//
// The partial maps of a volume: the forward kernel of ssim3d.cu writes them, the backward kernel filters them.
#pragma once

#include "slice_walk.h"

namespace fusedssim {

// Where the partial maps of a tile's plane stand in memory (SsimParams::maps): the first two maps of a position side by
// side, and behind all of those the rest, one or two. Index: the type of an offset in a slice.
template <class A, int kMaps, class Index = long long>
struct PartialMaps {
    using First = Column<A, 2>;
    using Second = Column<A, kMaps - 2>;
    const SsimParams<A>& p;
    const Tile& tile;
    const Index at;  // in a slice

    __device__ __forceinline__ PartialMaps(const SsimParams<A>& params, const Tile& of, int y, int x)
        : p(params), tile(of), at(Index(y * params.maps.h + x)) {}
    __device__ __forceinline__ long long slice(int z) const {
        return tile.image * p.maps.n + tile.channel * p.maps.c + z * p.maps.d;
    }
    __device__ __forceinline__ First* first(int z) const { return static_cast<First*>(p.maps.data) + slice(z) + at; }
    __device__ __forceinline__ Second* second(int z) const {
        return reinterpret_cast<Second*>(static_cast<First*>(p.maps.data) + p.maps_stride) + slice(z) + at;
    }
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

// The partial maps as a source, multiplied by the upstream map and the mask. They are zero where the map has no
// element.
template <class A, int R, int kMaps>
struct PartialSource : SliceSource<A, kMaps> {
    using Block = Block3d<A, R>;
    using Maps = PartialMaps<A, kMaps>;
    static constexpr bool kOverlaps = Block::staged && kHasAsyncCopies;
    static constexpr int kMargin = R + R % 2;  // columns before the tile: whole pairs
    static constexpr int kPairs = (Block::out_x + kMargin + R + 1) / 2;
    using PairSlots = Slots<A, R, kPairs, 2, kMargin>;
    using Stage = Planes<A, kMaps, Block::staged ? 2 * PairSlots::kAll : 2>;
    const SsimParams<A>& p;
    const Tile& tile;
    const PairSlots slots;
    // The slice that will be requested next.
    const typename Maps::First* first;
    const typename Maps::Second* second;

    __device__ __forceinline__ PartialSource(const SsimParams<A>& params, const Tile& at)
        : p(params), tile(at), slots(p, tile, p.maps, int(p.maps.h)) {}
    __device__ __forceinline__ void seek(int z) {
        const Maps maps(p, tile, 0, 0);
        first = maps.first(z);
        second = maps.second(z);
    }
    __device__ __forceinline__ static Column<A, 2> beyond() { return {}; }
    __device__ __forceinline__ int empty_slices() const { return p.crop_z(); }
    __device__ __forceinline__ void request(int, Stage& stage) {
#pragma unroll
        for (int i = 0; i < PairSlots::kCount; ++i)
            if (slots.is_valid(i)) {
                void* const rest = kMaps == 3
                                       ? static_cast<void*>(stage.last + 2 * PairSlots::index(i))
                                       : static_cast<void*>(stage.pairs[kMaps / 2 - 1] + 2 * PairSlots::index(i));
                copy_async<2 * sizeof(typename Maps::First)>(stage.pairs[0] + 2 * PairSlots::index(i),
                                                             first + slots.offset[i]);
                copy_async<2 * sizeof(typename Maps::Second)>(rest, second + slots.offset[i]);
            }
        first += p.maps.d;
        second += p.maps.d;
    }
    __device__ __forceinline__ void deliver(int z, Stage& stage) const {
        wait_for_copies();
        if (is_weighted()) weight(z, stage);
    }
    __device__ __forceinline__ bool is_weighted() const { return p.upstream == kUpstreamMap || p.mask.data; }
    // Multiplies the partials that this thread has copied by their weights.
    __device__ __forceinline__ void weight(int z, Stage& stage) const {
#pragma unroll 1
        for (int e = thread_again(); e < PairSlots::kAll; e += Block::threads) {
#pragma unroll 1
            for (int c = 0; c < 2; ++c) {
                const int row = PairSlots::row(tile, e), column = PairSlots::column(tile, e) + c;
                if (!p.in_map(row, column)) continue;
                A partials[1][kMaps];
                stage.get(2 * e + c, partials);
                weight_partials(p, tile, z, row, column, partials[0]);
                stage.put(2 * e + c, partials[0]);
            }
        }
    }
    __device__ __forceinline__ void read(int z, const Stage& stage, int row, int column, A (&out)[1][kMaps]) const {
        if constexpr (Block::staged) return stage.get(row * 2 * kPairs + column + (kMargin - R), out);
        // Not a matter of the border: partials of positions without a map element are zero whatever an image has beyond
        // it.
        const int y_at = tile.tile_y * Block::out_y - R + row, x_at = tile.tile_x * Block::out_x - R + column;
#pragma unroll
        for (int q = 0; q < kMaps; ++q) out[0][q] = A(0);
        if (!p.in_map(y_at, x_at)) return;
        const Maps maps(p, tile, y_at, x_at);
#pragma unroll
        for (int q = 0; q < kMaps; ++q) out[0][q] = q < 2 ? maps.first(z)->v[q] : maps.second(z)->v[q - 2];
        if (is_weighted()) weight_partials(p, tile, z, y_at, x_at, out[0]);
    }
};

}  // namespace fusedssim
