# SPDX-License-Identifier: MIT
"""SSIM in float64 from the textbook: what every result is compared with.

It shares nothing with the library: the classic form with five Gaussian filters instead of the sum/difference form,
band matrices instead of windows, and gradients by torch's autograd.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


def gaussian(window_size: int, sigma: float) -> list[float]:
    radius = window_size // 2
    taps = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in range(-radius, radius + 1)]
    return [tap / sum(taps) for tap in taps]


@lru_cache
def band_matrix(size: int, window_size: int, sigma: float) -> Tensor:
    """Filters an axis by multiplication; beyond the border is zero."""
    band = torch.zeros(size, size, dtype=torch.float64)
    for offset, tap in enumerate(gaussian(window_size, sigma), start=-(window_size // 2)):
        if abs(offset) < size:
            band.diagonal(offset).fill_(tap)
    return band


def gaussian_filter(image: Tensor, window_size: int, sigma: float) -> Tensor:
    """Filters all axes after N and C."""
    for axis in range(2, image.dim()):
        band = band_matrix(image.shape[axis], window_size, sigma)
        image = torch.movedim(torch.movedim(image, axis, -1) @ band, -1, axis)
    return image


def ssim_map(
    x: Tensor,
    y: Tensor,
    padding: str = "same",
    *,
    window_size: int = 11,
    sigma: float = 1.5,
    data_range: float = 1.0,
    K: Sequence[float] = (0.01, 0.03),
) -> Tensor:
    C1, C2 = ((k * data_range) ** 2 for k in K)
    mean_x, mean_y, square_x, square_y, product = (
        gaussian_filter(image, window_size, sigma) for image in (x, y, x * x, y * y, x * y)
    )
    var_x, var_y, cov = square_x - mean_x**2, square_y - mean_y**2, product - mean_x * mean_y
    result = ((2 * mean_x * mean_y + C1) * (2 * cov + C2)) / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))
    if padding == "valid":
        radius = window_size // 2
        for axis in range(2, result.dim()):
            result = result.narrow(axis, radius, result.shape[axis] - 2 * radius)
    return result


def reduce(values: Tensor, reduction: str) -> Tensor:
    axes = {"mean": None, "image": tuple(range(1, values.dim())), "channel": tuple(range(2, values.dim()))}
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    chosen = axes[reduction]
    return values.mean() if chosen is None else values.mean(dim=chosen)


def ssim(x: Tensor, y: Tensor, padding: str = "same", *, reduction: str = "mean", **settings: object) -> Tensor:
    """On float64 copies of the images on the CPU."""
    return reduce(ssim_map(_double(x), _double(y), padding, **settings), reduction)  # type: ignore[arg-type]


def ssim_and_grads(
    x: Tensor,
    y: Tensor,
    padding: str = "same",
    *,
    reduction: str = "mean",
    upstream: Tensor | None = None,
    **settings: object,
) -> tuple[Tensor, Tensor, Tensor]:
    """The value and the gradients of both images; `upstream` weighs the value's elements (default: ones)."""
    x, y = _double(x).requires_grad_(), _double(y).requires_grad_()
    value = reduce(ssim_map(x, y, padding, **settings), reduction)  # type: ignore[arg-type]
    weight = torch.ones_like(value) if upstream is None else _double(upstream)
    grad_x, grad_y = torch.autograd.grad(value, (x, y), weight)
    return value.detach(), grad_x, grad_y


def _double(image: Tensor) -> Tensor:
    return image.detach().to("cpu", torch.float64, copy=True)


# ---- Masks, losses, scales -------------------------------------------------------------------------------------------


