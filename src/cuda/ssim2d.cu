// SPDX-License-Identifier: MIT
//
// SSIM of images, its map, and its gradient, in one pass over memory and with nothing saved.
//
// A block owns a strip of columns of one plane and walks down a chunk of its rows. Its first 128 threads compute the
// statistics, and, if there are gradients, 128 more filter the partials: two roles with half the registers each hide
// twice the latency. A thread owns COLS adjacent columns. Each row r:
//
//     statistics   load x, y --> s, d --shared--> horizontal taps of s, d, s^2, d^2 --> vertical taps --> moments of
//                  row r - R --> DSSIM, its sum and the map; partials --shared--+
//                                                                               |  (a ring of two batches of rows)
//     gradient     horizontal taps <--------------------------------------------+
//                  --> vertical taps --> gradient of row r - 2R
//
//     columns of a strip (G > 0)  |<R>|<- margin ->|<-------------- out ------------->|<- margin ->|<R>|
//                                  read  statistics    statistics and gradient          statistics  read
//
// A warp of the first role exchanges s and d only within itself, and loads the R columns on each side of its own as well:
// that costs less than a barrier a row. The roles meet once a batch. The vertical filters are transposed FIRs in registers
// (device.h). In shared memory columns are stored by their residue modulo COLS, so that neighbouring threads read
// neighbouring words. Equation numbers: docs/derivation.md.
//
// G is the number of gradients: 0 (value or map only), 1 (x), 2 (x and y).
#include "core/ssim_math.h"
#include "device.h"
#include "instances.h"

namespace fusedssim {

// A row of columns in shared memory, N values each, with R to spare on each side, which threads at its ends read.
template <class A, int R, int COLS, int THREADS, int N>
struct Row {
    static constexpr int kSpare = (R + COLS - 1) / COLS;
    static constexpr int kPitch = THREADS + 2 * kSpare;  // columns of one residue
    Column<A, N> columns[COLS * kPitch];

    // `column` is a constant, counted from the thread's first one.
    __device__ __forceinline__ Column<A, N>& at(int thread, int column) {
        return columns[thread + kSpare + floor_mod(column, COLS) * kPitch + floor_div(column, COLS)];
    }
    // The same for a column that is no constant, counted from the row's first.
    __device__ __forceinline__ static int index(int column) {
        const int from_spare = column + COLS * kSpare;
        return from_spare % COLS * kPitch + from_spare / COLS;
    }
    // Filters horizontally at a thread's columns; `expand` makes the Q quantities of the N values.
    template <int Q, class Expand>
    __device__ __forceinline__ void filter(int thread, const A* taps, Expand expand, A (&out)[COLS][Q]) {
#pragma unroll
        for (int c = 0; c < COLS; ++c)
#pragma unroll
            for (int q = 0; q < Q; ++q) out[c][q] = A(0);
#pragma unroll
        for (int e = -R; e < R + COLS; ++e) {
            A values[Q];
            expand(at(thread, e).v, values);
#pragma unroll
            for (int c = 0; c < COLS; ++c)
                if (iabs(e - c) <= R)
#pragma unroll
                    for (int q = 0; q < Q; ++q) out[c][q] += taps[iabs(e - c)] * values[q];
        }
    }
};

template <class T, int R, int G>
struct Strip {
    using A = arithmetic_t<T>;
    using S = Strip2d<A, R, G>;
    static constexpr int COLS = S::cols;
    static constexpr int Q = filtered_maps(G);
    // The images of each warp and the partials of the strip: two rows, and two batches of rows.
    using ImageRow = Row<A, R, COLS, 32, 2>;
    using PartialRow = Row<A, R, COLS, S::role_threads, G ? Q : 1>;
    struct Shared {
        ImageRow images[S::role_threads / 32][2];
        PartialRow partials[G ? 2 * S::batch : 1];
        Handover<S::threads> full[2], free[2];
    };

    const SsimParams<A>& p;
    const Tile tile;
    const int thread, lane;  // of the role, of the warp
    const int first_column;  // of this thread
    const int row_begin, row_end;
    const int row_first, row_last;  // what the block walks

