// SPDX-License-Identifier: MIT
//
// Where a tile's pivots come from, and the strips of columns that have one each.
//
// A pivot is a level near the images' own. Filters mix only what has the same pivot, so the statistics of a tile are cut
// into strips of columns, and each has a new pivot after kPivotSlices slices. Along the walk and across the rows this
// costs nothing: filters there begin anew for each strip. Along x a strip's windows also see columns of the strips beside
// it, which were filtered with other pivots. So rows before the filter along x are stored with gaps between the strips:
//
//     columns of strip 0 | those of strip 1 that it sees | those of strip 0 that strip 1 sees | columns of strip 1
//                           with the pivot of strip 0         with the pivot of strip 1
//
// move_pivot() fills the gaps. What lies beside the image has a pivot, too: zeros there are -c and -e.
//
// Which elements a pivot comes from depends on positions in the plane alone: not on threads, chunks, the height of tiles
// or strides. So do its bits.
#pragma once

#include "cpu/tile.h"

namespace fusedssim::cpu::FUSEDSSIM_ISA {

// Slices of an image (which are its rows) with the same pivots, and rows of a volume. In a volume, each kSlices slices
// have pivots of their own.
constexpr int kPivotSlices = 64;
FUSEDSSIM_MATH int rows_of_pivots(int rows) { return rows < 128 ? 32 : 64; }

// A box of elements of a plane.
struct Box {
    Range slices, rows, columns;
};

// A pivot near these levels, with few digits: so x and y have pivots, (s + d) / 2 and (s - d) / 2, that are exact. Not
// finite: 0. A d whose square is below `least_d` becomes 0, which costs no accuracy, and makes d exact.
template <class A>
Pivot<A> exact_pivot(double s, double d, double least_d) {
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
    return {rounded(s), d * d < least_d ? A(0) : rounded(d)};
}

// About how much of an image windows see that is smaller than they are. The rest of what they see is zeros.
inline double seen_share(const Problem& p) {
    double share = 1;
    constexpr Axis all[] = {Axis::z, Axis::y, Axis::x};
    for (const Axis axis : all) {
        const int size = p.size(axis), window = 2 * p.radius(axis) + 1;
        if (!p.is_normalized && size < window) share *= double(size) / window;
    }
    return share;
}

// The mean of s and of d over some elements of a box: `lines` runs of columns, spread over it. Elements that are not
// finite, or that the mask excludes, are left out, and so are outliers. If none is left, the mean is 0.
template <class T, class A = arithmetic_t<T>>
__attribute__((noinline)) Pivot<A> mean_of_samples(const Problem& p, const PlaneViews& v, const Box& box, int lines,
                                                   double least_d) {
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
        convert_row(v.x.template at<const T>(slice, row, column), v.x.column, n, x);
        convert_row(v.y.template at<const T>(slice, row, column), v.y.column, n, y);
        if (v.mask.data) v.mask.read_mask(p, slice, row, column, n, mask);
        for (int i = 0; i < n; ++i) {
            const A of_s = x[i] + y[i], of_d = x[i] - y[i];
            const bool counts = (A(0) * of_s == A(0)) & (A(0) * of_d == A(0)) & (mask[i] != A(0));
            s[i] += counts ? of_s : A(0);
            d[i] += counts ? of_d : A(0);
            count[i] += counts ? A(1) : A(0);
        }
    }
    // Without the columns of a run where something is that is far larger than most: a single pixel of 1e30 shall not
    // spoil the windows that do not see it.
    A size[kRun], sorted[kRun];
    int columns = 0;
    for (int i = 0; i < kRun; ++i) {
        const A of_s = s[i] < A(0) ? -s[i] : s[i], of_d = d[i] < A(0) ? -d[i] : d[i];
        size[i] = (of_s > of_d ? of_s : of_d) / (count[i] > A(0) ? count[i] : A(1));
        if (count[i] == A(0)) continue;
        int at = columns++;
        for (; at > 0 && sorted[at - 1] > size[i]; --at) sorted[at] = sorted[at - 1];
        sorted[at] = size[i];
    }
    if (columns == 0) return {0, 0};
    double sum_s = 0, sum_d = 0, elements = 0;
    for (int i = 0; i < kRun; ++i) {
        if (!(size[i] <= A(kOutlier) * sorted[columns / 2])) continue;
        sum_s += double(s[i]);
        sum_d += double(d[i]);
        elements += double(count[i]);
    }
    if (!(elements > 0)) return {0, 0};
    const double factor = seen_share(p) / elements;
    return exact_pivot<A>(sum_s * factor, sum_d * factor, least_d);
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

}  // namespace fusedssim::cpu::FUSEDSSIM_ISA
