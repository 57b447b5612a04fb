// SPDX-License-Identifier: MIT
//
// Memory that fits a tensor to the byte: what is read outside of it stops the address sanitizer, what is written
// outside of its elements is found by comparing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "fusedssim/fusedssim.h"

namespace fuzz {

__extension__ using Wide = __int128;

constexpr std::int64_t kMostBytes = std::int64_t(1) << 22;
constexpr std::int64_t kMostElements = 100000;
constexpr std::size_t kCanary = 64;  // bytes on either side of an output; keeps its alignment

inline std::size_t element_size(fusedssim_dtype dtype) {
    switch (dtype) {
        case FUSEDSSIM_FLOAT32: return 4;
        case FUSEDSSIM_FLOAT16:
        case FUSEDSSIM_BFLOAT16:
        case FUSEDSSIM_UINT16:
        case FUSEDSSIM_INT16: return 2;
        case FUSEDSSIM_BOOL:
        case FUSEDSSIM_UINT8: return 1;
        default: return 8;
    }
}

// What a tensor's shape and strides reach, in elements from its data.
struct Reach {
    Wide low = 0, high = 0, elements = 1;
    bool is_wrong = false;  // ndim or a size is none that a tensor can have

    explicit Reach(const fusedssim_tensor& t) {
        is_wrong = t.ndim < 0 || t.ndim > FUSEDSSIM_MAX_NDIM;
        for (int i = 0; !is_wrong && i < t.ndim; ++i) {
            if (t.shape[i] < 1) {
                is_wrong = true;
                break;
            }
            if (elements < Wide(1) << 64) elements *= t.shape[i];
            const Wide step = Wide(t.shape[i] - 1) * t.stride[i], most = Wide(1) << 100;  // larger ones overflow
            if (step < 0)
                low += std::max(step, -most);
            else
                high += std::min(step, most);
        }
        if (is_wrong) low = high = 0, elements = 1;
    }
    Wide bytes(std::size_t size) const { return (high - low + 1) * Wide(size); }
    bool fits(std::size_t size) const { return elements <= kMostElements && bytes(size) <= kMostBytes; }
    // Larger than any memory of a computer: no tensor can be so, and the library can tell.
    bool is_impossible(std::size_t size) const { return bytes(size) > Wide(1) << 62; }
};

// Calls f(offset in elements, number) for each element, the last axis fastest.
template <class F>
void for_each_element(const fusedssim_tensor& t, F&& f) {
    std::int64_t index[FUSEDSSIM_MAX_NDIM] = {}, number = 0;
    for (;;) {
        std::int64_t offset = 0;
        for (int i = 0; i < t.ndim; ++i) offset += index[i] * t.stride[i];
        f(offset, number++);
        int axis = t.ndim - 1;
        while (axis >= 0 && ++index[axis] == t.shape[axis]) index[axis--] = 0;
        if (axis < 0) return;
    }
}

class Block {
public:
    Block() = default;
    // For an input exactly what the tensor reaches, after `lead` bytes; for an output canaries around it.
    void allocate(const fusedssim_tensor& t, std::size_t lead, bool is_output) {
        const std::size_t size = element_size(t.dtype);
        const Reach reach(t);
        before_ = lead + (is_output ? kCanary : 0);
        size_ = before_ + std::size_t(reach.bytes(size)) + (is_output ? kCanary : 0);
        bytes_.reset(new unsigned char[size_]);
        std::memset(bytes_.get(), 0xa5, size_);
        low_ = std::int64_t(reach.low);
        first_ = bytes_.get() + before_ - low_ * std::int64_t(size);
    }
    void allocate_bytes(std::size_t size) {
        size_ = size + 2 * kCanary;
        bytes_.reset(new unsigned char[size_]);
        std::memset(bytes_.get(), 0xa5, size_);
        before_ = kCanary;
        first_ = bytes_.get() + kCanary;
    }
    bool exists() const { return bytes_ != nullptr; }
    unsigned char* data() const { return first_; }  // the element with all indices 0
    // Whether a tensor with its data at data() + `shift` bytes stays inside.
    bool holds(const fusedssim_tensor& t) const {
        const std::size_t size = element_size(t.dtype);
        const Reach reach(t);
        if (!exists() || !reach.fits(size)) return false;
        const Wide begin = (first_ - bytes_.get()) + reach.low * Wide(size);
        return begin >= 0 && begin + reach.bytes(size) <= Wide(size_);
    }

    bool has_canaries() const {
        const auto is_canary = [](unsigned char byte) { return byte == 0xa5; };
        return !exists() || (std::all_of(bytes_.get(), bytes_.get() + kCanary, is_canary) &&
                             std::all_of(bytes_.get() + size_ - kCanary, bytes_.get() + size_, is_canary));
    }

