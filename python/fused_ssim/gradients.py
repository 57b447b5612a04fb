# SPDX-License-Identifier: MIT
"""SSIM with its gradient, without autograd."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from ._base import shapes
from ._base.arguments import choice
from ._base.codes import as_argnums_ask, gradients_of_argnums
from ._base.settings import COMMON_SETTINGS
from ._torch import checks, eager
from ._torch.checks import spatial_dims_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._base.settings import Settings

__all__ = ["value_and_grad", "value_map_and_grad"]

# The settings for values of these arguments.
_settings = eager.settings_in_order(*COMMON_SETTINGS)


@overload
def value_and_grad(
    img1: Tensor,
    img2: Tensor,
    padding: str = ...,
    *,
    argnums: int = ...,
    window_size: int | Sequence[int] = ...,
    sigma: float | Sequence[float] = ...,
    taps: str | Sequence[Any] | None = ...,
    sample_covariance: bool = ...,
    data_range: float | Tensor | None = ...,
    integer_scale: float | tuple[float, float] = ...,
    K: tuple[float, float] = ...,
    arithmetic: str | None = ...,
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
    window_size: int | Sequence[int] = ...,
    sigma: float | Sequence[float] = ...,
    taps: str | Sequence[Any] | None = ...,
    sample_covariance: bool = ...,
    data_range: float | Tensor | None = ...,
    integer_scale: float | tuple[float, float] = ...,
    K: tuple[float, float] = ...,
    arithmetic: str | None = ...,
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
) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
    """SSIM (Wang et al. 2004) and its gradient in one pass, without autograd.

    For loops that need no graph: nothing is recorded, ``requires_grad`` does not matter, and the results have no
    history. The window is the exact Gaussian, so the value differs by some 2e-7 from that of :func:`fused_ssim`.

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, as for :func:`fused_ssim`.
        img2: as ``img1``.
        padding: ``"same"``, ``"valid"``, ``"reflect"``, ``"symmetric"`` or ``"replicate"``.
        argnums: which gradient: 0 for ``img1``, 1 for ``img2``, ``(0, 1)`` for both.
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
        reduction,
        mask_mode,
    )
    grads = gradients_of_argnums(argnums)
    value, *both = eager.value_and_grad(img1, img2, settings, spatial_dims_of("img1", img1), grads, mask, ranges)
    return value, as_argnums_ask(argnums, both)


def value_map_and_grad(
    img1: Tensor,
    img2: Tensor,
    padding: str = "same",
    *,
    argnums: int | Sequence[int] = 0,
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
) -> tuple[Tensor, Tensor, Tensor | tuple[Tensor, ...]]:
    """SSIM (Wang et al. 2004), its map and its gradient in one pass, without autograd.

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, as for :func:`fused_ssim`.
        img2: as ``img1``.
        padding: ``"same"``, ``"valid"``, ``"reflect"``, ``"symmetric"`` or ``"replicate"``.
        argnums: which gradient: 0 for ``img1``, 1 for ``img2``, ``(0, 1)`` for both.
        window_size: taps of the window along each axis, as for :func:`value_and_grad`; so are the others.
        sigma: standard deviation of the Gaussian window, in pixels.
        taps: a window instead of the Gaussian.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"`` or None.
        reduction: ``"mean"`` or ``"sum"`` of the map.
        mask: how much each pixel counts, bool or float; the map is ``mask * SSIM``.
        mask_mode: ``"weight"`` or ``"normalized"``, as for :func:`fused_ssim`.

    Returns:
        ``(value, map, grad)``, or ``(value, map, (grad1, grad2))`` if ``argnums`` is a tuple: the value, 0-d; its map,
        as :func:`ssim_map` gives it; and the gradient of the value, with the shape and dtype of its image.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`fused_ssim`.

    """
    choice(("mean", "sum"))("reduction", reduction)
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
    grads = gradients_of_argnums(argnums)
    dims = spatial_dims_of("img1", img1)
    is_sum, total = reduction == "sum", None
    scale = 1.0
    if not is_sum and mask is None and isinstance(img1, Tensor):
        scale = 1 / max(math.prod(shapes.map_shape(settings, tuple(img1.shape))), 1)
    full, *both = eager.value_and_grad(img1, img2, settings, dims, grads, mask, ranges, scale)
    # Sums in float64, so that the mean of ones is 1.
    value = full.sum(dtype=torch.float64)
    if not is_sum:
        total = float(full.numel()) if mask is None else _weight(mask, full, settings, img1, img2)
        value = value / total
    if isinstance(total, Tensor):
        both = [None if grad is None else (grad / total).to(grad.dtype) for grad in both]
    return value.to(full.dtype), full, as_argnums_ask(argnums, both)


def _weight(mask: Tensor, full: Tensor, settings: Settings, img1: Tensor, img2: Tensor) -> Tensor:
    """The sum of the weights of a map."""
    weight = checks.view_mask(mask, settings, img1, img2).expand(img1.shape)
    for axis, taken_off in enumerate(shapes.crop(settings, img1.dim() - 2), start=2):
        weight = weight.narrow(axis, taken_off, full.shape[axis])
    return weight.sum(dtype=torch.float64)
