// SPDX-License-Identifier: MIT
//
// SSIM of images, its map, and its gradient, in one pass over memory and with nothing saved.
//
// A block owns a strip of columns of one plane and walks down a chunk of its rows. Its first 128 threads compute the
// statistics, and, if there are gradients, 128 more filter the partials: two roles with half the registers each hide
// twice the latency. A thread owns COLS adjacent columns. Each row r:
//
//     statistics   load x, y --> s, d --shared--> horizontal taps of s, d, s^2, d^2 --> vertical taps --> moments of
//                  row r - R --> 1 - SSIM, its sum and the map; partials --shared--+
//                                                                                  |  (one row later)
//     gradient     horizontal taps <-----------------------------------------------+
//                  --> vertical taps --> gradient of row r - 2R - 1
//
//     columns of a strip (G > 0)  |<- margin ->|<-------------- out ------------->|<- margin ->|
//                                  halo: read   written by this block              halo: read
//
// The vertical filters are transposed FIRs in registers (device.h). Shared memory holds two rows of each exchange, so
// that one barrier a row does. Columns are stored by their residue modulo COLS, so that neighbouring threads read
// neighbouring words. Equation numbers: docs/derivation.md.
//
// G is the number of gradients: 0 (value or map only), 1 (x), 2 (x and y).
#include "core/ssim_math.h"
#include "device.h"
#include "instances.h"

namespace fusedssim {

// Two rows of a strip in shared memory, with R columns to spare on each side: threads at the ends of the strip read
// them, and own no column that depends on them. N values a column travel; `expand` makes the Q filtered ones of them.
template <class A, int R, int COLS, int THREADS, int N>
struct RowExchange {
    static constexpr int kSpare = (R + COLS - 1) / COLS;
    struct alignas(sizeof(A) * (N == 3 ? 4 : N)) Column {
        A v[N];
    };
    Column columns[2][COLS][THREADS + 2 * kSpare];

    __device__ __forceinline__ void clear() {
        Column* all = &columns[0][0][0];
        for (int i = threadIdx.x; i < 2 * COLS * (THREADS + 2 * kSpare); i += blockDim.x) all[i] = Column{};
    }
    __device__ __forceinline__ void put(int buffer, int thread, int c, const A (&values)[N]) {
        Column column;
#pragma unroll
        for (int n = 0; n < N; ++n) column.v[n] = values[n];
        columns[buffer][c][thread + kSpare] = column;
    }
    template <int Q, class Expand>
    __device__ __forceinline__ void filter(int buffer, int thread, const A* taps, Expand expand,
                                           A (&out)[COLS][Q]) const {
#pragma unroll
        for (int c = 0; c < COLS; ++c)
#pragma unroll
            for (int q = 0; q < Q; ++q) out[c][q] = A(0);
#pragma unroll
        for (int e = -R; e < R + COLS; ++e) {
            const Column in = columns[buffer][floor_mod(e, COLS)][thread + kSpare + floor_div(e, COLS)];
            A values[Q];
            expand(in.v, values);
#pragma unroll
            for (int c = 0; c < COLS; ++c)
                if (iabs(e - c) <= R)
#pragma unroll
                    for (int q = 0; q < Q; ++q) out[c][q] += taps[iabs(e - c)] * values[q];
        }
    }
};

// What both roles know of their place.
template <class T, int R, int G>
struct Strip {
    using A = arithmetic_t<T>;
    using S = Strip2d<A, R, G>;
    static constexpr int COLS = S::cols;
    static constexpr int Q = filtered_maps(G);
    using Images = RowExchange<A, R, COLS, S::columns_threads, S::exchanged>;
    using PartialRows = RowExchange<A, R, COLS, S::columns_threads, G ? Q : 1>;

    const SsimParams<A>& p;
    const Tile tile;
    const int thread;        // of its role
    const int first_column;  // of this thread
    const int row_begin, row_end;
    const int row_first, row_last;  // rows of the walk: what the block reads, and one more for the second role

    __device__ __forceinline__ Strip(const SsimParams<A>& params)
        : p(params), tile(params), thread(threadIdx.x % S::columns_threads),
          first_column(tile.tile_x * S::out - S::margin + thread * COLS), row_begin(tile.chunk * params.chunk),
          row_end(imin(row_begin + params.chunk, params.height)),
          // Rows above the image are zeros and leave the running sums zero: begin at row 0.
          row_first(imax(row_begin - S::halo, 0)), row_last(row_end - 1 + S::halo + (G ? 1 : 0)) {}

