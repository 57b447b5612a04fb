// SPDX-License-Identifier: MIT
//
// The CPU kernels, for one instruction set: CMake compiles this file once for each, with FUSEDSSIM_ISA naming it.
// Nothing here may have a symbol that two of these share (no std templates, no inline function that is not always
// inlined): the linker would keep one copy, with instructions that another processor lacks.
//
// A task walks a tile of one plane along the first spatial axis, and keeps no more than a window of slices:
//
//     slice l: load x, y --> s, d, s^2, d^2 --> taps along x --> (volumes: along y) --> ring of 2r + 1 slices
//                                                                                          |
//              statistics of slice l - r <-- taps along the walk <--------------------------+
//                   |
//              partials --> taps along x --> (along y) --> ring --> taps along the walk --> gradient of slice l - 2r
//
//     extent of a tile, along x and along y: the gradient's own [0, n), the statistics' [-r, n + r), the input's
//     [-2r, n + 2r); without a gradient the statistics have n and the input has 2r more.
//
// Work goes row by row, so that what one stage writes is in the first-level cache when the next one reads it. Row buffers
// are planar: each quantity has a row of its own. Slices are interleaved: a vector of each quantity in turn, so that a
// filter over 2r + 1 slices reads 2r + 1 streams of memory at constant offsets, which leaves it enough registers.
#include "cpu/kernels.h"

#include "core/dtype.h"
#include "core/ssim_math.h"

#define FUSEDSSIM_CONCAT_(a, b) a##b
#define FUSEDSSIM_CONCAT(a, b) FUSEDSSIM_CONCAT_(a, b)
#define FUSEDSSIM_KERNELS FUSEDSSIM_CONCAT(kernels_, FUSEDSSIM_ISA)
#define FUSEDSSIM_STRING_(x) #x
#define FUSEDSSIM_STRING(x) FUSEDSSIM_STRING_(x)

namespace fusedssim::cpu {

namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

constexpr int kCacheLine = 64;
constexpr int kMaxTaps = 2 * kMaxRadius + 1;

template <class A>
struct Simd {
    typedef A Vec __attribute__((vector_size(kVectorBytes)));
    static constexpr int lanes = kVectorBytes / sizeof(A);

