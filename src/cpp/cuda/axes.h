// SPDX-License-Identifier: MIT
//
// Other names for the axes. SSIM does not care which spatial axis is called x, but the kernels do: x is the axis along
// which they read neighbouring elements at once, and along y and z tiles and walks differ. So if both images lie in
// memory in another order than that of their axes, a problem is carried out with its axes renamed.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "cuda/slabs.h"
#include "problem.h"

namespace fusedssim::cuda {

// By new name, the old name of each axis.
struct AxisOrder {
    Axis z, y, x;
};

// The problem with renamed axes: sizes, windows, and all strides.
Problem with_axes(const Problem& p, const AxisOrder& order);

// x is the axis with the smallest strides, if it is the same one for both images; y has the next larger ones. An axis
// of one element has no stride and comes last. If images disagree, or repeat their elements, axes keep their names.
// Then z and y of volumes are exchanged if blocks fit better, and a narrow, long image has x along its length.
// Depends on nothing but the settings, the sizes and the strides of x and y: so a backward has the order of the forward
// whose maps it is given. (But y is an axis with enough rows for the slabs of large volumes, if there is one.)
Problem with_axes_by_stride(const Problem& p);

// Whether an axis may become x. A short one would leave most of a tile empty.
inline bool may_be_x(const Problem& p, Axis axis) {
    constexpr int kShortest = 32;
    return axis == Axis::x || p.size(axis) >= std::min(kShortest, p.width);
}

// Whether an order is good enough for slabs, which matters to memory alone. The names as they are have to be, at least
// with z and y exchanged.
inline bool has_rows_for_slabs(const Problem& p, const AxisOrder& order) {
    return has_rows_for_slabs(p, p.size(order.y)) || (order.x == Axis::x && p.size(order.y) >= p.size(order.z));
}

}  // namespace fusedssim::cuda
