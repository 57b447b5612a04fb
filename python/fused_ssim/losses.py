# SPDX-License-Identifier: MIT
"""Losses as modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ._base.checked import check_numbers
from ._base.settings import scale_weights
from ._torch import checks, eager
from ._torch.checks import spatial_dims_of
from .functional import photometric_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MSSSIMLoss", "PhotometricLoss", "SSIMLoss"]


class _Loss(nn.Module):
    """A module without state. It prints its settings, which are its constructor's arguments."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        data_range, self._ranges = checks.split_range(settings["data_range"])
        self._native_settings = eager.settings_of(**{**settings, "data_range": data_range}, names=("pred", "target"))
        if not torch.compiler.is_dynamo_compiling():
            check_numbers(self._native_settings)  # an error at once if they are bad
        self.settings = settings

    def extra_repr(self) -> str:
        """The settings, for printing."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())


class PhotometricLoss(_Loss):
    """:func:`photometric_loss` as a module: ``(1 - lambda_dssim) * mean|pred - target| + lambda_dssim * (1 - SSIM)``.

    Images ``[N, C, H, W]`` and volumes ``[N, C, D, H, W]`` may alternate.

    Args:
        lambda_dssim: the share of SSIM, 0 to 1; 1 is the loss ``1 - SSIM``.
        padding: ``"same"``, ``"valid"``, ``"reflect"``, ``"symmetric"`` or ``"replicate"``: what windows see beyond the
            border; ``"valid"`` counts only pixels whose window lies inside the image.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. Or a tensor, ``[N]`` for a range of each image.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        reduction: ``"mean"`` or ``"sum"``, a 0-d tensor; ``"image"``, the mean of each image, ``[N]``; ``"channel"``,
            of each channel, ``[N, C]``; ``"none"``, a value for each pixel.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.

    Raises:
        ValueError, TypeError: an argument is out of range, or of the wrong type.

    """

    def __init__(
        self,
        lambda_dssim: float = 0.2,
        padding: str = "same",
        *,
        window_size: int | Sequence[int] = 11,
        sigma: float | Sequence[float] = 1.5,
        taps: str | Sequence[Any] | None = None,
        sample_covariance: bool = False,
        data_range: float | Tensor | None = None,
        integer_scale: float | tuple[float, float] = 1.0,
        K: tuple[float, float] = (0.01, 0.03),
        arithmetic: str | None = None,
        reduction: str = "mean",
        mask_mode: str = "weight",
    ) -> None:
        super().__init__(
            lambda_dssim=lambda_dssim,
            padding=padding,
            window_size=window_size,
            sigma=sigma,
            taps=taps,
            sample_covariance=sample_covariance,
            data_range=data_range,
            integer_scale=integer_scale,
            K=K,
            arithmetic=arithmetic,
            reduction=reduction,
            mask_mode=mask_mode,
        )

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of ``pred``, with the settings of the module."""
        return photometric_loss(pred, target, mask=mask, **self.settings)


class SSIMLoss(_Loss):
    """The loss ``1 - SSIM`` (Wang et al. 2004), from 0 for identical images to 2.

    It keeps the digits that ``1 - fused_ssim(...)`` loses where the images nearly agree. Images ``[N, C, H, W]`` and
    volumes ``[N, C, D, H, W]`` may alternate.

    Args:
        padding: ``"same"``, ``"valid"``, ``"reflect"``, ``"symmetric"`` or ``"replicate"``: what windows see beyond the
            border; ``"valid"`` counts only pixels whose window lies inside the image.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. Or a tensor, ``[N]`` for a range of each image.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        reduction: ``"mean"`` or ``"sum"``, a 0-d tensor; ``"image"``, the mean of each image, ``[N]``; ``"channel"``,
            of each channel, ``[N, C]``; ``"none"``, a value for each pixel, of the map of ``1 - SSIM``.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.

    Raises:
        ValueError, TypeError: an argument is out of range, or of the wrong type.

    """

    def __init__(
        self,
        padding: str = "same",
        *,
        window_size: int | Sequence[int] = 11,
        sigma: float | Sequence[float] = 1.5,
        taps: str | Sequence[Any] | None = None,
        sample_covariance: bool = False,
        data_range: float | Tensor | None = None,
        integer_scale: float | tuple[float, float] = 1.0,
        K: tuple[float, float] = (0.01, 0.03),
        arithmetic: str | None = None,
        reduction: str = "mean",
        mask_mode: str = "weight",
    ) -> None:
        super().__init__(
            padding=padding,
            window_size=window_size,
            sigma=sigma,
            taps=taps,
            sample_covariance=sample_covariance,
            data_range=data_range,
            integer_scale=integer_scale,
            K=K,
            arithmetic=arithmetic,
            reduction=reduction,
            mask_mode=mask_mode,
        )

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of ``pred``, with the settings of the module."""
        return photometric_loss(pred, target, 1.0, mask=mask, **self.settings)


class MSSSIMLoss(_Loss):
    """The loss ``1 - MS-SSIM`` (Wang, Simoncelli and Bovik 2003), from 0 for identical images to 1.

    Images ``[N, C, H, W]`` and volumes ``[N, C, D, H, W]`` may alternate.

    Args:
        padding: ``"valid"``, as in :func:`ms_ssim`: each side must be larger than ``(window_size - 1) * 2**(scales -
            1)``; or ``"same"``, which pads each scale with zeros and takes images of any size.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis. The
            same at every scale.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. Or a tensor, ``[N]`` for a range of each image.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        weights: of the scales, finest first; 1 to 8 of them. Default: those of the paper, .0448, .2856, .3001, .2363,
            .1333.
        reduction: ``"mean"`` or ``"sum"`` over all channels of all images, ``"image"`` (``[N]``) or ``"channel"``
            (``[N, C]``).

    Raises:
        ValueError, TypeError: an argument is out of range, or of the wrong type.

    """

    def __init__(
        self,
        padding: str = "valid",
        *,
        window_size: int | Sequence[int] = 11,
        sigma: float | Sequence[float] = 1.5,
        taps: str | Sequence[Any] | None = None,
        sample_covariance: bool = False,
        data_range: float | Tensor | None = None,
        integer_scale: float | tuple[float, float] = 1.0,
        K: tuple[float, float] = (0.01, 0.03),
        arithmetic: str | None = None,
        weights: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
    ) -> None:
        if reduction == "none":
            raise ValueError('reduction = \'none\'; expected "mean", "sum", "image" or "channel": MS-SSIM has no map')
        super().__init__(
            padding=padding,
            window_size=window_size,
            sigma=sigma,
            taps=taps,
            sample_covariance=sample_covariance,
            data_range=data_range,
            integer_scale=integer_scale,
            K=K,
            arithmetic=arithmetic,
            weights=scale_weights(weights),
            reduction=reduction,
        )

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss of ``pred``, with the settings of the module."""
        value = eager.ssim(pred, target, self._native_settings, spatial_dims_of("pred", pred), data_ranges=self._ranges)
        return pred.shape[0] * pred.shape[1] - value if self.settings["reduction"] == "sum" else 1 - value
