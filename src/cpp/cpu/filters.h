// SPDX-License-Identifier: MIT
//
// Vectors, the layout of rows, and the separable filters of the CPU kernels.
//
// This header, rows.h, tile.h and walker.h belong to kernels.cpp, which is compiled once for each instruction set.
// Everything in them is in a namespace of that instruction set. Otherwise the linker would merge the copies of a
// function, and keep one whose instructions another processor may lack. For the same reason they use no std templates.
// The test cpu.kernel_symbols checks both.
#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

#include "core/ssim_math.h"
#include "core/window.h"
#include "cpu/features.h"
#include "cpu/kernels.h"

namespace fusedssim::cpu::FUSEDSSIM_ISA {

// The length of vectors, and the features that the kernels require: what the compiler has been told that it may use.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr unsigned kRequired = kAvx512 | kAvx2;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr unsigned kRequired = kAvx2;
#else
constexpr int kVectorBytes = 16;
constexpr unsigned kRequired = 0;
#endif

// GCC has a limit to the size of what it unrolls by itself.
#if defined(__clang__)
#define FUSEDSSIM_UNROLL
#else
#define FUSEDSSIM_UNROLL _Pragma("GCC unroll 8")
#endif

constexpr int kCacheLine = 64;
constexpr int kMaxTaps = 2 * kMaxRadius + 1;

// kSlices slices are computed at once: the filters along the walk load most rows once for all of them. In a volume,
// kRows rows of one slice come before those of the next, so that a slice's rings of rows stay in the first-level cache.
constexpr int kSlices = 4;
constexpr int kRows = 4;
constexpr int kMaxWindow = kMaxTaps + kSlices - 1;

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
    static FUSEDSSIM_MATH int at_least_one(int n) { return n < lanes ? lanes : n; }
};

// A load of a 64-byte vector crosses a cache line unless its address is a multiple of 64, and then costs two loads.
// Loads would set the pace, so some shifted vectors are made from registers instead.
constexpr bool kSplitsLines = kVectorBytes == kCacheLine;
#if defined(__AVX512F__)
// The vector that begins with element I of `low`, and goes on with `high`.
template <int I>
FUSEDSSIM_MATH Simd<float>::Vec shifted(Simd<float>::Vec low, Simd<float>::Vec high) {
    // With a mask, of all elements: without one GCC's header gives rise to a warning.
    return Simd<float>::Vec(_mm512_maskz_alignr_epi32(__mmask16(0xffff), __m512i(high), __m512i(low), I));
}
template <int I>
FUSEDSSIM_MATH Simd<double>::Vec shifted(Simd<double>::Vec low, Simd<double>::Vec high) {
    return Simd<double>::Vec(_mm512_maskz_alignr_epi64(__mmask8(0xff), __m512i(high), __m512i(low), I));
}
#else
template <int I, class V>
V shifted(V low, V high);  // not called
#endif
// The vector that begins with element I of vectors that follow each other.
template <class A, int I>
FUSEDSSIM_MATH typename Simd<A>::Vec shifted_from(const typename Simd<A>::Vec* v) {
    constexpr int kLanes = Simd<A>::lanes;
    if constexpr (I % kLanes == 0)
        return v[I / kLanes];
    else
        return shifted<I % kLanes>(v[I / kLanes], v[I / kLanes + 1]);
}

// The statistics of a tile are cut into two strips if they have more columns than this (pivots.h).
constexpr int kStripColumns = 64, kMaxStrips = 2;

// Row buffers are planar: each quantity has a row of its own. The length of one has room for the widest tile, the halos
// of two filters, the rounding up of both to vectors, and the gaps between strips.
constexpr int kRowRoom =
    kMaxTileColumns + 4 * kMaxRadius + 2 * kCacheLine / int(sizeof(float)) + (kMaxStrips - 1) * 4 * kMaxRadius;
// And some more: so that no row begins a little above another one modulo 4096 bytes, where processors take a load for
// one of what was stored in the other.
constexpr int kRowPitch = kRowRoom + 64;

