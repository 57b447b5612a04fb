// SPDX-License-Identifier: MIT
//
// SSIM of volumes: the forward kernel (value, map, and the partial maps that a backward needs) and the backward kernel
// (partial maps -> gradient).
//
// A block of 256 threads owns a tile of TX x TY columns of one volume and walks along z through a chunk of its slices;
// a thread owns COLS columns that are adjacent in y. Each slice:
//
//     load (TX + 2R) x (TY + 2R) --shared--> taps along x, TY + 2R rows --shared--> taps along y --> taps along z
//           next slice: prefetched into registers                                                   (transposed FIR)
//
//     <R><---- TX ---->
//     +-+--------------+-+ <R>     staged: read and kept in shared memory as s, d (backward: the partial maps)
//     +-+--------------+-+
//     | |    outputs   | | TY     filtered along x: TX x (TY + 2R)
//     +-+--------------+-+
//     +-+--------------+-+ <R>
//
// Wide windows (R > 5) have no shared memory for the stage: their taps along x read global memory through the L1 cache.
// Equation numbers: docs/derivation.md.
#include "core/ssim_math.h"
#include "device.h"
#include "instances.h"

namespace fusedssim {

// Q quantities of one slice of a tile on their way through the filters along x and y. `N` of them are staged, the rest
// is formed from those when they are read (`expand`).
template <class A, int R, int Q, int N>
struct SliceFilter {
    using B = Block3d<A, R>;
    static constexpr int kLoads = (B::sx * B::sy + B::threads - 1) / B::threads;

    // Odd rows of the stage and of the x-filtered slice keep neighbouring rows in different banks.
    A stage[B::staged ? N : 1][B::staged ? B::sy : 1][B::staged ? B::sx + 1 : 1];
    Quad<A> along_x[B::sy][B::tx + 1];

