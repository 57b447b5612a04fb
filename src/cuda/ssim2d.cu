// SPDX-License-Identifier: MIT
//
// SSIM of images, its map, and its gradient, in one pass over memory and with nothing saved.
//
// A block walks down a strip of columns of one plane, four rows at a time (and then, perhaps, down another: see Partition).
// Each batch of rows has two phases, with a barrier after each:
//
//     down     a thread is a column. It loads x, y --> s, d, s^2, d^2 --> vertical taps --> moments --shared--+
//              and takes partials of the batch before <--shared--+                                            |
//                  --> vertical taps --shared--+                 |                                            |
//     across   a thread is 4 adjacent columns of one row.        |                                            |
//                  horizontal taps <-----------+--> gradient of the row 2R above                              |
//                  horizontal taps <---------------------------- | -------------------------------------------+
//                  --> DSSIM, its sum and the map; --> partials -+
//
//     columns of a strip (G > 0)  |<R>|<R>|<-------- out -------->|<R>|<R>|
//                                  read   statistics and gradient   read
//                                      statistics              statistics
//
// The vertical filters come first: they square each element once, need no neighbours, and halo rows pay for nothing else.
// They are transposed FIRs in registers (device.h), 2R a quantity. In shared memory the columns of a row stand by their
// residue modulo 4, with pitches that let both phases read and write without bank conflicts. On sm_90 the float32 kernels
// for R = 5 take 128 registers a thread (117 without gradients) and 48 KB (17 KB) of shared memory, for 2 blocks a
// multiprocessor. Equation numbers: docs/derivation.md.
//
// G is the number of gradients: 0 (value or map only), 1 (x), 2 (x and y). N: windows are normalised by the mass of a mask.
#include "core/ssim_math.h"
#include "device.h"
#include "instances.h"

namespace fusedssim {

// Rows of at least COLUMNS columns in shared memory, Q values each.
template <class A, int COLUMNS, int Q>
struct Rows {
    // Columns of one residue: 2 modulo 4 puts neighbouring residues, of 16 bytes an element, in different banks.
    static constexpr int kGroups = (COLUMNS + 3) / 4, kPitch = kGroups + (6 - kGroups % 4) % 4;
    Column<A, Q> columns[4][4 * kPitch];

    __device__ __forceinline__ Column<A, Q>& at(int row, int column) {
        return columns[row][column % 4 * kPitch + column / 4];
    }
    // `column` is a constant, counted from the first of a group of 4.
    __device__ __forceinline__ Column<A, Q>& in_group(int row, int group, int column) {
        return columns[row][group + column % 4 * kPitch + column / 4];
    }
    // Filters horizontally at a group's columns; the window of its first begins at the group's first column.
    template <int R>
    __device__ __forceinline__ void filter(int row, int group, const A* taps, A (&out)[4][Q]) {
#pragma unroll
        for (int e = 0; e < 4 + 2 * R; ++e) {
            const Column<A, Q> in = in_group(row, group, e);
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                const int k = e - c;
                if (k < 0 || k > 2 * R) continue;
#pragma unroll
                for (int q = 0; q < Q; ++q) out[c][q] = k ? taps[iabs(k - R)] * in.v[q] + out[c][q] : taps[R] * in.v[q];
            }
        }
    }
};

template <class T, int R, int G, bool N>
struct Strip {
    using A = arithmetic_t<T>;
    using S = Strip2d<A, R, G, N>;
    static constexpr int Q = N ? 5 : 4;  // moments: of s, d, s^2, d^2, and the mass
    static constexpr int M = G ? filtered_maps(G) : 1;
    static constexpr int kStates = S::roles == 2 ? Q : G ? Q + M : Q;
    static constexpr int kGroups = S::columns / S::group;  // threads of a row, across
    struct Shared {
        Rows<A, S::statistics + 2 * R, Q> moments;
        Rows<A, G ? S::statistics : 4, M> partials, filtered;
    };

