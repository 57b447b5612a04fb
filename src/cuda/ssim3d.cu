// SPDX-License-Identifier: MIT
//
// SSIM of volumes: the forward kernel (value, map, and the partial maps that a backward needs) and the backward kernel
// (partial maps -> gradient).
//
// A block of 256 threads owns a tile of TX x TY columns of one volume and walks along z through a chunk of its slices;
// a thread owns COLS columns that are adjacent in x. Each slice:
//
//     load (TX + 2R) x (TY + 2R) --shared--> taps along y, TX + 2R columns --shared--> taps along x --> taps along z
//           next slice: prefetched into registers                                                     (transposed FIR)
//
//     <R><---- TX ---->
//     +-+--------------+-+ <R>     staged: read and kept in shared memory as s, d (backward: the partial maps)
//     +-+--------------+-+
//     | |   outputs    | | TY      filtered along y: (TX + 2R) x TY
//     +-+--------------+-+
//     +-+--------------+-+ <R>
//
// Elements beside the volume are never written to the stage, which is zero there; slices before and behind the volume are
// not filtered at all. On sm_90 the float32 kernels for R = 5 take 128 registers a thread and 23 KB (forward) or 32 KB of
// shared memory, for two blocks a multiprocessor. Wide windows (R > 5) have no stage: their taps along y read global memory
// through the L1 cache. Equation numbers: docs/derivation.md.
//
// G is the number of gradients, as in ssim2d.cu. N: windows are normalised by the mass of a mask.
#include "core/ssim_math.h"
#include "device.h"
#include "instances.h"

namespace fusedssim {

// A slice of a tile on its way through the filters along y and x. N values of each element are staged; `expand` makes the Q
// filtered ones of them.
template <class A, int R, int Q, int N>
struct SliceFilter {
    using B = Block3d<A, R>;
    // Filtered columns stand by their residue modulo COLS, with a pitch that lets neighbouring threads write, and read,
    // different banks.
    static constexpr int kGroups = B::sx / B::cols + B::sx % B::cols;
    static constexpr int kPitch = B::cols == 1 ? kGroups : kGroups + (12 - kGroups % 8) % 8;
    Column<A, N> stage[B::staged ? B::sy * B::sx : 1];
    Column<A, Q> along_y[B::ty][B::cols * kPitch];

    // in(row, column): the N values of an element of the tile, counted from its first halo element.
    template <class In, class Expand>
    __device__ __forceinline__ void filter_y(const A* taps, In in, Expand expand) {
        constexpr int Y = B::y_outputs;
        for (int e = threadIdx.x; e < B::sx * (B::ty / Y); e += B::threads) {
            const int column = e % B::sx, row = e / B::sx * Y;
            Column<A, Q> out[Y];
#pragma unroll
            for (int k = 0; k < Y + 2 * R; ++k) {
                A all[Q];
                expand(in(row + k, column).v, all);
#pragma unroll
                for (int y = 0; y < Y; ++y) {
                    const int tap = k - y;
                    if (tap < 0 || tap > 2 * R) continue;
#pragma unroll
                    for (int q = 0; q < Q; ++q)
                        out[y].v[q] = tap ? taps[iabs(tap - R)] * all[q] + out[y].v[q] : taps[R] * all[q];
                }
            }
#pragma unroll
            for (int y = 0; y < Y; ++y) {
                out[y].fill();
                along_y[row + y][column % B::cols * kPitch + column / B::cols] = out[y];
            }
        }
    }
    // The quantities, filtered along y and x, at this thread's columns.
    __device__ __forceinline__ void filter_x(const A* taps, A (&out)[B::cols][Q]) const {
        const int group = threadIdx.x % (B::tx / B::cols), row = threadIdx.x / (B::tx / B::cols);
#pragma unroll
        for (int e = 0; e < B::cols + 2 * R; ++e) {
            const Column<A, Q> in = along_y[row][e % B::cols * kPitch + group + e / B::cols];
#pragma unroll
            for (int c = 0; c < B::cols; ++c) {
                const int tap = e - c;
                if (tap < 0 || tap > 2 * R) continue;
#pragma unroll
                for (int q = 0; q < Q; ++q)
                    out[c][q] = tap ? taps[iabs(tap - R)] * in.v[q] + out[c][q] : taps[R] * in.v[q];
            }
        }
    }
};

// Where a thread's columns, and the slices of its chunk, begin.
template <class A, int R>
struct Place {
    using B = Block3d<A, R>;
    const int column, row, z_begin, z_end;
    __device__ __forceinline__ Place(const SsimParams<A>& p, const Tile& tile, int thread)
        : column(tile.tile_x * B::tx + thread % (B::tx / B::cols) * B::cols),
          row(tile.tile_y * B::ty + thread / (B::tx / B::cols)), z_begin(tile.chunk * p.chunk),
          z_end(imin(z_begin + p.chunk, p.depth)) {}
};

// The elements that a thread stages: every 256th of the slice.
template <class A, int R>
struct Slots {
    using B = Block3d<A, R>;
    static constexpr int kCount = B::staged ? (B::sy * B::sx + B::threads - 1) / B::threads : 1;
    unsigned valid;  // a bit for each: whether it lies in what is read; from kOwned on, also among the outputs
    static constexpr int kOwned = 8;
    unsigned offset[kCount];  // from the slice's first element, in bytes; launchers see to it that it fits