    // fetch(row, column, out[N]): the staged quantities at a place of the tile, counted from its first halo element.
    template <class Fetch>
    __device__ __forceinline__ static void prefetch(A (&next)[kLoads][N], Fetch fetch) {
#pragma unroll
        for (int i = 0; i < kLoads; ++i) {
            const int e = threadIdx.x + i * B::threads, row = e / B::sx, column = e - row * B::sx;
            if (e < B::sx * B::sy) fetch(row, column, next[i]);
        }
    }
    __device__ __forceinline__ void put(const A (&next)[kLoads][N]) {
#pragma unroll
        for (int i = 0; i < kLoads; ++i) {
            const int e = threadIdx.x + i * B::threads, row = e / B::sx, column = e - row * B::sx;
            if (e < B::sx * B::sy)
#pragma unroll
                for (int n = 0; n < N; ++n) stage[n][row][column] = next[i][n];
        }
    }
    template <class Fetch, class Expand>
    __device__ __forceinline__ void filter_x(const A* taps, Fetch fetch, Expand expand) {
        constexpr int X = B::x_outputs, kGroups = B::tx / X;
        for (int e = threadIdx.x; e < B::sy * kGroups; e += B::threads) {
            // Staged: a warp runs down the rows. From global memory: along x.
            const int row = B::staged ? e % B::sy : e / kGroups;
            const int column = (B::staged ? e / B::sy : e % kGroups) * X;
            Quad<A> out[X] = {};
#pragma unroll
            for (int k = 0; k < X + 2 * R; ++k) {
                A in[N];
                if constexpr (B::staged) {
#pragma unroll
                    for (int n = 0; n < N; ++n) in[n] = stage[n][row][column + k];
                } else {
                    fetch(row, column + k, in);
                }
                Quad<A> all;
                expand(in, all.v);
#pragma unroll
                for (int x = 0; x < X; ++x)
                    if (k - x >= 0 && k - x <= 2 * R)
#pragma unroll
                        for (int q = 0; q < Q; ++q) out[x].v[q] += taps[iabs(k - x - R)] * all.v[q];
            }
#pragma unroll
            for (int x = 0; x < X; ++x) along_x[row][column + x] = out[x];
        }
    }
    // The quantities, filtered along x and y, at this thread's columns.
    __device__ __forceinline__ void filter_y(const A* taps, A (&out)[B::cols][Q]) const {
        const int column = threadIdx.x % B::tx, row = threadIdx.x / B::tx * B::cols;
#pragma unroll
        for (int c = 0; c < B::cols; ++c)
#pragma unroll
            for (int q = 0; q < Q; ++q) out[c][q] = A(0);
#pragma unroll
        for (int k = 0; k < B::cols + 2 * R; ++k) {
            const Quad<A> in = along_x[row + k][column];
#pragma unroll
            for (int c = 0; c < B::cols; ++c)
                if (k - c >= 0 && k - c <= 2 * R)
#pragma unroll
                    for (int q = 0; q < Q; ++q) out[c][q] += taps[iabs(k - c - R)] * in.v[q];
        }
    }
};

// Walks a tile along z: fetch(z, y, x, out[N]) delivers the quantities to filter, use(z, results[cols][Q]) gets the
// filtered ones of the slices [z_begin, z_end).
template <class A, int R, int Q, int N, class Fetch, class Expand, class Use>
__device__ __forceinline__ void walk_slices(const SsimParams<A>& p, const Tile& tile, Fetch fetch, Expand expand,
                                            Use use) {
    using B = Block3d<A, R>;
    using Filter = SliceFilter<A, R, Q, N>;
    __shared__ Filter slice;

    const int x0 = tile.tile_x * B::tx - R, y0 = tile.tile_y * B::ty - R;
    const int z_begin = tile.chunk * p.chunk, z_end = imin(z_begin + p.chunk, p.depth);
    TransposedFir<A, R> fir[B::cols][Q];
    A next[B::staged ? Filter::kLoads : 1][N];

    auto fetch_slice = [&](int z) {
        return [&, z](int row, int column, A(&out)[N]) {
            const int y = y0 + row, x = x0 + column;
            if (z < p.depth && y >= 0 && y < p.height && x >= 0 && x < p.width) {
                fetch(z, y, x, out);
            } else {
#pragma unroll
                for (int n = 0; n < N; ++n) out[n] = A(0);
            }
        };
    };

    // Slices before the volume are zeros and leave the running sums zero: begin at slice 0.
    int z = imax(z_begin - R, 0);
    if constexpr (B::staged) Filter::prefetch(next, fetch_slice(z));
    for (; z < z_end + R; ++z) {
        if constexpr (B::staged) slice.put(next);
        __syncthreads();
        if constexpr (B::staged) Filter::prefetch(next, fetch_slice(z + 1));
        slice.filter_x(p.taps, fetch_slice(z), expand);
        __syncthreads();
        A filtered[B::cols][Q];
        slice.filter_y(p.taps, filtered);
#pragma unroll
        for (int c = 0; c < B::cols; ++c)
#pragma unroll
            for (int q = 0; q < Q; ++q) filtered[c][q] = fir[c][q].step(filtered[c][q], p.taps);
        if (z - R >= z_begin) use(z - R, filtered);
        // The next slice's first barrier separates these reads of along_x from its writes; without a stage nothing
        // else does.
        if constexpr (!B::staged) __syncthreads();
    }
}

template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_forward(const SsimParams<arithmetic_t<T>>& p) {
    using A = arithmetic_t<T>;
    using B = Block3d<A, R>;
    constexpr int Q = filtered_maps(G);

    const Tile tile(p);
    if (tile.block >= p.blocks) return;
    const long long x0 = plane_offset(p.x, tile.plane, p.channels), y0 = plane_offset(p.y, tile.plane, p.channels);
    const long long map0 = plane_offset(p.map, tile.plane, p.channels);
    const long long volume = (long long)p.depth * p.height * p.width;
    const long long saved_stride = p.planes * volume;
    const Stability<A> stability = {p.c1x2, p.c2x2};
    const int column = tile.tile_x * B::tx + threadIdx.x % B::tx;
    const int first_row = tile.tile_y * B::ty + threadIdx.x / B::tx * B::cols;
    A deficit = A(0);

    auto fetch = [&](int z, int y, int x, A(&out)[2]) {
        const A xv = Elements<T>::load(p.x.data, x0 + z * p.x.d + y * p.x.h + x * p.x.w, p.dtype);
        const A yv = Elements<T>::load(p.y.data, y0 + z * p.y.d + y * p.y.h + x * p.y.w, p.dtype);
        out[0] = xv + yv;
        out[1] = xv - yv;
    };
    auto expand = [](const A(&in)[2], A(&out)[4]) {
        out[0] = in[0];
        out[1] = in[1];
        out[2] = in[0] * in[0];
        out[3] = in[1] * in[1];
    };
    auto use = [&](int z, const A(&filtered)[B::cols][4]) {
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            const int row = first_row + c;
            const bool counted = z >= p.crop && z < p.depth - p.crop && row >= p.crop && row < p.height - p.crop &&
                                 column >= p.crop && column < p.width - p.crop;
            if (!counted) continue;
            const Moments<A> m = {filtered[c][0], filtered[c][1], filtered[c][2], filtered[c][3]};
            A here;
            if constexpr (G != 0) {
                Partials<A> partial;
                here = ssim_deficit_and_partials(m, stability, partial);
                A maps[4];
                pack_partials<G>(partial, A(1), maps);
                const long long at = tile.plane * volume + ((long long)z * p.height + row) * p.width + column;
#pragma unroll
                for (int q = 0; q < Q; ++q) p.saved[q * saved_stride + at] = maps[q];
            } else {
                here = ssim_deficit(m, stability);
            }
            deficit += here;
            if (p.map.data)
                static_cast<A*>(p.map.data)[map0 + (z - p.crop) * p.map.d + (row - p.crop) * p.map.h +
                                            (column - p.crop) * p.map.w] = A(1) - here;
        }
    };
    walk_slices<A, R, 4, 2>(p, tile, fetch, expand, use);
    if (p.sums) store_block_sum<B::threads>(double(deficit), p.sums, tile.block);
}