    std::vector<unsigned char> copy() const { return {bytes_.get(), bytes_.get() + size_}; }
    void restore(const std::vector<unsigned char>& from) { std::memcpy(bytes_.get(), from.data(), size_); }
    bool equals(const std::vector<unsigned char>& other) const {
        return !std::memcmp(bytes_.get(), other.data(), size_);
    }
    // Whether all but the elements of `t` is as it was.
    bool equals_outside(const std::vector<unsigned char>& before, const fusedssim_tensor& t) const {
        std::vector<unsigned char> now = copy();
        const std::size_t size = element_size(t.dtype);
        const std::ptrdiff_t zero = first_ - bytes_.get();
        for_each_element(t, [&](std::int64_t offset, std::int64_t) {
            const auto at = std::size_t(zero + offset * std::int64_t(size));
            std::memcpy(&now[at], &before[at], size);
        });
        return now == before;
    }

private:
    std::unique_ptr<unsigned char[]> bytes_;
    std::size_t size_ = 0, before_ = 0;
    std::int64_t low_ = 0;
    unsigned char* first_ = nullptr;
};

// A structure in memory of exactly the bytes that its struct_size says, as a program of another version has it.
class Structure {
public:
    template <class T>
    void set(const T& from, unsigned char tail) {
        std::uint32_t given;
        std::memcpy(&given, &from, sizeof given);
        // No more is allocated than the library ever looks at: 65536 is the largest size that it accepts.
        size_ = std::max<std::size_t>(4, std::min<std::size_t>(given, 65536));
        bytes_.reset(new unsigned char[size_]);
        std::memset(bytes_.get(), tail, size_);
        std::memcpy(bytes_.get(), &from, std::min(size_, sizeof from));
    }
    void* get() const { return bytes_.get(); }
    std::vector<unsigned char> copy() const { return {bytes_.get(), bytes_.get() + size_}; }
    template <class T>
    bool is_like(const T& from) const {
        return !std::memcmp(bytes_.get(), &from, std::min(size_, sizeof from));
    }
    // What the library makes of it: `defaults`, and over it what is there.
    template <class T>
    T seen(T defaults) const {
        std::memcpy(&defaults, bytes_.get(), std::min(size_, sizeof defaults));
        return defaults;
    }

private:
    std::unique_ptr<unsigned char[]> bytes_;
    std::size_t size_ = 0;
};

// ---- Elements -----------------------------------------------------------------------------------------------------

inline bool is_integer(fusedssim_dtype dtype) { return dtype >= FUSEDSSIM_UINT8 && dtype <= FUSEDSSIM_INT16; }
inline double largest_integer(fusedssim_dtype dtype) {
    return dtype == FUSEDSSIM_UINT8 ? 255 : dtype == FUSEDSSIM_UINT16 ? 65535 : 32767;
}

// Of integers, 1 is the largest one; what is no number is 0.
inline void store(unsigned char* at, fusedssim_dtype dtype, double value) {
    if (is_integer(dtype)) {
        const double least = dtype == FUSEDSSIM_INT16 ? -1 : 0;
        const double within = value > least ? (value < 1 ? value : 1) : value <= least ? least : 0;
        const auto number = std::int32_t(within * largest_integer(dtype));
        if (dtype == FUSEDSSIM_UINT8) {
            *at = (unsigned char)number;
        } else {  // the same bits with and without a sign
            const auto bits_of_16 = std::uint16_t(number);
            std::memcpy(at, &bits_of_16, 2);
        }
        return;
    }
    const float narrow = float(value);
    std::uint32_t bits;
    std::memcpy(&bits, &narrow, sizeof bits);
    switch (dtype) {
        case FUSEDSSIM_FLOAT32: std::memcpy(at, &narrow, 4); return;
        case FUSEDSSIM_BFLOAT16: {
            const auto half = std::uint16_t(bits >> 16 | (narrow != narrow ? 0x40 : 0));
            std::memcpy(at, &half, 2);
            return;
        }
        case FUSEDSSIM_FLOAT16: {  // truncated; what is too small is 0, what is too large infinity
            const int exponent = int(bits >> 23 & 0xff) - 112;
            std::uint32_t half = bits >> 16 & 0x8000;
            if (narrow != narrow)
                half |= 0x7e00;
            else if (exponent >= 31)
                half |= 0x7c00;
            else if (exponent > 0)
                half |= std::uint32_t(exponent) << 10 | (bits >> 13 & 0x3ff);
            const auto stored = std::uint16_t(half);
            std::memcpy(at, &stored, 2);
            return;
        }
        case FUSEDSSIM_BOOL: *at = (unsigned char)(value != 0); return;
        default: std::memcpy(at, &value, 8); return;
    }
}

// Of float32 and float64, which are all that an `out` can be, and of 16-bit numbers only whether they are 0 or finite.
inline double load(const unsigned char* at, fusedssim_dtype dtype) {
    switch (dtype) {
        case FUSEDSSIM_FLOAT32: {
            float value;
            std::memcpy(&value, at, 4);
            return double(value);
        }
        case FUSEDSSIM_BFLOAT16:
        case FUSEDSSIM_FLOAT16: {
            std::uint16_t half;
            std::memcpy(&half, at, 2);
            const unsigned special = dtype == FUSEDSSIM_FLOAT16 ? 0x7c00 : 0x7f80;
            return (half & special) == special ? std::numeric_limits<double>::quiet_NaN() : half & 0x7fff ? 1 : 0;
        }
        case FUSEDSSIM_BOOL: return *at ? 1 : 0;
        default: {
            double value;
            std::memcpy(&value, at, 8);
            return value;
        }
    }
}

}  // namespace fuzz
