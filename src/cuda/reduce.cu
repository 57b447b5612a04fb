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
            first = p.partition.first_sum(group * p.planes_per_group);
            count = p.partition.first_sum((group + 1) * p.planes_per_group) - first;
        }
        write_value<A, kThreadsReduce, 4>(p, group, p.sums + first, count);
    }
}

// The sums of a mask, over the map and over the image, for each part of each plane. Part i of n has the rows i, i + n,
// ...
template <class A>
__device__ __forceinline__ void sum_mask(const MaskParams& p) {
    for (long long block = blockIdx.x; block < p.planes * p.parts; block += gridDim.x) {
        const long long plane = block / p.parts;
        const Tile tile(plane, p.channels);
        const long long rows = (long long)p.depth * p.height;
        double all = 0, map = 0;
        for (long long row = block % p.parts; row < rows; row += p.parts) {
            const int z = int(row / p.height), y = int(row % p.height);
            const bool row_in_map =
                y >= p.map_begin_y() && y < p.map_end_y() && z >= p.map_begin_z() && z < p.map_end_z();
            for (int x = threadIdx.x; x < p.width; x += kThreadsReduce) {
                const double value = double(load_mask<A>(p.mask, p.mask_is_bool, tile, z, y, x));
                all += value;
                if (row_in_map && x >= p.map_begin_x() && x < p.map_end_x()) map += value;
            }
        }
        store_block_sum<kThreadsReduce>(map, p.parts_sums + block);
        __syncthreads();
        store_block_sum<kThreadsReduce>(all, p.parts_sums + p.planes * p.parts + block);
        __syncthreads();
    }
}

// And for each group. Always in float64 (A), whatever the type of the mask.
template <class A>
__device__ __forceinline__ void reduce_mask(const MaskParams& p) {
    const long long per_group = p.planes * p.parts / p.groups;
    for (long long group = blockIdx.x; group < 2 * p.groups; group += gridDim.x) {
        const double sum = ordered_sum<kThreadsReduce, 4>(p.parts_sums + group * per_group, per_group);
        if (threadIdx.x == 0) p.mask_sums[group] = sum;
    }
}

// grad *= factor * scale. If the product is 1, memory is not touched.
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
    for (long long row = blockIdx.x; row < p.rows; row += gridDim.x) {
        long long rest = row;
        const long long h = rest % p.height;
        rest /= p.height;
        const long long d = rest % p.depth, plane = rest / p.depth;
        const long long n = plane / p.channels, c = plane - n * p.channels;
        const A product = product_of(n, c);
        if (product == A(1)) continue;
        char* const row_at =
            static_cast<char*>(p.grad.data) + n * p.grad.n + c * p.grad.c + d * p.grad.d + h * p.grad.h;
        for (int i = threadIdx.x; i < p.width; i += kThreadsReduce) {
            T* const at = reinterpret_cast<T*>(row_at + i * p.grad.w);
            from_arithmetic(product * to_arithmetic(*at), *at);
        }
    }
}

// One thread computes one pooled element (core/pooling.h).
template <class T>
__device__ __forceinline__ void pool(const PoolParams& p) {
    using A = arithmetic_t<T>;
    const Format<A> format = {p.dtype, A(p.scale)};
    const long long step = (long long)gridDim.x * kThreadsReduce;
    for (long long i = (long long)blockIdx.x * kThreadsReduce + threadIdx.x; i < p.elements; i += step) {
        long long rest = i;
        const int x = int(rest % p.out_width);
        rest /= p.out_width;
        const int y = int(rest % p.out_height);
        rest /= p.out_height;
        const int z = int(rest % p.out_depth);
        rest /= p.out_depth;
        const Tile tile(rest, p.channels);
        const int first_x = first_of_block(x, p.width), first_y = first_of_block(y, p.height);
        const int first_z = p.is_3d ? first_of_block(z, p.depth) : 0;
        A sum = A(0);
        for (int k = first_z; k < first_z + (p.is_3d ? 2 : 1); ++k)
            for (int j = first_y; j < first_y + 2; ++j)
                for (int e = first_x; e < first_x + 2; ++e)
                    if (k >= 0 && j >= 0 && e >= 0) sum += Cursor<T>(p.in, tile, k, j, e).value(format);
        Cursor<A>(p.out, tile, z, y, x).store(0, 0, sum * A(p.is_3d ? 0.125 : 0.25));
    }
}

// MS-SSIM of each plane, its derivatives by the means, and the values of the groups.
template <class A>
__device__ __forceinline__ void combine(const CombineParams& p) {
    __shared__ double result;
    for (long long group = blockIdx.x; group < p.groups; group += gridDim.x) {
        const double upstream = p.is_mean ? 1 / double(p.planes_per_group) : 1.0;
        double sum = 0;
        for (long long i = threadIdx.x; i < p.planes_per_group; i += kThreadsReduce) {
            const long long plane = group * p.planes_per_group + i;
            sum += level_product(static_cast<const A*>(p.means) + plane, p.weights, p.levels, p.planes, upstream,
                                 p.upstream ? static_cast<A*>(p.upstream) + plane : nullptr);
        }
        store_block_sum<kThreadsReduce>(sum * upstream, &result);
        if (threadIdx.x == 0 && p.out.data) {
            const long long n = group / p.channels, c = group - n * p.channels;
            at_group<A>(p.out, n, c) = A(result);
        }
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
