// SPDX-License-Identifier: MIT
//
// The part of CUDA C++ that the kernels in src/cuda/ use, so that a compiler for the host accepts them. Included before
// them.
#pragma once

#include <cmath>
#include <cstring>

#include "simulator.h"

#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
// One block runs at a time.
#define __shared__ static

struct alignas(16) float4 {
    float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};

inline unsigned __float_as_uint(float v) {
    unsigned bits;
    std::memcpy(&bits, &v, sizeof bits);
    return bits;
}
inline long long __double_as_longlong(double v) {
    long long bits;
    std::memcpy(&bits, &v, sizeof bits);
    return bits;
}
inline double __longlong_as_double(long long bits) {
    double v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}
inline float __uint_as_float(unsigned bits) {
    float v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}

using simulator::blockDim;
using simulator::blockIdx;
using simulator::gridDim;
using simulator::threadIdx;

inline void __syncthreads() { simulator::wait(simulator::Reason::barrier); }
inline double __shfl_down_sync(unsigned, double value, unsigned lanes) { return simulator::shuffle_down(value, lanes); }
template <class A>
A __shfl_xor_sync(unsigned, A value, unsigned lanes) {
    return A(simulator::shuffle_xor(double(value), lanes));
}

// What elements.h says in PTX for a GPU.
namespace fusedssim {
constexpr bool kHasAsyncCopies = true;
inline float half_to_float(unsigned short bits) { return simulator::half_to_float(bits); }
inline unsigned short float_to_half(float v) { return simulator::float_to_half(v); }
inline int thread_again() { return int(threadIdx.x); }
inline int block_again() { return int(blockIdx.x); }
inline float multiply_add(float a, float b, float c) { return std::fma(a, b, c); }
inline double multiply_add(double a, double b, double c) { return std::fma(a, b, c); }
inline float of_warp(float v) { return v; }
inline double of_warp(double v) { return v; }
template <class A>
void largest_of_warp(A& v) {
    for (unsigned lanes = 16; lanes; lanes /= 2) v = std::fmax(v, __shfl_xor_sync(0xffffffffu, v, lanes));
}
inline void prefetch_line(const void*) {}
inline void set_to_any(float& v) { v = __uint_as_float(0x7fc00000); }
inline void set_to_any(double& v) { v = double(__uint_as_float(0x7fc00000)); }
template <class Words>
void store_words(Words* to, const Words& from) {
    *to = from;
}
template <class Words>
Words load_words(const Words* from) {
    simulator::wait(simulator::Reason::memory);
    return *from;
}
}  // namespace fusedssim
