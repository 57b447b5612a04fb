// SPDX-License-Identifier: MIT
//
// SSIM of volumes: the forward kernel (value, map, and the partial maps that a backward needs) and the backward kernel
// (partial maps -> gradient).
//
// A block of 256 threads owns a tile of TX x TY columns of one volume and walks along z through a chunk of its slices;
// a thread owns COLS columns that are adjacent in x. Each slice:
//
//     load (TX + 2R) x (TY + 2R) --shared--> taps along y, TX + 2R columns --shared--> taps along x --> taps along z
//           the next slice is under way                                                               (transposed FIR)
//
//     <R><---- TX ---->
//     +-+--------------+-+ <R>     staged: read and kept in shared memory as s, d (backward: the partial maps)
//     +-+--------------+-+
//     | |   outputs    | | TY      filtered along y: (TX + 2R) x TY
//     +-+--------------+-+
//     +-+--------------+-+ <R>
//
// Elements beside the volume are never written to the stage, which is zero there; slices before and behind the volume are
// not filtered at all. On sm_90 the float32 kernels for R = 5 take 128 registers a thread and 20 KB (forward) or 43 KB of
// shared memory, for two blocks a multiprocessor. Wide windows (R > 5) have no stage: their taps along y read global memory
// through the L1 cache. Equation numbers: docs/derivation.md.
//
// G is the number of gradients, as in ssim2d.cu. N: windows are normalised by the mass of a mask.
#include "block_sums.h"
#include "core/ssim_math.h"
#include "instances.h"
#include "slice_filter.h"

namespace fusedssim {

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

// What a thread stages of a slice of a tile: every 256th of its COLUMNS x sy parts, which are WIDTH adjacent elements each.
// The first of a row begins MARGIN elements before the tile.
template <class A, int R, int COLUMNS, int WIDTH, int MARGIN>
struct Slots {
    using B = Block3d<A, R>;
    static constexpr int kAll = B::sy * COLUMNS;
    static constexpr int kCount = B::staged ? (kAll + B::threads - 1) / B::threads : 1;
    unsigned flags;  // a bit for each, whether it lies in the slice, and from kFree on what its user puts there
    static constexpr unsigned kFree = 1u << kCount;
    // From the slice's first element, in what the view's strides count. Launchers see to it that it fits.
    unsigned offset[kCount];

    template <class V>
    __device__ __forceinline__ Slots(const SsimParams<A>& p, const Tile& tile, const V& v, int width) : flags(0) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            const int y = row(tile, index(i)), x = column(tile, index(i));
            const bool in_slice = index(i) < kAll && y >= 0 && y < p.height && x >= 0 && x < width;
            flags |= unsigned(in_slice) << i;
            offset[i] = unsigned(y * v.h + x * v.w);
        }
    }
    __device__ __forceinline__ bool is_valid(int i) const { return flags >> i & 1; }
    __device__ __forceinline__ static int index(int i) { return threadIdx.x + i * B::threads; }
    // Where an element lies in its plane.
    __device__ __forceinline__ static int row(const Tile& tile, int e) { return tile.tile_y * B::ty - R + e / COLUMNS; }
    __device__ __forceinline__ static int column(const Tile& tile, int e) {
        return tile.tile_x * B::tx - MARGIN + e % COLUMNS * WIDTH;
    }
};

