# SPDX-License-Identifier: MIT
"""SSIM from plain torch operations: the slow way, right under every transformation of torch.

The native library computes values and first derivatives. This module does the rest: second derivatives, forward-mode
derivatives, windows that are not symmetric or differ between channels, and axes that are not filtered. Ordinary calls
never get here.

The form is that of docs/derivation.md: with the sum ``s`` and the difference ``d`` of the images, SSIM is a product of
two factors ``1 - something small``. No operation works in place, and each has derivatives of any order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .._base import shapes
from . import checks
from .plain_filters import ELEMENT_SEEN, add_border

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._base.settings import Settings

# The window of one axis: taps, or taps for each channel [C, K]; None leaves the axis as it is.
Taps = tuple[float, ...] | Tensor | None


class Dissimilarity(NamedTuple):
    """The two factors of the map, as differences from 1: ``luminance = 1 - a``, ``contrast * structure = 1 - b``."""

    a: Tensor
    b: Tensor

    def ssim(self) -> Tensor:
        return (1 - self.a) * (1 - self.b)

    def one_minus_ssim(self) -> Tensor:
        """``1 - ssim()`` without its cancellation."""
        return self.a + self.b - self.a * self.b

    def contrast_structure(self) -> Tensor:
        return 1 - self.b


def ssim(img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, settings: Settings) -> Tensor:
    """What the native library computes for these settings: SSIM, a loss, or MS-SSIM, reduced."""
    settings = checks.for_images(settings, img1, img2)
    return ssim_with_windows(img1, img2, mask, ranges, settings, shapes.taps(settings, img1.dim() - 2))


def ssim_with_windows(
    img1: Tensor,
    img2: Tensor,
    mask: Tensor | None,
    ranges: Tensor | None,
    settings: Settings,
    windows: Sequence[Taps],
) -> Tensor:
    """:func:`ssim` with a window for each spatial axis, which are no longer those of ``settings``."""
    settings = checks.for_images(settings, img1, img2)
    arithmetic = checks.arithmetic(settings, img1.dtype, img2.dtype)
    img1, img2 = (
        checks.converted(image, arithmetic, scale)
        for image, scale in zip((img1, img2), settings.integer_scale, strict=True)
    )
    constants = _constants(settings, ranges, img1)
    if settings.weights is not None:
        return _reduce(_multi_scale(img1, img2, settings, windows, constants), settings.reduction)
    weight = None if mask is None else mask.to(arithmetic).expand(img1.shape)
    if weight is None:
        parts = dissimilarity(img1, img2, settings, windows, constants)
        return _objective(parts, img1 - img2, settings, None, None)
    # What is not looked at may be anything, also NaN, and 0 times that is not 0.
    reach = [0 if taps is None else _length(taps) // 2 for taps in windows]
    map_weight = _crop(weight, _map_shape(weight.shape, settings, reach))
    seen = weight != 0 if settings.normalized else _seen(map_weight, settings, reach)
    difference = torch.where(weight != 0, img1 - img2, 0.0)
    first, second = (torch.where(seen, image, 0.0) for image in (img1, img2))
    parts = dissimilarity(first, second, settings, windows, constants, weight if settings.normalized else None)
    value = _objective(parts, difference, settings, weight, map_weight)
    if settings.reduction in ("sum", "none"):
        return value
    # The mean of nothing is NaN, and so is its gradient, for every pixel.
    axes = shapes.reduced_axes(settings.reduction, img1.dim())
    nothing = map_weight.sum(axes, keepdim=True) == 0
    both = torch.where(seen | nothing, img1, 0.0) + torch.where(seen | nothing, img2, 0.0)
    return value + (both * torch.where(nothing, math.nan, 0.0)).sum(axes)


def _objective(
    parts: Dissimilarity, difference: Tensor, settings: Settings, weight: Tensor | None, map_weight: Tensor | None
) -> Tensor:
    """SSIM or the loss from the map and the difference of the images, reduced."""
    if settings.lambda_dssim is None:
        return _reduce(parts.ssim(), settings.reduction, map_weight)
    structural = _reduce(parts.one_minus_ssim(), settings.reduction, map_weight)
    if settings.lambda_dssim == 1:  # the map may be smaller than the images
        return structural
    absolute = _reduce(difference.abs(), settings.reduction, weight)
    return (1 - settings.lambda_dssim) * absolute + settings.lambda_dssim * structural


def _map_shape(shape: Sequence[int], settings: Settings, reach: Sequence[int]) -> list[int]:
    """The shape of the map for windows that reach so far, which need not be those of ``settings``."""
    taken_off = [2 * width if shapes.is_cropped(settings) else 0 for width in reach]
    return [*shape[:2], *(size - less for size, less in zip(shape[2:], taken_off, strict=True))]


def _seen(map_weight: Tensor, settings: Settings, reach: Sequence[int]) -> Tensor:
    """The pixels that are seen by a window of the map whose weight is not 0."""
    counts = (map_weight != 0).to(map_weight.dtype)
    seen = ELEMENT_SEEN.get(settings.padding)
    if seen is not None:
        # Of the images with their border, and then brought to the elements that are seen there.
        counts = functional.pad(counts, [width for width in reversed(reach) for _ in range(2)])
    elif shapes.is_cropped(settings):
        counts = functional.pad(counts, [width for width in reversed(reach) for _ in range(2)])
    pool = functional.max_pool3d if map_weight.dim() == 5 else functional.max_pool2d
    counts = pool(counts, [2 * width + 1 for width in reach], stride=1, padding=list(reach))
    for axis, width in enumerate(reach, start=2):
        if seen is not None and width:
            size = map_weight.shape[axis]
            outside = add_border(torch.eye(size, dtype=counts.dtype, device=counts.device), 1, width, seen)
            counts = (counts.movedim(axis, -1) @ outside.T).movedim(-1, axis)
    return counts != 0


def _constants(settings: Settings, ranges: Tensor | None, img1: Tensor) -> tuple[float | Tensor, float | Tensor]:
    """C1 and C2, for all images or for each."""
    # The sample covariance equals another C2: docs/derivation.md.
    factor = shapes.covariance_factor(settings, img1.dim() - 2)
    if ranges is None:
        assert settings.data_range is not None
        return (settings.k1 * settings.data_range) ** 2, (settings.k2 * settings.data_range) ** 2 / factor
    each = ranges.reshape(-1, *(1 for _ in range(img1.dim() - 1)))
    return (settings.k1 * each) ** 2, (settings.k2 * each) ** 2 / factor


def dissimilarity(
    img1: Tensor,
    img2: Tensor,
    settings: Settings,
    windows: Sequence[Taps],
    constants: tuple[float | Tensor, float | Tensor],
    weight: Tensor | None = None,
) -> Dissimilarity:
    """The map, in its two factors. ``weight`` says how much each pixel counts in the statistics of a window."""
    border = BORDERS[settings.padding]
    s, d = img1 + img2, img1 - img2
    moments = torch.stack((s, d, s * s, d * d))
    if weight is None:
        moments = _filter(moments, windows, border)
    else:
        moments = _filter(moments * weight, windows, border)
        mass = _filter(weight, windows, border)
        # A pixel that does not count has no part in any sum of the map; its window may even be empty.
        moments = moments / torch.where((_crop(weight, mass.shape) != 0) & (mass > 0), mass, 1.0)
    mean_s, mean_d, square_s, square_d = moments.unbind()
    var_s, var_d = square_s - mean_s * mean_s, square_d - mean_d * mean_d
    if all(_is_average(taps) for taps in windows):
        # A variance is not negative but for rounding. The derivative stays that of the formula.
        var_d = var_d + (var_d.clamp(min=0) - var_d).detach()
    C1, C2 = constants
    return Dissimilarity(
        _quotient(2 * mean_d * mean_d, mean_s * mean_s + mean_d * mean_d + 2 * C1),
        _quotient(2 * var_d, var_s + var_d + 2 * C2),
    )


def _quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, where 0 / 0 is 0: without constants, a window where both images are 0 counts as identical."""
    return numerator / torch.where((numerator == 0) & (denominator == 0), 1.0, denominator)