    // Elements closer than `low` to a border are zeros.
    __device__ __forceinline__ Slots(const SsimParams<A>& p, const Tile& tile, const View& v, int size, int low)
        : valid(0) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            const int e = threadIdx.x + i * B::threads, row = e / B::sx, column = e % B::sx;
            const int y = tile.tile_y * B::ty - R + row, x = tile.tile_x * B::tx - R + column;
            const bool in_slice = row < B::sy && y >= low && y < p.height - low && x >= low && x < p.width - low;
            valid |= unsigned(in_slice) << i;
            offset[i] = unsigned(y * v.h + x * v.w) * unsigned(size);
        }
    }
    __device__ __forceinline__ bool is_valid(int i) const { return valid >> i & 1; }
    __device__ __forceinline__ static int index(int i) { return threadIdx.x + i * B::threads; }
    // Where an element lies in its plane: computed again where it is needed, which is rare.
    __device__ __forceinline__ static int row(const Tile& tile, int i) {
        return tile.tile_y * B::ty - R + (thread_again() + i * B::threads) / B::sx;
    }
    __device__ __forceinline__ static int column(const Tile& tile, int i) {
        return tile.tile_x * B::tx - R + (thread_again() + i * B::threads) % B::sx;
    }
};

// Walks a tile along z. A source delivers the slices:
//
//     low                  elements, and slices, closer than this to a border of the volume are zeros
//     prefetch(z)          loads of what this thread stages
//     put(z, stage)        and its storing, prepared
//     sum_l1(z, stage)     what else is wanted of the stage
//     read(z, row, column) an element, prepared, for what has no stage
//
// use(z, results[cols][Q]) gets the filtered quantities of the chunk's slices, one after the other; request() is called
// well before each use, to load what that needs.
template <class A, int R, int Q, class Source, class Expand, class Request, class Use>
__device__ __forceinline__ void walk_slices(const SsimParams<A>& p, const Tile& tile, Source& source, Expand expand,
                                            Request request, Use use) {
    using B = Block3d<A, R>;
    __shared__ SliceFilter<A, R, Q, Source::N> slice;
    const Place<A, R> at(p, tile, threadIdx.x);
    TransposedFir<A, R> fir[B::cols][Q];
    // The next slice is requested before the filter along y, or, where that leaves no registers for it, after.
    constexpr bool kEarly = Q < 4 || Source::N < 3;

    // What lies beside the volume is never written.
    if constexpr (B::staged) {
        for (int i = threadIdx.x; i < B::sy * B::sx; i += B::threads) slice.stage[i].clear();
        __syncthreads();
    }
    const int low = source.low();
    // Slices before the volume are zeros and leave the running sums zero: begin at its first.
    int z = imax(at.z_begin - R, low);
    if (B::staged && z < p.depth - low) source.prefetch(z);
    for (; z < at.z_end + R; ++z) {
        A filtered[B::cols][Q] = {};
        if (z < p.depth - low) {
            const bool has_next = z + 1 < imin(at.z_end + R, p.depth - low);
            if constexpr (B::staged) {
                source.put(z, slice.stage);
                __syncthreads();
                source.sum_l1(z, slice.stage);
                if (kEarly && has_next) source.prefetch(z + 1);
                slice.filter_y(p.taps, [&](int row, int column) { return slice.stage[row * B::sx + column]; }, expand);
            } else {
                slice.filter_y(p.taps, [&](int row, int column) { return source.read(z, row, column); }, expand);
            }
            __syncthreads();
            if (B::staged && !kEarly && has_next) source.prefetch(z + 1);
            if (z - R >= at.z_begin) request();
            slice.filter_x(p.taps, filtered);
        } else if (z - R >= at.z_begin) {
            request();
        }
#pragma unroll
        for (int c = 0; c < B::cols; ++c)
#pragma unroll
            for (int q = 0; q < Q; ++q) filtered[c][q] = fir[c][q].step(filtered[c][q], p.taps);
        if (z - R >= at.z_begin) use(z - R, filtered);
        // The barrier after the next put separates these reads of along_y from its writes; without a stage nothing else
        // does.
        if constexpr (!B::staged) __syncthreads();
    }
}

