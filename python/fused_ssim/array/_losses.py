# SPDX-License-Identifier: MIT
"""The photometric loss and MS-SSIM of arrays, and their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._base.arguments import number
from .._base.settings import scale_weights
from . import _call

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ms_ssim", "ms_ssim_and_grad", "photometric_loss", "photometric_loss_and_grad"]

_NAMES = ("pred", "target")


def photometric_loss(
    pred: Any,
    target: Any,
    lambda_dssim: float = 0.2,
    padding: str = "same",
    *,
    window_size: int | Sequence[int] = 11,
    sigma: float | Sequence[float] = 1.5,
    taps: str | Sequence[Any] | None = None,
    sample_covariance: bool = False,
    data_range: Any = None,
    integer_scale: float | tuple[float, float] = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    arithmetic: str | None = None,
    reduction: str = "mean",
    mask: Any = None,
    mask_mode: str = "weight",
    channel_axis: int | None = 1,
) -> Any:
    """The loss ``(1 - lambda_dssim) * mean|pred - target| + lambda_dssim * (1 - SSIM)``, in one pass over memory.

    The loss of photometric reconstruction; H. Zhao, O. Gallo, I. Frosio and J. Kautz, "Loss functions for image
    restoration with neural networks", IEEE Transactions on Computational Imaging 3 (2017). Where the images nearly
    agree, it keeps the digits that ``1 - value(...)`` loses.

    Args:
        pred: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, or another layout that ``channel_axis`` names:
            float32, float64, float16 or bfloat16, or integers: uint8, uint16 or int16.
        target: as ``pred``, with the same shape, of the same library and device; the dtypes may differ if one is of
            integers.
        lambda_dssim: the share of SSIM, 0 to 1; 1 is the loss ``1 - SSIM``.
        padding: ``"same"`` pads with zeros, and every pixel counts; ``"valid"`` counts only pixels whose window lies
            inside the image. ``"valid"`` is about SSIM: the mean of ``|pred - target|`` is that of all pixels.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``; the difference is not divided by it. Or an array, ``[N]``
            for a range of each image.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        reduction: ``"mean"``, ``"sum"``, ``"image"`` (``[N]``) or ``"channel"`` (``[N, C]``), of both terms;
            ``"none"``, the sum of both for each pixel, not with ``"valid"`` unless ``lambda_dssim`` is 1.
        mask: how much each pixel counts, bool or float, as for :func:`value`.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.
        channel_axis: where the channels are, as for :func:`value`: 1, also -1 with the channels last; None for an image
            or a volume without channels.

    Returns:
        The loss, at least 0, and 0 for identical images: float32, or float64 for float64 images.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`value`.

    """
    return _call.forward(
        pred,
        target,
        mask,
        channel_axis,
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
        lambda_dssim=number("lambda_dssim", lambda_dssim),
        names=_NAMES,
    )


def photometric_loss_and_grad(
    pred: Any,
    target: Any,
    lambda_dssim: float = 0.2,
    padding: str = "same",
    *,
    argnums: int | Sequence[int] = 0,
    window_size: int | Sequence[int] = 11,
    sigma: float | Sequence[float] = 1.5,
    taps: str | Sequence[Any] | None = None,
    sample_covariance: bool = False,
    data_range: Any = None,
    integer_scale: float | tuple[float, float] = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    arithmetic: str | None = None,
    reduction: str = "mean",
    mask: Any = None,
    mask_mode: str = "weight",
    channel_axis: int | None = 1,
) -> tuple[Any, Any]:
    """:func:`photometric_loss` (Zhao et al. 2017) and its gradient, in one pass over memory.

    Args:
        pred: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, or another layout that ``channel_axis`` names:
            float32, float64, float16 or bfloat16, or integers: uint8, uint16 or int16.
        target: as ``pred``, with the same shape, of the same library and device; the dtypes may differ if one is of
            integers.
        lambda_dssim: the share of SSIM, 0 to 1; 1 is the loss ``1 - SSIM``.
        padding: ``"same"`` pads with zeros, and every pixel counts; ``"valid"`` counts only pixels whose window lies
            inside the image. ``"valid"`` is about SSIM: the mean of ``|pred - target|`` is that of all pixels.
        argnums: which gradient: 0 for ``pred``, 1 for ``target``, ``(0, 1)`` for both.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``; the difference is not divided by it. Or an array, ``[N]``
            for a range of each image.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        reduction: ``"mean"``, ``"sum"``, ``"image"`` (``[N]``) or ``"channel"`` (``[N, C]``), of both terms;
            ``"none"``, the sum of both for each pixel, not with ``"valid"`` unless ``lambda_dssim`` is 1.
        mask: how much each pixel counts, bool or float, as for :func:`value`.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.
        channel_axis: where the channels are, as for :func:`value`: 1, also -1 with the channels last; None for an image
            or a volume without channels.

    Returns:
        ``(value, grad)``, or ``(value, (grad1, grad2))`` if ``argnums`` is a tuple. The gradient is that of
        ``value.sum()``, C-contiguous, with the shape and dtype of its image.
        Where ``pred`` and ``target`` are equal, ``|pred - target|`` has the gradient 0.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`value`.

    """
    return _call.value_and_grad(
        pred,
        target,
        mask,
        channel_axis,
        argnums,
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
        lambda_dssim=number("lambda_dssim", lambda_dssim),
        names=_NAMES,
    )


def ms_ssim(
    img1: Any,
    img2: Any,
    padding: str = "valid",
    *,
    window_size: int | Sequence[int] = 11,
    sigma: float | Sequence[float] = 1.5,
    taps: str | Sequence[Any] | None = None,
    sample_covariance: bool = False,
    data_range: Any = None,
    integer_scale: float | tuple[float, float] = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    arithmetic: str | None = None,
    weights: Iterable[float] | None = None,
    reduction: str = "mean",
    channel_axis: int | None = 1,
) -> Any:
    """Multi-scale structural similarity, as :func:`fused_ssim.ms_ssim` defines it.

    Z. Wang, E. P. Simoncelli and A. C. Bovik, "Multi-scale structural similarity for image quality assessment",
    Asilomar Conference on Signals, Systems and Computers (2003).

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, or another layout that ``channel_axis`` names:
            float32, float64, float16 or bfloat16, or integers: uint8, uint16 or int16.
        img2: as ``img1``, with the same shape, of the same library and device; the dtypes may differ if one is of
            integers.
        padding: ``"valid"``: each side must be larger than ``(window_size - 1) * 2**(scales - 1)``; or another
            one, which continues the images of each scale and takes images of any size.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. Or an array, ``[N]`` for a range of each image.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        weights: of the scales, finest first; 1 to 8 of them. Default: .0448, .2856, .3001, .2363, .1333.
        reduction: ``"mean"`` or ``"sum"`` of all channels of all images, one number; ``"image"``, the mean of each
            image, ``[N]``; ``"channel"``, the value of each channel of each image, ``[N, C]``.
        channel_axis: where the channels are, as for :func:`value`: 1, also -1 with the channels last; None for an image
            or a volume without channels.

    Returns:
        MS-SSIM, from 0 to 1: float32, or float64 for float64 images.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`value`; or an image is too small for its scales.

    """
    return _call.forward(
        img1,
        img2,
        None,
        channel_axis,
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
        weights=scale_weights(weights),
    )


def ms_ssim_and_grad(
    img1: Any,
    img2: Any,
    padding: str = "valid",
    *,
    argnums: int | Sequence[int] = 0,
    window_size: int | Sequence[int] = 11,
    sigma: float | Sequence[float] = 1.5,
    taps: str | Sequence[Any] | None = None,
    sample_covariance: bool = False,
    data_range: Any = None,
    integer_scale: float | tuple[float, float] = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    arithmetic: str | None = None,
    weights: Iterable[float] | None = None,
    reduction: str = "mean",
    channel_axis: int | None = 1,
) -> tuple[Any, Any]:
    """:func:`ms_ssim` (Wang, Simoncelli and Bovik 2003) and its gradient.

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, or another layout that ``channel_axis`` names:
            float32, float64, float16 or bfloat16, or integers: uint8, uint16 or int16.
        img2: as ``img1``, with the same shape, of the same library and device; the dtypes may differ if one is of
            integers.
        padding: ``"valid"``: each side must be larger than ``(window_size - 1) * 2**(scales - 1)``; or another
            one, which continues the images of each scale and takes images of any size.
        argnums: which gradient: 0 for ``img1``, 1 for ``img2``, ``(0, 1)`` for both.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. Or an array, ``[N]`` for a range of each image.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        weights: of the scales, finest first; 1 to 8 of them. Default: .0448, .2856, .3001, .2363, .1333.
        reduction: ``"mean"`` or ``"sum"`` of all channels of all images, one number; ``"image"``, the mean of each
            image, ``[N]``; ``"channel"``, the value of each channel of each image, ``[N, C]``.
        channel_axis: where the channels are, as for :func:`value`: 1, also -1 with the channels last; None for an image
            or a volume without channels.

    Returns:
        ``(value, grad)``, or ``(value, (grad1, grad2))`` if ``argnums`` is a tuple. The gradient is that of
        ``value.sum()``, C-contiguous, with the shape and dtype of its image.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`ms_ssim`.

    """
    return _call.value_and_grad(
        img1,
        img2,
        None,
        channel_axis,
        argnums,
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
        weights=scale_weights(weights),
    )
