// SPDX-License-Identifier: MIT
//
// Axes, and the windows along them, for the host, the CPU kernels and the CUDA kernels. Includes no standard header:
// NVRTC compiles it too.
#pragma once

#include "core/ssim_math.h"

namespace fusedssim {

constexpr int kMaxRadius = 16;

// The spatial axes. An image is a volume of depth 1, without a window along z.
enum class Axis : int { z, y, x };
constexpr int kAxes = 3;

// The window along one axis.
struct Window {
    int radius;
    int crop;                     // elements that padding VALID takes off each end of the axis: the radius, or 0
    double taps[kMaxRadius + 1];  // from the centre outwards; zero beyond the radius
};

// Whether the map has this position of an axis of `size` elements.
FUSEDSSIM_MATH bool is_counted(int position, int size, int crop) { return position >= crop && position < size - crop; }
// How many positions it has.
FUSEDSSIM_MATH int counted_size(int size, int crop) { return size - 2 * crop; }

}  // namespace fusedssim
