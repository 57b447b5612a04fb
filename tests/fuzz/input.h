// SPDX-License-Identifier: MIT
//
// The bytes of a fuzzer as a stream of choices, and values that programs tend to get wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace fuzz {

// After its last byte an input gives zeros. Zero is always the plain choice, so the empty input is a plain, valid call.
class Input {
public:
    Input(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}

    std::uint8_t byte() { return at_ < end_ ? *at_++ : std::uint8_t(0); }
    // 0 to n - 1, for n up to 256.
    int below(int n) { return byte() % n; }
    // True for so many of the 256 values of a byte, 0 not among them.
    bool chance(int of_256) { return byte() >= 256 - of_256; }
    std::uint64_t word() {
        std::uint64_t bits = 0;
        for (int i = 0; i < 8; ++i) bits |= std::uint64_t(byte()) << (8 * i);
        return bits;
    }
    template <class T, std::size_t N>
    T one_of(const T (&all)[N]) {
        return all[byte() % N];
    }

private:
    const std::uint8_t *at_, *end_;
};

// A random stream of its own (SplitMix64), for the elements of images: they need no coverage.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t word() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    double uniform() { return double(word() >> 11) * 0x1p-53; }
    int below(int n) { return int(word() % std::uint64_t(n)); }

private:
    std::uint64_t state_;
};

// ---- Hostile values -----------------------------------------------------------------------------------------------

inline std::int32_t hostile_int32(Input& in) {
    constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
    static constexpr std::int32_t kValues[] = {0,  1,  -1, 2,   3,     4,  5,   6,     8,         10,     12,        31,
                                               33, 34, 35, 255, 65536, -2, -11, kMost, kMost - 1, -kMost, -kMost - 1};
    return in.chance(64) ? std::int32_t(in.word()) : in.one_of(kValues);
}

inline std::int64_t hostile_int64(Input& in) {
    constexpr std::int64_t kOne = 1, kMost = std::numeric_limits<std::int64_t>::max();
    static constexpr std::int64_t kValues[] = {0,
                                               1,
                                               -1,
                                               2,
                                               -2,
                                               3,
                                               7,
                                               11,
                                               33,
                                               64,
                                               -64,
                                               4096,
                                               kOne << 31,
                                               (kOne << 31) - 1,
                                               -(kOne << 31),
                                               kOne << 32,
                                               (kOne << 31) - 4097,
                                               (kOne << 31) - 4096,
                                               kOne << 56,
                                               (kOne << 56) + 1,
                                               kOne << 61,
                                               kOne << 62,
                                               -(kOne << 62),
                                               kMost,
                                               kMost - 1,
                                               -kMost,
                                               -kMost - 1};
    return in.chance(64) ? std::int64_t(in.word()) : in.one_of(kValues);
}

inline double hostile_double(Input& in) {
    using limits = std::numeric_limits<double>;
    static constexpr double kValues[] = {0,
                                         -0.0,
                                         1,
                                         -1,
                                         0.5,
                                         2,
                                         255,
                                         limits::quiet_NaN(),
                                         limits::infinity(),
                                         -limits::infinity(),
                                         limits::max(),
                                         -limits::max(),
                                         limits::min(),
                                         limits::denorm_min(),
                                         1e-30,
                                         1e-19,
                                         1e19,
                                         1e30,
                                         1e150,
                                         1e154,
                                         1e-154,
                                         1.0000001};
    if (!in.chance(64)) return in.one_of(kValues);
    const std::uint64_t bits = in.word();
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline std::uint32_t hostile_struct_size(Input& in, std::uint32_t size) {
    const std::uint32_t values[] = {
        0,        4,        7,        8,        12,        16,    24,    size / 2,
        size - 8, size - 1, size + 1, size + 8, size + 64, 65536, 65544, std::numeric_limits<std::uint32_t>::max()};
    return in.chance(64) ? std::uint32_t(in.word()) % 256 : in.one_of(values);
}

}  // namespace fuzz
