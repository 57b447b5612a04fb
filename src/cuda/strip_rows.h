// SPDX-License-Identifier: MIT
//
// Rows of a strip in shared memory, and the filter along x (strip.h).
#pragma once

#include "device.h"

namespace fusedssim {

// kRows rows of at least kColumns columns, with kValues numbers in each column: moments, or partials. They are written
// column by column, and read by threads that each own a group of kGroup adjacent columns.
template <class A, int kRows, int kColumns, int kValues, int kGroup>
struct Rows {
    // The columns of one residue modulo kGroup stand side by side. The pitch from one residue to the next puts
    // neighbouring residues into different banks, for columns of 16 bytes.
    static constexpr int kGroups = (kColumns + kGroup - 1) / kGroup;
    static constexpr int kPitch = kGroups + (kGroup == 8 ? 1 - kGroups % 2 : (6 - kGroups % 4) % 4);
    // Numbers travel together in 16 bytes: so threads that access neighbouring columns have no bank conflicts. Three
    // floats take the space of four; a single number that is left has an array of its own.
    static constexpr int kTogether = kValues * int(sizeof(A)) <= 16 ? kValues : 16 / int(sizeof(A));
    static constexpr int kChunks = kValues / kTogether;
    static constexpr bool kHasLast = kValues % kTogether != 0;
    static_assert(kChunks * kTogether + kHasLast == kValues, "one number is left, or none");
    static constexpr int kAll = kGroup * kPitch;
    Column<A, kTogether> chunks[kChunks][kRows][kAll];
    A last[kHasLast ? kRows : 1][kHasLast ? kAll : 4];

    __device__ __forceinline__ static int place(int column) { return column % kGroup * kPitch + column / kGroup; }
    // The number of a column, where it stands.
    __device__ __forceinline__ A& value(int row, int column, int number) {
        if (kHasLast && number == kValues - 1) return last[row][place(column)];
        return kChunks == 1 ? chunks[0][row][place(column)].v[number]
                            : chunks[number / kTogether][row][place(column)].v[number % kTogether];
    }
    __device__ __forceinline__ Column<A, kValues> get_at(int row, int at) const {
        if constexpr (kChunks == 1 && !kHasLast) {
            return chunks[0][row][at];
        } else {
            Column<A, kValues> out;
#pragma unroll
            for (int i = 0; i < kChunks; ++i) {
                const Column<A, kTogether> chunk = chunks[i][row][at];
#pragma unroll
                for (int q = 0; q < kTogether; ++q) out.v[kTogether * i + q] = chunk.v[q];
            }
            if constexpr (kHasLast) out.v[kValues - 1] = last[row][at];
            return out;
        }
    }
    __device__ __forceinline__ void put_at(int row, int at, const Column<A, kValues>& from) {
        if constexpr (kChunks == 1 && !kHasLast) {
            chunks[0][row][at] = from;
        } else {
#pragma unroll
            for (int i = 0; i < kChunks; ++i) {
                Column<A, kTogether> chunk;
#pragma unroll
                for (int q = 0; q < kTogether; ++q) chunk.v[q] = from.v[kTogether * i + q];
                chunks[i][row][at] = chunk;
            }
            if constexpr (kHasLast) last[row][at] = from.v[kValues - 1];
        }
    }
    __device__ __forceinline__ Column<A, kValues> get(int row, int column) const { return get_at(row, place(column)); }
    __device__ __forceinline__ void put(int row, int column, const Column<A, kValues>& from) {
        put_at(row, place(column), from);
    }
    // `column` is a constant, counted from the first column of a group.
    __device__ __forceinline__ Column<A, kValues> get_in_group(int row, int group, int column) const {
        return get_at(row, group + place(column));
    }
    __device__ __forceinline__ void put_in_group(int row, int group, int column, const Column<A, kValues>& from) {
        put_at(row, group + place(column), from);
    }
    // Filters along x at the columns of a group, and adds the result to `out`. The window of its first column begins at
    // the group's first column.
    template <int R>
    __device__ __forceinline__ void filter(int row, int group, const A* taps, A (&out)[kGroup][kValues]) {
#pragma unroll
        for (int e = 0; e < kGroup + 2 * R; ++e) {
            const Column<A, kValues> in = get_in_group(row, group, e);
#pragma unroll
            for (int c = 0; c < kGroup; ++c) {
                const int k = e - c;
                if (k < 0 || k > 2 * R) continue;
#pragma unroll
                for (int q = 0; q < kValues; ++q) out[c][q] = taps[iabs(k - R)] * in.v[q] + out[c][q];
            }
        }
    }
    // The same at one column of a group, from the start.
    template <int R>
    __device__ __forceinline__ void filter_one(int row, int group, int c, const A* taps, A (&out)[kValues]) {
#pragma unroll
        for (int q = 0; q < kValues; ++q) out[q] = A(0);
        // Rolled: if this rare code is long, the compiler keeps the kernel's running sums in local memory around it.
#pragma unroll 1
        for (int e = 0; e <= 2 * R; ++e) {
            const Column<A, kValues> in = get_in_group(row, group, e + c);
#pragma unroll
            for (int q = 0; q < kValues; ++q) out[q] = taps[iabs(e - R)] * in.v[q] + out[q];
        }
    }
};

}  // namespace fusedssim
