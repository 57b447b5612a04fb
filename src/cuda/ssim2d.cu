// SPDX-License-Identifier: MIT
//
// SSIM of images, its map, and its gradient, in one pass over memory and with nothing saved.
//
// A block walks down a strip of columns of one plane, four rows at a time (and then, perhaps, down another: see Partition), or
// eight rows where there is no gradient. Each batch of rows has two phases, with a barrier after each:
//
//     down     a thread is a column. It loads x, y --> s, d, s^2, d^2 --> vertical taps --> moments --shared--+
//              and takes partials of the batch before <--shared--+                                            |
//                  --> vertical taps --shared--+                 |                                            |
//     across   a thread is 4 (or 8) adjacent columns of a row.   |                                            |
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
// residue modulo 4 (or 8), with pitches that let both phases read and write without bank conflicts. On sm_90 the float32
// kernels for R = 5 take 128 registers a thread (168 for both gradients) and 48 KB (34 and 36 KB without and with both
// gradients) of shared memory, for 2 blocks a multiprocessor. Equation numbers: docs/derivation.md.
//
// G is the number of gradients: 0 (value or map only), 1 (x), 2 (x and y). N: windows are normalised by the mass of a mask.
#include "block_sums.h"
#include "core/ssim_math.h"
#include "instances.h"

namespace fusedssim {

// ROWS rows of at least COLUMNS columns in shared memory, Q values each.
template <class A, int ROWS, int COLUMNS, int Q, int GROUP>
struct Rows {
    // Columns of one residue: neighbouring residues, of 16 bytes an element, are in different banks.
    static constexpr int kGroups = (COLUMNS + GROUP - 1) / GROUP;
    static constexpr int kPitch = kGroups + (GROUP == 8 ? 1 - kGroups % 2 : (6 - kGroups % 4) % 4);
    Column<A, Q> columns[ROWS][GROUP * kPitch];

