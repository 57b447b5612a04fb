// SPDX-License-Identifier: MIT
//
// A task walks a tile of one plane along the first spatial axis, kSlices slices at a time, and keeps only some rows:
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
// The last filter, along the walk, is transposed: each slice of filtered partials is added to the 2r + 1 slices of the
// gradient whose windows see it. That is possible since the gradient is linear in the filtered partials, and its
// factors there, s and d, are known. So no window of partials has to be kept.
//
// Work goes row by row: what one stage writes is still in the first-level cache when the next one reads it. Images that
// both have the type of the arithmetic and unit stride along x are read in place; a row is read once for each tap of
// the walk, but stays in a cache. Gradients of that kind are accumulated in place. Everything else is converted through
// rings of slices: so the stages know one type, that of the arithmetic.
//
// The file is long because it is one class: all stages of a task share its tile, and are inlined into one loop.
#pragma once

#include "cpu/pivots.h"
#include "cpu/rows.h"
#include "cpu/tile.h"
#include "cpu/uniform.h"

namespace fusedssim::cpu::FUSEDSSIM_ISA {

// A: the type of the arithmetic. kNormalized: windows see nothing that the mask excludes. Filtering the mask, too,
// makes five moments of four.
template <class A, int G, bool kNormalized>
class Walker {
    static constexpr int kMoments = moment_count(kNormalized);
    static constexpr int kMaps = filtered_maps(G);

public:
    Walker(const Work& work, const Task& task, void* memory)
        : p(work.problem), t(work.tiling), is_direct(direct<A>(p, t)), s(p, t, is_direct, memory), g(p, t, task, s),
          v(p, task.plane), stability(stability_of<A>(p.k1, p.k2, p.data_range_of<A>(task.plane / p.channels))),
          has_extras(p.reduction.l1_weight != 0 || p.is_normalized || p.coarse_x.data),
          walk_taps(p, walk_axis(p.is_3d)), y_taps(p, row_axis(p.is_3d)), x_taps(p, Axis::x),
          is_uniform_walk(!kNormalized && is_uniform(walk_taps.at, g.walk.radius)),
          is_uniform_x(!kNormalized && is_uniform(x_taps.at, g.x.radius)), pivots(p, t, g, v, stability),
          strips(pivots.strips), beside(p.border, g.x.radius, g.x.size, g.outer.x, g.columns.first, g.columns.last) {
        const A* const upstream =
            G && p.upstream == kUpstreamPlane ? v.grad_out.template at<const A>(0, 0, 0) : nullptr;
        const GradientScales scales(work, task.plane, upstream ? double(*upstream) : 1.0);
        for (int k = 0; k <= g.walk.radius; ++k) gradient_taps[k] = A(scales.by_ssim * double(walk_taps.at[k]));
        l1_scale = A(scales.by_l1);
        if (G && p.border != Border::zeros) {
            walk_edges.set(p.border, gradient_taps, g.walk.radius, g.walk.size, g.begin, g.end);
            y_edges.set(p.border, y_taps.at, g.y.radius, g.y.size, g.inner.y, g.inner.y + s.inner_rows);
            EdgeTaps<A> taps;
            taps.set(p.border, x_taps.at, g.x.radius, g.x.size, g.inner.x, g.inner.x + t.tile_columns);
            x_edges.set(taps, g.middle.x, g.inner.x, s.inner_columns);
        }
        // With a normalised mask, columns beside the image are zero. No stage writes them, if the border is of zeros.
        for (int slice = 0; kNormalized && slice < (p.is_3d ? 1 : kSlices); ++slice) clear(across(slice), planar(5, 0));
        if (G) clear(s.partials, planar(4, 0));
        if (!p.is_3d) return;
        clear(s.along_walk, kSlices * s.ring * s.walk_row);
        for (int slice = 0; slice < kSlices; ++slice) {
            for (int k = 0; k < s.ring + s.y_taps; ++k) along_walk_rows[slice][k] = along_walk_row(slice, k);
            for (int k = 0; k < 2 * s.y_taps; ++k) partials_x_rows[slice][k] = partials_x_row(slice, k);
        }
    }