    __device__ __forceinline__ bool inside(int c) const {
        return first_column + c >= 0 && first_column + c < p.width;
    }
    __device__ __forceinline__ bool owned(int c) const {
        const int in_strip = thread * COLS + c;
        return inside(c) && in_strip >= S::margin && in_strip < S::margin + S::out;
    }
    // Whether the map has these columns, or this row.
    __device__ __forceinline__ bool counted(int c) const {
        return first_column + c >= p.crop && first_column + c < p.width - p.crop;
    }
    __device__ __forceinline__ bool row_counted(int row) const { return row >= p.crop && row < p.height - p.crop; }
    __device__ __forceinline__ bool row_owned(int row) const { return row >= row_begin && row < row_end; }

    // Offset of this thread's first column in a row.
    __device__ __forceinline__ long long offset(const View& v, int row, int crop = 0) const {
        return plane_offset(v, tile.plane, p.channels) + (long long)(row - crop) * v.h +
               (long long)(first_column - crop) * v.w;
    }
    __device__ __forceinline__ void load(const View& v, long long at, bool row_inside, A (&out)[COLS]) const {
#pragma unroll
        for (int c = 0; c < COLS; ++c)
            out[c] = row_inside && inside(c) ? Elements<T>::load(v.data, at + c * v.w, p.dtype) : A(0);
    }

    // The first role. Returns this thread's sum of 1 - SSIM.
    __device__ __forceinline__ A statistics(Images& images, PartialRows& partials) const {
        const Stability<A> stability = {p.c1x2, p.c2x2};
        TransposedFir<A, R> fir[COLS][4];
        A deficit = A(0);
        long long x_at = offset(p.x, row_first), y_at = offset(p.y, row_first);
        A x[COLS], y[COLS];
        load(p.x, x_at, true, x);
        load(p.y, y_at, true, y);
        for (int row = row_first, buffer = 0; row <= row_last; ++row, buffer ^= 1) {
#pragma unroll
            for (int c = 0; c < COLS; ++c) {
                const A s = x[c] + y[c], d = x[c] - y[c];
                if constexpr (S::exchanged == 4)
                    images.put(buffer, thread, c, {s, d, s * s, d * d});
                else
                    images.put(buffer, thread, c, {s, d});
            }
            x_at += p.x.h;
            y_at += p.y.h;
            load(p.x, x_at, row + 1 < p.height, x);
            load(p.y, y_at, row + 1 < p.height, y);
            const int map_row = row - R;
            const bool counted_row = row_counted(map_row);
            A u[COLS];
            if constexpr (G != 0) {
#pragma unroll
                for (int c = 0; c < COLS; ++c) u[c] = counted_row && counted(c) ? A(1) : A(0);
                if (p.upstream == kUpstreamMap) {
                    const A* const up = static_cast<const A*>(p.grad_out.data) + offset(p.grad_out, map_row, p.crop);
#pragma unroll
                    for (int c = 0; c < COLS; ++c)
                        if (u[c] != A(0)) u[c] = up[c * p.grad_out.w];
                }
            }
            __syncthreads();

            A filtered[COLS][4];
            images.filter(
                buffer, thread, p.taps,
                [](const A(&in)[S::exchanged], A(&out)[4]) {
                    out[0] = in[0];
                    out[1] = in[1];
                    out[2] = S::exchanged == 4 ? in[S::exchanged - 2] : in[0] * in[0];
                    out[3] = S::exchanged == 4 ? in[S::exchanged - 1] : in[1] * in[1];
                },
                filtered);
            const bool owned_row = counted_row && row_owned(map_row);
#pragma unroll
            for (int c = 0; c < COLS; ++c) {
                Moments<A> m;
                m.mu_s = fir[c][0].step(filtered[c][0], p.taps);
                m.mu_d = fir[c][1].step(filtered[c][1], p.taps);
                m.sq_s = fir[c][2].step(filtered[c][2], p.taps);
                m.sq_d = fir[c][3].step(filtered[c][3], p.taps);
                A here;
                if constexpr (G != 0) {
                    Partials<A> partial;
                    here = ssim_deficit_and_partials(m, stability, partial);
                    A maps[Q];
                    pack_partials<G>(partial, u[c], maps);
                    // Columns and rows that do not count: zero, whatever is computed there.
#pragma unroll
                    for (int q = 0; q < Q; ++q) maps[q] = counted_row && counted(c) ? maps[q] : A(0);
                    partials.put(buffer, thread, c, maps);
                } else {
                    here = ssim_deficit(m, stability);
                }
                if (owned_row && owned(c) && counted(c)) {
                    deficit += here;
                    if (p.map.data)
                        static_cast<A*>(p.map.data)[offset(p.map, map_row, p.crop) + c * p.map.w] = A(1) - here;
                }
            }
        }
        return deficit;
    }

