# SPDX-License-Identifier: MIT
"""SSIM and MS-SSIM under the names and with the arguments of piq (0.8), for images.

Images are first made smaller by averages of ``round(min(H, W) / 256)`` pixels along each axis, unless
``downsample=False``. Only windows inside the image count. Complex images, ``[N, C, H, W, 2]``, are refused. The values
of the images are not looked at: piq refuses those outside of ``[0, data_range]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from .._base.arguments import choice, number
from .._base.settings import INFINITE_K
from .._torch import checks
from . import _windows
from ._windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MultiScaleSSIMLoss", "SSIMLoss", "multi_scale_ssim", "ssim"]

_NAMES = ("x", "y")
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim(
    x: Tensor,
    y: Tensor,
    kernel_size: int = 11,
    kernel_sigma: float = 1.5,
    data_range: float = 1.0,
    reduction: str = "mean",
    full: bool = False,
    downsample: bool = True,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Tensor | list[Tensor]:
    """The structural similarity (Wang et al. 2004) as piq defines it, differentiable in both images.

    Args:
        x: images ``[N, C, H, W]``; integers count as float32.
        y: as ``x``, with the same shape, dtype and device.
        kernel_size: taps of the Gaussian window along each axis: odd.
        kernel_sigma: standard deviation of the window, in pixels.
        data_range: the largest value that a pixel can have minus the smallest.
        reduction: ``"mean"`` or ``"sum"`` of the images, 0-d; ``"none"``: the value of each, ``[N]``.
        full: also contrast and structure, reduced alike.
        downsample: whether large images are made smaller first.
        k1: the constant of the luminance term.
        k2: the constant of the contrast term.

    Returns:
        SSIM, or a list of it and of contrast and structure.

    Raises:
        ValueError: the shapes differ or have other than four axes, the window is even or larger than the images, or
            another argument is out of range.
        TypeError: the dtypes differ, or an argument is of another type.

    """
    measure = _Measure(kernel_size, kernel_sigma, data_range, k1, k2)
    reduction = _checked_reduction(reduction)
    x, y = _smaller(*_checked(x, y), downsample)
    value = _reduced(measure.values(x, y, "image"), reduction)
    return [value, _reduced(measure.contrast(x, y, "image"), reduction)] if full else value


def multi_scale_ssim(
    x: Tensor,
    y: Tensor,
    kernel_size: int = 11,
    kernel_sigma: float = 1.5,
    data_range: float = 1.0,
    reduction: str = "mean",
    scale_weights: Tensor | None = None,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Tensor:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003) as piq defines it.

    Each scale halves the images by averages of two pixels along each axis. If H or W is odd, both first get a copy of
    their first row and column in front.

    Args:
        x: images ``[N, C, H, W]``, as for :func:`ssim`.
        y: as ``x``.
        kernel_size: taps of the Gaussian window along each axis: odd.
        kernel_sigma: standard deviation of the window, in pixels.
        data_range: the largest value that a pixel can have minus the smallest.
        reduction: ``"mean"`` or ``"sum"`` of the images, 0-d; ``"none"``: the value of each, ``[N]``.
        scale_weights: of the scales, finest first, of any sum: they are divided by it. Default: .0448, .2856, .3001,
            .2363, .1333.
        k1: the constant of the luminance term.
        k2: the constant of the contrast term.

    Returns:
        MS-SSIM.

    Raises:
        ValueError, TypeError: as :func:`ssim`; or the images are too small for their scales.

    """
    measure = _Measure(kernel_size, kernel_sigma, data_range, k1, k2)
    reduction = _checked_reduction(reduction)
    x, y = _checked(x, y)
    if scale_weights is None:
        weights = torch.tensor(
            _SCALE_WEIGHTS,
            dtype=torch.promote_types(checks.ARITHMETIC[x.dtype], checks.ARITHMETIC[y.dtype]),
            device=x.device,
        )
    else:
        checks.check_tensor("scale_weights", scale_weights)
        if scale_weights.dim() != 1:
            raise ValueError(f"scale_weights.shape = {tuple(scale_weights.shape)}; expected a single axis")
        weights = scale_weights / scale_weights.sum()
    return _reduced(measure.multi_scale(x, y, weights), reduction)


# ---- Modules ---------------------------------------------------------------------------------------------------------


