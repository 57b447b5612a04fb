// SPDX-License-Identifier: MIT
//
// A task walks a tile of one plane along the first spatial axis, kSlices slices at a time, and keeps no more than some rows:
//
//     slices l - r to l + r of x and y
//          |
//     taps along the walk, of s, d, s^2 and d^2 --> (volumes: along y) --> along x --> statistics of slice l
//                                                                                         |
//                                              sums, map <-- DSSIM <----------------------+
//                                                                                         |
//     gradient of slices l - r to l + r <-- added, each with its tap <-- (along y) <-- along x <-- partials
//
//     extent of a tile, along x and along y: the gradient's own [0, n), the statistics' [-r, n + r), the input's
//     [-2r, n + 2r); without a gradient the statistics have n and the input has 2r more.
//
// The filter along the walk that ends in the gradient is transposed: the gradient is linear in the filtered partials, and
// what it multiplies them by, s and d, is known beforehand. So each slice of partials is added to the 2r + 1 slices of the
// gradient that it belongs to, and no window of partials has to be kept.
//
// Work goes row by row, so that what one stage writes is in the first-level cache when the next one reads it. Images of the
// type of the arithmetic, with a step of 1 along x, are read where they are, once for each tap of the walk: from a cache,
// but for the first time; and such gradients add up where they are. Others are converted from and to rings of slices.
#pragma once

#include "cpu/rows.h"

namespace fusedssim::cpu::FUSEDSSIM_ISA {

// The range of [begin, end) that lies in [low, high), counted from begin.
struct Range {
    int first, last;
    FUSEDSSIM_MATH Range(int begin, int end, int low, int high) {
        first = low > begin ? low - begin : 0;
        last = (high < end ? high : end) - begin;
        if (last < first) last = first;
    }
    FUSEDSSIM_MATH int size() const { return last - first; }
    FUSEDSSIM_MATH bool has(int i) const { return i >= first && i < last; }
};

// Whether images are read, and gradients added up, where they are: every tile then has at least a vector of columns.
struct Direct {
    bool in, out;
};
template <class T>
Direct direct(const Problem& p, const Tiling& t) {
    using A = arithmetic_t<T>;
    const int last_columns = t.columns - (t.tiles_x - 1) * t.tile_columns;
    const bool may_be = last_columns >= Simd<A>::lanes;
    return {may_be && sizeof(T) == sizeof(A) && p.x.w == 1 && p.y.w == 1 && !p.is_normalized,
            may_be && sizeof(grad_t<T>) == sizeof(A) && p.grad_x.w == 1 && (!p.grad_y.data || p.grad_y.w == 1)};
}

// Sizes of a tile's stages and their places in the scratch memory. `outer` is the input, `middle` the statistics and the
// partials, `inner` the gradient (or, without one, the statistics again). Columns are whole vectors.
template <class A>
struct Scratch {
    int taps, maps, moments_count;  // of a column: 2r + 1; filtered_maps; 5 of normalised masks, otherwise 4
    int outer_rows, middle_rows, inner_rows;
    int outer_columns, middle_columns, inner_columns;
    int window;                                       // slices that kSlices slices are filtered from and added to
    int ring;                                         // rows that kRows rows are filtered from
    std::int64_t walk_row, partials_row;              // elements of all of a row of the rings of rows
    std::int64_t sums_row, sums_slice;                // of the gradients that are not added up where they are
    std::int64_t image_row, image_line, image_slice;  // of the converted images: of one, of all of a row, of a slice
    A* zero;                                          // planar [5]: nothing but zeros
    A* across;      // planar [5], of an image for each slice: filtered along the walk (and y)
    A* moments;     // planar [5]
    A* partials;    // planar [4]
    A* dssim;       // planar [1]
    A* weights;     // planar [1]
    A* spare;       // planar [2]
    A* filtered;    // [kSlices][kRows][maps][inner_columns]: partials, filtered within the slice
    A* along_walk;  // [kSlices][ring][moments_count][outer_columns], volumes only: rings of rows
    A* partials_x;  // [kSlices][taps][maps][inner_columns], volumes only: rings of rows
    A* sums;        // [window][inner_rows][grad_x (, grad_y)][inner_columns], where gradients are converted
    A* images;      // [window][outer_rows][x, y (, mask)][image_row], where converted
    std::size_t bytes;

