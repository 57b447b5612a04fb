// SPDX-License-Identifier: MIT
//
// A slice of a tile in shared memory, and its filters along y and x (ssim3d.cu).
#pragma once

#include "device.h"

namespace fusedssim {

// Q quantities of COUNT positions in shared memory: pairs of them, and the last of an odd number, in an array each. Threads
// that access neighbouring positions, one or two each, meet no bank conflicts.
template <class A, int Q, int COUNT>
struct alignas(16) Planes {
    static_assert(COUNT % 2 == 0, "every array is aligned for two positions at once");
    Column<A, 2> pairs[Q / 2][COUNT];
    A last[Q % 2 ? COUNT : 2];

    // N adjacent positions, from a multiple of N on.
    template <int N>
    __device__ __forceinline__ void get(int at, A (&out)[N][Q]) const {
#pragma unroll
        for (int k = 0; k < Q / 2; ++k) {
            A values[2 * N];
            Packed<A, 2 * N>::load(&pairs[k][at], values);
#pragma unroll
            for (int i = 0; i < 2 * N; ++i) out[i / 2][2 * k + i % 2] = values[i];
        }
        if constexpr (Q % 2 != 0) {
            A values[N];
            Packed<A, N>::load(&last[at], values);
#pragma unroll
            for (int i = 0; i < N; ++i) out[i][Q - 1] = values[i];
        }
    }
    __device__ __forceinline__ void put(int at, const A (&in)[Q]) {
#pragma unroll
        for (int k = 0; k < Q / 2; ++k) pairs[k][at] = {in[2 * k], in[2 * k + 1]};
        if constexpr (Q % 2 != 0) last[at] = in[Q - 1];
    }
    // Two adjacent positions, the first of which is even.
    __device__ __forceinline__ void put_two(int at, const A (&in)[2][Q]) {
#pragma unroll
        for (int k = 0; k < Q / 2; ++k) {
            const A values[4] = {in[0][2 * k], in[0][2 * k + 1], in[1][2 * k], in[1][2 * k + 1]};
            Packed<A, 4>::store(&pairs[k][at], values);
        }
        if constexpr (Q % 2 != 0) {
            const A values[2] = {in[0][Q - 1], in[1][Q - 1]};
            Packed<A, 2>::store(&last[at], values);
        }
    }
    __device__ __forceinline__ void clear() {
        auto* const all = reinterpret_cast<Column<A, 2>*>(pairs);
        for (int i = threadIdx.x; i < Q / 2 * COUNT; i += blockDim.x) all[i] = {};
        if constexpr (Q % 2 != 0)
            for (int i = threadIdx.x; i < COUNT; i += blockDim.x) last[i] = A(0);
    }
};

// A slice of a tile on its way through the filters along y and x. `expand` makes the Q quantities that are filtered of what
// a source delivers of an element.
template <class A, int R, int Q>
struct SliceFilter {
    using B = Block3d<A, R>;
    Planes<A, Q, B::ty * B::sx> along_y;

    // in(row, column, values): an element of the tile, counted from its first halo element.
    template <int N, class In, class Expand>
    __device__ __forceinline__ void filter_y(const A* taps, In in, Expand expand) {
        // Adjacent results along y that a thread computes: of more quantities fewer, for want of registers.
        constexpr int Y = !B::staged ? 1 : Q == 3 && B::cols == 2 ? 8 : 4;
        constexpr int kTasks = B::sx * (B::ty / Y);
#pragma unroll 1
        for (int first = 0; first < kTasks; first += B::threads) {
            const int e = first + thread_again();
            if (e >= kTasks) break;
            const int column = e % B::sx, row = e / B::sx * Y;
            A out[Y][Q];
#pragma unroll
            for (int k = 0; k < Y + 2 * R; ++k) {
                A read[1][N], all[Q];
                in(row + k, column, read);
                expand(read[0], all);
#pragma unroll
                for (int y = 0; y < Y; ++y) {
                    const int tap = k - y;
                    if (tap < 0 || tap > 2 * R) continue;
#pragma unroll
                    for (int q = 0; q < Q; ++q)
                        out[y][q] = tap ? taps[iabs(tap - R)] * all[q] + out[y][q] : taps[R] * all[q];
                }
            }
#pragma unroll
            for (int y = 0; y < Y; ++y) along_y.put((row + y) * B::sx + column, out[y]);
        }
    }
    // The quantities, filtered along y and x, at this thread's columns.
    __device__ __forceinline__ void filter_x(const A* taps, A (&out)[B::cols][Q]) const {
        constexpr int C = B::cols;
        const int first = threadIdx.x / (B::tx / C) * B::sx + threadIdx.x % (B::tx / C) * C;
#pragma unroll
        for (int e = 0; e < C + 2 * R; e += C) {
            A in[C][Q];
            along_y.get(first + e, in);
#pragma unroll
            for (int i = 0; i < C; ++i)
#pragma unroll
                for (int c = 0; c < C; ++c) {
                    const int tap = e + i - c;
                    if (tap < 0 || tap > 2 * R) continue;
#pragma unroll
                    for (int q = 0; q < Q; ++q)
                        out[c][q] = tap ? taps[iabs(tap - R)] * in[i][q] + out[c][q] : taps[R] * in[i][q];
                }
        }
    }
};

}  // namespace fusedssim