    const SsimParams<A>& p;
    const Tile tile;
    Shared& shared;
    const int role, thread;  // 0: statistics, 1: gradients, if there are two; of the role
    const int x0;            // the first column that the block writes
    const int row_begin, row_end;
    // Across: the row of a batch and the group of columns that this thread has.
    const int across_row, group;
    // Across: a bit for each of its columns, whether the map has an element there, and more that does not change.
    unsigned flags;
    static constexpr unsigned kAllColumns = 15;
    static constexpr unsigned kOwned = 16;       // this block sums (and writes) these elements of the map
    static constexpr unsigned kStatistics = 32;  // there are statistics,
    static constexpr unsigned kGradient = 64;    // a gradient,
    static constexpr unsigned kPacked = 128;     // and its elements can be accessed as one
    // Down: sums of the vertical filters, first of the moments, then of the partials.
    TransposedFir<A, R> fir[kStates];
    Cursor<T> x_at, y_at;                              // the row that will be read next
    typename Elements<T>::Raw x[S::rows], y[S::rows];  // what the next batch begins with
    A m[N ? S::rows : 1];
    Cursor<T> x_here, y_here, to_x, to_y;  // the gradient's place
    A dssim_sum, l1_sum;
    A scale, l1_scale;  // of the gradients in this plane

    __device__ __forceinline__ Strip(const SsimParams<A>& params, const Tile& at, int first, int end, Shared& memory)
        : p(params), tile(at), shared(memory), role(S::roles == 2 ? threadIdx.x / S::columns : 0),
          thread(S::roles == 2 ? threadIdx.x % S::columns : threadIdx.x), x0(tile.tile_x * S::out), row_begin(first),
          row_end(end), across_row(thread / kGroups), group(thread % kGroups), flags(0),
          x_at(cursor(p.x, first_row(), x0 - S::halo + thread)), y_at(cursor(p.y, first_row(), x0 - S::halo + thread)),
          x_here(gradient_cursor(p.x)), y_here(gradient_cursor(p.y)), to_x(gradient_cursor(p.grad_x)),
          to_y(gradient_cursor(p.grad_y)), dssim_sum(0), l1_sum(0), scale(params.scale), l1_scale(params.l1_scale) {
        if (G) plane_scales(p, tile, scale, l1_scale);
        const int column = statistics_column(group);
#pragma unroll
        for (int c = 0; c < 4; ++c) flags |= unsigned(column + c >= p.crop && column + c < p.width - p.crop) << c;
        // Statistics extend beyond the strip: those of whole groups are its own, the first of which begins at or before the
        // image for the first strip.
        constexpr int kFirst = S::margin / 4;
        if (group >= kFirst && (group < kFirst + S::out / 4 || tile.tile_x + 1 == p.partition.strips)) flags |= kOwned;
        if (has_statistics() && 4 * group < S::statistics && column < p.width) flags |= kStatistics;
        if (has_gradient() && 4 * group < S::out && gradient_column() < p.width) flags |= kGradient;
        if (p.packed_grads && gradient_column() + 3 < p.width) flags |= kPacked;
    }

    __device__ __forceinline__ bool has_statistics() const { return S::roles == 1 || role == 0; }
    __device__ __forceinline__ bool has_gradient() const { return G && (S::roles == 1 || role == 1); }
    // A place in this plane.
    template <class E = T>
    __device__ __forceinline__ Cursor<E> cursor(const View& v, int row, int column, int crop = 0) const {
        return Cursor<E>(v, p.dtype, tile, 0, row - crop, column - crop);
    }
    __device__ __forceinline__ A mask_at(int row, int column) const {
        return load_mask<A>(p.mask, p.mask_is_bool, tile, 0, row, column);
    }
    __device__ __forceinline__ bool row_counted(int row) const { return row >= p.crop && row < p.height - p.crop; }
    // Across: the first column of this thread's statistics.
    __device__ __forceinline__ int statistics_column(int of_group) const { return x0 - S::margin + 4 * of_group; }
    __device__ __forceinline__ int gradient_column() const { return x0 + 4 * group; }
    __device__ __forceinline__ Cursor<T> gradient_cursor(const View& v) const {
        return cursor(v, first_row() + across_row - 2 * R, gradient_column());
    }
    // Rows above the image are zeros and leave the running sums zero: begin at row 0. Otherwise begin early enough, in whole
    // batches.
    __device__ __forceinline__ int first_row() const {
        constexpr int kEarly = (S::halo + S::rows - 1) / S::rows * S::rows;
        return imax(row_begin - kEarly, 0);
    }

