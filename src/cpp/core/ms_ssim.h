// SPDX-License-Identifier: MIT
//
// How the levels of MS-SSIM become one value, for the CPU and for CUDA.
#pragma once

#if !defined(FUSEDSSIM_DEVICE_CODE)
#include <cmath>
#endif

#include "core/ssim_math.h"

namespace fusedssim {

FUSEDSSIM_MATH double power(double base, double exponent) {
#if defined(FUSEDSSIM_DEVICE_CODE)
    return pow(base, exponent);
#else
    return std::pow(base, exponent);
#endif
}

// MS-SSIM of a plane from the means of its `levels` (docs/derivation.md, eq. 11), which stand `stride` apart; by_mean, with the same stride, gets
// the derivatives by the means, unless it is NULL.
template <class A>
FUSEDSSIM_MATH double ms_ssim(const A* means, const double* weights, int levels, long long stride, double upstream,
                              A* by_mean) {
    double value = 1;
    for (int i = 0; i < levels; ++i) {
        const double mean = double(means[i * stride]);
        value *= mean > 0 ? power(mean, weights[i]) : 0.0;
    }
    if (by_mean)
        for (int i = 0; i < levels; ++i) {
            const double mean = double(means[i * stride]);
            by_mean[i * stride] = value != 0 ? A(upstream * weights[i] * value / mean) : A(0);
        }
    return value;
}

}  // namespace fusedssim
