// SPDX-License-Identifier: MIT
//
// What MS-SSIM does besides the filters: its images from level to level, and its gradients back again. Both go through
// the rows of the coarsest level, each with the rows of all finer levels that it is made of: so what one level writes
// is still in a cache when the next one reads it, and the threads start once for all levels.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/dtype.h"
#include "core/pooling.h"
#include "cpu/filters.h"
#include "cpu/rows.h"
#include "cpu/tile.h"
#include "problem.h"

namespace fusedssim::cpu::FUSEDSSIM_ISA {

// The rows of a plane in a box along z and y.
struct Rows {
    std::int64_t plane;
    Range z, y;

    // Those of rows [at, last) of all planes that are neighbours along y.
    template <class Level>
    static Rows from(const Level& level, std::int64_t at, std::int64_t last) {
        const int y = int(at % level.height), z = int(at / level.height % level.depth);
        const std::int64_t left = last - at, end = y + left < level.height ? y + left : level.height;
        return {at / level.height / level.depth, {z, z + 1}, {y, int(end)}};
    }
    // Those of the next finer level, of these sizes, that these rows are made of.
    Rows finer(std::int64_t depth, std::int64_t height) const {
        const auto along = [](const Range& r, int size) {
            const int first = first_of_block(r.first, size);
            return Range(first > 0 ? first : 0, first_of_block(r.last, size));
        };
        return {plane, along(z, int(depth)), along(y, int(height))};
    }
    template <class F>
    void each(F&& f) const {
        for (int d = z.first; d < z.last; ++d)
            for (int h = y.first; h < y.last; ++h) f(d, h);
    }
};

template <class P>
std::int64_t row_of(const P& p, const View& view, std::int64_t plane, int z, int y) {
    return plane / p.channels * view.n + plane % p.channels * view.c + z * view.d + y * view.h;
}

// ---- Images -------------------------------------------------------------------------------------------------------

// Adds the sums of n pairs of neighbours to `out`, or puts them there, and multiplies.
template <bool kAdds, class A>
void sum_pairs(const A* __restrict pairs, int n, A factor, A* __restrict out) {
    for (int i = 0; i < n; ++i) out[i] = ((kAdds ? out[i] : A(0)) + (pairs[2 * i] + pairs[2 * i + 1])) * factor;
}

// An image of a level, as it is read.
struct LevelImage {
    const Problem& p;
    Dtype dtype;
    double scale;
    const View& view;