// s and d of the images, and the mask if it normalises.
template <class T, int R, bool NORMALIZED>
struct ImageSource {
    using A = arithmetic_t<T>;
    using E = Elements<T>;
    using S = Slots<A, R>;
    static constexpr int N = NORMALIZED ? 3 : 2;
    const SsimParams<A>& p;
    const Tile& tile;
    const S slots;  // of both images: their rows and columns have the same strides
    typename E::Raw x[S::kCount], y[S::kCount];
    A l1_sum;

    __device__ __forceinline__ ImageSource(const SsimParams<A>& params, const Tile& at)
        : p(params), tile(at), slots(p, tile, p.x, E::size(p.dtype), 0), l1_sum(0) {}
    __device__ __forceinline__ static int low() { return 0; }
    __device__ __forceinline__ void prefetch(int z) {
        const Cursor<T> x_at(p.x, p.dtype, tile, z, 0, 0), y_at(p.y, p.dtype, tile, z, 0, 0);
#pragma unroll
        for (int i = 0; i < S::kCount; ++i)
            if (slots.is_valid(i)) {
                x[i] = E::load(static_cast<const char*>(x_at.at) + slots.offset[i], p.dtype);
                y[i] = E::load(static_cast<const char*>(y_at.at) + slots.offset[i], p.dtype);
            }
    }
    __device__ __forceinline__ void put(int z, Column<A, N>* stage) {
#pragma unroll
        for (int i = 0; i < S::kCount; ++i)
            if (slots.is_valid(i))
                stage[S::index(i)] =
                    prepare(to_arithmetic(x[i]), to_arithmetic(y[i]), z, S::row(tile, i), S::column(tile, i));
    }
    // |x - y| at this thread's columns, from the stage, which is zero beside the volume.
    __device__ __forceinline__ void sum_l1(int z, const Column<A, N>* stage) {
        using B = Block3d<A, R>;
        if (p.l1_scale == A(0) || z < tile.chunk * p.chunk || z >= (tile.chunk + 1) * p.chunk) return;
        const Place<A, R> place(p, tile, thread_again());
        const int row = place.row - tile.tile_y * B::ty, column = place.column - tile.tile_x * B::tx;
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            const A difference = absolute(stage[(row + R) * B::sx + column + c + R].v[1]);
            const bool is_weighted = p.mask.data && place.row < p.height && place.column + c < p.width;
            l1_sum += is_weighted
                          ? load_mask<A>(p.mask, p.mask_is_bool, tile, z, place.row, place.column + c) * difference
                          : difference;
        }
    }
    __device__ __forceinline__ Column<A, N> prepare(A xv, A yv, int z, int row, int column) const {
        Column<A, N> out;
        out.v[0] = xv + yv;
        out.v[1] = xv - yv;
        if constexpr (NORMALIZED) out.v[2] = load_mask<A>(p.mask, p.mask_is_bool, tile, z, row, column);
        out.fill();
        return out;
    }
    // `row` and `column` are counted from the tile's first halo element.
    __device__ __forceinline__ Column<A, N> read(int z, int row, int column) const {
        using B = Block3d<A, R>;
        const int y_at = tile.tile_y * B::ty - R + row, x_at = tile.tile_x * B::tx - R + column;
        Column<A, N> out;
        out.clear();
        if (y_at < 0 || y_at >= p.height || x_at < 0 || x_at >= p.width) return out;
        const A xv = to_arithmetic(Cursor<T>(p.x, p.dtype, tile, z, y_at, x_at).load(0, 0));
        const A yv = to_arithmetic(Cursor<T>(p.y, p.dtype, tile, z, y_at, x_at).load(0, 0));
        return prepare(xv, yv, z, y_at, x_at);
    }
};