    Scratch(const Problem& p, const Tiling& t, Direct direct, void* memory) {
        using S = Simd<A>;
        const int grads = p.grads(), halo_y = p.radius(row_axis(p.is_3d)), halo_x = p.radius(Axis::x);
        const int walk_taps = 2 * p.radius(walk_axis(p.is_3d)) + 1;
        taps = 2 * halo_y + 1;
        maps = filtered_maps(grads);
        moments_count = p.is_normalized ? 5 : 4;
        inner_rows = t.tile_rows;
        middle_rows = inner_rows + (grads ? 2 * halo_y : 0);
        outer_rows = middle_rows + 2 * halo_y;
        inner_columns = S::round_up(t.tile_columns);
        middle_columns = S::round_up(inner_columns + (grads ? 2 * halo_x : 0));
        outer_columns = S::round_up(middle_columns + 2 * halo_x + S::lanes - 1);
        window = walk_taps - 1 + kSlices;
        ring = taps + kRows - 1;
        walk_row = std::int64_t(moments_count) * outer_columns;
        partials_row = std::int64_t(maps) * inner_columns;
        sums_row = std::int64_t(grads) * inner_columns;
        sums_slice = inner_rows * sums_row;
        image_row = outer_columns + S::lanes;
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
        moments = take(5 * kRowPitch);
        partials = take(grads ? 4 * kRowPitch : 0);
        dssim = take(kRowPitch);
        weights = take(kRowPitch);
        spare = take(2 * kRowPitch);
        filtered = take((p.is_3d ? kSlices * kRows : kSlices) * partials_row);
        along_walk = take(p.is_3d ? kSlices * ring * walk_row : 0);
        partials_x = take(p.is_3d ? kSlices * taps * partials_row : 0);
        sums = take(direct.out ? 0 : window * sums_slice);
        images = take(direct.in ? 0 : window * image_slice);
    }
};

// A view as it is walked: the walk is the first spatial axis, and images have slices of one row.
struct Walk {
    void* data;
    std::int64_t slice, row, column;
    FUSEDSSIM_MATH Walk(const Problem& p, const View& v, std::int64_t plane)
        : data(v.data), slice(p.is_3d ? v.d : v.h), row(p.is_3d ? v.h : 0), column(v.w),
          base(plane / p.channels * v.n + plane % p.channels * v.c) {}
    template <class T>
    FUSEDSSIM_MATH T* at(std::int64_t l, std::int64_t y, std::int64_t x) const {
        return static_cast<T*>(data) + base + l * slice + y * row + x * column;
    }

private:
    std::int64_t base;
};

// kNormalized: windows see nothing that the mask excludes. Filtering the mask, too, makes five moments of four.
template <class T, int G, bool kNormalized, Border kBorder>
class Walker {
    using A = arithmetic_t<T>;
    static constexpr int kMoments = kNormalized ? 5 : 4;
    static constexpr int kMaps = filtered_maps(G);

public:
    Walker(const Work& work, const Task& task, void* memory)
        : p(work.problem), t(work.tiling), is_direct(direct<T>(p, t)), s(p, t, is_direct, memory),
          x(p, p.x, task.plane), y(p, p.y, task.plane), mask(p, p.mask, task.plane), map(p, p.map, task.plane),
          grad_out(p, p.grad_out, task.plane), grad_x(p, p.grad_x, task.plane), grad_y(p, p.grad_y, task.plane),
          coarse_x(p, p.coarse_x, task.plane), coarse_y(p, p.coarse_y, task.plane), begin(task.chunk * t.chunk),
          end(begin + t.chunk < t.length ? begin + t.chunk : t.length),
          has_extras(p.reduction.l1_weight != 0 || p.is_normalized || p.coarse_x.data), stability{A(p.c1x2), A(p.c2x2)},
          inner_y(task.tile_y * t.tile_rows), inner_x(task.tile_x * t.tile_columns),
          middle_y(inner_y - (G ? y_radius() : 0)), middle_x(inner_x - (G ? x_radius() : 0)),
          outer_y(middle_y - y_radius()), outer_x(round_down(middle_x - x_radius())),
          crop_l(p.crop(walk_axis(p.is_3d))), crop_y(p.crop(row_axis(p.is_3d))), crop_x(p.crop(Axis::x)),
          columns(outer_x, middle_x + s.middle_columns + x_radius(), 0, t.columns),
          counted_columns(middle_x, middle_x + s.middle_columns, crop_x, t.columns - crop_x),
          counted_rows(middle_y, middle_y + s.middle_rows, crop_y, t.rows - crop_y) {
        round_taps(walk_axis(p.is_3d), walk_taps);
        round_taps(row_axis(p.is_3d), y_taps);
        round_taps(Axis::x, x_taps);
        double by_ssim = p.ssim_factor() * kGradientFactor, by_l1 = p.l1_factor();
        if (work.mask_sums && p.reduction.is_mean) {
            const MaskSums& group = work.mask_sums[task.plane / p.planes_per_group];
            by_ssim /= group.map;
            by_l1 /= group.image;
        }
        if (G && p.upstream == kUpstreamPlane) {
            const double u = double(*grad_out.template at<const A>(0, 0, 0));
            by_ssim *= u;
            by_l1 *= u;
        }
        for (int k = 0; k <= walk_radius(); ++k) gradient_taps[k] = A(by_ssim * double(walk_taps[k]));
        l1_scale = A(by_l1);
        // What the image's columns do not reach is zero for this tile.
        for (int slice = 0; slice < (p.is_3d ? 1 : kSlices); ++slice) clear(across(slice), planar(5, 0));
        if (G) clear(s.partials, planar(4, 0));
        if (!p.is_3d) return;
        clear(s.along_walk, kSlices * s.ring * s.walk_row);
        for (int slice = 0; slice < kSlices; ++slice) {
            for (int k = 0; k < s.ring + s.taps; ++k)
                along_walk_rows[slice][k] = along_walk_row(slice, k) + columns.first;
            for (int k = 0; k < 2 * s.taps; ++k) partials_x_rows[slice][k] = partials_x_row(slice, k);
        }
    }

