// SPDX-License-Identifier: MIT
//
// Where a tile's pivots come from, and the strips of columns that have one each.
//
// A pivot is a level near the images' own. Filters mix only what has the same pivot, so the statistics of a tile are
// cut into strips of columns, and each has a new pivot after some slices, and some rows of a volume. Along the walk
// this costs nothing: the filter there begins anew for each strip and each kSlices slices. Along y rows are moved from
// one pivot to the next. Along x a strip's windows also see columns of the strips beside it, which were filtered with
// other pivots. So rows before the filter along x are stored with gaps between the strips:
//
//     columns of strip 0 | those of strip 1 that it sees | those of strip 0 that strip 1 sees | columns of strip 1
//                           with the pivot of strip 0         with the pivot of strip 1
//
// fill_gaps() fills them. What lies beside the image has a pivot, too: zeros there are -c and -e.
//
// Which elements a pivot comes from depends on positions in the plane alone: not on threads, chunks, the height of
// tiles or strides. So do its bits.
#pragma once

#include "cpu/tile.h"

namespace fusedssim::cpu::FUSEDSSIM_ISA {

// Slices of an image, which are its rows, with the same pivots. In a volume, each kSlices slices have pivots of their
// own, and so do some rows.
constexpr int kPivotSlices = 64;
// Runs of 16 columns that a pivot is the mean of.
constexpr int kLines = 4;

// A box of elements of a plane.
struct Box {
    Range slices, rows, columns;
    bool operator==(const Box& other) const {
        const auto same = [](const Range& a, const Range& b) { return a.first == b.first && a.last == b.last; };
        return same(slices, other.slices) && same(rows, other.rows) && same(columns, other.columns);
    }
};

// A pivot near these levels, with few digits: so x and y have pivots, (s + d) / 2 and (s - d) / 2, that are exact. Not
// finite: 0.
template <class A>
Pivot<A> exact_pivot(double s, double d, double c2x2) {
    if (!is_finite(A(s)) || !is_finite(A(d))) return {0, 0};
    const double larger = s * s > d * d ? s : d;
    std::uint64_t bits;
    std::memcpy(&bits, &larger, sizeof bits);
    bits &= std::uint64_t(0x7ff) << 52;  // the power of 2 below it
    double power;
    std::memcpy(&power, &bits, sizeof bits);
    if (power == 0) return {0, 0};
    const double step = power * 0x1p-19;
    const auto rounded = [step](double v) { return A(double(std::int64_t(v / step)) * step); };
    return {rounded(s), is_small_beside(d, c2x2) ? A(0) : rounded(d)};
}

// The mean of s and of d over some elements of a box: `lines` runs of columns, spread over it. Elements that are not
// finite, or that the mask excludes, are left out, and so are outliers. If none is left, the mean is 0.
template <class A>
__attribute__((noinline)) Pivot<A> mean_of_samples(const Problem& p, const PlaneViews& v, const Box& box, int lines,
                                                   double c2x2) {
    constexpr int kRun = 16, kOutlier = 64;
    const int width = box.columns.size(), n = width < kRun ? width : kRun;
    A x[kRun], y[kRun], mask[kRun], s[kRun] = {}, d[kRun] = {}, count[kRun] = {};
    for (int i = 0; i < kRun; ++i) mask[i] = 1;
    if (!box.slices.size() || !box.rows.size()) return {0, 0};
    const auto middle_of = [lines](const Range& range, int part) {  // one of `lines` parts
        return range.first + int(std::int64_t(range.size()) * (2 * part + 1) / (2 * lines));
    };
    for (int line = 0; line < lines; ++line) {
        // Steps of 3 and 5 go through all parts of an axis, as `lines` is a power of 2, but not along a diagonal.
        const int slice = middle_of(box.slices, line), row = middle_of(box.rows, (3 * line + 1) % lines);
        const int column = box.columns.first + (width - n) * ((5 * line + 2) % lines) / (lines - 1);
        v.x.read_image(p.x_dtype, p.x_scale, slice, row, column, n, x);
        v.y.read_image(p.y_dtype, p.y_scale, slice, row, column, n, y);
        for (int i = n; i < kRun; ++i) x[i] = y[i] = mask[i] = 0;
        if (v.mask.data) v.mask.read_mask(p, slice, row, column, n, mask);
        for (int i = 0; i < kRun; ++i) {
            const A of_s = x[i] + y[i], of_d = x[i] - y[i];
            const bool counts = is_finite(of_s) & is_finite(of_d) & (mask[i] != A(0));
            s[i] += counts ? of_s : A(0);
            d[i] += counts ? of_d : A(0);
            count[i] += counts ? A(1) : A(0);
        }
    }
    // Without the columns of a run where something is that is far larger than in most: a single pixel of 1e30 shall not
    // spoil the windows that do not see it.
    A size[kRun], smaller[kRun] = {}, columns = 0;  // smaller: columns that are so by far
    for (int i = 0; i < kRun; ++i) {
        const A of_s = s[i] < A(0) ? -s[i] : s[i], of_d = d[i] < A(0) ? -d[i] : d[i];
        size[i] = of_s > of_d ? of_s : of_d;
    }
    for (int k = 0; k < kRun; ++k) {
        const A limit = A(kOutlier) * size[k], one = count[k] > A(0) ? A(1) : A(0);
        columns += one;
        for (int i = 0; i < kRun; ++i) smaller[i] += limit < size[i] ? one : A(0);
    }
    for (int i = 0; i < kRun; ++i) {
        const bool counts = 2 * smaller[i] <= columns;
        s[i] = counts ? s[i] : A(0);
        d[i] = counts ? d[i] : A(0);
        count[i] = counts ? count[i] : A(0);
    }
    const double elements = ordered_sum(count, kRun);
    if (!(elements > 0)) return {0, 0};
    const double factor = p.seen_share() / elements;
    return exact_pivot<A>(ordered_sum(s, kRun) * factor, ordered_sum(d, kRun) * factor, c2x2);
}

template <class A>
struct Strip {
    int first, n;           // of the statistics; columns are counted from where `middle` begins
    int in_first, in_last;  // of the input, which it filters with its pivot; from where `outer` begins
    std::int64_t shift;     // how far its columns are moved by the gaps before it
    Pivot<A> pivot;
    A begin[5];  // what the filter along x begins with
};

// The strips of a tile.
template <class A>
struct Strips {
    int count;
    Strip<A> at[kMaxStrips];