// Where element i of quantity q of a planar row stands.
constexpr std::int64_t planar(int q, std::int64_t i) { return q * std::int64_t(kRowPitch) + i; }

// The filters compute whole vectors. With R > 0 the radius is known to the compiler, which unrolls all of it and keeps
// the taps in registers: that takes half the time. With R = 0 it is `radius`. for_radius() picks one of those that the
// compiler gets to know: in builds for sanitizers one, since these take long to compile.
//
// All sum from the outermost pair of taps inwards, small terms first. That halves the rounding error, which shows in
// the variance of flat images. With fused multiply-add a tap is one instruction that takes its operand from memory;
// without, a pair is added before its tap multiplies it, which saves a multiplication.
#if defined(__FMA__)
constexpr bool kFusedMultiplyAdd = true;
#else
constexpr bool kFusedMultiplyAdd = false;
#endif

template <int R>
struct Radius {
    static constexpr int value = R;
};
template <class F>
FUSEDSSIM_MATH void for_radius(int radius, F&& f) {
    switch (radius) {
#if !defined(FUSEDSSIM_FEW_RADII)
        case 1: return f(Radius<1>());
        case 2: return f(Radius<2>());
        case 3: return f(Radius<3>());
        case 4: return f(Radius<4>());
        case 6: return f(Radius<6>());
#endif
        case 5: return f(Radius<5>());
        default: return f(Radius<0>());
    }
}

template <int R, class A>
struct Taps {
    using Vectors = Simd<A>;
    using Vec = typename Vectors::Vec;
    Vec at[(R ? R : kMaxRadius) + 1];  // from the centre outwards
    FUSEDSSIM_MATH Taps(const A* taps, int radius) {
        for (int k = 0; k <= (R ? R : radius); ++k) at[k] = Vec{} + taps[k];
    }
    // sum += tap k * (a + b)
    FUSEDSSIM_MATH void add_pair(Vec& sum, int k, const A* a, const A* b) const {
        if (kFusedMultiplyAdd) {
            sum += at[k] * Vectors::load(a);
            sum += at[k] * Vectors::load(b);
        } else {
            sum += at[k] * (Vectors::load(a) + Vectors::load(b));
        }
    }
};

// Rows of the images, of the 2r + kSlices slices in the windows of kSlices slices.
template <class A>
struct InputRows {
    const A *x[kMaxWindow], *y[kMaxWindow], *mask[kMaxWindow];  // mask: where it is normalised
};

// A pivot as it is subtracted: from x and y before they are added, so that most differences are exact and none rounds s
// or d. With a pivot d of 0, d is the exact difference of equal or similar images.
template <class A>
struct ImagePivots {
    A s_x, s_y, d_x, d_y;
    FUSEDSSIM_MATH ImagePivots(const Pivot<A>& pivot)
        : s_x((pivot.s + pivot.d) / 2), s_y((pivot.s - pivot.d) / 2), d_x(pivot.d != 0 ? s_x : 0),
          d_y(pivot.d != 0 ? s_y : 0) {}
};