    static FUSEDSSIM_MATH Vec load(const A* p) {
        Vec v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
    static FUSEDSSIM_MATH void store(A* p, Vec v) { std::memcpy(p, &v, sizeof v); }
    static FUSEDSSIM_MATH int round_up(int n) { return (n + lanes - 1) / lanes * lanes; }
};

// The length of a planar row: the widest tile, the halos of two filters, and the rounding up of both to vectors.
constexpr int kRowPitch = kMaxTileColumns + 4 * kMaxRadius + 2 * kCacheLine / int(sizeof(float));

// Where vector i / lanes of quantity q stands in a planar and in an interleaved row of Q quantities.
template <class A>
constexpr std::int64_t planar(int q, std::int64_t i) {
    return q * std::int64_t(kRowPitch) + i;
}
template <int Q, class A>
constexpr std::int64_t interleaved(int q, std::int64_t i) {
    return i * Q + q * Simd<A>::lanes;
}

// The filters below compute whole vectors: n elements, and what is up to the next multiple of a vector's length. With
// R > 0 the radius is known to the compiler, which unrolls all of it and keeps the taps in registers.
//
// All sum from the outermost pair of taps inwards, small terms first: half the rounding error of the other order, which
// shows in the variance of flat images. To add a pair before its tap multiplies it costs nothing with fused
// multiply-add, and saves an instruction without.
template <int R, class A>
struct Taps {
    using S = Simd<A>;
    typename S::Vec at[(R ? R : kMaxRadius) + 1];  // from the centre outwards
    int radius;
    FUSEDSSIM_MATH Taps(const A* taps, int runtime_radius) {
        radius = R ? R : runtime_radius;
        for (int k = 0; k <= (R ? R : runtime_radius); ++k) at[k] = typename S::Vec{} + taps[k];
    }
};

// From planar s and d, filters s, d, s^2 and d^2 along x into one interleaved row.
template <int R, class A>
__attribute__((noinline)) void filter_input_row(const A* in, const A* taps, int runtime_radius, A* out, int n) {
    using S = Simd<A>;
    using Vec = typename S::Vec;
    const Taps<R, A> tap(taps, runtime_radius);
    const int r = R ? R : runtime_radius;
    for (std::int64_t i = 0; i < n; i += S::lanes)
        for (int q = 0; q < 2; ++q) {
            const A* centre = in + planar<A>(q, i + r);
            Vec mean = {}, square = {};
            for (int k = r; k > 0; --k) {
                const Vec a = S::load(centre - k), b = S::load(centre + k);
                mean += tap.at[k] * (a + b);
                square += tap.at[k] * (a * a + b * b);
            }
            const Vec c = S::load(centre);
            S::store(out + interleaved<4, A>(q, i), mean + tap.at[0] * c);
            S::store(out + interleaved<4, A>(2 + q, i), square + tap.at[0] * (c * c));
        }
}

// Filters Q planar rows along x into one interleaved row.
template <int R, int Q, class A>
__attribute__((noinline)) void filter_along_row(const A* in, const A* taps, int runtime_radius, A* out, int n) {
    using S = Simd<A>;
    const Taps<R, A> tap(taps, runtime_radius);
    const int r = R ? R : runtime_radius;
    for (std::int64_t i = 0; i < n; i += S::lanes)
        for (int q = 0; q < Q; ++q) {
            const A* centre = in + planar<A>(q, i + r);
            typename S::Vec sum = {};
            for (int k = r; k > 0; --k) sum += tap.at[k] * (S::load(centre - k) + S::load(centre + k));
            S::store(out + interleaved<Q, A>(q, i), sum + tap.at[0] * S::load(centre));
        }
}

// Filters across 2r + 1 interleaved rows of Q quantities, into a row that is planar or interleaved.
template <int R, int Q, bool Planar, class A>
__attribute__((noinline)) void filter_across_rows(const A* const* rows, const A* taps, int runtime_radius, A* out,
                                                  int n) {
    using S = Simd<A>;
    const Taps<R, A> tap(taps, runtime_radius);
    const int r = R ? R : runtime_radius;
    if (r < 0) __builtin_unreachable();  // which the static analyzer does not know
    const A* row[R ? 2 * R + 1 : kMaxTaps];
    for (int k = 0; k <= 2 * r; ++k) row[k] = rows[k];
    for (std::int64_t i = 0; i < n; i += S::lanes) {
        typename S::Vec sum[Q] = {};
        for (int k = r; k > 0; --k)
            for (int q = 0; q < Q; ++q) {
                const std::int64_t at = interleaved<Q, A>(q, i);
                sum[q] += tap.at[k] * (S::load(row[r - k] + at) + S::load(row[r + k] + at));
            }
        for (int q = 0; q < Q; ++q) {
            sum[q] += tap.at[0] * S::load(row[r] + interleaved<Q, A>(q, i));
            S::store(out + (Planar ? planar<A>(q, i) : interleaved<Q, A>(q, i)), sum[q]);
        }
    }
}

// The sum of v[0, n), in an order that depends on n alone.
template <class A>
double ordered_sum(const A* v, int n) {
    using S = Simd<A>;
    typename S::Vec lanes = {};
    int i = 0;
    for (; i + S::lanes <= n; i += S::lanes) lanes += S::load(v + i);
    double sum = 0;
    for (int k = 0; k < S::lanes; ++k) sum += double(lanes[k]);
    for (; i < n; ++i) sum += double(v[i]);
    return sum;
}

// The loops below are over plain arrays, which compilers vectorise.

// s = x + y and d = x - y, n of each, planar. x_next and y_next, if any, is where the walk will read next: the rows of a
// tile are too short and too far apart for a processor to foresee that.
template <class T, class A>
void load_input(const T* __restrict x, std::int64_t x_step, const T* __restrict y, std::int64_t y_step, const T* x_next,
                const T* y_next, int n, A* __restrict s) {
    A* __restrict d = s + planar<A>(1, 0);
    auto put = [&](int i, A a, A b) {
        s[i] = a + b;
        d[i] = a - b;
    };
    if (x_step == 1 && y_step == 1) {
        for (int i = 0; x_next && i < n; i += kCacheLine / int(sizeof(T))) {
            __builtin_prefetch(x_next + i);
            __builtin_prefetch(y_next + i);
        }
        for (int i = 0; i < n; ++i) put(i, to_float(x[i]), to_float(y[i]));
    } else {
        for (int i = 0; i < n; ++i) put(i, to_float(x[i * x_step]), to_float(y[i * y_step]));
    }
}

// DSSIM, and the partials in the order in which they are filtered, from planar moments.
template <int G, class A>
__attribute__((noinline)) void pointwise(const A* __restrict moments, Stability<A> c, int n, A* __restrict dssim,
                                         A* __restrict partials) {
    for (int i = 0; i < n; ++i) {
        const Moments<A> m = {moments[planar<A>(0, i)], moments[planar<A>(1, i)], moments[planar<A>(2, i)],
                              moments[planar<A>(3, i)]};
        if constexpr (G == 0) {
            dssim[i] = fusedssim::dssim<A>(m, c);
        } else {
            Partials<A> partial;
            A maps[4];
            dssim[i] = dssim_and_partials<A>(m, c, A(1), partial);
            pack_partials<G>(partial, maps);
            partials[planar<A>(0, i)] = maps[0];
            partials[planar<A>(1, i)] = maps[1];
            partials[planar<A>(2, i)] = maps[2];
            if (G == 2) partials[planar<A>(3, i)] = maps[3];
        }
    }
}

// One row of the gradients, from planar filtered partials and the images.
template <int G, class T, class A>
void gradient_row(const A* __restrict filtered, const T* __restrict x, std::int64_t x_step, const T* __restrict y,
                  std::int64_t y_step, A factor, int n, T* __restrict grad_x, std::int64_t grad_x_step,
                  T* __restrict grad_y, std::int64_t grad_y_step) {
    auto put = [&](int i, T at_x, T at_y, T& to_x, T* to_y) {
        A maps[4];
        for (int q = 0; q < filtered_maps(G); ++q) maps[q] = filtered[planar<A>(q, i)];
        A a, b = A(0);
        unpack_gradient<G>(maps, A(to_float(at_x)), A(to_float(at_y)), a, b);
        from_float(factor * a, to_x);
        if (G == 2) from_float(factor * b, *to_y);
    };
    if (x_step == 1 && y_step == 1 && grad_x_step == 1 && (G == 1 || grad_y_step == 1))
        for (int i = 0; i < n; ++i) put(i, x[i], y[i], grad_x[i], grad_y + i);
    else
        for (int i = 0; i < n; ++i)
            put(i, x[i * x_step], y[i * y_step], grad_x[i * grad_x_step], grad_y + i * grad_y_step);
}

template <class A>
void clear(A* p, std::int64_t n) {
    std::memset(p, 0, std::size_t(n) * sizeof(A));
}

// The range of [begin, end) that lies in [low, high), counted from begin.
struct Range {
    int first, last;
    Range(int begin, int end, int low, int high) {
        first = low > begin ? low - begin : 0;
        last = (high < end ? high : end) - begin;
        if (last < first) last = first;
    }
    int size() const { return last - first; }
    bool has(int i) const { return i >= first && i < last; }
};

// Sizes of a tile's stages and their places in the scratch memory. `outer` is the input, `middle` the statistics and the
// partials, `inner` the gradient (or, without one, the statistics again). Columns are whole vectors.
template <class A>
struct Scratch {
    int taps, maps;  // 2r + 1; filtered_maps
    int outer_rows, middle_rows, inner_rows;
    int outer_columns, middle_columns, inner_columns;
    std::int64_t middle_row, middle_slice;  // elements of an interleaved row and slice of the moments
    std::int64_t inner_row, inner_slice;    // and of the partials
    A* input;                               // planar [2]: s, d of one row
    A* moments;                             // planar [4]
    A* partials;                            // planar [4]
    A* filtered;                            // planar [4]
    A* dssim;                               // planar [1]
    A* ring;                                // [taps][middle_rows][middle_row]
    A* along_x;                             // [outer_rows][middle_row], volumes only
    A* partials_ring;                       // [taps][inner_rows][inner_row]
    A* partials_x;                          // [middle_rows][inner_row], volumes only
    std::size_t bytes;