// Walks a tile along z. A source delivers the slices:
//
//     N                            the values of an element
//     Stage                        its shared memory for a slice, with clear()
//     low()                        slices closer than this to an end of the volume are zeros
//     kOverlaps, kEarly            whether slices overlap (see below); whether, if not, one is requested before the filter
//                                  along y of the one before, or after it
//     seek(z)                      tells where to begin
//     request(z, stage)            begins to load a slice,
//     deliver(z, stage)            and ends it: after the next barrier all threads see it in the stage
//     read(z, stage, row, column, values)     an element of it
//     sum_l1(z, stage)             what else is wanted of the stage
//
// use(z, in_chunk, results[cols][Q]) gets the filtered quantities of the slices, one after the other, also of those before the
// chunk; prepare() is called well before each use in the chunk, to load what that needs.
//
// If the source says kOverlaps and shared memory allows it, a slice is filtered along y between the same two barriers as the
// one before along x and z, while the next one is under way. Otherwise there is a barrier more.
template <class A, int R, int Q, class Source, class Expand, class Prepare, class Use>
__device__ __forceinline__ void walk_slices(const SsimParams<A>& p, const Tile& tile, Source& source, Expand expand,
                                            Prepare prepare, Use use) {
    using B = Block3d<A, R>;
    struct Shared {
        typename Source::Stage stage;
        SliceFilter<A, R, Q> slice;
    };
    constexpr bool kOverlaps = Source::kOverlaps && 2 * sizeof(Shared) <= kStaticShared;
    __shared__ Shared shared[kOverlaps ? 2 : 1];
    const auto at = [&](int z) -> Shared& { return shared[kOverlaps ? z & 1 : 0]; };
    const Place<A, R> place(p, tile, threadIdx.x);
    TransposedFir<A, R> fir[B::cols][Q];

    // What lies beside the volume is never written.
    for (Shared& each : shared) each.stage.clear();
    __syncthreads();
    // Slices before the volume are zeros and leave the running sums zero: begin at its first.
    const int end = place.z_end + R, last = imin(end, p.depth - source.low());
    int z = imax(place.z_begin - R, source.low());
    const auto filter_y = [&](int slice) {
        source.sum_l1(slice, at(slice).stage);
        at(slice).slice.template filter_y<Source::N>(
            p.taps,
            [&](int row, int column, A(&values)[1][Source::N]) {
                source.read(slice, at(slice).stage, row, column, values);
            },
            expand);
    };
    // Wide windows have no stage.
    const auto request = [&](int slice, Shared& to) {
        if constexpr (B::staged) source.request(slice, to.stage);
    };
    const auto deliver = [&](int slice, Shared& to) {
        if constexpr (B::staged) source.deliver(slice, to.stage);
    };
    source.seek(z);
    if (z < last) request(z, at(z));
    if (kOverlaps && z < last) {
        deliver(z, at(z));
        __syncthreads();
        if (z + 1 < last) request(z + 1, at(z + 1));
        filter_y(z);
    }
    for (; z < end; ++z) {
        A filtered[B::cols][Q] = {};
        if (z < last) {
            if constexpr (kOverlaps) {
                if (z + 1 < last) deliver(z + 1, at(z + 1));
                __syncthreads();
                if (z + 2 < last) request(z + 2, at(z));
                if (z - R >= place.z_begin) prepare();
                if (z + 1 < last) filter_y(z + 1);
            } else {
                deliver(z, at(z));
                __syncthreads();
                if (Source::kEarly && z + 1 < last) request(z + 1, at(z + 1));
                filter_y(z);
                __syncthreads();
                if (!Source::kEarly && z + 1 < last) request(z + 1, at(z + 1));
                if (z - R >= place.z_begin) prepare();
            }
            at(z).slice.filter_x(p.taps, filtered);
        } else if (z - R >= place.z_begin) {
            prepare();
        }
#pragma unroll
        for (int q = 0; q < Q; ++q)
#pragma unroll
            for (int c = 0; c < B::cols; ++c) filtered[c][q] = fir[c][q].template step<true>(filtered[c][q], p.taps);
        use(z - R, z - R >= place.z_begin, filtered);
    }
}