// The filter along the walk, for kSlices slices at once: from elements [first, last) of rows of the images to planar
// G*s', G*d', G*s'^2 and G*d'^2 (core/ssim_math.h), a row of each slice; its quantities are `pitch` elements apart.
// There is at least a vector; the last one overlaps the one before it.
template <int R, class A>
__attribute__((noinline)) void filter_input(const InputRows<A>& rows, const A* taps, int radius, const Pivot<A>& pivot,
                                            A* const* out, std::int64_t pitch, int first, int last) {
    using Vectors = Simd<A>;
    using Vec = typename Vectors::Vec;
    const Taps<R, A> tap(taps, radius);
    const int r = R ? R : radius;
    const ImagePivots<A> level(pivot);
    const Vec s_x = Vec{} + level.s_x, s_y = Vec{} + level.s_y, d_x = Vec{} + level.d_x, d_y = Vec{} + level.d_y;
    const auto filter_one = [&](std::int64_t i, int q, auto combine) __attribute__((always_inline)) {
        Vec sum[kSlices] = {}, of_squares[kSlices] = {};
        const auto add_row = [&](int k) __attribute__((always_inline)) {
            const Vec v = combine(Vectors::load(rows.x[k] + i), Vectors::load(rows.y[k] + i)), square = v * v;
            FUSEDSSIM_UNROLL
            for (int slice = 0; slice < kSlices; ++slice) {
                const int at = k - slice - r;  // from the centre
                if (at < -r || at > r) continue;
                sum[slice] += tap.at[at < 0 ? -at : at] * v;
                of_squares[slice] += tap.at[at < 0 ? -at : at] * square;
            }
        };
        FUSEDSSIM_UNROLL
        for (int k = 0; k < r + kSlices / 2; ++k) {
            add_row(k);
            add_row(2 * r + kSlices - 1 - k);
        }
        FUSEDSSIM_UNROLL
        for (int slice = 0; slice < kSlices; ++slice) {
            Vectors::store(out[slice] + q * pitch + i, sum[slice]);
            Vectors::store(out[slice] + (2 + q) * pitch + i, of_squares[slice]);
        }
    };
    for (std::int64_t i = first; i < last; i += Vectors::lanes) {
        if (i + Vectors::lanes > last) i = last - Vectors::lanes;
        // One after the other: there are not enough registers for the sums of both.
        filter_one(i, 0, [=](Vec x, Vec y) __attribute__((always_inline)) { return (x - s_x) + (y - s_y); });
        filter_one(i, 1, [=](Vec x, Vec y) __attribute__((always_inline)) { return (x - d_x) - (y - d_y); });
    }
}

// The same for one slice of images with a mask m: G*(m s'), G*(m d'), G*(m s'^2), G*(m d'^2) and G*m.
template <class A>
__attribute__((noinline)) void filter_masked_input(const A* const* in_x, const A* const* in_y, const A* const* in_mask,
                                                   const A* taps, int r, const Pivot<A>& pivot, A* out,
                                                   std::int64_t pitch, int first, int last) {
    using Vectors = Simd<A>;
    using Vec = typename Vectors::Vec;
    const ImagePivots<A> level(pivot);
    for (std::int64_t i = first; i < last; i += Vectors::lanes) {
        if (i + Vectors::lanes > last) i = last - Vectors::lanes;
        Vec sum[5] = {};
        for (int k = r; k >= 0; --k)
            for (int side = k ? -1 : 1; side <= 1; side += 2) {
                const int row = r + side * k;
                const Vec x = Vectors::load(in_x[row] + i), y = Vectors::load(in_y[row] + i);
                const Vec s = (x - level.s_x) + (y - level.s_y), d = (x - level.d_x) - (y - level.d_y);
                const Vec weight = taps[k] * Vectors::load(in_mask[row] + i), of_s = weight * s, of_d = weight * d;
                sum[0] += of_s;
                sum[1] += of_d;
                sum[2] += of_s * s;
                sum[3] += of_d * d;
                sum[4] += weight;
            }
        for (int q = 0; q < 5; ++q) Vectors::store(out + q * pitch + i, sum[q]);
    }
}