    Scratch(const Problem& p, const Tiling& t, void* memory) {
        using S = Simd<A>;
        const int r = p.radius, grads = p.grads(), halo_y = p.is_3d ? r : 0;
        taps = 2 * r + 1;
        maps = filtered_maps(grads);
        inner_rows = t.tile_rows;
        middle_rows = inner_rows + (grads ? 2 * halo_y : 0);
        outer_rows = middle_rows + 2 * halo_y;
        inner_columns = S::round_up(t.tile_columns);
        middle_columns = S::round_up(inner_columns + (grads ? 2 * r : 0));
        outer_columns = S::round_up(middle_columns + 2 * r);
        middle_row = std::int64_t(4) * middle_columns;
        middle_slice = middle_rows * middle_row;
        inner_row = std::int64_t(maps) * inner_columns;
        inner_slice = inner_rows * inner_row;

        bytes = 0;
        auto take = [&](std::int64_t elements) {
            A* at = memory ? reinterpret_cast<A*>(static_cast<char*>(memory) + bytes) : nullptr;
            bytes += (std::size_t(elements) * sizeof(A) + kCacheLine - 1) / kCacheLine * kCacheLine;
            return at;
        };
        input = take(2 * kRowPitch);
        moments = take(4 * kRowPitch);
        partials = take(4 * kRowPitch);
        filtered = take(4 * kRowPitch);
        dssim = take(kRowPitch);
        ring = take(taps * middle_slice);
        along_x = take(p.is_3d ? outer_rows * middle_row : 0);
        partials_ring = take(taps * inner_slice);
        partials_x = take(p.is_3d ? middle_rows * inner_row : 0);
    }
};

// A view as it is walked: the walk is the first spatial axis, and images have slices of one row.
struct Walk {
    void* data;
    std::int64_t slice, row, column;
    Walk(const Problem& p, const View& v, std::int64_t plane)
        : data(v.data), slice(p.is_3d ? v.d : v.h), row(p.is_3d ? v.h : 0), column(v.w),
          base(plane / p.channels * v.n + plane % p.channels * v.c) {}
    template <class T>
    T* at(std::int64_t l, std::int64_t y, std::int64_t x) const {
        return static_cast<T*>(data) + base + l * slice + y * row + x * column;
    }

private:
    std::int64_t base;
};

template <class T, int G>
class Walker {
    using A = arithmetic_t<T>;
    static constexpr int kMaps = filtered_maps(G);

public:
    Walker(const Problem& problem, const Tiling& tiling, const Task& task, void* memory)
        : p(problem), t(tiling), s(problem, tiling, memory), x(p, p.x, task.plane), y(p, p.y, task.plane),
          map(p, p.map, task.plane), grad_out(p, p.grad_out, task.plane), grad_x(p, p.grad_x, task.plane),
          grad_y(p, p.grad_y, task.plane), stability{A(p.c1x2), A(p.c2x2)} {
        // The central tap makes up for the rounding of the others: taps whose sum is not 1 show in the variance.
        double centre = 1;
        for (int k = 1; k <= p.radius; ++k) {
            taps[k] = A(p.taps[k]);
            centre -= 2 * double(taps[k]);
        }
        taps[0] = A(centre);
        crop_y = p.is_3d ? p.crop : 0;
        inner_y = task.tile_y * t.tile_rows;
        inner_x = task.tile_x * t.tile_columns;
        const int halo_y = p.is_3d ? p.radius : 0;
        middle_y = inner_y - (G ? halo_y : 0);
        middle_x = inner_x - (G ? p.radius : 0);
        outer_y = middle_y - halo_y;
        outer_x = middle_x - p.radius;
        scale = A(p.ssim_factor() * kGradientFactor);
        if (G && p.upstream == kUpstreamPlane) scale *= *grad_out.template at<const A>(0, 0, 0);
    }