def masked_ssim_map(x: Tensor, y: Tensor, mask: Tensor, padding: str = "same", **settings: object) -> Tensor:
    """The map of statistics of the pixels under the mask alone: normalised convolution, in the classic form."""
    window_size, sigma = settings.get("window_size", 11), settings.get("sigma", 1.5)
    data_range, K = settings.get("data_range", 1.0), settings.get("K", (0.01, 0.03))
    C1, C2 = ((k * data_range) ** 2 for k in K)  # type: ignore[operator,union-attr]
    mass = gaussian_filter(mask, window_size, sigma)  # type: ignore[arg-type]
    mass = torch.where(mass > 0, mass, 1.0)  # an empty window has a weight of 0 in everything
    mean_x, mean_y, square_x, square_y, product = (
        gaussian_filter(mask * image, window_size, sigma) / mass  # type: ignore[arg-type]
        for image in (x, y, x * x, y * y, x * y)
    )
    var_x, var_y, cov = square_x - mean_x**2, square_y - mean_y**2, product - mean_x * mean_y
    result = ((2 * mean_x * mean_y + C1) * (2 * cov + C2)) / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))
    return _crop(result, window_size // 2) if padding == "valid" else result  # type: ignore[operator]


def weighted(values: Tensor, mask: Tensor, reduction: str) -> Tensor:
    """Sums of mask * values, over those of the mask if they are means."""
    if reduction in ("none", "sum"):
        return reduce(mask * values, reduction)
    return reduce(mask * values, reduction) / reduce(mask, reduction)


def objective(
    x: Tensor,
    y: Tensor,
    padding: str = "same",
    *,
    mask: Tensor | None = None,
    mask_mode: str = "weight",
    lambda_dssim: float | None = None,
    reduction: str = "mean",
    **settings: object,
) -> Tensor:
    """SSIM or the photometric loss, with or without a mask. float64, differentiable."""
    mask = torch.ones_like(x) if mask is None else mask.cpu().double().expand(x.shape)
    if mask_mode == "normalized":
        values = masked_ssim_map(x, y, mask, padding, **settings)
    else:
        values = ssim_map(x, y, padding, **settings)  # type: ignore[arg-type]
    cropped = _crop(mask, settings.get("window_size", 11) // 2) if padding == "valid" else mask  # type: ignore[operator]
    if lambda_dssim is None:
        return weighted(values, cropped, reduction)
    structural = weighted(1 - values, cropped, reduction)
    if lambda_dssim == 1:
        return structural
    return (1 - lambda_dssim) * weighted((x - y).abs(), mask, reduction) + lambda_dssim * structural


def objective_and_grads(
    x: Tensor, y: Tensor, padding: str = "same", *, upstream: Tensor | None = None, **settings: object
) -> tuple[Tensor, Tensor, Tensor]:
    """The value of :func:`objective` and the gradients of both images, on float64 copies on the CPU."""
    x, y = _double(x).requires_grad_(), _double(y).requires_grad_()
    value = objective(x, y, padding, **settings)  # type: ignore[arg-type]
    weight = torch.ones_like(value) if upstream is None else _double(upstream)
    grad_x, grad_y = torch.autograd.grad(value, (x, y), weight)
    return value.detach(), grad_x, grad_y


def ms_ssim(x: Tensor, y: Tensor, padding: str, weights: Sequence[float], **settings: object) -> Tensor:
    """MS-SSIM of each plane, in the classic form. float64, differentiable."""
    window_size, sigma = settings.get("window_size", 11), settings.get("sigma", 1.5)
    data_range, K = settings.get("data_range", 1.0), settings.get("K", (0.01, 0.03))
    C2 = (K[1] * data_range) ** 2  # type: ignore[index,operator]
    result = torch.ones(x.shape[:2], dtype=torch.float64)
    for scale, weight in enumerate(weights):
        if scale:
            x, y = _halved(x), _halved(y)
        if scale == len(weights) - 1:
            values = ssim_map(x, y, padding, **settings)  # type: ignore[arg-type]
        else:
            mean_x, mean_y, square_x, square_y, product = (
                gaussian_filter(image, window_size, sigma)  # type: ignore[arg-type]
                for image in (x, y, x * x, y * y, x * y)
            )
            covariance = product - mean_x * mean_y
            values = (2 * covariance + C2) / (square_x - mean_x**2 + square_y - mean_y**2 + C2)
            if padding == "valid":
                values = _crop(values, window_size // 2)  # type: ignore[operator]
        result = result * values.flatten(2).mean(2).clamp(min=0) ** weight
    return result


def _halved(image: Tensor) -> Tensor:
    """Averages of two elements along each spatial axis; one of odd size begins with a zero."""
    for axis in range(2, image.dim()):
        if image.shape[axis] % 2:
            zero = torch.zeros_like(image.narrow(axis, 0, 1))
            image = torch.cat([zero, image], axis)
        image = image.unflatten(axis, (-1, 2)).mean(axis + 1)
    return image


def _crop(image: Tensor, radius: int) -> Tensor:
    for axis in range(2, image.dim()):
        image = image.narrow(axis, radius, image.shape[axis] - 2 * radius)
    return image
