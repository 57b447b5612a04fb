# SPDX-License-Identifier: MIT
"""Shapes: how many axes images have, what a padding takes off, and what a reduction leaves."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from .codes import REDUCTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .settings import Settings

T = TypeVar("T")

# The axes of images and volumes, by the number of spatial ones.
AXES = {2: "[N, C, H, W]", 3: "[N, C, D, H, W]"}


def spatial_dims(name: str, shape: Sequence[int], note: str = "") -> int:
    """2 for images, 3 for volumes; an error that names them if they are neither."""
    dims = len(shape) - 2
    if dims not in AXES:
        expected = ", or ".join(f"{spatial + 2}, {axes}" for spatial, axes in AXES.items())
        raise ValueError(f"{name}.shape = {tuple(shape)} has {len(shape)} axes{note}; expected {expected}")
    return dims


# ---- Windows, for each spatial axis ----------------------------------------------------------------------------------


def window_sizes(settings: Settings, spatial_dims: int) -> tuple[int, ...]:
    """Taps of the window along each spatial axis."""
    return _for_each_axis("window_size", settings.window_size, spatial_dims)


def _for_each_axis(name: str, values: tuple[T, ...], spatial_dims: int) -> tuple[T, ...]:
    if len(values) not in (1, spatial_dims):
        axes = ", ".join(AXES[spatial_dims].strip("[]").split(", ")[2:])
        raise ValueError(f"{name} has {len(values)} values; expected one, or one for each of the axes {axes}")
    return values if len(values) == spatial_dims else values * spatial_dims


def radius(settings: Settings, spatial_dims: int) -> tuple[int, ...]:
    """How far a window reaches to either side, along each spatial axis."""
    return tuple(size // 2 for size in window_sizes(settings, spatial_dims))


def is_cropped(settings: Settings) -> bool:
    """Whether the map has only positions whose window lies inside the image."""
    return settings.padding == "valid"


def crop(settings: Settings, spatial_dims: int) -> tuple[int, ...]:
    """What the padding takes off at either end of each spatial axis."""
    return radius(settings, spatial_dims) if is_cropped(settings) else (0,) * spatial_dims


def taps(settings: Settings, spatial_dims: int) -> tuple[tuple[float, ...], ...]:
    """The window along each spatial axis."""
    sizes = window_sizes(settings, spatial_dims)
    if settings.taps is None:
        sigmas = _for_each_axis("sigma", settings.sigma, spatial_dims)
        return tuple(gaussian(size, sigma) for size, sigma in zip(sizes, sigmas, strict=True))
    if len(settings.window_size) == 1:
        return (settings.taps,) * spatial_dims
    ends = tuple(accumulate(sizes))
    return tuple(settings.taps[end - size : end] for size, end in zip(sizes, ends, strict=True))


def check_windows(settings: Settings, spatial_dims: int) -> None:
    """An error if the windows are those of another number of axes, or have no sample covariance."""
    if settings.taps is None:
        _for_each_axis("sigma", settings.sigma, spatial_dims)
    covariance_factor(settings, spatial_dims)


def covariance_factor(settings: Settings, spatial_dims: int) -> float:
    """By what variances and the covariance are multiplied: n / (n - 1) for windows of n pixels, or 1."""
    pixels = math.prod(window_sizes(settings, spatial_dims))
    if not settings.sample_covariance:
        return 1.0
    if pixels == 1:
        raise ValueError("sample_covariance = True with a window of one pixel, expected False: n / (n - 1) is infinite")
    return pixels / (pixels - 1)


def gaussian(window_size: int, sigma: float) -> tuple[float, ...]:
    """Taps of a Gaussian window; their sum is 1."""
    reach = window_size // 2
    distances = [offset / sigma for offset in range(-reach, reach + 1)]
    values = [math.exp(-0.5 * distance * distance) for distance in distances]  # a square by ** may be an OverflowError
    total = math.fsum(values)
    return tuple(value / total for value in values)


# ---- Arrays, maps and values -----------------------------------------------------------------------------------------


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a C-contiguous array, in elements."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * shape[axis]
    return tuple(strides)


def check_fits(name: str, shape: Sequence[int], settings: Settings, skipped: int | None = None) -> None:
    """An error if a window does not fit where the padding wants it to. The axis ``skipped`` is not looked at."""
    if not is_cropped(settings):
        return
    for axis, window in enumerate(window_sizes(settings, len(shape) - 2), start=2):
        if axis != skipped and shape[axis] < window:
            raise ValueError(f"{name}.shape[{axis}] = {shape[axis]} < window {window} (padding {settings.padding})")


def map_shape(settings: Settings, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the map for images of that shape; below 1 where a side is shorter than the window."""
    sizes = zip(shape[2:], crop(settings, len(shape) - 2), strict=True)
    return (shape[0], shape[1], *(size - 2 * taken_off for size, taken_off in sizes))


def kept_axes(reduction: str, ndim: int) -> int:
    """How many axes of a map of ``ndim`` axes a reduction leaves, counted from the first."""
    kept = REDUCTIONS[reduction].kept
    return ndim if kept is None else kept


def reduced_axes(reduction: str, ndim: int) -> tuple[int, ...]:
    """The axes of a map of ``ndim`` axes that a reduction sums or averages."""
    return tuple(range(kept_axes(reduction, ndim), ndim))


def out_shape(settings: Settings, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the value for images of that shape."""
    # A side that is shorter than the window is found later.
    return tuple(max(size, 0) for size in map_shape(settings, shape)[: kept_axes(settings.reduction, len(shape))])
