# SPDX-License-Identifier: MIT
"""What the modules for packages of torch share: windows for each axis, and images that are converted.

This is the place that knows which of it the native library lacks: windows of more than 33 taps, and data ranges with a
gradient. They run as plain operations of torch, tens of times slower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._base import shapes
from .._base.arguments import integer, number
from .._core import MAX_WINDOW_SIZE
from .._torch import checks, composite, eager


@dataclass(frozen=True)
class Window:
    """The window along an axis: a Gaussian, or a uniform one, whose ``sigma`` is None."""

    size: int
    sigma: float | None

    @property
    def radius(self) -> int:
        return self.size // 2

    def taps(self) -> tuple[float, ...]:
        return (1 / self.size,) * self.size if self.sigma is None else shapes.gaussian(self.size, self.sigma)


def odd(name: str, value: object) -> int:
    """``value`` as the size of a window."""
    size = integer(name, value)
    if size < 1 or size % 2 == 0:
        raise ValueError(f"{name} = {size}; expected an odd number: an even window has no middle")
    return size


def positive(name: str, value: object) -> float:
    """``value`` as the sigma of a window."""
    sigma = number(name, value)
    if not 0 < sigma < math.inf:
        raise ValueError(f"{name} = {sigma}; expected a positive number")
    return sigma


def for_each_axis(name: str, value: Any, dims: int) -> tuple[Any, ...]:
    """An argument that is one for all spatial axes, or one for each."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, str):
        return (value,) * dims
    if len(value) != dims:
        raise ValueError(f"{name} = {value!r}; expected one for each of {dims} spatial axes, or a single one")
    return tuple(value)


def readable(image: Tensor) -> Tensor:
    """Integers that the kernels do not read as float32, as packages convert them that take such images."""
    if image.dtype in checks.DTYPES or image.is_floating_point() or image.is_complex():
        return image
    return image.to(torch.float32)


def float_dtype(image: Tensor) -> torch.dtype:
    """The dtype of an image, or float32 for integers: what packages convert those to."""
    return image.dtype if image.is_floating_point() else torch.float32


def as_float(image: Tensor) -> Tensor:
    """Integers as float32, for operations that have none for them."""
    return image if image.is_complex() else image.to(float_dtype(image))


# ---- Computation -----------------------------------------------------------------------------------------------------


def ssim(
    img1: Tensor,
    img2: Tensor,
    windows: Sequence[Window],
    *,
    names: tuple[str, str],
    data_range: float | Tensor,
    K: tuple[float, float],
    reduction: str,
    padding: str = "valid",
    lambda_dssim: float | None = None,
) -> Tensor:
    """SSIM of images that fit together, or the loss; reduced.

    A data range that requires a gradient gets it, from plain operations of torch.
    """
    dims = len(windows)
    check(names, img1, img2, dims)
    for axis, window in enumerate(windows, start=2):
        if padding == "valid" and img1.shape[axis] < window.size:
            raise ValueError(f"{names[0]}.shape[{axis}] = {img1.shape[axis]} < window {window.size}")
    range_of_all, ranges = checks.split_range(data_range, img1)
    is_native = max(window.size for window in windows) <= MAX_WINDOW_SIZE
    arguments: dict[str, Any] = {"padding": padding, "data_range": range_of_all, "K": K, "reduction": reduction}
    arguments["names"] = names
    if lambda_dssim is not None:
        arguments["lambda_dssim"] = lambda_dssim
    if is_native and not (ranges is not None and ranges.requires_grad and torch.is_grad_enabled()):
        ranges = None if ranges is None else ranges.detach()
        settings = eager.settings_of(**arguments, **_as_settings(windows))
        return eager.ssim(img1, img2, settings, dims, data_ranges=ranges)
    settings = eager.settings_of(**arguments)
    if ranges is not None:
        ranges = ranges.to(checks.arithmetic(settings, img1.dtype, img2.dtype))
    return composite.ssim_with_windows(img1, img2, None, ranges, settings, [window.taps() for window in windows])


def _as_settings(windows: Sequence[Window]) -> dict[str, Any]:
    """The arguments for the windows; a single number where they are all alike."""
    each = windows[:1] if len(set(windows)) == 1 else windows
    sizes = tuple(window.size for window in each)
    if each[0].sigma is None:
        return {"window_size": sizes, "known_taps": tuple(tap for window in each for tap in window.taps())}
    return {"window_size": sizes, "sigma": tuple(window.sigma for window in each)}


def check(names: tuple[str, str], img1: object, img2: object, dims: int) -> None:
    """An error if the images do not fit together, or are no images of so many spatial axes."""
    for name, image in zip(names, (img1, img2), strict=True):
        checks.check_tensor(name, image)
        checks.check_layout(name, image)  # type: ignore[arg-type]
    assert isinstance(img1, Tensor)
    assert isinstance(img2, Tensor)
    checks.check_images(names, dims, img1.dtype, img1.device, img1.shape, img2.dtype, img2.device, img2.shape)