    Strips(const TileGeometry& g) {
        using Vectors = Simd<A>;
        const int first = g.counted_columns.first, n = g.counted_columns.size();
        const int outer_of = g.middle.x - g.outer.x;
        count = n <= kStripColumns ? 1 : kMaxStrips;
        const int gap = 2 * Vectors::round_up(g.x.radius + Vectors::lanes / 2);
        for (int i = 0; i < count; ++i) {
            // Whole vectors of statistics, but for the last strip, and whole vectors of input.
            const auto begin_of = [&](int strip) { return first + (2 * n * strip + 16 * count) / (32 * count) * 16; };
            const auto nearest = [](int column) {
                return (column + Vectors::lanes / 2) / Vectors::lanes * Vectors::lanes;
            };
            at[i].first = begin_of(i);
            at[i].n = (i + 1 < count ? begin_of(i + 1) : first + n) - begin_of(i);
            at[i].in_first = i ? nearest(begin_of(i) + outer_of) : g.columns.first;
            at[i].in_last = i + 1 < count ? nearest(begin_of(i + 1) + outer_of) : g.columns.last;
            at[i].shift = std::int64_t(i) * gap;
            at[i].pivot = {0, 0};
        }
    }
};

// Planar sums over part of a window, of s', d', s'^2 and d'^2, as they are with another pivot, which is less by `by`.
// mass: that of this part of the window, or with kHasMass the fifth quantity.
template <bool kHasMass, class A>
FUSEDSSIM_MATH void move_pivot(const A* from, A* to, std::int64_t pitch, const Pivot<A>& by, A mass, int n) {
    using Vectors = Simd<A>;
    using Vec = typename Vectors::Vec;
    for (int i = 0; i < n; i += Vectors::lanes) {
        const Vec of_mass = kHasMass ? Vectors::load(from + 4 * pitch + i) : Vec{} + mass;
        for (int q = 0; q < 2; ++q) {
            const A delta = q ? by.d : by.s;
            const Vec before = Vectors::load(from + q * pitch + i), after = before + delta * of_mass;
            const Vec squares = Vectors::load(from + (2 + q) * pitch + i) + delta * (before + after);
            Vectors::store(to + q * pitch + i, after);
            Vectors::store(to + (2 + q) * pitch + i, squares);
        }
        if (kHasMass) Vectors::store(to + 4 * pitch + i, of_mass);
    }
}

// The pivots of a task, as it walks.
template <class A, bool kNormalized>
class Pivots {
    const Problem& p;
    const Tiling& t;
    const TileGeometry& g;
    const PlaneViews& v;
    const Stability<A> stability;
    const int rows_at_once;  // of a volume, that have the same pivots
    int begin = -1;          // the first slice of an image, or the first row of a volume, that has the strips' pivots
    Pivot<A> before[kMaxStrips];                   // those of the strips before the last change
    double mass_along_walk, mass_in_slices, mass;  // of windows: along the walk; with the axis y; and with the axis x

public:
    Strips<A> strips;
    Pivot<A> gradient = {0, 0};                   // the same for all partials that a gradient sees,
    Box gradient_box = {{0, 0}, {0, 0}, {0, 0}};  // and where its samples are

