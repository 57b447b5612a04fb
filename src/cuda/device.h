// SPDX-License-Identifier: MIT
//
// What all kernels share: element types, loads and stores, the sum of a block.
#pragma once

#include "core/ssim_math.h"
#include "params.h"

namespace fusedssim {

struct f16 {
    unsigned short bits;
};
struct bf16 {
    unsigned short bits;
};
using f32 = float;
using f64 = double;
// float32, float16 or bfloat16, decided at run time.
struct any;

template <class T>
struct Arithmetic {
    using type = float;
};
template <>
struct Arithmetic<f64> {
    using type = double;
};
template <class T>
using arithmetic_t = typename Arithmetic<T>::type;

__device__ __forceinline__ float to_arithmetic(float v) { return v; }
__device__ __forceinline__ double to_arithmetic(double v) { return v; }
__device__ __forceinline__ float to_arithmetic(f16 v) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v.bits));
    return r;
}
__device__ __forceinline__ float to_arithmetic(bf16 v) { return __uint_as_float(unsigned(v.bits) << 16); }

__device__ __forceinline__ void from_arithmetic(float v, float& out) { out = v; }
__device__ __forceinline__ void from_arithmetic(double v, double& out) { out = v; }
__device__ __forceinline__ void from_arithmetic(float v, f16& out) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(v));
}
// Round to nearest even, NaN kept: GPUs before sm_80 have no instruction for it.
__device__ __forceinline__ void from_arithmetic(float v, bf16& out) {
    const unsigned bits = __float_as_uint(v);
    const unsigned rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    out.bits = (unsigned short)((v == v ? rounded : (bits | 0x400000u)) >> 16);
}

// Access to elements of type T (or, for `any`, of the dtype that is given). A Raw value is what a load delivers: it is
// converted where it is used, so that loads can be under way for long.
template <class T>
struct Elements {
    using Raw = T;
    // Where the element lies that is i further.
    __device__ __forceinline__ static void* step(void* at, long long i, int) { return static_cast<T*>(at) + i; }
    __device__ __forceinline__ static Raw load(const void* at, int) { return *static_cast<const T*>(at); }
    __device__ __forceinline__ static void store(void* at, int, arithmetic_t<T> v) {
        from_arithmetic(v, *static_cast<T*>(at));
    }
};
template <>
struct Elements<any> {
    using Raw = float;
    __device__ __forceinline__ static void* step(void* at, long long i, int dtype) {
        return static_cast<char*>(at) + i * (dtype == kFloat32 ? 4 : 2);
    }
    __device__ __forceinline__ static Raw load(const void* at, int dtype) {
        if (dtype == kFloat16) return to_arithmetic(*static_cast<const f16*>(at));
        if (dtype == kBfloat16) return to_arithmetic(*static_cast<const bf16*>(at));
        return *static_cast<const f32*>(at);
    }
    __device__ __forceinline__ static void store(void* at, int dtype, float v) {
        if (dtype == kFloat16) return Elements<f16>::store(at, dtype, v);
        if (dtype == kBfloat16) return Elements<bf16>::store(at, dtype, v);
        return Elements<f32>::store(at, dtype, v);
    }
};

// N values that travel through shared memory together: three take the space, and the one instruction, of four.
template <class A, int N>
struct alignas(sizeof(A) * (N == 3 ? 4 : N) > 16 ? 16 : sizeof(A) * (N == 3 ? 4 : N)) Column {
    A v[N];
};

__device__ __forceinline__ int imin(int a, int b) { return a < b ? a : b; }
__device__ __forceinline__ int imax(int a, int b) { return a > b ? a : b; }
// Quotient and remainder of a possibly negative compile-time constant.
FUSEDSSIM_CONSTEXPR int floor_div(int v, int n) { return v >= 0 ? v / n : -((-v + n - 1) / n); }
FUSEDSSIM_CONSTEXPR int floor_mod(int v, int n) { return v - floor_div(v, n) * n; }
FUSEDSSIM_CONSTEXPR int iabs(int v) { return v < 0 ? -v : v; }

// The filter along the axis that a block walks: a thread keeps 2R running sums, one for each output that is still
// incomplete. A new value is added to all of them, the oldest leaves complete. It costs one FMA a tap, without a ring
// buffer or index arithmetic.
template <class A, int R>
struct TransposedFir {
    A sums[2 * R];

    __device__ __forceinline__ TransposedFir() {
#pragma unroll
        for (int k = 0; k < 2 * R; ++k) sums[k] = A(0);
    }
    // Takes the value at position i, returns the filtered value at i - R.
    __device__ __forceinline__ A step(A value, const A* taps) {
        const A out = taps[R] * value + sums[0];
#pragma unroll
        for (int k = 0; k + 1 < 2 * R; ++k) sums[k] = taps[iabs(k + 1 - R)] * value + sums[k + 1];
        sums[2 * R - 1] = taps[R] * value;
        return out;
    }
};

