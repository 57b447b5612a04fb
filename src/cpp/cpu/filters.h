// SPDX-License-Identifier: MIT
//
// Vectors, the layout of rows, and the separable filters of the CPU kernels.
//
// This header, rows.h and walker.h belong to kernels.cpp, which is compiled once for each instruction set. All that they
// define stands in a namespace that FUSEDSSIM_ISA names: no two of these have a symbol in common, of which the linker
// would keep one copy, with instructions that another processor lacks. For the same reason they use no std templates.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/ssim_math.h"
#include "core/view.h"
#include "cpu/kernels.h"

namespace fusedssim::cpu::FUSEDSSIM_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// GCC has a limit to the size of what it unrolls by itself.
#if defined(__clang__)
#define FUSEDSSIM_UNROLL
#else
#define FUSEDSSIM_UNROLL _Pragma("GCC unroll 8")
#endif

constexpr int kCacheLine = 64;
constexpr int kMaxTaps = 2 * kMaxRadius + 1;

template <class A>
struct Simd {
    typedef A Vec __attribute__((vector_size(kVectorBytes)));
    static constexpr int lanes = kVectorBytes / sizeof(A);

    static FUSEDSSIM_MATH Vec load(const A* p) {
        Vec v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
    static FUSEDSSIM_MATH void store(A* p, Vec v) { std::memcpy(p, &v, sizeof v); }
    static FUSEDSSIM_MATH int round_up(int n) { return (n + lanes - 1) / lanes * lanes; }
};

// Row buffers are planar: each quantity has a row of its own. This is the length of one: the widest tile, the halos of two
// filters, and the rounding up of both to vectors.
constexpr int kRowPitch = kMaxTileColumns + 4 * kMaxRadius + 2 * kCacheLine / int(sizeof(float));

// Slices of partials are interleaved: a vector of each quantity in turn, so that a filter over 2r + 1 slices reads 2r + 1
// streams of memory at constant offsets.

// Where vector i / lanes of quantity q stands in a planar and in an interleaved row of Q quantities.
template <class A>
constexpr std::int64_t planar(int q, std::int64_t i) {
    return q * std::int64_t(kRowPitch) + i;
}
template <int Q, class A>
constexpr std::int64_t interleaved(int q, std::int64_t i) {
    return i * Q + q * Simd<A>::lanes;
}
enum Layout { kPlanar, kInterleaved };
template <Layout L, int Q, class A>
constexpr std::int64_t place(int q, std::int64_t i) {
    return L == kPlanar ? planar<A>(q, i) : interleaved<Q, A>(q, i);
}

// The filters compute whole vectors. With R > 0 the radius is known to the compiler, which unrolls all of it and keeps the
// taps in registers; with R = 0 it is `radius`.
//
// All sum from the outermost pair of taps inwards, small terms first: half the rounding error of the other order, which
// shows in the variance of flat images. With fused multiply-add a tap is one instruction that takes its operand from
// memory; without, a pair is added before its tap multiplies it, which saves a multiplication.
#if defined(__FMA__)
constexpr bool kFusedMultiplyAdd = true;
#else
constexpr bool kFusedMultiplyAdd = false;
#endif

template <int R, class A>
struct Taps {
    using S = Simd<A>;
    using Vec = typename S::Vec;
    Vec at[(R ? R : kMaxRadius) + 1];  // from the centre outwards
    FUSEDSSIM_MATH Taps(const A* taps, int radius) {
        for (int k = 0; k <= (R ? R : radius); ++k) at[k] = Vec{} + taps[k];
    }
    // sum += tap k * (a + b)
    FUSEDSSIM_MATH void add_pair(Vec& sum, int k, const A* a, const A* b) const {
        if (kFusedMultiplyAdd) {
            sum += at[k] * S::load(a);
            sum += at[k] * S::load(b);
        } else {
            sum += at[k] * (S::load(a) + S::load(b));
        }
    }
};

// Rows of the images: the 2r + 1 of a slice's window, and one more for the slice after it.
template <class A>
struct InputRows {
    const A *x[kMaxTaps + 1], *y[kMaxTaps + 1], *mask[kMaxTaps + 1];  // mask: where it is normalised
};

// The filter along the walk, for two slices at once, which share all rows but two: from n elements of 2r + 2 rows of the
// images to planar G*s, G*d, G*s^2 and G*d^2. n is at least a vector; the last one overlaps the one before it.
template <int R, class A>
__attribute__((noinline)) void filter_input(const InputRows<A>& rows, const A* taps, int radius, A* out, A* out_after,
                                            int n) {
    using S = Simd<A>;
    using Vec = typename S::Vec;
    const Taps<R, A> tap(taps, radius);
    const int r = R ? R : radius;
    const A *x[R ? 2 * R + 2 : kMaxTaps + 1], *y[R ? 2 * R + 2 : kMaxTaps + 1];
    for (int k = 0; k <= 2 * r + 1; ++k) {
        x[k] = rows.x[k];
        y[k] = rows.y[k];
    }
    for (std::int64_t i = 0; i < n; i += S::lanes) {
        if (i + S::lanes > n) i = n - S::lanes;
        Vec sum[4] = {}, after[4] = {};
        const auto add_row = [&](int k) __attribute__((always_inline)) {
            const Vec in_x = S::load(x[k] + i), in_y = S::load(y[k] + i);
            const Vec s = in_x + in_y, d = in_x - in_y;
            const Vec v[4] = {s, d, s * s, d * d};
            for (int q = 0; q < 4; ++q) {
                if (k <= 2 * r) sum[q] += tap.at[k < r ? r - k : k - r] * v[q];
                if (k >= 1) after[q] += tap.at[k - 1 < r ? r - k + 1 : k - 1 - r] * v[q];
            }
        };
        FUSEDSSIM_UNROLL
        for (int k = 0; k <= r; ++k) {
            add_row(k);
            add_row(2 * r + 1 - k);
        }
        for (int q = 0; q < 4; ++q) {
            S::store(out + planar<A>(q, i), sum[q]);
            S::store(out_after + planar<A>(q, i), after[q]);
        }
    }
}

// The same for one slice of images under a mask m: G*(m s), G*(m d), G*(m s^2), G*(m d^2) and G*m.
template <class A>
__attribute__((noinline)) void filter_masked_input(const A* const* in_x, const A* const* in_y, const A* const* in_mask,
                                                   const A* taps, int r, A* out, int n) {
    using S = Simd<A>;
    using Vec = typename S::Vec;
    for (std::int64_t i = 0; i < n; i += S::lanes) {
        if (i + S::lanes > n) i = n - S::lanes;
        Vec sum[5] = {};
        for (int k = r; k >= 0; --k)
            for (int side = k ? -1 : 1; side <= 1; side += 2) {
                const int row = r + side * k;
                const Vec x = S::load(in_x[row] + i), y = S::load(in_y[row] + i), s = x + y, d = x - y;
                const Vec weight = taps[k] * S::load(in_mask[row] + i), of_s = weight * s, of_d = weight * d;
                sum[0] += of_s;
                sum[1] += of_d;
                sum[2] += of_s * s;
                sum[3] += of_d * d;
                sum[4] += weight;
            }
        for (int q = 0; q < 5; ++q) S::store(out + planar<A>(q, i), sum[q]);
    }
}

// Filters Q planar rows along x into one row; n results, and what is up to the next multiple of a vector's length.
template <int R, int Q, Layout Out, class A>
__attribute__((noinline)) void filter_along_row(const A* in, const A* taps, int radius, A* out, int n) {
    using S = Simd<A>;
    const Taps<R, A> tap(taps, radius);
    const int r = R ? R : radius;
    for (std::int64_t i = 0; i < n; i += S::lanes)
        for (int q = 0; q < Q; ++q) {
            const A* centre = in + planar<A>(q, i + r);
            typename S::Vec sum = {};
            for (int k = r; k > 0; --k) tap.add_pair(sum, k, centre - k, centre + k);
            S::store(out + place<Out, Q, A>(q, i), sum + tap.at[0] * S::load(centre));
        }
}

// Filters across 2r + 1 rows of Q quantities into one row; n as above.
template <int R, int Q, Layout In, Layout Out, class A>
__attribute__((noinline)) void filter_across_rows(const A* const* rows, const A* taps, int radius, A* out, int n) {
    using S = Simd<A>;
    const Taps<R, A> tap(taps, radius);
    const int r = R ? R : radius;
    if (r < 0) __builtin_unreachable();  // which the static analyzer does not know
    const A* row[R ? 2 * R + 1 : kMaxTaps];
    for (int k = 0; k <= 2 * r; ++k) row[k] = rows[k];
    for (std::int64_t i = 0; i < n; i += S::lanes) {
        typename S::Vec sum[Q] = {};
        for (int k = r; k > 0; --k)
            for (int q = 0; q < Q; ++q) {
                const std::int64_t at = place<In, Q, A>(q, i);
                tap.add_pair(sum[q], k, row[r - k] + at, row[r + k] + at);
            }
        for (int q = 0; q < Q; ++q) {
            sum[q] += tap.at[0] * S::load(row[r] + place<In, Q, A>(q, i));
            S::store(out + place<Out, Q, A>(q, i), sum[q]);
        }
    }
}

// Rows of the images, and of the gradients by x and y: of the 2r + 2 slices around two slices of partials.
template <class A>
struct GradientRows {
    const A *x[kMaxTaps + 1], *y[kMaxTaps + 1];
    A* to[2][kMaxTaps + 1];
};

// The filter along the walk, transposed: adds what n elements of the filtered partials of two slices, planar, give to the
// gradients around them. The last two slices of these had nothing: their memory is not read. n is at least a vector; the
// first one computed overlaps the one before it in the row, for whose elements it adds zeros.
template <int R, int G, class A>
__attribute__((noinline)) void add_partials(const A* partials, const A* partials_after, const GradientRows<A>& rows,
                                            const A* taps, int radius, int n) {
    using S = Simd<A>;
    using Vec = typename S::Vec;
    constexpr int kMaps = filtered_maps(G);
    const Taps<R, A> tap(taps, radius);
    const int r = R ? R : radius;
    const auto add_vector = [&](std::int64_t i, Vec weight, bool is_weighted) __attribute__((always_inline)) {
        Vec first[kMaps], after[kMaps];
        for (int q = 0; q < kMaps; ++q) {
            first[q] = S::load(partials + planar<A>(q, i));
            after[q] = S::load(partials_after + planar<A>(q, i));
            if (is_weighted) first[q] *= weight;
            if (is_weighted) after[q] *= weight;
        }
        const auto add_to_row = [&](int k) __attribute__((always_inline)) {
            Vec maps[kMaps], by_x, by_y;
            for (int q = 0; q < kMaps; ++q) {
                if (k > 2 * r)
                    maps[q] = tap.at[r] * after[q];
                else if (k == 0)
                    maps[q] = tap.at[r] * first[q];
                else
                    maps[q] = tap.at[k < r ? r - k : k - r] * first[q] + tap.at[k - 1 < r ? r - k + 1 : k - 1 - r] * after[q];
            }
            unpack_gradient<G>(maps, S::load(rows.x[k] + i), S::load(rows.y[k] + i), by_x, by_y);
            A* const to_x = rows.to[0][k] + i;
            S::store(to_x, k < 2 * r ? S::load(to_x) + by_x : by_x);
            if constexpr (G == 2) {
                A* const to_y = rows.to[1][k] + i;
                S::store(to_y, k < 2 * r ? S::load(to_y) + by_y : by_y);
            }
        };
        FUSEDSSIM_UNROLL
        for (int k = 0; k <= r; ++k) {
            add_to_row(k);
            add_to_row(2 * r + 1 - k);
        }
    };
    const int rest = n % S::lanes;
    if (rest) {
        A weight[S::lanes];
        for (int i = 0; i < S::lanes; ++i) weight[i] = i < S::lanes - rest ? A(0) : A(1);
        add_vector(n - S::lanes, S::load(weight), true);
    }
    for (std::int64_t i = 0; i < n - rest; i += S::lanes) add_vector(i, Vec{}, false);
}

}  // namespace fusedssim::cpu::FUSEDSSIM_ISA
