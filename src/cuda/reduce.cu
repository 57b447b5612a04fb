// SPDX-License-Identifier: MIT
//
// The two small kernels: block sums -> values, and the scaling of a finished gradient.
#include "device.h"
#include "instances.h"

namespace fusedssim {

// out = base - 2 * sum / divisor for each group of blocks, added up in a fixed order.
template <class A>
__device__ __forceinline__ void reduce_sums(const ReduceParams& p) {
    __shared__ double result;
    for (long long group = blockIdx.x; group < p.groups; group += gridDim.x) {
        const double* sums = p.sums + group * p.blocks_per_group;
        double sum = 0;
        for (long long i = threadIdx.x; i < p.blocks_per_group; i += kThreadsReduce) sum += sums[i];
        store_block_sum<kThreadsReduce>(sum, &result, 0);
        if (threadIdx.x == 0) {
            const long long n = group / p.channels, c = group - n * p.channels;
            static_cast<A*>(p.out.data)[n * p.out.n + c * p.out.c] = A(p.base - 2 * result / p.divisor);
        }
        __syncthreads();
    }
}

// grad *= factor * scale, row by row; a product of 1 leaves memory untouched.
template <class T>
__device__ __forceinline__ void scale(const ScaleParams& p) {
    using A = arithmetic_t<T>;
    for (long long row = blockIdx.x; row < p.rows; row += gridDim.x) {
        long long rest = row;
        const long long h = rest % p.height;
        rest /= p.height;
        const long long d = rest % p.depth, plane = rest / p.depth;
        const long long n = plane / p.channels, c = plane - n * p.channels;
        const long long at = n * p.scale.n + c * p.scale.c;
        const double scale = p.scale_is_f64 ? static_cast<const double*>(p.scale.data)[at]
                                            : double(static_cast<const float*>(p.scale.data)[at]);
        const A product = A(p.factor * scale);
        if (product == A(1)) continue;
        const long long row_at = n * p.grad.n + c * p.grad.c + d * p.grad.d + h * p.grad.h;
        for (int i = threadIdx.x; i < p.width; i += kThreadsReduce) {
            T* const at = static_cast<T*>(p.grad.data) + row_at + i * p.grad.w;
            from_arithmetic(product * to_arithmetic(*at), *at);
        }
    }
}

#define FUSEDSSIM_DEFINE_REDUCE(TYPE)                                \
    extern "C" __global__ void __launch_bounds__(kThreadsReduce)     \
        reduce_sums_##TYPE(const __grid_constant__ ReduceParams p) { \
        reduce_sums<TYPE>(p);                                        \
    }
FUSEDSSIM_REDUCE_KERNELS(FUSEDSSIM_DEFINE_REDUCE)

#define FUSEDSSIM_DEFINE_SCALE(TYPE)                                                                                   \
    extern "C" __global__ void __launch_bounds__(kThreadsReduce) scale_##TYPE(const __grid_constant__ ScaleParams p) { \
        scale<TYPE>(p);                                                                                                \
    }
FUSEDSSIM_SCALE_KERNELS(FUSEDSSIM_DEFINE_SCALE)

}  // namespace fusedssim
