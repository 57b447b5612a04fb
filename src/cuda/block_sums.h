// SPDX-License-Identifier: MIT
//
// From the values of threads to sums of blocks, and from those to the value of a group: always added up in the same order.
#pragma once

#include "device.h"

namespace fusedssim {

// The sum of one value a thread, written by the first of them.
template <int THREADS>
__device__ __forceinline__ void store_block_sum(double value, double* to) {
    __shared__ double warps[THREADS / 32];
#pragma unroll
    for (int lane = 16; lane; lane /= 2) value += __shfl_down_sync(0xffffffffu, value, lane);
    if ((threadIdx.x & 31) == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x == 0) {
        double sum = 0;
#pragma unroll
        for (int i = 0; i < THREADS / 32; ++i) sum += warps[i];
        *to = sum;
    }
}

// The sums of a block's threads, of DSSIM and, if it is wanted, of |x - y|.
template <int THREADS, class A>
__device__ __forceinline__ void store_block_sums(const SsimParams<A>& p, long long at, A dssim, A l1) {
    if (!p.sums) return;
    // The code once for both: it is in every kernel.
#pragma unroll 1
    for (int which = 0; which <= p.has_l1; ++which) {
        if (which) __syncthreads();
        store_block_sum<THREADS>(double(which ? l1 : dssim), p.sums + which * p.sums_stride + at);
    }
}

// The sum of `count` numbers, for all threads, of which each reads so many at a time.
template <int THREADS, int AT_ONCE>
__device__ __forceinline__ double ordered_sum(const double* values, long long count) {
    __shared__ double result;
    double sum = 0;
#pragma unroll AT_ONCE
    for (long long i = threadIdx.x; i < count; i += THREADS) sum += values[i];
    __syncthreads();
    store_block_sum<THREADS>(sum, &result);
    __syncthreads();
    return result;
}

template <class A>
__device__ __forceinline__ A& at_group(const ByteView& v, long long n, long long c) {
    return *reinterpret_cast<A*>(static_cast<char*>(v.data) + n * v.n + c * v.c);
}

// The value of a group, whose sums of blocks are these.
template <class A, int THREADS, int AT_ONCE>
__device__ __forceinline__ void write_value(const ReduceParams& p, long long group, const double* sums,
                                            long long count) {
    const double dssim = ordered_sum<THREADS, AT_ONCE>(sums, count);
    const double l1 = p.reduction.l1_weight != 0 ? ordered_sum<THREADS, AT_ONCE>(sums + p.sums_stride, count) : 0;
    if (threadIdx.x == 0) {
        const long long n = group / p.channels, c = group - n * p.channels;
        const double map_elements = p.mask_sums ? p.mask_sums[group] : p.map_elements;
        const double image_elements = p.mask_sums ? p.mask_sums[p.groups + group] : p.image_elements;
        at_group<A>(p.out, n, c) = A(reduced_value(p.reduction, dssim, l1, map_elements, image_elements));
    }
}

// The end of a block whose sums its first thread has written: the last block makes the value of them, if that is wanted.
// Blocks are begun in the order of their numbers, so that those it waits for do run.
template <int THREADS, class A>
__device__ __forceinline__ void finish_block(const SsimParams<A>& p, long long block) {
    const Completion& c = p.completion;
    if (!c.launch) return;
    if (block + 1 < p.blocks) {
        if (threadIdx.x == 0) store_release(c.tags + block, c.launch);
        return;
    }
    for (long long i = threadIdx.x; i < block; i += THREADS) {
        while (load_acquire(c.tags + i) != c.launch) {
        }
        c.tags[i] = 0;
    }
    __syncthreads();
    write_value<A, THREADS, 1>(c.reduce, 0, c.reduce.sums, c.reduce.sums_per_group);
}

}  // namespace fusedssim