    // Walks the task's slices. sums: those of the tile, NULL if nobody asks for them. The order of summation depends on
    // where among kSlices slices a slice stands. So these begin at multiples of kSlices, wherever the chunk begins.
    void walk(SliceSums* sums) {
        const int r = g.walk.radius, first = g.begin - (G ? r : 0), last = g.end + (G ? r : 0);
        const int aligned = (first + kMaxTaps * kSlices) / kSlices * kSlices - kMaxTaps * kSlices;
        if (!is_direct.in)
            for (int l = aligned - r; l < aligned + r; ++l) convert_slice(l);
        for (int at = aligned; at < last; at += kSlices) {
            bool computed[kSlices];
            for (int i = 0; i < kSlices; ++i) {
                const int l = at + i;
                if (!is_direct.in) convert_slice(l + r);
                computed[i] = l >= first && l < last && is_counted(l, t.length, g.walk.crop);
            }
            compute(at, computed, sums);
            for (int l = at; l < at + kSlices; ++l)
                if (sums && is_own(l) && p.reduction.l1_weight != 0) l1(l, sums);
        }
    }

private:
    A* image_slot(int l) const { return s.images + l % s.window * s.image_slice; }
    bool is_own(int l) const { return l >= g.begin && l < g.end; }
    // Sums of DSSIM and |x - y| of the tile's row `row`, at slice l.
    SliceSums& sums_of(SliceSums* sums, int l, int row) const { return sums[row / kSumRows * t.length + l]; }

    // Slice l of the images, where it is not read directly, into its ring.
    void convert_slice(int l) {
        if (l < 0 || l >= t.length) return;
        const Range rows(g.outer.y, g.outer.y + s.outer_rows, 0, t.rows);
        const int n = g.columns.size(), x_at = g.outer.x + g.columns.first;
        for (int row = rows.first; row < rows.last; ++row) {
            A* const to_x = image_slot(l) + row * s.image_line + g.columns.first;
            A* const to_y = to_x + s.image_row;
            if (!p.is_3d && l + kSlices < t.length) {
                v.x.prefetch_image(p.x_dtype, l + kSlices, g.outer.y + row, x_at, n);
                v.y.prefetch_image(p.y_dtype, l + kSlices, g.outer.y + row, x_at, n);
            }
            v.x.read_image(p.x_dtype, p.x_scale, l, g.outer.y + row, x_at, n, to_x);
            v.y.read_image(p.y_dtype, p.y_scale, l, g.outer.y + row, x_at, n, to_y);
            if (kNormalized) {
                A* const to_mask = to_y + s.image_row;
                read_mask(l, g.outer.y + row, x_at, n, to_mask);
                exclude(to_mask, n, to_x);
                exclude(to_mask, n, to_y);
            }
        }
    }

    void read_mask(int l, int y_at, int x_at, int n, A* out) const { v.mask.read_mask(p, l, y_at, x_at, n, out); }

