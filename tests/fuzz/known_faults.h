// SPDX-License-Identifier: MIT
//
// Faults of the library that this harness finds and that are still there. Each constant turns off what would find it
// again; whoever mends the fault deletes the constant and the branch that reads it. -DFUSEDSSIM_FUZZ_STRICT turns all
// on.
#pragma once

namespace fuzz::known {

#if defined(FUSEDSSIM_FUZZ_STRICT)
constexpr bool kYes = false;
#else
constexpr bool kYes = true;
#endif

// The MS-SSIM functions compute (window_size - 1) << (levels - 1) before window_size is checked: undefined for
// window_size < 1, and an overflow for INT_MIN.
constexpr bool kMsShiftsWindowSize = kYes;

// The check that an output does not overlap itself computes abs(stride) and stride * (shape - 1) in 64 bits:
// undefined for INT64_MIN, and where the product overflows, strides that no memory can hold pass as free of overlap.
constexpr bool kSpanOverflows = kYes;

// MS-SSIM of images with NaN is 0, not NaN.
constexpr bool kMsHidesNan = kYes;

// With k1 = 0 or k2 = 0, flat identical images give 0 / 0 = NaN, not 1.
constexpr bool kZeroOverZero = kYes;

// On the CPU, the MS-SSIM functions write `out` before they allocate what the gradients of the levels need.
constexpr bool kMsWritesBeforeMemoryRunsOut = kYes;

}  // namespace fuzz::known