    Pivots(const Problem& problem, const Tiling& tiling, const TileGeometry& geometry, const PlaneViews& views,
           const Stability<A>& constants)
        : p(problem), t(tiling), g(geometry), v(views), stability(constants), rows_at_once(t.rows < 128 ? 32 : 64),
          mass_along_walk(p.window_sum<A>(walk_axis(p.is_3d))),
          mass_in_slices(mass_along_walk * p.window_sum<A>(row_axis(p.is_3d))),
          mass(mass_in_slices * p.window_sum<A>(Axis::x)), strips(geometry) {
        if (!p.grads()) return;
        const Range columns(g.inner.x, g.inner.x + t.tile_columns < t.columns ? g.inner.x + t.tile_columns : t.columns);
        gradient_box = {{0, t.length}, {0, t.rows}, columns};
        gradient = mean_of_samples<A>(p, v, gradient_box, kLines, double(stability.c2x2));
    }

    // New pivots for slices of an image from l on, if it is time, and whether it was.
    bool change_slices(int l) {
        if (l / kPivotSlices * kPivotSlices == begin) return false;
        begin = l / kPivotSlices * kPivotSlices;
        choose({group(begin, kPivotSlices, g.walk.crop, t.length), {0, 1}, {0, 0}});
        return true;
    }

    // New pivots for rows of a volume's slices from l on, if it is time, and whether it was; then move_row() moves rows
    // that have the old ones. `row` is the row of the input that comes next, and that the first windows with new pivots
    // see last.
    bool change_rows(int l, int row, bool is_first) {
        const int at = g.outer.y + row - g.y.radius, last = t.rows - g.y.crop - 1;
        const int now = (at < g.y.crop ? g.y.crop : at > last ? last : at) / rows_at_once * rows_at_once;
        if (!is_first && now == begin) return false;
        begin = now;
        choose({group(l, kSlices, g.walk.crop, t.length), group(begin, rows_at_once, g.y.crop, t.rows), {0, 0}});
        return true;
    }

    // The rows of a volume that have the same pivots as row `row` of the plane, from there on.
    int rows_left(int row) const { return rows_at_once - (row % rows_at_once + rows_at_once) % rows_at_once; }

