# SPDX-License-Identifier: MIT
"""SSIM and MS-SSIM as torchmetrics defines them: the computation behind its functions and its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from .._base.arguments import number
from .._base.settings import INFINITE_K
from .._torch import checks
from . import _windows
from ._windows import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    Range = float | tuple[float, float] | Tensor | None

_NAMES = ("preds", "target")
_REDUCTIONS = ("elementwise_mean", "sum", "none", None)


class Measure:
    """The arguments that both functions share."""

    def __init__(
        self,
        gaussian_kernel: bool,
        sigma: float | Sequence[float],
        kernel_size: int | Sequence[int],
        data_range: Range,
        k1: float,
        k2: float,
    ) -> None:
        self.gaussian_kernel, self.sigma, self.kernel_size = bool(gaussian_kernel), sigma, kernel_size
        self.data_range, self.K = _checked_range(data_range), (number("k1", k1), number("k2", k2))

    def check(self) -> None:
        """An error if an argument is bad, as far as that shows without images."""
        counts = {len(each) for each in (self.sigma, self.kernel_size) if not isinstance(each, (int, float))}
        if not counts <= {2, 3}:
            raise ValueError(
                f"sigma = {self.sigma!r} and kernel_size = {self.kernel_size!r}; expected one number, or one for each "
                "of 2 or 3 spatial axes"
            )
        for dims in counts or {2}:
            self.windows(dims)

    def sizes(self, dims: int) -> tuple[int, ...]:
        """``kernel_size`` of each axis."""
        sizes = _windows.for_each_axis("kernel_size", self.kernel_size, dims)
        return tuple(_windows.odd("kernel_size", size) for size in sizes)

    def windows(self, dims: int) -> tuple[Window, ...]:
        sigmas = [_windows.positive("sigma", each) for each in _windows.for_each_axis("sigma", self.sigma, dims)]
        if not self.gaussian_kernel:
            return tuple(Window(size, None) for size in self.sizes(dims))
        return tuple(Window(int(3.5 * sigma + 0.5) * 2 + 1, sigma) for sigma in sigmas)

    def values(
        self, preds: Tensor, target: Tensor, with_map: bool = False, with_contrast: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """SSIM of each image, and the map or the contrast of each image, if one of them is wanted."""
        if with_map and with_contrast:
            raise ValueError(
                "return_full_image and return_contrast_sensitivity are both True; expected at most one of them"
            )
        preds, target, data_range = self._ranged(preds, target)
        if with_map:
            full = self._ssim(preds, target, data_range, "none")
            return full.flatten(1).mean(1), full
        values = self._ssim(preds, target, data_range, "image")
        return values, self._contrast(preds, target, data_range) if with_contrast else None

    def multi_scale(self, preds: Tensor, target: Tensor, betas: tuple[float, ...], normalize: str | None) -> Tensor:
        """MS-SSIM of each image."""
        dims = preds.dim() - 2
        self._check_size(preds, len(betas))
        pool = functional.avg_pool3d if dims == 3 else functional.avg_pool2d
        factors = []
        for scale in range(len(betas)):
            if scale:
                preds, target = (pool(_windows.as_float(image), 2) for image in (preds, target))
            ranged = self._ranged(preds, target)
            last = scale == len(betas) - 1
            factor = self._ssim(*ranged, "image") if last else self._contrast(*ranged)
            factors.append(torch.relu(factor) if normalize == "relu" else factor)
        found = torch.stack(factors)
        if normalize == "simple":
            found = (found + 1) / 2
        # In the default dtype, as torchmetrics has them: their digits are part of the result.
        weights = torch.tensor(betas, device=found.device).view(-1, 1)
        return torch.prod(found**weights, 0)

    def _ssim(self, preds: Tensor, target: Tensor, data_range: float | Tensor, reduction: str) -> Tensor:
        dims = preds.dim() - 2
        windows, padding = self.windows(dims), "reflect"
        border = [window.radius for window in windows]
        if dims == 3 and border[2] != self.sizes(dims)[2] // 2:
            # The border of the last axis is that of kernel_size, also for a Gaussian. If the window is another, the map
            # is smaller or larger than the images.
            border[2] = self.sizes(dims)[2] // 2
            preds, target = (
                _reflected(name, image, border) for name, image in zip(_NAMES, (preds, target), strict=True)
            )
            padding = "valid"
        return _windows.ssim(
            preds,
            target,
            windows,
            names=_NAMES,
            data_range=data_range,
            K=self.K,
            reduction=reduction,
            padding=padding,
        )

    def _contrast(self, preds: Tensor, target: Tensor, data_range: float | Tensor) -> Tensor:
        """The mean of contrast and structure of each image, over the windows inside it."""
        windows = self.windows(preds.dim() - 2)
        K = (INFINITE_K, self.K[1])
        return _windows.ssim(preds, target, windows, names=_NAMES, data_range=data_range, K=K, reduction="image")

    def _ranged(self, preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor, float | Tensor]:
        """The images and their data range."""
        if self.data_range is None:
            # As floats first: torch has no extremes of uint16, and int16 has none of their difference.
            ranges = [image.amax() - image.amin() for image in (_windows.as_float(preds), _windows.as_float(target))]
            return preds, target, torch.maximum(*ranges)
        if isinstance(self.data_range, tuple):
            low, high = self.data_range
            preds, target = (_windows.as_float(image).clamp(low, high) for image in (preds, target))
            return preds, target, high - low
        return preds, target, self.data_range

    def _check_size(self, preds: Tensor, scales: int) -> None:
        sizes = self.sizes(preds.dim() - 2)
        shrinking = max(1, scales - 1) ** 2
        for axis, size in ((-2, sizes[0]), (-1, sizes[1])):
            least = max(2**scales, size * shrinking)
            if preds.shape[axis] < least:
                raise ValueError(
                    f"preds.shape[{preds.dim() + axis}] = {preds.shape[axis]}; expected at least {least} for "
                    f"{scales} scales and kernel_size {size}"
                )


def _reflected(name: str, image: Tensor, widths: Sequence[int]) -> Tensor:
    for axis, width in enumerate(widths, start=2):
        if image.shape[axis] <= width:
            raise ValueError(
                f"{name}.shape[{axis}] = {image.shape[axis]}; expected more than {width}, so that the image can be "
                "continued by its reflection"
            )
    image = _windows.as_float(image)
    return functional.pad(image, [width for width in reversed(widths) for _ in range(2)], mode="reflect")


def checked(preds: object, target: object) -> tuple[Tensor, Tensor]:
    for name, image in zip(_NAMES, (preds, target), strict=True):
        checks.check_tensor(name, image)
    assert isinstance(preds, Tensor)
    assert isinstance(target, Tensor)
    if preds.dim() not in (4, 5):
        raise ValueError(
            f"preds.shape = {tuple(preds.shape)} has {preds.dim()} axes; expected 4, [N, C, H, W], or 5, "
            "[N, C, D, H, W]"
        )
    preds, target = _windows.readable(preds), _windows.readable(target)
    if preds.is_floating_point() and target.is_floating_point():
        target = target.to(preds.dtype)
    _windows.check(_NAMES, preds, target, preds.dim() - 2)
    return preds, target


def _checked_range(data_range: Any) -> Range:
    if data_range is None:
        return None
    if isinstance(data_range, tuple):
        if len(data_range) != 2:
            raise ValueError(f"data_range = {data_range!r}; expected the smallest and the largest value")
        low, high = (number(f"data_range[{index}]", value) for index, value in enumerate(data_range))
        if not low < high:
            raise ValueError(f"data_range = {data_range!r}; expected the smallest value first")
        return low, high
    return data_range if isinstance(data_range, Tensor) else number("data_range", data_range)


def check_reduction(reduction: object) -> None:
    if reduction not in _REDUCTIONS:
        raise ValueError(f'reduction = {reduction!r}; expected "elementwise_mean", "sum", "none" or None')


def check_scales(betas: Any, normalize: Any) -> None:
    if not isinstance(betas, tuple) or not betas or not all(isinstance(beta, float) for beta in betas):
        raise ValueError(f"betas = {betas!r}; expected a tuple of floats")
    if normalize not in (None, "relu", "simple"):
        raise ValueError(f'normalize = {normalize!r}; expected "relu", "simple" or None')


def reduced(values: Tensor, reduction: str | None) -> Tensor:
    if reduction == "elementwise_mean":
        return values.mean()
    return values.sum() if reduction == "sum" else values