    __device__ __forceinline__ Column<A, Q>& at(int row, int column) {
        return columns[row][column % GROUP * kPitch + column / GROUP];
    }
    // `column` is a constant, counted from the first of a group.
    __device__ __forceinline__ Column<A, Q>& in_group(int row, int group, int column) {
        return columns[row][group + column % GROUP * kPitch + column / GROUP];
    }
    // Filters horizontally at a group's columns; the window of its first begins at the group's first column.
    template <int R>
    __device__ __forceinline__ void filter(int row, int group, const A* taps, A (&out)[GROUP][Q]) {
#pragma unroll
        for (int e = 0; e < GROUP + 2 * R; ++e) {
            const Column<A, Q> in = in_group(row, group, e);
#pragma unroll
            for (int c = 0; c < GROUP; ++c) {
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
    static constexpr int C = S::group, kGroups = S::columns / C;  // threads of a row, across
    struct Shared {
        Rows<A, S::rows, S::statistics + 2 * R, Q, C> moments;
        Rows<A, S::rows, G ? S::statistics : C, M, C> partials, filtered;
    };

    const SsimParams<A>& p;
    const Tile tile;
    Shared& shared;
    const int role, thread;     // 0: statistics, 1: gradients, if there are two; of the role
    const int x0;               // the first column that the block writes
    const int row_begin, rows;  // that the block writes,
    int map_begin, map_rows;    // and those of the map that it computes
    // Across: the row of a batch and the group of C columns that this thread has.
    const int across_row, group;
    // What does not change from batch to batch, a bit each: a test is one instruction. Across, first whether the map has an
    // element at each of C columns.
    unsigned flags;
    static constexpr unsigned kFirst4 = 15, kLast4 = kFirst4 << (C - 4), kAllColumns = kFirst4 | kLast4;
    static constexpr unsigned kOwned = 1 << 8;        // this block sums (and writes) these elements of the map,
    static constexpr unsigned kPlain = 1 << 9;        // the first 4 and all or none of the last, and there is no mask,
    static constexpr unsigned kStoresMap = 1 << 10;   // and they are stored
    static constexpr unsigned kStatistics = 1 << 11;  // there are statistics,
    static constexpr unsigned kGradient = 1 << 12;    // a gradient,
    static constexpr unsigned kPacked = 1 << 13;      // whose elements can be accessed as one,
    static constexpr unsigned kL1Gradient = 1 << 14;  // with a part of |x - y|,
    static constexpr unsigned kRare = 1 << 15;        // or with what is rarer
    // Down.
    static constexpr unsigned kReads = 1 << 16;     // this column is in the image
    static constexpr unsigned kSumsL1 = 1 << 17;    // the block sums |x - y| here
    static constexpr unsigned kFilters = 1 << 18;   // there are partials,
    static constexpr unsigned kWeighted = 1 << 19;  // which have weights
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
          rows(end - first), across_row(thread / kGroups), group(thread % kGroups), flags(0),
          x_at(cursor(p.x, first_row(), x0 - S::halo + thread)), y_at(cursor(p.y, first_row(), x0 - S::halo + thread)),
          x_here(gradient_cursor(p.x)), y_here(gradient_cursor(p.y)), to_x(gradient_cursor(p.grad_x)),
          to_y(gradient_cursor(p.grad_y)), dssim_sum(0), l1_sum(0), scale(params.scale), l1_scale(params.l1_scale) {
        if (G) plane_scales(p, tile, scale, l1_scale);
        map_begin = imax(row_begin - S::margin, p.crop);
        map_rows = imax(imin(end + S::margin, p.height - p.crop) - map_begin, 0);
        // What lies beside the image, and partials of columns without a map element, are zero, and are so in shared memory.
        const int read_column = x0 - S::halo + thread, partial_column = x0 - S::margin + thread;
        if (has_statistics() && read_column >= 0 && read_column < p.width) flags |= kReads;
        if (p.has_l1 && thread >= S::halo && thread < S::halo + S::out) flags |= kSumsL1;
        if (has_gradient() && thread < S::statistics && partial_column >= p.crop && partial_column < p.width - p.crop)
            flags |= kFilters;
        if (p.mask.data || p.upstream == kUpstreamMap) flags |= kWeighted | kRare;
        if (p.coarse_x.data) flags |= kRare;
        if (l1_scale != A(0)) flags |= kL1Gradient;

        const int column = statistics_column(group);
#pragma unroll
        for (int c = 0; c < C; ++c)
            if (column + c >= p.crop && column + c < p.width - p.crop && (G || C * group + c < S::out))
                flags |= 1u << c;
        // With gradients, statistics extend beyond the strip: those of whole groups are its own, the first of which begins at
        // or before the image for the first strip.
        constexpr int kFirst = S::margin / C;
        if (G && group >= kFirst && (group < kFirst + S::out / C || tile.tile_x + 1 == p.partition.strips))
            flags |= kOwned;
        const bool is_simple = (flags & kFirst4) == kFirst4 && ((flags & kLast4) == kLast4 || !(flags & kLast4));
        if (is_simple && !p.mask.data) flags |= kPlain;
        if (!G && p.map.data) flags |= kStoresMap;
        if (has_statistics() && C * group < S::statistics && column < p.width) flags |= kStatistics;
        if (has_gradient() && C * group < S::out && gradient_column() < p.width) flags |= kGradient;
        if (p.packed_grads && gradient_column() + 3 < p.width) flags |= kPacked;
    }

    __device__ __forceinline__ bool has_statistics() const { return S::roles == 1 || role == 0; }
    __device__ __forceinline__ bool has_gradient() const { return G && (S::roles == 1 || role == 1); }
    // A place in this plane.
    template <class E = T>
    __device__ __forceinline__ Cursor<E> cursor(const ByteView& v, int row, int column, int crop = 0) const {
        return Cursor<E>(v, p.dtype, tile, 0, row - crop, column - crop);
    }
    __device__ __forceinline__ A mask_at(int row, int column) const {
        return load_mask<A>(p.mask, p.mask_is_bool, tile, 0, row, column);
    }
    __device__ __forceinline__ bool is_own(int row) const { return unsigned(row - row_begin) < unsigned(rows); }
    __device__ __forceinline__ bool row_counted(int row) const { return row >= p.crop && row < p.height - p.crop; }
    // Across: the first column of this thread's statistics.
    __device__ __forceinline__ int statistics_column(int of_group) const { return x0 - S::margin + C * of_group; }
    __device__ __forceinline__ int gradient_column() const { return x0 + C * group; }
    __device__ __forceinline__ Cursor<T> gradient_cursor(const ByteView& v) const {
        return cursor(v, first_row() - S::rows + across_row - 2 * R, gradient_column());
    }
    // Rows above the image are zeros and leave the running sums zero: begin at row 0. Otherwise begin early enough, in whole
    // batches.
    __device__ __forceinline__ int first_row() const {
        constexpr int kEarly = (S::halo + S::rows - 1) / S::rows * S::rows;
        return imax(row_begin - kEarly, 0);
    }

    __device__ __forceinline__ void walk() {
        const int first = first_row(), last = row_begin + rows - 1 + S::halo;
        if (flags & kReads) prefetch(first);
        for (int row = first; row <= last + (G ? S::rows : 0); row += S::rows) {
            const int before = row - S::rows;  // the batch whose partials are there
            if (flags & kReads) moments_down(row);
            if (G && (flags & kFilters)) partials_down(before - R);
            __syncthreads();
            if constexpr (G != 0) {
                if (flags & kGradient) gradient_across(before + across_row - 2 * R);
                next_gradient_rows();
            }
            if (flags & kReads) prefetch(row + S::rows);
            if (flags & kStatistics) statistics_across(row + across_row - R);
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
        if (flags & kSumsL1) sum_l1(row);
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
        A differences[S::rows];
#pragma unroll
        for (int k = 0; k < S::rows; ++k) differences[k] = absolute(to_arithmetic(x[k]) - to_arithmetic(y[k]));
        const bool all = row >= row_begin && row + S::rows <= row_begin + rows;
        if (all && !p.mask.data) {
#pragma unroll
            for (int k = 0; k < S::rows; k += 4)
                l1_sum += (differences[k] + differences[k + 1]) + (differences[k + 2] + differences[k + 3]);
        } else {
            const int column = x0 - S::halo + thread_again() % S::columns;
#pragma unroll
            for (int k = 0; k < S::rows; ++k)
                if (is_own(row + k)) l1_sum += p.mask.data ? mask_at(row + k, column) * differences[k] : differences[k];
        }
    }

    // Filters the partials of a batch vertically; the first is of this row of the map.
    __device__ __forceinline__ void partials_down(int row) {
        constexpr int kFirst = S::roles == 2 ? 0 : Q;
        if (flags & kWeighted)
#pragma unroll
            for (int k = 0; k < S::rows; ++k)
                if (row_counted(row + k))
                    weight_partials(p, tile, 0, row + k, x0 - S::margin + thread, shared.partials.at(k, thread).v);
#pragma unroll
        for (int k = 0; k < S::rows; ++k) {
            const Column<A, M> in = shared.partials.at(k, thread);
            Column<A, M> out;
#pragma unroll
            for (int q = 0; q < M; ++q) out.v[q] = fir[kFirst + q].step(in.v[q], p.taps);
            out.fill();
            shared.filtered.at(k, thread) = out;
        }
    }

    // Statistics of a row of the map, at C columns.
    __device__ __forceinline__ void statistics_across(int row) {
        if (unsigned(row - map_begin) >= unsigned(map_rows)) {
            if constexpr (G != 0)
#pragma unroll
                for (int c = 0; c < C; ++c) shared.partials.in_group(across_row, group, c).clear();
            return;
        }
        A moments[C][Q];
        shared.moments.template filter<R>(across_row, group, p.taps, moments);
        const Stability<A> stability = {p.c1x2, p.c2x2};
        A here[C];
#pragma unroll
        for (int c = 0; c < C; ++c) {
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
        if (G && !(is_own(row) && (flags & kOwned))) return;
        const unsigned counted = flags & kAllColumns;
        if (flags & kPlain) {
            dssim_sum += (here[0] + here[1]) + (here[2] + here[3]);
            if (C > 4 && (flags & kLast4)) dssim_sum += (here[C - 4] + here[C - 3]) + (here[C - 2] + here[C - 1]);
        } else {
            const int again = statistics_column(thread_again() % S::columns % kGroups);
#pragma unroll
            for (int c = 0; c < C; ++c) {
                if (!(counted >> c & 1)) continue;
                const A weight = p.mask.data ? mask_at(row, again + c) : A(1);
                if (weight != A(0)) dssim_sum += weight * here[c];
            }
        }
        if (!G && (flags & kStoresMap))
            store_map(row, statistics_column(thread_again() % S::columns % kGroups), counted, here);
    }

    __device__ __forceinline__ void store_map(int row, int column, unsigned counted, const A (&here)[C]) const {
        const Cursor<A> at = cursor<A>(p.map, row, column, p.crop);
#pragma unroll
        for (int first = 0; first < C; first += 4) {
            A values[4];
#pragma unroll
            for (int c = 0; c < 4; ++c) values[c] = ssim_from_dssim(here[first + c]);
            if (p.is_loss || p.mask.data)
#pragma unroll
                for (int c = 0; c < 4; ++c) {
                    const int i = first + c;
                    if (!(counted >> i & 1)) continue;
                    if (p.is_loss) {
                        const A x_here = to_arithmetic(cursor(p.x, row, column + i).load(0, 0));
                        const A y_here = to_arithmetic(cursor(p.y, row, column + i).load(0, 0));
                        values[c] = A(-2) * p.ssim_weight * here[i] + p.l1_weight * absolute(x_here - y_here);
                    }
                    if (p.mask.data) {
                        const A weight = mask_at(row, column + i);
                        values[c] = weight != A(0) ? weight * values[c] : A(0);
                    }
                }
            if (p.packed_map && (counted >> first & kFirst4) == kFirst4) {
                Packed<A>::store(at.at + first * sizeof(A), values);
            } else {
#pragma unroll
                for (int c = 0; c < 4; ++c)
                    if (counted >> (first + c) & 1) at.store(0, first + c, values[c]);
            }
        }
    }

    // The gradient of a row, at 4 columns.
    __device__ __forceinline__ void gradient_across(int row) {
        if (!is_own(row)) return;
        const int column = gradient_column();
        const bool packed = flags & kPacked;
        A filtered[4][M];
        shared.filtered.template filter<R>(across_row, group, p.taps, filtered);
        // Not before, for want of registers; they were read lately, and are near.
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
        A grad_x[4], grad_y[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) {
            const A xc = to_arithmetic(xs[c]), yc = to_arithmetic(ys[c]);
            unpack_gradient<G>(filtered[c], xc, yc, grad_x[c], grad_y[c]);
            grad_x[c] *= scale;
            if (G == 2) grad_y[c] *= scale;
        }
        if ((flags & (kL1Gradient | kRare)) == kL1Gradient) {
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                const A l1 = with_sign(l1_scale, to_arithmetic(xs[c]) - to_arithmetic(ys[c]));
                grad_x[c] += l1;
                if (G == 2) grad_y[c] -= l1;
            }
        } else if (flags & kRare) {
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

// A block goes through its pieces of strips.
template <class T, int R, int G, bool N>
__device__ __forceinline__ void walk_pieces(const SsimParams<arithmetic_t<T>>& p) {
    using P = Strip<T, R, G, N>;
    using S = typename P::S;
    __shared__ typename P::Shared shared;
    const Partition& partition = p.partition;
    for (long long strip = partition.begin(blockIdx.x) / p.height;; ++strip) {
        const int block = block_again();  // kept, what follows from it would take registers from what a strip needs
        const long long begin = partition.begin(block), end = partition.begin(block + 1);
        const long long top = strip * p.height;
        if (top > end) break;
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
        store_block_sums<S::threads>(p, strip + block, dssim, l1);
        __syncthreads();
    }
    if constexpr (has_completion<typename P::A>(R, N)) finish_block<S::threads>(p, blockIdx.x);
}

// The families of this unit (instances.h), and the shapes of their blocks.
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, false>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim2d_normalized(const SsimParams<arithmetic_t<T>>& p) {
    walk_pieces<T, R, G, true>(p);
}
template <class T, int R, int G>
using ssim2d_shape = Strip2d<arithmetic_t<T>, R, G, false>;
template <class T, int R, int G>
using ssim2d_normalized_shape = Strip2d<arithmetic_t<T>, R, G, true>;

#define FUSEDSSIM_KERNEL(NAME, FAMILY, UNIT, PARAMS, TYPE, RADIUS, GRADS)                         \
    extern "C" __global__ void __launch_bounds__(FAMILY##_shape<TYPE, RADIUS, GRADS>::threads,    \
                                                 FAMILY##_shape<TYPE, RADIUS, GRADS>::min_blocks) \
        NAME(const __grid_constant__ PARAMS p) {                                                  \
        FAMILY<TYPE, RADIUS, GRADS>(p);                                                           \
    }
#define FUSEDSSIM_FAMILY(FAMILY, KERNELS) KERNELS(FUSEDSSIM_KERNEL)
FUSEDSSIM_SSIM2D_FAMILIES(FUSEDSSIM_FAMILY)
#undef FUSEDSSIM_FAMILY
#undef FUSEDSSIM_KERNEL

}  // namespace fusedssim
