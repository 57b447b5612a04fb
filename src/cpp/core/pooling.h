// SPDX-License-Identifier: MIT
//
// How the levels of MS-SSIM are made from each other: averages over blocks of 2 elements along each spatial axis. An
// axis of odd size gets a zero in front first, which counts. Includes no standard header: NVRTC compiles it too.
#pragma once

#include "core/ssim_math.h"

namespace fusedssim {

constexpr int kMaxLevels = 8;

// The blocks of an axis of `size` elements.
FUSEDSSIM_MATH int pooled_size(int size) { return (size + 1) / 2; }
// The first element of a block; -1 is the zero in front.
FUSEDSSIM_MATH int first_of_block(int block, int size) { return 2 * block - size % 2; }
// The block of an element.
FUSEDSSIM_MATH int block_of(int position, int size) { return (position + size % 2) / 2; }
// The elements of a block.
FUSEDSSIM_MATH int pooled_elements(bool is_3d) { return is_3d ? 8 : 4; }

}  // namespace fusedssim
