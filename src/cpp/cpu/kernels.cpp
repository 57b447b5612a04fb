// SPDX-License-Identifier: MIT
//
// The CPU kernels, for one instruction set: CMake compiles this file once for each, with FUSEDSSIM_ISA naming it.
#include "cpu/kernels.h"

#include "core/string.h"
#include "cpu/walker.h"

namespace fusedssim::cpu {

namespace FUSEDSSIM_ISA {

constexpr bool is_baseline() {
    const char *name = FUSEDSSIM_STRING(FUSEDSSIM_ISA), *baseline = "baseline";
    while (*name && *name == *baseline) ++name, ++baseline;
    return *name == *baseline;
}
// Otherwise its kernels would have the vectors of the baseline, and would be chosen on processors that cannot run them.
static_assert(kRequired != 0 || is_baseline(), "filters.h does not know this instruction set");

template <class A, int G>
void run_task(const Work& w, const Task& task, void* scratch) {
    const Tiling& t = w.tiling;
    const std::int64_t at = (task.plane * t.tiles_x + task.tile_x) * t.sums_y + task.tile_y * t.tile_rows / kSumRows;
    SliceSums* const sums = w.sums ? w.sums + at * t.length : nullptr;
    if (w.problem.is_normalized)
        Walker<A, G, true>(w, task, scratch).walk(sums);
    else
        Walker<A, G, false>(w, task, scratch).walk(sums);
}

inline void run(const Work& w, const Task& task, void* scratch) {
    dispatch_arithmetic(w.problem.arithmetic, [&](auto zero) {
        using A = decltype(zero);
        switch (w.problem.grads()) {
            case 0: run_task<A, 0>(w, task, scratch); break;
            case 1: run_task<A, 1>(w, task, scratch); break;
            default: run_task<A, 2>(w, task, scratch); break;
        }
    });
}

inline std::size_t scratch_bytes(const Problem& p, const Tiling& t) {
    std::size_t bytes = 0;
    dispatch_arithmetic(p.arithmetic, [&](auto zero) {
        using A = decltype(zero);
        bytes = Scratch<A>(p, t, direct<A>(p, t), nullptr).bytes;
    });
    return bytes;
}

template <class A>
MaskSums sum_mask_slice(const Problem& p, std::int64_t plane, int slice) {
    const WalkedView mask(p, p.mask, plane);
    const Axis walk = walk_axis(p.is_3d), row_axis = cpu::row_axis(p.is_3d);
    MaskSums sums = {0, 0, false};
    A values[kRowPitch];
    for (int row = 0; row < p.size(row_axis); ++row) {
        const bool counted = p.counts(walk, slice) && p.counts(row_axis, row);
        for (int at = 0; at < p.width; at += kRowPitch) {
            const int n = p.width - at < kRowPitch ? p.width - at : kRowPitch;
            mask.read_mask(p, slice, row, at, n, values);
            if (has_bad_weight(values, n)) sums.has_bad_weight = true;
            sums.image += ordered_sum(values, n);
            if (!counted) continue;
            const Range columns(at, at + n, p.crop(Axis::x), p.width - p.crop(Axis::x));
            if (columns.size()) sums.map += ordered_sum(values + columns.first, columns.size());
        }
    }
    return sums;
}

inline MaskSums sum_mask(const Problem& p, std::int64_t plane, int slice) {
    MaskSums sums{};
    dispatch_arithmetic(p.arithmetic, [&](auto zero) { sums = sum_mask_slice<decltype(zero)>(p, plane, slice); });
    return sums;
}

template <class T, class A>
void scale_row(T* row, std::int64_t step, std::int64_t n, A product) {
    if (step == 1)
        for (std::int64_t i = 0; i < n; ++i) from_float(product * to_float(row[i]), row[i]);
    else
        for (std::int64_t i = 0; i < n; ++i) from_float(product * to_float(row[i * step]), row[i * step]);
}
inline void scale(const ScaleProblem& p, std::int64_t first, std::int64_t last) {
    dispatch_grad_dtype(p.grad_dtype, [&](auto element) {
        using T = decltype(element);
        using A = arithmetic_t<T>;
        for (std::int64_t row = first; row < last; ++row) {
            std::int64_t rest = row;
            const std::int64_t h = rest % p.height;
            rest /= p.height;
            const std::int64_t d = rest % p.depth, plane = rest / p.depth;
            const std::int64_t n = plane / p.channels, c = plane % p.channels;
            const A product = A(p.factor * double(static_cast<const A*>(p.scale.data)[n * p.scale.n + c * p.scale.c]));
            if (product == A(1)) continue;
            scale_row(static_cast<T*>(p.grad.data) + n * p.grad.n + c * p.grad.c + d * p.grad.d + h * p.grad.h,
                      p.grad.w, p.width, product);
        }
    });
}

// n elements of a row of `in` from column `at` on, in the type of the arithmetic, `step` apart: where they are, or in
// `buffer`.
template <class A>
const A* pool_row(const PoolProblem& p, std::int64_t row, int at, int n, A* buffer, std::int64_t& step) {
    const std::int64_t begin = row + at * p.in.w;
    step = p.in.w;
    if (p.in_dtype == p.arithmetic) return static_cast<const A*>(p.in.data) + begin;
    dispatch_dtype(p.in_dtype, [&](auto element) {
        convert_row(static_cast<const decltype(element)*>(p.in.data) + begin, p.in.w, n, A(p.in_scale), buffer);
    });
    step = 1;
    return buffer;
}

inline void pool(const PoolProblem& p, std::int64_t plane, int slice) {
    const std::int64_t n = plane / p.channels, c = plane % p.channels;
    const int first_row = p.is_3d ? 0 : slice, last_row = p.is_3d ? pooled_size(p.height) : slice + 1;
    const int width = pooled_size(p.width), first_z = p.is_3d ? first_of_block(slice, p.depth) : 0;
    dispatch_arithmetic(p.arithmetic, [&](auto zero) {
        using A = decltype(zero);
        A* out = static_cast<A*>(p.out.data) + n * p.out.n + c * p.out.c;
        const A factor = A(1) / A(pooled_elements(p.is_3d));
        A buffer[2 * kRowPitch];
        std::int64_t step = 1;
        for (int h = first_row; h < last_row; ++h) {
            A* const row = out + (p.is_3d ? slice : 0) * p.out.d + h * p.out.h;
            // The first block of an axis of odd size may lack its first element.
            const int first_y = first_of_block(h, p.height), first_x = first_of_block(0, p.width);
            const Range depths(first_z, first_z + (p.is_3d ? 2 : 1), 0, p.depth);
            const Range heights(first_y, first_y + 2, 0, p.height);
            for (int w = 0; w < width; ++w) row[w * p.out.w] = 0;
            for (int d = depths.first; d < depths.last; ++d)
                for (int k = heights.first; k < heights.last; ++k) {
                    const std::int64_t in_row =
                        n * p.in.n + c * p.in.c + (first_z + d) * p.in.d + (first_y + k) * p.in.h;
                    if (first_x < 0) row[0] += *pool_row(p, in_row, 0, 1, buffer, step);
                    for (int begin = 0; begin < p.width / 2; begin += kRowPitch) {
                        const int pairs = p.width / 2 - begin < kRowPitch ? p.width / 2 - begin : kRowPitch;
                        const A* const from = pool_row(p, in_row, 2 * begin - first_x, 2 * pairs, buffer, step);
                        A* const to = row + (begin - first_x) * p.out.w;
                        if (step == 1 && p.out.w == 1)
                            for (int w = 0; w < pairs; ++w) to[w] += from[2 * w] + from[2 * w + 1];
                        else
                            for (int w = 0; w < pairs; ++w)
                                to[w * p.out.w] += from[2 * w * step] + from[(2 * w + 1) * step];
                    }
                }
            for (int w = 0; w < width; ++w) row[w * p.out.w] *= factor;
        }
    });
}

}  // namespace FUSEDSSIM_ISA

#define FUSEDSSIM_CONCAT_(a, b) a##b
#define FUSEDSSIM_CONCAT(a, b) FUSEDSSIM_CONCAT_(a, b)

extern const Kernels FUSEDSSIM_CONCAT(kernels_, FUSEDSSIM_ISA);
const Kernels FUSEDSSIM_CONCAT(kernels_, FUSEDSSIM_ISA) = {
    FUSEDSSIM_STRING(FUSEDSSIM_ISA), FUSEDSSIM_ISA::kRequired, FUSEDSSIM_ISA::scratch_bytes, FUSEDSSIM_ISA::run,
    FUSEDSSIM_ISA::sum_mask,         FUSEDSSIM_ISA::scale,     FUSEDSSIM_ISA::pool};

}  // namespace fusedssim::cpu