    // n elements of a row from column x on, in the type of the arithmetic: where they are, or in `buffer`.
    template <class A>
    const A* read(std::int64_t plane, int z, int y, int x, int n, A* buffer) const {
        const std::int64_t at = row_of(p, view, plane, z, y) + x * view.w;
        if (dtype == p.arithmetic && view.w == 1) return static_cast<const A*>(view.data) + at;
        dispatch_dtype(dtype, [&](auto element) {
            convert_row(static_cast<const decltype(element)*>(view.data) + at, view.w, n, A(scale), buffer);
        });
        return buffer;
    }
};

// Row (z, y) of a pooled image, which is contiguous. The rows of its blocks are read one after the other, which is
// faster than side by side. The first block of an axis of odd size has a zero in place of its first element, or row.
template <class A>
void pool_row(const LevelImage& in, std::int64_t plane, int z, int y, A* out) {
    constexpr int kPairs = 256;
    const Problem& p = in.p;
    const auto rows = Rows{plane, {z, z + 1}, {y, y + 1}}.finer(p.depth, p.height);
    const int odd = p.width % 2, n = p.width / 2;
    A buffer[2 * kPairs];
    int left = rows.z.size() * rows.y.size();
    bool adds = false;
    rows.each([&](int d, int h) {
        const A factor = --left ? A(1) : A(1) / A(pooled_elements(p.is_3d));
        if (odd) out[0] = ((adds ? out[0] : A(0)) + *in.read(plane, d, h, 0, 1, buffer)) * factor;
        for (int i = 0; i < n; i += kPairs) {
            const int some = n - i < kPairs ? n - i : kPairs;
            const A* const pairs = in.read(plane, d, h, odd + 2 * i, 2 * some, buffer);
            if (adds)
                sum_pairs<true>(pairs, some, factor, out + odd + i);
            else
                sum_pairs<false>(pairs, some, factor, out + odd + i);
        }
        adds = true;
    });
}

// Rows of x and y of level `at`, after those of the finer levels that they are made of.
template <class A>
void pool_rows(const Problem* levels, int at, const Rows& rows) {
    const Problem &finer = levels[at - 1], &p = levels[at];
    if (at > 1) pool_rows<A>(levels, at - 1, rows.finer(finer.depth, finer.height));
    const LevelImage x = {finer, finer.x_dtype, finer.x_scale, finer.x},
                     y = {finer, finer.y_dtype, finer.y_scale, finer.y};
    const auto pool = [&](const LevelImage& in, const View& view) {
        rows.each([&](int d, int h) {
            pool_row(in, rows.plane, d, h, static_cast<A*>(view.data) + row_of(p, view, rows.plane, d, h));
        });
    };
    pool(x, p.x);
    pool(y, p.y);
}

inline void pool(const Problem* levels, int count, std::int64_t first, std::int64_t last) {
    dispatch_arithmetic(levels[0].arithmetic, [&](auto zero) {
        for (std::int64_t at = first; at < last;) {
            const auto rows = Rows::from(levels[count - 1], at, last);
            pool_rows<decltype(zero)>(levels, count - 1, rows);
            at += rows.y.size();
        }
    });
}

// ---- Gradients ----------------------------------------------------------------------------------------------------

template <class T, class A>
void scale_row(T* row, std::int64_t step, int n, A product) {
    if (step == 1)
        for (int i = 0; i < n; ++i) from_float(product * to_float(row[i]), row[i]);
    else
        for (int i = 0; i < n; ++i) from_float(product * to_float(row[i * step]), row[i * step]);
}

// The same, and adds to each element the gradient of its block, times the factor.
template <class A>
void scale_and_add(A* __restrict row, std::int64_t step, int n, A product, const A* __restrict coarse, A factor) {
    if (n % 2) {
        *row = product * *row + factor * *coarse++;
        row += step;
    }
    if (step == 1)
        for (int i = 0; i < n / 2; ++i) {
            const A more = factor * coarse[i];
            row[2 * i] = product * row[2 * i] + more;
            row[2 * i + 1] = product * row[2 * i + 1] + more;
        }
    else
        for (int i = 0; i < n / 2; ++i) {
            const A more = factor * coarse[i];
            row[2 * i * step] = product * row[2 * i * step] + more;
            row[(2 * i + 1) * step] = product * row[(2 * i + 1) * step] + more;
        }
}

template <class T>
void scale_rows(const ScaleProblem& p, const Rows& rows) {
    using A = arithmetic_t<T>;
    const std::int64_t n = rows.plane / p.channels, c = rows.plane % p.channels;
    const A product = A(p.factor * double(static_cast<const A*>(p.scale.data)[n * p.scale.n + c * p.scale.c]));
    if (product == A(1) && !p.coarse.data && !p.to.data) return;
    const int width = int(p.width);
    rows.each([&](int d, int h) {
        T* const row = static_cast<T*>(p.grad.data) + row_of(p, p.grad, rows.plane, d, h);
        if (!p.coarse.data) scale_row(row, p.grad.w, width, product);
        if constexpr (std::is_same_v<T, A>) {
            if (p.coarse.data) {
                const A* const coarse = static_cast<const A*>(p.coarse.data);
                const int block_z = block_of(d, int(p.depth)), block_y = block_of(h, int(p.height));
                scale_and_add(row, p.grad.w, width, product, coarse + row_of(p, p.coarse, rows.plane, block_z, block_y),
                              A(p.coarse_factor));
            }
            if (p.to.data)
                dispatch_grad_dtype(p.to_dtype, [&](auto element) {
                    auto* const to = static_cast<decltype(element)*>(p.to.data);
                    store_row(row, width, to + row_of(p, p.to, rows.plane, d, h), p.to.w);
                });
        }
    });
}

inline void scale(const ScaleProblem* steps, int count, std::int64_t first, std::int64_t last) {
    dispatch_grad_dtype(steps[0].grad_dtype, [&](auto element) {
        for (std::int64_t at = first; at < last;) {
            auto rows = Rows::from(steps[0], at, last);
            at += rows.y.size();
            for (int i = 0; i < count; ++i) {
                if (i > 0) rows = rows.finer(steps[i].depth, steps[i].height);
                scale_rows<decltype(element)>(steps[i], rows);
            }
        }
    });
}

}  // namespace fusedssim::cpu::FUSEDSSIM_ISA