    void walk(int begin, int end, double* sums) {
        const int r = p.radius, last = end + (G ? 2 * r : r);
        for (int l = begin - (G ? 2 * r : r); l < last; ++l) {
            filter_input(l);
            const int at = l - r;  // the slice whose statistics are complete now
            if (at >= begin - (G ? r : 0)) {
                const bool own = at >= begin && at < end;
                const double sum = statistics(at, own);
                if (own) sums[at] = sum;
            }
            if (G && l - 2 * r >= begin) gradient(l - 2 * r);
        }
    }

private:
    A* ring_slot(int l) const { return s.ring + (l + s.taps) % s.taps * s.middle_slice; }
    A* partials_slot(int l) const { return s.partials_ring + (l + s.taps) % s.taps * s.inner_slice; }

    template <int Q, bool Planar>
    void filter_rows(const A* const* rows, A* out, int n) const {
        if (p.radius == 5)
            filter_across_rows<5, Q, Planar>(rows, taps, 5, out, n);
        else
            filter_across_rows<0, Q, Planar>(rows, taps, p.radius, out, n);
    }

    // The filter along y: row `row` of `out` from the rows [row, row + 2r] of `in`.
    template <int Q>
    void filter_along_y(const A* in, std::int64_t pitch, int row, A* out, int n) const {
        const A* rows[kMaxTaps];
        for (int k = 0; k <= 2 * p.radius; ++k) rows[k] = in + (row + k) * pitch;
        filter_rows<Q, false>(rows, out + row * pitch, n);
    }