// s and d of the images, and the mask if it normalises.
template <class T, int R, bool NORMALIZED>
struct ImageSource {
    using A = arithmetic_t<T>;
    using B = Block3d<A, R>;
    using E = Elements<T>;
    static constexpr int N = NORMALIZED ? 3 : 2;
    // A mask leaves no registers for a slice under way during the filter along y.
    static constexpr bool kOverlaps = false, kEarly = !NORMALIZED;
    static constexpr int kMargin = R + R % 2;  // columns before the tile: whole pairs
    static constexpr int kPairs = (B::tx + kMargin + R + 1) / 2, kPitch = 2 * kPairs;
    using S = Slots<A, R, kPairs, 2, kMargin>;
    using Stage = Planes<A, N, B::staged ? 2 * S::kAll : 2>;
    const SsimParams<A>& p;
    const Tile& tile;
    S slots;  // of both images: their rows and columns have the same strides
    // What does not change from slice to slice, beside the slots' own bits: pairs are accessed as one, |x - y| is summed,
    static constexpr unsigned kPacked = S::kFree, kSumsL1 = 2 * S::kFree;
    static constexpr unsigned kPlain = 4 * S::kFree;  // and the map has all elements, of which nothing rare is wanted.
    // The slice that will be requested next.
    const char *x_at, *y_at;
    typename E::Raw x[S::kCount][2], y[S::kCount][2];
    A l1_sum;

    __device__ __forceinline__ ImageSource(const SsimParams<A>& params, const Tile& at)
        : p(params), tile(at), slots(p, tile, p.x, p.width), l1_sum(0) {
        if (p.packed_images) slots.flags |= kPacked;
        if (B::staged && p.has_l1) slots.flags |= kSumsL1;
    }
    __device__ __forceinline__ static int low() { return 0; }
    __device__ __forceinline__ void seek(int z) {
        x_at = address(p.x, tile, z, 0, 0);
        y_at = address(p.y, tile, z, 0, 0);
    }
    __device__ __forceinline__ void request(int z, Stage&) {
        if (slots.flags & kPacked) {
#pragma unroll
            for (int i = 0; i < S::kCount; ++i)
                if (slots.is_valid(i)) {
                    Packed<T, 2>::load(x_at + slots.offset[i], x[i]);
                    Packed<T, 2>::load(y_at + slots.offset[i], y[i]);
                }
        } else {
#pragma unroll
            for (int i = 0; i < S::kCount; ++i)
                if (slots.is_valid(i)) {
                    const char* const x_here = x_at + slots.offset[i];
                    const char* const y_here = y_at + slots.offset[i];
                    const bool both = S::column(tile, thread_again() + i * B::threads) + 1 < p.width;
                    x[i][0] = E::load(x_here, p.dtype);
                    y[i][0] = E::load(y_here, p.dtype);
                    x[i][1] = y[i][1] = {};
                    if (both) {
                        x[i][1] = E::load(x_here + p.x.w, p.dtype);
                        y[i][1] = E::load(y_here + p.x.w, p.dtype);
                    }
                }
        }
        x_at += p.x.d;
        y_at += p.y.d;
    }
    __device__ __forceinline__ void deliver(int z, Stage& stage) const {
#pragma unroll
        for (int i = 0; i < S::kCount; ++i) {
            if (!slots.is_valid(i)) continue;
            const int e = NORMALIZED ? thread_again() + i * B::threads : 0;
            A values[2][N];
#pragma unroll
            for (int c = 0; c < 2; ++c)
                combine(to_arithmetic(x[i][c]), to_arithmetic(y[i][c]), z, S::row(tile, e), S::column(tile, e) + c,
                        values[c]);
            stage.put_two(2 * S::index(i), values);
        }
    }
    // |x - y| at this thread's columns, from the stage, which is zero beside the volume.
    __device__ __forceinline__ void sum_l1(int z, const Stage& stage) {
        if (!(slots.flags & kSumsL1) || z < tile.chunk * p.chunk || z >= (tile.chunk + 1) * p.chunk) return;
        const Place<A, R> place(p, tile, thread_again());
        const int row = place.row - tile.tile_y * B::ty, column = place.column - tile.tile_x * B::tx;
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            const A difference = absolute(stage.pairs[0][(row + R) * kPitch + column + c + kMargin].v[1]);
            const bool is_weighted = p.mask.data && place.row < p.height && place.column + c < p.width;
            l1_sum += is_weighted
                          ? load_mask<A>(p.mask, p.mask_is_bool, tile, z, place.row, place.column + c) * difference
                          : difference;
        }
    }
    __device__ __forceinline__ void combine(A xv, A yv, int z, int row, int column, A (&out)[N]) const {
        out[0] = xv + yv;
        out[1] = xv - yv;
        if constexpr (NORMALIZED)
            out[2] = column < p.width ? load_mask<A>(p.mask, p.mask_is_bool, tile, z, row, column) : A(0);
    }
    // `row` and `column` are counted from the tile's first halo element.
    __device__ __forceinline__ void read(int z, const Stage& stage, int row, int column, A (&out)[1][N]) const {
        if constexpr (B::staged) return stage.get(row * kPitch + column + (kMargin - R), out);
        const int y_at = tile.tile_y * B::ty - R + row, x_at = tile.tile_x * B::tx - R + column;
#pragma unroll
        for (int i = 0; i < N; ++i) out[0][i] = A(0);
        if (y_at < 0 || y_at >= p.height || x_at < 0 || x_at >= p.width) return;
        const A xv = to_arithmetic(Cursor<T>(p.x, p.dtype, tile, z, y_at, x_at).load(0, 0));
        const A yv = to_arithmetic(Cursor<T>(p.y, p.dtype, tile, z, y_at, x_at).load(0, 0));
        combine(xv, yv, z, y_at, x_at, out[0]);
    }
};

