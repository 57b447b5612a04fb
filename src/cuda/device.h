// SPDX-License-Identifier: MIT
//
// What all kernels share: tiles, positions in memory, the filter along the walk, and what a gradient consists of.
#pragma once

#include "core/border.h"
#include "elements.h"

namespace fusedssim {

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

// What windows see beyond the border of an image. Kernels that are not general have zeros there, and the compiler drops
// what is done for other borders.
template <class T, class A>
__device__ __forceinline__ Border border_of(const SsimParams<A>& p) {
    if constexpr (is_general<T>) return p.border;
    return Border::zeros;
}

// What multiplies derivatives by variances: see dssim_and_partials().
template <class T, class A>
__device__ __forceinline__ A variance_grad_scale(const SsimParams<A>& p) {
    if constexpr (is_general<T>) return p.variance_grad_scale;
    return A(1);
}

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
        else if constexpr (kStep == 8)
            *static_cast<int2*>(a) = *static_cast<const int2*>(b);
        else
            *static_cast<int*>(a) = *static_cast<const int*>(b);
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
// As a part of the instruction that takes it, where a comparison would be two more.
__device__ __forceinline__ float absolute(float v) { return fabsf(v); }
__device__ __forceinline__ double absolute(double v) { return fabs(v); }
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

// What the filter along the walk adds for Border::replicate: the outputs at both ends of the axis take the edge's taps.
// Rare, so it stands in memory and not in registers.
template <class A, int R, int kQuantities>
struct EdgeSums {
    A sums[2][kQuantities];

    __device__ __forceinline__ EdgeSums() : sums() {}
    // Takes the values at `position` of an axis of `size` elements, and completes the filtered ones at position - R.
    __device__ __forceinline__ void step(const AxisTaps<A>& taps, int position, int size, const A* values,
                                         A* filtered) {
#pragma unroll 1
        for (int which = 0; which < (size > 1 ? 2 : 1); ++which) {
            const int end = which ? size - 1 : 0, distance = iabs(position - end);
            if (distance > R) continue;
            const A more = taps.edge[distance] - taps.window[distance];
#pragma unroll
            for (int q = 0; q < kQuantities; ++q) {
                sums[which][q] += more * values[q];
                if (position - R == end) filtered[q] += sums[which][q];
            }
        }
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
        const long long in_launch = block / per_plane, plane = p.first_plane + in_launch;
        image = plane / p.channels;
        channel = int(plane - image * p.channels);
        long long rest = block - in_launch * per_plane;
        tile_x = int(rest % p.tiles_x);
        rest /= p.tiles_x;
        tile_y = p.first_tile_y + int(rest % p.tiles_y);
        chunk = int(rest / p.tiles_y);
    }
    // One strip of a plane, or the whole plane.
    __device__ __forceinline__ Tile(long long plane, int channels, int strip = 0)
        : block(0), image(plane / channels), channel(int(plane - image * channels)), chunk(0), tile_y(0),
          tile_x(strip) {}
};

// A column of a plane.
struct Spot {
    Tile tile;
    int x;
};

// Where an element of the plane of a tile lies.
__device__ __forceinline__ char* address(const ByteView& v, const Tile& tile, int z, int y, int x) {
    return static_cast<char*>(v.data) + (tile.image * v.n + tile.channel * v.c + z * v.d + y * v.h + x * v.w);
}

// A position in a view, in the plane of a tile. It can be moved, and what lies around it can be read and written. The
// format is that of the image, for general kernels.
template <class T>
struct Cursor {
    using Access = Elements<T>;
    using A = arithmetic_t<T>;
    const ByteView& v;
    char* at;