class SSIMLoss(nn.Module):
    """The loss ``1 - ssim(...)`` (Wang et al. 2004), with the arguments of :func:`ssim`.

    Args:
        kernel_size: taps of the Gaussian window along each axis: odd.
        kernel_sigma: standard deviation of the window, in pixels.
        k1: the constant of the luminance term.
        k2: the constant of the contrast term.
        downsample: whether large images are made smaller first.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` of the images. The sum is subtracted from a single 1, as in piq.
        data_range: the largest value that a pixel can have minus the smallest.

    """

    def __init__(
        self,
        kernel_size: int = 11,
        kernel_sigma: float = 1.5,
        k1: float = 0.01,
        k2: float = 0.03,
        downsample: bool = True,
        reduction: str = "mean",
        data_range: float = 1.0,
    ) -> None:
        super().__init__()
        self._measure = _Measure(kernel_size, kernel_sigma, data_range, k1, k2)
        self.reduction = _checked_reduction(reduction)
        self.downsample = downsample

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of images ``[N, C, H, W]``."""
        x, y = _smaller(*_checked(x, y), self.downsample)
        if self.reduction == "sum":
            return 1 - self._measure.values(x, y, "image").sum()
        # With the digits that 1 - SSIM loses where the images nearly agree.
        return _reduced(self._measure.values(x, y, "image", lambda_dssim=1.0), self.reduction)


class MultiScaleSSIMLoss(nn.Module):
    """The loss ``1 - multi_scale_ssim(...)`` (Wang, Simoncelli and Bovik 2003), with the arguments of that function.

    Args:
        kernel_size: taps of the Gaussian window along each axis: odd.
        kernel_sigma: standard deviation of the window, in pixels.
        k1: the constant of the luminance term.
        k2: the constant of the contrast term.
        scale_weights: of the scales, finest first; kept as a buffer.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` of the images. The sum is subtracted from a single 1, as in piq.
        data_range: the largest value that a pixel can have minus the smallest.

    """

    scale_weights: Tensor

    def __init__(
        self,
        kernel_size: int = 11,
        kernel_sigma: float = 1.5,
        k1: float = 0.01,
        k2: float = 0.03,
        scale_weights: Tensor | None = None,
        reduction: str = "mean",
        data_range: float = 1.0,
    ) -> None:
        super().__init__()
        _Measure(kernel_size, kernel_sigma, data_range, k1, k2)  # an error at once if they are bad
        self.reduction = _checked_reduction(reduction)
        weights = torch.tensor(_SCALE_WEIGHTS) if scale_weights is None else scale_weights
        self.register_buffer("scale_weights", weights)
        self.kernel_size, self.kernel_sigma, self.data_range = kernel_size, kernel_sigma, data_range
        self.k1, self.k2 = k1, k2

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of images ``[N, C, H, W]``."""
        value = multi_scale_ssim(
            x,
            y,
            kernel_size=self.kernel_size,
            kernel_sigma=self.kernel_sigma,
            data_range=self.data_range,
            reduction=self.reduction,
            scale_weights=self.scale_weights,
            k1=self.k1,
            k2=self.k2,
        )
        return 1 - value


# ---- Computation -----------------------------------------------------------------------------------------------------


class _Measure:
    """The arguments that all of them share."""

    def __init__(self, kernel_size: int, kernel_sigma: float, data_range: float, k1: float, k2: float) -> None:
        self.window = Window(_windows.odd("kernel_size", kernel_size), _windows.positive("kernel_sigma", kernel_sigma))
        self.data_range = number("data_range", data_range)
        self.K = number("k1", k1), number("k2", k2)

    def values(self, x: Tensor, y: Tensor, reduction: str, lambda_dssim: float | None = None) -> Tensor:
        return self._ssim(x, y, self.K, reduction, lambda_dssim)

    def contrast(self, x: Tensor, y: Tensor, reduction: str) -> Tensor:
        """Contrast and structure alone."""
        return self._ssim(x, y, (INFINITE_K, self.K[1]), reduction, None)

    def multi_scale(self, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """MS-SSIM of each image."""
        scales = len(weights)
        least = (self.window.size - 1) * 2 ** (scales - 1) + 1
        for axis in (2, 3):
            if x.shape[axis] < least:
                raise ValueError(
                    f"x.shape[{axis}] = {x.shape[axis]}; expected at least {least} = ({self.window.size} - 1) * "
                    f"2**{scales - 1} + 1 for {scales} scales"
                )
        factors = []
        for scale in range(scales):
            if scale:
                x, y = _halved(x), _halved(y)
            factors.append((self.values if scale == scales - 1 else self.contrast)(x, y, "channel"))
        found: Tensor = torch.prod(torch.relu(torch.stack(factors)) ** weights.view(-1, 1, 1), dim=0)
        return found.mean(1)

    def _ssim(self, x: Tensor, y: Tensor, K: tuple[float, float], reduction: str, lambda_dssim: float | None) -> Tensor:
        return _windows.ssim(
            x,
            y,
            (self.window,) * 2,
            names=_NAMES,
            data_range=self.data_range,
            K=K,
            reduction=reduction,
            lambda_dssim=lambda_dssim,
        )


def _checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    for name, image in zip(_NAMES, (x, y), strict=True):
        checks.check_tensor(name, image)
        if image.dim() == 5 and image.shape[-1] == 2:
            raise ValueError(
                f"{name}.shape = {tuple(image.shape)}; expected [N, C, H, W]: complex images are not supported"
            )
    x, y = _windows.readable(x), _windows.readable(y)
    _windows.check(_NAMES, x, y, 2)
    return x, y


def _smaller(x: Tensor, y: Tensor, downsample: bool) -> tuple[Tensor, Tensor]:
    factor = round(min(x.shape[-2:]) / 256)
    if not downsample or factor <= 1:
        return x, y
    x, y = _windows.as_float(x), _windows.as_float(y)
    return functional.avg_pool2d(x, factor), functional.avg_pool2d(y, factor)


def _halved(image: Tensor) -> Tensor:
    image = _windows.as_float(image)
    if image.shape[2] % 2 or image.shape[3] % 2:
        image = functional.pad(image, [1, 0, 1, 0], mode="replicate")
    return functional.avg_pool2d(image, 2)


def _checked_reduction(reduction: object) -> str:
    check: Callable[[str, object], str] = choice(("none", "mean", "sum"))
    return check("reduction", reduction)


def _reduced(values: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return values.mean()
    return values.sum() if reduction == "sum" else values