def _multi_scale(
    img1: Tensor,
    img2: Tensor,
    settings: Settings,
    windows: Sequence[Taps],
    constants: tuple[float | Tensor, float | Tensor],
) -> Tensor:
    """MS-SSIM of each plane, [N, C]."""
    assert settings.weights is not None
    factors = []
    for scale in range(len(settings.weights)):
        if scale:
            pool = functional.avg_pool3d if img1.dim() == 5 else functional.avg_pool2d
            border = [size % 2 for size in img1.shape[2:]]
            img1, img2 = pool(img1, 2, padding=border), pool(img2, 2, padding=border)
        # Coarse images may be shorter than the window where fine ones were not.
        fitting = [
            taps if not shapes.is_cropped(settings) or taps is None or size >= _length(taps) else None
            for taps, size in zip(windows, img1.shape[2:], strict=True)
        ]
        parts = dissimilarity(img1, img2, settings, fitting, constants)
        last = scale == len(settings.weights) - 1
        factors.append(torch.relu((parts.ssim() if last else parts.contrast_structure()).flatten(2).mean(2)))
    result = torch.ones_like(factors[0])
    for factor, weight in zip(factors, settings.weights, strict=True):
        result = result * factor**weight
    return result


# ---- Filters ---------------------------------------------------------------------------------------------------------


# Puts a border around one axis of images: of so many elements at either end.
Border = Callable[[Tensor, int, int], Tensor]


def _add_zeros(images: Tensor, axis: int, width: int) -> Tensor:
    border = [0, 0] * -axis
    border[-2:] = [width, width]
    return functional.pad(images, border)


