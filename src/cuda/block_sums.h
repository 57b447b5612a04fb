// SPDX-License-Identifier: MIT
//
// Sums: of the threads of a block, and of the blocks of a group. Always added up in the same order.
#pragma once

#include "device.h"

namespace fusedssim {

// Adds up one value of each thread. The first thread writes the sum.
template <int kThreads>
__device__ __forceinline__ void store_block_sum(double value, double* to) {
    __shared__ double warps[kThreads / 32];
#pragma unroll
    for (int lane = 16; lane; lane /= 2) value += __shfl_down_sync(0xffffffffu, value, lane);
    if ((threadIdx.x & 31) == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x == 0) {
        double sum = 0;
#pragma unroll
        for (int i = 0; i < kThreads / 32; ++i) sum += warps[i];
        *to = sum;
    }
}

// Writes a block's sum of DSSIM to p.sums[at] and, if it is wanted, that of |x - y| to p.sums[p.sums_stride + at].
template <int kThreads, class A>
__device__ __forceinline__ void store_block_sums(const SsimParams<A>& p, long long at, A dssim, A l1) {
    if (!p.sums) return;
    // A loop, so that this code stands once in each kernel and not twice.
#pragma unroll 1
    for (int which = 0; which <= p.has_l1; ++which) {
        if (which) __syncthreads();
        store_block_sum<kThreads>(double(which ? l1 : dssim), p.sums + which * p.sums_stride + at);
    }
}

// The same for a piece without rows.
template <class A>
__device__ __forceinline__ void store_no_sums(const SsimParams<A>& p, long long at) {
    if (threadIdx.x != 0 || !p.sums) return;
#pragma unroll 1
    for (int which = 0; which <= p.has_l1; ++which) p.sums[which * p.sums_stride + at] = 0;
}

// The sum of `count` numbers, which all threads get. A thread reads kAtOnce numbers before it adds them up.
template <int kThreads, int kAtOnce>
__device__ __forceinline__ double ordered_sum(const double* values, long long count) {
    __shared__ double result;
    double sum = 0;
#pragma unroll kAtOnce
    for (long long i = threadIdx.x; i < count; i += kThreads) sum += values[i];
    __syncthreads();
    store_block_sum<kThreads>(sum, &result);
    __syncthreads();
    return result;
}

template <class A>
__device__ __forceinline__ A& at_group(const ByteView& v, long long n, long long c) {
    return *reinterpret_cast<A*>(static_cast<char*>(v.data) + n * v.n + c * v.c);
}

// Writes the value of a group. `sums`: [count] of its blocks, those of |x - y| p.sums_stride further.
template <class A, int kThreads, int kAtOnce>
__device__ __forceinline__ void write_value(const ReduceParams& p, long long group, const double* sums,
                                            long long count) {
    const double dssim = ordered_sum<kThreads, kAtOnce>(sums, count);
    const double l1 = p.reduction.l1_weight != 0 ? ordered_sum<kThreads, kAtOnce>(sums + p.sums_stride, count) : 0;
    if (threadIdx.x == 0) {
        const long long n = group / p.channels, c = group - n * p.channels;
        const double map_elements = p.mask_sums ? p.mask_sums[group] : p.map_elements;
        const double image_elements = p.mask_sums ? p.mask_sums[p.groups + group] : p.image_elements;
        at_group<A>(p.out, n, c) = A(reduced_value(p.reduction, dssim, l1, map_elements, image_elements));
    }
}

// The end of a block, after its first thread has written its sums. If the launch has a Completion, the last block
// computes the value. It waits for all others: those run or are done already, because blocks start in the order of
// their numbers.
template <int kThreads, class A>
__device__ __forceinline__ void finish_block(const SsimParams<A>& p, long long block) {
    const Completion& c = p.completion;
    if (!c.launch) return;
    if (block + 1 < p.blocks) {
        if (threadIdx.x == 0) store_release(c.tags + block, c.launch);
        return;
    }
    for (long long i = threadIdx.x; i < block; i += kThreads) {
        while (load_acquire(c.tags + i) != c.launch) {
        }
        c.tags[i] = 0;
    }
    __syncthreads();
    write_value<A, kThreads, 1>(c.reduce, 0, c.reduce.sums, c.reduce.sums_per_group);
}

}  // namespace fusedssim
