// SPDX-License-Identifier: MIT
//
// Element types: sizes and names for the host, conversions for the CPU kernels. The conversions are branch-free integer
// arithmetic, so that compilers vectorise them on every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/ssim_math.h"
#include "fusedssim/fusedssim.h"

namespace fusedssim {

struct Float16 {
    std::uint16_t bits;
};
struct Bfloat16 {
    std::uint16_t bits;
};

constexpr const char* dtype_name(fusedssim_dtype dtype) {
    switch (dtype) {
        case FUSEDSSIM_FLOAT32: return "float32";
        case FUSEDSSIM_FLOAT64: return "float64";
        case FUSEDSSIM_FLOAT16: return "float16";
        case FUSEDSSIM_BFLOAT16: return "bfloat16";
        case FUSEDSSIM_BOOL: return "bool";
        default: return nullptr;
    }
}

constexpr std::size_t dtype_size(fusedssim_dtype dtype) {
    switch (dtype) {
        case FUSEDSSIM_FLOAT64: return 8;
        case FUSEDSSIM_FLOAT32: return 4;
        case FUSEDSSIM_BOOL: return 1;
        default: return 2;
    }
}

// The type in which images of `dtype` are computed, and that of `out` and `grad_out`.
constexpr fusedssim_dtype arithmetic_dtype(fusedssim_dtype dtype) {
    return dtype == FUSEDSSIM_FLOAT64 ? FUSEDSSIM_FLOAT64 : FUSEDSSIM_FLOAT32;
}

template <class To, class From>
FUSEDSSIM_MATH To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

FUSEDSSIM_MATH float to_float(float v) { return v; }
FUSEDSSIM_MATH double to_float(double v) { return v; }
FUSEDSSIM_MATH float to_float(Bfloat16 v) { return bit_cast<float>(std::uint32_t(v.bits) << 16); }
// Subnormals without a float that is one: a process may have those flushed to zero (code that gcc linked with -ffast-math does
// so, when it is loaded).
FUSEDSSIM_MATH float to_float(Float16 v) {
    // Shifted into place, the exponent is 112 too small.
    const std::uint32_t magnitude = std::uint32_t(v.bits & 0x7fffu) << 13;
    // That of a subnormal counts from 2^-14, which has no leading 1.
    const float subnormal = bit_cast<float>(magnitude + 0x38800000u) - bit_cast<float>(0x38800000u);
    const std::uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;  // infinity, NaN
    const std::uint32_t normal = (magnitude + 0x38000000u) | special;
    const std::uint32_t bits = magnitude < 0x00800000u ? bit_cast<std::uint32_t>(subnormal) : normal;
    return bit_cast<float>(bits | std::uint32_t(v.bits & 0x8000u) << 16);
}

// Round to nearest even; NaN stays NaN.
FUSEDSSIM_MATH void from_float(float v, float& out) { out = v; }
FUSEDSSIM_MATH void from_float(double v, double& out) { out = v; }
FUSEDSSIM_MATH void from_float(float v, Bfloat16& out) {
    const std::uint32_t bits = bit_cast<std::uint32_t>(v);
    const std::uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    const std::uint32_t nan = bits | 0x400000u;
    out.bits = std::uint16_t(((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded) >> 16);
}
FUSEDSSIM_MATH void from_float(float v, Float16& out) {
    const std::uint32_t bits = bit_cast<std::uint32_t>(v), magnitude = bits & 0x7fffffffu;
    // Normal results: rebias the exponent, round at bit 13. Overflow carries into infinity.
    const std::uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // Subnormal results: adding 0.5 lets the addition round at 2^-24.
    const std::uint32_t subnormal = bit_cast<std::uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const std::uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    out.bits = std::uint16_t((magnitude >= 0x47800000u ? special : finite) | (bits >> 16 & 0x8000u));
}

// Calls f with a value of the C++ type that dtype stands for.
template <class F>
void dispatch_dtype(fusedssim_dtype dtype, F&& f) {
    switch (dtype) {
        case FUSEDSSIM_FLOAT64: f(double()); break;
        case FUSEDSSIM_FLOAT16: f(Float16()); break;
        case FUSEDSSIM_BFLOAT16: f(Bfloat16()); break;
        default: f(float()); break;
    }
}

// The type in which elements of type T are computed.
template <class T>
struct Arithmetic {
    using type = float;
};
template <>
struct Arithmetic<double> {
    using type = double;
};
template <class T>
using arithmetic_t = typename Arithmetic<T>::type;

}  // namespace fusedssim