template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_backward(const SsimParams<arithmetic_t<T>>& p) {
    using A = arithmetic_t<T>;
    using B = Block3d<A, R>;
    constexpr int Q = filtered_maps(G);

    const Tile tile(p);
    if (tile.block >= p.blocks) return;
    const long long x0 = plane_offset(p.x, tile.plane, p.channels), y0 = plane_offset(p.y, tile.plane, p.channels);
    const long long gx0 = plane_offset(p.grad_x, tile.plane, p.channels);
    const long long gy0 = plane_offset(p.grad_y, tile.plane, p.channels);
    const long long up0 = plane_offset(p.grad_out, tile.plane, p.channels);
    const A* grad_out = static_cast<const A*>(p.grad_out.data);
    const long long volume = (long long)p.depth * p.height * p.width;
    const long long saved_stride = p.planes * volume;
    const A* saved = p.saved + tile.plane * volume;
    const int column = tile.tile_x * B::tx + threadIdx.x % B::tx;
    const int first_row = tile.tile_y * B::ty + threadIdx.x / B::tx * B::cols;
    A scale = p.scale;
    if (p.upstream == kUpstreamPlane) scale *= grad_out[up0];

    auto fetch = [&](int z, int y, int x, A(&out)[Q]) {
        const bool counted = z >= p.crop && z < p.depth - p.crop && y >= p.crop && y < p.height - p.crop &&
                             x >= p.crop && x < p.width - p.crop;
        A u = counted ? A(1) : A(0);
        if (p.upstream == kUpstreamMap && counted)
            u = grad_out[up0 + (z - p.crop) * p.grad_out.d + (y - p.crop) * p.grad_out.h + (x - p.crop) * p.grad_out.w];
        const long long at = ((long long)z * p.height + y) * p.width + x;
#pragma unroll
        for (int q = 0; q < Q; ++q) out[q] = counted ? u * saved[q * saved_stride + at] : A(0);
    };
    auto expand = [](const A(&in)[Q], A(&out)[4]) {
#pragma unroll
        for (int q = 0; q < Q; ++q) out[q] = in[q];
        if (Q < 4) out[3] = A(0);
    };
    auto use = [&](int z, const A(&filtered)[B::cols][Q]) {
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            const int row = first_row + c;
            if (row >= p.height || column >= p.width) continue;
            const A xv = Elements<T>::load(p.x.data, x0 + z * p.x.d + row * p.x.h + column * p.x.w, p.dtype);
            const A yv = Elements<T>::load(p.y.data, y0 + z * p.y.d + row * p.y.h + column * p.y.w, p.dtype);
            A grad_x, grad_y;
            unpack_gradient<G>(filtered[c], xv, yv, grad_x, grad_y);
            // Maps that were saved for both gradients also serve a backward that wants one of them.
            if (G == 1 || p.grad_x.data)
                Elements<T>::store(p.grad_x.data, gx0 + z * p.grad_x.d + row * p.grad_x.h + column * p.grad_x.w,
                                   p.dtype, scale * grad_x);
            if (G == 2 && p.grad_y.data)
                Elements<T>::store(p.grad_y.data, gy0 + z * p.grad_y.d + row * p.grad_y.h + column * p.grad_y.w,
                                   p.dtype, scale * grad_y);
        }
    };
    walk_slices<A, R, Q, Q>(p, tile, fetch, expand, use);
}

#define FUSEDSSIM_DEFINE_FORWARD(TYPE, RADIUS, GRADS)                                                                 \
    extern "C" __global__ void __launch_bounds__(Block3d<arithmetic_t<TYPE>, RADIUS>::threads, Block3d<arithmetic_t<TYPE>, RADIUS>::min_blocks) \
        ssim3d_forward_##TYPE##_r##RADIUS##_g##GRADS(const __grid_constant__ SsimParams<arithmetic_t<TYPE>> p) {      \
        ssim3d_forward<TYPE, RADIUS, GRADS>(p);                                                                       \
    }
FUSEDSSIM_SSIM3D_FORWARD_KERNELS(FUSEDSSIM_DEFINE_FORWARD)

#define FUSEDSSIM_DEFINE_BACKWARD(TYPE, RADIUS, GRADS)                                                                \
    extern "C" __global__ void __launch_bounds__(Block3d<arithmetic_t<TYPE>, RADIUS>::threads, Block3d<arithmetic_t<TYPE>, RADIUS>::min_blocks) \
        ssim3d_backward_##TYPE##_r##RADIUS##_g##GRADS(const __grid_constant__ SsimParams<arithmetic_t<TYPE>> p) {     \
        ssim3d_backward<TYPE, RADIUS, GRADS>(p);                                                                      \
    }
FUSEDSSIM_SSIM3D_BACKWARD_KERNELS(FUSEDSSIM_DEFINE_BACKWARD)

}  // namespace fusedssim