// Where the partials of a tile's plane stand in memory: the first two of a position side by side, the rest, one or two,
// behind those of all positions.
template <class A, int Q, class I = long long>
struct PartialMaps {
    using First = Column<A, 2>;
    using Second = Column<A, Q - 2>;
    const SsimParams<A>& p;
    const Tile& tile;
    const I at;  // in a slice

    __device__ __forceinline__ PartialMaps(const SsimParams<A>& params, const Tile& of, int y, int x)
        : p(params), tile(of), at(I(y * params.maps.h + x)) {}
    __device__ __forceinline__ long long slice(int z) const {
        return tile.image * p.maps.n + tile.channel * p.maps.c + z * p.maps.d;
    }
    __device__ __forceinline__ First* first(int z) const { return static_cast<First*>(p.maps.data) + slice(z) + at; }
    __device__ __forceinline__ Second* second(int z) const {
        return reinterpret_cast<Second*>(static_cast<First*>(p.maps.data) + p.maps_stride) + slice(z) + at;
    }
    // The partials of N positions, from a multiple of N on; rows begin at even ones.
    template <int N>
    __device__ __forceinline__ void store(int z, const A (&partials)[Q][N]) const {
        A pairs[2 * N], rest[(Q - 2) * N];
#pragma unroll
        for (int i = 0; i < N; ++i)
#pragma unroll
            for (int q = 0; q < Q; ++q) (q < 2 ? pairs[2 * i + q] : rest[(Q - 2) * i + q - 2]) = partials[q][i];
        Packed<A, 2 * N>::store(first(z), pairs);
        Packed<A, (Q - 2) * N>::store(second(z), rest);
    }
};

// The partial maps, times the upstream map and the mask. They are zero where there is no map element.
template <class A, int R, int Q>
struct PartialSource {
    using B = Block3d<A, R>;
    using Maps = PartialMaps<A, Q>;
    static constexpr int N = Q;
    static constexpr bool kOverlaps = B::staged && kHasAsyncCopies, kEarly = false;
    static constexpr int kMargin = R + R % 2;  // columns before the tile: whole pairs
    static constexpr int kPairs = (B::tx + kMargin + R + 1) / 2;
    using S = Slots<A, R, kPairs, 2, kMargin>;
    using Stage = Planes<A, Q, B::staged ? 2 * S::kAll : 2>;
    const SsimParams<A>& p;
    const Tile& tile;
    const S slots;
    // The slice that will be requested next.
    const typename Maps::First* first;
    const typename Maps::Second* second;

