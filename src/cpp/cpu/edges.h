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
        if (radius < 0 || radius > kMaxRadius) __builtin_unreachable();  // the static analyzer does not know
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

// Those of a tile's columns, ordered for vectors: what columns of partials give to blocks of columns of the gradient.
// Both are counted from where their rows begin.
template <class A>
class EdgeColumns {
    using Vectors = Simd<A>;
    using Vec = typename Vectors::Vec;

public:
    int count = 0;  // of blocks

    void set(const EdgeTaps<A>& taps, int partials_begin, int gradient_begin, int columns) {
        count = 0;
        int used = 0;
        for (int begin = 0; begin < columns && taps.count; begin += Vectors::lanes) {
            Block block = {begin, used, used};
            for (int i = 0; i < taps.count; ++i) {
                const EdgeTap<A>& tap = taps.at[i];
                const int lane = tap.to - gradient_begin - begin;
                if (lane < 0 || lane >= Vectors::lanes) continue;
                const int column = tap.from - partials_begin;
                if (used == block.first || from[used - 1] != column) {  // taps of a column follow each other
                    from[used] = column;
                    for (int k = 0; k < Vectors::lanes; ++k) weights[used * Vectors::lanes + k] = 0;
                    ++used;
                }
                weights[(used - 1) * Vectors::lanes + lane] = tap.weight;
            }
            block.last = used;
            if (used > block.first) blocks[count++] = block;
        }
    }
    // Adds them to a filtered row. What has no weight stays as it is, also beside NaN.
    void add(const A* partials, A* gradient) const {
        for (int i = 0; i < count; ++i) {
            A* const to = gradient + blocks[i].begin;
            Vec sum = Vectors::load(to);
            for (int k = blocks[i].first; k < blocks[i].last; ++k) {
                const Vec weight = Vectors::load(weights + k * Vectors::lanes);
                sum += weight != Vec{} ? weight * partials[from[k]] : Vec{};
            }
            Vectors::store(to, sum);
        }
    }

private:
    // Elements that are at most r from the border, and at most r from each other, are in so many blocks.
    static constexpr int kMost = 2 * kMaxRadius * (2 * kMaxRadius / Vectors::lanes + 2);
    struct Block {
        int begin, first, last;  // its columns of partials
    };
    Block blocks[2 * (kMaxRadius / Vectors::lanes + 2)];
    int from[kMost];
    A weights[kMost * Vectors::lanes];
};

// The taps near the border along the walk, of kSlices slices of partials: weights[slice][k] is what gradient slice k of
// those around them gets.
template <class A>
struct EdgeSlices {
    bool has_any = false;
    bool has[kMaxWindow];
    A weights[kSlices][kMaxWindow];

    // For slices from l on, whose gradients begin at slice `low`.
    void set(const EdgeTaps<A>& taps, int l, int low, int window) {
        has_any = false;
        for (int k = 0; k < window; ++k) {
            has[k] = false;
            for (int slice = 0; slice < kSlices; ++slice) weights[slice][k] = 0;
        }
        for (int i = 0; i < taps.count; ++i) {
            const EdgeTap<A>& tap = taps.at[i];
            if (tap.from < l || tap.from >= l + kSlices) continue;
            weights[tap.from - l][tap.to - low] = tap.weight;
            has[tap.to - low] = has_any = true;
        }
    }
};

// What they add to the gradients, after add_partials(), which has the same arguments.
template <int G, bool kHasHoles, class A>
__attribute__((noinline)) void add_edge_partials(const A* const* partials, std::int64_t pitch,
                                                 const GradientRows<A>& rows, const EdgeSlices<A>& edge, int window,
                                                 const Pivot<A>& pivot, int n) {
    using Vectors = Simd<A>;
    using Vec = typename Vectors::Vec;
    constexpr int kMaps = filtered_maps(G);
    const ImagePivots<A> level(pivot);
    const auto add_vector = [&](int k, std::int64_t i, const Vec* weight) __attribute__((always_inline)) {
        Vec maps[kMaps] = {}, by_x, by_y;
        for (int slice = 0; slice < kSlices; ++slice) {
            if (edge.weights[slice][k] == A(0)) continue;
            for (int q = 0; q < kMaps; ++q)
                maps[q] += edge.weights[slice][k] * Vectors::load(partials[slice] + q * pitch + i);
        }
        if (weight)
            for (int q = 0; q < kMaps; ++q) maps[q] *= *weight;
        Vec x = Vectors::load(rows.x[k] + i), y = Vectors::load(rows.y[k] + i);
        if constexpr (kHasHoles) {
            x = A(0) * x == A(0) ? x : Vec{};
            y = A(0) * y == A(0) ? y : Vec{};
        }
        unpack_gradient<G>(maps, (x - level.s_x) + (y - level.s_y), (x - level.d_x) - (y - level.d_y), by_x, by_y);
        Vectors::store(rows.to[0][k] + i, Vectors::load(rows.to[0][k] + i) + by_x);
        if constexpr (G == 2) Vectors::store(rows.to[1][k] + i, Vectors::load(rows.to[1][k] + i) + by_y);
    };
    const int rest = n % Vectors::lanes;
    A is_rest[Vectors::lanes];
    for (int i = 0; i < Vectors::lanes; ++i) is_rest[i] = i < Vectors::lanes - rest ? A(0) : A(1);
    const Vec weight = Vectors::load(is_rest);
    for (int k = 0; k < window; ++k) {
        if (!edge.has[k]) continue;
        if (rest) add_vector(k, n - Vectors::lanes, &weight);
        for (std::int64_t i = 0; i < n - rest; i += Vectors::lanes) add_vector(k, i, nullptr);
    }
}

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
