// SPDX-License-Identifier: MIT
//
// Other names for the axes. SSIM does not care which spatial axis is called x, but the kernels do: x is the axis along
// which they read neighbouring elements at once, and along y and z tiles and walks differ. So if both images lie in
// memory in another order than that of their axes, a problem is carried out with its axes renamed.
#pragma once

#include "problem.h"

namespace fusedssim::cuda {

// The problem with other names for its axes: sizes, windows, and all strides.
//
// x is the axis with the smallest strides, if it is the same one for both images; y has the next larger ones. An axis
// of one element has no stride and comes last. If images disagree, or repeat their elements, axes keep their names.
// Then z and y of volumes are exchanged if blocks fit better, and a narrow, long image has x along its length.
// Depends on nothing but the settings, the sizes and the strides of x and y: so a backward has the order of the forward
// whose maps it is given. (But y is an axis with enough rows for the slabs of large volumes, if there is one.)
Problem with_axes_by_stride(const Problem& p);

}  // namespace fusedssim::cuda
