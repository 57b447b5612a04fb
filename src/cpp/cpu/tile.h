// SPDX-License-Identifier: MIT
//
// A tile of a task: its extent in the plane, its scratch memory, and the views of its plane. walker.h has the picture.
#pragma once

#include "core/dtype.h"
#include "cpu/edges.h"
#include "cpu/filters.h"
#include "cpu/rows.h"

namespace fusedssim::cpu::FUSEDSSIM_ISA {

// The quantities that the filters of the statistics carry: G*s', G*d', G*s'^2 and G*d'^2, and G*m of a mask that
// normalises.
constexpr int moment_count(bool is_normalized) { return is_normalized ? 5 : 4; }

// The range of [begin, end) that lies in [low, high), counted from begin.
struct Range {
    int first, last;
    FUSEDSSIM_MATH Range(int begin, int end) : first(begin), last(end < begin ? begin : end) {}
    FUSEDSSIM_MATH Range(int begin, int end, int low, int high) {
        first = low > begin ? low - begin : 0;
        last = (high < end ? high : end) - begin;
        if (last < first) last = first;
    }
    FUSEDSSIM_MATH Range shifted(int by) const { return {first + by, last + by}; }
    FUSEDSSIM_MATH int size() const { return last - first; }
    FUSEDSSIM_MATH bool has(int i) const { return i >= first && i < last; }
};

// Whether images are read, and gradients added up, where they are. Every tile then has at least a vector of columns.
struct Direct {
    bool in, out;
};
template <class A>
Direct direct(const Problem& p, const Tiling& t) {
    const int last_columns = t.columns - (t.tiles_x - 1) * t.tile_columns;
    const bool may_be = last_columns >= Simd<A>::lanes;
    const bool x_fits = p.x_dtype == p.arithmetic, y_fits = p.y_dtype == p.arithmetic;
    const auto fits = [&](Dtype image, const View& grad) {
        return !grad.data || (p.grad_dtype(image) == p.arithmetic && grad.w == 1);
    };
    return {may_be && x_fits && y_fits && p.x.w == 1 && p.y.w == 1 && !p.is_normalized,
            may_be && p.grad_x.data && fits(p.x_dtype, p.grad_x) && fits(p.y_dtype, p.grad_y)};
}

// The sizes of a tile's stages, and where each has its scratch memory. `outer` is the input, `middle` the statistics
// and the partials, `inner` the gradient (or, without one, the statistics again). Columns are whole vectors.
template <class A>
struct Scratch {
    int y_taps;         // of the filter along y, 2r + 1
    int maps, moments;  // quantities that are filtered: partial maps, and moments
    int outer_rows, middle_rows, inner_rows;
    int outer_columns, middle_columns, inner_columns;
    int window;                                       // slices that kSlices slices are filtered from and added to
    int ring;                                         // rows that kRows rows are filtered from
    std::int64_t walk_row, partials_row;              // elements of all of a row of the rings of rows
    std::int64_t sums_row, sums_slice;                // of the gradients that are not added up where they are
    std::int64_t image_row, image_line, image_slice;  // of the converted images: of one, of all of a row, of a slice
    A* zero;                                          // planar [5]: nothing but zeros
    A* across;       // planar [5], of an image for each slice: filtered along the walk (and y)
    A* moments_row;  // planar [5]
    A* partials;     // planar [4]
    A* dssim;        // planar [1]
    A* weights;      // planar [1]
    A* spare;        // planar [2]
    A* filtered;     // [kSlices][kRows][maps][inner_columns]: partials, filtered within the slice
    A* along_walk;   // [kSlices][ring][moments][outer_columns], volumes only: rings of rows
    A* partials_x;   // [kSlices][y_taps][maps][inner_columns], volumes only: rings of rows
    A* sums;         // [window][inner_rows][grad_x (, grad_y)][inner_columns], where gradients are converted
    A* images;       // [window][outer_rows][x, y (, mask)][image_row], where converted
    std::size_t bytes;

