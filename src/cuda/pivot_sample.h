// SPDX-License-Identifier: MIT
//
// Where a kernel's pivot comes from, and what is filtered with it (docs/derivation.md, "The pivot").
#pragma once

#include "device.h"

namespace fusedssim {

// What is filtered at an element, from s' and d': s', d', s'^2 + d'^2, d'^2. Under a mask that normalises, all of it
// times the weight m, and the weight itself.
template <bool kNormalized, class A, int kMoments>
__device__ __forceinline__ void expand(A s, A d, A m, A (&out)[kMoments]) {
    const A ms = kNormalized ? m * s : s, md = kNormalized ? m * d : d;
    out[0] = ms;
    out[1] = md;
    out[3] = md * d;
    out[2] = ms * s + out[3];
    if constexpr (kNormalized) out[kMoments - 1] = m;
}

// A pivot near the levels of s and d in a box of a plane: their mean over 32 elements, one for each lane of a warp, of
// numbers only, and of those that a mask leaves. If the largest of them is far from the mean, the pivot is 0: there is
// no level that would help, or a single huge element has spoiled the mean, and must not spoil windows that do not see
// it. All warps compute the same. The loads are under way from the constructor on; every thread of a warp must call
// pivot().
template <class T>
struct PivotSample {
    using A = arithmetic_t<T>;
    const SsimParams<A>& p;
    typename Elements<T>::Raw x, y;
    bool counts;

    // The box has `slices` slices, `rows` rows and `columns` columns from (z, row, column) on.
    // spot_of(column) is the Spot of that column.
    template <class SpotOf>
    __device__ __forceinline__ PivotSample(const SsimParams<A>& params, int z, int slices, int row, int rows,
                                           int column, int columns, SpotOf spot_of)
        : p(params) {
        // A lattice: each lane has a column, a row and a slice of its own.
        const auto within = [](unsigned i, int size) { return int((2 * i + 1) % 64 * (long long)size >> 6); };
        const unsigned lane = threadIdx.x % 32;
        const int z_at = z + within(lane * 13, slices), y_at = row + within(lane * 19, rows);
        const Spot at = spot_of(column + within(lane, columns));
        const int x_at = at.x;
        x = Cursor<T>(p.x, at.tile, z_at, y_at, x_at).load(0, 0, p.x_format);
        y = Cursor<T>(p.y, at.tile, z_at, y_at, x_at).load(0, 0, p.y_format);
        counts = weight_at(p, at.tile, z_at, y_at, x_at) != A(0);
    }
    __device__ __forceinline__ Pivot<A> pivot() const {
        const A x_value = Elements<T>::value(x, p.x_format), y_value = Elements<T>::value(y, p.y_format);
        A s = x_value + y_value, d = x_value - y_value;
        const bool is_number = counts && is_finite(s) && is_finite(d);
        s = is_number ? s : A(0);
        d = is_number ? d : A(0);
        A count = is_number ? A(1) : A(0), most_s = absolute(s), most_d = absolute(d);
#pragma unroll
        for (int lanes = 16; lanes; lanes /= 2) {
            s += __shfl_xor_sync(0xffffffffu, s, lanes);
            d += __shfl_xor_sync(0xffffffffu, d, lanes);
            count += __shfl_xor_sync(0xffffffffu, count, lanes);
        }
        largest_of_warp(most_s);
        largest_of_warp(most_d);
        const A u = count > A(0) ? reciprocal(count) : A(0);
        const A level_d = level(u * d, most_d);
        return {level(u * s, most_s), is_small_beside(level_d, p.stability.c2x2) ? A(0) : level_d};
    }
    __device__ __forceinline__ A level(A mean, A most) const {
        return absolute(mean) <= most && most <= A(4) * absolute(mean) ? p.pivot_share * mean : A(0);
    }
};

}  // namespace fusedssim