    // The filter along the walk of row `row` of the input, at kSlices slices from l on. `rows` is where the results
    // begin. With gaps, a strip's columns stand further on.
    void filter_input_row(int l, int row, A* const* rows, std::int64_t pitch, bool has_gaps) const {
        InputRows<A> in;
        const int n = Simd<A>::at_least_one(g.columns.size()), low = l - g.walk.radius;
        const Range inside(low, low + s.window, 0, t.length);
        const auto read_from_ring = [&](int k, int slice) {
            in.x[k] = image_slot(slice) + row * s.image_line + g.columns.first;
            in.y[k] = in.x[k] + s.image_row;
            in.mask[k] = in.y[k] + s.image_row;
        };
        if (!is_direct.in) {
            for (int k = inside.first; k < inside.last; ++k) read_from_ring(k, low + k);
        } else {
            const A* at_x = v.x.template at<const A>(low + inside.first, g.outer.y + row, g.outer.x + g.columns.first);
            const A* at_y = v.y.template at<const A>(low + inside.first, g.outer.y + row, g.outer.x + g.columns.first);
            for (int k = inside.first; k < inside.last; ++k, at_x += v.x.slice, at_y += v.y.slice) {
                in.x[k] = at_x;
                in.y[k] = at_y;
            }
            // Where the walk will read next: the rows of a tile are too short and too far apart for a processor to
            // foresee.
            if (low + s.window + kSlices <= t.length)
                for (int next = 0; next < kSlices; ++next) {
                    prefetch_row(at_x + next * v.x.slice, n);
                    prefetch_row(at_y + next * v.y.slice, n);
                }
        }
        // Slices beside the image. Those that are seen there are in the ring, if a slice that counts sees them.
        const auto read_beside = [&](int k) {
            if (p.border == Border::zeros) {
                in.x[k] = in.y[k] = in.mask[k] = s.zero;
                return;
            }
            const int slice = element_seen(p.border, low + k, t.length);
            if (!is_direct.in) return read_from_ring(k, slice);
            in.x[k] = v.x.template at<const A>(slice, g.outer.y + row, g.outer.x + g.columns.first);
            in.y[k] = v.y.template at<const A>(slice, g.outer.y + row, g.outer.x + g.columns.first);
        };
        for (int k = 0; k < inside.first; ++k) read_beside(k);
        for (int k = inside.last; k < s.window; ++k) read_beside(k);
        for (int i = 0; i < strips.count; ++i) {
            const Strip<A>& strip = strips.at[i];
            const int r = g.walk.radius, first = strip.in_first - g.columns.first,
                      last = first + Simd<A>::at_least_one(strip.in_last - strip.in_first);
            A* out[kSlices];
            for (int slice = 0; slice < kSlices; ++slice) out[slice] = rows[slice] + (has_gaps ? strip.shift : 0);
            if (kNormalized) {
                for (int slice = 0; slice < kSlices; ++slice)
                    filter_masked_input<A>(in.x + slice, in.y + slice, in.mask + slice, walk_taps.at, r, strip.pivot,
                                           out[slice], pitch, first, last);
            } else if (is_uniform_walk) {
                filter_uniform_input<A>(in, walk_taps.at[0], strip.pivot, out, pitch, first, last);
            } else {
                for_radius(r, [&](auto known) __attribute__((always_inline)) {
                    filter_input<decltype(known)::value, A>(in, walk_taps.at, r, strip.pivot, out, pitch, first, last);
                });
            }
        }
    }

    template <int kQuantities>
    void filter_rows(const A* const* rows, std::int64_t pitch, int first, A* out, std::int64_t out_pitch, int n) const {
        for_radius(kNormalized ? 0 : g.y.radius, [&](auto known) __attribute__((always_inline)) {
            filter_across_rows<decltype(known)::value, kQuantities>(rows, pitch, y_taps.at, g.y.radius, first, out,
                                                                    out_pitch, n);
        });
    }

    template <int kQuantities>
    void filter_row(const A* in, const A* begin, A* out, std::int64_t pitch, int n) const {
        if constexpr (kSplitsLines)
            if (is_uniform_x) return filter_uniform_along_row<kQuantities>(in, x_taps.at[0], begin, out, pitch, n);
        for_radius(kNormalized ? 0 : g.x.radius, [&](auto known) __attribute__((always_inline)) {
            filter_along_row<decltype(known)::value, kQuantities>(in, x_taps.at, g.x.radius, begin, out, pitch, n);
        });
    }

    // Rows of the rings of a slice.
    A* along_walk_row(int slice, int row) const { return s.along_walk + (slice * s.ring + row % s.ring) * s.walk_row; }
    A* partials_x_row(int slice, int row) const {
        return s.partials_x + (slice * s.y_taps + row % s.y_taps) * s.partials_row;
    }
    A* across(int slice) const { return p.is_3d ? s.across : s.across + slice * planar(5, 0); }
    // Row `row` after the filters of partials within the slice.
    A* filtered(int slice, int row) const {
        return s.filtered + (p.is_3d ? slice * kRows + row % kRows : slice) * s.partials_row;
    }