    __device__ __forceinline__ Strip(const SsimParams<A>& params)
        : p(params), tile(params), thread(threadIdx.x % S::role_threads), lane(threadIdx.x % 32),
          first_column(tile.tile_x * S::out - S::margin + thread * COLS), row_begin(tile.chunk * params.chunk),
          row_end(imin(row_begin + params.chunk, params.height)),
          // Rows above the image are zeros and leave the running sums zero: begin at row 0.
          row_first(imax(row_begin - S::halo, 0)), row_last(row_end - 1 + S::halo) {}

    __device__ __forceinline__ bool inside(int c) const { return first_column + c >= 0 && first_column + c < p.width; }
    __device__ __forceinline__ bool owned(int c) const {
        const int in_strip = thread * COLS + c;
        return inside(c) && in_strip >= S::margin && in_strip < S::margin + S::out;
    }
    // Whether the map has these columns.
    __device__ __forceinline__ bool counted(int c) const {
        return first_column + c >= p.crop && first_column + c < p.width - p.crop;
    }
    // Whether the whole warp lies beyond the image. Such warps keep step at the same barriers as the others.
    __device__ __forceinline__ bool warp_beyond() const { return first_column - lane * COLS >= p.width; }

    // This thread's first column in a row.
    template <class E = T>
    __device__ __forceinline__ Cursor<E> cursor(const View& v, int row, int column, int crop = 0) const {
        return Cursor<E>(v, p.dtype, tile, 0, row - crop, column - crop);
    }
    // Both roles walk in batches of rows. Partials of a row lie in a slot of a ring of two batches; a handover for each half
    // of the ring says that it is full, another that it is free again. `is_active`: warps beside what their role writes
    // only keep step.
    __device__ __forceinline__ int slot(int row) const { return unsigned(row - row_first) % (2 * S::batch); }
    __device__ __forceinline__ int last_of_batch(int first) const { return imin(first + S::batch - 1, row_last); }
    template <class WalkRow>
    __device__ __forceinline__ void put_batches(const Shared& shared, bool is_active, WalkRow walk_row) const {
        unsigned batch = 0;
        for (int first = row_first; first <= row_last; first += S::batch, ++batch) {
            const unsigned half = batch % 2, round = batch / 2;
            if (batch >= 2) shared.free[half].wait(2 + half, (round - 1) % 2);
            if (is_active)
                for (int row = first; row <= last_of_batch(first); ++row) walk_row(row);
            shared.full[half].arrive(half);
        }
    }
    template <class WalkRow>
    __device__ __forceinline__ void take_batches(const Shared& shared, bool is_active, WalkRow walk_row) const {
        unsigned batch = 0;
        for (int first = row_first; first <= row_last; first += S::batch, ++batch) {
            const unsigned half = batch % 2, round = batch / 2;
            shared.full[half].wait(half, round % 2);
            if (is_active)
                for (int row = first; row <= last_of_batch(first); ++row) walk_row(row);
            // Nobody waits for the last two.
            if (first + 2 * S::batch <= row_last) shared.free[half].arrive(2 + half);
        }
    }

