# SPDX-License-Identifier: MIT
"""SSIM of arrays: the value, the map, and the value with its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from . import _call

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["decibels", "map", "value", "value_and_grad", "value_map_and_grad"]


def value(
    img1: Any,
    img2: Any,
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
    """The structural similarity (Wang et al. 2004) of two batches of images or volumes.

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, or another layout that ``channel_axis`` names:
            float32, float64, float16 or bfloat16, or integers: uint8, uint16 or int16.
        img2: as ``img1``, with the same shape, of the same library and on the same device. The dtypes may differ if one
            is of integers.
        padding: ``"same"`` pads with zeros, and every pixel counts; ``"valid"`` counts only pixels whose window lies
            inside the image, ``window_size // 2`` away from the border.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. Or an array of the same library, without axes or ``[N]``
            for a range of each image.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        reduction: ``"mean"`` or ``"sum"`` of the map, one number; ``"image"``, the mean of each image, ``[N]``;
            ``"channel"``, the mean of each channel of each image, ``[N, C]``; ``"none"``, the map, as :func:`map`.
        mask: how much each pixel counts, an array of the same library on the same device: bool, or float of the dtype
            of the result (at least 0, finite). Its shape is that of the images or broadcasts to it, or is that of their
            spatial axes alone. Means become ``sum(mask * SSIM) / sum(mask)`` over what the padding keeps, NaN where the
            mask is all 0; sums and maps are those of ``mask * SSIM``.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.
        channel_axis: where the channels are, in a batch of images (four axes) or of volumes (five); the first axis is
            the batch. With three axes, one image: 0 for ``[C, H, W]``, -1 for ``[H, W, C]``. None: an image ``[H, W]``
            or a volume ``[D, H, W]`` without channels.

    Returns:
        SSIM, at most 1, and 1 for identical images: float32, or float64 for float64 images. One number is a 0-d array,
        and a scalar for NumPy. ``[N]`` and ``[N, C]`` lack the axes that the images lack.

    Raises:
        ValueError: the shapes differ or are none that ``channel_axis`` allows, a side is shorter than the window with
            ``"valid"``, the devices differ, or another argument is out of range.
        TypeError: an image is not an array, or its dtype is not one of the four, or dtypes or libraries differ.
        RuntimeError: CUDA cannot be used (``fused_ssim.info()`` says why).

    Example:
        >>> fused_ssim.array.value(numpy_image, numpy_reference, data_range=255)

    """
    return _call.forward(
        img1,
        img2,
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
    )


def map(  # noqa: A001 - fused_ssim.array.map says what it is
    img1: Any,
    img2: Any,
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
    mask: Any = None,
    mask_mode: str = "weight",
    channel_axis: int | None = 1,
) -> Any:
    """The SSIM (Wang et al. 2004) of each pixel: arguments and errors as for :func:`value`.

    Returns:
        An array in the layout of the images, in H, W and D smaller by ``window_size - 1`` for ``"valid"``.

    """
    return _call.forward(
        img1,
        img2,
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
        reduction="none",
        mask_mode=mask_mode,
    )


@overload
def value_and_grad(
    img1: Any,
    img2: Any,
    padding: str = ...,
    *,
    argnums: int = ...,
    window_size: int | Sequence[int] = ...,
    sigma: float | Sequence[float] = ...,
    taps: str | Sequence[Any] | None = ...,
    sample_covariance: bool = ...,
    data_range: Any = ...,
    integer_scale: float | tuple[float, float] = ...,
    K: tuple[float, float] = ...,
    arithmetic: str | None = ...,
    reduction: str = ...,
    mask: Any = ...,
    mask_mode: str = ...,
    channel_axis: int | None = ...,
) -> tuple[Any, Any]: ...


@overload
def value_and_grad(
    img1: Any,
    img2: Any,
    padding: str = ...,
    *,
    argnums: Sequence[int],
    window_size: int | Sequence[int] = ...,
    sigma: float | Sequence[float] = ...,
    taps: str | Sequence[Any] | None = ...,
    sample_covariance: bool = ...,
    data_range: Any = ...,
    integer_scale: float | tuple[float, float] = ...,
    K: tuple[float, float] = ...,
    arithmetic: str | None = ...,
    reduction: str = ...,
    mask: Any = ...,
    mask_mode: str = ...,
    channel_axis: int | None = ...,
) -> tuple[Any, tuple[Any, ...]]: ...


def value_and_grad(
    img1: Any,
    img2: Any,
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
    """SSIM (Wang et al. 2004) and its gradient in one pass: arguments and errors as for :func:`value`.

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, or another layout that ``channel_axis`` names:
            float32, float64, float16 or bfloat16, or integers: uint8, uint16 or int16.
        img2: as ``img1``, with the same shape, of the same library and on the same device. The dtypes may differ if one
            is of integers.
        padding: ``"same"``, ``"valid"``, ``"reflect"``, ``"symmetric"`` or ``"replicate"``: what windows see beyond the
            border; ``"valid"`` counts only pixels whose window lies inside the image.
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
        reduction: ``"mean"``, ``"sum"``, ``"image"``, ``"channel"`` or ``"none"``: what the value is, as for
            :func:`value`.
        mask: how much each pixel counts, bool or float, as for :func:`value`.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.
        channel_axis: where the channels are, as for :func:`value`: 1, also -1 with the channels last; None for an image
            or a volume without channels.

    Returns:
        ``(value, grad)``, or ``(value, (grad1, grad2))`` if ``argnums`` is a tuple. The gradient is that of
        ``value.sum()``, C-contiguous, with the shape and dtype of its image. The gradient of a mean over many float16
        pixels is too small for float16: take ``reduction="sum"`` there.

    """
    return _call.value_and_grad(
        img1,
        img2,
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
    )


def value_map_and_grad(
    img1: Any,
    img2: Any,
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
    channel_axis: int | None = 1,
) -> tuple[Any, Any, Any]:
    """SSIM (Wang et al. 2004), its map and its gradient in one pass: arguments and errors as for :func:`value`.

    It takes no masks, and no arrays of Numba.

    Returns:
        ``(value, map, grad)``, or ``(value, map, (grad1, grad2))`` if ``argnums`` is a tuple. The value is the mean or
        the sum of the map, as ``reduction`` says; the gradient is that of the value.

    """
    return _call.value_map_and_grad(
        img1,
        img2,
        channel_axis,
        argnums,
        reduction,
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        taps=taps,
        sample_covariance=sample_covariance,
        data_range=data_range,
        integer_scale=integer_scale,
        K=K,
        arithmetic=arithmetic,
        mask_mode="weight",
    )


def decibels(
    img1: Any,
    img2: Any,
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
    """SSIM (Wang et al. 2004) in decibels, ``-10 log10(1 - SSIM)``: 20 dB for 0.99, infinite for identical images.

    ``1 - SSIM`` is computed as such, so that high values keep their digits. Arguments and errors as for :func:`value`,
    but no ``reduction="sum"`` and no arrays of Numba.
    """
    return _call.decibels(
        img1,
        img2,
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
    )
