// SPDX-License-Identifier: MIT
//
// Dtypes: sizes and names for the host, element types and conversions for the CPU kernels. The conversions are
// branch-free integer arithmetic, so that compilers vectorise them on every instruction set.
//
// No switch here has a `default`: -Wswitch names each that a new Dtype lacks. A value that is no Dtype fails.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/ssim_math.h"
#include "core/view.h"
#include "fusedssim/fusedssim.h"

namespace fusedssim {

static_assert(int(Dtype::float32) == FUSEDSSIM_FLOAT32 && int(Dtype::float64) == FUSEDSSIM_FLOAT64 &&
              int(Dtype::float16) == FUSEDSSIM_FLOAT16 && int(Dtype::bfloat16) == FUSEDSSIM_BFLOAT16 &&
              int(Dtype::boolean) == FUSEDSSIM_BOOL && int(Dtype::uint8) == FUSEDSSIM_UINT8 &&
              int(Dtype::uint16) == FUSEDSSIM_UINT16 && int(Dtype::int16) == FUSEDSSIM_INT16);

struct Float16 {
    std::uint16_t bits;
};
struct Bfloat16 {
    std::uint16_t bits;
};

// Fails: the value has no case where it has come to. In error.cpp: the CPU kernels include this, but no std templates.
[[noreturn]] void unexpected_dtype(Dtype dtype);

// NULL if the value is no Dtype.
FUSEDSSIM_MATH const char* dtype_name(Dtype dtype) {
    switch (dtype) {
        case Dtype::float32: return "float32";
        case Dtype::float64: return "float64";
        case Dtype::float16: return "float16";
        case Dtype::bfloat16: return "bfloat16";
        case Dtype::boolean: return "bool";
        case Dtype::uint8: return "uint8";
        case Dtype::uint16: return "uint16";
        case Dtype::int16: return "int16";
    }
    return nullptr;
}

FUSEDSSIM_MATH std::size_t dtype_size(Dtype dtype) {
    switch (dtype) {
        case Dtype::float32: return 4;
        case Dtype::float64: return 8;
        case Dtype::float16: return 2;
        case Dtype::bfloat16: return 2;
        case Dtype::boolean: return 1;
        case Dtype::uint8: return 1;
        case Dtype::uint16: return 2;
        case Dtype::int16: return 2;
    }
    unexpected_dtype(dtype);
}

FUSEDSSIM_MATH bool is_integer(Dtype dtype) {
    switch (dtype) {
        case Dtype::float32:
        case Dtype::float64:
        case Dtype::float16:
        case Dtype::bfloat16:
        case Dtype::boolean: return false;
        case Dtype::uint8:
        case Dtype::uint16:
        case Dtype::int16: return true;
    }
    unexpected_dtype(dtype);
}

// The type in which an image of `dtype` is computed, unless another image or params.arithmetic wants more. The public
// header makes the decision.
FUSEDSSIM_CONSTEXPR Dtype arithmetic_dtype(Dtype dtype) {
    const fusedssim_dtype of_images = fusedssim_arithmetic_dtype(int(dtype));
    if (of_images < 0) unexpected_dtype(dtype);
    return Dtype(of_images);
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
FUSEDSSIM_MATH float to_float(std::uint8_t v) { return float(v); }
FUSEDSSIM_MATH float to_float(std::uint16_t v) { return float(v); }
FUSEDSSIM_MATH float to_float(std::int16_t v) { return float(v); }
FUSEDSSIM_MATH float to_float(Bfloat16 v) { return bit_cast<float>(std::uint32_t(v.bits) << 16); }
// Subnormals are made without a subnormal float, since a process may have those flushed to zero. (Loading a library
// that GCC linked with -ffast-math does that.)
FUSEDSSIM_MATH float to_float(Float16 v) {
    // Shifted into place, the exponent is 112 too small.
    const std::uint32_t magnitude = std::uint32_t(v.bits & 0x7fffu) << 13;
    // A subnormal has no leading 1, and its exponent is that of 2^-14.
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

// Calls f with a value of the C++ type of an image's elements.
template <class F>
void dispatch_dtype(Dtype dtype, F&& f) {
    switch (dtype) {
        case Dtype::float32: return f(float());
        case Dtype::float64: return f(double());
        case Dtype::float16: return f(Float16());
        case Dtype::bfloat16: return f(Bfloat16());
        case Dtype::uint8: return f(std::uint8_t());
        case Dtype::uint16: return f(std::uint16_t());
        case Dtype::int16: return f(std::int16_t());
        case Dtype::boolean: break;  // for masks only
    }
    unexpected_dtype(dtype);
}

// The same for those that gradients can have.
template <class F>
void dispatch_grad_dtype(Dtype dtype, F&& f) {
    switch (dtype) {
        case Dtype::float32: return f(float());
        case Dtype::float64: return f(double());
        case Dtype::float16: return f(Float16());
        case Dtype::bfloat16: return f(Bfloat16());
        case Dtype::boolean:
        case Dtype::uint8:
        case Dtype::uint16:
        case Dtype::int16: break;
    }
    unexpected_dtype(dtype);
}

// The same for the type of the arithmetic.
template <class F>
void dispatch_arithmetic(Dtype dtype, F&& f) {
    switch (dtype) {
        case Dtype::float32: return f(float());
        case Dtype::float64: return f(double());
        case Dtype::float16:
        case Dtype::bfloat16:
        case Dtype::boolean:
        case Dtype::uint8:
        case Dtype::uint16:
        case Dtype::int16: break;
    }
    unexpected_dtype(dtype);
}

// The type of the arithmetic for an image with elements of type T, unless more is wanted.
template <class T>
struct ArithmeticOf {
    using type = float;
};
template <>
struct ArithmeticOf<double> {
    using type = double;
};
template <class T>
using arithmetic_t = typename ArithmeticOf<T>::type;

}  // namespace fusedssim