    __device__ __forceinline__ PartialSource(const SsimParams<A>& params, const Tile& at)
        : p(params), tile(at), slots(p, tile, p.maps, int(p.maps.h)) {}
    __device__ __forceinline__ void seek(int z) {
        const Maps maps(p, tile, 0, 0);
        first = maps.first(z);
        second = maps.second(z);
    }
    __device__ __forceinline__ int low() const { return p.crop; }
    __device__ __forceinline__ void request(int, Stage& stage) {
#pragma unroll
        for (int i = 0; i < S::kCount; ++i)
            if (slots.is_valid(i)) {
                void* const rest = Q == 3 ? static_cast<void*>(stage.last + 2 * S::index(i))
                                          : static_cast<void*>(stage.pairs[Q / 2 - 1] + 2 * S::index(i));
                copy_async<2 * sizeof(typename Maps::First)>(stage.pairs[0] + 2 * S::index(i), first + slots.offset[i]);
                copy_async<2 * sizeof(typename Maps::Second)>(rest, second + slots.offset[i]);
            }
        first += p.maps.d;
        second += p.maps.d;
    }
    __device__ __forceinline__ void deliver(int z, Stage& stage) const {
        wait_for_copies();
        if (is_weighted()) weight(z, stage);
    }
    __device__ __forceinline__ bool is_weighted() const { return p.upstream == kUpstreamMap || p.mask.data; }
    __device__ __forceinline__ bool is_counted(int row, int column) const {
        return row >= p.crop && row < p.height - p.crop && column >= p.crop && column < p.width - p.crop;
    }
    // What this thread has copied.
    __device__ __forceinline__ void weight(int z, Stage& stage) const {
#pragma unroll 1
        for (int e = thread_again(); e < S::kAll; e += B::threads) {
#pragma unroll 1
            for (int c = 0; c < 2; ++c) {
                const int row = S::row(tile, e), column = S::column(tile, e) + c;
                if (!is_counted(row, column)) continue;
                A partials[1][Q];
                stage.get(2 * e + c, partials);
                weight_partials(p, tile, z, row, column, partials[0]);
                stage.put(2 * e + c, partials[0]);
            }
        }
    }
    __device__ __forceinline__ static void sum_l1(int, const Stage&) {}
    __device__ __forceinline__ void read(int z, const Stage& stage, int row, int column, A (&out)[1][Q]) const {
        if constexpr (B::staged) return stage.get(row * 2 * kPairs + column + (kMargin - R), out);
        const int y_at = tile.tile_y * B::ty - R + row, x_at = tile.tile_x * B::tx - R + column;
#pragma unroll
        for (int q = 0; q < Q; ++q) out[0][q] = A(0);
        if (!is_counted(y_at, x_at)) return;
        const Maps maps(p, tile, y_at, x_at);
#pragma unroll
        for (int q = 0; q < Q; ++q) out[0][q] = q < 2 ? maps.first(z)->v[q] : maps.second(z)->v[q - 2];
        if (is_weighted()) weight_partials(p, tile, z, y_at, x_at, out[0]);
    }
};