# For each padding, the function that puts a border around images. None: windows stay inside the image.
BORDERS: dict[str, Border | None] = {
    "same": _add_zeros,
    "valid": None,
    **{name: partial(add_border, seen=seen) for name, seen in ELEMENT_SEEN.items()},
}


def _filter(images: Tensor, windows: Sequence[Taps], border: Border | None) -> Tensor:
    """The last axes of [..., C, (D,) H, W], each by its window."""
    # A sum of shifted views, and not a convolution: that one would be free to round its operands to TF32.
    for number, taps in enumerate(windows):
        if taps is None:
            continue
        axis, length = number - len(windows), _length(taps)
        if border is not None:
            images = border(images, axis, length // 2)
        size = images.shape[axis] - length + 1
        shifted = [images.narrow(axis, offset, size) for offset in range(length)]
        if isinstance(taps, Tensor):
            columns = taps.to(images.device, images.dtype).reshape(taps.shape[0], *(1 for _ in windows), length)
            weighted = [columns[..., offset] * view for offset, view in enumerate(shifted)]
        else:
            weighted = [tap * view for tap, view in zip(taps, shifted, strict=True)]
        images = weighted[0]
        for term in weighted[1:]:
            images = images + term
    return images


def _length(taps: tuple[float, ...] | Tensor) -> int:
    return taps.shape[-1] if isinstance(taps, Tensor) else len(taps)


def _is_average(taps: Taps) -> bool:
    if taps is None:
        return True
    if isinstance(taps, Tensor):
        return False
    return min(taps) >= 0 and abs(math.fsum(taps) - 1) < 1e-4  # as in the native library


def _crop(image: Tensor, shape: Sequence[int]) -> Tensor:
    """The middle of the image, of the size of the map."""
    for axis in range(2, image.dim()):
        image = image.narrow(axis, (image.shape[axis] - shape[axis]) // 2, shape[axis])
    return image


# ---- Reductions ------------------------------------------------------------------------------------------------------


def _reduce(values: Tensor, reduction: str, weight: Tensor | None = None) -> Tensor:
    """A reduction of [N, C, ...]; of a weighted mean, the sum of the weights is the divisor."""
    if weight is not None:
        # Where the weight is 0 a value may be anything, also NaN.
        values = torch.where(weight != 0, values * weight, 0.0)
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    axes = shapes.reduced_axes(reduction, values.dim())
    if not axes:
        return values
    return values.mean(axes) if weight is None else values.sum(axes) / weight.sum(axes)


# ---- Derivatives -----------------------------------------------------------------------------------------------------


def gradients(
    grad_out: Tensor, img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, settings: Settings
) -> tuple[Tensor, Tensor]:
    """The gradients of ``(grad_out * ssim(...)).sum()``, themselves differentiable; empty for an image of integers."""
    images = img1, img2

    def value(*floats: Tensor) -> Tensor:
        x, y = _with_floats(images, floats)
        return ssim(x, y, mask, ranges, settings)

    found = torch.func.vjp(value, *_floats(images))[1](grad_out)
    nothing = [img1.new_empty(0, dtype=grad_out.dtype) for _ in images]
    grad1, grad2 = _with_floats(images, found, nothing)
    return grad1, grad2


def second_derivative(
    grad_out: Tensor,
    img1: Tensor,
    img2: Tensor,
    mask: Tensor | None,
    ranges: Tensor | None,
    settings: Settings,
    grad_grad1: Tensor | None,
    grad_grad2: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The gradients of ``(grad_grad1 * grad1 + grad_grad2 * grad2).sum()`` by ``grad_out`` and by both images."""
    images = img1, img2

    def slopes(upstream: Tensor, *floats: Tensor) -> tuple[Tensor, ...]:
        x, y = _with_floats(images, floats)
        return _floats(images, gradients(upstream, x, y, mask, ranges, settings))

    given = (
        torch.zeros_like(image) if grad_grad is None else grad_grad
        for image, grad_grad in zip(images, (grad_grad1, grad_grad2), strict=True)
    )
    pull_back = torch.func.vjp(slopes, grad_out, *_floats(images))[1]
    by_grad_out, *found = pull_back(_floats(images, tuple(given)))
    by_img1, by_img2 = _with_floats(images, found, (None, None))
    return by_grad_out, by_img1, by_img2


def _floats(images: tuple[Tensor, Tensor], values: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
    """What belongs to images of floats: of two values, or the images themselves."""
    values = images if values is None else values
    return tuple(value for image, value in zip(images, values, strict=True) if image.is_floating_point())


def _with_floats(
    images: tuple[Tensor, Tensor], values: Sequence[Tensor], others: Sequence[Any] | None = None
) -> list[Any]:
    """The inverse of :func:`_floats`: two values, where those of images of integers are ``others``, or the images."""
    left = list(values)
    others = images if others is None else others
    return [left.pop(0) if image.is_floating_point() else other for image, other in zip(images, others, strict=True)]
