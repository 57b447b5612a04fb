# SPDX-License-Identifier: MIT
"""The terms of SSIM apart: luminance, and contrast and structure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ._base.settings import INFINITE_K
from ._torch import checks, eager
from ._torch.checks import spatial_dims_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SSIMTerms", "ssim_terms"]


class SSIMTerms(NamedTuple):
    """The two factors of SSIM.

    Attributes:
        luminance: ``(2 mean1 mean2 + C1) / (mean1**2 + mean2**2 + C1)``.
        contrast_structure: ``(2 cov + C2) / (var1 + var2 + C2)``.

    """

    luminance: Tensor
    contrast_structure: Tensor


def ssim_terms(
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
) -> SSIMTerms:
    """Luminance, and contrast and structure (Wang et al. 2004), of images or volumes; differentiable in both.

    The product of their maps is the map of SSIM. Each is a call of its own, in which the other constant is so large
    that the other factor is 1.

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, as for :func:`fused_ssim`.
        img2: as ``img1``.
        padding: ``"same"``, ``"valid"``, ``"reflect"``, ``"symmetric"`` or ``"replicate"``.
        train: ``False`` promises that no backward will come: nothing is kept for it, and a backward raises.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest, at most 10**7; None: 1.0, and for
            integers 255 (uint8) or 65535 (uint16, int16), times ``integer_scale``. Or a tensor, ``[N]`` for a range of
            each image.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0: the first is that of luminance.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        reduction: ``"mean"`` or ``"sum"`` of a map; ``"image"`` or ``"channel"``, the mean of each; ``"none"``, the
            maps.
        mask: how much each pixel counts, bool or float, as for :func:`fused_ssim`.
        mask_mode: ``"weight"`` or ``"normalized"``, as for :func:`fused_ssim`.

    Returns:
        Both terms, at most 1: float32, or float64 for float64 images. The window is the exact Gaussian.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`fused_ssim`.

    """
    data_range, ranges = checks.split_range(data_range, img1)
    given = eager.settings_of(
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
    dims = spatial_dims_of("img1", img1)
    luminance, contrast_structure = (
        eager.ssim(img1, img2, settings, dims, train, mask, ranges)
        for settings in (replace(given, k2=INFINITE_K), replace(given, k1=INFINITE_K))
    )
    return SSIMTerms(luminance, contrast_structure)