    // The second role.
    __device__ __forceinline__ void gradient(const PartialRows& partials) const {
        TransposedFir<A, R> fir[COLS][Q];
        A scale = p.scale;
        if (p.upstream == kUpstreamPlane)
            scale *= static_cast<const A*>(p.grad_out.data)[plane_offset(p.grad_out, tile.plane, p.channels)];
        const int grad_first = row_first - 2 * R - 1;
        long long x_at = offset(p.x, grad_first), y_at = offset(p.y, grad_first);
        long long gx_at = offset(p.grad_x, grad_first), gy_at = offset(p.grad_y, grad_first);
        for (int row = row_first, buffer = 0; row <= row_last; ++row, buffer ^= 1) {
            const bool mine = row_owned(row - 2 * R - 1);
            A x[COLS], y[COLS];
            load(p.x, x_at, mine, x);
            load(p.y, y_at, mine, y);
            __syncthreads();
            A filtered[COLS][Q];
            partials.filter(
                buffer ^ 1, thread, p.taps,  // the row that the last iteration put there
                [](const A(&in)[Q], A(&out)[Q]) {
#pragma unroll
                    for (int q = 0; q < Q; ++q) out[q] = in[q];
                },
                filtered);
#pragma unroll
            for (int c = 0; c < COLS; ++c) {
#pragma unroll
                for (int q = 0; q < Q; ++q) filtered[c][q] = fir[c][q].step(filtered[c][q], p.taps);
                if (mine && owned(c)) {
                    A grad_x, grad_y;
                    unpack_gradient<G>(filtered[c], x[c], y[c], grad_x, grad_y);
                    Elements<T>::store(p.grad_x.data, gx_at + c * p.grad_x.w, p.dtype, scale * grad_x);
                    if (G == 2) Elements<T>::store(p.grad_y.data, gy_at + c * p.grad_y.w, p.dtype, scale * grad_y);
                }
            }
            x_at += p.x.h;
            y_at += p.y.h;
            gx_at += p.grad_x.h;
            gy_at += p.grad_y.h;
        }
    }
};

template <class T, int R, int G>
__device__ __forceinline__ void ssim2d(const SsimParams<arithmetic_t<T>>& p) {
    using P = Strip<T, R, G>;
    using S = typename P::S;
    __shared__ typename P::Images images;
    __shared__ typename P::PartialRows partials;
    const P strip(p);
    if (strip.tile.block >= p.blocks) return;
    if (G) {
        partials.clear();  // the first row that is filtered has not been put
        __syncthreads();
    }
    typename P::A deficit = 0;
    if (threadIdx.x < S::columns_threads)
        deficit = strip.statistics(images, partials);
    else if constexpr (G != 0)
        strip.gradient(partials);
    if (p.sums) store_block_sum<S::threads>(double(deficit), p.sums, strip.tile.block);
}

#define FUSEDSSIM_DEFINE(TYPE, RADIUS, GRADS)                                                            \
    extern "C" __global__ void __launch_bounds__(Strip2d<arithmetic_t<TYPE>, RADIUS, GRADS>::threads,    \
                                                 Strip2d<arithmetic_t<TYPE>, RADIUS, GRADS>::min_blocks) \
        ssim2d_##TYPE##_r##RADIUS##_g##GRADS(const __grid_constant__ SsimParams<arithmetic_t<TYPE>> p) { \
        ssim2d<TYPE, RADIUS, GRADS>(p);                                                                  \
    }
FUSEDSSIM_SSIM2D_KERNELS(FUSEDSSIM_DEFINE)

}  // namespace fusedssim
