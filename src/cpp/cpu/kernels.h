// SPDX-License-Identifier: MIT
//
// What kernels.cpp offers: it is compiled once for each instruction set, and isa.cpp picks one of the results.
#pragma once

#include <cstddef>
#include <cstdint>

#include "problem.h"

namespace fusedssim::cpu {

// Wide enough that halos are small and memory is read in long runs. Narrow enough that the rows in the windows of an
// image's tile stay in the first-level cache, or in any second-level cache.
constexpr int kMaxTileColumns = 256;

// The axes as the kernels go through them. A volume is walked along z, through slices of rows along y and columns along
// x. An image is walked along y: its slices have a single row, along z, an axis without a window.
FUSEDSSIM_MATH Axis walk_axis(bool is_3d) { return is_3d ? Axis::z : Axis::y; }
FUSEDSSIM_MATH Axis row_axis(bool is_3d) { return is_3d ? Axis::y : Axis::z; }

// How a plane is cut into tiles. A tile is a box of rows and columns of the slices of one plane (of an image, whose
// "slices" are its rows, a range of columns), walked along the first spatial axis: z of a volume, y of an image.
struct Tiling {
    int length;         // of the axis that is walked
    int rows, columns;  // of a slice (an image: 1 row)
    int tile_rows, tile_columns;
    int tiles_y, tiles_x;
    int sums_y;          // how many sums a slice has along y
    int chunk, chunks;   // slices that one task walks
    std::int64_t tasks;  // planes * tiles_y * tiles_x * chunks
};

struct Task {
    std::int64_t plane;
    int tile_y, tile_x, chunk;
};

// Rows of a tile, in a volume, that have sums of their own. If a plane has several tiles along y, their height is a
// multiple of it.
constexpr int kSumRows = 16;

// Sums over kSumRows rows of a tile's part of a slice, each element times the mask if there is one.
struct SliceSums {
    double dssim;  // (1 - SSIM) / 2, over the map
    double l1;     // |x - y|
};

// Sums of a mask, over the map and over the image.
struct MaskSums {
    double map, image;
    bool has_bad_weight;  // one that is negative, NaN or infinite
};

struct Work {
    const Problem& problem;
    const Tiling& tiling;
    const MaskSums* mask_sums;  // of each group; NULL without a mask
    // [plane, tile_x, y / kSumRows, slice], zero at first; NULL if nobody asks for them. A sum for each kSumRows rows
    // and slice: so the result does not depend on the height of tiles, on chunks or on the number of threads.
    SliceSums* sums;
};

struct Kernels {
    const char* name;
    unsigned required;  // features of the processor (features.h)
    // Bytes of scratch memory, zeroed by the caller, that a thread needs for run().
    std::size_t (*scratch_bytes)(const Problem& p, const Tiling& tiling);
    // Computes one task.
    void (*run)(const Work& work, const Task& task, void* scratch);
    // The sums of the mask of one slice (an image: row) of a plane.
    MaskSums (*sum_mask)(const Problem& p, std::int64_t plane, int slice);
    // As the Backend's, for rows from `first` to `last` of all planes of the coarsest level (steps[0], or the last of
    // the levels), and those of all finer levels that they are made of.
    void (*scale)(const ScaleProblem* steps, int count, std::int64_t first, std::int64_t last);
    void (*pool)(const Problem* levels, int count, std::int64_t first, std::int64_t last);
};

}  // namespace fusedssim::cpu