    // Walks the task's slices. sums: those of the tile, NULL if nobody asks for them. kSlices slices are computed at once,
    // from a multiple of kSlices on wherever a chunk begins: the order of summation is not the same for all of them.
    void walk(SliceSums* sums) {
        const int r = walk_radius(), first = begin - (G ? r : 0), last = end + (G ? r : 0);
        const int aligned = (first + kMaxTaps * kSlices) / kSlices * kSlices - kMaxTaps * kSlices;
        if (!is_direct.in)
            for (int l = aligned - r; l < aligned + r; ++l) convert_slice(l);
        for (int at = aligned; at < last; at += kSlices) {
            bool computed[kSlices];
            for (int i = 0; i < kSlices; ++i) {
                const int l = at + i;
                if (!is_direct.in) convert_slice(l + r);
                computed[i] = l >= first && l < last && is_counted(l, t.length, crop_l);
            }
            compute(at, computed, sums);
            for (int l = at; l < at + kSlices; ++l)
                if (sums && is_own(l) && p.reduction.l1_weight != 0) l1(l, sums);
        }
    }

private:
    int walk_radius() const { return p.radius(walk_axis(p.is_3d)); }
    int y_radius() const { return p.radius(row_axis(p.is_3d)); }
    int x_radius() const { return p.radius(Axis::x); }
    // The taps of an axis in the type of the arithmetic. The central tap makes up for the rounding of the others, which would
    // show in the variance.
    void round_taps(Axis axis, A* taps) const {
        const double* const exact = p.taps(axis);
        double centre = exact[0];
        for (int k = 1; k <= p.radius(axis); ++k) {
            taps[k] = A(exact[k]);
            centre += 2 * (exact[k] - double(taps[k]));
        }
        taps[0] = A(centre);
    }
    // Rows of the input begin where a vector of an aligned image does.
    static FUSEDSSIM_MATH int round_down(int x) { return x - (x % Simd<A>::lanes + Simd<A>::lanes) % Simd<A>::lanes; }
    A* image_slot(int l) const { return s.images + l % s.window * s.image_slice; }
    bool is_own(int l) const { return l >= begin && l < end; }
    // Sums of DSSIM and |x - y| of the tile's row `row`, at slice l.
    SliceSums& sums_of(SliceSums* sums, int l, int row) const { return sums[row / kSumRows * t.length + l]; }

