# SPDX-License-Identifier: MIT
"""Settings in the terms of the native library, and the shape of what it gives. Knows nothing of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .settings import Settings

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


def plan_settings(settings: Settings) -> dict[str, Any]:
    """The arguments of ``_core.Plan`` that follow from the settings."""
    return {
        "padding": PADDINGS[settings.padding],
        "reduction": REDUCTIONS[settings.reduction],
        "window_size": settings.window_size,
        "sigma": settings.sigma,
        "k1": settings.k1,
        "k2": settings.k2,
        "data_range": settings.data_range,
        "taps": settings.taps or (),
        "lambda_dssim": settings.lambda_dssim,
        "scale_weights": settings.weights or (),
        "mask_mode": _core.MASK_NORMALIZED if settings.normalized else _core.MASK_WEIGHT,
        "name1": settings.names[0],
        "name2": settings.names[1],
    }


def wanted_grads(argnums: int | Sequence[int]) -> tuple[tuple[int, ...], int]:
    """The numbers of the images whose gradients are wanted, in that order, and the set of these gradients."""
    wanted: tuple[int, ...] = tuple(argnums) if isinstance(argnums, (tuple, list)) else (argnums,)  # type: ignore[assignment]
    if not wanted or any(isinstance(number, bool) or number not in (0, 1) for number in wanted):
        raise ValueError(f"argnums = {argnums!r}; expected 0 for img1, 1 for img2, or a tuple of them")
    return wanted, (_core.GRAD_X if 0 in wanted else 0) | (_core.GRAD_Y if 1 in wanted else 0)


def map_shape(settings: Settings, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the map for images of that shape; below 1 where a side is shorter than the window."""
    crop = 2 * (settings.window_size // 2) if settings.padding == "valid" else 0
    return (shape[0], shape[1], *(size - crop for size in shape[2:]))


def out_shape(settings: Settings, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the value for images of that shape."""
    axes = {"image": 1, "channel": 2, "none": len(shape)}.get(settings.reduction, 0)
    # A side that is shorter than the window is found later.
    return tuple(max(size, 0) for size in map_shape(settings, shape)[:axes])