// Filters kQuantities planar rows along x into planar rows that are `pitch` elements apart; n results, and what is up
// to the next multiple of a vector's length. The sums of a quantity begin with begin[quantity].
template <int R, int kQuantities, class A>
__attribute__((noinline)) void filter_along_row(const A* in, const A* taps, int radius, const A* begin, A* out,
                                                std::int64_t pitch, int n) {
    using Vectors = Simd<A>;
    using Vec = typename Vectors::Vec;
    const Taps<R, A> tap(taps, radius);
    const int r = R ? R : radius;
    Vec start[kQuantities];
    for (int q = 0; q < kQuantities; ++q) start[q] = Vec{} + begin[q];
    if constexpr (kSplitsLines && R > 2) {
        // The six outermost taps: as many as keep the ports for loads, and those for this and for multiply-adds,
        // equally busy.
        constexpr int kVectors = (2 * R + Vectors::lanes - 1) / Vectors::lanes + 1;
        Vec before[kQuantities][kVectors - 1];
        for (int q = 0; q < kQuantities; ++q)
            for (int k = 0; k + 1 < kVectors; ++k) before[q][k] = Vectors::load(in + planar(q, k * Vectors::lanes));
        for (std::int64_t i = 0; i < n; i += Vectors::lanes)
            for (int q = 0; q < kQuantities; ++q) {
                const A* at = in + planar(q, i);
                Vec v[kVectors];
                for (int k = 0; k + 1 < kVectors; ++k) v[k] = before[q][k];
                v[kVectors - 1] = Vectors::load(at + (kVectors - 1) * Vectors::lanes);
                Vec left = tap.at[R] * v[0], right = start[q] + tap.at[R] * shifted_from<A, 2 * R>(v);
                left += tap.at[R - 1] * shifted_from<A, 1>(v);
                right += tap.at[R - 1] * shifted_from<A, 2 * R - 1>(v);
                left += tap.at[R - 2] * shifted_from<A, 2>(v);
                right += tap.at[R - 2] * shifted_from<A, 2 * R - 2>(v);
                Vec sum = left + right;
                for (int k = R - 3; k > 0; --k) tap.add_pair(sum, k, at + R - k, at + R + k);
                Vectors::store(out + q * pitch + i, sum + tap.at[0] * Vectors::load(at + R));
                for (int k = 0; k + 1 < kVectors; ++k) before[q][k] = v[k + 1];
            }
    } else {
        for (std::int64_t i = 0; i < n; i += Vectors::lanes)
            for (int q = 0; q < kQuantities; ++q) {
                const A* centre = in + planar(q, i + r);
                Vec sum = start[q];
                for (int k = r; k > 0; --k) tap.add_pair(sum, k, centre - k, centre + k);
                Vectors::store(out + q * pitch + i, sum + tap.at[0] * Vectors::load(centre));
            }
    }
}

// Filters across 2r + 1 rows of kQuantities quantities, which are `pitch` elements apart, from element `first` on, into
// one row of the like; n as above.
template <int R, int kQuantities, class A>
__attribute__((noinline)) void filter_across_rows(const A* const* rows, std::int64_t pitch, const A* taps, int radius,
                                                  int first, A* out, std::int64_t out_pitch, int n) {
    using Vectors = Simd<A>;
    const Taps<R, A> tap(taps, radius);
    const int r = R ? R : radius;
    if (r < 0) __builtin_unreachable();  // the static analyzer does not know
    const A* row[R ? 2 * R + 1 : kMaxTaps];
    for (int k = 0; k <= 2 * r; ++k) row[k] = rows[k] + first;
    for (std::int64_t i = 0; i < n; i += Vectors::lanes) {
        typename Vectors::Vec sum[kQuantities] = {};
        for (int k = r; k > 0; --k)
            for (int q = 0; q < kQuantities; ++q)
                tap.add_pair(sum[q], k, row[r - k] + q * pitch + i, row[r + k] + q * pitch + i);
        for (int q = 0; q < kQuantities; ++q) {
            sum[q] += tap.at[0] * Vectors::load(row[r] + q * pitch + i);
            Vectors::store(out + q * out_pitch + i, sum[q]);
        }
    }
}

// Rows of the images, and of the gradients by x and y, of the 2r + kSlices slices around kSlices slices of partials.
template <class A>
struct GradientRows {
    const A *x[kMaxWindow], *y[kMaxWindow];
    A* to[2][kMaxWindow];
};