    // Slice l of the images, where it is not read directly, into its ring.
    void convert_slice(int l) {
        if (!sees_element<kBorder>(l, t.length)) return;
        const Range rows(outer_y, outer_y + s.outer_rows, 0, t.rows);
        const int n = columns.size(), x_at = outer_x + columns.first;
        for (int row = rows.first; row < rows.last; ++row) {
            A* const to_x = image_slot(l) + row * s.image_line + columns.first;
            A* const to_y = to_x + s.image_row;
            convert_row(x.template at<const T>(l, outer_y + row, x_at), x.column, n, to_x);
            convert_row(y.template at<const T>(l, outer_y + row, x_at), y.column, n, to_y);
            if (kNormalized) {
                A* const to_mask = to_y + s.image_row;
                read_mask(l, outer_y + row, x_at, n, to_mask);
                exclude(to_mask, n, to_x);
                exclude(to_mask, n, to_y);
            }
        }
    }

    void read_mask(int l, int y_at, int x_at, int n, A* out) const {
        if (p.mask_is_bool)
            mask_row<A>(mask.template at<const unsigned char>(l, y_at, x_at), true, mask.column, n, out);
        else
            mask_row<A>(mask.template at<const A>(l, y_at, x_at), false, mask.column, n, out);
    }

    // The filter along the walk of row `row` of the input, at kSlices slices from l on.
    void filter_input_row(int l, int row, A* const* out, std::int64_t pitch) const {
        InputRows<A> in;
        const int n = at_least_a_vector(columns.size()), low = l - walk_radius();
        const Range inside(low, low + s.window, 0, t.length);
        for (int k = 0; k < s.window; ++k) in.x[k] = in.y[k] = in.mask[k] = s.zero;
        if (!is_direct.in) {
            for (int k = inside.first; k < inside.last; ++k) {
                in.x[k] = image_slot(low + k) + row * s.image_line + columns.first;
                in.y[k] = in.x[k] + s.image_row;
                in.mask[k] = in.y[k] + s.image_row;
            }
        } else if constexpr (sizeof(T) == sizeof(A)) {
            const A* at_x = x.template at<const A>(low + inside.first, outer_y + row, outer_x + columns.first);
            const A* at_y = y.template at<const A>(low + inside.first, outer_y + row, outer_x + columns.first);
            for (int k = inside.first; k < inside.last; ++k, at_x += x.slice, at_y += y.slice) {
                in.x[k] = at_x;
                in.y[k] = at_y;
            }
            // Where the walk will read next: the rows of a tile are too short and too far apart for a processor to foresee.
            if (low + s.window + kSlices <= t.length)
                for (int next = 0; next < kSlices; ++next) {
                    prefetch_row(at_x + next * x.slice, n);
                    prefetch_row(at_y + next * y.slice, n);
                }
        }
        if (kNormalized) {
            for (int i = 0; i < kSlices; ++i)
                filter_masked_input<A>(in.x + i, in.y + i, in.mask + i, walk_taps, walk_radius(), out[i], pitch, n);
        } else if (walk_radius() == 5) {
            filter_input<5, A>(in, walk_taps, 5, out, pitch, n);
        } else {
            filter_input<0, A>(in, walk_taps, walk_radius(), out, pitch, n);
        }
    }

    template <int Q>
    void filter_rows(const A* const* rows, std::int64_t pitch, A* out, std::int64_t out_pitch, int n) const {
        if (!kNormalized && y_radius() == 5)
            filter_across_rows<5, Q>(rows, pitch, y_taps, 5, out, out_pitch, n);
        else
            filter_across_rows<0, Q>(rows, pitch, y_taps, y_radius(), out, out_pitch, n);
    }

