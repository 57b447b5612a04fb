// SPDX-License-Identifier: MIT
//
// A slice of a tile in shared memory, and its filters along y and x (volume.h).
#pragma once

#include "device.h"

namespace fusedssim {

// Several quantities of kCount positions in shared memory. Quantities stand in pairs, and the last of an odd number
// alone: one array for each pair. So threads that access neighbouring positions, one or two each, have no bank
// conflicts.
template <class A, int kPairs, bool kHasLast, int kCount>
struct alignas(16) PlaneArrays {
    Column<A, 2> pairs[kPairs][kCount];
};
template <class A, int kPairs, int kCount>
struct alignas(16) PlaneArrays<A, kPairs, true, kCount> {
    Column<A, 2> pairs[kPairs][kCount];
    A last[kCount];
};
template <class A, int kQuantities, int kCount>
struct Planes : PlaneArrays<A, kQuantities / 2, kQuantities % 2 != 0, kCount> {
    static_assert(kCount % 2 == 0, "every array is aligned for two positions at once");
    using Arrays = PlaneArrays<A, kQuantities / 2, kQuantities % 2 != 0, kCount>;
    using Arrays::pairs;

    // kPositions adjacent positions; the first is a multiple of their number.
    template <int kPositions>
    __device__ __forceinline__ void get(int at, A (&out)[kPositions][kQuantities]) const {
#pragma unroll
        for (int k = 0; k < kQuantities / 2; ++k) {
            A values[2 * kPositions];
            Packed<A, 2 * kPositions>::load(&pairs[k][at], values);
#pragma unroll
            for (int i = 0; i < 2 * kPositions; ++i) out[i / 2][2 * k + i % 2] = values[i];
        }
        if constexpr (kQuantities % 2 != 0) {
            A values[kPositions];
            Packed<A, kPositions>::load(&this->last[at], values);
#pragma unroll
            for (int i = 0; i < kPositions; ++i) out[i][kQuantities - 1] = values[i];
        }
    }
    __device__ __forceinline__ void put(int at, const A (&in)[kQuantities]) {
#pragma unroll
        for (int k = 0; k < kQuantities / 2; ++k) pairs[k][at] = {in[2 * k], in[2 * k + 1]};
        if constexpr (kQuantities % 2 != 0) this->last[at] = in[kQuantities - 1];
    }
    // Two adjacent positions, the first of which is even.
    __device__ __forceinline__ void put_two(int at, const A (&in)[2][kQuantities]) {
#pragma unroll
        for (int k = 0; k < kQuantities / 2; ++k) {
            const A values[4] = {in[0][2 * k], in[0][2 * k + 1], in[1][2 * k], in[1][2 * k + 1]};
            Packed<A, 4>::store(&pairs[k][at], values);
        }
        if constexpr (kQuantities % 2 != 0) {
            const A values[2] = {in[0][kQuantities - 1], in[1][kQuantities - 1]};
            Packed<A, 2>::store(&this->last[at], values);
        }
    }
    // The first pair everywhere; 0 for all other quantities.
    __device__ __forceinline__ void fill(const Column<A, 2>& pair) {
        auto* const all = reinterpret_cast<Column<A, 2>*>(pairs);
        for (int i = threadIdx.x; i < kQuantities / 2 * kCount; i += blockDim.x)
            all[i] = i < kCount ? pair : Column<A, 2>{};
        if constexpr (kQuantities % 2 != 0)
            for (int i = threadIdx.x; i < kCount; i += blockDim.x) this->last[i] = A(0);
    }
};

// A slice of a tile on its way through the filters along y and x.
template <class A, int R, int kQuantities>
struct SliceFilter {
    using Block = Block3d<A, R>;
    Planes<A, kQuantities, Block::out_y * Block::in_x> along_y;

