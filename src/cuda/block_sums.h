// SPDX-License-Identifier: MIT
//
// Sums: of the threads of a block, and of the blocks of a group. Always added up in the same order.
#pragma once

#include "device.h"

namespace fusedssim {

// Adds up one value of each thread. The first thread passes the sum to store().
template <int kThreads, class Store>
__device__ __forceinline__ void store_block_sum(double value, Store store) {
    __shared__ double warps[kThreads / 32];
#pragma unroll
    for (int lane = 16; lane; lane /= 2) value += __shfl_down_sync(0xffffffffu, value, lane);
    if ((threadIdx.x & 31) == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x == 0) {
        double sum = 0;
#pragma unroll
        for (int i = 0; i < kThreads / 32; ++i) sum += warps[i];
        store(sum);
    }
}

// Writes number `at` of all sums of DSSIM (which = 0) or |x - y| (1).
template <class A>
__device__ __forceinline__ void store_sum(const SsimParams<A>& p, int which, long long at, double sum) {
    const long long i = which * p.sums_stride + at;
    if (p.completion.launch) {
        const auto number = (unsigned long long)(__double_as_longlong(sum));
        store_words(p.completion.sums + i, {number, number ^ p.completion.launch});
    } else {
        p.sums[i] = sum;
    }
}
// Writes a block's sum of DSSIM, number `at` of all, and, if it is wanted, that of |x - y|.
template <int kThreads, class A>
__device__ __forceinline__ void store_block_sums(const SsimParams<A>& p, long long at, A dssim, A l1) {
    if (!p.sums) return;
    // A loop, so that this code stands once in each kernel and not twice.
#pragma unroll 1
    for (int which = 0; which <= p.has_l1; ++which) {
        if (which) __syncthreads();
        store_block_sum<kThreads>(double(which ? l1 : dssim), [&](double sum) { store_sum(p, which, at, sum); });
    }
}
// The same for a piece without rows.
template <class A>
__device__ __forceinline__ void store_no_sums(const SsimParams<A>& p, long long at) {
    if (threadIdx.x != 0 || !p.sums) return;
#pragma unroll 1
    for (int which = 0; which <= p.has_l1; ++which) store_sum(p, which, at, 0);
}

// The sum of value(0), value(1), ..., which all threads get. A thread asks for kAtOnce of them before it adds them up.
template <int kThreads, int kAtOnce, class Value>
__device__ __forceinline__ double ordered_sum(long long count, Value value) {
    __shared__ double result;
    double sum = 0;
#pragma unroll kAtOnce
    for (long long i = threadIdx.x; i < count; i += kThreads) sum += value(i);
    __syncthreads();
    store_block_sum<kThreads>(sum, [&](double all) { result = all; });
    __syncthreads();
    return result;
}

template <class A>
__device__ __forceinline__ A& at_group(const ByteView& v, long long n, long long c) {
    return *reinterpret_cast<A*>(static_cast<char*>(v.data) + n * v.n + c * v.c);
}

// Writes the value of a group. sum_at(0), sum_at(1), ...: the sums of its `count` blocks; those of |x - y| stand
// p.sums_stride further.
template <class A, int kThreads, int kAtOnce, class SumAt>
__device__ __forceinline__ void write_value(const ReduceParams& p, long long group, long long count, SumAt sum_at) {
    const double dssim = ordered_sum<kThreads, kAtOnce>(count, sum_at);
    double l1 = 0;
    if (p.reduction.l1_weight != 0)
        l1 = ordered_sum<kThreads, kAtOnce>(count, [&](long long i) { return sum_at(p.sums_stride + i); });
    if (threadIdx.x == 0) {
        const long long n = group / p.channels, c = group - n * p.channels;
        const double map_elements = p.mask_sums ? p.mask_sums[group] : p.map_elements;
        const double image_elements = p.mask_sums ? p.mask_sums[p.groups + group] : p.image_elements;
        at_group<A>(p.out, n, c) = A(reduced_value(p.reduction, dssim, l1, map_elements, image_elements));
    }
}

// The end of a block, after its first thread has written its sums. If the launch has a Completion, the last block
// computes the value. It waits for the sums of all others: those run or are done already, because blocks start in the
// order of their numbers.
template <int kThreads, class A>
__device__ __forceinline__ void finish_block(const SsimParams<A>& p, long long block) {
    const Completion& c = p.completion;
    if (!c.launch || block + 1 < p.blocks) return;
    write_value<A, kThreads, 1>(c.reduce, 0, c.reduce.sums_per_group, [&](long long i) {
        SealedSum found;
        do {
            found = load_words(c.sums + i);
        } while ((found.number ^ found.sealed) != c.launch);
        c.sums[i] = {0, 0};
        return __longlong_as_double((long long)(found.number));
    });
}

}  // namespace fusedssim
