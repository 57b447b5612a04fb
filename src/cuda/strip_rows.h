// SPDX-License-Identifier: MIT
//
// Rows of a strip in shared memory, and the filter along x (ssim2d.cu).
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
    // Five numbers do not travel together: the fifth has an array of its own.
    static constexpr bool kHasFifth = kValues == 5;
    using Together = Column<A, kHasFifth ? 4 : kValues>;
    Together columns[kRows][kGroup * kPitch];
    A fifth[kHasFifth ? kRows : 1][kHasFifth ? kGroup * kPitch : 4];

    __device__ __forceinline__ static int place(int column) { return column % kGroup * kPitch + column / kGroup; }
    __device__ __forceinline__ Together& at(int row, int column) { return columns[row][place(column)]; }
    // `column` is a constant, counted from the first column of a group.
    __device__ __forceinline__ Together& in_group(int row, int group, int column) {
        return columns[row][group + place(column)];
    }
    __device__ __forceinline__ void put(int row, int column, const Column<A, kValues>& from) {
        if constexpr (kHasFifth) {
            at(row, column) = {from.v[0], from.v[1], from.v[2], from.v[3]};
            fifth[row][place(column)] = from.v[4];
        } else {
            at(row, column) = from;
        }
    }
    __device__ __forceinline__ Column<A, kValues> get_in_group(int row, int group, int column) {
        if constexpr (kHasFifth) {
            const Together in = in_group(row, group, column);
            return {in.v[0], in.v[1], in.v[2], in.v[3], fifth[row][group + place(column)]};
        } else {
            return in_group(row, group, column);
        }
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
#pragma unroll 1
        for (int e = 0; e <= 2 * R; ++e) {
            const Column<A, kValues> in = get_in_group(row, group, e + c);
#pragma unroll
            for (int q = 0; q < kValues; ++q) out[q] = taps[iabs(e - R)] * in.v[q] + out[q];
        }
    }
};

}  // namespace fusedssim
