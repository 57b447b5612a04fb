// SPDX-License-Identifier: MIT
//
// What all kernels share: element types, loads and stores.
#pragma once

#include "core/border.h"
#include "core/ssim_math.h"
#include "params.h"

namespace fusedssim {

// What C++ has no words for. tests/simulator/cuda_language.h has functions of the same names for the CPU.
#if defined(FUSEDSSIM_DEVICE_CODE)
__device__ __forceinline__ float half_to_float(unsigned short bits) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(bits));
    return r;
}
__device__ __forceinline__ unsigned short float_to_half(float v) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v));
    return bits;
}

// threadIdx.x and blockIdx.x, read again. The compiler cannot move a volatile asm. So what is computed from these
// values, such as an address that only a rare branch needs, is computed there, and occupies no registers before.
__device__ __forceinline__ int thread_again() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}
__device__ __forceinline__ int block_again() {
    int block;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
    return block;
}

// a * b + c as one instruction. The compiler may not split it and share the product with another expression.
__device__ __forceinline__ float multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return __fma_rn(a, b, c); }

// Gives v an unspecified value, at the cost of no instruction.
__device__ __forceinline__ void set_to_any(float& v) { asm("" : "=f"(v)); }
__device__ __forceinline__ void set_to_any(double& v) { asm("" : "=d"(v)); }

// A thread that load_acquire()s a value sees all that another thread wrote before it store_release()d that value.
__device__ __forceinline__ void store_release(unsigned long long* to, unsigned long long value) {
    asm volatile("st.release.gpu.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}
__device__ __forceinline__ unsigned long long load_acquire(const unsigned long long* from) {
    unsigned long long value;
    asm volatile("ld.acquire.gpu.u64 %0, [%1];" : "=l"(value) : "l"(from) : "memory");
    return value;
}

// The same value, which all threads of the warp have, where it occupies no register of a thread. (The result of an
// instruction for whole warps is put into a register of the warp, and additions read it there.) GPUs before sm_80 have
// no such instruction for integers.
__device__ __forceinline__ float of_warp(float v) {
#if __CUDA_ARCH__ >= 800
    return __uint_as_float(__reduce_or_sync(0xffffffffu, __float_as_uint(v)));
#else
    return v;
#endif
}
__device__ __forceinline__ double of_warp(double v) { return v; }
// The largest of the values of a warp, which are not negative: their bits are ordered as they are.
__device__ __forceinline__ void largest_of_warp(float& v) {
#if __CUDA_ARCH__ >= 800
    v = __uint_as_float(__reduce_max_sync(0xffffffffu, __float_as_uint(v)));
#else
#pragma unroll
    for (int lanes = 16; lanes; lanes /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, lanes));
#endif
}
__device__ __forceinline__ void largest_of_warp(double& v) {
#pragma unroll
    for (int lanes = 16; lanes; lanes /= 2) v = fmax(v, __shfl_xor_sync(0xffffffffu, v, lanes));
}

// Whether copy_async() is asynchronous.
#if __CUDA_ARCH__ >= 800
constexpr bool kHasAsyncCopies = true;
#else
constexpr bool kHasAsyncCopies = false;
#endif
#endif

struct f16 {
    unsigned short bits;
};
struct bf16 {
    unsigned short bits;
};
using f32 = float;
using f64 = double;
// float32, float16 or bfloat16, decided at run time: the dtypes that any_serves() in kernel_list.h lets in.
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
__device__ __forceinline__ float to_arithmetic(f16 v) { return half_to_float(v.bits); }
__device__ __forceinline__ float to_arithmetic(bf16 v) { return __uint_as_float(unsigned(v.bits) << 16); }

__device__ __forceinline__ void from_arithmetic(float v, float& out) { out = v; }
__device__ __forceinline__ void from_arithmetic(double v, double& out) { out = v; }
__device__ __forceinline__ void from_arithmetic(float v, f16& out) { out.bits = float_to_half(v); }
// Round to nearest even, NaN kept: GPUs before sm_90 have no instruction for one value.
__device__ __forceinline__ void from_arithmetic(float v, bf16& out) {
#if __CUDA_ARCH__ >= 900
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(v));
#else
    const unsigned bits = __float_as_uint(v);
    const unsigned rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    out.bits = (unsigned short)((v == v ? rounded : (bits | 0x400000u)) >> 16);
#endif
}