    template <int Q>
    void filter_row(const A* in, A* out, std::int64_t pitch, int n) const {
        if (!kNormalized && x_radius() == 5)
            filter_along_row<5, Q>(in, x_taps, 5, out, pitch, n);
        else
            filter_along_row<0, Q>(in, x_taps, x_radius(), out, pitch, n);
    }

    static FUSEDSSIM_MATH int at_least_a_vector(int n) { return n < Simd<A>::lanes ? Simd<A>::lanes : n; }
    // Rows of the rings of a slice.
    A* along_walk_row(int slice, int row) const { return s.along_walk + (slice * s.ring + row % s.ring) * s.walk_row; }
    A* partials_x_row(int slice, int row) const {
        return s.partials_x + (slice * s.taps + row % s.taps) * s.partials_row;
    }
    A* across(int slice) const { return p.is_3d ? s.across : s.across + slice * planar(5, 0); }
    // Row `row` after the filters of partials within the slice.
    A* filtered(int slice, int row) const {
        return s.filtered + (p.is_3d ? slice * kRows + row % kRows : slice) * s.partials_row;
    }

    // Row `row` of the statistics: moments, DSSIM, partials, of the columns that are counted and some more that make whole
    // vectors.
    void statistics_row(int slice, int row) {
        A* const in = across(slice);
        if (p.is_3d)
            filter_rows<kMoments>(along_walk_rows[slice] + row % s.ring, s.outer_columns, in + columns.first, kRowPitch,
                                  columns.size());
        const int first = counted_columns.first, n = Simd<A>::round_up(counted_columns.size());
        filter_row<kMoments>(in + (middle_x - x_radius() - outer_x) + first, s.moments + first, kRowPitch, n);
        if (kNormalized) normalize_row(s.moments + first, n);
        pointwise<G>(s.moments + first, stability, n, s.dssim + first, s.partials + first);
    }

    // Computes kSlices slices from l on, as far as they are wanted and counted: the statistics, the sums of DSSIM over the
    // tile's own part, the map; adds what the partials give to the gradient. What is not counted has partials of zero.
    void compute(int l, const bool* computed, SliceSums* sums) {
        const int rows = G ? Range(inner_y, inner_y + s.inner_rows, 0, t.rows).last : 0;
        bool any = false;
        for (int i = 0; i < kSlices; ++i) any = any || computed[i];
        if (!any) {
            for (int row = 0; row < rows; ++row) add_to_gradient(l, row, computed, any);
            return;
        }
        int next = counted_rows.first;  // row of the input that is not filtered yet
        for (int low = 0; low < s.middle_rows; low += kRows) {
            const int high = low + kRows < s.middle_rows ? low + kRows : s.middle_rows;
            if (!p.is_3d) fill_across(l);
            const Range counted(low, high, counted_rows.first, counted_rows.last);
            if (p.is_3d && counted.size())
                for (; next < low + counted.last + 2 * y_radius(); ++next) fill_along_walk(l, next);
            for (int slice = 0; slice < kSlices; ++slice)
                for (int row = low; computed[slice] && row < high; ++row) {
                    if (counted.has(row - low)) count_row(l + slice, slice, row, sums);
                    if (G) partials_row(slice, row, counted.has(row - low));
                }
            const int behind = s.middle_rows - s.inner_rows;
            for (int row = low; row < high; ++row)
                if (row >= behind && row - behind < rows) add_to_gradient(l, row - behind, computed, any);
        }
    }

    // Row `row` of the rings of rows that are filtered along the walk; beside the image it is zero.
    void fill_along_walk(int l, int row) {
        A* out[kSlices];
        for (int slice = 0; slice < kSlices; ++slice) out[slice] = along_walk_row(slice, row);
        if (!sees_element<kBorder>(outer_y + row, t.rows)) {
            for (A* at : out)
                for (int q = 0; q < kMoments; ++q) clear(at + q * s.outer_columns, s.outer_columns);
            return;
        }
        for (A*& at : out) at += columns.first;
        filter_input_row(l, row, out, s.outer_columns);
    }

