// SPDX-License-Identifier: MIT
//
// What a window sees beyond the border of an image: one notion for the CPU kernels and the CUDA kernels. Includes no
// standard header: NVRTC compiles it too.
//
// A kernel that reads an image, or a normalised mask, at a position that may lie outside asks sees_element() first, and
// then reads the element that element_seen() names. What it does not see is zero. The border is a template argument, so
// that with zeros both functions are the comparison of a position with the size, and nothing more.
//
// To add a border mode (reflect: position -1 sees element 1; symmetric: -1 sees 0; replicate: -1 and -2 see 0):
//   1. An enumerator, and a case in both functions: -Wswitch names them.
//   2. The statistics. CPU: cpu/walker.h, filter_input_row() (slices along the walk), fill_along_walk() (rows of a
//      volume), convert_slice() and fill_beside() (columns). CUDA: the loads of ssim2d.cu and
//      ssim3d.cu. cpu/kernels.cpp and cuda/backend.cpp switch over Problem::border where they choose a kernel.
//   3. The gradient. With zeros the filter is its own transpose: the gradient at p filters the partials around p. With
//      a mirror, an element is also seen from positions outside, so its gradient gets the filtered partials of those
//      positions, too: filter the partials over [-radius, size + radius), and add the result at q outside to that at
//      element_seen(q). This comes before they are multiplied by s and d (unpack_gradient() in core/ssim_math.h),
//      which are the same at q as at the element that is seen there. CPU: add_to_gradient() and partials_row(). A
//      window may be wider than the image: element_seen() must then reflect more than once, or check_params() and
//      make_base() must refuse it.
//   4. Masks. MASK_WEIGHT weighs positions of the map: nothing changes. MASK_NORMALIZED reads the mask as it reads the
//      images: what lies outside counts as much as the element that is seen there, instead of being excluded.
//   5. The settings: a fusedssim_padding, and what it means in edges_of() (settings.cpp). The map has the size of SAME.
// The pooling of MS-SSIM has a border of its own (core/pooling.h).
#pragma once

#include "core/ssim_math.h"

namespace fusedssim {

enum class Border : int { zeros };

// Whether a window sees an element of the image at this position of an axis of `size` elements.
template <Border kBorder>
FUSEDSSIM_MATH bool sees_element(int position, int size) {
    const Border border = kBorder;  // -Wswitch is silent about constants
    switch (border) {
        case Border::zeros: return position >= 0 && position < size;
    }
    return false;
}

// The position of that element.
template <Border kBorder>
FUSEDSSIM_MATH int element_seen(int position, [[maybe_unused]] int size) {
    const Border border = kBorder;
    switch (border) {
        case Border::zeros: return position;
    }
    return position;
}

}  // namespace fusedssim