// Loads and stores of elements of type T, or, for `any`, of the dtype that is given. Images are read and gradients are
// written as the same T: a type of images alone, such as uint8, needs a second type here. A Raw value is what a load
// delivers. It is converted where it is used, so that the loads of a loop can all be under way before the first is
// needed.
template <class T>
struct Elements {
    using Raw = T;
    __device__ __forceinline__ static Raw load(const void* at, int) { return *static_cast<const T*>(at); }
    __device__ __forceinline__ static void store(void* at, int, arithmetic_t<T> v) {
        from_arithmetic(v, *static_cast<T*>(at));
    }
};
template <>
struct Elements<any> {
    using Raw = float;
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

// kCount adjacent elements, read or written by one instruction.
template <class T, int kCount = 4>
struct Packed {
    struct alignas(sizeof(T) * kCount > 16 ? 16 : sizeof(T) * kCount) All {
        T v[kCount];
    };
    __device__ __forceinline__ static void load(const void* at, T (&to)[kCount]) {
        const All all = *static_cast<const All*>(at);
#pragma unroll
        for (int i = 0; i < kCount; ++i) to[i] = all.v[i];
    }
    __device__ __forceinline__ static void store(void* at, const arithmetic_t<T> (&from)[kCount]) {
        All all;
#pragma unroll
        for (int i = 0; i < kCount; ++i) from_arithmetic(from[i], all.v[i]);
        *static_cast<All*>(at) = all;
    }
};
// For `any` the launchers never ask for packed access: the size of an element is not known.
template <int kCount>
struct Packed<any, kCount> {
    __device__ __forceinline__ static void load(const void*, float (&)[kCount]) {}
    __device__ __forceinline__ static void store(void*, const float (&)[kCount]) {}
};

// kValues numbers of one position, which travel through shared memory together. Three numbers take the space of four,
// so that one instruction moves them.
FUSEDSSIM_CONSTEXPR int column_size(int n) { return n == 3 ? 4 : n; }
FUSEDSSIM_CONSTEXPR int column_alignment(int size, int n) {
    return n == 5 ? size : size * column_size(n) > 16 ? 16 : size * column_size(n);
}
template <class A, int kValues>
struct alignas(column_alignment(sizeof(A), kValues)) Column {
    A v[column_size(kValues)];
    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < column_size(kValues); ++i) v[i] = A(0);
    }
    // Sets the number that pads three to four. Any value will do; without one, the compiler stores three numbers
    // singly.
    __device__ __forceinline__ void fill() {
        if constexpr (kValues == 3) set_to_any(v[column_size(kValues) - 1]);
    }
};

// What the windows of all kernels see beyond the border of an image. Places that make use of it assert it: so a search
// for kBorder finds what a second border has to change. (They compare positions with sizes themselves, and do not call
// sees_element(): conditions from two functions cost registers, see SsimParams::in_map().)
constexpr Border kBorder = Border::zeros;

// Bytes of shared memory that a block may have without a call of the driver.
constexpr int kStaticShared = 48 * 1024;

// Copies kBytes bytes from global to shared memory, without waiting for them. Both addresses are aligned to kBytes, or
// to 16 if that is less. wait_for_copies() waits for the copies of this thread. GPUs before sm_80 copy through
// registers, at once.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* to, const void* from) {
    constexpr int kStep = kBytes < 16 ? kBytes : 16;
#pragma unroll
    for (int i = 0; i < kBytes; i += kStep) {
        void* const a = static_cast<char*>(to) + i;
        const void* const b = static_cast<const char*>(from) + i;
#if __CUDA_ARCH__ >= 800
        const unsigned shared = unsigned(__cvta_generic_to_shared(a));
        if constexpr (kStep == 16)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(b) : "memory");
        else
            asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared), "l"(b), "n"(kStep) : "memory");
#else
        if constexpr (kStep == 16)
            *static_cast<int4*>(a) = *static_cast<const int4*>(b);
        else
            *static_cast<int2*>(a) = *static_cast<const int2*>(b);