    Scratch(const Problem& p, const Tiling& t, Direct direct, void* memory) {
        using Vectors = Simd<A>;
        const int grads = p.grads(), halo_y = p.radius(row_axis(p.is_3d)), halo_x = p.radius(Axis::x);
        const int walk_taps = 2 * p.radius(walk_axis(p.is_3d)) + 1;
        y_taps = 2 * halo_y + 1;
        maps = filtered_maps(grads);
        moments = moment_count(p.is_normalized);
        inner_rows = t.tile_rows;
        middle_rows = inner_rows + (grads ? 2 * halo_y : 0);
        outer_rows = middle_rows + 2 * halo_y;
        inner_columns = Vectors::round_up(t.tile_columns);
        middle_columns = Vectors::round_up(inner_columns + (grads ? 2 * halo_x : 0));
        outer_columns = Vectors::round_up(middle_columns + 2 * halo_x + Vectors::lanes - 1);
        window = walk_taps - 1 + kSlices;
        ring = y_taps + kRows - 1;
        walk_row = std::int64_t(moments) * outer_columns;
        partials_row = std::int64_t(maps) * inner_columns;
        sums_row = std::int64_t(grads) * inner_columns;
        sums_slice = inner_rows * sums_row;
        image_row = outer_columns + Vectors::lanes;
        image_line = (p.is_normalized ? 3 : 2) * image_row;
        image_slice = outer_rows * image_line;

        bytes = 0;
        auto take = [&](std::int64_t elements) {
            A* at = memory ? reinterpret_cast<A*>(static_cast<char*>(memory) + bytes) : nullptr;
            bytes += (std::size_t(elements) * sizeof(A) + kCacheLine - 1) / kCacheLine * kCacheLine;
            return at;
        };
        zero = take(5 * kRowPitch);
        across = take((p.is_3d ? 1 : kSlices) * 5 * kRowPitch);
        moments_row = take(5 * kRowPitch);
        partials = take(grads ? 4 * kRowPitch : 0);
        dssim = take(kRowPitch);
        weights = take(kRowPitch);
        spare = take(2 * kRowPitch);
        filtered = take((p.is_3d ? kSlices * kRows : kSlices) * partials_row);
        along_walk = take(p.is_3d ? kSlices * ring * walk_row : 0);
        partials_x = take(p.is_3d ? kSlices * y_taps * partials_row : 0);
        sums = take(direct.out ? 0 : window * sums_slice);
        images = take(direct.in ? 0 : window * image_slice);
    }
};

// One axis of the plane, and the window along it.
struct PlaneAxis {
    int size, radius, crop;
    FUSEDSSIM_MATH PlaneAxis(const Problem& p, Axis axis)
        : size(p.size(axis)), radius(p.radius(axis)), crop(p.crop(axis)) {}
};

// Where a task's tile lies in the plane.
struct TileGeometry {
    struct Place {
        int y, x;
    };
    PlaneAxis walk, y, x;                 // of slices, rows and columns
    int begin, end;                       // slices of the task
    Place inner, middle, outer;           // where the stages begin
    Range columns;                        // of the input, that lie in the image
    Range counted_columns, counted_rows;  // of the statistics, that the map has

    template <class A>
    TileGeometry(const Problem& p, const Tiling& t, const Task& task, const Scratch<A>& s)
        : walk(p, walk_axis(p.is_3d)), y(p, row_axis(p.is_3d)), x(p, Axis::x), begin(task.chunk * t.chunk),
          end(begin + t.chunk < t.length ? begin + t.chunk : t.length),
          inner{task.tile_y * t.tile_rows, task.tile_x * t.tile_columns},
          middle(p.grads() ? Place{inner.y - y.radius, inner.x - x.radius} : inner),
          outer{middle.y - y.radius, round_down<A>(middle.x - x.radius)},
          columns(outer.x, middle.x + s.middle_columns + x.radius, 0, x.size),
          counted_columns(middle.x, middle.x + s.middle_columns, x.crop, x.size - x.crop),
          counted_rows(middle.y, middle.y + s.middle_rows, y.crop, y.size - y.crop) {}

private:
    // Rows of the input begin where a vector of an aligned image does.
    template <class A>
    static FUSEDSSIM_MATH int round_down(int at) {
        return at - (at % Simd<A>::lanes + Simd<A>::lanes) % Simd<A>::lanes;
    }
};

// A view as it is walked: the walk is the first spatial axis, and images have slices of one row.
struct WalkedView {
    void* data;
    std::int64_t slice, row, column;
    FUSEDSSIM_MATH WalkedView(const Problem& p, const View& v, std::int64_t plane)
        : data(v.data), slice(p.is_3d ? v.d : v.h), row(p.is_3d ? v.h : 0), column(v.w),
          base(plane / p.channels * v.n + plane % p.channels * v.c) {}
    template <class T>
    FUSEDSSIM_MATH T* at(std::int64_t l, std::int64_t y, std::int64_t x) const {
        return static_cast<T*>(data) + base + l * slice + y * row + x * column;
    }

