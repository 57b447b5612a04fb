// SPDX-License-Identifier: MIT
//
// What the launchers decide before they launch: which kernels a problem takes, how the work is cut into blocks, and
// what stands where in device memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/arithmetic.h"
#include "core/dtype.h"
#include "cuda/kernel_list.h"
#include "cuda/slabs.h"
#include "params.h"
#include "problem.h"

namespace fusedssim::cuda {

// The planner counts with the multiprocessors of an H200 on every device. Otherwise the order of the sums, and the size
// of the workspace, would depend on the device.
constexpr int kMultiprocessors = 132;

// ---- Which kernels --------------------------------------------------------------------------------------------------

// How many gradients the kernels of a type compute at once. Maps that were saved for both gradients serve a backward
// for one as well.
inline int kernel_grads(const Problem& p, KernelType type) {
    return grads_at_once(p.is_3d, p.is_normalized, type, p.saved_grads ? p.saved_grads : p.grads());
}

// The kernels that a problem takes: those for the usual calls if they serve, otherwise general ones.
KernelType kernel_type(const Problem& p);

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// Calls f with a value of the arithmetic's type, the radius bucket, the number of gradients, and whether the kernels
// are general, as constants.
template <class F>
auto with_constants(KernelType type, int grads, F&& f) {
    const auto with_grads = [&](auto zero, auto radius, auto is_general) {
        return grads == 0   ? f(zero, radius, Constant<0>(), is_general)
               : grads == 1 ? f(zero, radius, Constant<1>(), is_general)
                            : f(zero, radius, Constant<2>(), is_general);
    };
    const auto with_radius = [&](auto zero) {
        return type.radius == kRadiusBuckets[0]   ? with_grads(zero, Constant<kRadiusBuckets[0]>(), std::true_type())
               : type.radius == kRadiusBuckets[1] ? with_grads(zero, Constant<kRadiusBuckets[1]>(), std::true_type())
                                                  : with_grads(zero, Constant<kRadiusBuckets[2]>(), std::true_type());
    };
    if (!type.is_general()) {
        constexpr Constant<kRadiusBuckets[0]> kRadius;
        return type.element == Element::f64 ? with_grads(double(), kRadius, std::false_type())
                                            : with_grads(float(), kRadius, std::false_type());
    }
    return type.element == Element::any64 ? with_radius(double()) : with_radius(float());
}

// ---- Blocks ---------------------------------------------------------------------------------------------------------

// How the work is cut into blocks. ssim3d: planes into tiles, and those into chunks of slices.
struct Blocks {
    int tiles_x, tiles_y, chunk, chunks;
    std::int64_t steps;   // ssim3d: slices that the last block has walked through when it ends, and those before it
    Slabs slabs;          // ssim3d
    Partition partition;  // ssim2d
    std::int64_t total;
    std::int64_t sums;  // that are written, of each kind
};
// Those of a call. Of volumes in several slabs: `total` and `sums` alone; each launch has blocks of its own.
Blocks cut_blocks(const Problem& p, KernelType type, int grads, bool may_share_sheets = true);
// Those of a launch for volumes.
Blocks cut_part(const Problem& p, KernelType type, const Part& part);

// What sum_mask reads: of planes that a mask is broadcast over, and that belong to one group, the first. It cuts a
// plane into so many parts, one for each block.
struct MaskPlanes {
    std::int64_t images, channels, parts;
    std::int64_t planes() const { return images * channels; }
};
MaskPlanes mask_planes(const Problem& p);

// ---- Device memory --------------------------------------------------------------------------------------------------

// The workspace: block sums, tags of blocks, sums of the mask, partial maps. Offsets in bytes from its beginning.
struct Workspace {
    std::size_t sums, tags, parts, mask_sums, maps;
    std::size_t total;
};
Workspace plan_workspace(const Problem& p);

}  // namespace fusedssim::cuda