#endif
    }
}
__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

__device__ __forceinline__ int imin(int a, int b) { return a < b ? a : b; }
__device__ __forceinline__ constexpr int imax(int a, int b) { return a > b ? a : b; }
template <class A>
__device__ __forceinline__ A absolute(A v) {
    return v < A(0) ? -v : v;
}
FUSEDSSIM_CONSTEXPR int iabs(int v) { return v < 0 ? -v : v; }

// The filter along the axis that a block walks. A thread keeps 2R running sums, one for each output that is not
// complete yet. A new value is added to all of them, and the oldest sum is then complete. This costs one multiply-add
// per tap, and needs neither a ring buffer nor index arithmetic.
template <class A, int R>
struct TransposedFir {
    A sums[2 * R];

    __device__ __forceinline__ TransposedFir() {
#pragma unroll
        for (int k = 0; k < 2 * R; ++k) sums[k] = A(0);
    }
    // The sums as an endless row of one value leaves them; step() would return this.
    __device__ __forceinline__ A begin(A value, const A* taps) {
        sums[2 * R - 1] = taps[R] * value;
#pragma unroll
        for (int k = 2 * R - 2; k >= 0; --k) sums[k] = taps[iabs(k + 1 - R)] * value + sums[k + 1];
        return taps[R] * value + sums[0];
    }
    // Takes the value at position i, returns the filtered value at i - R. The last sum and the result have the product
    // taps[R] * value in common. kResultFirst keeps the compiler from sharing it, so that the result need not wait for
    // it.
    template <bool kResultFirst = false>
    __device__ __forceinline__ A step(A value, const A* taps) {
        const A out = kResultFirst ? multiply_add(taps[R], value, sums[0]) : taps[R] * value + sums[0];
#pragma unroll
        for (int k = 0; k + 1 < 2 * R; ++k) sums[k] = taps[iabs(k + 1 - R)] * value + sums[k + 1];
        sums[2 * R - 1] = taps[R] * value;
        return out;
    }
};

// The tile of a block: which plane, and which part of it.
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
    // One strip of a plane, or the whole plane.
    __device__ __forceinline__ Tile(long long plane, int channels, int strip = 0)
        : block(0), image(plane / channels), channel(int(plane - image * channels)), chunk(0), tile_y(0),
          tile_x(strip) {}
};

// Where an element of the plane of a tile lies.
__device__ __forceinline__ char* address(const ByteView& v, const Tile& tile, int z, int y, int x) {
    return static_cast<char*>(v.data) + (tile.image * v.n + tile.channel * v.c + z * v.d + y * v.h + x * v.w);
}

// A position in a view, in the plane of a tile. It can be moved, and what lies around it can be read and written.
template <class T>
struct Cursor {
    using Access = Elements<T>;
    const ByteView& v;
    const int dtype;
    char* at;

    __device__ __forceinline__ Cursor(const ByteView& view, int element, const Tile& tile, int z, int y, int x)
        : v(view), dtype(element), at(address(view, tile, z, y, x)) {}
    __device__ __forceinline__ void next_row() { at += v.h; }
    __device__ __forceinline__ void next_rows(int rows) { at += rows * v.h; }
    __device__ __forceinline__ void next_slice() { at += v.d; }
    // The element so many rows and columns further on; zero if it is not `valid`.
    __device__ __forceinline__ typename Access::Raw load(int rows, int columns, bool valid = true) const {
        typename Access::Raw out = {};
        if (valid) out = Access::load(at + rows * v.h + columns * v.w, dtype);
        return out;
    }
    __device__ __forceinline__ void store(int rows, int columns, arithmetic_t<T> value) const {
        Access::store(at + rows * v.h + columns * v.w, dtype, value);
    }
};

// The value of the mask [N, C, D, H, W] at an element of a tile's plane. A weight that is not positive counts as 0.
template <class A>
__device__ __forceinline__ A load_mask(const ByteView& v, int is_bool, const Tile& tile, int z, int y, int x) {
    const void* const at = address(v, tile, z, y, x);
    if (is_bool) return A(*static_cast<const unsigned char*>(at) != 0);
    const A weight = *static_cast<const A*>(at);
    return weight > A(0) ? weight : A(0);
}

