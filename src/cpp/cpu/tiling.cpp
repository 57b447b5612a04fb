// SPDX-License-Identifier: MIT
#include "cpu/tiling.h"

#include <algorithm>

#include "core/arithmetic.h"
#include "core/dtype.h"

namespace fusedssim::cpu {

namespace {

// The memory that the windows of a tile may take: that of a large second-level cache, or a core's share of the third.
// With less, tiles are smaller, and their halos cost more time than cache misses do (measured on an Intel Xeon with 2
// MB).
constexpr std::size_t kCacheBytes = 2048 * 1024;
// Scratch memory of a thread that is always small enough, and the size of images that are.
constexpr std::size_t kLeastScratchBytes = 336 * 1024;
constexpr std::size_t kSmallImageBytes = 2048 * 1024;

// The size of a tile if an axis is cut into equal ones of at most `most` elements. Several tiles are a multiple of
// `multiple` each: whole cache lines of float32, or whole sums.
int even_tile(int extent, int most, int multiple) {
    const int tile = ceil_div(extent, ceil_div(extent, most));
    return std::min(extent, round_up(tile, multiple));
}

}  // namespace

Tiling make_tiling(const Problem& p, const Kernels& k, int threads) {
    Tiling t{};
    const Axis walk = walk_axis(p.is_3d), row = row_axis(p.is_3d), column = Axis::x;
    t.length = p.size(walk);
    t.rows = p.size(row);
    t.columns = p.size(column);
    t.tile_columns = even_tile(t.columns, p.is_3d ? kMaxTileColumns / 2 : kMaxTileColumns, 16);
    t.tiles_x = ceil_div(t.columns, t.tile_columns);
    t.sums_y = ceil_div(t.rows, kSumRows);
    // The highest tiles, which have the least halo, but with windows that stay in the second-level cache, and with
    // scratch memory that is small beside the images (for two threads).
    const std::size_t element = dtype_size(p.arithmetic);
    const auto image = std::size_t(p.planes() * p.volume()) * element;
    const std::size_t share =
        image <= kSmallImageBytes ? kCacheBytes : std::max(kLeastScratchBytes, image / (p.grads() ? 12 : 24));
    // On both sides together: of the statistics, and of the partials.
    const int filters = p.grads() ? 2 : 1;
    const int halo_rows = filters * 2 * p.radius(row), halo_columns = filters * 2 * p.radius(column);
    const auto is_too_large = [&] {
        const std::size_t scratch = k.scratch_bytes(p, t);
        const std::size_t columns = std::size_t(std::min(t.columns, t.tile_columns + halo_columns));
        const std::size_t read = 2 * columns * std::size_t(std::min(t.rows, t.tile_rows + halo_rows));
        const std::size_t written = std::size_t(p.grads()) * std::size_t(t.tile_columns) * std::size_t(t.tile_rows);
        const std::size_t window = std::size_t(2 * p.radius(walk) + 4) * (read + written) * element;
        return scratch + window > kCacheBytes || scratch > share;
    };
    const auto cut_rows = [&](int tiles) { t.tile_rows = even_tile(t.rows, ceil_div(t.rows, tiles), kSumRows); };
    for (t.tile_rows = t.rows; t.tile_rows > kSumRows && is_too_large();)
        t.tile_rows = (t.tile_rows - 1) / kSumRows * kSumRows;
    const int least_tiles = ceil_div(t.rows, t.tile_rows);
    // More tiles, or more chunks of the walk, let the threads end at about the same time, but each pays for its halo,
    // except at the border of the image. While the last thread works for half a task, on average, the others are idle.
    const double idle = threads > 1 ? 0.5 : 0;
    const int halo_slices = p.grads() ? 2 * p.radius(walk) : 0;
    double least = 0;
    Tiling best = t;
    for (int tiles = least_tiles; tiles <= std::max(least_tiles, t.sums_y); ++tiles) {
        cut_rows(tiles);
        t.tiles_y = ceil_div(t.rows, t.tile_rows);
        if (t.tiles_y != tiles) continue;
        for (int chunks = 1; chunks <= std::max(1, std::min(4 * threads, t.length / 8)); ++chunks) {
            t.chunk = ceil_div(t.length, chunks);
            t.chunks = ceil_div(t.length, t.chunk);
            t.tasks = p.planes() * t.tiles_y * t.tiles_x * t.chunks;
            const std::int64_t rounds = ceil_div(t.tasks, threads);
            const double slices = double(t.length + (t.chunks - 1) * halo_slices) / t.chunks;
            const double rows = double(t.rows + (t.tiles_y - 1) * halo_rows) / t.tiles_y;
            const double time = (double(rounds) + idle) * slices * rows;
            if (least != 0 && time > 0.99 * least) continue;
            least = time;
            best = t;
        }
    }
    return best;
}

}  // namespace fusedssim::cpu