// The partial maps, times the upstream map and the mask. Padding valid: positions near the border have no map element, and
// nothing was saved there.
template <class A, int R, int Q>
struct PartialSource {
    using S = Slots<A, R>;
    static constexpr int N = Q;
    const SsimParams<A>& p;
    const Tile& tile;
    const S slots;
    A maps[S::kCount][Q];

    __device__ __forceinline__ PartialSource(const SsimParams<A>& params, const Tile& at)
        : p(params), tile(at), slots(p, tile, p.maps, sizeof(A), p.crop) {}
    __device__ __forceinline__ int low() const { return p.crop; }
    __device__ __forceinline__ const A* slice(int z, int q) const {
        return static_cast<const A*>(Cursor<A>(p.maps, 0, tile, z, 0, 0).at) + q * p.maps_stride;
    }
    __device__ __forceinline__ void prefetch(int z) {
#pragma unroll
        for (int q = 0; q < Q; ++q) {
            const char* const at = reinterpret_cast<const char*>(slice(z, q));
#pragma unroll
            for (int i = 0; i < S::kCount; ++i)
                if (slots.is_valid(i)) maps[i][q] = *reinterpret_cast<const A*>(at + slots.offset[i]);
        }
    }
    __device__ __forceinline__ void put(int z, Column<A, N>* stage) const {
#pragma unroll
        for (int i = 0; i < S::kCount; ++i) {
            if (!slots.is_valid(i)) continue;
            Column<A, N> out;
#pragma unroll
            for (int q = 0; q < Q; ++q) out.v[q] = maps[i][q];
            out.fill();
            stage[S::index(i)] = out;
        }
        if (p.upstream == kUpstreamMap || p.mask.data) weight_stage(z, stage);
    }
    // What this thread has put, weighted.
    __device__ __forceinline__ void weight_stage(int z, Column<A, N>* stage) const {
        using B = Block3d<A, R>;
#pragma unroll 1
        for (int e = thread_again(); e < B::sy * B::sx; e += B::threads) {
            const int row = tile.tile_y * B::ty - R + e / B::sx, column = tile.tile_x * B::tx - R + e % B::sx;
            if (row >= p.crop && row < p.height - p.crop && column >= p.crop && column < p.width - p.crop)
                weight(z, row, column, stage[e]);
        }
    }
    __device__ __forceinline__ static void sum_l1(int, const Column<A, N>*) {}
    __device__ __forceinline__ void weight(int z, int row, int column, Column<A, N>& partials) const {
        A u = p.mask.data ? load_mask<A>(p.mask, p.mask_is_bool, tile, z, row, column) : A(1);
        if (p.upstream == kUpstreamMap)
            u *= Cursor<A>(p.grad_out, 0, tile, z - p.crop, row - p.crop, column - p.crop).load(0, 0);
        // 0 / 0, where K is 0 and an image is black, must not reach the neighbours of what does not count.
#pragma unroll
        for (int q = 0; q < Q; ++q) partials.v[q] = u == A(0) ? A(0) : u * partials.v[q];
    }
    __device__ __forceinline__ Column<A, N> read(int z, int row, int column) const {
        using B = Block3d<A, R>;
        const int y_at = tile.tile_y * B::ty - R + row, x_at = tile.tile_x * B::tx - R + column;
        Column<A, N> out;
        out.clear();
        if (y_at < p.crop || y_at >= p.height - p.crop || x_at < p.crop || x_at >= p.width - p.crop) return out;
#pragma unroll
        for (int q = 0; q < Q; ++q) out.v[q] = slice(z, q)[y_at * p.maps.h + x_at];
        if (p.upstream == kUpstreamMap || p.mask.data) weight(z, y_at, x_at, out);
        return out;
    }
};

