// SPDX-License-Identifier: MIT
//
// The Gaussian window, and its taps in float32.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/window.h"

namespace fusedssim {

// Taps from the centre outwards, computed in double, that sum to 1 over the window.
inline void fill_gaussian(double sigma, int radius, double* taps) {
    double sum = 0;
    for (int k = 0; k <= radius; ++k) {
        const double z = k / sigma;
        taps[k] = std::exp(-0.5 * z * z);
        sum += k ? 2 * taps[k] : taps[k];
    }
    for (int k = 0; k <= radius; ++k) taps[k] /= sum;
}

// Rounds such taps so that float32 holds each of them, and their sum over the window is exactly 1. A rest would be a
// bias: G*s^2 - (G*s)^2 is off by the rest times the square of the mean.
inline void round_to_float32(double* taps, int radius) {
    // In units of 2^-40 all of this is exact. Taps of float32 below 2^-16 are multiples of the unit, larger ones of
    // more.
    constexpr std::int64_t kOne = std::int64_t(1) << 40;
    const auto spacing = [](std::int64_t units) {  // of float32 there, in units
        std::int64_t step = 1;
        while (units / step >= (std::int64_t(1) << 24)) step *= 2;
        return step;
    };
    std::int64_t units[kMaxRadius + 1], rest = kOne;
    for (int k = 0; k <= radius; ++k) {
        const auto near = std::int64_t(std::llround(taps[k] * double(kOne))), step = spacing(near);
        units[k] = (near + step / 2) / step * step;
        rest -= k ? 2 * units[k] : units[k];
    }
    // The centre takes most of the rest. Each pair outwards is finer, and takes what the one before left. All round
    // down: so what is left is never negative, and no tap becomes so. Once is enough, but where a tap crosses a power
    // of 2.
    while (rest != 0)
        for (int k = 0; k <= radius; ++k) {
            const int count = k ? 2 : 1;
            const std::int64_t wanted = units[k] + rest / count, step = spacing(wanted), given = wanted / step * step;
            rest -= count * (given - units[k]);
            units[k] = given;
        }
    for (int k = 0; k <= radius; ++k) taps[k] = double(units[k]) / double(kOne);
}

}  // namespace fusedssim