    // And the only one that an image has.
    void fill_across(int l) {
        A* out[kSlices];
        for (int slice = 0; slice < kSlices; ++slice) out[slice] = across(slice) + columns.first;
        filter_input_row(l, 0, out, kRowPitch);
    }

    // Computes a row of the statistics that is counted, and adds to the sums what is the tile's and the chunk's own.
    void count_row(int l, int slice, int row, SliceSums* sums) {
        statistics_row(slice, row);
        const bool has_weights = weigh(l, middle_y + row);
        const int own_row = row - (inner_y - middle_y), own_column = inner_x - middle_x;
        if (is_own(l) && own_row >= 0 && own_row < s.inner_rows) {
            const Range mine(own_column, own_column + t.tile_columns, counted_columns.first, counted_columns.last);
            A* const dssim = s.dssim + own_column + mine.first;
            if (sums) sums_of(sums, l, own_row).dssim += ordered_sum(dssim, mine.size());
            if (map.data) store_map(l, middle_y + row, mine, dssim);
        }
        if (G) mask_partials(has_weights);
    }

    // Filters a row of partials along x, and the rows up to it along y.
    void partials_row(int slice, int row, bool counted) {
        if constexpr (G > 0) {
            if (!p.is_3d) return filter_row<kMaps>(s.partials, filtered(slice, 0), s.inner_columns, s.inner_columns);
            if (counted)
                filter_row<kMaps>(s.partials, partials_x_row(slice, row), s.inner_columns, s.inner_columns);
            else
                clear(partials_x_row(slice, row), s.partials_row);
            const int done = row - 2 * y_radius();
            if (done < 0 || inner_y + done >= t.rows) return;
            filter_rows<kMaps>(partials_x_rows[slice] + done % s.taps, s.inner_columns, filtered(slice, done),
                               s.inner_columns, s.inner_columns);
        }
    }

    // Adds row `row` of the filtered partials of kSlices slices from l on to the slices of the gradient around them that are
    // the chunk's own. The first kSlices of these then have all they get, the last ones had nothing. any: of `computed`.
    void add_to_gradient(int l, int row, const bool* computed, bool any) {
        if constexpr (G > 0) {
            const int r = walk_radius(), low = l - r, n = Range(inner_x, inner_x + t.tile_columns, 0, t.columns).last;
            const Range slices(low, low + s.window, begin, end);
            if (!slices.size()) return;
            GradientRows<A> rows;
            for (int k = 0; k < s.window; ++k) {
                if (slices.has(k)) continue;
                rows.x[k] = rows.y[k] = s.zero;
                rows.to[0][k] = rows.to[1][k] = s.spare;
            }
            image_rows(x, 0, low, row, slices, rows.x);
            image_rows(y, 1, low, row, slices, rows.y);
            sum_rows(grad_x, 0, low, row, slices, rows.to[0]);
            if (G == 2) sum_rows(grad_y, 1, low, row, slices, rows.to[1]);
            if (any) {
                const A* partials[kSlices];
                for (int slice = 0; slice < kSlices; ++slice)
                    partials[slice] = computed[slice] ? filtered(slice, row) : s.zero;
                if (!kNormalized && r == 5)
                    add_partials<5, G>(partials, s.inner_columns, rows, gradient_taps, 5, at_least_a_vector(n));
                else
                    add_partials<0, G>(partials, s.inner_columns, rows, gradient_taps, r, at_least_a_vector(n));
            } else {
                for (int k = 2 * r; k < s.window; ++k)
                    for (int i = 0; i < G; ++i) clear(rows.to[i][k], n);
            }
            for (int k = slices.first; k < slices.last && k < kSlices; ++k)
                finish_gradient(low + k, inner_y + row, n, rows.to[0][k], rows.to[1][k]);
        }
    }