    __device__ __forceinline__ void walk() {
        const int first = first_row(), last = row_end - 1 + S::halo;
        // What lies beside the image, and partials of columns without a map element, are zero, and are so in shared memory.
        const int read_column = x0 - S::halo + thread, partial_column = x0 - S::margin + thread;
        const bool reads = has_statistics() && read_column >= 0 && read_column < p.width;
        const bool filters =
            has_gradient() && thread < S::statistics && partial_column >= p.crop && partial_column < p.width - p.crop;
        if (reads) prefetch(first);
        // The first batches whose moments, partials and gradients are wanted.
        const int moments_from = imax(row_begin - S::margin, 0) + R - (S::rows - 1);
        const int partials_from = imax(moments_from, first);
        const int gradients_from = row_begin + 2 * R - (S::rows - 1);
        for (int row = first; row <= last + (G ? S::rows : 0); row += S::rows) {
            const int before = row - S::rows;  // the batch whose partials are there
            if (reads) moments_down(row);
            if (G && filters && before >= partials_from) partials_down(before - R);
            __syncthreads();
            if (G) {
                if (before >= gradients_from && (flags & kGradient)) gradient_across(before + across_row - 2 * R);
                if (before >= first) next_gradient_rows();
            }
            if (reads) prefetch(row + S::rows);
            if (row >= moments_from && (flags & kStatistics)) statistics_across(row + across_row - R);
            __syncthreads();
        }
    }
    __device__ __forceinline__ void next_gradient_rows() {
        x_here.next_rows(S::rows);
        y_here.next_rows(S::rows);
        to_x.next_rows(S::rows);
        if (G == 2) to_y.next_rows(S::rows);
    }

    __device__ __forceinline__ void prefetch(int row) {
        if (row + S::rows <= p.height) {
#pragma unroll
            for (int k = 0; k < S::rows; ++k) prefetch_row(row, k, true);
        } else {
#pragma unroll
            for (int k = 0; k < S::rows; ++k) prefetch_row(row, k, row + k < p.height);
        }
    }
    __device__ __forceinline__ void prefetch_row(int row, int k, bool valid) {
        x[k] = x_at.load(0, 0, valid);
        y[k] = y_at.load(0, 0, valid);
        if (N) m[k] = valid ? mask_at(row + k, x0 - S::halo + thread) : A(0);
        x_at.next_row();
        y_at.next_row();
    }

    // Rows row, row + 1, ... of the images --> moments of the rows R above.
    __device__ __forceinline__ void moments_down(int row) {
        if (p.has_l1) sum_l1(row);
#pragma unroll
        for (int k = 0; k < S::rows; ++k) {
            const A xk = to_arithmetic(x[k]), yk = to_arithmetic(y[k]);
            const A s = xk + yk, d = xk - yk, ms = N ? m[k] * s : s, md = N ? m[k] * d : d;
            Column<A, Q> out;
            out.v[0] = fir[0].step(ms, p.taps);
            out.v[1] = fir[1].step(md, p.taps);
            out.v[2] = fir[2].step(ms * s, p.taps);
            out.v[3] = fir[3].step(md * d, p.taps);
            if constexpr (N) out.v[4] = fir[4].step(m[k], p.taps);
            shared.moments.at(k, thread) = out;
        }
    }
    __device__ __forceinline__ void sum_l1(int row) {
        if (thread < S::halo || thread >= S::halo + S::out || row + S::rows <= row_begin || row >= row_end) return;
        A differences[S::rows];
#pragma unroll
        for (int k = 0; k < S::rows; ++k) differences[k] = absolute(to_arithmetic(x[k]) - to_arithmetic(y[k]));
        if (p.mask.data) {
            const int column = x0 - S::halo + thread_again() % S::columns;
#pragma unroll
            for (int k = 0; k < S::rows; ++k)
                if (row + k >= row_begin && row + k < row_end) l1_sum += mask_at(row + k, column) * differences[k];
        } else if (row >= row_begin && row + S::rows <= row_end) {
            l1_sum += (differences[0] + differences[1]) + (differences[2] + differences[3]);
        } else {
#pragma unroll
            for (int k = 0; k < S::rows; ++k)
                if (row + k >= row_begin && row + k < row_end) l1_sum += differences[k];
        }
    }

