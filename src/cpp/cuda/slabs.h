// SPDX-License-Identifier: MIT
//
// Large volumes in less memory. The partial maps take three or four times the memory of an image, but a tile's gradient
// needs those of the rows around it alone. So a large volume is worked through in slabs, a few rows of tiles each:
//
//     rows of tiles     0 1 2 3 4 5 6 7 8 9        the forward kernel for a slab, then the backward kernel for the same
//     forward           ------>                    number of rows, a little behind: as soon as it has all partial maps
//     backward          --->                       that it needs. The maps are kept for so many rows as lie between the
//     forward                  ------>             first that a backward kernel still needs and the last that there is.
//     backward              ----->                 A row takes the place of one that nobody needs any more.
//     forward                        -->
//     backward                    ------>
//
// A slab has its rows over the whole depth, and blocks walk along z. So no step of a walk is made twice, and what a
// kernel does in its loop does not depend on slabs. Small planes are taken whole, a few at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/view.h"
#include "cuda/kernel_list.h"
#include "problem.h"

namespace fusedssim::cuda {

// Whether the partial maps of these volumes are too large to have all of them at a time. So nothing is saved for a
// backward either.
bool is_large(const Problem& p);

// Whether planes have so many rows that there is memory for the shortest slabs, or are so small that there is for whole
// planes. Those of volumes that are not large, and of which no gradient is wanted, always have.
bool has_rows_for_slabs(const Problem& p, int rows);

// The tiles that one launch takes.
struct Part {
    std::int64_t first_plane, planes;
    int first_tile_y, tiles_y;
};

struct Slabs {
    std::int64_t planes;  // at a time; several only if they are taken whole
    int tiles_y;          // rows of tiles of a slab
    int behind;           // rows of tiles that the backward kernel is behind the forward kernel
    int map_rows;         // rows that there are partial maps of
    // Of all planes.
    std::int64_t all_planes;
    int all_tiles_y;

    bool is_whole() const { return planes == all_planes && tiles_y == all_tiles_y; }
    // Calls f(forward, backward) with the parts of both kernels, in the order in which they are to be launched. Either
    // may be of no tiles.
    template <class F>
    void each(F f) const {
        for (std::int64_t plane = 0; plane < all_planes; plane += planes) {
            const std::int64_t count = planes < all_planes - plane ? planes : all_planes - plane;
            for (int at = 0, done = 0; at < all_tiles_y;) {
                const int end = tiles_y < all_tiles_y - at ? at + tiles_y : all_tiles_y;
                const int ready = end == all_tiles_y ? end : end - behind > done ? end - behind : done;
                f(Part{plane, count, at, end - at}, Part{plane, count, done, ready - done});
                at = end;
                done = ready;
            }
        }
    }
};

// One slab with everything, if that is not too large or if no partial maps stand in the workspace. Otherwise slabs that
// finish first, of those for which there is memory.
Slabs plan_slabs(const Problem& p, KernelType type, int grads);

// The partial maps of so many planes and rows: the strides of SsimParams::maps, with no data, and the number of
// positions.
View partial_maps_layout(const Problem& p, int rows);
std::int64_t partial_maps_positions(const Problem& p, std::int64_t planes, int rows);
std::size_t partial_maps_bytes(const Problem& p, int grads, std::int64_t planes, int rows);

}  // namespace fusedssim::cuda