template <class T, int R, int G, bool N>
__device__ __forceinline__ void ssim3d_forward(const SsimParams<arithmetic_t<T>>& p) {
    using A = arithmetic_t<T>;
    using B = Block3d<A, R>;
    constexpr int Q = N ? 5 : 4, M = G ? filtered_maps(G) : 1;

    const Tile tile(p);
    if (tile.block >= p.blocks) return;
    const Place<A, R> at(p, tile, threadIdx.x);
    const Stability<A> stability = {p.c1x2, p.c2x2};
    ImageSource<T, R, N> source(p, tile);
    A* maps = static_cast<A*>(Cursor<A>(p.maps, 0, tile, at.z_begin, at.row, at.column).at);
    A dssim_sum = A(0);
    // A bit for each column whether the map has elements there.
    unsigned counted = 0;
#pragma unroll
    for (int c = 0; c < B::cols; ++c)
        counted |= unsigned(at.row >= p.crop && at.row < p.height - p.crop && at.column + c >= p.crop &&
                            at.column + c < p.width - p.crop)
                   << c;
    constexpr unsigned kAll = (1u << B::cols) - 1;

    const auto expand = [](const A(&in)[column_size(N ? 3 : 2)], A(&out)[Q]) {
        const A s = N ? in[N ? 2 : 0] * in[0] : in[0], d = N ? in[N ? 2 : 0] * in[1] : in[1];
        out[0] = s;
        out[1] = d;
        out[2] = s * in[0];
        out[3] = d * in[1];
        if constexpr (N) out[4] = in[2];
    };
    const bool is_rare = p.mask.data || p.map.data || (!B::staged && p.l1_scale != A(0));
    // The mask, the map, and |x - y| where nothing is staged. `now`: the columns that have an element of the map.
    const auto use_rarely = [&](int z, unsigned now, const A(&here)[B::cols]) {
        const Place<A, R> place(p, tile, thread_again());
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            const int column = place.column + c;
            if (place.row >= p.height || column >= p.width) continue;
            const A weight = p.mask.data ? load_mask<A>(p.mask, p.mask_is_bool, tile, z, place.row, column) : A(1);
            A difference = A(0);
            if (p.l1_scale != A(0))
                difference = absolute(to_arithmetic(Cursor<T>(p.x, p.dtype, tile, z, place.row, column).load(0, 0)) -
                                      to_arithmetic(Cursor<T>(p.y, p.dtype, tile, z, place.row, column).load(0, 0)));
            if (!B::staged) source.l1_sum += weight * difference;
            if (!(now >> c & 1)) continue;
            if (weight != A(0)) dssim_sum += weight * here[c];
            if (!p.map.data) continue;
            A value = p.is_loss ? A(-2) * p.ssim_weight * here[c] + p.l1_weight * difference : ssim_from_dssim(here[c]);
            if (p.mask.data) value = weight != A(0) ? weight * value : A(0);
            Cursor<A>(p.map, 0, tile, z - p.crop, place.row - p.crop, column - p.crop).store(0, 0, value);
        }
    };
    const auto use = [&](int z, const A(&filtered)[B::cols][Q]) {
        const unsigned now = z >= p.crop && z < p.depth - p.crop ? counted : 0;
        A here[B::cols], partials[M][B::cols];
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            Moments<A> m = {filtered[c][0], filtered[c][1], filtered[c][2], filtered[c][3]};
            A u = A(1);
            if constexpr (N) {
                u = filtered[c][Q - 1] > A(0) ? reciprocal(filtered[c][Q - 1]) : A(0);
                m = {u * m.mu_s, u * m.mu_d, u * m.sq_s, u * m.sq_d};
            }
            if constexpr (G != 0) {
                Partials<A> partial;
                A values[M];
                here[c] = dssim_and_partials(m, stability, u, partial);
                pack_partials<G>(partial, values);
#pragma unroll
                for (int q = 0; q < M; ++q) partials[q][c] = values[q];
            } else {
                here[c] = dssim(m, stability);
            }
        }
        if constexpr (G != 0) {
            if (now == kAll && p.packed_maps) {
#pragma unroll
                for (int q = 0; q < M; ++q) Pair<A, B::cols>::store(maps + q * p.maps_stride, partials[q]);
            } else {
#pragma unroll
                for (int c = 0; c < B::cols; ++c)
                    if (now >> c & 1)
#pragma unroll
                        for (int q = 0; q < M; ++q) maps[q * p.maps_stride + c] = partials[q][c];
            }
            maps += p.maps.d;
        }
        if (is_rare) {
            use_rarely(z, now, here);
        } else {
#pragma unroll
            for (int c = 0; c < B::cols; ++c) dssim_sum += now >> c & 1 ? here[c] : A(0);
        }
    };
    walk_slices<A, R, Q>(p, tile, source, expand, [] {}, use);
    store_block_sums<B::threads>(p, tile.block, dssim_sum, source.l1_sum);
}

