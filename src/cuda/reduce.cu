// SPDX-License-Identifier: MIT
//
// The small kernels: block sums -> values, sums of masks, the scaling of a finished gradient, and what MS-SSIM needs
// between its levels.
#include "block_sums.h"
#include "core/level_product.h"
#include "instances.h"

namespace fusedssim {

// The value of each group of blocks.
template <class A>
__device__ __forceinline__ void reduce_sums(const ReduceParams& p) {
    for (long long group = blockIdx.x; group < p.groups; group += gridDim.x) {
        long long first = group * p.sums_per_group, count = p.sums_per_group;
        if (!count) {
            first = p.partition.first_sum(group * p.sheets_per_group);
            count = p.partition.first_sum((group + 1) * p.sheets_per_group) - first;
        }
        write_value<A, kThreadsReduce, 4>(p, group, count, [&](long long i) { return p.sums[first + i]; });
    }
}

// Adds up the weights of a row of a mask with elements of type E, those from `begin` to `end` also in `map`. The
// threads of a warp share a row, 16 bytes at a time if they can.
template <class E>
__device__ __forceinline__ void sum_mask_row(const char* row, long long step, int width, int begin, int end,
                                             double& all, double& map) {
    constexpr int kPack = 16 / sizeof(E);
    const auto add = [&](E element, int x) {
        const double weight = mask_weight(element);
        all += weight;
        if (x >= begin && x < end) map += weight;
    };
    const int lane = int(threadIdx.x % 32);
    const bool is_packed = step == (long long)sizeof(E) && reinterpret_cast<unsigned long long>(row) % 16 == 0;
    const int packs = is_packed ? width / kPack : 0;
#pragma unroll 4
    for (int i = lane; i < packs; i += 32) {
        E elements[kPack];
        Packed<E, kPack>::load(row + 16 * i, elements);
        // Bytes are counted where all are in the map: to convert each would take longer than to load it.
        if (sizeof(E) == 1 && kPack * i >= begin && kPack * (i + 1) <= end) {
            int count = 0;
#pragma unroll
            for (int k = 0; k < kPack; ++k) count += elements[k] != 0;
            all += count;
            map += count;
        } else {
#pragma unroll
            for (int k = 0; k < kPack; ++k) add(elements[k], kPack * i + k);
        }
    }
    for (int x = kPack * packs + lane; x < width; x += 32) add(*reinterpret_cast<const E*>(row + x * step), x);
}

// The sums of a mask, over the map and over the image, for each part of each plane. A warp takes a row at a time, and
// the parts take turns.
template <class A>
__device__ __forceinline__ void sum_mask(const MaskParams& p) {
    constexpr int kWarps = kThreadsReduce / 32;
    for (long long block = blockIdx.x; block < p.planes * p.parts; block += gridDim.x) {
        const long long plane = block / p.parts;
        const Tile tile(plane, p.channels);
        const long long rows = (long long)p.depth * p.height, step = (long long)p.parts * kWarps;
        double all = 0, map = 0;
        for (long long row = block % p.parts * kWarps + threadIdx.x / 32; row < rows; row += step) {
            const int z = int(row / p.height), y = int(row % p.height);
            const bool in_map = y >= p.map_begin_y() && y < p.map_end_y() && z >= p.map_begin_z() && z < p.map_end_z();
            const int begin = p.map_begin_x(), end = in_map ? p.map_end_x() : begin;
            const char* const at = address(p.mask, tile, z, y, 0);
            if (p.mask_is_bool)
                sum_mask_row<unsigned char>(at, p.mask.w, p.width, begin, end, all, map);
            else
                sum_mask_row<A>(at, p.mask.w, p.width, begin, end, all, map);
        }
        store_block_sum<kThreadsReduce>(map, [&](double sum) { p.parts_sums[block] = sum; });
        __syncthreads();
        store_block_sum<kThreadsReduce>(all, [&](double sum) { p.parts_sums[p.planes * p.parts + block] = sum; });
        __syncthreads();
    }
}

// And for each group. Always in float64 (A), whatever the type of the mask.
template <class A>
__device__ __forceinline__ void reduce_mask(const MaskParams& p) {
    const long long per_group = p.planes * p.parts / p.groups;
    for (long long group = blockIdx.x; group < 2 * p.groups; group += gridDim.x) {
        const double sum =
            ordered_sum<kThreadsReduce, 4>(per_group, [&](long long i) { return p.parts_sums[group * per_group + i]; });
        if (threadIdx.x == 0) p.mask_sums[group] = p.repeats * sum;
    }
}

// grad = factor * scale * grad + coarse_factor * coarse. If nothing changes, memory is not touched.
template <class T>
__device__ __forceinline__ void scale(const ScaleParams& p) {
    using A = arithmetic_t<T>;
    const auto product_of = [&](long long n, long long c) {
        return A(p.factor *
                 (p.scale_is_f64 ? at_group<double>(p.scale, n, c) : double(at_group<float>(p.scale, n, c))));
    };
    if (p.flat) {
        const A product = product_of(0, 0);
        if (product == A(1)) return;
        constexpr int kCount = 16 / sizeof(T);  // elements of 16 bytes
        T* const grad = static_cast<T*>(p.grad.data);
        const long long first = (long long)blockIdx.x * kThreadsReduce + threadIdx.x, packs = p.flat / kCount;
        for (long long i = first; i < packs; i += (long long)gridDim.x * kThreadsReduce) {
            T in[kCount];
            A out[kCount];
            Packed<T, kCount>::load(grad + i * kCount, in);
#pragma unroll
            for (int k = 0; k < kCount; ++k) out[k] = product * to_arithmetic(in[k]);
            Packed<T, kCount>::store(grad + i * kCount, out);
        }
        if (const long long i = packs * kCount + first; i < p.flat)
            from_arithmetic(product * to_arithmetic(grad[i]), grad[i]);
        return;
    }
    // A warp takes a row at a time, four elements a thread if they are packed.
    constexpr int kWarps = kThreadsReduce / 32;
    const int lane = int(threadIdx.x % 32);
    for (long long row = (long long)blockIdx.x * kWarps + threadIdx.x / 32; row < p.rows;
         row += (long long)gridDim.x * kWarps) {
        long long rest = row;
        const long long h = rest % p.height;
        rest /= p.height;
        const long long d = rest % p.depth, plane = rest / p.depth;
        const long long n = plane / p.channels, c = plane - n * p.channels;
        const A product = product_of(n, c), factor = A(p.coarse_factor);
        const Tile tile(plane, p.channels);
        char* const row_at = address(p.grad, tile, int(d), int(h), 0);
        const char* coarse = nullptr;
        if (p.coarse.data)
            coarse = address(p.coarse, tile, block_of(int(d), p.depth), block_of(int(h), p.height), 0);
        else if (product == A(1))
            continue;
        if (p.packed) {
#pragma unroll 4
            for (int i = 4 * lane; i < p.width; i += 4 * 32) {
                T in[4];
                A two[2] = {}, out[4];
                Packed<T>::load(row_at + i * sizeof(T), in);
                if (coarse) Packed<A, 2>::load(coarse + i / 2 * sizeof(A), two);
#pragma unroll
                for (int k = 0; k < 4; ++k) {
                    out[k] = product * to_arithmetic(in[k]);
                    if (coarse) out[k] += factor * two[k / 2];
                }
                Packed<T>::store(row_at + i * sizeof(T), out);
            }
            continue;
        }
#pragma unroll 4
        for (int i = lane; i < p.width; i += 32) {
            T* const at = reinterpret_cast<T*>(row_at + i * p.grad.w);
            A value = product * to_arithmetic(*at);
            if (coarse) value += factor * *reinterpret_cast<const A*>(coarse + block_of(i, p.width) * p.coarse.w);
            from_arithmetic(value, *at);
        }
    }
}

// The averages of blocks (core/pooling.h). A warp makes a row at a time, each thread 4 adjacent elements.
template <class T>
__device__ __forceinline__ void pool(const PoolParams& p) {
    using A = arithmetic_t<T>;
    constexpr int kWarps = kThreadsReduce / 32;
    const Format<A> format = {p.dtype, A(p.scale)};
    for (long long row = (long long)blockIdx.x * kWarps + threadIdx.x / 32; row < p.rows;
         row += (long long)gridDim.x * kWarps) {
        long long rest = row;
        const int y = int(rest % p.out_height);
        rest /= p.out_height;
        const int z = int(rest % p.out_depth);
        const Tile tile(rest / p.out_depth, p.channels);
        const int first_y = first_of_block(y, p.height), first_z = p.is_3d ? first_of_block(z, p.depth) : 0;
        for (int x = 4 * int(threadIdx.x % 32); x < p.out_width; x += 4 * 32) {
            A sums[4] = {};
            for (int k = imax(first_z, 0); k < first_z + (p.is_3d ? 2 : 1); ++k)
#pragma unroll
                for (int j = 0; j < 2; ++j) {
                    if (first_y + j < 0) continue;
                    const Cursor<T> in(p.in, tile, k, first_y + j, first_of_block(x, p.width));
                    if (p.packed) {
                        typename Elements<T>::Raw raw[2][4];
                        Packed<T>::load(in.at, raw[0]);
                        Packed<T>::load(in.at + 4 * p.in.w, raw[1]);
#pragma unroll
                        for (int e = 0; e < 8; ++e) sums[e / 2] += Elements<T>::value(raw[e / 4][e % 4], format);
                    } else {
#pragma unroll
                        for (int e = 0; e < 8; ++e) {
                            const int column = first_of_block(x, p.width) + e;
                            if (column >= 0 && column < p.width)
                                sums[e / 2] += Elements<T>::value(in.load(0, e, format), format);
                        }
                    }
                }
            const A share = A(p.is_3d ? 0.125 : 0.25);
            const Cursor<A> out(p.out, tile, z, y, x);
#pragma unroll
            for (int c = 0; c < 4; ++c) sums[c] *= share;
            if (p.packed)
                Packed<A>::store(out.at, sums);
            else
#pragma unroll
                for (int c = 0; c < 4; ++c)
                    if (x + c < p.out_width) out.store(0, c, sums[c]);
        }
    }
}

// MS-SSIM of each plane, its derivatives by the means, and the values of the groups.
template <class A>
__device__ __forceinline__ void combine(const CombineParams& p) {
    for (long long group = blockIdx.x; group < p.groups; group += gridDim.x) {
        const double upstream = p.is_mean ? 1 / double(p.planes_per_group) : 1.0;
        double sum = 0;
        for (long long i = threadIdx.x; i < p.planes_per_group; i += kThreadsReduce) {
            const long long plane = group * p.planes_per_group + i;
            sum += level_product(static_cast<const A*>(p.means) + plane, p.weights, p.levels, p.planes, upstream,
                                 p.upstream ? static_cast<A*>(p.upstream) + plane : nullptr);
        }
        store_block_sum<kThreadsReduce>(sum * upstream, [&](double all) {
            const long long n = group / p.channels, c = group - n * p.channels;
            if (p.out.data) at_group<A>(p.out, n, c) = A(all);
        });
        __syncthreads();
    }
}

#define FUSEDSSIM_KERNEL(NAME, FAMILY, UNIT, PARAMS, TYPE, RADIUS, GRADS)                                 \
    extern "C" __global__ void __launch_bounds__(kThreadsReduce) NAME(const __grid_constant__ PARAMS p) { \
        FAMILY<TYPE>(p);                                                                                  \
    }
#define FUSEDSSIM_FAMILY(FAMILY, KERNELS) KERNELS(FUSEDSSIM_KERNEL)
FUSEDSSIM_REDUCE_FAMILIES(FUSEDSSIM_FAMILY)
#undef FUSEDSSIM_FAMILY
#undef FUSEDSSIM_KERNEL

}  // namespace fusedssim
