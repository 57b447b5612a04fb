# SPDX-License-Identifier: MIT
"""How far a result may be from the float64 oracle, and why. Every test takes its tolerance from here."""

from __future__ import annotations

import math

import torch
from systems import X86

FLOAT32_EPS = 2.0**-24  # the largest relative error of rounding a number to float32
FLOAT16_EPS = 2.0**-11
BFLOAT16_EPS = 2.0**-8

# |value - oracle| for a mean, on images without special structure. float16 and bfloat16 images are exact inputs to
# float32 arithmetic, so they have the tolerance of float32 (the oracle sees the rounded images).
VALUE = {torch.float32: 5e-7, torch.float16: 5e-7, torch.bfloat16: 5e-7, torch.float64: 1e-12}


def mean_tolerance(dtype: torch.dtype, elements: int) -> float:
    """|value - oracle| for a mean over so many map elements.

    A single element has an error of 3e-7 to 5e-7 (rms over 300 random pairs of 11x11x11, float32), and errors of
    different elements cancel: six times that over the square root of their number, until VALUE is reached.
    """
    return max(VALUE[dtype], (6 * 5e-7 if dtype != torch.float64 else 0.0) / math.sqrt(elements))


# The worst element of a map. Fewer digits than a mean, over which errors cancel: a window with little variance divides
# the rounding errors of its variance, 1e-8, by C2, 1e-3. float64 does the same with 1e-16.
MAP = {torch.float32: 1e-5, torch.float16: 1e-5, torch.bfloat16: 1e-5, torch.float64: 1e-12}

# max |gradient - oracle| / max |oracle|. A 16-bit gradient is computed in float32 and rounded once.
GRADIENT = {
    torch.float32: 3e-6,
    torch.float16: 3e-6 + FLOAT16_EPS,
    torch.bfloat16: 3e-6 + BFLOAT16_EPS,
    torch.float64: 1e-12,
}

# A 16-bit gradient that forward stored and backward scaled by something that is not a power of two: rounded twice.
GRADIENT_SCALED = {
    torch.float32: 3e-6,
    torch.float16: 3e-6 + 2 * FLOAT16_EPS,
    torch.bfloat16: 3e-6 + 2 * BFLOAT16_EPS,
    torch.float64: 1e-12,
}

# Normalised windows divide by a mass that may be small.
MASKED_GRADIENT = {dtype: 3 * tolerance for dtype, tolerance in GRADIENT_SCALED.items()}

# max |second derivative - oracle| / max |oracle|: from plain operations, and from the moments of both passes.
SECOND_DERIVATIVE = {torch.float32: 3e-5, torch.float64: 1e-11}

# Hard cases in float32, 256 x 256, as measured for the sum/difference form in float32 by an independent program: error
# of the mean, worst map element, and ||gradient - oracle|| / ||oracle||. Our figures may be this much larger:
HARD_CASE_MARGIN = 1.5  # noise has another seed, sums another order
HARD_CASE = {
    "random": (9e-9, 3.5e-6, 2.7e-7),
    "smooth": (1e-7, 7.6e-5, 2.1e-5),
    "flat-bright": (9e-9, 1.7e-6, 5.6e-5),
    "near-identical": (2.5e-9, 5.9e-8, 1.6e-7),
    "flat-shifted": (1e-13, 1e-13, None),
}

# Images of any level in float32: ||gradient - oracle|| / ||oracle||, and the error of the mean.
LEVELS = {"bright": 1e-6, "bright-flat": 1e-6, "bright-dark": 1e-6, "uniform": 1e-6, "20000": 1e-6, "1e6": 1e-6}
LEVELS_VALUE = {"bright": 2e-8, "bright-flat": 2e-8, "bright-dark": 2e-8, "uniform": 2e-8, "20000": 1e-5, "1e6": 1e-4}
LEVELS_HALVES = 3e-6  # of two levels, 0.05 and 0.95
LEVELS_MIXED = 1e-5  # where the same pivot is for both, and with narrow windows
# On CUDA the sum of x and y is rounded before the pivot is subtracted: by a third of the last place, 1e-3 of 40000
# and 4e-2 of 2e6, beside a deviation of 2.4 and 41.
LEVELS_ROUNDED_SUM = 1.2e-3
LEVELS_ROUNDED_DIFFERENCE = 1.3e-6  # and of 0.9 and 0.1 the difference: 2e-8, beside a deviation of 0.016
# On CUDA a pivot serves a tile, or a piece of a strip of up to 240 columns.
LEVELS_MIXED_CUDA = 2e-5
LEVELS_MIXED_VALUE = {"cpu": 1e-7, "cuda": 5e-7}

# Other packages. What they agree to with the definition, plus our own error in the dtype in which they are compared.
SCIKIT_IMAGE = 1e-12  # float64; 1e-15
TORCHMETRICS = 1e-12  # float64; 1e-14
PIQ = 1e-12  # float64; 1e-16
PYTORCH_MSSIM = 1e-7  # its window is built in float32: 3e-8 to 4e-8
PYTORCH_MSSIM_GRADIENT = 1e-6  # relative, for the same reason
MONAI = 1e-7 + 5e-7  # it computes in float32 (1e-7), and so do we to compare (VALUE)

# fused_ssim.compat against the packages that it replaces, in float64: relative to the largest element for gradients.
COMPAT = 1e-12
# In float32, where theirs have the error: of the classic form, of float32 sums, of MONAI's uniform window.
COMPAT_FLOAT32 = 1e-5
COMPAT_FLOAT32_VALUE = 5e-7
COMPAT_FLOAT32_GRADIENT = 1e-4
MONAI_UNIFORM = 5e-6
# kornia adds 1e-12 to a denominator of at least 9e-8, and of 1e-3 and more for random images.
KORNIA = 1e-6
TENSORFLOW = 1e-5  # it computes in float32: 1e-6, and 6e-6 over five scales
LIBVMAF = 1e-6  # in float32, too, and prints six digits: 5e-7
LIBVMAF_DECIBELS = 1e-4  # 5e-5

# ssim and ms_ssim against pytorch-msssim in float64, with the window that it uses: another order of operations, in its
# case the classic form with its cancellation. It sums the window in float32, in an order that depends on the processor:
# on aarch64 the largest differences seen are 7e-8, and 6.5e-7 of gradients (window of 7).
PYTORCH_MSSIM_SAME_WINDOW = 1e-9 if X86 else 1e-6