    __device__ __forceinline__ Cursor(const ByteView& view, const Tile& tile, int z, int y, int x)
        : v(view), at(address(view, tile, z, y, x)) {}
    __device__ __forceinline__ void next_row() { at += v.h; }
    __device__ __forceinline__ void next_rows(int rows) { at += rows * v.h; }
    __device__ __forceinline__ void next_slice() { at += v.d; }
    // The element so many rows and columns further on; zero if it is not `valid`.
    __device__ __forceinline__ typename Access::Raw load(int rows, int columns, const Format<A>& format = {},
                                                         bool valid = true) const {
        typename Access::Raw out = {};
        if (valid) out = Access::load(at + rows * v.h + columns * v.w, format);
        return out;
    }
    __device__ __forceinline__ A value(const Format<A>& format = {}) const {
        return Access::value(load(0, 0, format), format);
    }
    __device__ __forceinline__ void store(int rows, int columns, A value, const Format<A>& format = {}) const {
        Access::store(at + rows * v.h + columns * v.w, format, value);
    }
};

// What an element of a mask weighs: any byte but 0 is 1, and a weight that is not positive counts as 0.
__device__ __forceinline__ int mask_weight(unsigned char element) { return element != 0; }
template <class A>
__device__ __forceinline__ A mask_weight(A element) {
    return element > A(0) ? element : A(0);
}
// The bits of an element of a mask: they can be loaded long before somebody waits for the weight.
template <class A>
struct MaskBits {
    unsigned bits;
    __device__ __forceinline__ A number() const { return __uint_as_float(bits); }  // as it is
    __device__ __forceinline__ A weight(int is_bool) const {
        return is_bool ? A(bits != 0) : mask_weight(__uint_as_float(bits));
    }
};
template <>
struct MaskBits<double> {
    unsigned long long bits;
    __device__ __forceinline__ double number() const { return __longlong_as_double((long long)(bits)); }
    __device__ __forceinline__ double weight(int is_bool) const {
        return is_bool ? double(bits != 0) : mask_weight(__longlong_as_double((long long)(bits)));
    }
};
template <class A>
__device__ __forceinline__ MaskBits<A> load_mask_bits(const void* at, int is_bool) {
    if (is_bool) return {*static_cast<const unsigned char*>(at)};
    return *static_cast<const MaskBits<A>*>(at);
}
// The weight of an element of a tile's plane: what its mask [N, C, D, H, W] has there, or 1.
template <class A>
__device__ __forceinline__ A weight_at(const SsimParams<A>& p, const Tile& tile, int z, int y, int x) {
    if (!p.mask.data) return A(1);
    return load_mask_bits<A>(address(p.mask, tile, z, y, x), p.mask_is_bool).weight(p.mask_is_bool);
}
// Those at adjacent elements of a row; `wanted` has a bit for each. All are requested before anything waits for one.
template <int kCount, class A>
__device__ __forceinline__ void load_mask_row(const SsimParams<A>& p, const char* at, unsigned wanted,
                                              MaskBits<A> (&bits)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) bits[i] = {};
    if (p.mask_is_bool) {
#pragma unroll
        for (int i = 0; i < kCount; ++i)
            if (wanted >> i & 1) bits[i] = {*reinterpret_cast<const unsigned char*>(at + i * p.mask.w)};
    } else {
#pragma unroll
        for (int i = 0; i < kCount; ++i)
            if (wanted >> i & 1) bits[i] = *reinterpret_cast<const MaskBits<A>*>(at + i * p.mask.w);
    }
}

// The weights of kCount adjacent elements of a row of a mask, in two steps, between which other work is done.
template <class A, int kCount>
struct WeightsAhead {
    static constexpr unsigned kAll = (1u << kCount) - 1;
    MaskBits<A> bits[kCount];  // in_words: four weights in every fourth of these