    // The first role. Returns this thread's sum of DSSIM.
    __device__ __forceinline__ A statistics(Shared& shared) const {
        ImageRow(&images)[2] = shared.images[thread / 32];
        const Stability<A> stability = {p.c1x2, p.c2x2};
        TransposedFir<A, R> fir[COLS][4];

        // A lane loads columns 32 apart, from R on the left of the warp's first to R on the right of its last.
        constexpr int LOADS = (32 * COLS + 2 * R + 31) / 32;
        const int load_column = first_column - lane * COLS - R + lane;
        const int put_at = ImageRow::index(lane - R);
        Cursor<T> x_at = cursor(p.x, row_first, load_column), y_at = cursor(p.y, row_first, load_column);
        // A bit for each: whether the column lies in the image, and whether the warp needs it.
        unsigned valid = 0, needed = 0;
#pragma unroll
        for (int k = 0; k < LOADS; ++k) {
            const int column = load_column + 32 * k;
            const bool need = lane + 32 * k < 32 * COLS + 2 * R;
            needed |= unsigned(need) << k;
            valid |= unsigned(need && column >= 0 && column < p.width) << k;
        }
        typename Elements<T>::Raw x[LOADS], y[LOADS];
        const auto load = [&](bool row_inside) {
            const unsigned now = row_inside ? valid : 0;
#pragma unroll
            for (int k = 0; k < LOADS; ++k) {
                x[k] = x_at.load(0, 32 * k, now >> k & 1);
                y[k] = y_at.load(0, 32 * k, now >> k & 1);
            }
        };
        load(true);

        // The weight of a map element: 1 where there is one, times its upstream gradient.
        Cursor<A> up_at = cursor<A>(p.grad_out, row_first - R, first_column, p.crop);
        Cursor<A> map_at = cursor<A>(p.map, row_first - R, first_column, p.crop);
        A weight[COLS];
        unsigned owned_columns = 0;
#pragma unroll
        for (int c = 0; c < COLS; ++c) {
            weight[c] = counted(c) ? A(1) : A(0);
            owned_columns |= unsigned(owned(c) && counted(c)) << c;
        }
        A sums[COLS] = {};
        const auto walk_row = [&](int row) {
            ImageRow& image = images[row & 1];
#pragma unroll
            for (int k = 0; k < LOADS; ++k) {
                const A xk = to_arithmetic(x[k]), yk = to_arithmetic(y[k]);
                if (needed >> k & 1) image.columns[put_at + 32 * k / COLS] = {{xk + yk, xk - yk}};
            }
            x_at.next_row();
            y_at.next_row();
            load(row + 1 < p.height);
            __syncwarp();

            A filtered[COLS][4];
            image.filter(
                lane, p.taps,
                [](const A(&in)[2], A(&out)[4]) {
                    out[0] = in[0];
                    out[1] = in[1];
                    out[2] = in[0] * in[0];
                    out[3] = in[1] * in[1];
                },
                filtered);
            const int map_row = row - R;
            const bool row_counted = map_row >= p.crop && map_row < p.height - p.crop;
            const bool row_owned = row_counted && map_row >= row_begin && map_row < row_end;
#pragma unroll
            for (int c = 0; c < COLS; ++c) {
                Moments<A> m;
                m.mu_s = fir[c][0].step(filtered[c][0], p.taps);
                m.mu_d = fir[c][1].step(filtered[c][1], p.taps);
                m.sq_s = fir[c][2].step(filtered[c][2], p.taps);
                m.sq_d = fir[c][3].step(filtered[c][3], p.taps);
                A here;
                if constexpr (G != 0) {
                    A u = row_counted ? weight[c] : A(0);
                    if (p.upstream == kUpstreamMap && u != A(0)) u = up_at.load(0, c);
                    Partials<A> partial;
                    Column<A, Q> maps;
                    here = dssim_and_partials(m, stability, u, partial);
                    pack_partials<G>(partial, maps.v);
                    // 0 / 0 where K is 0 and an image is black must not reach its neighbours.
                    if (u == A(0)) maps = {};
                    shared.partials[slot(row)].at(thread, c) = maps;
                } else {
                    here = dssim(m, stability);
                    if (p.map.data && row_owned && (owned_columns >> c & 1)) map_at.store(0, c, ssim_from_dssim(here));
                }
                if (row_owned) sums[c] += here;
            }
            if (G && p.upstream == kUpstreamMap) up_at.next_row();
            if (!G && p.map.data) map_at.next_row();
        };
        if constexpr (G != 0) {
            put_batches(shared, !warp_beyond(), walk_row);
        } else if (!warp_beyond()) {
            for (int row = row_first; row <= row_last; ++row) walk_row(row);
        }
        A sum = A(0);
#pragma unroll
        for (int c = 0; c < COLS; ++c) sum += owned_columns >> c & 1 ? sums[c] : A(0);
        return sum;
    }