    // Row `row` of the statistics: moments, DSSIM and partials of the columns that the map has, rounded up to vectors.
    FUSEDSSIM_MATH void statistics_row(int slice, int row) {
        A* const in = across(slice);
        if (p.is_3d) {
            for (int i = 0; i < strips.count; ++i) {
                const Strip<A>& strip = strips.at[i];
                filter_rows<kMoments>(along_walk_rows[slice] + row % s.ring, s.outer_columns, strip.in_first,
                                      in + strip.in_first + strip.shift, kRowPitch, strip.in_last - strip.in_first);
            }
            if (p.border == Border::zeros)
                pivots.fill_beside(in, false, true);
            else
                fill_columns_beside(in);
        }
        pivots.fill_gaps(in);
        for (int i = 0; i < strips.count; ++i) {
            const Strip<A>& strip = strips.at[i];
            const int n = Simd<A>::round_up(strip.n);
            const A* const at = in + (g.middle.x - g.x.radius - g.outer.x) + strip.first + strip.shift;
            filter_row<kMoments>(at, strip.begin, s.moments_row + strip.first, kRowPitch, n);
            pointwise_of(s.moments_row + strip.first, pivots.pointwise(strip), n, s.dssim + strip.first,
                         s.partials + strip.first);
        }
    }

    FUSEDSSIM_MATH void pointwise_of(A* moments, const PointwiseSettings<A>& settings, int n, A* dssim,
                                     A* partials) const {
        if (G && settings.of_variances != A(1))
            pointwise<G, kNormalized, false>(moments, settings, stability, n, dssim, partials);
        else
            pointwise<G, kNormalized, true>(moments, settings, stability, n, dssim, partials);
    }