    // `wanted` has a bit for each; the others are 0. `packed`: four of them are aligned.
    __device__ __forceinline__ static bool in_words(const SsimParams<A>& p, unsigned wanted, bool packed) {
        return kCount % 4 == 0 && packed && p.mask_is_bool && wanted == kAll;
    }
    // Loads those at `at` and behind it.
    __device__ __forceinline__ void request(const SsimParams<A>& p, const char* at, unsigned wanted, bool packed) {
        if (p.mask.w != (p.mask_is_bool ? 1 : int(sizeof(A)))) return load_mask_row(p, at, wanted, bits);
        if (in_words(p, wanted, packed)) {
#pragma unroll
            for (int i = 0; i < kCount; i += 4) bits[i].bits = *reinterpret_cast<const unsigned*>(at + i);
            return;
        }
        if (!p.mask_is_bool && kCount % 4 == 0 && packed && wanted == kAll) {
#pragma unroll
            for (int i = 0; i < kCount; i += 4) {
                MaskBits<A> four[4];
                Packed<MaskBits<A>>::load(at + i * sizeof(A), four);
#pragma unroll
                for (int k = 0; k < 4; ++k)
                    if (i + k < kCount) bits[i + k] = four[k];
            }
            return;
        }
#pragma unroll
        for (int i = 0; i < kCount; ++i) bits[i] = {};
        if (p.mask_is_bool) {
#pragma unroll
            for (int i = 0; i < kCount; ++i)
                if (wanted >> i & 1) bits[i] = {*reinterpret_cast<const unsigned char*>(at + i)};
        } else {
#pragma unroll
            for (int i = 0; i < kCount; ++i)
                if (wanted >> i & 1) bits[i] = *reinterpret_cast<const MaskBits<A>*>(at + i * sizeof(A));
        }
    }
    // Waits for them, and weighs: the sum of weights times values. Bytes only choose.
    __device__ __forceinline__ A sum_of(const SsimParams<A>& p, unsigned wanted, bool packed,
                                        const A (&values)[kCount]) const {
        A sum = A(0);
        if (in_words(p, wanted, packed)) {
#pragma unroll
            for (int i = 0; i < kCount; ++i) sum += bits[i / 4 * 4].bits >> 8 * (i % 4) & 0xff ? values[i] : A(0);
        } else if (p.mask_is_bool) {
#pragma unroll
            for (int i = 0; i < kCount; ++i) sum += bits[i].bits != 0 ? values[i] : A(0);
        } else {
#pragma unroll
            for (int i = 0; i < kCount; ++i) sum += weighted(bits[i].weight(false), values[i]);
        }
        return sum;
    }
    // Waits for them. All at once: a decision for each would be as many branches.
    __device__ __forceinline__ void get(const SsimParams<A>& p, unsigned wanted, bool packed,
                                        A (&weights)[kCount]) const {
        if (in_words(p, wanted, packed)) {
#pragma unroll
            for (int i = 0; i < kCount; ++i) weights[i] = A((bits[i / 4 * 4].bits >> 8 * (i % 4) & 0xff) != 0);
        } else if (p.mask_is_bool) {
#pragma unroll
            for (int i = 0; i < kCount; ++i) weights[i] = A(bits[i].bits != 0);
        } else {
#pragma unroll
            for (int i = 0; i < kCount; ++i) weights[i] = bits[i].weight(false);
        }
    }
};

// The factors of the gradients of SSIM and of |x - y| in a tile's plane: those of the launch, times the plane's
// upstream gradient, divided by the sums of the mask of the plane's group.
template <class A>
__device__ __forceinline__ void plane_scales(const SsimParams<A>& p, const Tile& tile, A& ssim, A& l1) {
    if (p.upstream == kUpstreamPlane) {
        const A upstream = Cursor<A>(p.grad_out, tile, 0, 0, 0).value();
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
           Cursor<A>(v, tile, block_of(z, p.depth), block_of(y, p.height), block_of(x, p.width)).value();
}

// Makes an image's element 0 if it is NaN or infinite. If a window that counts sees it, all partials around it are NaN,
// and so is its gradient. If a mask hides it from all of them, its partials are 0: then it must not be looked at.
template <class T>
__device__ __forceinline__ void hide_holes(typename Elements<T>::Raw& raw, const Format<arithmetic_t<T>>& format) {
    if (!is_finite(Elements<T>::value(raw, format))) raw = {};
}

// Whether a gradient has parts for add_to_gradient(), with this factor of the gradient of |x - y|.
template <class A>
__device__ __forceinline__ bool has_rare_parts(const SsimParams<A>& p, A l1_scale) {
    return p.coarse_x.data || p.is_normalized || (l1_scale != A(0) && (p.mask.data || p.upstream == kUpstreamMap));
}

// Adds what is rarely part of a gradient: the mask, the gradient of |x - y|, and the gradient of the pooled images.
// `mask` is the weight of the element; `l1` the gradient of |x - y| for a mask and an upstream gradient of 1. `scale`
// is what the gradient of SSIM has been multiplied by; it is only used if the mask normalises. kHasUpstream: `l1` has
// been multiplied by the upstream map, if there is one.
template <int G, bool kHasUpstream = false, class A>
__device__ __forceinline__ void add_to_gradient(const SsimParams<A>& p, const Tile& tile, int z, int y, int x, A mask,
                                                A l1, A scale, A& grad_x, A& grad_y) {
    if (p.mask.data) {
        l1 = weighted(mask, l1);
        if (p.is_normalized) {
            // 0, but NaN if the mean is one of nothing.
            const A excluded = A(0) * scale;
            grad_x = mask != A(0) ? mask * grad_x : excluded;
            if (G == 2) grad_y = mask != A(0) ? mask * grad_y : excluded;
        }
    }
    if (!kHasUpstream && p.upstream == kUpstreamMap && l1 != A(0)) l1 *= Cursor<A>(p.grad_out, tile, z, y, x).value();
    grad_x += l1 + coarse_gradient(p, p.coarse_x, tile, z, y, x);
    if (G == 2) grad_y += coarse_gradient(p, p.coarse_y, tile, z, y, x) - l1;
}

}  // namespace fusedssim