template <class T, int R, int G, bool N>
__device__ __forceinline__ void forward(const SsimParams<arithmetic_t<T>>& p) {
    using A = arithmetic_t<T>;
    using B = Block3d<A, R>;
    constexpr int Q = N ? 5 : 4, M = G ? filtered_maps(G) : 1;

    const Tile tile(p);
    if (tile.block >= p.blocks) return;
    const Place<A, R> at(p, tile, threadIdx.x);
    const Stability<A> stability = {p.c1x2, p.c2x2};
    ImageSource<T, R, N> source(p, tile);
    const PartialMaps<A, imax(M, 3), typename B::Offset> maps(p, tile, at.row, at.column);
    const auto has_maps = [&] {
        const Place<A, R> place(p, tile, thread_again());
        return place.row < p.height && place.column < p.maps.h;
    };
    A dssim_sum = A(0);
    const bool is_rare = p.mask.data || p.map.data || (!B::staged && p.has_l1);
    // A bit for each column, whether the map has elements there.
    constexpr unsigned kAll = (1u << B::cols) - 1;
    const auto counted = [&] {
        const Place<A, R> place(p, tile, thread_again());
        unsigned bits = 0;
#pragma unroll
        for (int c = 0; c < B::cols; ++c)
            bits |= unsigned(place.row >= p.crop && place.row < p.height - p.crop && place.column + c >= p.crop &&
                             place.column + c < p.width - p.crop)
                    << c;
        return bits;
    };
    // Everywhere, and what is rare is not wanted: so in most tiles.
    if (counted() == kAll && !is_rare) source.slots.flags |= source.kPlain;

    const auto expand = [](const A(&in)[N ? 3 : 2], A(&out)[Q]) {
        const A s = N ? in[N ? 2 : 0] * in[0] : in[0], d = N ? in[N ? 2 : 0] * in[1] : in[1];
        out[0] = s;
        out[1] = d;
        out[2] = s * in[0];
        out[3] = d * in[1];
        if constexpr (N) out[4] = in[2];
    };
    // The mask, the map, and |x - y| where nothing is staged. `now`: the columns that have an element of the map.
    const auto use_rarely = [&](int z, unsigned now, const A(&here)[B::cols]) {
        const Place<A, R> place(p, tile, thread_again());
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            const int column = place.column + c;
            if (place.row >= p.height || column >= p.width) continue;
            const A weight = p.mask.data ? load_mask<A>(p.mask, p.mask_is_bool, tile, z, place.row, column) : A(1);
            A difference = A(0);
            if (p.has_l1)
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
    const auto use = [&](int z, bool in_chunk, const A(&filtered)[B::cols][Q]) {
        // With nothing but the value, what follows costs less than the branch that would avoid it.
        if (G && !in_chunk) return;
        const bool in_map = in_chunk && unsigned(z - p.crop) < unsigned(p.depth - 2 * p.crop);
        A here[B::cols], partials[M][B::cols];
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            Moments<A> m = {filtered[c][0], filtered[c][1], filtered[c][2], filtered[c][3]};
            A u = A(1);
            if constexpr (N) u = normalize(m, filtered[c][Q - 1]);
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
        if (in_map && (source.slots.flags & source.kPlain)) {
            if constexpr (G != 0) maps.store(z, partials);
#pragma unroll
            for (int c = 0; c < B::cols; ++c) dssim_sum += here[c];
            return;
        }
        if (!in_chunk) return;
        const unsigned now = in_map ? counted() : 0;
        if constexpr (G != 0) {
            // Zeros where there is no map element, up to the end of a row: what reads them needs no borders.
            if (now != kAll)
#pragma unroll
                for (int c = 0; c < B::cols; ++c)
#pragma unroll
                    for (int q = 0; q < M; ++q) partials[q][c] = now >> c & 1 ? partials[q][c] : A(0);
            if (has_maps()) maps.store(z, partials);
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
    if constexpr (has_completion<A>(R, N)) finish_block<B::threads>(p, tile.block);
}

template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_backward(const SsimParams<arithmetic_t<T>>& p) {
    using A = arithmetic_t<T>;
    using B = Block3d<A, R>;
    constexpr int Q = filtered_maps(G);

    const Tile tile(p);
    if (tile.block >= p.blocks) return;
    const Place<A, R> at(p, tile, threadIdx.x);
    const auto cursor = [&](const ByteView& v) { return Cursor<T>(v, p.dtype, tile, at.z_begin, at.row, at.column); };
    Cursor<T> x = cursor(p.x), y = cursor(p.y), to_x = cursor(p.grad_x), to_y = cursor(p.grad_y);
    A scale = p.scale, l1_scale = p.l1_scale;
    plane_scales(p, tile, scale, l1_scale);
    unsigned inside = 0;
#pragma unroll
    for (int c = 0; c < B::cols; ++c) inside |= unsigned(at.row < p.height && at.column + c < p.width) << c;

    const auto expand = [](const A(&in)[Q], A(&out)[Q]) {
#pragma unroll
        for (int q = 0; q < Q; ++q) out[q] = in[q];
    };
    typename Elements<T>::Raw xs[B::cols], ys[B::cols];
    const bool packed = p.packed_grads && inside == (1u << B::cols) - 1;
    const auto prepare = [&] {
        if (packed) {
            Packed<T, B::cols>::load(x.at, xs);
            Packed<T, B::cols>::load(y.at, ys);
        } else {
#pragma unroll
            for (int c = 0; c < B::cols; ++c) {
                xs[c] = x.load(0, c, inside >> c & 1);
                ys[c] = y.load(0, c, inside >> c & 1);
            }
        }
    };
    const bool is_rare = p.mask.data || p.upstream == kUpstreamMap || p.coarse_x.data;
    const auto store = [&](const Cursor<T>& to, const A(&values)[B::cols]) {
        if (packed) {
            Packed<T, B::cols>::store(to.at, values);
        } else {
#pragma unroll
            for (int c = 0; c < B::cols; ++c)
                if (inside >> c & 1) to.store(0, c, values[c]);
        }
    };
    const auto use = [&](int z, bool in_chunk, const A(&filtered)[B::cols][Q]) {
        if (!in_chunk) return;
        A grad_x[B::cols], grad_y[B::cols];
#pragma unroll
        for (int c = 0; c < B::cols; ++c) {
            unpack_gradient<G>(filtered[c], to_arithmetic(xs[c]), to_arithmetic(ys[c]), grad_x[c], grad_y[c]);
            grad_x[c] *= scale;
            if (G == 2) grad_y[c] *= scale;
        }
        if (l1_scale != A(0) && !is_rare) {
#pragma unroll
            for (int c = 0; c < B::cols; ++c) {
                const A l1 = with_sign(l1_scale, to_arithmetic(xs[c]) - to_arithmetic(ys[c]));
                grad_x[c] += l1;
                if (G == 2) grad_y[c] -= l1;
            }
        } else if (is_rare) {
            const Place<A, R> place(p, tile, thread_again());
#pragma unroll
            for (int c = 0; c < B::cols; ++c)
                if (place.row < p.height && place.column + c < p.width)
                    add_to_gradient<G>(p, tile, z, place.row, place.column + c,
                                       with_sign(l1_scale, to_arithmetic(xs[c]) - to_arithmetic(ys[c])), grad_x[c],
                                       grad_y[c]);
        }
        // Maps that were saved for both gradients also serve a backward that wants one of them.
        if (G == 1 || p.grad_x.data) store(to_x, grad_x);
        if (G == 2 && p.grad_y.data) store(to_y, grad_y);
        x.next_slice();
        y.next_slice();
        to_x.next_slice();
        if (G == 2) to_y.next_slice();
    };
    PartialSource<A, R, Q> source(p, tile);
    walk_slices<A, R, Q>(p, tile, source, expand, prepare, use);
}

// The families of this unit (instances.h).
template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_forward(const SsimParams<arithmetic_t<T>>& p) {
    forward<T, R, G, false>(p);
}
template <class T, int R, int G>
__device__ __forceinline__ void ssim3d_forward_normalized(const SsimParams<arithmetic_t<T>>& p) {
    forward<T, R, G, true>(p);
}

#define FUSEDSSIM_KERNEL(NAME, FAMILY, UNIT, PARAMS, TYPE, RADIUS, GRADS)                         \
    extern "C" __global__ void __launch_bounds__(Block3d<arithmetic_t<TYPE>, RADIUS>::threads,    \
                                                 Block3d<arithmetic_t<TYPE>, RADIUS>::min_blocks) \
        NAME(const __grid_constant__ PARAMS p) {                                                  \
        FAMILY<TYPE, RADIUS, GRADS>(p);                                                           \
    }
#define FUSEDSSIM_FAMILY(FAMILY, KERNELS) KERNELS(FUSEDSSIM_KERNEL)
FUSEDSSIM_SSIM3D_FAMILIES(FUSEDSSIM_FAMILY)
#undef FUSEDSSIM_FAMILY
#undef FUSEDSSIM_KERNEL

}  // namespace fusedssim