// The filter along the walk, transposed: adds what n elements of the filtered partials of kSlices slices, `pitch`
// elements apart, give to the gradients around them. The last kSlices of these had nothing: their memory is not read. n
// is at least a vector; if it is not a multiple of a vector, one overlaps another, for whose elements it adds zeros.
// kHasHoles: elements that a mask hides may be NaN or infinite. If a window that counts sees one, its partials are NaN;
// if none does, they are 0, and it must not be looked at. So it counts as 0.
// kUniform: all taps are equal (uniform.h).
template <int R, int G, bool kHasHoles, bool kUniform, class A>
__attribute__((noinline)) void add_partials(const A* const* partials, std::int64_t pitch, const GradientRows<A>& rows,
                                            const A* taps, int radius, const Pivot<A>& pivot, int n) {
    using Vectors = Simd<A>;
    using Vec = typename Vectors::Vec;
    constexpr int kMaps = filtered_maps(G);
    const Taps<R, A> tap(taps, radius);
    const ImagePivots<A> level(pivot);
    const Vec s_x = Vec{} + level.s_x, s_y = Vec{} + level.s_y, d_x = Vec{} + level.d_x, d_y = Vec{} + level.d_y;
    const int r = R ? R : radius;
    const auto add_vector = [&](std::int64_t i, const Vec* weight) __attribute__((always_inline)) {
        Vec partial[kSlices][kMaps];
        for (int slice = 0; slice < kSlices; ++slice)
            for (int q = 0; q < kMaps; ++q) {
                partial[slice][q] = Vectors::load(partials[slice] + q * pitch + i);
                if (weight) partial[slice][q] *= *weight;
                if (kUniform) partial[slice][q] *= tap.at[0];
            }
        Vec all[kMaps];
        if constexpr (kUniform)
            for (int q = 0; q < kMaps; ++q) all[q] = (partial[0][q] + partial[1][q]) + (partial[2][q] + partial[3][q]);
        const auto add_to_row = [&](int k) __attribute__((always_inline)) {
            const int first = k < 2 * r ? 0 : k - 2 * r;  // the first slice in whose window it is
            const auto tap_of = [&](int slice) { return tap.at[k - slice < r ? r - k + slice : k - slice - r]; };
            Vec maps[kMaps], by_x, by_y;
            if constexpr (kUniform) {
                const bool is_seen_by_all = first == 0 && k >= kSlices - 1;
                for (int q = 0; q < kMaps; ++q) maps[q] = is_seen_by_all ? all[q] : partial[first][q];
                for (int slice = first + 1; slice < kSlices && slice <= k && !is_seen_by_all; ++slice)
                    for (int q = 0; q < kMaps; ++q) maps[q] += partial[slice][q];
            } else {
                for (int q = 0; q < kMaps; ++q) maps[q] = tap_of(first) * partial[first][q];
                for (int slice = first + 1; slice < kSlices && slice <= k; ++slice)
                    for (int q = 0; q < kMaps; ++q) maps[q] += tap_of(slice) * partial[slice][q];
            }
            Vec x = Vectors::load(rows.x[k] + i), y = Vectors::load(rows.y[k] + i);
            if constexpr (kHasHoles) {
                x = A(0) * x == A(0) ? x : Vec{};
                y = A(0) * y == A(0) ? y : Vec{};
            }
            unpack_gradient<G>(maps, (x - s_x) + (y - s_y), (x - d_x) - (y - d_y), by_x, by_y);
            if constexpr (kHasHoles) {  // a zero without a sign that comes from what is not looked at
                by_x += A(0);
                if constexpr (G == 2) by_y += A(0);
            }
            A* const to_x = rows.to[0][k] + i;
            Vectors::store(to_x, k < 2 * r ? Vectors::load(to_x) + by_x : by_x);
            if constexpr (G == 2) {
                A* const to_y = rows.to[1][k] + i;
                Vectors::store(to_y, k < 2 * r ? Vectors::load(to_y) + by_y : by_y);
            }
        };
        FUSEDSSIM_UNROLL
        for (int k = 0; k < r + kSlices / 2; ++k) {
            add_to_row(k);
            add_to_row(2 * r + kSlices - 1 - k);
        }
    };
    const int rest = n % Vectors::lanes;
    if (rest) {
        A is_rest[Vectors::lanes];
        for (int i = 0; i < Vectors::lanes; ++i) is_rest[i] = i < Vectors::lanes - rest ? A(0) : A(1);
        const Vec weight = Vectors::load(is_rest);
        add_vector(n - Vectors::lanes, &weight);
    }
    for (std::int64_t i = 0; i < n - rest; i += Vectors::lanes) add_vector(i, nullptr);
}

}  // namespace fusedssim::cpu::FUSEDSSIM_ISA
