// SPDX-License-Identifier: MIT
//
// What kernels.cpp offers: it is compiled once for each instruction set, and backend.cpp picks one of the results.
#pragma once

#include <cstddef>
#include <cstdint>

#include "problem.h"

namespace fusedssim::cpu {

// Wide enough that the halo is small and memory is read in long runs, narrow enough that a tile's window of rows of an
// image stays in a second-level cache of any size.
constexpr int kMaxTileColumns = 256;

// How a plane is cut into tiles. A tile is a box of rows and columns of the slices of one plane (of an image, whose
// "slices" are its rows, a range of columns), walked along the first spatial axis: z of a volume, y of an image.
struct Tiling {
    int length;         // of the axis that is walked
    int rows, columns;  // of a slice (an image: 1 row)
    int tile_rows, tile_columns;
    int tiles_y, tiles_x;
    int chunk, chunks;   // slices that one task walks
    std::int64_t tasks;  // planes * tiles_y * tiles_x * chunks
};

struct Task {
    std::int64_t plane;
    int tile_y, tile_x, chunk;
};

struct Kernels {
    const char* name;
    // Bytes of scratch memory, zeroed by the caller, that a thread needs for run().
    std::size_t (*scratch_bytes)(const Problem& p, const Tiling& tiling);
    // Computes one task. sums has a double for each slice of each tile of each plane, [plane, tile_y, tile_x, slice]: the
    // sum of DSSIM = (1 - SSIM) / 2 there. It does not depend on how slices are cut into chunks.
    void (*run)(const Problem& p, const Tiling& tiling, const Task& task, void* scratch, double* sums);
    // grad *= factor * scale for one plane.
    void (*scale)(const ScaleProblem& p, std::int64_t plane);
};

extern const Kernels kernels_baseline;
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;

}  // namespace fusedssim::cpu
