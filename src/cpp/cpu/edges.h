// SPDX-License-Identifier: MIT
//
// What a border changes, along one axis (core/border.h has the theory). Where windows see nothing but zeros beyond the
// image, nothing of this is needed.
//
// Forward, the columns, rows and slices beside the image are those of the elements that are seen there. The gradient is
// the transpose, and needs nothing beside the image: an element gets a partial once for each tap that sees it. So its
// filter is that of zeros, and some more taps between elements and partials near the border. That holds for any border.
#pragma once

#include "core/border.h"
#include "cpu/filters.h"

namespace fusedssim::cpu::FUSEDSSIM_ISA {

// One of them: the gradient of element `to` gets the partial at `from` times `weight`. They are at most r apart.
template <class A>
struct EdgeTap {
    int from, to;
    A weight;
};

template <class A>
class EdgeTaps {
public:
    int count = 0;
    EdgeTap<A> at[kMaxRadius * (kMaxRadius + 1)];

    // Those of elements [first, last). taps: from the centre outwards.
    void set(Border border, const A* taps, int radius, int size, int first, int last) {
        count = 0;
        if (border == Border::zeros || radius == 0) return;
        for (int from = 0; from < size; ++from) {
            if (from == radius && size > 2 * radius) from = size - radius;  // between, no window sees what is beside
            const int before = count;
            for (int k = -radius; k <= radius; ++k) {
                if (from + k >= 0 && from + k < size) continue;
                const int to = element_seen(border, from + k, size);
                if (to >= first && to < last) add(before, {from, to, taps[k < 0 ? -k : k]});
            }
        }
    }

private:
    void add(int begin, const EdgeTap<A>& tap) {
        int i = begin;
        while (i < count && at[i].to != tap.to) ++i;
        if (i < count) {
            at[i].weight += tap.weight;
        } else {
            at[count++] = tap;
        }
    }
};

// Those of a tile's columns, ordered for vectors: what a column of partials gives to blocks of columns of the gradient.
// Both are counted from where their rows begin.
template <class A>
class EdgeColumns {
    using Vectors = Simd<A>;
    using Vec = typename Vectors::Vec;

public:
    void set(const EdgeTaps<A>& taps, int partials_begin, int gradient_begin) {
        count = 0;
        int used = 0;
        for (int i = 0; i < taps.count;) {
            int end = i, low = taps.at[i].to, high = low;
            for (; end < taps.count && taps.at[end].from == taps.at[i].from; ++end) {
                low = taps.at[end].to < low ? taps.at[end].to : low;
                high = taps.at[end].to > high ? taps.at[end].to : high;
            }
            const int begin = (low - gradient_begin) / Vectors::lanes * Vectors::lanes;
            Column& c = columns[count++];
            c = {taps.at[i].from - partials_begin, begin, Vectors::round_up(high + 1 - gradient_begin - begin), used};
            for (int k = 0; k < c.n; ++k) weights[used + k] = 0;
            for (; i < end; ++i) weights[used + taps.at[i].to - gradient_begin - begin] = taps.at[i].weight;
            used += c.n;
        }
    }
    // Adds them to a filtered row. What has no weight stays as it is, also beside NaN.
    void add(const A* partials, A* gradient) const {
        for (int i = 0; i < count; ++i) {
            const Column& c = columns[i];
            const Vec partial = Vec{} + partials[c.from];
            for (int k = 0; k < c.n; k += Vectors::lanes) {
                const Vec weight = Vectors::load(weights + c.at + k);
                const Vec more = weight != Vec{} ? weight * partial : Vec{};
                A* const to = gradient + c.begin + k;
                Vectors::store(to, Vectors::load(to) + more);
            }
        }
    }
    int count = 0;

private:
    struct Column {
        int from, begin, n, at;  // of partials, of the gradient, and how many of it; where its weights are
    };
    Column columns[2 * kMaxRadius];
    A weights[2 * kMaxRadius * (2 * kMaxRadius + 1 + 2 * Vectors::lanes)];
};

// The columns beside the image that windows see, and where in the row those are that are seen there; counted from where
// the row begins. `first` and `last` are the columns of the row that lie in the image.
class ColumnsBeside {
public:
    ColumnsBeside(Border border, int radius, int size, int row_begin, int first, int last) {
        if (border == Border::zeros) return;
        left = first < radius ? first : radius;  // no columns are before the first one but those beside the image
        right = row_begin + last == size ? radius : 0;
        at_left = first - 1;
        at_right = last;
        for (int k = 0; k < radius; ++k) {
            from_left[k] = element_seen(border, -1 - k, size) - row_begin;
            from_right[k] = element_seen(border, size + k, size) - row_begin;
        }
    }
    // Fills them in planar rows, whose last columns are moved by `shift`.
    template <int kQuantities, class A>
    void fill(A* row, std::int64_t shift) const {
        for (int q = 0; q < kQuantities; ++q) {
            A *const of_left = row + planar(q, 0), *const of_right = of_left + shift;
            for (int k = 0; k < left; ++k) of_left[at_left - k] = of_left[from_left[k]];
            for (int k = 0; k < right; ++k) of_right[at_right + k] = of_right[from_right[k]];
        }
    }

private:
    int left = 0, right = 0;  // how many
    int at_left = 0, at_right = 0;
    int from_left[kMaxRadius], from_right[kMaxRadius];
};

}  // namespace fusedssim::cpu::FUSEDSSIM_ISA
