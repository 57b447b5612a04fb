# SPDX-License-Identifier: MIT
"""The checks of numbers for settings that have no images yet: those of the native library, which knows the ranges."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from .._core import Images, Layout
from .._core import Plan as NativePlan
from .codes import DEVICES, DTYPES
from .settings import arithmetic_of, for_dtypes, native_settings
from .shapes import contiguous_strides, out_shape, window_sizes

if TYPE_CHECKING:
    from .settings import Settings


@lru_cache(maxsize=256)
def check_numbers(settings: Settings, dtype1: str = "float64", dtype2: str = "float64") -> None:
    """An error if a number is out of range for images of these dtypes. float64 has the widest range."""
    settings = for_dtypes(settings, dtype1, dtype2)
    dims = max(2, len(settings.window_size), len(settings.sigma))
    scales = len(settings.weights or (1,))
    # Large enough for every window at every scale.
    shape = (1, 1, *(max(size, 1) * 2 ** min(scales, 16) for size in window_sizes(settings, dims)))
    first, second = (
        Layout(dtype=DTYPES[dtype].code, shape=shape, stride=contiguous_strides(shape)) for dtype in (dtype1, dtype2)
    )
    out = out_shape(settings, shape)
    arithmetic = DTYPES[arithmetic_of(settings, dtype1, dtype2)].code
    NativePlan(
        device=DEVICES["cpu"],
        device_index=0,
        settings=native_settings(settings),
        images=Images(
            x=first,
            y=second,
            grad_x=first,
            grad_y=second,
            out=Layout(dtype=arithmetic, shape=out, stride=contiguous_strides(out)),
            mask=None,
            data_ranges=None,
        ),
        grads=0,
    )
