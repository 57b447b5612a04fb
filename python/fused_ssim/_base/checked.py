# SPDX-License-Identifier: MIT
"""The checks of numbers for settings that have no images yet: those of the native library, which knows the ranges."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from .._core import Images, Layout
from .._core import Plan as NativePlan
from .codes import DEVICES, DTYPES
from .settings import native_settings
from .shapes import contiguous_strides, out_shape

if TYPE_CHECKING:
    from .settings import Settings


@lru_cache(maxsize=256)
def check_numbers(settings: Settings, dtype: str = "float64") -> None:
    """An error if a number is out of range for images of that dtype. float64 has the widest range."""
    scales = len(settings.weights or (1,))
    side = max(settings.window_size, 1) * 2 ** min(scales, 16)  # large enough for every window at every scale
    shape = (1, 1, side, side)
    image = Layout(dtype=DTYPES[dtype].code, shape=shape, stride=contiguous_strides(shape))
    out = out_shape(settings, shape)
    arithmetic = DTYPES[DTYPES[dtype].arithmetic].code
    NativePlan(
        device=DEVICES["cpu"],
        device_index=0,
        settings=native_settings(settings),
        images=Images(
            x=image,
            y=image,
            grad_x=image,
            grad_y=image,
            out=Layout(dtype=arithmetic, shape=out, stride=contiguous_strides(out)),
            mask=None,
            data_ranges=None,
        ),
        grads=0,
    )
