// SPDX-License-Identifier: MIT
//
// What MS-SSIM does besides the filters: its images from level to level, and its gradients back again. Both go through
// the rows of the coarsest level, each with the rows of all finer levels that it is made of: so what one level writes
// is still in a cache when the next one reads it, and the threads start once for all levels.
#pragma once

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

    // Row `row` of all planes.
    template <class Level>
    static Rows one(const Level& level, std::int64_t row) {
        const int y = int(row % level.height), z = int(row / level.height % level.depth);
        return {row / level.height / level.depth, {z, z + 1}, {y, y + 1}};
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

constexpr int kPairs = 256;  // that are averaged at once

// The averages of blocks of which each row has a pair of elements.
template <int kRows, class A>
void average_pairs(const A* const* rows, int pairs, A factor, A* __restrict out) {
    const A* row[kRows];
    for (int k = 0; k < kRows; ++k) row[k] = rows[k];
    for (int i = 0; i < pairs; ++i) {
        A sum = 0;
        for (int k = 0; k < kRows; ++k) sum += row[k][2 * i] + row[k][2 * i + 1];
        out[i] = sum * factor;
    }
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
        if (z < 0 || y < 0) return nullptr;
        const std::int64_t at = row_of(p, view, plane, z, y) + x * view.w;
        if (dtype == p.arithmetic && view.w == 1) return static_cast<const A*>(view.data) + at;
        dispatch_dtype(dtype, [&](auto element) {
            convert_row(static_cast<const decltype(element)*>(view.data) + at, view.w, n, A(scale), buffer);
        });
        return buffer;
    }
};

// Row (z, y) of a pooled image, which is contiguous. kRows: of a block.
template <int kRows, class A>
void pool_row(const LevelImage& in, std::int64_t plane, int z, int y, int width, A* out) {
    const int size = in.p.width, first_z = kRows == 4 ? first_of_block(z, in.p.depth) : 0,
              first_y = first_of_block(y, in.p.height);
    const A factor = A(1) / A(pooled_elements(kRows == 4));
    alignas(kCacheLine) static const A zeros[2 * kPairs] = {};
    alignas(kCacheLine) A buffers[kRows][2 * kPairs];
    const A* rows[kRows];
    const auto read = [&](int x, int n) {
        for (int k = 0; k < kRows; ++k) {
            const A* const row = in.read(plane, first_z + k / 2, first_y + k % 2, x, n, buffers[k]);
            rows[k] = row ? row : zeros;
        }
    };
    // The first block of an axis of odd size has a zero in place of its first element.
    const int odd = size % 2;
    if (odd) {
        read(0, 1);
        A sum = 0;
        for (int k = 0; k < kRows; ++k) sum += rows[k][0];
        out[0] = sum * factor;
    }
    for (int i = odd; i < width; i += kPairs) {
        const int pairs = width - i < kPairs ? width - i : kPairs;
        read(first_of_block(i, size), 2 * pairs);
        average_pairs<kRows>(rows, pairs, factor, out + i);
    }
}

// Rows of x and y of level `at`, after those of the finer levels that they are made of.
template <class A>
void pool_rows(const Problem* levels, int at, const Rows& rows) {
    const Problem &finer = levels[at - 1], &p = levels[at];
    if (at > 1) pool_rows<A>(levels, at - 1, rows.finer(finer.depth, finer.height));
    const LevelImage x = {finer, finer.x_dtype, finer.x_scale, finer.x}, y = {finer, finer.y_dtype, finer.y_scale, finer.y};
    rows.each([&](int d, int h) {
        const auto pool = [&](const LevelImage& in, const View& view) {
            A* const out = static_cast<A*>(view.data) + row_of(p, view, rows.plane, d, h);
            if (p.is_3d)
                pool_row<4>(in, rows.plane, d, h, p.width, out);
            else
                pool_row<2>(in, rows.plane, d, h, p.width, out);
        };
        pool(x, p.x);
        pool(y, p.y);
    });
}

inline void pool(const Problem* levels, int count, std::int64_t first, std::int64_t last) {
    dispatch_arithmetic(levels[0].arithmetic, [&](auto zero) {
        for (std::int64_t row = first; row < last; ++row)
            pool_rows<decltype(zero)>(levels, count - 1, Rows::one(levels[count - 1], row));
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
    if (product == A(1) && !p.coarse.data) return;
    rows.each([&](int d, int h) {
        T* const row = static_cast<T*>(p.grad.data) + row_of(p, p.grad, rows.plane, d, h);
        if constexpr (std::is_same_v<T, A>)
            if (p.coarse.data) {
                const A* const coarse = static_cast<const A*>(p.coarse.data);
                const int block_z = block_of(d, int(p.depth)), block_y = block_of(h, int(p.height));
                return scale_and_add(row, p.grad.w, int(p.width), product,
                                     coarse + row_of(p, p.coarse, rows.plane, block_z, block_y), A(p.coarse_factor));
            }
        scale_row(row, p.grad.w, int(p.width), product);
    });
}

inline void scale(const ScaleProblem* steps, int count, std::int64_t first, std::int64_t last) {
    dispatch_grad_dtype(steps[0].grad_dtype, [&](auto element) {
        for (std::int64_t row = first; row < last; ++row) {
            Rows rows = Rows::one(steps[0], row);
            for (int i = 0; i < count; ++i) {
                if (i > 0) rows = rows.finer(steps[i].depth, steps[i].height);
                scale_rows<decltype(element)>(steps[i], rows);
            }
        }
    });
}

}  // namespace fusedssim::cpu::FUSEDSSIM_ISA