    // The filter along the walk, at slice l: one row, which begins at `offset` in each slice of the ring.
    template <int Q>
    void filter_along_walk(const A* ring, std::int64_t slice, std::int64_t offset, int l, A* out, int n) const {
        const A* rows[kMaxTaps];
        int slot = (l - p.radius + s.taps) % s.taps;
        for (int k = 0; k <= 2 * p.radius; ++k) {
            rows[k] = ring + slot * slice + offset;
            slot = slot + 1 < s.taps ? slot + 1 : 0;
        }
        filter_rows<Q, true>(rows, out, n);
    }

    // Slice l of the input, filtered within the slice, into the ring. Slices and rows outside the image are zero.
    void filter_input(int l) {
        A* const slot = ring_slot(l);
        if (l < 0 || l >= t.length) return clear(slot, s.middle_slice);
        const Range columns(outer_x, outer_x + s.outer_columns, 0, t.columns);
        const Range rows(outer_y, outer_y + s.outer_rows, 0, t.rows), counted = counted_rows();
        if (columns.size() < s.outer_columns) clear(s.input, 2 * kRowPitch);
        A* const target = p.is_3d ? s.along_x : slot;
        for (int row = 0; row < s.outer_rows; ++row) {
            A* const out = target + row * s.middle_row;
            if (rows.has(row)) {
                const T* const from_x = x.template at<const T>(l, outer_y + row, outer_x + columns.first);
                const T* const from_y = y.template at<const T>(l, outer_y + row, outer_x + columns.first);
                const bool more = l + 1 < t.length;
                load_input(from_x, x.column, from_y, y.column, more ? from_x + x.slice : nullptr,
                           more ? from_y + y.slice : nullptr, columns.size(), s.input + columns.first);
                if (p.radius == 5)
                    filter_input_row<5>(s.input, taps, 5, out, s.middle_columns);
                else
                    filter_input_row<0>(s.input, taps, p.radius, out, s.middle_columns);
            } else {
                clear(out, s.middle_row);
            }
            // Rows that are not counted are never looked at.
            const int done = row - 2 * p.radius;
            if (p.is_3d && done >= 0 && counted.has(done))
                filter_along_y<4>(s.along_x, s.middle_row, done, slot, s.middle_columns);
        }
    }