    // Filters the partials of a batch vertically; the first is of this row of the map.
    __device__ __forceinline__ void partials_down(int row) {
        constexpr int kFirst = S::roles == 2 ? 0 : Q;
        const bool is_weighted = p.mask.data || p.upstream == kUpstreamMap;
#pragma unroll
        for (int k = 0; k < S::rows; ++k) {
            Column<A, M> in = shared.partials.at(k, thread);
            if (is_weighted && row_counted(row + k))
                weight_partials(p, tile, 0, row + k, x0 - S::margin + thread_again() % S::columns, in.v);
#pragma unroll
            for (int q = 0; q < M; ++q) in.v[q] = fir[kFirst + q].step(in.v[q], p.taps);
            shared.filtered.at(k, thread) = in;
        }
    }

    // Statistics of a row of the map, at 4 columns.
    __device__ __forceinline__ void statistics_across(int row) {
        if (!row_counted(row)) {
            if constexpr (G != 0)
#pragma unroll
                for (int c = 0; c < 4; ++c) shared.partials.in_group(across_row, group, c).clear();
            return;
        }
        A moments[4][Q];
        shared.moments.template filter<R>(across_row, group, p.taps, moments);
        const Stability<A> stability = {p.c1x2, p.c2x2};
        A here[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) {
            Moments<A> at = {moments[c][0], moments[c][1], moments[c][2], moments[c][3]};
            A u = A(1);
            if constexpr (N) u = normalize(at, moments[c][Q - 1]);
            if constexpr (G != 0) {
                Partials<A> partial;
                Column<A, M> maps;
                here[c] = dssim_and_partials(at, stability, u, partial);
                pack_partials<G>(partial, maps.v);
                maps.fill();
                shared.partials.in_group(across_row, group, c) = maps;
            } else {
                here[c] = dssim(at, stability);
            }
        }
        if (row < row_begin || row >= row_end || !(flags & kOwned)) return;
        const unsigned counted = flags & kAllColumns;
        if (counted == kAllColumns && !p.mask.data) {
            dssim_sum += (here[0] + here[1]) + (here[2] + here[3]);
        } else {
            const int again = statistics_column(thread_again() % S::columns % kGroups);
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                if (!(counted >> c & 1)) continue;
                const A weight = p.mask.data ? mask_at(row, again + c) : A(1);
                if (weight != A(0)) dssim_sum += weight * here[c];
            }
        }
        if (!G && p.map.data) store_map(row, statistics_column(thread_again() % kGroups), counted, here);
    }

    __device__ __forceinline__ void store_map(int row, int column, unsigned counted, const A (&here)[4]) const {
        A values[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) values[c] = ssim_from_dssim(here[c]);
        if (p.is_loss || p.mask.data)
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                if (!(counted >> c & 1)) continue;
                if (p.is_loss) {
                    const A x_here = to_arithmetic(cursor(p.x, row, column + c).load(0, 0));
                    const A y_here = to_arithmetic(cursor(p.y, row, column + c).load(0, 0));
                    values[c] = A(-2) * p.ssim_weight * here[c] + p.l1_weight * absolute(x_here - y_here);
                }
                if (p.mask.data) {
                    const A weight = mask_at(row, column + c);
                    values[c] = weight != A(0) ? weight * values[c] : A(0);
                }
            }
        const Cursor<A> at = cursor<A>(p.map, row, column, p.crop);
        if (p.packed_map && counted == kAllColumns) {
            Packed<A>::store(at.at, values);
        } else {
#pragma unroll
            for (int c = 0; c < 4; ++c)
                if (counted >> c & 1) at.store(0, c, values[c]);
        }
    }

    // The gradient of a row, at 4 columns.
    __device__ __forceinline__ void gradient_across(int row) {
        if (row < row_begin || row >= row_end) return;
        const int column = gradient_column();
        const bool packed = flags & kPacked;
        typename Elements<T>::Raw xs[4], ys[4];
        if (packed) {
            Packed<T>::load(x_here.at, xs);
            Packed<T>::load(y_here.at, ys);
        } else {
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                xs[c] = x_here.load(0, c, column + c < p.width);
                ys[c] = y_here.load(0, c, column + c < p.width);
            }
        }
        A filtered[4][M];
        shared.filtered.template filter<R>(across_row, group, p.taps, filtered);
        A grad_x[4], grad_y[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) {
            const A xc = to_arithmetic(xs[c]), yc = to_arithmetic(ys[c]);
            unpack_gradient<G>(filtered[c], xc, yc, grad_x[c], grad_y[c]);
            grad_x[c] *= scale;
            if (G == 2) grad_y[c] *= scale;
        }
        // What is rare stands apart.
        const bool is_rare = p.mask.data || p.upstream == kUpstreamMap || p.coarse_x.data;
        if (l1_scale != A(0) && !is_rare) {
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                const A l1 = with_sign(l1_scale, to_arithmetic(xs[c]) - to_arithmetic(ys[c]));
                grad_x[c] += l1;
                if (G == 2) grad_y[c] -= l1;
            }
        } else if (is_rare) {
            const int again = x0 + 4 * (thread_again() % S::columns % kGroups);
#pragma unroll
            for (int c = 0; c < 4; ++c)
                if (again + c < p.width)
                    add_to_gradient<G>(p, tile, 0, row, again + c,
                                       with_sign(l1_scale, to_arithmetic(xs[c]) - to_arithmetic(ys[c])), grad_x[c],
                                       grad_y[c]);
        }
        store_gradient(to_x, column, packed, grad_x);
        if (G == 2) store_gradient(to_y, column, packed, grad_y);
    }
    __device__ __forceinline__ void store_gradient(const Cursor<T>& at, int column, bool packed,
                                                   const A (&values)[4]) const {
        if (packed) {
            Packed<T>::store(at.at, values);
        } else {
#pragma unroll
            for (int c = 0; c < 4; ++c)
                if (column + c < p.width) at.store(0, c, values[c]);
        }
    }
};

