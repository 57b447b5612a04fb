// SPDX-License-Identifier: MIT
#include "cuda/slabs.h"

#include <algorithm>

#include "core/arithmetic.h"
#include "core/dtype.h"
#include "cuda/plan.h"

namespace fusedssim::cuda {

namespace {

// Volumes of so many elements, of all planes together, are worked through in slabs. From here on, three more images in
// memory are more of a nuisance than a few percent in the time of a call, and a slab still fills the device. Tests of
// slabs have another number.
#if defined(FUSEDSSIM_SLABS_FROM)
constexpr std::int64_t kLeastElements = FUSEDSSIM_SLABS_FROM;
#else
constexpr std::int64_t kLeastElements = std::int64_t(1) << 27;  // 512^3
#endif

// The memory for their partial maps, in images of the type of the arithmetic. With one gradient a call then needs 1.6
// images besides the two that it is given.
constexpr double kMostImages = 0.59;

// What a launch costs, in the time that a block takes for a slice.
constexpr std::int64_t kLaunch = 3;

std::int64_t cost(const Problem& p, KernelType type, const Slabs& slabs) {
    std::int64_t sum = 0;
    Part last{};  // most are like the one before
    std::int64_t steps = 0;
    slabs.each([&](const Part& forward, const Part& backward) {
        for (const Part& part : {forward, backward}) {
            if (!part.tiles_y) continue;
            if (part.tiles_y != last.tiles_y || part.planes != last.planes)
                steps = cut_part(p, type, slabs, part).steps;
            last = part;
            sum += kLaunch + steps;
        }
    });
    return sum;
}

}  // namespace

bool is_large(const Problem& p) { return p.is_3d && p.planes() * p.volume() >= kLeastElements; }

bool has_rows_for_slabs(const Problem& p, int rows) {
    // With two gradients the shortest slab has maps for one row of tiles of 16, one that the backward kernel is behind,
    // and half a window of 11: 37 rows of 4 maps, which are 0.58 images if planes have 256 rows.
    constexpr int kRows = 256, kPlanes = 8;
    return !is_large(p) || !p.grads() || p.planes() >= kPlanes || rows >= kRows;
}

View partial_maps_layout(const Problem& p, int rows) {
    const std::int64_t row = round_up(std::int64_t(p.width), p.is_3d ? 2 : 4), slice = row * rows,
                       volume = slice * p.depth;
    return {nullptr, p.channels * volume, volume, slice, row, 1};
}

std::int64_t partial_maps_positions(const Problem& p, std::int64_t planes, int rows) {
    return planes * partial_maps_layout(p, rows).c;
}

std::size_t partial_maps_bytes(const Problem& p, int grads, std::int64_t planes, int rows) {
    return std::size_t(filtered_maps(grads)) * std::size_t(partial_maps_positions(p, planes, rows)) *
           dtype_size(p.arithmetic);
}

Slabs plan_slabs(const Problem& p, KernelType type, int grads) {
    return with_constants(type, grads, [&](auto zero, auto radius, auto) {
        constexpr int kRows = Block3d<decltype(zero), radius>::out_y, kBehind = int(ceil_div(int(radius), kRows));
        const int tiles_y = int(ceil_div(std::int64_t(p.height), kRows));
        const auto slabs_of = [&](std::int64_t planes, int tiles) {
            const int rows = int(std::min<std::int64_t>(p.height, std::int64_t(tiles + kBehind) * kRows + radius));
            return Slabs{planes, tiles, kBehind, tiles < tiles_y ? rows : p.height, p.planes(), tiles_y};
        };
        Slabs best = slabs_of(p.planes(), tiles_y);
        if (!is_large(p) || !grads || p.saved) return best;

        const double most = kMostImages / filtered_maps(grads) * double(p.planes()) * double(p.volume());
        const auto rows = std::int64_t(most / double(partial_maps_positions(p, 1, 1)));  // of one plane
        // The fewest slabs, or a few more if those fill the device better.
        constexpr std::int64_t kMore = 8;
        std::int64_t best_cost = INT64_MAX;
        const auto try_all = [&](std::int64_t length, std::int64_t longest, auto slabs_of_length) {
            longest = std::clamp<std::int64_t>(longest, 1, length);
            const std::int64_t fewest = ceil_div(length, longest);
            for (std::int64_t count = fewest; count <= std::min(fewest + kMore, length); ++count) {
                const Slabs slabs = slabs_of_length(ceil_div(length, count));
                const std::int64_t slabs_cost = cost(p, type, slabs);
                if (slabs_cost >= best_cost) continue;
                best_cost = slabs_cost;
                best = slabs;
            }
        };
        if (rows >= p.height)
            try_all(p.planes(), rows / p.height, [&](std::int64_t planes) { return slabs_of(planes, tiles_y); });
        else
            try_all(tiles_y, (rows - radius) / kRows - kBehind,
                    [&](std::int64_t tiles) { return slabs_of(1, int(tiles)); });
        return best;
    });
}

}  // namespace fusedssim::cuda