    Range counted_rows() const { return Range(middle_y, middle_y + s.middle_rows, crop_y, t.rows - crop_y); }

    // Statistics of slice l; with gradients, its partials, filtered within the slice, into the second ring. Returns the
    // sum of DSSIM over the tile's own part. What is not counted has partials of zero.
    double statistics(int l, bool own) {
        A* const slot = partials_slot(l);
        if (l < p.crop || l >= t.length - p.crop) {
            if (G) clear(slot, s.inner_slice);
            return 0;
        }
        const Range columns(middle_x, middle_x + s.middle_columns, p.crop, t.columns - p.crop);
        const Range rows = counted_rows();
        const int own_column = inner_x - middle_x, own_row = inner_y - middle_y;
        const Range own_rows(0, s.middle_rows, own_row, own_row + s.inner_rows);
        const Range mine(own_column, own_column + t.tile_columns, columns.first, columns.last);
        A* const target = p.is_3d ? s.partials_x : slot;
        double sum = 0;
        for (int row = 0; row < s.middle_rows; ++row) {
            if (rows.has(row)) {
                filter_along_walk<4>(s.ring, s.middle_slice, row * s.middle_row, l, s.moments, s.middle_columns);
                pointwise<G>(s.moments, stability, s.middle_columns, s.dssim, s.partials);
                if (own && own_rows.has(row)) {
                    const A* dssim = s.dssim + own_column + mine.first;
                    sum += ordered_sum(dssim, mine.size());
                    if (map.data) store_map(l, middle_y + row, mine, dssim);
                }
            }
            if constexpr (G > 0) {
                A* const out = target + row * s.inner_row;
                if (rows.has(row)) {
                    mask_partials(columns);
                    if (p.upstream == kUpstreamMap) weight_partials(l, middle_y + row, columns);
                    if (p.radius == 5)
                        filter_along_row<5, kMaps>(s.partials, taps, 5, out, s.inner_columns);
                    else
                        filter_along_row<0, kMaps>(s.partials, taps, p.radius, out, s.inner_columns);
                } else {
                    clear(out, s.inner_row);
                }
                const int done = row - 2 * p.radius;
                if (p.is_3d && done >= 0) filter_along_y<kMaps>(s.partials_x, s.inner_row, done, slot, s.inner_columns);
            }
        }
        return sum;
    }

    void mask_partials(const Range& columns) {
        if (columns.size() == s.middle_columns) return;
        for (int q = 0; q < kMaps; ++q) {
            A* const row = s.partials + planar<A>(q, 0);
            clear(row, columns.first);
            clear(row + columns.last, s.middle_columns - columns.last);
        }
    }

    void weight_partials(int l, int y_at, const Range& columns) {
        const A* u = grad_out.template at<const A>(l - p.crop, y_at - crop_y, middle_x + columns.first - p.crop);
        const std::int64_t step = grad_out.column;
        for (int q = 0; q < kMaps; ++q) {
            A* __restrict partial = s.partials + planar<A>(q, columns.first);
            for (int i = 0; i < columns.size(); ++i) partial[i] *= u[i * step];
        }
    }

    void store_map(int l, int y_at, const Range& mine, const A* dssim) {
        A* out = map.template at<A>(l - p.crop, y_at - crop_y, inner_x + mine.first - p.crop);
        for (int i = 0; i < mine.size(); ++i) out[i * map.column] = ssim_from_dssim(dssim[i]);
    }

