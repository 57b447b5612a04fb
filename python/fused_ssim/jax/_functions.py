# SPDX-License-Identifier: MIT
"""SSIM, MS-SSIM and a loss as functions of JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._base.arguments import number
from .._base.settings import scale_weights
from . import _call

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ms_ssim", "photometric_loss", "ssim"]


def ssim(
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
    """The structural similarity (Wang et al. 2004) of two batches of images or volumes, differentiable in both.

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, or another layout that ``channel_axis`` names: an
            array of JAX or NumPy, float32, float64, float16 or bfloat16, or integers: uint8, uint16 or int16.
        img2: as ``img1``, with the same shape. The dtypes may differ if one is of integers.
        padding: what windows see beyond the border of an image ``a b c d``. ``"same"``: zeros; ``"reflect"``:
            ``d c b | a b c d | c b a``; ``"symmetric"``: ``c b a | a b c d | d c b``; ``"replicate"``:
            ``a a a | a b c d | d d d``. Every pixel counts for these. ``"valid"`` counts only pixels whose window lies
            inside the image, ``window_size // 2`` away from the border.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. A number is compiled in. An array, without axes or
            ``[N]`` for a range of each image, may change from call to call.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are; it needs
            JAX's ``jax_enable_x64``. None: float32, and float64 for float64 images.
        reduction: ``"mean"`` or ``"sum"`` of the map, one number; ``"image"``, the mean of each image, ``[N]``;
            ``"channel"``, the mean of each channel of each image, ``[N, C]``; ``"none"``, the map, in the layout of the
            images, in H, W and D smaller by ``window_size - 1`` for ``"valid"``.
        mask: how much each pixel counts: an array, bool, or float of the dtype of the result (at least 0, finite). Its
            shape is that of the images or broadcasts to it, or is that of their spatial axes alone. Means become
            ``sum(mask * SSIM) / sum(mask)`` over what the padding keeps, NaN where the mask is all 0; sums and maps are
            those of ``mask * SSIM``.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.
        channel_axis: where the channels are, in a batch of images (four axes) or of volumes (five): 1, or -1 with the
            channels last; the first axis is the batch. With three axes, one image: 0 for ``[C, H, W]``, -1 for
            ``[H, W, C]``. None: an image ``[H, W]`` or a volume ``[D, H, W]`` without channels.

    Returns:
        SSIM, at most 1, and 1 for identical images: float32, or float64 for float64 images. ``[N]`` and ``[N, C]`` lack
        the axes that the images lack. Its gradients have the dtype of their image; integers have none (``float0``).

    Raises:
        ValueError: the shapes differ or are none that ``channel_axis`` allows, a side is shorter than the window with
            ``"valid"``, another argument is out of range, or a mask or a data range is differentiated.
        TypeError: an image is not an array, or its dtype is not one of these, or two dtypes of floats differ.
        NotImplementedError: a second derivative is asked for.

    Example:
        >>> loss = lambda params: 1 - fused_ssim.jax.ssim(render(params), photograph, channel_axis=-1)
        >>> value, grads = jax.jit(jax.value_and_grad(loss))(params)

    """
    return _call.ssim(
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

    The loss of photometric reconstruction, as in 3D Gaussian splatting; H. Zhao, O. Gallo, I. Frosio and J. Kautz,
    "Loss functions for image restoration with neural networks", IEEE Transactions on Computational Imaging 3 (2017).
    Where the images nearly agree, it keeps the digits that ``1 - ssim(...)`` loses.

    Args:
        pred: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, or another layout that ``channel_axis`` names: an
            array of JAX or NumPy, float32, float64, float16 or bfloat16, or integers: uint8, uint16 or int16.
        target: as ``pred``, with the same shape. The dtypes may differ if one is of integers.
        lambda_dssim: the share of SSIM, 0 to 1; 1 is the loss ``1 - SSIM``.
        padding: what windows see beyond the border, as for :func:`ssim`. ``"valid"`` is about SSIM: the mean of
            ``|pred - target|`` is that of all pixels.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``; the difference is not divided by it. Or an array, as for
            :func:`ssim`.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are; it needs
            JAX's ``jax_enable_x64``. None: float32, and float64 for float64 images.
        reduction: ``"mean"``, ``"sum"``, ``"image"`` (``[N]``) or ``"channel"`` (``[N, C]``), of both terms;
            ``"none"``, the sum of both for each pixel, not with ``"valid"`` unless ``lambda_dssim`` is 1.
        mask: how much each pixel counts, bool or float, as for :func:`ssim`; it weighs both terms.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.
        channel_axis: where the channels are, as for :func:`ssim`: 1, also -1 with the channels last; None for an image
            or a volume without channels.

    Returns:
        The loss, at least 0, and 0 for identical images: float32, or float64 for float64 images. Where the two are
        equal, ``|pred - target|`` has the gradient 0.

    Raises:
        ValueError, TypeError, NotImplementedError: as :func:`ssim`.

    """
    return _call.ssim(
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
        names=("pred", "target"),
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
    """Multi-scale structural similarity, as :func:`fused_ssim.ms_ssim` defines it; differentiable in both images.

    Z. Wang, E. P. Simoncelli and A. C. Bovik, "Multi-scale structural similarity for image quality assessment",
    Asilomar Conference on Signals, Systems and Computers (2003).

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, or another layout that ``channel_axis`` names: an
            array of JAX or NumPy, float32, float64, float16 or bfloat16, or integers: uint8, uint16 or int16.
        img2: as ``img1``, with the same shape. The dtypes may differ if one is of integers.
        padding: ``"valid"``: each side must be larger than ``(window_size - 1) * 2**(scales - 1)``; or one of
            the others, which continue each scale beyond its border as for :func:`ssim` and take images of any size.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. Or an array, as for :func:`ssim`.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are; it needs
            JAX's ``jax_enable_x64``. None: float32, and float64 for float64 images.
        weights: of the scales, finest first; 1 to 8 of them. Default: .0448, .2856, .3001, .2363, .1333.
        reduction: ``"mean"`` or ``"sum"`` of all channels of all images, one number; ``"image"``, the mean of each
            image, ``[N]``; ``"channel"``, the value of each channel of each image, ``[N, C]``.
        channel_axis: where the channels are, as for :func:`ssim`: 1, also -1 with the channels last; None for an image
            or a volume without channels.

    Returns:
        MS-SSIM, from 0 to 1: float32, or float64 for float64 images.

    Raises:
        ValueError, TypeError, NotImplementedError: as :func:`ssim`; or an image is too small for its scales.

    """
    return _call.ssim(
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
