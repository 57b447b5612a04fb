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

// Q quantities of one slice of a tile on their way through the filters along x and y. N values of each element are
// staged; `expand` makes the Q filtered ones of them.
template <class A, int R, int Q, int N>
struct SliceFilter {
    using B = Block3d<A, R>;
    // An odd number of columns keeps the rows that a warp reads at a time in different banks.
    Column<A, N> stage[B::staged ? B::sy : 1][B::staged ? B::sx + 1 : 1];
    Column<A, 4> along_x[B::sy][B::tx + 1];

    // in(row, column): the N values of an element of the tile, counted from its first halo element.
    template <class In, class Expand>
    __device__ __forceinline__ void filter_x(const A* taps, In in, Expand expand) {
        constexpr int X = B::x_outputs, kGroups = B::tx / X;
        for (int e = threadIdx.x; e < B::sy * kGroups; e += B::threads) {
            // Staged: a warp runs down the rows. From global memory: along x.
            const int row = B::staged ? e % B::sy : e / kGroups;
            const int column = (B::staged ? e / B::sy : e % kGroups) * X;
            Column<A, 4> out[X] = {};
#pragma unroll
            for (int k = 0; k < X + 2 * R; ++k) {
                A all[Q];
                expand(in(row, column + k).v, all);
#pragma unroll
                for (int x = 0; x < X; ++x)
                    if (k - x >= 0 && k - x <= 2 * R)
#pragma unroll
                        for (int q = 0; q < Q; ++q) out[x].v[q] += taps[iabs(k - x - R)] * all[q];
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
            const Column<A, 4> in = along_x[row + k][column];
#pragma unroll
            for (int c = 0; c < B::cols; ++c)
                if (k - c >= 0 && k - c <= 2 * R)
#pragma unroll
                    for (int q = 0; q < Q; ++q) out[c][q] += taps[iabs(k - c - R)] * in.v[q];
        }
    }
};

// Walks a tile along z. A Source(p, tile, z, y, x) stands at an element and delivers what lies around it:
//
//     low()                        elements closer than this to a border of the volume are zeros
//     fetch(rows, columns, valid)  what is stored so far from (z, y, x), zeros unless valid: loads only, so that many are
//                                  under way at a time
//     is_weighted(), fetch_weight  the same for what is read rarely, apart from the rest
//     prepare(loaded)              the N values that are filtered
//     next_slice()
//
// use(z, results[cols][Q]) gets the filtered quantities of the chunk's slices, one after the other; request() is called
// well before each use, to load what that needs.
template <class A, int R, int Q, class Source, class Expand, class Request, class Use>
__device__ __forceinline__ void walk_slices(const SsimParams<A>& p, const Tile& tile, Expand expand, Request request,
                                            Use use) {
    using B = Block3d<A, R>;
    constexpr int N = Source::N;
    __shared__ SliceFilter<A, R, Q, N> slice;

    const int x0 = tile.tile_x * B::tx - R, y0 = tile.tile_y * B::ty - R;
    const int z_begin = tile.chunk * p.chunk, z_end = imin(z_begin + p.chunk, p.depth);
    // Slices before the volume are zeros and leave the running sums zero: begin at slice 0.
    int z = imax(z_begin - R, 0);
    TransposedFir<A, R> fir[B::cols][Q];

    // The next slice is requested before the filter along x, or, where that leaves no registers for it, after.
    constexpr bool kEarly = Q < 4;

    // Staging: a warp loads rows of 32 columns; the 2R columns beyond are dealt out one by one, to one thread each and a
    // second round for the first few. A bit of `valid` for each tells whether it lies inside.
    constexpr int kWarps = B::threads / 32, kNear = B::staged ? (B::sy + kWarps - 1) / kWarps : 1;
    constexpr int kBeyond = B::sx - 32, kFar = B::staged ? (B::sy * kBeyond + B::threads - 1) / B::threads : 1;
    constexpr int kFarRows = B::threads / kBeyond, kFarColumns = B::threads % kBeyond;
    static_assert(!B::staged || kFar == 1 || (kFar == 2 && B::sy * kBeyond - B::threads <= kBeyond - kFarColumns),
                  "an element of the second round would lie in another row");
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int far_row = threadIdx.x / kBeyond, far_column = 32 + threadIdx.x % kBeyond;
    Source near(p, tile, z, B::staged ? y0 + warp : y0, B::staged ? x0 + lane : x0);
    Source far(p, tile, z, y0 + far_row, x0 + far_column);
    const auto is_inside = [&](int row, int column) {
        const int y = y0 + row, x = x0 + column, low = near.low();
        return row < B::sy && column < B::sx && y >= low && y < p.height - low && x >= low && x < p.width - low;
    };
    const auto slice_inside = [&](int at) { return at >= near.low() && at < p.depth - near.low(); };
    unsigned valid = 0;
    typename Source::Loaded near_loaded[kNear], far_loaded[kFar];
    if constexpr (B::staged) {
#pragma unroll
        for (int i = 0; i < kNear; ++i) valid |= unsigned(is_inside(warp + i * kWarps, lane)) << i;
#pragma unroll
        for (int i = 0; i < kFar; ++i)
            valid |= unsigned(is_inside(far_row + i * kFarRows, far_column + i * kFarColumns)) << (kNear + i);
    }
    const auto prefetch = [&](int at) {
        const unsigned now = slice_inside(at) ? valid : 0;
#pragma unroll
        for (int i = 0; i < kNear; ++i) near_loaded[i] = near.fetch(i * kWarps, 0, now >> i & 1);
#pragma unroll
        for (int i = 0; i < kFar; ++i) far_loaded[i] = far.fetch(i * kFarRows, i * kFarColumns, now >> (kNear + i) & 1);
        if (near.is_weighted()) {
#pragma unroll
            for (int i = 0; i < kNear; ++i)
                if (now >> i & 1) near.fetch_weight(i * kWarps, 0, near_loaded[i]);
#pragma unroll
            for (int i = 0; i < kFar; ++i)
                if (now >> (kNear + i) & 1) far.fetch_weight(i * kFarRows, i * kFarColumns, far_loaded[i]);
        }
    };
    const auto put = [&] {
#pragma unroll
        for (int i = 0; i < kNear; ++i)
            if (warp + i * kWarps < B::sy) slice.stage[warp + i * kWarps][lane] = Source::prepare(near_loaded[i]);
#pragma unroll
        for (int i = 0; i < kFar; ++i)
            if (far_row + i * kFarRows < B::sy && far_column + i * kFarColumns < B::sx)
                slice.stage[far_row + i * kFarRows][far_column + i * kFarColumns] = Source::prepare(far_loaded[i]);
    };
    const auto next_slice = [&] {
        near.next_slice();
        far.next_slice();
    };
    // What is read where it is needed, without a stage.
    const auto read = [&](int row, int column) {
        const bool inside = slice_inside(z) && is_inside(row, column);
        typename Source::Loaded loaded = near.fetch(row, column, inside);
        if (inside && near.is_weighted()) near.fetch_weight(row, column, loaded);
        return Source::prepare(loaded);
    };

    if constexpr (B::staged) prefetch(z);
    for (; z < z_end + R; ++z) {
        if constexpr (B::staged) {
            put();
            next_slice();
            __syncthreads();
            if (kEarly) prefetch(z + 1);
            slice.filter_x(p.taps, [&](int row, int column) { return slice.stage[row][column]; }, expand);
        } else {
            slice.filter_x(p.taps, read, expand);
            next_slice();
        }
        __syncthreads();
        if constexpr (B::staged && !kEarly) prefetch(z + 1);
        if (z - R >= z_begin) request();
        A filtered[B::cols][Q];
        slice.filter_y(p.taps, filtered);
#pragma unroll
        for (int c = 0; c < B::cols; ++c)
#pragma unroll
            for (int q = 0; q < Q; ++q) filtered[c][q] = fir[c][q].step(filtered[c][q], p.taps);
        if (z - R >= z_begin) use(z - R, filtered);
        // The barrier after the next put separates these reads of along_x from its writes; without a stage nothing else
        // does.
        if constexpr (!B::staged) __syncthreads();
    }
}

// s and d of the images.
template <class T>
struct ImageSource {
    using A = arithmetic_t<T>;
    static constexpr int N = 2;
    struct Loaded {
        typename Elements<T>::Raw x, y;
    };
    Cursor<T> x, y;