    // Computes kSlices slices from l on, or those among them that `computed` names: the statistics, the sums of DSSIM
    // over the tile's own part, the map. Adds the partials to the gradient; they are zero where the map has no element.
    void compute(int l, const bool* computed, SliceSums* sums) {
        const int rows = G ? Range(g.inner.y, g.inner.y + s.inner_rows, 0, t.rows).last : 0;
        bool any = false;
        for (int i = 0; i < kSlices; ++i) any |= computed[i];
        if (!any) {
            for (int row = 0; row < rows; ++row) add_to_gradient(l, row, computed, any);
            return;
        }
        if (!p.is_3d && pivots.change_slices(l) && p.border == Border::zeros)
            for (int slice = 0; slice < kSlices; ++slice) pivots.fill_beside(across(slice), true, true);
        if (walk_edges.count) edge_slices.set(walk_edges, l, l - g.walk.radius, s.window);
        int next = g.counted_rows.first;  // row of the input that is not filtered yet
        for (int low = 0; low < s.middle_rows; low = end_of_rows(low)) {
            const int high = end_of_rows(low);
            if (!p.is_3d) fill_across(l);
            const Range counted(low, high, g.counted_rows.first, g.counted_rows.last);
            if (p.is_3d && counted.size()) {
                const int first = next;
                for (; next < low + counted.last + 2 * g.y.radius; ++next) {
                    change_pivots(l, next);
                    fill_along_walk(l, next);
                }
                if (p.border != Border::zeros) fill_rows_beside(first, next);
            }
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

    // The end of those rows of the statistics, from `low` on, that are computed before the next slice is.
    int end_of_rows(int low) const {
        const int rows = pivots.rows_left(g.middle.y + low), high = low + (rows < kRows ? rows : kRows);
        return high < s.middle_rows ? high : s.middle_rows;
    }

    // New pivots from row `row` of the input on, if it is time, also for those rows before it that windows will see.
    void change_pivots(int l, int row) {
        const int first = g.counted_rows.first, before = row - 2 * g.y.radius;
        if (!pivots.change_rows(l, row, row == first)) return;
        if (p.border == Border::zeros) pivots.fill_beside(across(0), true, false);
        for (int slice = 0; slice < kSlices; ++slice)
            for (int k = before > first ? before : first; k < row; ++k)
                pivots.move_row(along_walk_row(slice, k), s.outer_columns);
    }

    // Row `row` of the rings of rows that are filtered along the walk.
    void fill_along_walk(int l, int row) {
        A* out[kSlices];
        for (int slice = 0; slice < kSlices; ++slice) out[slice] = along_walk_row(slice, row);
        if (!has_row(row)) {
            if (p.border != Border::zeros) return;  // fill_rows_beside() does it
            for (A* at : out) {
                if (kNormalized)
                    clear(at, s.walk_row);
                else
                    pivots.fill_row(at, s.outer_columns);
            }
            return;
        }
        for (A*& at : out) at += g.columns.first;
        filter_input_row(l, row, out, s.outer_columns, false);
    }

    bool has_row(int row) const { return g.outer.y + row >= 0 && g.outer.y + row < t.rows; }

    // Those among rows [first, last) of the rings that are beside the image: the rows that are seen there, which are in
    // the rings, with the same pivots.
    void fill_rows_beside(int first, int last) {
        for (int row = first; row < last; ++row) {
            if (has_row(row)) continue;
            const int from = element_seen(p.border, g.outer.y + row, t.rows) - g.outer.y;
            for (int slice = 0; slice < kSlices; ++slice)
                std::memcpy(along_walk_row(slice, row), along_walk_row(slice, from),
                            std::size_t(s.walk_row) * sizeof(A));
        }
    }

    // The only row of an image's slices, filtered along the walk.
    void fill_across(int l) {
        A* out[kSlices];
        for (int slice = 0; slice < kSlices; ++slice) out[slice] = across(slice) + g.columns.first;
        filter_input_row(l, 0, out, kRowPitch, true);
        if (p.border != Border::zeros)
            for (int slice = 0; slice < kSlices; ++slice) fill_columns_beside(across(slice));
    }

    void fill_columns_beside(A* row) const { beside.template fill<kMoments>(row, strips.at[strips.count - 1].shift); }

    // Computes a row of the statistics. What lies in the tile and in the chunk is added to the sums, and goes into the
    // map.
    void count_row(int l, int slice, int row, SliceSums* sums) {
        statistics_row(slice, row);
        const bool has_weights = weigh(l, g.middle.y + row);
        const int own_row = row - (g.inner.y - g.middle.y), own_column = g.inner.x - g.middle.x;
        if (is_own(l) && own_row >= 0 && own_row < s.inner_rows) {
            const Range mine(own_column, own_column + t.tile_columns, g.counted_columns.first, g.counted_columns.last);
            A* const dssim = s.dssim + own_column + mine.first;
            if (sums) sums_of(sums, l, own_row).dssim += ordered_sum(dssim, mine.size());
            if (v.map.data) store_map(l, g.middle.y + row, mine, dssim);
        }
        if (G) mask_partials(has_weights);
    }

    // Filters a row of partials along x, and the rows up to it along y.
    void partials_row(int slice, int row, bool counted) {
        if constexpr (G > 0) {
            if (!p.is_3d) return partials_along_row(filtered(slice, 0));
            if (counted)
                partials_along_row(partials_x_row(slice, row));
            else
                clear(partials_x_row(slice, row), s.partials_row);
            const int done = row - 2 * g.y.radius, y_at = g.inner.y + done;
            if (done < 0 || y_at >= t.rows) return;
            A* const out = filtered(slice, done);
            filter_rows<kMaps>(partials_x_rows[slice] + done % s.y_taps, s.inner_columns, 0, out, s.inner_columns,
                               s.inner_columns);
            const bool is_near_edge = y_at <= g.y.radius || y_at + g.y.radius >= t.rows - 1;
            for (int i = 0; i < y_edges.count && is_near_edge; ++i) {
                const EdgeTap<A>& tap = y_edges.at[i];
                if (tap.to == y_at)
                    add(partials_x_row(slice, tap.from - g.middle.y), tap.weight, int(s.partials_row), out);
            }
        }
    }

    void partials_along_row(A* out) const {
        const A zeros[kMaps] = {};
        filter_row<kMaps>(s.partials, zeros, out, s.inner_columns, s.inner_columns);
        if (x_edges.count)
            for (int q = 0; q < kMaps; ++q) x_edges.add(s.partials + planar(q, 0), out + q * s.inner_columns);
    }

    // Adds row `row` of the filtered partials of kSlices slices from l on to the slices of the gradient around them, if
    // they are in the chunk. The last kSlices of these had nothing before, the first ones are complete then.
    void add_to_gradient(int l, int row, const bool* computed, bool any) {
        if constexpr (G > 0) {
            const int r = g.walk.radius, low = l - r,
                      n = Range(g.inner.x, g.inner.x + t.tile_columns, 0, t.columns).last;
            const Range slices(low, low + s.window, g.begin, g.end);
            if (!slices.size()) return;
            GradientRows<A> rows;
            for (int k = 0; k < s.window; ++k) {
                if (slices.has(k)) continue;
                rows.x[k] = rows.y[k] = s.zero;
                rows.to[0][k] = rows.to[1][k] = s.spare;
            }
            image_rows(v.x, 0, low, row, slices, rows.x);
            image_rows(v.y, 1, low, row, slices, rows.y);
            sum_rows(v.grad_x, 0, low, row, slices, rows.to[0]);
            if (G == 2) sum_rows(v.grad_y, 1, low, row, slices, rows.to[1]);
            if (any) {
                const A* partials[kSlices];
                for (int slice = 0; slice < kSlices; ++slice)
                    partials[slice] = computed[slice] ? filtered(slice, row) : s.zero;
                if (is_uniform_walk)
                    add_partials_of<kUniformRadius, true>(partials, rows, r, n);
                else
                    for_radius(kNormalized ? 0 : r, [&](auto known) __attribute__((always_inline)) {
                        add_partials_of<decltype(known)::value, false>(partials, rows, r, n);
                    });
            } else {
                for (int k = 2 * r; k < s.window; ++k)
                    for (int i = 0; i < G; ++i) clear(rows.to[i][k], n);
            }
            for (int k = slices.first; k < slices.last && k < kSlices; ++k)
                finish_gradient(low + k, g.inner.y + row, n, rows.to[0][k], rows.to[1][k]);
        }
    }

    template <int R, bool kUniform>
    void add_partials_of(const A* const* partials, const GradientRows<A>& rows, int radius, int n) const {
        const int columns = Simd<A>::at_least_one(n);
        const Pivot<A>& pivot = pivots.gradient;
        if (!kNormalized && v.mask.data) {
            add_partials<R, G, true, kUniform>(partials, s.inner_columns, rows, gradient_taps, radius, pivot, columns);
            if (edge_slices.has_any)
                add_edge_partials<G, true>(partials, s.inner_columns, rows, edge_slices, s.window, pivot, columns);
        } else {
            add_partials<R, G, false, kUniform>(partials, s.inner_columns, rows, gradient_taps, radius, pivot, columns);
            if (edge_slices.has_any)
                add_edge_partials<G, false>(partials, s.inner_columns, rows, edge_slices, s.window, pivot, columns);
        }
    }

    // Where row `row` of the inner part of x or y is, for `slices` counted from `low`.
    void image_rows(const WalkedView& image, int which, int low, int row, const Range& slices, const A** rows) const {
        if (is_direct.in) {
            const A* at = image.template at<const A>(low + slices.first, g.inner.y + row, g.inner.x);
            for (int k = slices.first; k < slices.last; ++k, at += image.slice) rows[k] = at;
            return;
        }
        for (int k = slices.first; k < slices.last; ++k)
            rows[k] = image_at(image, which, low + k, g.inner.y + row, g.inner.x);
    }

    // An element of x or y that the tile reads, of a slice that the ring has now: there, or where it is read directly.
    const A* image_at(const WalkedView& image, int which, int l, int y_at, int x_at) const {
        if (is_direct.in) return image.template at<const A>(l, y_at, x_at);
        return image_slot(l) + (y_at - g.outer.y) * s.image_line + which * s.image_row + (x_at - g.outer.x);
    }

    // Where that of grad_x or grad_y is accumulated.
    void sum_rows(const WalkedView& grad, int which, int low, int row, const Range& slices, A** rows) const {
        if (is_direct.out) {
            A* at = grad.template at<A>(low + slices.first, g.inner.y + row, g.inner.x);
            for (int k = slices.first; k < slices.last; ++k, at += grad.slice) rows[k] = at;
            return;
        }
        const std::int64_t at = row * s.sums_row + which * s.inner_columns;
        for (int k = slices.first; k < slices.last; ++k) rows[k] = s.sums + (low + k) % s.window * s.sums_slice + at;
    }

    // Completes a row of the gradients: all partials are in.
    void finish_gradient(int l, int y_at, int n, A* sum_x, A* sum_y) {
        if (has_extras) add_extras(l, y_at, n, sum_x, sum_y);
        if (is_direct.out) return;
        v.grad_x.write_gradient(p.grad_dtype(p.x_dtype), sum_x, l, y_at, g.inner.x, n);
        if (G == 2) v.grad_y.write_gradient(p.grad_dtype(p.y_dtype), sum_y, l, y_at, g.inner.x, n);
    }

    // Multiplies a row of DSSIM by the mask. With gradients, makes s.weights the factors of the partials, and returns
    // whether there are any: the mask, the upstream gradient, the reciprocal mass of the window.
    bool weigh(int l, int y_at) {
        const int first = g.counted_columns.first, n = g.counted_columns.size();
        A* const weights = s.weights + first;
        const bool has_upstream = G && p.upstream == kUpstreamMap;
        if (!v.mask.data && !has_upstream) return false;
        if (v.mask.data) {
            read_mask(l, y_at, g.middle.x + first, n, weights);
            multiply(weights, n, s.dssim + first);
        } else {
            for (int i = 0; i < n; ++i) weights[i] = 1;
        }
        if (has_upstream) {
            const A* u =
                v.grad_out.template at<const A>(l - g.walk.crop, y_at - g.y.crop, g.middle.x + first - g.x.crop);
            for (int i = 0; i < n; ++i) weights[i] = weighted(weights[i], u[i * v.grad_out.column]);
        }
        if (G && kNormalized) {
            const A* mass = s.moments_row + planar(4, first);
            for (int i = 0; i < n; ++i) weights[i] *= mass[i];
        }
        return true;
    }

    void mask_partials(bool has_weights) {
        const int first = g.counted_columns.first, last = g.counted_columns.last;
        for (int q = 0; q < kMaps; ++q) {
            A* const row = s.partials + planar(q, 0);
            for (int i = last; i < first + Simd<A>::round_up(last - first); ++i) row[i] = 0;
            if (has_weights) multiply(s.weights + first, last - first, row + first);
        }
    }

    // The map of REDUCTION_NONE, from DSSIM times the mask.
    void store_map(int l, int y_at, const Range& mine, const A* dssim) {
        const int n = mine.size(), x_at = g.inner.x + mine.first;
        const Reduction& r = p.reduction;
        A* const out = v.map.template at<A>(l - g.walk.crop, y_at - g.y.crop, x_at - g.x.crop);
        if (!r.is_loss && !v.mask.data && v.map.column == 1) return ssim_row(dssim, n, out);
        A *const row = s.spare, *const l1 = row + planar(1, 0), *const weights = s.moments_row;
        // A loss without |x - y| multiplies l1 by 0: it must be finite.
        if (r.l1_weight != 0)
            masked_l1(l, y_at, x_at, n, l1);
        else
            clear(l1, n);
        if (!r.is_loss && v.mask.data)
            read_mask(l, y_at, x_at, n, weights);
        else
            for (int i = 0; i < n; ++i) weights[i] = A(1);
        map_row(r.is_loss, A(r.ssim_weight), A(r.l1_weight), weights, dssim, l1, n, row);
        store_row(row, n, out, v.map.column);
    }

    // |x - y| times the mask. Overwrites the moments.
    void masked_l1(int l, int y_at, int x_at, int n, A* out) {
        l1_row(image_at(v.x, 0, l, y_at, x_at), image_at(v.y, 1, l, y_at, x_at), n, out);
        if (!v.mask.data) return;
        A* const m = s.moments_row;
        read_mask(l, y_at, x_at, n, m);
        multiply(m, n, out);
    }

    // Adds the sums of |x - y| times the mask over the tile's own part of slice l.
    void l1(int l, SliceSums* sums) {
        const int rows = Range(g.inner.y, g.inner.y + s.inner_rows, 0, t.rows).last;
        const int n = Range(g.inner.x, g.inner.x + t.tile_columns, 0, t.columns).last;
        for (int row = 0; row < rows; ++row) {
            masked_l1(l, g.inner.y + row, g.inner.x, n, s.spare);
            sums_of(sums, l, row).l1 += ordered_sum(s.spare, n);
        }
    }

    // Adds the other parts of the gradients: that of |x - y|, and that of the next coarser level of MS-SSIM.
    void add_extras(int l, int y_at, int n, A* sum_x, A* sum_y) {
        A* const m = s.weights;
        if (v.mask.data) read_mask(l, y_at, g.inner.x, n, m);
        if (kNormalized) {
            // What the mask excludes gets 0, but NaN if the mean is one of nothing.
            const A excluded = A(0) * gradient_taps[0];
            multiply(m, n, sum_x, excluded);
            if (G == 2) multiply(m, n, sum_y, excluded);
        }
        if (p.reduction.l1_weight != 0) {
            A* const by_l1 = s.dssim;
            l1_gradient_row(image_at(v.x, 0, l, y_at, g.inner.x), image_at(v.y, 1, l, y_at, g.inner.x), l1_scale, n,
                            by_l1);
            if (v.mask.data) multiply(m, n, by_l1);
            if (p.upstream == kUpstreamMap) {
                const A* u = v.grad_out.template at<const A>(l, y_at, g.inner.x);
                for (int i = 0; i < n; ++i) by_l1[i] = weighted(by_l1[i], u[i * v.grad_out.column]);
            }
            add(by_l1, A(1), n, sum_x);
            if (G == 2) add(by_l1, A(-1), n, sum_y);
        }
        if (v.coarse_x.data) {
            const A factor = A(p.coarse_factor());
            const int block = block_of(l, t.length), row = p.is_3d ? block_of(y_at, t.rows) : 0;
            hand_down(v.coarse_x.template at<const A>(block, row, 0), g.inner.x, t.columns, factor, n, sum_x);
            if (G == 2)
                hand_down(v.coarse_y.template at<const A>(block, row, 0), g.inner.x, t.columns, factor, n, sum_y);
        }
    }

    const Problem& p;
    const Tiling& t;
    const Direct is_direct;
    const Scratch<A> s;
    const TileGeometry g;
    const PlaneViews v;
    const Stability<A> stability;
    const bool has_extras;  // gradients have other parts than that of SSIM; see add_extras()
    const AxisTaps<A> walk_taps, y_taps, x_taps;
    const bool is_uniform_walk, is_uniform_x;  // whether the filters of uniform.h serve
    A gradient_taps[kMaxRadius + 1];           // those of the walk, times what the gradient of SSIM is multiplied by
    A l1_scale;
    Pivots<A, kNormalized> pivots;
    const Strips<A>& strips;  // those of the pivots
    const ColumnsBeside beside;
    EdgeTaps<A> walk_edges, y_edges;  // of gradients: the slices of the chunk, and the rows of the tile
    EdgeColumns<A> x_edges;           // and its columns
    EdgeSlices<A> edge_slices;        // and the slices that are computed now
    // The rows of the rings, in order, and the first ones again at the end: 2r + 1 rows follow each other from any one
    // on.
    const A *along_walk_rows[kSlices][2 * kMaxTaps + kRows], *partials_x_rows[kSlices][2 * kMaxTaps];
};

}  // namespace fusedssim::cpu::FUSEDSSIM_ISA