    // A row of the rings before the filter along y that has the pivots from before the last change.
    void move_row(A* row, std::int64_t pitch) const {
        for (int i = 0; i < strips.count; ++i) {
            const Strip<A>& strip = strips.at[i];
            move_pivot<kNormalized>(row + strip.in_first, row + strip.in_first, pitch, less(before[i], strip.pivot),
                                    A(mass_along_walk), strip.in_last - strip.in_first);
        }
    }

    // A row of those rings beside the image.
    void fill_row(A* row, std::int64_t pitch) const {
        for (int i = 0; i < strips.count; ++i) {
            const Strip<A>& strip = strips.at[i];
            fill(row + strip.in_first, pitch, strip.pivot, mass_along_walk,
                 Simd<A>::at_least_one(strip.in_last - strip.in_first));
        }
    }

    // The columns beside the image that windows see, of rows before the filter along x. With a normalised mask these
    // are zero.
    void fill_beside(A* row, bool left, bool right) const {
        if (kNormalized) return;
        const Strip<A>&first = strips.at[0], &last = strips.at[strips.count - 1];
        const int n = Simd<A>::round_up(g.x.radius);
        if (left && g.columns.first >= n) fill(row + g.columns.first - n, kRowPitch, first.pivot, mass_in_slices, n);
        if (right) fill(row + g.columns.last + last.shift, kRowPitch, last.pivot, mass_in_slices, n);
    }

    // What strips see of the strips beside them.
    void fill_gaps(A* row) const {
        using Vectors = Simd<A>;
        for (int i = 1; i < strips.count; ++i) {
            const Strip<A>&left = strips.at[i - 1], &right = strips.at[i];
            const int at = right.in_first, first = right.first + g.middle.x - g.outer.x;
            const int to_left = Vectors::round_up(first + g.x.radius - at);
            const int to_right = Vectors::round_up(at - first + g.x.radius);
            A *const of_left = row + at + left.shift, *const of_right = row + at + right.shift;
            move_pivot<kNormalized>(of_right, of_left, kRowPitch, less(right.pivot, left.pivot), A(mass_in_slices),
                                    to_left);
            move_pivot<kNormalized>(of_left - to_right, of_right - to_right, kRowPitch, less(left.pivot, right.pivot),
                                    A(mass_in_slices), to_right);
        }
    }

    PointwiseSettings<A> pointwise(const Strip<A>& strip) const {
        return {strip.pivot, less(strip.pivot, gradient), A(p.variance_grad_scale)};
    }

private:
    static Pivot<A> less(const Pivot<A>& a, const Pivot<A>& b) { return {a.s - b.s, a.d - b.d}; }
    // n slices or rows from `first` on, those among them that the map has.
    static Range group(int first, int n, int crop, int size) {
        return Range(first, first + n, crop, size - crop).shifted(first);
    }

    void choose(Box box) {
        for (int i = 0; i < strips.count; ++i) {
            Strip<A>& strip = strips.at[i];
            before[i] = strip.pivot;
            box.columns = Range(g.middle.x + strip.first, g.middle.x + strip.first + strip.n);
            // A small image has one pivot for all.
            strip.pivot =
                box == gradient_box ? gradient : mean_of_samples<A>(p, v, box, kLines, double(stability.c2x2));
            Moments<A> m = {};
            if (!kNormalized) m = moments_begin(strip.pivot, A(1 - mass), stability.c2x2);
            const A begins[] = {m.m_s, m.m_d, m.sq - m.sq_d, m.sq_d, 0};
            for (int q = 0; q < 5; ++q) strip.begin[q] = begins[q];
        }
    }

    // Sums over a part of a window, with this mass, that sees nothing but zeros beside the image.
    static void fill(A* out, std::int64_t pitch, const Pivot<A>& pivot, double of_mass, int n) {
        const A m = A(of_mass), values[] = {-m * pivot.s, -m * pivot.d, m * pivot.s * pivot.s, m * pivot.d * pivot.d};
        for (int q = 0; q < 4; ++q)
            for (int i = 0; i < n; ++i) out[q * pitch + i] = values[q];
    }
};

}  // namespace fusedssim::cpu::FUSEDSSIM_ISA
