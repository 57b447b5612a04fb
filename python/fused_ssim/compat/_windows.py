# SPDX-License-Identifier: MIT
"""What the modules for packages of torch share: windows for each axis, borders, the terms of SSIM.

This is the place that knows which of it the native library has. It takes one window of up to 33 taps for all axes, and
no border but zeros. So a reflected border is put around copies of the images, whose windows then stay inside; and
windows that differ between axes, or are wider, run as plain operations of torch, tens of times slower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from .._base import shapes
from .._base.arguments import integer, number
from .._core import MAX_WINDOW_SIZE
from .._torch import checks, composite, eager

if TYPE_CHECKING:
    from .._base.settings import Settings


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


def as_float(image: Tensor) -> Tensor:
    """Integer images as float32, as packages convert them that take such images."""
    if image.is_floating_point() or image.is_complex():
        return image
    return image.to(torch.float32)


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
    border: Sequence[int] | None = None,
    lambda_dssim: float | None = None,
) -> Tensor:
    """SSIM of images that fit together, or the loss, over the windows inside the images; reduced.

    ``border``: how far the images are first continued by their reflection, along each spatial axis (the element at the
    edge is not repeated). A data range that requires a gradient gets it, from plain operations of torch.
    """
    dims = len(windows)
    check(names, img1, img2, dims)
    if border is not None:
        img1, img2 = (_reflected(name, image, border) for name, image in zip(names, (img1, img2), strict=True))
    for axis, window in enumerate(windows, start=2):
        if img1.shape[axis] < window.size:
            raise ValueError(f"{names[0]}.shape[{axis}] = {img1.shape[axis]} < window {window.size}")
    range_of_all, ranges = checks.split_range(data_range, img1)
    is_native = len(set(windows)) == 1 and windows[0].size <= MAX_WINDOW_SIZE
    settings = _settings(windows[0], names, range_of_all, K, reduction, lambda_dssim)
    if is_native and not (ranges is not None and ranges.requires_grad and torch.is_grad_enabled()):
        ranges = None if ranges is None else ranges.detach()
        return eager.ssim(img1, img2, settings, dims, data_ranges=ranges)
    if ranges is not None:
        ranges = ranges.to(checks.ARITHMETIC[img1.dtype])
    return composite.ssim_with_windows(img1, img2, None, ranges, settings, [window.taps() for window in windows])


def check(names: tuple[str, str], img1: object, img2: object, dims: int) -> None:
    """An error if the images do not fit together, or are no images of so many spatial axes."""
    for name, image in zip(names, (img1, img2), strict=True):
        checks.check_tensor(name, image)
        checks.check_layout(name, image)  # type: ignore[arg-type]
    assert isinstance(img1, Tensor)
    assert isinstance(img2, Tensor)
    checks.check_images(names, dims, img1.dtype, img1.device, img1.shape, img2.dtype, img2.device, img2.shape)


def _settings(
    window: Window,
    names: tuple[str, str],
    data_range: float,
    K: tuple[float, float],
    reduction: str,
    lambda_dssim: float | None,
) -> Settings:
    return eager.settings_of(
        padding="valid",
        window_size=window.size,
        sigma=1.5 if window.sigma is None else window.sigma,
        taps=window.taps() if window.sigma is None else None,
        data_range=data_range,
        K=K,
        reduction=reduction,
        names=names,
        **({} if lambda_dssim is None else {"lambda_dssim": lambda_dssim}),
    )


def _reflected(name: str, image: Tensor, widths: Sequence[int]) -> Tensor:
    for axis, width in enumerate(widths, start=2):
        if image.shape[axis] <= width:
            raise ValueError(
                f"{name}.shape[{axis}] = {image.shape[axis]}; expected more than {width}, so that the image can be "
                "continued by its reflection"
            )
    return functional.pad(image, [width for width in reversed(widths) for _ in range(2)], mode="reflect")
