// SPDX-License-Identifier: MIT
//
// How the levels of MS-SSIM become one value: a product of powers, for the CPU and for CUDA.
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

// A level's factor. A mean below 0 counts as 0, and 0^0 is 1; NaN stays NaN.
FUSEDSSIM_MATH double level_factor(double mean, double weight) {
    if (weight == 0) return 1;
    return mean <= 0 ? 0 : power(mean, weight);
}

// MS-SSIM of a plane from the means of its `levels` (docs/derivation.md, eq. 11). The means stand `stride` apart.
// by_mean, with the same stride, gets the derivatives by the means times `upstream`; it may be NULL.
template <class A>
FUSEDSSIM_MATH double level_product(const A* means, const double* weights, int levels, long long stride,
                                    double upstream, A* by_mean) {
    double value = 1;
    for (int i = 0; i < levels; ++i) {
        value *= level_factor(double(means[i * stride]), weights[i]);
    }
    if (by_mean)
        for (int i = 0; i < levels; ++i) {
            const double mean = double(means[i * stride]);
            by_mean[i * stride] = value != 0 && weights[i] != 0 ? A(upstream * weights[i] * value / mean) : A(0);
        }
    return value;
}

}  // namespace fusedssim
