# SPDX-License-Identifier: MIT
"""Gradients that are computed with the value, before the upstream gradient is known: when, and in which units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .shapes import kept_axes, map_shape

if TYPE_CHECKING:
    from .settings import Settings


def is_eager(settings: Settings, gradient: str, saved_bytes: int, has_mask: bool, has_ranges: bool) -> bool:
    """Whether forward computes the gradient in the same pass, so that backward only scales it.

    The gradient of a map cannot be scaled that way. In float16, the dtype ``gradient``, it would be unsafe where the
    size of the gradient is not known: it depends on how much a mask leaves of a mean, and on the data range. (MS-SSIM
    has no other way.)
    """
    unknown = (has_mask and settings.reduction != "sum") or has_ranges
    unsafe = unknown and gradient == "float16" and settings.weights is None
    return saved_bytes == 0 and settings.reduction != "none" and not unsafe


def grad_scale(settings: Settings, gradient: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """The scale under which an eager gradient is stored, and the factor that undoes it.

    The gradient of a mean over a million pixels is below the range of float16 unless the loss is scaled, and the scale
    is known only in backward. So float16 keeps the gradient of the sum over pixels in units of the data range, which
    is near 1. The scale is rounded to a power of two, because that multiplies without an error. ``shape`` is that of
    the images, ``[N, C, ...]``; the settings are those for their dtypes.
    """
    if gradient != "float16":
        return 1.0, 1.0
    if settings.reduction == "sum":
        # MS-SSIM sums planes, and the value of each plane is a mean.
        kept = len(shape) if settings.weights is None else 2
    else:
        kept = kept_axes(settings.reduction, len(shape))
    averaged = map_shape(settings, shape)[kept:]
    assert settings.data_range is not None
    # The derivative of SSIM by a pixel is near 1 / data_range, that of |x - y| is 1. A loss has both.
    unit = settings.data_range if settings.lambda_dssim in (None, 1.0) else min(settings.data_range, 1.0)
    # The derivative by a pixel grows as 1 / K where the images are dark or flat: leave room for that below the usual K.
    room = max(0.0, math.log2(0.01 / max(min(settings.k1, settings.k2), 1e-6)))
    exponent = max(round(math.log2(math.prod(averaged) * unit) - room), 0)
    return math.ldexp(1.0, exponent), math.ldexp(1.0, -exponent)