    // Filters a band along y. in(row, column, values) delivers the kValues numbers of an element, whose row and column
    // are counted from the first halo element of the tile and the band. expand(values, quantities) computes from them
    // what is to be filtered. size_of_edges: of the axis if its ends take the edge's taps, else 0. first_row: of the
    // tile's outputs.
    template <int kValues, class In, class Expand>
    __device__ __forceinline__ void filter_y(const AxisTaps<A>& axis, int size_of_edges, int first_row, int band, In in,
                                             Expand expand) {
        const A* const taps = axis.window;
        // Adjacent results along y that a thread computes. There are registers for 8 only if there are few quantities;
        // in a band there are few columns for all threads.
        constexpr int kRows = Block::bands > 1 ? 1 : kQuantities == 3 && Block::columns == 2 ? 8 : 4;
        constexpr int kTasks = Block::band_x * (Block::out_y / kRows);
        const int first_column = band * Block::band_x;
#pragma unroll 1
        for (int first = 0; first < kTasks; first += Block::threads) {
            const int e = first + thread_again();
            if (e >= kTasks) break;
            const int column = e % Block::band_x, row = e / Block::band_x * kRows;
            A out[kRows][kQuantities];
#pragma unroll
            for (int k = 0; k < kRows + 2 * R; ++k) {
                A read[1][kValues], all[kQuantities];
                in(row + k, column, read);
                expand(read[0], all);
#pragma unroll
                for (int y = 0; y < kRows; ++y) {
                    const int tap = k - y;
                    if (tap < 0 || tap > 2 * R) continue;
#pragma unroll
                    for (int q = 0; q < kQuantities; ++q)
                        out[y][q] = tap ? taps[iabs(tap - R)] * all[q] + out[y][q] : taps[R] * all[q];
                }
            }
#pragma unroll
            for (int y = 0; y < kRows; ++y) along_y.put((row + y) * Block::in_x + first_column + column, out[y]);
            if (!size_of_edges) continue;
            for (int y = row; y < row + kRows; ++y) {
                if (first_row + y != 0 && first_row + y != size_of_edges - 1) continue;
                A at_edge[kQuantities] = {};
                for (int k = 0; k <= 2 * R; ++k) {
                    A read[1][kValues], all[kQuantities];
                    in(y + k, column, read);
                    expand(read[0], all);
#pragma unroll
                    for (int q = 0; q < kQuantities; ++q) at_edge[q] = axis.edge[iabs(k - R)] * all[q] + at_edge[q];
                }
                along_y.put(y * Block::in_x + first_column + column, at_edge);
            }
        }
    }
    // Filters along x, and adds the result to the quantities of this thread's columns.
    __device__ __forceinline__ void filter_x(const A* taps, A (&out)[Block::columns][kQuantities]) const {
        constexpr int kColumns = Block::columns;
        const int first =
            threadIdx.x / (Block::out_x / kColumns) * Block::in_x + threadIdx.x % (Block::out_x / kColumns) * kColumns;
#pragma unroll
        for (int e = 0; e < kColumns + 2 * R; e += kColumns) {
            A in[kColumns][kQuantities];
            along_y.get(first + e, in);
#pragma unroll
            for (int i = 0; i < kColumns; ++i)
#pragma unroll
                for (int c = 0; c < kColumns; ++c) {
                    const int tap = e + i - c;
                    if (tap < 0 || tap > 2 * R) continue;
#pragma unroll
                    for (int q = 0; q < kQuantities; ++q) out[c][q] = taps[iabs(tap - R)] * in[i][q] + out[c][q];
                }
        }
    }
    // The results of filter_x() again, where a column is at an end of its row.
    __device__ __forceinline__ void filter_x_at_edges(const A* edge_taps, int size, int column,
                                                      A (&out)[Block::columns][kQuantities]) const {
        constexpr int kColumns = Block::columns;
        const int first =
            threadIdx.x / (Block::out_x / kColumns) * Block::in_x + threadIdx.x % (Block::out_x / kColumns) * kColumns;
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
            if (column + c != 0 && column + c != size - 1) continue;
#pragma unroll
            for (int q = 0; q < kQuantities; ++q) out[c][q] = A(0);
            // Rolled, as in strip_rows.h.
#pragma unroll 1
            for (int e = 0; e <= 2 * R; ++e) {
                A in[1][kQuantities];
                along_y.get(first + c + e, in);
#pragma unroll
                for (int q = 0; q < kQuantities; ++q) out[c][q] = edge_taps[iabs(e - R)] * in[0][q] + out[c][q];
            }
        }
    }
};

}  // namespace fusedssim