    // Where row `row` of the inner part of `slices`, counted from `low`, of x or y is.
    void image_rows(const Walk& image, int which, int low, int row, const Range& slices, const A** rows) const {
        if constexpr (sizeof(T) == sizeof(A))
            if (is_direct.in) {
                const A* at = image.template at<const A>(low + slices.first, inner_y + row, inner_x);
                for (int k = slices.first; k < slices.last; ++k, at += image.slice) rows[k] = at;
                return;
            }
        const std::int64_t at = (inner_y - outer_y + row) * s.image_line + which * s.image_row + (inner_x - outer_x);
        for (int k = slices.first; k < slices.last; ++k) rows[k] = image_slot(low + k) + at;
    }

    // And where that of grad_x or grad_y adds up.
    void sum_rows(const Walk& grad, int which, int low, int row, const Range& slices, A** rows) const {
        if constexpr (sizeof(grad_t<T>) == sizeof(A))
            if (is_direct.out) {
                A* at = grad.template at<A>(low + slices.first, inner_y + row, inner_x);
                for (int k = slices.first; k < slices.last; ++k, at += grad.slice) rows[k] = at;
                return;
            }
        const std::int64_t at = row * s.sums_row + which * s.inner_columns;
        for (int k = slices.first; k < slices.last; ++k) rows[k] = s.sums + (low + k) % s.window * s.sums_slice + at;
    }

    // Whatever else the sums of a row of the gradients need when all partials are in.
    void finish_gradient(int l, int y_at, int n, A* sum_x, A* sum_y) {
        if (has_extras) add_extras(l, y_at, n, sum_x, sum_y);
        if (is_direct.out) return;
        store_row(sum_x, n, grad_x.template at<grad_t<T>>(l, y_at, inner_x), grad_x.column);
        if (G == 2) store_row(sum_y, n, grad_y.template at<grad_t<T>>(l, y_at, inner_x), grad_y.column);
    }

    // Multiplies a row of DSSIM by the mask. With gradients, s.weights gets what the partials are to be multiplied by: the
    // mask, what comes from upstream, the reciprocal mass of the window; returns whether there is any of it.
    bool weigh(int l, int y_at) {
        const int first = counted_columns.first, n = counted_columns.size();
        A* const weights = s.weights + first;
        const bool has_upstream = G && p.upstream == kUpstreamMap;
        if (!mask.data && !has_upstream) return false;
        if (mask.data) {
            read_mask(l, y_at, middle_x + first, n, weights);
            multiply(weights, n, s.dssim + first);
        } else {
            for (int i = 0; i < n; ++i) weights[i] = 1;
        }
        if (has_upstream) {
            const A* u = grad_out.template at<const A>(l - crop_l, y_at - crop_y, middle_x + first - crop_x);
            for (int i = 0; i < n; ++i) weights[i] *= u[i * grad_out.column];
        }
        if (G && kNormalized) {
            const A* mass = s.moments + planar(4, first);
            for (int i = 0; i < n; ++i) weights[i] *= mass[i];
        }
        return true;
    }

    void mask_partials(bool has_weights) {
        const int first = counted_columns.first, last = counted_columns.last;
        for (int q = 0; q < kMaps; ++q) {
            A* const row = s.partials + planar(q, 0);
            for (int i = last; i < first + Simd<A>::round_up(last - first); ++i) row[i] = 0;
            if (!has_weights) continue;
            if (mask.data)
                multiply(s.weights + first, last - first, row + first);
            else
                for (int i = first; i < last; ++i) row[i] *= s.weights[i];
        }
    }

    // Of REDUCTION_NONE, from DSSIM times the mask.
    void store_map(int l, int y_at, const Range& mine, const A* dssim) {
        const int n = mine.size(), x_at = inner_x + mine.first;
        const Reduction& r = p.reduction;
        A *const row = s.spare, *const l1 = row + planar(1, 0), *const weights = s.moments;
        // Of a loss without |x - y|, l1 is not read but for its weight of 0: it must be finite.
        if (r.l1_weight != 0)
            masked_l1(l, y_at, x_at, n, l1);
        else
            clear(l1, n);
        if (!r.is_loss && mask.data) {
            read_mask(l, y_at, x_at, n, weights);
        } else {
            for (int i = 0; i < n; ++i) weights[i] = A(1);
        }
        map_row(r.is_loss, A(r.ssim_weight), A(r.l1_weight), weights, dssim, l1, n, row);
        store_row(row, n, map.template at<A>(l - crop_l, y_at - crop_y, x_at - crop_x), map.column);
    }

