// SPDX-License-Identifier: MIT
//
// Windows as Python's settings have them, in terms of the C interface. It knows nothing of Python itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>

#include "fusedssim/fusedssim.h"

template <typename T>
struct Numbers {
    const T* data = nullptr;
    size_t count = 0;
};

// `sizes` and `sigmas` are one number for all spatial axes, or one for each. `taps` are the windows themselves, one
// after the other, each of its size; none: Gaussians.
struct Windows {
    Numbers<int32_t> sizes;
    Numbers<double> sigmas, taps;
};

inline void check_count(const char* name, size_t count, size_t spatial_dims) {
    if (count == 1 || count == spatial_dims) return;
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(count) + " numbers; expected 1 or " +
                                std::to_string(spatial_dims));
}

// Completes `params` for images with so many spatial axes. They then point to the taps.
inline void set_windows(fusedssim_params& params, const Windows& windows, size_t spatial_dims) {
    const auto& [sizes, sigmas, taps] = windows;
    if (spatial_dims > 3) throw std::invalid_argument("the number of axes");
    check_count("window_size", sizes.count, spatial_dims);
    check_count("sigma", sigmas.count, spatial_dims);
    const int64_t all_taps = std::accumulate(sizes.data, sizes.data + sizes.count, int64_t(0));
    const bool is_gaussian = taps.count == 0, is_one_size = sizes.count == 1;
    if (!is_gaussian && all_taps != static_cast<int64_t>(taps.count)) {
        throw std::invalid_argument("the number of taps is not that of window_size");
    }
    params.window_size = sizes.data[0];
    params.sigma = sigmas.data[0];
    if (!is_gaussian && is_one_size) params.taps = taps.data;
    const double* next_taps = taps.data;
    for (size_t axis = 0; axis < spatial_dims; ++axis) {
        const size_t native_axis = 3 - spatial_dims + axis;
        if (!is_one_size) params.axis_window_size[native_axis] = sizes.data[axis];
        if (is_gaussian) {
            if (sigmas.count > 1) params.axis_sigma[native_axis] = sigmas.data[axis];
        } else if (!is_one_size) {
            params.axis_taps[native_axis] = next_taps;
            next_taps += sizes.data[axis];
        }
    }
}
