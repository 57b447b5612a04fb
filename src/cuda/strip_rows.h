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
    Column<A, kValues> columns[kRows][kGroup * kPitch];

    __device__ __forceinline__ Column<A, kValues>& at(int row, int column) {
        return columns[row][column % kGroup * kPitch + column / kGroup];
    }
    // `column` is a constant, counted from the first column of a group.
    __device__ __forceinline__ Column<A, kValues>& in_group(int row, int group, int column) {
        return columns[row][group + column % kGroup * kPitch + column / kGroup];
    }
    // Filters along x at the columns of a group, and adds the result to `out`. The window of its first column begins at
    // the group's first column.
    template <int R>
    __device__ __forceinline__ void filter(int row, int group, const A* taps, A (&out)[kGroup][kValues]) {
#pragma unroll
        for (int e = 0; e < kGroup + 2 * R; ++e) {
            const Column<A, kValues> in = in_group(row, group, e);
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
            const Column<A, kValues> in = in_group(row, group, e + c);
#pragma unroll
            for (int q = 0; q < kValues; ++q) out[q] = taps[iabs(e - R)] * in.v[q] + out[q];
        }
    }
};

}  // namespace fusedssim
