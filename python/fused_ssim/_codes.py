# SPDX-License-Identifier: MIT
"""Settings in the terms of the native library, and the shape of what it gives. Knows nothing of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _core

if TYPE_CHECKING:
    from ._settings import Settings

PADDINGS: dict[str, int] = {"same": _core.PADDING_SAME, "valid": _core.PADDING_VALID}

REDUCTIONS: dict[str, int] = {
    "mean": _core.REDUCTION_MEAN,
    "sum": _core.REDUCTION_SUM,
    "image": _core.REDUCTION_PER_IMAGE,
    "channel": _core.REDUCTION_PER_PLANE,
    "none": _core.REDUCTION_NONE,
}

DTYPES: dict[str, int] = {
    "float32": _core.FLOAT32,
    "float64": _core.FLOAT64,
    "float16": _core.FLOAT16,
    "bfloat16": _core.BFLOAT16,
}


def map_shape(settings: Settings, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the map for images of that shape; below 1 where a side is shorter than the window."""
    crop = 2 * (settings.window_size // 2) if settings.padding == "valid" else 0
    return (shape[0], shape[1], *(size - crop for size in shape[2:]))


def out_shape(settings: Settings, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the value for images of that shape."""
    axes = {"image": 1, "channel": 2, "none": len(shape)}.get(settings.reduction, 0)
    # A side that is shorter than the window is found later.
    return tuple(max(size, 0) for size in map_shape(settings, shape)[:axes])