// Multiplies the partials at an element of the map by the mask and the upstream map.
template <int kMaps, class A>
__device__ __forceinline__ void weight_partials(const SsimParams<A>& p, const Tile& tile, int z, int y, int x,
                                                A (&partials)[kMaps]) {
    A u = p.mask.data ? load_mask<A>(p.mask, p.mask_is_bool, tile, z, y, x) : A(1);
    if (p.upstream == kUpstreamMap && u != A(0))
        u *= Cursor<A>(p.grad_out, 0, tile, z - p.crop_z(), y - p.crop_y(), x - p.crop_x()).load(0, 0);
#pragma unroll
    for (int q = 0; q < kMaps; ++q) partials[q] = weighted(u, partials[q]);
}

// The factors of the gradients of SSIM and of |x - y| in a tile's plane: those of the launch, times the plane's
// upstream gradient, divided by the sums of the mask of the plane's group.
template <class A>
__device__ __forceinline__ void plane_scales(const SsimParams<A>& p, const Tile& tile, A& ssim, A& l1) {
    if (p.upstream == kUpstreamPlane) {
        const A upstream = Cursor<A>(p.grad_out, 0, tile, 0, 0, 0).load(0, 0);
        ssim *= upstream;
        l1 *= upstream;
    }
    if (p.mask_sums) {
        const long long group = (tile.image * p.channels + tile.channel) / p.planes_per_group;
        ssim = A(ssim / p.mask_sums[group]);
        l1 = A(l1 / p.mask_sums[p.groups + group]);
    }
}

// The constants of the image of a tile.
template <class A>
__device__ __forceinline__ Stability<A> image_stability(const SsimParams<A>& p, const Tile& tile) {
    if (!p.data_ranges.data) return p.stability;
    return stability_of<A>(
        p.k1, p.k2,
        double(*reinterpret_cast<const A*>(static_cast<char*>(p.data_ranges.data) + tile.image * p.data_ranges.n)));
}

// The part of an element's gradient that comes from the pooled images, which MS-SSIM's next level sees.
template <class A>
__device__ __forceinline__ A coarse_gradient(const SsimParams<A>& p, const ByteView& v, const Tile& tile, int z, int y,
                                             int x) {
    if (!v.data) return A(0);
    return p.coarse_scale *
           Cursor<A>(v, 0, tile, block_of(z, p.depth), block_of(y, p.height), block_of(x, p.width)).load(0, 0);
}

// Makes an image's element 0 if it is NaN or infinite. If a window that counts sees it, all partials around it are NaN,
// and so is its gradient. If a mask hides it from all of them, its partials are 0: then it must not be looked at.
template <class Raw>
__device__ __forceinline__ void hide_holes(Raw& value) {
    const auto v = to_arithmetic(value);
    if (!is_finite(v)) value = {};
}

// Adds what is rarely part of a gradient: the mask, the gradient of |x - y|, and the gradient of the pooled images.
// `l1` is the gradient of |x - y| for a mask and an upstream gradient of 1. `scale` is what the gradient of SSIM has
// been multiplied by; it is only used if the mask normalises.
template <int G, class A>
__device__ __forceinline__ void add_to_gradient(const SsimParams<A>& p, const Tile& tile, int z, int y, int x, A l1,
                                                A scale, A& grad_x, A& grad_y) {
    if (p.mask.data) {
        const A mask = load_mask<A>(p.mask, p.mask_is_bool, tile, z, y, x);
        l1 = weighted(mask, l1);
        if (p.is_normalized) {
            // 0, but NaN if the mean is one of nothing.
            const A excluded = A(0) * scale;
            grad_x = mask != A(0) ? mask * grad_x : excluded;
            if (G == 2) grad_y = mask != A(0) ? mask * grad_y : excluded;
        }
    }
    if (p.upstream == kUpstreamMap && l1 != A(0)) l1 *= Cursor<A>(p.grad_out, 0, tile, z, y, x).load(0, 0);
    grad_x += l1 + coarse_gradient(p, p.coarse_x, tile, z, y, x);
    if (G == 2) grad_y += coarse_gradient(p, p.coarse_y, tile, z, y, x) - l1;
}

}  // namespace fusedssim