    void gradient(int l) {
        if constexpr (G > 0) {
            const Range columns(inner_x, inner_x + t.tile_columns, 0, t.columns);
            const Range rows(inner_y, inner_y + s.inner_rows, 0, t.rows);
            const int n = columns.size();
            for (int row = rows.first; row < rows.last; ++row) {
                const int y_at = inner_y + row;
                filter_along_walk<kMaps>(s.partials_ring, s.inner_slice, row * s.inner_row, l, s.filtered, n);
                gradient_row<G>(s.filtered, x.template at<const T>(l, y_at, inner_x), x.column,
                                y.template at<const T>(l, y_at, inner_x), y.column, scale, n,
                                grad_x.template at<T>(l, y_at, inner_x), grad_x.column,
                                G == 2 ? grad_y.template at<T>(l, y_at, inner_x) : nullptr, grad_y.column);
            }
        }
    }

    const Problem& p;
    const Tiling& t;
    Scratch<A> s;
    Walk x, y, map, grad_out, grad_x, grad_y;
    Stability<A> stability;
    A taps[kMaxRadius + 1];  // from the centre outwards
    A scale;
    int crop_y;
    // Where the tile's stages begin in the plane.
    int inner_y, inner_x, middle_y, middle_x, outer_y, outer_x;
};

template <class T, int G>
void run_task(const Problem& p, const Tiling& t, const Task& task, void* scratch, double* sums) {
    const int begin = task.chunk * t.chunk, end = begin + t.chunk < t.length ? begin + t.chunk : t.length;
    const std::int64_t tile = (task.plane * t.tiles_y + task.tile_y) * t.tiles_x + task.tile_x;
    Walker<T, G>(p, t, task, scratch).walk(begin, end, sums + tile * t.length);
}

void run(const Problem& p, const Tiling& t, const Task& task, void* scratch, double* sums) {
    dispatch_dtype(p.dtype, [&](auto element) {
        using T = decltype(element);
        switch (p.grads()) {
            case 0: run_task<T, 0>(p, t, task, scratch, sums); break;
            case 1: run_task<T, 1>(p, t, task, scratch, sums); break;
            default: run_task<T, 2>(p, t, task, scratch, sums); break;
        }
    });
}

std::size_t scratch_bytes(const Problem& p, const Tiling& t) {
    return p.dtype == FUSEDSSIM_FLOAT64 ? Scratch<double>(p, t, nullptr).bytes : Scratch<float>(p, t, nullptr).bytes;
}

void scale(const ScaleProblem& p, std::int64_t plane) {
    const std::int64_t n = plane / p.channels, c = plane % p.channels;
    const std::int64_t at = n * p.scale.n + c * p.scale.c;
    dispatch_dtype(p.dtype, [&](auto element) {
        using T = decltype(element);
        using A = arithmetic_t<T>;
        const A product = A(p.factor * double(static_cast<const A*>(p.scale.data)[at]));
        if (product == A(1)) return;
        for (std::int64_t d = 0; d < p.depth; ++d)
            for (std::int64_t h = 0; h < p.height; ++h) {
                T* row = static_cast<T*>(p.grad.data) + n * p.grad.n + c * p.grad.c + d * p.grad.d + h * p.grad.h;
                if (p.grad.w == 1)
                    for (std::int64_t w = 0; w < p.width; ++w) from_float(product * to_float(row[w]), row[w]);
                else
                    for (std::int64_t w = 0; w < p.width; ++w)
                        from_float(product * to_float(row[w * p.grad.w]), row[w * p.grad.w]);
            }
    });
}

}  // namespace

const Kernels FUSEDSSIM_KERNELS = {FUSEDSSIM_STRING(FUSEDSSIM_ISA), scratch_bytes, run, scale};

}  // namespace fusedssim::cpu
