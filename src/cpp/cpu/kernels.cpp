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
// All filters are one function: a weighted sum of 2r + 1 rows of memory, which are shifted copies (along x), neighbouring
// rows (along y) or slices of the ring.
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

// Rows start at multiples of the longest vector, and may be read and written up to one block beyond their end.
constexpr int kAlign = 64;

template <class A>
struct Simd {
    typedef A Vec __attribute__((vector_size(kVectorBytes)));
    static constexpr int lanes = kVectorBytes / sizeof(A);
    static constexpr int unroll = 4;
    static constexpr int block = lanes * unroll;

    static FUSEDSSIM_MATH Vec load(const A* p) {
        Vec v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
    static FUSEDSSIM_MATH void store(A* p, Vec v) { std::memcpy(p, &v, sizeof v); }
};

constexpr int kMaxTaps = 2 * kMaxRadius + 1;

// out[i] = sum over k of taps[k] * rows[k][i], for i in [0, n) and up to a block more.
template <class A>
void weighted_sum(const A* const* rows, const A* taps, int count, A* out, int n) {
    using S = Simd<A>;
    for (int i = 0; i < n; i += S::block) {
        typename S::Vec sum[S::unroll];
        for (int u = 0; u < S::unroll; ++u) sum[u] = taps[0] * S::load(rows[0] + i + u * S::lanes);
        for (int k = 1; k < count; ++k) {
            const A tap = taps[k];
            const A* row = rows[k] + i;
            for (int u = 0; u < S::unroll; ++u) sum[u] += tap * S::load(row + u * S::lanes);
        }
        for (int u = 0; u < S::unroll; ++u) S::store(out + i + u * S::lanes, sum[u]);
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

template <class T, class A>
void load_row(const void* data, std::int64_t offset, std::int64_t stride, int n, A* __restrict out) {
    const T* in = static_cast<const T*>(data) + offset;
    if (stride == 1)
        for (int i = 0; i < n; ++i) out[i] = to_float(in[i]);
    else
        for (int i = 0; i < n; ++i) out[i] = to_float(in[i * stride]);
}

template <class T, class A>
void store_row(const A* __restrict in, int n, void* data, std::int64_t offset, std::int64_t stride) {
    T* out = static_cast<T*>(data) + offset;
    if (stride == 1)
        for (int i = 0; i < n; ++i) from_float(in[i], out[i]);
    else
        for (int i = 0; i < n; ++i) from_float(in[i], out[i * stride]);
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
};

// Sizes of a tile's stages and their places in the scratch memory. `outer` is the input, `middle` the statistics and the
// partials, `inner` the gradient (or, without one, the statistics again).
template <class A>
struct Scratch {
    int taps, maps;  // 2r + 1; filtered_maps
    int outer_rows, middle_rows, inner_rows;
    int outer_columns, middle_columns, inner_columns;
    int outer_pitch, middle_pitch, inner_pitch;
    std::int64_t middle_slice, inner_slice;  // elements of one quantity of a slice
    A* input;                                // [4][outer_pitch]: s, d, s^2, d^2 of one row
    A* along_x;                              // [4][outer_rows][middle_pitch]
    A* ring;                                 // [taps][4][middle_slice]
    A* moments;                              // [4][middle_slice]
    A* dssim;                                // [middle_pitch]
    A* partials;                             // [maps][middle_slice]
    A* partials_x;                           // [maps][middle_rows][inner_pitch]
    A* partials_ring;                        // [taps][maps][inner_slice]
    A* filtered;                             // [maps][inner_slice]
    A* rows;                                 // [4][inner_pitch]: x, y, grad_x, grad_y of one row
    std::size_t bytes;

    static int pitch(int columns) { return (columns + kAlign - 1) / kAlign * kAlign; }

    Scratch(const Problem& p, const Tiling& t, void* memory) {
        const int r = p.radius, grads = p.grads(), halo_y = p.is_3d ? r : 0;
        taps = 2 * r + 1;
        maps = filtered_maps(grads);
        inner_rows = t.tile_rows;
        inner_columns = t.tile_columns;
        middle_rows = inner_rows + (grads ? 2 * halo_y : 0);
        middle_columns = inner_columns + (grads ? 2 * r : 0);
        outer_rows = middle_rows + 2 * halo_y;
        outer_columns = middle_columns + 2 * r;
        outer_pitch = pitch(outer_columns);
        middle_pitch = pitch(middle_columns);
        inner_pitch = pitch(inner_columns);
        middle_slice = std::int64_t(middle_rows) * middle_pitch;
        inner_slice = std::int64_t(inner_rows) * inner_pitch;

        bytes = 0;
        auto take = [&](std::int64_t elements) {
            A* at = memory ? reinterpret_cast<A*>(static_cast<char*>(memory) + bytes) : nullptr;
            // What a filter along x reads beyond a row, and a block beyond.
            bytes += (std::size_t(elements) + kMaxTaps + 2 * Simd<A>::block) * sizeof(A);
            bytes = (bytes + kAlign - 1) / kAlign * kAlign;
            return at;
        };
        input = take(4 * outer_pitch);
        along_x = take(4 * std::int64_t(outer_rows) * middle_pitch);
        ring = take(taps * 4 * middle_slice);
        moments = take(4 * middle_slice);
        dssim = take(middle_pitch);
        partials = take(maps * middle_slice);
        partials_x = take(maps * std::int64_t(middle_rows) * inner_pitch);
        partials_ring = take(taps * maps * inner_slice);
        filtered = take(maps * inner_slice);
        rows = take(4 * inner_pitch);
    }
};

// A view as it is walked: the walk is the first spatial axis, and images have slices of one row.
struct Walk {
    void* data;
    std::int64_t slice, row, column;
    Walk(const Problem& p, const View& v, std::int64_t plane)
        : data(v.data), slice(p.is_3d ? v.d : v.h), row(p.is_3d ? v.h : 0), column(v.w),
          base(plane / p.channels * v.n + plane % p.channels * v.c) {}
    std::int64_t offset(std::int64_t l, std::int64_t y, std::int64_t x) const {
        return base + l * slice + y * row + x * column;
    }

private:
    std::int64_t base;
};

template <class T, int G>
class Walker {
    using A = arithmetic_t<T>;

public:
    Walker(const Problem& problem, const Tiling& tiling, const Task& task, void* memory)
        : p(problem), t(tiling), s(problem, tiling, memory), x(p, p.x, task.plane), y(p, p.y, task.plane),
          map(p, p.map, task.plane), grad_out(p, p.grad_out, task.plane), grad_x(p, p.grad_x, task.plane),
          grad_y(p, p.grad_y, task.plane), stability{A(p.c1x2), A(p.c2x2)} {
        for (int k = 0; k < s.taps; ++k) taps[k] = A(p.taps[k < p.radius ? p.radius - k : k - p.radius]);
        crop_y = p.is_3d ? p.crop : 0;
        inner_y = task.tile_y * t.tile_rows;
        inner_x = task.tile_x * t.tile_columns;
        const int halo_y = p.is_3d ? p.radius : 0;
        middle_y = inner_y - (G ? halo_y : 0);
        middle_x = inner_x - (G ? p.radius : 0);
        outer_y = middle_y - halo_y;
        outer_x = middle_x - p.radius;
        scale = A(p.grad_factor * kGradientFactor);
        if (G && p.upstream == kUpstreamPlane) scale *= static_cast<const A*>(grad_out.data)[grad_out.offset(0, 0, 0)];
    }

    void walk(int begin, int end, double* sums) {
        const int r = p.radius, last = end + (G ? 2 * r : r);
        for (int l = begin - (G ? 2 * r : r); l < last; ++l) {
            if (l >= 0 && l < t.length) filter_input(l);
            const int at = l - r;  // the slice whose statistics are complete now
            if (at >= 0 && at < t.length && at >= begin - (G ? r : 0)) {
                const bool own = at >= begin && at < end;
                const double sum = statistics(at, own);
                if (own) sums[at] = sum;
            }
            if (G && l - 2 * r >= begin) gradient(l - 2 * r);
        }
    }

private:
    // Slice l of the input, filtered within the slice, into the ring.
    void filter_input(int l) {
        const Range columns(outer_x, outer_x + s.outer_columns, 0, t.columns);
        const Range rows(outer_y, outer_y + s.outer_rows, 0, t.rows);
        A* const input_s = s.input;
        A* const input_d = s.input + s.outer_pitch;
        A* const input_ss = s.input + 2 * s.outer_pitch;
        A* const input_dd = s.input + 3 * s.outer_pitch;
        A* const slot = s.ring + (l % s.taps) * 4 * s.middle_slice;
        // Images have nothing to filter along y: their one row goes straight into the ring.
        A* const target = p.is_3d ? s.along_x : slot;
        const std::int64_t target_map = std::int64_t(s.outer_rows) * s.middle_pitch;
        clear(s.input, 4 * s.outer_pitch);
        for (int row = 0; row < s.outer_rows; ++row) {
            if (row < rows.first || row >= rows.last) {
                for (int q = 0; q < 4; ++q)
                    clear(target + q * target_map + std::int64_t(row) * s.middle_pitch, s.middle_pitch);
                continue;
            }
            const int first = columns.first, n = columns.size();
            load_row<T>(x.data, x.offset(l, outer_y + row, outer_x + first), x.column, n, input_ss + first);
            load_row<T>(y.data, y.offset(l, outer_y + row, outer_x + first), y.column, n, input_dd + first);
            combine(input_ss + first, input_dd + first, input_s + first, input_d + first, n);
            for (int q = 0; q < 4; ++q)
                filter_row(s.input + q * s.outer_pitch, 1, target + q * target_map + std::int64_t(row) * s.middle_pitch,
                           s.middle_columns);
        }
        if (p.is_3d)
            for (int q = 0; q < 4; ++q)
                filter_row(s.along_x + q * target_map, s.middle_pitch, slot + q * s.middle_slice, int(s.middle_slice));
    }

    // In: x and y. Out: s, d, and in place of x and y their squares.
    static void combine(A* __restrict xs, A* __restrict ys, A* __restrict sum, A* __restrict difference, int n) {
        for (int i = 0; i < n; ++i) {
            const A a = xs[i] + ys[i], b = xs[i] - ys[i];
            sum[i] = a;
            difference[i] = b;
            xs[i] = a * a;
            ys[i] = b * b;
        }
    }

    // out[i] = sum of taps[k] * in[i + k * step].
    void filter_row(const A* in, std::int64_t step, A* out, int n) const {
        const A* rows[kMaxTaps];
        for (int k = 0; k < s.taps; ++k) rows[k] = in + k * step;
        weighted_sum(rows, taps, s.taps, out, n);
    }

    // The filter along the walk at slice l, over a ring of slices of `size` elements. Slices outside the image are zero.
    void filter_ring(const A* ring, std::int64_t size, int l, A* out) const {
        const A* rows[kMaxTaps];
        int first = 0, count = 0;
        for (int k = 0; k < s.taps; ++k) {
            const int at = l - p.radius + k;
            if (at < 0 || at >= t.length) continue;
            if (!count) first = k;
            rows[count++] = ring + (at % s.taps) * size;
        }
        weighted_sum(rows, taps + first, count, out, int(size));
    }

    // Statistics of slice l; with gradients, its partials, filtered within the slice, into the second ring. Returns the
    // sum of DSSIM over the tile's own part.
    double statistics(int l, bool own) {
        filter_ring(s.ring, 4 * s.middle_slice, l, s.moments);
        const bool slice_counted = l >= p.crop && l < t.length - p.crop;
        const Range columns(middle_x, middle_x + s.middle_columns, p.crop, t.columns - p.crop);
        const Range rows(middle_y, middle_y + s.middle_rows, crop_y, t.rows - crop_y);
        const int own_first_column = inner_x - middle_x, own_first_row = inner_y - middle_y;
        double sum = 0;
        for (int row = 0; row < s.middle_rows; ++row) {
            const bool counted = slice_counted && row >= rows.first && row < rows.last;
            if (G && (!counted || columns.size() < s.middle_columns)) clear_partials(row);
            if (!counted || !columns.size()) continue;
            const std::int64_t at = std::int64_t(row) * s.middle_pitch + columns.first;
            pointwise(at, columns.size(), s.dssim + columns.first);
            if (G && p.upstream == kUpstreamMap) weight_partials(l, middle_y + row, columns, at);
            const int own_row = row - own_first_row;
            if (!own || own_row < 0 || own_row >= s.inner_rows) continue;
            const Range mine(own_first_column, own_first_column + s.inner_columns, columns.first, columns.last);
            const A* dssim = s.dssim + own_first_column + mine.first;
            sum += ordered_sum(dssim, mine.size());
            if (map.data) store_map(l, own_row, mine, dssim);
        }
        if (G) filter_partials(l);
        return sum;
    }

    // DSSIM and the partials of n neighbouring positions. One loop over plain arrays, which compilers vectorise.
    void pointwise(std::int64_t at, int n, A* __restrict dssim) {
        const A* __restrict mu_s = s.moments + at;
        const A* __restrict mu_d = s.moments + s.middle_slice + at;
        const A* __restrict sq_s = s.moments + 2 * s.middle_slice + at;
        const A* __restrict sq_d = s.moments + 3 * s.middle_slice + at;
        const Stability<A> c = stability;
        if constexpr (G == 0) {
            for (int i = 0; i < n; ++i) dssim[i] = fusedssim::dssim<A>({mu_s[i], mu_d[i], sq_s[i], sq_d[i]}, c);
        } else {
            A* __restrict p0 = s.partials + at;
            A* __restrict p1 = s.partials + s.middle_slice + at;
            A* __restrict p2 = s.partials + 2 * s.middle_slice + at;
            A* __restrict p3 = s.partials + (G == 2 ? 3 : 2) * s.middle_slice + at;
            for (int i = 0; i < n; ++i) {
                Partials<A> partial;
                A maps[4];
                dssim[i] = dssim_and_partials<A>({mu_s[i], mu_d[i], sq_s[i], sq_d[i]}, c, A(1), partial);
                pack_partials<G>(partial, maps);
                p0[i] = maps[0];
                p1[i] = maps[1];
                p2[i] = maps[2];
                if (G == 2) p3[i] = maps[3];
            }
        }
    }

    void clear_partials(int row) {
        for (int q = 0; q < s.maps; ++q)
            clear(s.partials + q * s.middle_slice + std::int64_t(row) * s.middle_pitch, s.middle_pitch);
    }

    void weight_partials(int l, int y_at, const Range& columns, std::int64_t at) {
        const A* u = static_cast<const A*>(grad_out.data) +
                     grad_out.offset(l - p.crop, y_at - crop_y, middle_x + columns.first - p.crop);
        const std::int64_t stride = grad_out.column;
        for (int q = 0; q < s.maps; ++q) {
            A* __restrict partial = s.partials + q * s.middle_slice + at;
            for (int i = 0; i < columns.size(); ++i) partial[i] *= u[i * stride];
        }
    }

    void store_map(int l, int own_row, const Range& mine, const A* dssim) {
        A* out = static_cast<A*>(map.data) +
                 map.offset(l - p.crop, inner_y + own_row - crop_y, inner_x + mine.first - p.crop);
        for (int i = 0; i < mine.size(); ++i) out[i * map.column] = ssim_from_dssim(dssim[i]);
    }

    void filter_partials(int l) {
        A* const slot = s.partials_ring + (l % s.taps) * s.maps * s.inner_slice;
        A* const target = p.is_3d ? s.partials_x : slot;
        const std::int64_t target_map = std::int64_t(s.middle_rows) * s.inner_pitch;
        for (int q = 0; q < s.maps; ++q) {
            for (int row = 0; row < s.middle_rows; ++row)
                filter_row(s.partials + q * s.middle_slice + std::int64_t(row) * s.middle_pitch, 1,
                           target + q * target_map + std::int64_t(row) * s.inner_pitch, s.inner_columns);
            if (p.is_3d)
                filter_row(s.partials_x + q * target_map, s.inner_pitch, slot + q * s.inner_slice, int(s.inner_slice));
        }
    }

    void gradient(int l) {
        filter_ring(s.partials_ring, s.maps * s.inner_slice, l, s.filtered);
        const Range columns(inner_x, inner_x + s.inner_columns, 0, t.columns);
        const Range rows(inner_y, inner_y + s.inner_rows, 0, t.rows);
        A* const xs = s.rows;
        A* const ys = s.rows + s.inner_pitch;
        A* const gx = s.rows + 2 * s.inner_pitch;
        A* const gy = s.rows + 3 * s.inner_pitch;
        const int n = columns.size();
        for (int row = rows.first; row < rows.last; ++row) {
            load_row<T>(x.data, x.offset(l, inner_y + row, inner_x), x.column, n, xs);
            load_row<T>(y.data, y.offset(l, inner_y + row, inner_x), y.column, n, ys);
            combine_gradient(std::int64_t(row) * s.inner_pitch, n, xs, ys, gx, gy);
            store_row<T>(gx, n, grad_x.data, grad_x.offset(l, inner_y + row, inner_x), grad_x.column);
            if (G == 2) store_row<T>(gy, n, grad_y.data, grad_y.offset(l, inner_y + row, inner_x), grad_y.column);
        }
    }

    void combine_gradient(std::int64_t at, int n, const A* __restrict xs, const A* __restrict ys, A* __restrict gx,
                          A* __restrict gy) const {
        const A* __restrict f0 = s.filtered + at;
        const A* __restrict f1 = s.filtered + s.inner_slice + at;
        const A* __restrict f2 = s.filtered + 2 * s.inner_slice + at;
        const A* __restrict f3 = s.filtered + (G == 2 ? 3 : 2) * s.inner_slice + at;
        const A factor = scale;
        for (int i = 0; i < n; ++i) {
            const A maps[4] = {f0[i], f1[i], f2[i], f3[i]};
            A a, b = A(0);
            unpack_gradient<G>(maps, xs[i], ys[i], a, b);
            gx[i] = factor * a;
            if (G == 2) gy[i] = factor * b;
        }
    }

    const Problem& p;
    const Tiling& t;
    Scratch<A> s;
    Walk x, y, map, grad_out, grad_x, grad_y;
    Stability<A> stability;
    A taps[kMaxTaps];
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
