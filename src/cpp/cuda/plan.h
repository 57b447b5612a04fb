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

// The gradients that partial maps are for. Maps that were saved for both gradients serve a backward for one as well.
inline int map_grads(const Problem& p) { return p.saved_grads ? p.saved_grads : p.grads(); }
// How many gradients the kernels of a type compute at once.
inline int kernel_grads(const Problem& p, KernelType type) {
    return grads_at_once(p.is_3d, p.is_normalized, type, map_grads(p));
}

// The kernels that a problem takes: those for the usual calls if they serve, otherwise general ones.
KernelType kernel_type(const Problem& p);

// Whether the kernels of a problem write the pooled images that it is to have. Otherwise pool() makes them.
inline bool pools_in_pass(const Problem& p) { return kernel_type(p).variant == Variant::pooling; }

// The kernel of a volume's backward. It reads partial maps, which are always alike, and the images only where it is. So
// it is that of the usual calls also where the images' strides, or a mask that normalises, leave forward a general one.
KernelType backward_type(const Problem& p);

// The bytes of an element of the mask.
inline std::size_t mask_size(const Problem& p) { return p.mask_is_bool ? 1 : dtype_size(p.arithmetic); }

// Whether `count` adjacent elements of a row, from a column that is a multiple of it, are aligned to be accessed as
// one.
bool is_packed(const View& v, std::size_t size, int count);

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// Calls f with a value of the arithmetic's type, the radius bucket and the number of gradients, as constants.
template <class F>
auto with_constants(KernelType type, int grads, F&& f) {
    const auto with_grads = [&](auto zero, auto radius) {
        return grads == 0   ? f(zero, radius, Constant<0>())
               : grads == 1 ? f(zero, radius, Constant<1>())
                            : f(zero, radius, Constant<2>());
    };
    static_assert(kRadiusBuckets[1] == kUsualRadius);
    constexpr Constant<kUsualRadius> kUsual;
    if (type.element == Element::f64) return with_grads(double(), kUsual);
    if (type.radius == kRadiusBuckets[0]) return with_grads(float(), Constant<kRadiusBuckets[0]>());
    const auto with_radius = [&](auto zero) {
        return type.radius == kUsualRadius        ? with_grads(zero, kUsual)
               : type.radius == kRadiusBuckets[2] ? with_grads(zero, Constant<kRadiusBuckets[2]>())
               : type.radius == kRadiusBuckets[3] ? with_grads(zero, Constant<kRadiusBuckets[3]>())
                                                  : with_grads(zero, Constant<kMaxRadius>());
    };
    return type.element == Element::any64 ? with_radius(double()) : with_radius(float());
}

// Calls f with the shape of the blocks of an image's first or only pass, as the type of its argument.
template <class F>
auto with_strips(const Problem& p, KernelType type, int grads, F&& f) {
    return with_constants(type, grads, [&](auto zero, auto radius, auto gradients) {
        using A = decltype(zero);
        constexpr int R = radius, G = gradients;
        if (!type.is_general() && R <= kUsualRadius && !p.is_normalized) return f(Strip2d<A, R, G, false>());
        return p.is_normalized ? f(Strip2d<A, R, G, true, Pass::forward>())
                               : f(Strip2d<A, R, G, false, Pass::forward>());
    });
}
// The same of the second pass.
template <class F>
auto with_second_strips(KernelType type, int grads, F&& f) {
    return with_constants(type, grads, [&](auto zero, auto radius, auto gradients) {
        return f(Strip2d<decltype(zero), radius, gradients, false, Pass::backward>());
    });
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
// Those of a launch for volumes. Each plane has as many as any other: so sums of a group are found in one step.
Blocks cut_part(const Problem& p, KernelType type, const Slabs& slabs, const Part& part);
// How long a volume takes, in steps of a block, if it is not cut into slabs. Depends on neither strides nor addresses.
std::int64_t volume_steps(const Problem& p);
// Those of an image's second pass, if there are two. Its sheets are those of the first.
Blocks cut_second_pass(const Problem& p, KernelType type, int grads, const Blocks& first);

// What sum_mask reads: of planes that a mask is broadcast over, and that belong to one group, the first. It cuts a
// plane into so many parts, one for each block. Rows may be several of the image's.
struct MaskPlanes {
    View mask;
    std::int64_t images, channels, parts;
    int depth, height, width;
    std::int64_t planes() const { return images * channels; }
    std::int64_t rows() const { return std::int64_t(depth) * height; }
};
MaskPlanes mask_planes(const Problem& p);

// ---- Device memory --------------------------------------------------------------------------------------------------

// The workspace: sums of blocks (sealed ones in the same place), sums of the mask, partial maps. Offsets in bytes from
// its beginning.
struct Workspace {
    std::size_t sums, parts, mask_sums, maps;
    std::size_t total;
};
Workspace plan_workspace(const Problem& p);

}  // namespace fusedssim::cuda