template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_backward(const SsimParams<arithmetic_t<T>>& p) {
    using A = arithmetic_t<T>;
    using B = Block3d<A, R>;
    constexpr int Q = filtered_maps(G);

    const Tile tile(p);
    if (tile.block >= p.blocks) return;
    const Place<A, R> at(p, tile, threadIdx.x);
    const auto cursor = [&](const View& v) { return Cursor<T>(v, p.dtype, tile, at.z_begin, at.row, at.column); };
    Cursor<T> x = cursor(p.x), y = cursor(p.y), to_x = cursor(p.grad_x), to_y = cursor(p.grad_y);
    A scale = p.scale, l1_scale = p.l1_scale;
    plane_scales(p, tile, scale, l1_scale);
    unsigned inside = 0;
#pragma unroll
    for (int c = 0; c < B::cols; ++c) inside |= unsigned(at.row < p.height && at.column + c < p.width) << c;

    const auto expand = [](const A(&in)[column_size(Q)], A(&out)[Q]) {
#pragma unroll
        for (int q = 0; q < Q; ++q) out[q] = in[q];
    };
    typename Elements<T>::Raw xs[B::cols], ys[B::cols];
    const auto request = [&] {
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            xs[c] = x.load(0, c, inside >> c & 1);
            ys[c] = y.load(0, c, inside >> c & 1);
        }
    };
    const bool is_rare = p.mask.data || p.upstream == kUpstreamMap || p.coarse_x.data;
    const auto use = [&](int z, const A(&filtered)[B::cols][Q]) {
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            if (!(inside >> c & 1)) continue;
            const A xv = to_arithmetic(xs[c]), yv = to_arithmetic(ys[c]);
            A grad_x, grad_y;
            unpack_gradient<G>(filtered[c], xv, yv, grad_x, grad_y);
            grad_x *= scale;
            if (G == 2) grad_y *= scale;
            if (l1_scale != A(0) && !is_rare) {
                const A l1 = with_sign(l1_scale, xv - yv);
                grad_x += l1;
                if (G == 2) grad_y -= l1;
            } else if (is_rare) {
                const Place<A, R> place(p, tile, thread_again());
                add_to_gradient<G>(p, tile, z, place.row, place.column + c, with_sign(l1_scale, xv - yv), grad_x,
                                   grad_y);
            }
            // Maps that were saved for both gradients also serve a backward that wants one of them.
            if (G == 1 || p.grad_x.data) to_x.store(0, c, grad_x);
            if (G == 2 && p.grad_y.data) to_y.store(0, c, grad_y);
        }
        x.next_slice();
        y.next_slice();
        to_x.next_slice();
        to_y.next_slice();
    };
    PartialSource<A, R, Q> source(p, tile);
    walk_slices<A, R, Q>(p, tile, source, expand, request, use);
}

#define FUSEDSSIM_DEFINE_KERNEL(NAME, CALL, TYPE, RADIUS)                                         \
    extern "C" __global__ void __launch_bounds__(Block3d<arithmetic_t<TYPE>, RADIUS>::threads,    \
                                                 Block3d<arithmetic_t<TYPE>, RADIUS>::min_blocks) \
        NAME(const __grid_constant__ SsimParams<arithmetic_t<TYPE>> p) {                          \
        CALL(p);                                                                                  \
    }
#define FUSEDSSIM_DEFINE_FORWARD(TYPE, RADIUS, GRADS)                     \
    FUSEDSSIM_DEFINE_KERNEL(ssim3d_forward_##TYPE##_r##RADIUS##_g##GRADS, \
                            (ssim3d_forward<TYPE, RADIUS, GRADS, false>), TYPE, RADIUS)
#define FUSEDSSIM_DEFINE_NORMALIZED(TYPE, RADIUS, GRADS)                             \
    FUSEDSSIM_DEFINE_KERNEL(ssim3d_forward_normalized_##TYPE##_r##RADIUS##_g##GRADS, \
                            (ssim3d_forward<TYPE, RADIUS, GRADS, true>), TYPE, RADIUS)
#define FUSEDSSIM_DEFINE_BACKWARD(TYPE, RADIUS, GRADS)                                                             \
    FUSEDSSIM_DEFINE_KERNEL(ssim3d_backward_##TYPE##_r##RADIUS##_g##GRADS, (ssim3d_backward<TYPE, RADIUS, GRADS>), \
                            TYPE, RADIUS)
FUSEDSSIM_SSIM3D_FORWARD_KERNELS(FUSEDSSIM_DEFINE_FORWARD)
FUSEDSSIM_SSIM3D_NORMALIZED_KERNELS(FUSEDSSIM_DEFINE_NORMALIZED)
FUSEDSSIM_SSIM3D_BACKWARD_KERNELS(FUSEDSSIM_DEFINE_BACKWARD)

}  // namespace fusedssim
