// SPDX-License-Identifier: MIT
//
// Operations of the CPU kernels on one row, besides the filters: loops over plain arrays, which compilers vectorise. A
// step of 1 is a case of its own where that makes it possible.
#pragma once

#include "core/dtype.h"
#include "cpu/filters.h"

namespace fusedssim::cpu::FUSEDSSIM_ISA {

template <class A>
FUSEDSSIM_MATH void clear(A* p, std::int64_t n) {
    std::memset(p, 0, std::size_t(n) * sizeof(A));
}

// The sum of v[0, n), in an order that depends on n alone.
template <class A>
double ordered_sum(const A* v, int n) {
    using Vectors = Simd<A>;
    typename Vectors::Vec lanes = {};
    int i = 0;
    for (; i + Vectors::lanes <= n; i += Vectors::lanes) lanes += Vectors::load(v + i);
    double sum = 0;
    for (int k = 0; k < Vectors::lanes; ++k) sum += double(lanes[k]);
    for (; i < n; ++i) sum += double(v[i]);
    return sum;
}

// An element of an image in the type of the arithmetic. Only integers have a scale.
template <class A, class T>
FUSEDSSIM_MATH A element_value(T v, A) {
    return A(to_float(v));
}
template <class A>
FUSEDSSIM_MATH A element_value(std::uint8_t v, A scale) {
    return A(int(v)) * scale;
}
template <class A>
FUSEDSSIM_MATH A element_value(std::uint16_t v, A scale) {
    return A(int(v)) * scale;
}
template <class A>
FUSEDSSIM_MATH A element_value(std::int16_t v, A scale) {
    return A(int(v)) * scale;
}

// n elements of an image. Steps of 3 and 4 are those of images with the channels last.
template <class T, class A>
void convert_row(const T* __restrict in, std::int64_t step, int n, A scale, A* __restrict out) {
    switch (step) {
        case 1:
            for (int i = 0; i < n; ++i) out[i] = element_value(in[i], scale);
            break;
        case 3:
            for (int i = 0; i < n; ++i) out[i] = element_value(in[i * 3], scale);
            break;
        case 4:
            for (int i = 0; i < n; ++i) out[i] = element_value(in[i * 4], scale);
            break;
        default:
            for (int i = 0; i < n; ++i) out[i] = element_value(in[i * step], scale);
    }
}

// n elements of a mask.
template <class A>
void mask_row(const void* __restrict in, bool is_bool, std::int64_t step, int n, A* __restrict out) {
    if (is_bool) {
        const auto* bytes = static_cast<const unsigned char*>(in);
        if (step == 1)
            for (int i = 0; i < n; ++i) out[i] = bytes[i] ? A(1) : A(0);
        else
            for (int i = 0; i < n; ++i) out[i] = bytes[i * step] ? A(1) : A(0);
    } else {
        convert_row(static_cast<const A*>(in), step, n, A(1), out);
    }
}

// Whether some weight is negative, NaN or infinite.
template <class A>
bool has_bad_weight(const A* __restrict mask, int n) {
    int bad = 0;
    for (int i = 0; i < n; ++i) bad |= int(!(mask[i] >= A(0))) | int(!is_finite(mask[i]));
    return bad != 0;
}

// Elements that a mask excludes become 0, even infinite ones and NaN.
template <class A>
void exclude(const A* __restrict mask, int n, A* __restrict v) {
    for (int i = 0; i < n; ++i) v[i] = mask[i] != A(0) ? v[i] : A(0);
}
template <class A>
void multiply(const A* __restrict by, int n, A* __restrict v, A excluded = A(0)) {
    for (int i = 0; i < n; ++i) v[i] = by[i] != A(0) ? v[i] * by[i] : excluded;
}

template <class T>
void prefetch_row(const T* row, int n) {
    for (int i = 0; i < n; i += kCacheLine / int(sizeof(T))) __builtin_prefetch(row + i);
}

// |x - y| of n elements.
template <class A>
void l1_row(const A* __restrict x, const A* __restrict y, int n, A* __restrict out) {
    for (int i = 0; i < n; ++i) {
        const A d = x[i] - y[i];
        out[i] = d < A(0) ? -d : d;
    }
}

// What pointwise() needs besides the moments.
template <class A>
struct PointwiseSettings {
    Pivot<A> statistics;
    Pivot<A> to_gradient;  // what takes a level from the pivot of the statistics to that of the gradient
    A of_variances;        // see dssim_and_partials()
};

// DSSIM, and the partials in the order in which they are filtered, from planar moments: sums of s', d', s'^2 and d'^2.
// The third has 2 C2, too. With kNormalized the windows are still to be normalised by the fifth quantity, their mass,
// which becomes its reciprocal; and the third has no 2 C2. With kExact `of_variances` is 1.
template <int G, bool kNormalized, bool kExact, class A>
__attribute__((noinline)) void pointwise(A* __restrict moments, const PointwiseSettings<A>& settings, Stability<A> c,
                                         int n, A* __restrict dssim, A* __restrict partials) {
    const Pivot<A> pivot = settings.statistics, to_gradient = settings.to_gradient;
    const A of_variances = kExact ? A(1) : settings.of_variances;
    for (int i = 0; i < n; ++i) {
        Moments<A> m = {moments[planar(0, i)], moments[planar(1, i)], moments[planar(2, i)] + moments[planar(3, i)],
                        moments[planar(3, i)]};
        if constexpr (kNormalized) moments[planar(4, i)] = normalize(m, moments[planar(4, i)], c.c2x2);
        if constexpr (G == 0) {
            dssim[i] = fusedssim::dssim<A>(m, pivot, c);
        } else {
            A maps[4];
            dssim[i] = dssim_and_partials<G>(m, pivot, c, A(1), m.m_s + to_gradient.s, m.m_d + to_gradient.d, maps,
                                             of_variances);
            partials[planar(0, i)] = maps[0];
            partials[planar(1, i)] = maps[1];
            partials[planar(2, i)] = maps[2];
            if (G == 2) partials[planar(3, i)] = maps[3];
        }
    }
}

// The gradient of |x - y| by x, times a factor.
template <class A>
void l1_gradient_row(const A* __restrict x, const A* __restrict y, A factor, int n, A* __restrict out) {
    for (int i = 0; i < n; ++i) out[i] = l1_derivative(factor, x[i] - y[i]);
}
template <class A>
void add(const A* __restrict more, A sign, int n, A* __restrict sum) {
    for (int i = 0; i < n; ++i) sum[i] += sign * more[i];
}
// Adds the gradient of its block to that of each of n elements of a row of `size`, from `first` on.
template <class A>
void hand_down(const A* __restrict coarse, int first, int size, A factor, int n, A* __restrict grad) {
    for (int i = 0; i < n; ++i) grad[i] += factor * coarse[block_of(first + i, size)];
}
// The elements of the map, or of a part of it; see map_value().
template <class A>
void map_row(bool is_loss, A ssim_weight, A l1_weight, const A* __restrict one, const A* __restrict dssim,
             const A* __restrict l1, int n, A* __restrict out) {
    for (int i = 0; i < n; ++i) out[i] = map_value(is_loss, ssim_weight, l1_weight, one[i], dssim[i], l1[i]);
}
// The same of SSIM without a mask.
template <class A>
void ssim_row(const A* __restrict dssim, int n, A* __restrict out) {
    for (int i = 0; i < n; ++i) out[i] = ssim_from_dssim(dssim[i]);
}
template <class T, class A>
void store_row(const A* __restrict row, int n, T* __restrict out, std::int64_t step) {
    if (step == 1)
        for (int i = 0; i < n; ++i) from_float(arithmetic_t<T>(row[i]), out[i]);
    else
        for (int i = 0; i < n; ++i) from_float(arithmetic_t<T>(row[i]), out[i * step]);
}

}  // namespace fusedssim::cpu::FUSEDSSIM_ISA
