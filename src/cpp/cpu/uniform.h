// SPDX-License-Identifier: MIT
//
// Filters of windows whose taps are all equal: sums, of which windows beside each other share parts, and one
// multiplication. They are those of filters.h otherwise.
#pragma once

#include "cpu/filters.h"

namespace fusedssim::cpu::FUSEDSSIM_ISA {

// The radius that they are compiled for: that of seven taps, scikit-image's window.
constexpr int kUniformRadius = 3;

template <class A>
FUSEDSSIM_MATH bool is_uniform(const A* taps, int radius) {
    for (int k = 1; k <= radius; ++k)
        if (taps[k] != taps[0]) return false;
    return radius == kUniformRadius;
}

// filter_input().
template <class A>
__attribute__((noinline)) void filter_uniform_input(const InputRows<A>& rows, A tap, const Pivot<A>& pivot,
                                                    A* const* out, std::int64_t pitch, int first, int last) {
    using Vectors = Simd<A>;
    using Vec = typename Vectors::Vec;
    constexpr int r = kUniformRadius, kLast = kSlices - 1;
    static_assert(2 * r > kLast, "all slices see some row");
    const ImagePivots<A> level(pivot);
    const Vec s_x = Vec{} + level.s_x, s_y = Vec{} + level.s_y, d_x = Vec{} + level.d_x, d_y = Vec{} + level.d_y;
    const auto filter_one = [&](std::int64_t i, int q, auto combine) __attribute__((always_inline)) {
        struct Sums {
            Vec v, square;
        };
        const auto row = [&](int k) __attribute__((always_inline)) {
            const Vec v = combine(Vectors::load(rows.x[k] + i), Vectors::load(rows.y[k] + i));
            return Sums{v, v * v};
        };
        const auto add = [](Sums& to, const Sums& more) __attribute__((always_inline)) {
            to.v += more.v;
            to.square += more.square;
        };
        const auto store = [&](int slice, const Sums& sums) __attribute__((always_inline)) {
            Vectors::store(out[slice] + q * pitch + i, tap * sums.v);
            Vectors::store(out[slice] + (2 + q) * pitch + i, tap * sums.square);
        };
        // The rows that all slices see; those before, which the first slices see; and those behind.
        Sums shared = row(kLast), before[kSlices], behind = row(2 * r + 1);
        FUSEDSSIM_UNROLL
        for (int k = kLast + 1; k <= 2 * r; ++k) add(shared, row(k));
        before[kLast - 1] = row(kLast - 1);
        FUSEDSSIM_UNROLL
        for (int slice = kLast - 2; slice >= 0; --slice) {
            before[slice] = row(slice);
            add(before[slice], before[slice + 1]);
        }
        add(before[0], shared);
        store(0, before[0]);
        FUSEDSSIM_UNROLL
        for (int slice = 1; slice < kLast; ++slice) {
            add(before[slice], behind);
            add(before[slice], shared);
            store(slice, before[slice]);
            add(behind, row(2 * r + 1 + slice));
        }
        add(shared, behind);
        store(kLast, shared);
    };
    for (std::int64_t i = first; i < last; i += Vectors::lanes) {
        if (i + Vectors::lanes > last) i = last - Vectors::lanes;
        filter_one(i, 0, [=](Vec x, Vec y) __attribute__((always_inline)) { return (x - s_x) + (y - s_y); });
        filter_one(i, 1, [=](Vec x, Vec y) __attribute__((always_inline)) { return (x - d_x) - (y - d_y); });
    }
}

// filter_along_row(), where loads that cross cache lines are what costs. It reads a vector more.
template <int kQuantities, class A>
__attribute__((noinline)) void filter_uniform_along_row(const A* in, A tap, const A* begin, A* out, std::int64_t pitch,
                                                        int n) {
    using Vectors = Simd<A>;
    using Vec = typename Vectors::Vec;
    static_assert(kUniformRadius == 3 && 6 <= Vectors::lanes, "seven taps, in two vectors");
    Vec start[kQuantities], v[kQuantities][2], pairs[kQuantities];
    const auto pairs_of = [](const Vec* of) __attribute__((always_inline)) { return of[0] + shifted_from<A, 1>(of); };
    for (int q = 0; q < kQuantities; ++q) {
        start[q] = Vec{} + begin[q];
        for (int k = 0; k < 2; ++k) v[q][k] = Vectors::load(in + planar(q, k * Vectors::lanes));
        pairs[q] = pairs_of(v[q]);
    }
    for (std::int64_t i = 0; i < n; i += Vectors::lanes)
        for (int q = 0; q < kQuantities; ++q) {
            const Vec next[2] = {v[q][1], Vectors::load(in + planar(q, i + 2 * Vectors::lanes))};
            const Vec both[2] = {pairs[q], pairs_of(next)};
            const Vec sum =
                (both[0] + shifted_from<A, 2>(both)) + (shifted_from<A, 4>(both) + shifted_from<A, 6>(v[q]));
            Vectors::store(out + q * pitch + i, start[q] + tap * sum);
            v[q][0] = next[0];
            v[q][1] = next[1];
            pairs[q] = both[1];
        }
}

}  // namespace fusedssim::cpu::FUSEDSSIM_ISA
