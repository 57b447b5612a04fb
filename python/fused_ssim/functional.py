# SPDX-License-Identifier: MIT
"""SSIM as functions of tensors.

All functions compute the structural similarity of Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image
quality assessment: from error visibility to structural similarity", IEEE Transactions on Image Processing 13 (2004),
with a Gaussian window unless another is given. With the weighted means, variances and covariance of a window around
each position,
``C1 = (K[0] * data_range)**2`` and ``C2 = (K[1] * data_range)**2``, ::

    SSIM = (2 mean1 mean2 + C1) (2 cov + C2) / ((mean1**2 + mean2**2 + C1) (var1 + var2 + C2))

computed in a form that keeps its accuracy where the images nearly agree: identical images give exactly 1, and no
result exceeds 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ._base.arguments import choice
from ._base.settings import COMMON_SETTINGS
from ._torch import checks, eager
from ._torch.checks import spatial_dims_of
from .gradients import value_and_grad

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "fused_ssim",
    "fused_ssim2d",
    "fused_ssim3d",
    "photometric_loss",
    "ssim_db",
    "ssim_map",
    "value_and_grad",
]


# The settings for values of these arguments.
_settings = eager.settings_in_order(*COMMON_SETTINGS)
_fused_ssim_settings = eager.settings_in_order(*COMMON_SETTINGS, float32_window=True)
_dissimilarity_settings = eager.settings_in_order("lambda_dssim", *COMMON_SETTINGS)
_loss_settings = eager.settings_in_order("lambda_dssim", *COMMON_SETTINGS, names=("pred", "target"))


def fused_ssim(
    img1: Tensor,
    img2: Tensor,
    padding: str = "same",
    train: bool = True,
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
    mask: Tensor | None = None,
    mask_mode: str = "weight",
) -> Tensor:
    """The structural similarity (Wang et al. 2004) of two batches of images, differentiable in both.

    Args:
        img1: images ``[N, C, H, W]``: float32, float64, float16 or bfloat16, or integers, uint8, uint16 or int16; on
            any device, :func:`backend` says what computes where. Any strides are read in place, channels-last and
            expanded ones too, and so are integers, which get no gradient.
        img2: as ``img1``, with the same shape and device. The dtypes may differ if one is of integers, such as a
            prediction in float16 and a target in uint8.
        padding: what windows see beyond the border of an image ``a b c d``. ``"same"``: zeros; ``"reflect"``:
            ``d c b | a b c d | c b a``; ``"symmetric"``: ``c b a | a b c d | d c b``; ``"replicate"``:
            ``a a a | a b c d | d d d``. Every pixel counts for these. ``"valid"`` counts only pixels whose window lies
            inside the image, ``window_size // 2`` away from the border.
        train: ``False`` promises that no backward will come. Nothing is kept for it then, and a backward raises.
            Under ``torch.no_grad()``, or if no image requires a gradient, nothing is kept either way.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis, such as
            ``(5, 11, 11)`` for D, H and W.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. A tensor without axes, or ``[N]`` for a range of each
            image, is read where it is: it may change from call to call without another compilation, and is not waited
            for. It gets no gradient. On CUDA an image whose range is not a positive number has the value NaN; on the
            CPU that is an error.
        integer_scale: what 1 stands for in images of integers; or a number for each image. 1 / 255 for a uint8 target
            whose prediction is in [0, 1]. Images of floats are not scaled.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        reduction: ``"mean"`` or ``"sum"`` of the map, a 0-d tensor; ``"image"``, the mean of each image, ``[N]``;
            ``"channel"``, the mean of each channel of each image, ``[N, C]``; ``"none"``, the map: ``[N, C, H, W]``,
            smaller by ``window_size - 1`` in H and W for ``"valid"``.
        mask: how much each pixel counts: bool, or float of the dtype of the result (at least 0, finite); any shape that
            broadcasts to that of the images, such as ``[H, W]``, ``[C, H, W]`` or ``[N, 1, H, W]`` (three axes are an
            error where ``N == C > 1``: they could be ``[N, H, W]``). Means become
            ``sum(mask * SSIM) / sum(mask)`` over what the padding keeps, NaN where the mask is all 0; sums and maps
            are those of ``mask * SSIM``. A mask is a constant: it gets no gradient.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone (normalised convolution; beyond
            the border nothing is under the mask for ``"same"``, and the mask goes on as the images do for the others).
            docs/masks.md shows both. Not with ``sample_covariance``.

    Returns:
        SSIM, at most 1, and 1 for identical images: float32, or float64 for float64 images. The sum of ``"sum"`` is
        not divided by the number of pixels.

        With the default window, and unless the images are float64, the window is that of fused-ssim: eleven float32
        numbers, whose sum is not quite 1. So values and gradients are those of that package to the last digits, and
        differ by some 2e-7 from those of :func:`ssim_map`, :func:`value_and_grad`, the losses and the metrics, whose
        window is the exact Gaussian.

    Raises:
        ValueError: the shapes are not four axes of equal, positive sizes, a side is shorter than the window with
            ``"valid"``, the devices differ, or another argument is out of range.
        TypeError: an image is not a tensor, or its dtype is not one of these, or both are of floats whose dtypes
            differ. (Under autocast, these are brought to the wider one.)
        RuntimeError: CUDA cannot be used: ``fused_ssim.info()`` says why.
        NotImplementedError: this and, under the backend ``"native"``, the ValueError of a device for which there is no
            code are of this class, too, so that code with a slower way can tell them from other errors.

    Example:
        >>> loss = 1 - fused_ssim(prediction, target)
        >>> loss.backward()

    """
    data_range, ranges = checks.split_range(data_range, img1)
    settings = _fused_ssim_settings(
        padding,
        window_size,
        sigma,
        taps,
        sample_covariance,
        data_range,
        integer_scale,
        K,
        arithmetic,
        reduction,
        mask_mode,
    )
    return eager.ssim(img1, img2, settings, 2, train, mask, ranges)


def fused_ssim2d(
    img1: Tensor,
    img2: Tensor,
    padding: str = "same",
    train: bool = True,
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
    mask: Tensor | None = None,
    mask_mode: str = "weight",
) -> Tensor:
    """The same as :func:`fused_ssim`: structural similarity (Wang et al. 2004) of images ``[N, C, H, W]``."""
    data_range, ranges = checks.split_range(data_range, img1)
    settings = _fused_ssim_settings(
        padding,
        window_size,
        sigma,
        taps,
        sample_covariance,
        data_range,
        integer_scale,
        K,
        arithmetic,
        reduction,
        mask_mode,
    )
    return eager.ssim(img1, img2, settings, 2, train, mask, ranges)


def fused_ssim3d(
    img1: Tensor,
    img2: Tensor,
    padding: str = "same",
    train: bool = True,
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
    mask: Tensor | None = None,
    mask_mode: str = "weight",
) -> Tensor:
    """The structural similarity (Wang et al. 2004) of two batches of volumes ``[N, C, D, H, W]``.

    The window is a Gaussian in three dimensions, with the numbers of fused-ssim3D as :func:`fused_ssim` has those of
    fused-ssim. Arguments, values and errors are those of :func:`fused_ssim`, with five axes instead of four: the map of
    ``reduction="none"`` is ``[N, C, D, H, W]``.
    """
    data_range, ranges = checks.split_range(data_range, img1)
    settings = _fused_ssim_settings(
        padding,
        window_size,
        sigma,
        taps,
        sample_covariance,
        data_range,
        integer_scale,
        K,
        arithmetic,
        reduction,
        mask_mode,
    )
    return eager.ssim(img1, img2, settings, 3, train, mask, ranges)


def ssim_map(
    img1: Tensor,
    img2: Tensor,
    padding: str = "same",
    train: bool = True,
    *,
    window_size: int | Sequence[int] = 11,
    sigma: float | Sequence[float] = 1.5,
    taps: str | Sequence[Any] | None = None,
    sample_covariance: bool = False,
    data_range: float | Tensor | None = None,
    integer_scale: float | tuple[float, float] = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    arithmetic: str | None = None,
    mask: Tensor | None = None,
    mask_mode: str = "weight",
) -> Tensor:
    """The map of SSIM (Wang et al. 2004) of images or volumes, differentiable in both.

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, as for :func:`fused_ssim`.
        img2: as ``img1``.
        padding: ``"same"``: the map has the size of the images; ``"valid"``: it is smaller by ``window_size - 1`` along
            each spatial axis.
        train: ``False`` promises that no backward will come: nothing is kept for it, and a backward raises.
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
        mask: how much each pixel counts, bool or float: any shape that broadcasts to that of the images; the map is
            ``mask * SSIM``. :func:`fused_ssim` says more.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.

    Returns:
        The map, values at most 1: float32, or float64 for float64 images. Its window is the exact Gaussian, so its mean
        differs by some 2e-7 from :func:`fused_ssim`.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`fused_ssim`.

    """
    data_range, ranges = checks.split_range(data_range, img1)
    settings = _settings(
        padding,
        window_size,
        sigma,
        taps,
        sample_covariance,
        data_range,
        integer_scale,
        K,
        arithmetic,
        "none",
        mask_mode,
    )
    return eager.ssim(img1, img2, settings, spatial_dims_of("img1", img1), train, mask, ranges)


def photometric_loss(
    pred: Tensor,
    target: Tensor,
    lambda_dssim: float = 0.2,
    padding: str = "same",
    train: bool = True,
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
    mask: Tensor | None = None,
    mask_mode: str = "weight",
) -> Tensor:
    """The loss ``(1 - lambda_dssim) * mean|pred - target| + lambda_dssim * (1 - SSIM)``, in one pass over memory.

    The loss of photometric reconstruction, as in 3D Gaussian splatting; H. Zhao, O. Gallo, I. Frosio and J. Kautz,
    "Loss functions for image restoration with neural networks", IEEE Transactions on Computational Imaging 3 (2017).
    Where the images nearly agree, it keeps the digits that ``1 - fused_ssim(...)`` loses.

    Args:
        pred: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, as for :func:`fused_ssim`.
        target: as ``pred``. It gets its gradient too, if it requires one.
        lambda_dssim: the share of SSIM, 0 to 1; 1 is the loss ``1 - SSIM``.
        padding: ``"same"`` pads with zeros, and every pixel counts; ``"valid"`` counts only pixels whose window lies
            inside the image. ``"valid"`` is about SSIM: the mean of ``|pred - target|`` is that of all pixels.
        train: ``False`` promises that no backward will come: nothing is kept for it, and a backward raises.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``; the difference is not divided by it. Or a tensor, ``[N]``
            for a range of each image.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        reduction: ``"mean"``, ``"sum"``, ``"image"`` (``[N]``) or ``"channel"`` (``[N, C]``), of both terms;
            ``"none"``, the sum of both for each pixel, not with ``"valid"`` unless ``lambda_dssim`` is 1.
        mask: how much each pixel counts, bool or float: any shape that broadcasts to that of the images; it weighs both
            terms. :func:`fused_ssim` says more.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.

    Returns:
        The loss, at least 0, and 0 for identical images: float32, or float64 for float64 images. Where the two are
        equal, ``|pred - target|`` has the gradient 0.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`fused_ssim`.

    Example:
        >>> loss = photometric_loss(rendering, photograph)
        >>> loss.backward()

    """
    data_range, ranges = checks.split_range(data_range, pred)
    settings = _loss_settings(
        lambda_dssim,
        padding,
        window_size,
        sigma,
        taps,
        sample_covariance,
        data_range,
        integer_scale,
        K,
        arithmetic,
        reduction,
        mask_mode,
    )
    return eager.ssim(pred, target, settings, spatial_dims_of("pred", pred), train, mask, ranges)


def ssim_db(
    img1: Tensor,
    img2: Tensor,
    padding: str = "same",
    train: bool = True,
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
    mask: Tensor | None = None,
    mask_mode: str = "weight",
) -> Tensor:
    """SSIM (Wang et al. 2004) in decibels, ``-10 log10(1 - SSIM)``: 20 dB for 0.99, infinite for identical images.

    ``1 - SSIM`` is computed as such, so that high values keep their digits; differentiable in both images.

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, as for :func:`fused_ssim`; so are all others.
        img2: as ``img1``.
        padding: ``"same"``, ``"valid"``, ``"reflect"``, ``"symmetric"`` or ``"replicate"``.
        train: ``False`` promises that no backward will come.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"`` or None.
        reduction: of what the decibels are: ``"mean"``, of the mean of the map; ``"image"`` or ``"channel"``, of the
            mean of each; ``"none"``, of each pixel.
        mask: how much each pixel counts, bool or float.
        mask_mode: ``"weight"`` or ``"normalized"``.

    Returns:
        Decibels: float32, or float64 for float64 images.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`fused_ssim`.

    """
    choice(("mean", "image", "channel", "none"))("reduction", reduction)
    data_range, ranges = checks.split_range(data_range, img1)
    settings = _dissimilarity_settings(
        1.0,
        padding,
        window_size,
        sigma,
        taps,
        sample_covariance,
        data_range,
        integer_scale,
        K,
        arithmetic,
        reduction,
        mask_mode,
    )
    return -10 * eager.ssim(img1, img2, settings, spatial_dims_of("img1", img1), train, mask, ranges).log10()
