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