    __device__ __forceinline__ ImageSource(const SsimParams<A>& p, const Tile& tile, int z, int row, int column)
        : x(p.x, p.dtype, tile, z, row, column), y(p.y, p.dtype, tile, z, row, column) {}
    __device__ __forceinline__ static int low() { return 0; }
    __device__ __forceinline__ Loaded fetch(int rows, int columns, bool valid) const {
        return {x.load(rows, columns, valid), y.load(rows, columns, valid)};
    }
    __device__ __forceinline__ static bool is_weighted() { return false; }
    __device__ __forceinline__ static void fetch_weight(int, int, Loaded&) {}
    __device__ __forceinline__ static Column<A, 2> prepare(const Loaded& in) {
        const A xv = to_arithmetic(in.x), yv = to_arithmetic(in.y);
        return {{xv + yv, xv - yv}};
    }
    __device__ __forceinline__ void next_slice() {
        x.next_slice();
        y.next_slice();
    }
};

// The partial maps, times the upstream map. Padding valid: positions near the border have no map element, and nothing was
// saved there.
template <class A, int Q>
struct PartialSource {
    static constexpr int N = Q;
    struct Loaded {
        A maps[Q], u;
    };
    const SsimParams<A>& p;
    Cursor<A> maps, up;

    __device__ __forceinline__ PartialSource(const SsimParams<A>& params, const Tile& tile, int z, int row, int column)
        : p(params), maps(p.maps, 0, tile, z, row, column),
          up(p.grad_out, 0, tile, z - p.crop, row - p.crop, column - p.crop) {}
    __device__ __forceinline__ int low() const { return p.crop; }
    __device__ __forceinline__ Loaded fetch(int rows, int columns, bool valid) const {
        const A* const at = static_cast<const A*>(maps.at) + (rows * p.maps.h + columns);
        Loaded out;
#pragma unroll
        for (int q = 0; q < Q; ++q) out.maps[q] = valid ? at[q * p.maps_stride] : A(0);
        out.u = A(1);
        return out;
    }
    __device__ __forceinline__ bool is_weighted() const { return p.upstream == kUpstreamMap; }
    __device__ __forceinline__ void fetch_weight(int rows, int columns, Loaded& to) const {
        to.u = up.load(rows, columns);
    }
    __device__ __forceinline__ static Column<A, Q> prepare(const Loaded& in) {
        Column<A, Q> out;
#pragma unroll
        for (int q = 0; q < Q; ++q) out.v[q] = in.maps[q] * in.u;
        return out;
    }
    __device__ __forceinline__ void next_slice() {
        maps.next_slice();
        if (is_weighted()) up.next_slice();
    }
};

// This thread's first column, at the slice where its results begin.
template <class A, int R>
struct Place {
    using B = Block3d<A, R>;
    const int column, row, z;
    __device__ __forceinline__ Place(const SsimParams<A>& p, const Tile& tile)
        : column(tile.tile_x * B::tx + threadIdx.x % B::tx), row(tile.tile_y * B::ty + threadIdx.x / B::tx * B::cols),
          z(tile.chunk * p.chunk) {}
};

template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_forward(const SsimParams<arithmetic_t<T>>& p) {
    using A = arithmetic_t<T>;
    using B = Block3d<A, R>;
    constexpr int Q = filtered_maps(G);

    const Tile tile(p);
    if (tile.block >= p.blocks) return;
    const Place<A, R> at(p, tile);
    const Stability<A> stability = {p.c1x2, p.c2x2};
    Cursor<A> map(p.map, 0, tile, at.z - p.crop, at.row - p.crop, at.column - p.crop);
    Cursor<A> maps(p.maps, 0, tile, at.z, at.row, at.column);
    A sum = A(0);

    const auto expand = [](const A(&in)[2], A(&out)[4]) {
        out[0] = in[0];
        out[1] = in[1];
        out[2] = in[0] * in[0];
        out[3] = in[1] * in[1];
    };
    const auto use = [&](int z, const A(&filtered)[B::cols][4]) {
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            const int row = at.row + c;
            const bool counted = z >= p.crop && z < p.depth - p.crop && row >= p.crop && row < p.height - p.crop &&
                                 at.column >= p.crop && at.column < p.width - p.crop;
            const Moments<A> m = {filtered[c][0], filtered[c][1], filtered[c][2], filtered[c][3]};
            A here;
            if constexpr (G != 0) {
                Partials<A> partial;
                here = dssim_and_partials(m, stability, A(1), partial);
                A values[Q];
                pack_partials<G>(partial, values);
                if (counted)
#pragma unroll
                    for (int q = 0; q < Q; ++q) static_cast<A*>(maps.at)[q * p.maps_stride + c * p.maps.h] = values[q];
            } else {
                here = dssim(m, stability);
            }
            if (counted) {
                sum += here;
                if (p.map.data) map.store(c, 0, ssim_from_dssim(here));
            }
        }
        map.next_slice();
        maps.next_slice();
    };
    walk_slices<A, R, 4, ImageSource<T>>(p, tile, expand, [] {}, use);
    if (p.sums) store_block_sum<B::threads>(double(sum), p.sums, tile.block);
}

