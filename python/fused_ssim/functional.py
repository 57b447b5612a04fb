# SPDX-License-Identifier: MIT
"""SSIM as functions of tensors.

All functions compute the structural similarity of Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image
quality assessment: from error visibility to structural similarity", IEEE Transactions on Image Processing 13 (2004),
with a Gaussian window. With the Gaussian-weighted means, variances and covariance of a window around each position,
``C1 = (K[0] * data_range)**2`` and ``C2 = (K[1] * data_range)**2``, ::

    SSIM = (2 mean1 mean2 + C1) (2 cov + C2) / ((mean1**2 + mean2**2 + C1) (var1 + var2 + C2))

computed in a form that keeps its accuracy where the images nearly agree: identical images give exactly 1, and no
result exceeds 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from torch import Tensor

from ._base.codes import gradients_of_argnums
from ._torch import checks, eager
from ._torch.checks import spatial_dims_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "fused_ssim",
    "fused_ssim2d",
    "fused_ssim3d",
    "photometric_loss",
    "ssim_map",
    "value_and_grad",
]


def fused_ssim(
    img1: Tensor,
    img2: Tensor,
    padding: str = "same",
    train: bool = True,
    *,
    window_size: int = 11,
    sigma: float = 1.5,
    data_range: float | Tensor = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    reduction: str = "mean",
    mask: Tensor | None = None,
    mask_mode: str = "weight",
) -> Tensor:
    """The structural similarity (Wang et al. 2004) of two batches of images, differentiable in both.

    Args:
        img1: images ``[N, C, H, W]``: float32, float64, float16 or bfloat16, on any device; :func:`backend` says what
            computes where. Any strides are read in place, channels-last and expanded ones too.
        img2: as ``img1``, with the same shape, dtype and device.
        padding: ``"same"`` pads with zeros, and every pixel counts; ``"valid"`` counts only pixels whose window lies
            inside the image, ``window_size // 2`` away from the border.
        train: ``False`` promises that no backward will come. Nothing is kept for it then, and a backward raises.
            Under ``torch.no_grad()``, or if no image requires a gradient, nothing is kept either way.
        window_size: taps of the Gaussian window along each axis: odd, from 1 to 33.
        sigma: standard deviation of the window, in pixels.
        data_range: the largest value that a pixel can have minus the smallest: 1.0 for images in [0, 1], 255 for
            images in [0, 255]. A tensor without axes, or ``[N]`` for a range of each image, is read where it is: it may
            change from call to call without another compilation, and is not waited for. It gets no gradient. On CUDA
            an image whose range is not a positive number has the value NaN; on the CPU that is an error.
        K: the two constants of SSIM, at least 0.
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
            the border nothing is under the mask). docs/masks.md shows both.

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
        TypeError: an image is not a tensor, or its dtype is not one of the four, or the dtypes differ. (Under autocast,
            two of the four are brought to the wider one.)
        RuntimeError: CUDA cannot be used: ``fused_ssim.info()`` says why.
        NotImplementedError: this and, under the backend ``"native"``, the ValueError of a device for which there is no
            code are of this class, too, so that code with a slower way can tell them from other errors.

    Example:
        >>> loss = 1 - fused_ssim(prediction, target)
        >>> loss.backward()

    """
    data_range, ranges = checks.split_range(data_range, img1)
    settings = eager.settings_of(
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        data_range=data_range,
        K=K,
        reduction=reduction,
        mask_mode=mask_mode,
        float32_window=not checks.has_float64(img1, img2),
    )
    return eager.ssim(img1, img2, settings, 2, train, mask, ranges)


def fused_ssim2d(
    img1: Tensor,
    img2: Tensor,
    padding: str = "same",
    train: bool = True,
    *,
    window_size: int = 11,
    sigma: float = 1.5,
    data_range: float | Tensor = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    reduction: str = "mean",
    mask: Tensor | None = None,
    mask_mode: str = "weight",
) -> Tensor:
    """The same as :func:`fused_ssim`: structural similarity (Wang et al. 2004) of images ``[N, C, H, W]``."""
    data_range, ranges = checks.split_range(data_range, img1)
    settings = eager.settings_of(
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        data_range=data_range,
        K=K,
        reduction=reduction,
        mask_mode=mask_mode,
        float32_window=not checks.has_float64(img1, img2),
    )
    return eager.ssim(img1, img2, settings, 2, train, mask, ranges)


def fused_ssim3d(
    img1: Tensor,
    img2: Tensor,
    padding: str = "same",
    train: bool = True,
    *,
    window_size: int = 11,
    sigma: float = 1.5,
    data_range: float | Tensor = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
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
    settings = eager.settings_of(
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        data_range=data_range,
        K=K,
        reduction=reduction,
        mask_mode=mask_mode,
        float32_window=not checks.has_float64(img1, img2),
    )
    return eager.ssim(img1, img2, settings, 3, train, mask, ranges)


@overload
def value_and_grad(
    img1: Tensor,
    img2: Tensor,
    padding: str = ...,
    *,
    argnums: int = ...,
    window_size: int = ...,
    sigma: float = ...,
    data_range: float | Tensor = ...,
    K: tuple[float, float] = ...,
    reduction: str = ...,
    mask: Tensor | None = ...,
    mask_mode: str = ...,
) -> tuple[Tensor, Tensor]: ...


@overload
def value_and_grad(
    img1: Tensor,
    img2: Tensor,
    padding: str = ...,
    *,
    argnums: Sequence[int],
    window_size: int = ...,
    sigma: float = ...,
    data_range: float | Tensor = ...,
    K: tuple[float, float] = ...,
    reduction: str = ...,
    mask: Tensor | None = ...,
    mask_mode: str = ...,
) -> tuple[Tensor, tuple[Tensor, ...]]: ...


def value_and_grad(
    img1: Tensor,
    img2: Tensor,
    padding: str = "same",
    *,
    argnums: int | Sequence[int] = 0,
    window_size: int = 11,
    sigma: float = 1.5,
    data_range: float | Tensor = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    reduction: str = "mean",
    mask: Tensor | None = None,
    mask_mode: str = "weight",
) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
    """SSIM (Wang et al. 2004) and its gradient in one pass, without autograd.

    For loops that need no graph: nothing is recorded, ``requires_grad`` does not matter, and the results have no
    history. The window is the exact Gaussian, so the value differs by some 2e-7 from that of :func:`fused_ssim`.

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, as for :func:`fused_ssim`.
        img2: as ``img1``.
        padding: ``"same"`` or ``"valid"``.
        argnums: which gradient: 0 for ``img1``, 1 for ``img2``, ``(0, 1)`` for both.
        window_size: taps of the Gaussian window along each axis: odd, from 1 to 33.
        sigma: standard deviation of the window, in pixels.
        data_range: the largest value that a pixel can have minus the smallest: 1.0 for images in [0, 1], 255 for 8-bit
            values. Or a tensor, ``[N]`` for a range of each image.
        K: the two constants of SSIM, at least 0.
        reduction: ``"mean"`` or ``"sum"`` of the map; ``"image"`` or ``"channel"``, the mean of each; ``"none"``, the
            map.
        mask: how much each pixel counts, bool or float: any shape that broadcasts to that of the images.
            :func:`fused_ssim` says more.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.

    Returns:
        ``(value, grad)``, or ``(value, (grad1, grad2))`` if ``argnums`` is a tuple. The gradient is that of
        ``value.sum()``, with the shape and dtype of its image. The gradient of a mean over many float16 pixels is
        too small for float16: take ``reduction="sum"`` there.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`fused_ssim`.

    Example:
        >>> value, grad = value_and_grad(image, target)
        >>> image += step * grad

    """
    data_range, ranges = checks.split_range(data_range, img1)
    settings = eager.settings_of(
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        data_range=data_range,
        K=K,
        reduction=reduction,
        mask_mode=mask_mode,
    )
    wanted, grads = gradients_of_argnums(argnums)
    value, *both = eager.value_and_grad(img1, img2, settings, spatial_dims_of("img1", img1), grads, mask, ranges)
    chosen = tuple(grad for grad in (both[number] for number in wanted) if grad is not None)
    return value, chosen if isinstance(argnums, (tuple, list)) else chosen[0]


def ssim_map(
    img1: Tensor,
    img2: Tensor,
    padding: str = "same",
    train: bool = True,
    *,
    window_size: int = 11,
    sigma: float = 1.5,
    data_range: float | Tensor = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
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
        window_size: taps of the Gaussian window along each axis: odd, from 1 to 33.
        sigma: standard deviation of the window, in pixels.
        data_range: the largest value that a pixel can have minus the smallest: 1.0 for images in [0, 1], 255 for 8-bit
            values. Or a tensor, ``[N]`` for a range of each image.
        K: the two constants of SSIM, at least 0.
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
    settings = eager.settings_of(
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        data_range=data_range,
        K=K,
        reduction="none",
        mask_mode=mask_mode,
    )
    return eager.ssim(img1, img2, settings, spatial_dims_of("img1", img1), train, mask, ranges)


def photometric_loss(
    pred: Tensor,
    target: Tensor,
    lambda_dssim: float = 0.2,
    padding: str = "same",
    train: bool = True,
    *,
    window_size: int = 11,
    sigma: float = 1.5,
    data_range: float | Tensor = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
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
        window_size: taps of the Gaussian window along each axis: odd, from 1 to 33.
        sigma: standard deviation of the window, in pixels.
        data_range: the largest value that a pixel can have minus the smallest: 1.0 for images in [0, 1], 255 for 8-bit
            values; the difference is not divided by it. Or a tensor, ``[N]`` for a range of each image.
        K: the two constants of SSIM, at least 0.
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
    settings = eager.settings_of(
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        data_range=data_range,
        K=K,
        reduction=reduction,
        mask_mode=mask_mode,
        lambda_dssim=lambda_dssim,
        names=("pred", "target"),
    )
    return eager.ssim(pred, target, settings, spatial_dims_of("pred", pred), train, mask, ranges)