    // |x - y| times the mask. Overwrites the moments.
    void masked_l1(int l, int y_at, int x_at, int n, A* out) {
        l1_row(x.template at<const T>(l, y_at, x_at), x.column, y.template at<const T>(l, y_at, x_at), y.column, n,
               out);
        if (!mask.data) return;
        A* const m = s.moments;
        read_mask(l, y_at, x_at, n, m);
        multiply(m, n, out);
    }

    // Adds the sums of that over the tile's own part of slice l.
    void l1(int l, SliceSums* sums) {
        const int rows = Range(inner_y, inner_y + s.inner_rows, 0, t.rows).last;
        const int n = Range(inner_x, inner_x + t.tile_columns, 0, t.columns).last;
        for (int row = 0; row < rows; ++row) {
            masked_l1(l, inner_y + row, inner_x, n, s.spare);
            sums_of(sums, l, row).l1 += ordered_sum(s.spare, n);
        }
    }

    // What the gradients have besides that of SSIM: that of |x - y|, and what is handed down to them.
    void add_extras(int l, int y_at, int n, A* sum_x, A* sum_y) {
        A* const m = s.weights;
        if (mask.data) read_mask(l, y_at, inner_x, n, m);
        if (kNormalized) {
            multiply(m, n, sum_x);
            if (G == 2) multiply(m, n, sum_y);
        }
        if (p.reduction.l1_weight != 0) {
            A* const by_l1 = s.dssim;
            l1_gradient_row(x.template at<const T>(l, y_at, inner_x), x.column,
                            y.template at<const T>(l, y_at, inner_x), y.column, l1_scale, n, by_l1);
            if (mask.data) multiply(m, n, by_l1);
            if (p.upstream == kUpstreamMap) {
                const A* u = grad_out.template at<const A>(l, y_at, inner_x);
                for (int i = 0; i < n; ++i) by_l1[i] *= u[i * grad_out.column];
            }
            add(by_l1, A(1), n, sum_x);
            if (G == 2) add(by_l1, A(-1), n, sum_y);
        }
        if (coarse_x.data) {
            const A factor = A(p.coarse_factor());
            const int block = block_of(l, t.length), block_y = p.is_3d ? block_of(y_at, t.rows) : 0;
            const auto hand_down_row = [&](const Walk& coarse, A* sum) {
                hand_down(coarse.template at<const A>(block, block_y, 0), inner_x, t.columns, factor, n, sum);
            };
            hand_down_row(coarse_x, sum_x);
            if (G == 2) hand_down_row(coarse_y, sum_y);
        }
    }

    const Problem& p;
    const Tiling& t;
    const Direct is_direct;
    const Scratch<A> s;
    const Walk x, y, mask, map, grad_out, grad_x, grad_y, coarse_x, coarse_y;
    const int begin, end;  // slices of the task
    const bool has_extras;
    const Stability<A> stability;
    // Where the tile's stages begin in the plane.
    const int inner_y, inner_x, middle_y, middle_x, outer_y, outer_x;
    const int crop_l, crop_y, crop_x;           // along the walk, of rows, of columns
    const Range columns;                        // of the input, that lie in the image
    const Range counted_columns, counted_rows;  // of the statistics, that the padding counts
    // From the centre outwards. Those of the gradient are the walk's times what the gradient of SSIM is multiplied by.
    A walk_taps[kMaxRadius + 1], y_taps[kMaxRadius + 1], x_taps[kMaxRadius + 1], gradient_taps[kMaxRadius + 1];
    A l1_scale;
    // The rings' rows, and some of them once more: from any row on, 2r + 1 follow.
    const A *along_walk_rows[kSlices][2 * kMaxTaps + kRows], *partials_x_rows[kSlices][2 * kMaxTaps];
};

}  // namespace fusedssim::cpu::FUSEDSSIM_ISA