template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_backward(const SsimParams<arithmetic_t<T>>& p) {
    using A = arithmetic_t<T>;
    using B = Block3d<A, R>;
    constexpr int Q = filtered_maps(G);

    const Tile tile(p);
    if (tile.block >= p.blocks) return;
    const Place<A, R> at(p, tile);
    const auto cursor = [&](const View& v) { return Cursor<T>(v, p.dtype, tile, at.z, at.row, at.column); };
    Cursor<T> x = cursor(p.x), y = cursor(p.y), to_x = cursor(p.grad_x), to_y = cursor(p.grad_y);
    A scale = p.scale;
    if (p.upstream == kUpstreamPlane) scale *= Cursor<A>(p.grad_out, 0, tile, 0, 0, 0).load(0, 0);

    const auto expand = [](const A(&in)[Q], A(&out)[Q]) {
#pragma unroll
        for (int q = 0; q < Q; ++q) out[q] = in[q];
    };
    typename Elements<T>::Raw x_here[B::cols], y_here[B::cols];
    const auto request = [&] {
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            const bool inside = at.row + c < p.height && at.column < p.width;
            x_here[c] = x.load(c, 0, inside);
            y_here[c] = y.load(c, 0, inside);
        }
    };
    const auto use = [&](int, const A(&filtered)[B::cols][Q]) {
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            if (at.row + c >= p.height || at.column >= p.width) continue;
            A grad_x, grad_y;
            unpack_gradient<G>(filtered[c], to_arithmetic(x_here[c]), to_arithmetic(y_here[c]), grad_x, grad_y);
            // Maps that were saved for both gradients also serve a backward that wants one of them.
            if (G == 1 || p.grad_x.data) to_x.store(c, 0, scale * grad_x);
            if (G == 2 && p.grad_y.data) to_y.store(c, 0, scale * grad_y);
        }
        x.next_slice();
        y.next_slice();
        to_x.next_slice();
        to_y.next_slice();
    };
    walk_slices<A, R, Q, PartialSource<A, Q>>(p, tile, expand, request, use);
}

