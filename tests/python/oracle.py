# SPDX-License-Identifier: MIT
"""SSIM in float64 from the textbook: what every result is compared with.

It shares nothing with the library: the classic form with five Gaussian filters instead of the sum/difference form,
band matrices instead of windows, and gradients by torch's autograd.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


def gaussian(window_size: int, sigma: float) -> list[float]:
    radius = window_size // 2
    taps = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in range(-radius, radius + 1)]
    return [tap / sum(taps) for tap in taps]


Windows = tuple[tuple[float, ...], ...]


def windows_of(dims: int, window_size: Any = 11, sigma: Any = 1.5, taps: Any = None) -> Windows:
    """The window along each spatial axis, for settings of the library."""
    if taps is not None and taps != "uniform":
        each = taps if isinstance(taps[0], (tuple, list)) else (taps,) * dims
        return tuple(tuple(map(float, window)) for window in each)
    sizes = window_size if isinstance(window_size, (tuple, list)) else (window_size,) * dims
    sigmas = sigma if isinstance(sigma, (tuple, list)) else (sigma,) * dims
    if taps == "uniform":
        return tuple((1 / size,) * size for size in sizes)
    return tuple(tuple(gaussian(size, each)) for size, each in zip(sizes, sigmas, strict=True))


# The borders by the names that numpy.pad has for them.
_NUMPY = {"reflect": "reflect", "symmetric": "symmetric", "replicate": "edge"}


@lru_cache(maxsize=1024)
def band_matrix(size: int, taps: tuple[float, ...], padding: str = "same") -> Tensor:
    """Filters an axis by multiplication: `image @ matrix`. Beyond the border is zero, or what numpy.pad puts there."""
    radius = len(taps) // 2
    matrix = np.zeros((size, size))
    if padding in _NUMPY:
        seen = np.pad(np.arange(size), radius, mode=_NUMPY[padding])  # type: ignore[call-overload]
    else:
        seen = np.pad(np.arange(size), radius, constant_values=-1)
    for position in range(size):
        for offset, tap in enumerate(taps):
            element = seen[position + offset]
            if element >= 0:
                matrix[element, position] += tap
    return torch.from_numpy(matrix)


def filtered(image: Tensor, windows: Windows, padding: str = "same", transposed: bool = False) -> Tensor:
    """Filters all axes after N and C; or with the transposed filter, from the map to the image."""
    for axis, taps in enumerate(windows, start=2):
        band = band_matrix(image.shape[axis], taps, padding)
        image = torch.movedim(torch.movedim(image, axis, -1) @ (band.T if transposed else band), -1, axis)
    return image


def gaussian_filter(image: Tensor, window_size: int, sigma: float) -> Tensor:
    return filtered(image, windows_of(image.dim() - 2, window_size, sigma))


def covariance_factor(windows: Windows, sample_covariance: bool) -> float:
    pixels = math.prod(map(len, windows))
    return pixels / (pixels - 1) if sample_covariance else 1.0


def ssim_map(
    x: Tensor,
    y: Tensor,
    padding: str = "same",
    *,
    window_size: Any = 11,
    sigma: Any = 1.5,
    taps: Any = None,
    sample_covariance: bool = False,
    data_range: float = 1.0,
    K: Sequence[float] = (0.01, 0.03),
    mask: Tensor | None = None,
) -> Tensor:
    """`mask`: of normalised windows."""
    C1, C2 = ((k * data_range) ** 2 for k in K)
    mean_x, mean_y, var_x, var_y, cov, windows = moments(
        x, y, padding, window_size, sigma, taps, sample_covariance, mask
    )
    result = ((2 * mean_x * mean_y + C1) * (2 * cov + C2)) / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))
    return _crop(result, windows) if padding == "valid" else result


def moments(
    x: Tensor,
    y: Tensor,
    padding: str,
    window_size: Any = 11,
    sigma: Any = 1.5,
    taps: Any = None,
    sample_covariance: bool = False,
    mask: Tensor | None = None,
) -> tuple[Any, ...]:
    """Means, variances and covariance at each position of the images, and the windows."""
    windows = windows_of(x.dim() - 2, window_size, sigma, taps)
    weight = torch.ones_like(x) if mask is None else mask
    if mask is None:
        mass: Tensor | float = 1.0
    else:
        mass = filtered(mask, windows, padding)
        mass = torch.where(mass > 0, mass, 1.0)  # an empty window has a weight of 0 in everything
    mean_x, mean_y, square_x, square_y, product = (
        filtered(weight * image, windows, padding) / mass for image in (x, y, x * x, y * y, x * y)
    )
    factor = covariance_factor(windows, sample_covariance)
    return (
        mean_x,
        mean_y,
        factor * (square_x - mean_x**2),
        factor * (square_y - mean_y**2),
        factor * (product - mean_x * mean_y),
        windows,
    )


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


def masked_ssim_map(x: Tensor, y: Tensor, mask: Tensor, padding: str = "same", **settings: Any) -> Tensor:
    """The map of statistics of the pixels under the mask alone: normalised convolution, in the classic form."""
    return ssim_map(x, y, padding, mask=mask, **settings)


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
    **settings: Any,
) -> Tensor:
    """SSIM or the photometric loss, with or without a mask. float64, differentiable."""
    mask = torch.ones_like(x) if mask is None else mask.cpu().double().expand(x.shape)
    if mask_mode == "normalized":
        values = masked_ssim_map(x, y, mask, padding, **settings)
    else:
        values = ssim_map(x, y, padding, **settings)  # type: ignore[arg-type]
    windows = windows_of(x.dim() - 2, *(settings.get(key, usual) for key, usual in _USUAL_WINDOWS.items()))
    cropped = _crop(mask, windows) if padding == "valid" else mask
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


_USUAL_WINDOWS = {"window_size": 11, "sigma": 1.5, "taps": None}


def ms_ssim(x: Tensor, y: Tensor, padding: str, weights: Sequence[float], **settings: Any) -> Tensor:
    """MS-SSIM of each plane, in the classic form. float64, differentiable."""
    K, data_range = settings.get("K", (0.01, 0.03)), settings.get("data_range", 1.0)
    C2 = (K[1] * data_range) ** 2
    others = {key: value for key, value in settings.items() if key not in ("K", "data_range")}
    result = torch.ones(x.shape[:2], dtype=torch.float64)
    for scale, weight in enumerate(weights):
        if scale:
            x, y = _halved(x), _halved(y)
        if scale == len(weights) - 1:
            values = ssim_map(x, y, padding, **settings)
        else:
            _, _, var_x, var_y, cov, windows = moments(x, y, padding, **others)
            values = (2 * cov + C2) / (var_x + var_y + C2)
            if padding == "valid":
                values = _crop(values, windows)
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


def _crop(image: Tensor, windows: Windows) -> Tensor:
    """Without half a window at each end of each axis."""
    for axis, taps in enumerate(windows, start=2):
        image = image.narrow(axis, len(taps) // 2, image.shape[axis] - len(taps) + 1)
    return image
