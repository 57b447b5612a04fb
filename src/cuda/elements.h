// SPDX-License-Identifier: MIT
//
// Element types: what a kernel loads, computes with and stores; and what C++ has no words for.
#pragma once

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

// Begins to bring what an address holds nearer. No thread waits for it, and it needs no register.
__device__ __forceinline__ void prefetch_line(const void* at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at)); }

// Two words that other blocks of the same launch write or read. Either may arrive before the other.
__device__ __forceinline__ void store_words(SealedSum* to, const SealedSum& from) {
    asm volatile("st.relaxed.gpu.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(from.number), "l"(from.sealed) : "memory");
}
__device__ __forceinline__ SealedSum load_words(const SealedSum* from) {
    SealedSum to;
    asm volatile("ld.relaxed.gpu.v2.u64 {%0, %1}, [%2];" : "=l"(to.number), "=l"(to.sealed) : "l"(from) : "memory");
    return to;
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
// Values alone: integers have no gradient.
struct u8 {
    unsigned char bits;
};
// Each image of any dtype, decided at run time, in float and in double arithmetic. Kernels of these types are general:
// see params.h.
struct any;
struct any64;
template <class T>
constexpr bool is_general = false;
template <>
constexpr bool is_general<any> = true;
template <>
constexpr bool is_general<any64> = true;

template <class T>
struct Arithmetic {
    using type = float;
};
template <>
struct Arithmetic<f64> {
    using type = double;
};
template <>
struct Arithmetic<any64> {
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

// Loads and stores of elements of type T. A general kernel asks the image's format. A Raw value is what a load
// delivers. It becomes a number where it is used, so that the loads of a loop can all be under way before the first is
// needed.
template <class T>
struct Elements {
    using Raw = T;
    using A = arithmetic_t<T>;
    __device__ __forceinline__ static Raw load(const void* at, const Format<A>&) { return *static_cast<const T*>(at); }
    __device__ __forceinline__ static A value(Raw raw, const Format<A>&) { return to_arithmetic(raw); }
    __device__ __forceinline__ static void store(void* at, const Format<A>&, A v) {
        from_arithmetic(v, *static_cast<T*>(at));
    }
};
template <>
struct Elements<u8> {
    using Raw = u8;
    __device__ __forceinline__ static Raw load(const void* at, const Format<float>&) {
        return *static_cast<const u8*>(at);
    }
    __device__ __forceinline__ static float value(Raw raw, const Format<float>& format) {
        return format.scale * float(raw.bits);
    }
};
// Raw is the bits of an element, whose dtype says what they mean. Zero bits are a zero of every dtype.
template <>
struct Elements<any> {
    using Raw = unsigned;
    __device__ __forceinline__ static Raw load(const void* at, const Format<float>& format) {
        Raw raw[1] = {};
        Elements::load(raw, format, [](int) { return true; }, [=](int) { return at; });
        return raw[0];
    }
    __device__ __forceinline__ static float value(Raw raw, const Format<float>& format) {
        float value[1];
        const Raw all[1] = {raw};
        values(all, format, value);
        return value[0];
    }
    // Several at once, so that there is one branch for all. at(i) is the address of element i. If not wanted(i), it is
    // not asked for, and the element stays as it is.
    template <class Bits, int kCount, class Wanted, class At>
    __device__ __forceinline__ static void load_bits(Raw (&raw)[kCount], Wanted wanted, At at) {
#pragma unroll
        for (int i = 0; i < kCount; ++i)
            if (wanted(i)) raw[i] = *static_cast<const Bits*>(static_cast<const void*>(at(i)));
    }
    template <int kCount, class Wanted, class At>
    __device__ __forceinline__ static void load(Raw (&raw)[kCount], const Format<float>& format, Wanted wanted, At at) {
        switch (format.dtype) {
            case Dtype::uint8: return load_bits<unsigned char>(raw, wanted, at);
            case Dtype::float16:
            case Dtype::bfloat16:
            case Dtype::uint16:
            case Dtype::int16: return load_bits<unsigned short>(raw, wanted, at);
            default: return load_bits<unsigned>(raw, wanted, at);
        }
    }
    template <int kCount, class Convert>
    __device__ __forceinline__ static void convert_all(const Raw (&raw)[kCount], float (&value)[kCount],
                                                       Convert convert) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) value[i] = convert(raw[i]);
    }
    template <int kCount>
    __device__ __forceinline__ static void values(const Raw (&raw)[kCount], const Format<float>& format,
                                                  float (&value)[kCount]) {
        switch (format.dtype) {
            case Dtype::uint8:
            case Dtype::uint16: return convert_all(raw, value, [&](Raw v) { return format.scale * float(v); });
            case Dtype::int16:
                return convert_all(raw, value, [&](Raw v) { return format.scale * float(int(short(v))); });
            case Dtype::float16:
                return convert_all(raw, value, [](Raw v) { return half_to_float((unsigned short)(v)); });
            case Dtype::bfloat16: return convert_all(raw, value, [](Raw v) { return __uint_as_float(v << 16); });
            default: return convert_all(raw, value, [](Raw v) { return __uint_as_float(v); });
        }
    }
    __device__ __forceinline__ static void store(void* at, const Format<float>& format, float v) {
        switch (format.dtype) {
            case Dtype::float16: return from_arithmetic(v, *static_cast<f16*>(at));
            case Dtype::bfloat16: return from_arithmetic(v, *static_cast<bf16*>(at));
            default: return from_arithmetic(v, *static_cast<float*>(at));
        }
    }
};
template <>
struct Elements<any64> {
    using Raw = unsigned long long;
    using Narrow = Elements<any>;
    __device__ __forceinline__ static Raw load(const void* at, const Format<double>& format) {
        Raw raw[1] = {};
        Elements::load(raw, format, [](int) { return true; }, [=](int) { return at; });
        return raw[0];
    }
    __device__ __forceinline__ static double value(Raw raw, const Format<double>& format) {
        double value[1];
        const Raw all[1] = {raw};
        values(all, format, value);
        return value[0];
    }
    template <int kCount, class Wanted, class At>
    __device__ __forceinline__ static void load(Raw (&raw)[kCount], const Format<double>& format, Wanted wanted,
                                                At at) {
        if (format.dtype == Dtype::float64) {
#pragma unroll
            for (int i = 0; i < kCount; ++i)
                if (wanted(i)) raw[i] = *static_cast<const Raw*>(static_cast<const void*>(at(i)));
            return;
        }
        Narrow::Raw narrow[kCount] = {};
        Narrow::load(narrow, {format.dtype, 1.0f}, wanted, at);
#pragma unroll
        for (int i = 0; i < kCount; ++i) raw[i] = narrow[i];
    }
    template <int kCount>
    __device__ __forceinline__ static void values(const Raw (&raw)[kCount], const Format<double>& format,
                                                  double (&value)[kCount]) {
        if (format.dtype == Dtype::float64) {
#pragma unroll
            for (int i = 0; i < kCount; ++i) value[i] = __longlong_as_double((long long)(raw[i]));
            return;
        }
        Narrow::Raw bits[kCount];
        float narrow[kCount];
#pragma unroll
        for (int i = 0; i < kCount; ++i) bits[i] = Narrow::Raw(raw[i]);
        Narrow::values(bits, {format.dtype, 1.0f}, narrow);
#pragma unroll
        for (int i = 0; i < kCount; ++i) value[i] = format.scale * double(narrow[i]);
    }
    __device__ __forceinline__ static void store(void* at, const Format<double>& format, double v) {
        if (format.dtype == Dtype::float64) return from_arithmetic(v, *static_cast<double*>(at));
        Narrow::store(at, {format.dtype, 1.0f}, float(v));
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
// General kernels are asked for packed access if the elements are numbers of their arithmetic.
template <int kCount>
struct Packed<any, kCount> {
    __device__ __forceinline__ static void load(const void* at, unsigned (&to)[kCount]) {
        Packed<unsigned, kCount>::load(at, to);
    }
    __device__ __forceinline__ static void store(void* at, const float (&from)[kCount]) {
        Packed<f32, kCount>::store(at, from);
    }
};
template <int kCount>
struct Packed<any64, kCount> {
    __device__ __forceinline__ static void load(const void* at, unsigned long long (&to)[kCount]) {
        Packed<unsigned long long, kCount>::load(at, to);
    }
    __device__ __forceinline__ static void store(void* at, const double (&from)[kCount]) {
        Packed<f64, kCount>::store(at, from);
    }
};

// kCount adjacent elements of a row that are being loaded.
template <class T, int kCount>
struct RawRow {
    using Raw = typename Elements<T>::Raw;
    Raw v[kCount];
    __device__ __forceinline__ Raw get(int i) const { return v[i]; }
    __device__ __forceinline__ void set(int i, Raw raw) { v[i] = raw; }
    // All by one instruction.
    __device__ __forceinline__ void load(const void* at) { Packed<T, kCount>::load(at, v); }
};
// Pairs of short elements stay one word until one of them is asked for: whoever takes a word apart waits for it.
template <class T, class Bits, class Word>
struct RawPairInWord {
    static constexpr int kShift = 8 * sizeof(Bits);
    unsigned word;
    __device__ __forceinline__ T get(int i) const { return {Bits(word >> i * kShift)}; }
    __device__ __forceinline__ void set(int i, T raw) {
        constexpr unsigned kFirst = (1u << kShift) - 1;
        word = (word & (i ? kFirst : kFirst << kShift)) | unsigned(raw.bits) << i * kShift;
    }
    __device__ __forceinline__ void load(const void* at) { word = *static_cast<const Word*>(at); }
};
template <>
struct RawRow<f16, 2> : RawPairInWord<f16, unsigned short, unsigned> {};
template <>
struct RawRow<bf16, 2> : RawPairInWord<bf16, unsigned short, unsigned> {};
template <>
struct RawRow<u8, 2> : RawPairInWord<u8, unsigned char, unsigned short> {};

}  // namespace fusedssim