#define FUSEDSSIM_DEFINE_FORWARD(TYPE, RADIUS, GRADS)                                                            \
    extern "C" __global__ void __launch_bounds__(Block3d<arithmetic_t<TYPE>, RADIUS>::threads,                   \
                                                 Block3d<arithmetic_t<TYPE>, RADIUS>::min_blocks)                \
        ssim3d_forward_##TYPE##_r##RADIUS##_g##GRADS(const __grid_constant__ SsimParams<arithmetic_t<TYPE>> p) { \
        ssim3d_forward<TYPE, RADIUS, GRADS>(p);                                                                  \
    }
FUSEDSSIM_SSIM3D_FORWARD_KERNELS(FUSEDSSIM_DEFINE_FORWARD)

#define FUSEDSSIM_DEFINE_BACKWARD(TYPE, RADIUS, GRADS)                                                            \
    extern "C" __global__ void __launch_bounds__(Block3d<arithmetic_t<TYPE>, RADIUS>::threads,                    \
                                                 Block3d<arithmetic_t<TYPE>, RADIUS>::min_blocks)                 \
        ssim3d_backward_##TYPE##_r##RADIUS##_g##GRADS(const __grid_constant__ SsimParams<arithmetic_t<TYPE>> p) { \
        ssim3d_backward<TYPE, RADIUS, GRADS>(p);                                                                  \
    }
FUSEDSSIM_SSIM3D_BACKWARD_KERNELS(FUSEDSSIM_DEFINE_BACKWARD)

}  // namespace fusedssim