// The tile of a block.
struct Tile {
    long long block, image;
    int channel, chunk, tile_y, tile_x;

    // Blocks are numbered plane by plane, so that the sums of a plane, and of an image, lie side by side.
    template <class A>
    __device__ __forceinline__ explicit Tile(const SsimParams<A>& p) {
        block = (long long)blockIdx.y * gridDim.x + blockIdx.x;
        const long long per_plane = (long long)p.chunks * p.tiles_y * p.tiles_x;
        const long long plane = block / per_plane;
        image = plane / p.channels;
        channel = int(plane - image * p.channels);
        long long rest = block - plane * per_plane;
        tile_x = int(rest % p.tiles_x);
        rest /= p.tiles_x;
        tile_y = int(rest % p.tiles_y);
        chunk = int(rest / p.tiles_y);
    }
};

// A place in a view, in the plane of a tile.
template <class T>
struct Cursor {
    using E = Elements<T>;
    const View& v;
    const int dtype;
    void* at;

    __device__ __forceinline__ Cursor(const View& view, int element, const Tile& tile, int z, int y, int x)
        : v(view), dtype(element) {
        at = E::step(v.data, tile.image * v.n + tile.channel * v.c + z * v.d + y * v.h + x * v.w, dtype);
    }
    __device__ __forceinline__ void next_row() { at = E::step(at, v.h, dtype); }
    __device__ __forceinline__ void next_slice() { at = E::step(at, v.d, dtype); }
    // What lies so many rows and columns further; zero unless valid.
    __device__ __forceinline__ typename E::Raw load(int rows, int columns, bool valid = true) const {
        typename E::Raw out = {};
        if (valid) out = E::load(E::step(at, rows * v.h + columns * v.w, dtype), dtype);
        return out;
    }
    __device__ __forceinline__ void store(int rows, int columns, arithmetic_t<T> value) const {
        E::store(E::step(at, rows * v.h + columns * v.w, dtype), dtype, value);
    }
};

// Hands something over from one half of a block's threads to the other: arrive() by each thread of the first half, wait()
// by each of the second. What was read and written before arrive() comes before what follows wait(). GPUs before sm_80
// have named barriers for it; later ones have barriers in shared memory, at which those that arrive never wait for each
// other, and which tell phases apart by a parity.
template <int THREADS>
struct Handover {
    unsigned long long barrier;

    __device__ __forceinline__ unsigned address() const {
        unsigned long long shared;
        asm("cvta.to.shared.u64 %0, %1;" : "=l"(shared) : "l"(&barrier));
        return unsigned(shared);
    }
    // By one thread, before a __syncthreads().
    __device__ __forceinline__ void init() {
#if __CUDA_ARCH__ >= 800
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address()), "n"(THREADS / 2) : "memory");
#endif
    }
    __device__ __forceinline__ void arrive(int number) const {
#if __CUDA_ARCH__ >= 800
        asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(address()) : "memory");
#else
        asm volatile("bar.arrive %0, %1;" ::"r"(1 + number), "n"(THREADS) : "memory");
#endif
    }
    __device__ __forceinline__ void wait(int number, unsigned parity) const {
#if __CUDA_ARCH__ >= 800
        unsigned done = 0;
        while (!done)
            asm volatile(
                "{ .reg .pred p; "
#if __CUDA_ARCH__ >= 900
                "mbarrier.try_wait.parity.shared.b64 p, [%1], %2; "
#else
                "mbarrier.test_wait.parity.shared.b64 p, [%1], %2; "
#endif
                "selp.u32 %0, 1, 0, p; }"
                : "=r"(done)
                : "r"(address()), "r"(parity)
                : "memory");
#else
        asm volatile("bar.sync %0, %1;" ::"r"(1 + number), "n"(THREADS) : "memory");
#endif
    }
};

// The sum of one value a thread, in a fixed order, written for the block by its first thread.
template <int THREADS>
__device__ __forceinline__ void store_block_sum(double value, double* sums, long long block) {
    __shared__ double warps[THREADS / 32];
#pragma unroll
    for (int lane = 16; lane; lane /= 2) value += __shfl_down_sync(0xffffffffu, value, lane);
    if ((threadIdx.x & 31) == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x == 0) {
        double sum = 0;
#pragma unroll
        for (int i = 0; i < THREADS / 32; ++i) sum += warps[i];
        sums[block] = sum;
    }
}

}  // namespace fusedssim
