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
    store_block_sum<THREADS>(double(dssim), p.sums + at);
    if (p.has_l1) {
        __syncthreads();
        store_block_sum<THREADS>(double(l1), p.sums + p.sums_stride + at);
    }
}

// The sum of `count` numbers, for all threads.
template <int THREADS>
__device__ __forceinline__ double ordered_sum(const double* values, long long count) {
    __shared__ double result;
    double sum = 0;
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

// The value of a group of blocks.
template <class A, int THREADS>
__device__ __forceinline__ void reduce_group(const ReduceParams& p, long long group) {
    long long first = group * p.sums_per_group, count = p.sums_per_group;
    if (!count) {
        first = p.partition.first_sum(group * p.planes_per_group);
        count = p.partition.first_sum((group + 1) * p.planes_per_group) - first;
    }
    const double dssim = ordered_sum<THREADS>(p.sums + first, count);
    const double l1 = p.reduction.l1_weight != 0 ? ordered_sum<THREADS>(p.sums + p.sums_stride + first, count) : 0;
    if (threadIdx.x == 0) {
        const long long n = group / p.channels, c = group - n * p.channels;
        const double map_elements = p.mask_sums ? p.mask_sums[group] : p.map_elements;
        const double image_elements = p.mask_sums ? p.mask_sums[p.groups + group] : p.image_elements;
        at_group<A>(p.out, n, c) = A(reduced_value(p.reduction, dssim, l1, map_elements, image_elements));
    }
}

// The end of a block whose sums its first thread has written: the last block makes the value of them, if that is wanted.
// Blocks are begun in the order of their numbers, so that those it waits for do run.
template <class A, int THREADS>
__device__ __forceinline__ void finish_block(const SsimParams<A>& p, long long block) {
    const Completion& c = p.completion;
    if (!c.launch) return;
    if (threadIdx.x == 0) store_release(c.tags + block, c.launch);
    if (block + 1 < p.blocks) return;
    for (long long i = threadIdx.x; i < p.blocks; i += THREADS) {
        while (load_acquire(c.tags + i) != c.launch) {
        }
        c.tags[i] = 0;
    }
    __syncthreads();
    reduce_group<A, THREADS>(c.reduce, 0);
}

}  // namespace fusedssim