    // n elements of a row of an image, or of the mask, in the type of the arithmetic.
    template <class A>
    void read_image(Dtype dtype, double scale, int l, int y, int x, int n, A* out) const {
        dispatch_dtype(
            dtype, [&](auto element) { convert_row(at<const decltype(element)>(l, y, x), column, n, A(scale), out); });
    }
    // Asks for a row of an image ahead of time: the rows of a tile are too short and too far apart for a processor to
    // foresee.
    void prefetch_image(Dtype dtype, int l, int y, int x, int n) const {
        const auto size = std::int64_t(dtype_size(dtype)), last = (n - 1) * column * size;
        if (column * size > kCacheLine || -column * size > kCacheLine) return;
        const char* const first = static_cast<const char*>(data) + (base + l * slice + y * row + x * column) * size;
        for (std::int64_t i = last < 0 ? last : 0; i <= (last < 0 ? 0 : last); i += kCacheLine)
            __builtin_prefetch(first + i);
    }
    template <class A>
    void read_mask(const Problem& p, int l, int y, int x, int n, A* out) const {
        if (p.mask_is_bool)
            mask_row<A>(at<const unsigned char>(l, y, x), true, column, n, out);
        else
            mask_row<A>(at<const A>(l, y, x), false, column, n, out);
    }
    // Writes those of a gradient.
    template <class A>
    void write_gradient(Dtype dtype, const A* from, int l, int y, int x, int n) const {
        dispatch_grad_dtype(dtype, [&](auto element) { store_row(from, n, at<decltype(element)>(l, y, x), column); });
    }

private:
    std::int64_t base;
};

// The views of one plane.
struct PlaneViews {
    WalkedView x, y, mask, map, grad_out, grad_x, grad_y, coarse_x, coarse_y;
    PlaneViews(const Problem& p, std::int64_t plane)
        : x(p, p.x, plane), y(p, p.y, plane), mask(p, p.mask, plane), map(p, p.map, plane),
          grad_out(p, p.grad_out, plane), grad_x(p, p.grad_x, plane), grad_y(p, p.grad_y, plane),
          coarse_x(p, p.coarse_x, plane), coarse_y(p, p.coarse_y, plane) {}
};

// The taps of an axis in the type of the arithmetic, from the centre outwards.
template <class A>
struct AxisTaps {
    A at[kMaxRadius + 1];

    AxisTaps(const Problem& p, Axis axis) {
        for (int k = 0; k <= p.radius(axis); ++k) at[k] = A(p.taps(axis)[k]);
    }
};

// What the derivatives of SSIM and of |x - y| in a plane are multiplied by.
struct GradientScales {
    double by_ssim, by_l1;

    GradientScales(const Work& work, std::int64_t plane, double upstream)
        : by_ssim(work.problem.ssim_factor() * kGradientFactor), by_l1(work.problem.l1_factor()) {
        if (work.mask_sums && work.problem.reduction.is_mean) {
            const MaskSums& group = work.mask_sums[plane / work.problem.planes_per_group];
            by_ssim /= group.map;
            by_l1 /= group.image;
        }
        by_ssim *= upstream;
        by_l1 *= upstream;
    }
};

}  // namespace fusedssim::cpu::FUSEDSSIM_ISA