template <class T, int R, int G, bool N>
__device__ __forceinline__ void ssim2d(const SsimParams<arithmetic_t<T>>& p) {
    using P = Strip<T, R, G, N>;
    using S = typename P::S;
    __shared__ typename P::Shared shared;
    const Partition& partition = p.partition;
    const long long begin = partition.begin(blockIdx.x), end = partition.begin(blockIdx.x + 1);
    const long long last = end / p.height;
    for (long long strip = begin / p.height; strip <= last; ++strip) {
        const long long top = strip * p.height;
        const int row = begin > top ? int(begin - top) : 0, row_end = end - top < p.height ? int(end - top) : p.height;
        typename P::A dssim = 0, l1 = 0;
        if (row < row_end) {
            // What lies beside the image is never written, and is zero.
            for (int i = threadIdx.x; i < int(sizeof shared / sizeof(float4)); i += S::threads)
                reinterpret_cast<float4*>(&shared)[i] = make_float4(0, 0, 0, 0);
            __syncthreads();
            const long long plane = strip / partition.strips;
            const Tile tile(plane, p.channels, int(strip - plane * partition.strips));
            P walker(p, tile, row, row_end, shared);
            walker.walk();
            dssim = walker.dssim_sum;
            l1 = walker.l1_sum;
        }
        // Pieces without rows, at the end of a block, have a place, too.
        store_block_sums<S::threads>(p, strip + blockIdx.x, dssim, l1);
        __syncthreads();
    }
}

#define FUSEDSSIM_DEFINE_AS(NAME, TYPE, RADIUS, GRADS, NORMALIZED)                                                   \
    extern "C" __global__ void __launch_bounds__(Strip2d<arithmetic_t<TYPE>, RADIUS, GRADS, NORMALIZED>::threads,    \
                                                 Strip2d<arithmetic_t<TYPE>, RADIUS, GRADS, NORMALIZED>::min_blocks) \
        NAME(const __grid_constant__ SsimParams<arithmetic_t<TYPE>> p) {                                             \
        ssim2d<TYPE, RADIUS, GRADS, NORMALIZED>(p);                                                                  \
    }
#define FUSEDSSIM_DEFINE(TYPE, RADIUS, GRADS) \
    FUSEDSSIM_DEFINE_AS(ssim2d_##TYPE##_r##RADIUS##_g##GRADS, TYPE, RADIUS, GRADS, false)
#define FUSEDSSIM_DEFINE_NORMALIZED(TYPE, RADIUS, GRADS) \
    FUSEDSSIM_DEFINE_AS(ssim2d_normalized_##TYPE##_r##RADIUS##_g##GRADS, TYPE, RADIUS, GRADS, true)
FUSEDSSIM_SSIM2D_KERNELS(FUSEDSSIM_DEFINE)
FUSEDSSIM_SSIM2D_NORMALIZED_KERNELS(FUSEDSSIM_DEFINE_NORMALIZED)

}  // namespace fusedssim