    // The second role.
    __device__ __forceinline__ void gradient(Shared& shared) const {
        const int first = (thread - lane) * COLS;  // of the warp, in the strip
        const bool is_active = first < S::margin + S::out && first + 32 * COLS > S::margin && !warp_beyond();
        TransposedFir<A, R> fir[COLS][Q];
        A scale = p.scale;
        if (p.upstream == kUpstreamPlane) scale *= Cursor<A>(p.grad_out, 0, tile, 0, 0, 0).load(0, 0);
        const auto at = [&](const View& v) { return cursor(v, row_first - 2 * R, first_column); };
        Cursor<T> x_at = at(p.x), y_at = at(p.y), grad_x_at = at(p.grad_x), grad_y_at = at(p.grad_y);

        unsigned owned_columns = 0;
#pragma unroll
        for (int c = 0; c < COLS; ++c) owned_columns |= unsigned(owned(c)) << c;

        const auto walk_row = [&](int row) {
            const int grad_row = row - 2 * R;
            const bool row_owned = grad_row >= row_begin && grad_row < row_end;
            const unsigned now = row_owned ? owned_columns : 0;
            typename Elements<T>::Raw x[COLS], y[COLS];
#pragma unroll
            for (int c = 0; c < COLS; ++c) {
                x[c] = x_at.load(0, c, now >> c & 1);
                y[c] = y_at.load(0, c, now >> c & 1);
            }
            A filtered[COLS][Q];
            shared.partials[slot(row)].filter(
                thread, p.taps,
                [](const A(&in)[Q], A(&out)[Q]) {
#pragma unroll
                    for (int q = 0; q < Q; ++q) out[q] = in[q];
                },
                filtered);
#pragma unroll
            for (int c = 0; c < COLS; ++c) {
#pragma unroll
                for (int q = 0; q < Q; ++q) filtered[c][q] = fir[c][q].step(filtered[c][q], p.taps);
                if (now >> c & 1) {
                    A grad_x, grad_y;
                    unpack_gradient<G>(filtered[c], to_arithmetic(x[c]), to_arithmetic(y[c]), grad_x, grad_y);
                    grad_x_at.store(0, c, scale * grad_x);
                    if (G == 2) grad_y_at.store(0, c, scale * grad_y);
                }
            }
            x_at.next_row();
            y_at.next_row();
            grad_x_at.next_row();
            if (G == 2) grad_y_at.next_row();
        };
        take_batches(shared, is_active, walk_row);
    }
};

template <class T, int R, int G>
__device__ __forceinline__ void ssim2d(const SsimParams<arithmetic_t<T>>& p) {
    using P = Strip<T, R, G>;
    using S = typename P::S;
    __shared__ typename P::Shared shared;
    const P strip(p);
    if (strip.tile.block >= p.blocks) return;
    // What is read before it is put, or beside the image, is zero.
    for (int i = threadIdx.x; i < int(sizeof shared / sizeof(float)); i += S::threads)
        reinterpret_cast<float*>(&shared)[i] = 0;
    __syncthreads();
    if (G && threadIdx.x < 2) {
        shared.full[threadIdx.x].init();
        shared.free[threadIdx.x].init();
    }
    __syncthreads();
    typename P::A sum = 0;
    if (threadIdx.x < S::role_threads)
        sum = strip.statistics(shared);
    else if constexpr (G != 0)
        strip.gradient(shared);
    if (p.sums) store_block_sum<S::threads>(double(sum), p.sums, strip.tile.block);
}

#define FUSEDSSIM_DEFINE(TYPE, RADIUS, GRADS)                                                            \
    extern "C" __global__ void __launch_bounds__(Strip2d<arithmetic_t<TYPE>, RADIUS, GRADS>::threads,    \
                                                 Strip2d<arithmetic_t<TYPE>, RADIUS, GRADS>::min_blocks) \
        ssim2d_##TYPE##_r##RADIUS##_g##GRADS(const __grid_constant__ SsimParams<arithmetic_t<TYPE>> p) { \
        ssim2d<TYPE, RADIUS, GRADS>(p);                                                                  \
    }
FUSEDSSIM_SSIM2D_KERNELS(FUSEDSSIM_DEFINE)

}  // namespace fusedssim
