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
