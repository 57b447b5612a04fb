// SPDX-License-Identifier: MIT
//
// The CPU kernels, for one instruction set: CMake compiles this file once for each, with FUSEDSSIM_ISA naming it.
#include "cpu/kernels.h"

#include "core/string.h"
#include "cpu/levels.h"
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

}  // namespace FUSEDSSIM_ISA

#define FUSEDSSIM_CONCAT_(a, b) a##b
#define FUSEDSSIM_CONCAT(a, b) FUSEDSSIM_CONCAT_(a, b)

extern const Kernels FUSEDSSIM_CONCAT(kernels_, FUSEDSSIM_ISA);
const Kernels FUSEDSSIM_CONCAT(kernels_, FUSEDSSIM_ISA) = {
    FUSEDSSIM_STRING(FUSEDSSIM_ISA), FUSEDSSIM_ISA::kRequired, FUSEDSSIM_ISA::scratch_bytes, FUSEDSSIM_ISA::run,
    FUSEDSSIM_ISA::sum_mask,         FUSEDSSIM_ISA::scale,     FUSEDSSIM_ISA::pool};

}  // namespace fusedssim::cpu
