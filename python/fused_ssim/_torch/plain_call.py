# SPDX-License-Identifier: MIT
"""A call in plain operations of torch: from images to the value and its gradients, for some planes or for all.

What depends on the settings stands here: reductions, losses, masks, data ranges, the levels of MS-SSIM. The formulas
at each position are those of ``plain_math``. Nothing here has a state, so a compiler can look inside.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .._base.shapes import covariance_factor, kept_axes, map_shape, reduced_axes
from .plain_filters import halve, unhalve
from .plain_math import GRADIENT_FACTOR, Constants, Pair, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._base.settings import Settings
    from .plain_filters import Window

Block = tuple[slice, slice]
Grads = tuple[Tensor | None, Tensor | None]


class Parts(NamedTuple):
    """What a block gives to the value.

    Attributes:
        structural: the sums of DSSIM and of 1/2 - DSSIM over each plane, [N, C, 2], or MS-SSIM of each plane, [N, C];
            without a reduction, the map.
        absolute: the sum of ``|x - y|`` over each plane, if the loss has it and is reduced.

    """

    structural: Tensor
    absolute: Tensor | None


def level_shapes(settings: Settings, shape: Sequence[int]) -> list[tuple[int, ...]]:
    """The shapes of the images at each level of MS-SSIM; a single one for SSIM."""
    shapes = [tuple(shape)]
    for _ in range(len(settings.weights or (1,)) - 1):
        shapes.append((*shape[:2], *((size + 1) // 2 for size in shapes[-1][2:])))
    return shapes


class Call:
    """A call for given images: the weights of map elements and pixels in the value and in the gradients.

    Args:
        settings: what to compute.
        windows: for each level.
        shape: of all images, also of those that other blocks have.
        mask: of the dtype of the arithmetic, with the axes of the images; weights are checked already.
        ranges: the data range of all images or of each, [N], instead of that of ``settings``.
        wanted: the set of gradients.
        upstream: the upstream gradient of the value; None: 1 everywhere.
        scale: multiplies the gradients.

    """

    def __init__(
        self,
        settings: Settings,
        windows: Sequence[Window],
        shape: Sequence[int],
        mask: Tensor | None,
        ranges: Tensor | None,
        wanted: int,
        upstream: Tensor | None = None,
        scale: float = 1.0,
    ) -> None:
        self.settings = settings
        self.has_map = settings.reduction == "none"
        self.wanted = wanted
        self._windows = windows
        self._shape = shape
        self._ranges = ranges
        self._mask = None if mask is None else mask.expand(*mask.shape[:2], *shape[2:])
        self._map_mask = None if self._mask is None else windows[0].crop(self._mask)
        share = settings.lambda_dssim
        self._has_absolute = share is not None and share != 1
        # By how much a sum over a group is divided: a mean by the number of its elements, or by their weights.
        self._map_total = self._total(self._map_mask, map_shape(settings, tuple(shape)))
        self._pixel_total = self._total(self._mask, tuple(shape)) if self._has_absolute else 1
        self._upstream = upstream if self.has_map else None
        gain: float | Tensor = scale
        if upstream is not None and not self.has_map:
            gain = scale * of_planes(upstream, len(shape))
        self._map_gain = gain * GRADIENT_FACTOR * (1 if share is None else -share)
        self._pixel_gain = gain * (1 - share) if share is not None else 0.0
        if settings.reduction not in ("sum", "none"):
            self._map_gain = self._map_gain / of_planes(self._map_total, len(shape))
            self._pixel_gain = self._pixel_gain / of_planes(self._pixel_total, len(shape))

    def _total(self, mask: Tensor | None, shape: tuple[int, ...]) -> int | Tensor:
        """The number of the elements of a group, or the sum of their weights."""
        if self.settings.weights is not None:  # its elements are planes
            shape = shape[:2]
        axes = reduced_axes(self.settings.reduction, len(shape)) if not self.has_map else ()
        if mask is None or self.has_map:
            return math.prod(shape[axis] for axis in axes)
        # Dense, since the order of a sum depends on strides, and so would its last bit.
        planes = mask.contiguous().flatten(2).sum(2).expand(tuple(shape[:2])).contiguous()
        return self._of_groups(planes)

    def _of_groups(self, planes: Tensor) -> Tensor:
        """Sums over groups, from those over planes."""
        axes = tuple(range(min(kept_axes(self.settings.reduction, 2), 2), 2))
        return planes.sum(axes) if axes else planes

    def value(self, parts: Parts) -> Tensor:
        """The value, from the parts of all planes."""
        structural, absolute = parts
        settings = self.settings
        if self.has_map:
            return structural
        total = self._of_groups(structural)  # MS-SSIM: of the values of planes
        is_sum = settings.reduction == "sum"
        if settings.weights is not None:
            return total if is_sum else total / self._map_total
        total, rest = total.unbind(-1)
        if settings.lambda_dssim is None:
            # Near 1 the difference from 1 has more digits, near 0 the value itself.
            whole = self._map_total if is_sum else 1
            if not is_sum:
                total, rest = total / self._map_total, rest / self._map_total
            return torch.where(total < 0.25 * whole, whole - 2 * total, 2 * rest)
        loss = 2 * settings.lambda_dssim * (total if is_sum else total / self._map_total)
        if absolute is not None:
            of_pixels = self._of_groups(absolute)
            loss = loss + (1 - settings.lambda_dssim) * (of_pixels if is_sum else of_pixels / self._pixel_total)
        return loss

    # ---- A block of planes -------------------------------------------------------------------------------------------

    def run(self, x: Tensor, y: Tensor, block: Block) -> tuple[Parts, Grads]:
        """The parts and the gradients of some planes of the images, in the dtype of the arithmetic."""
        constants = self._constants(x, block)
        if self.settings.weights is not None:
            values, grads = self._multi_scale(x, y, constants, block)
            return Parts(values, None), grads
        window = self._windows[0]
        mask, map_mask = of_block(self._mask, block), of_block(self._map_mask, block)
        weight = map_mask
        if self._upstream is not None:
            upstream = self._upstream[block]
            weight = upstream if map_mask is None else torch.where(map_mask != 0, map_mask * upstream, 0.0)
        dssim, grad1, grad2 = compare(
            self._pair(x, y, mask, map_mask), window, constants, weight, self.wanted, has_map=self.has_map
        )
        absolute = None
        if self._has_absolute:
            # Where the mask is 0 an image may be anything, also NaN, and 0 times that is not 0.
            absolute = x - y if mask is None else torch.where(mask != 0, x - y, 0.0)
        grads = grad1, grad2
        self._finish(grads, None if absolute is None else absolute.sign(), mask, block)
        if absolute is not None:
            absolute = absolute.abs_() if mask is None else absolute.abs_().mul_(mask)
        if self.has_map:
            return Parts(self._map(dssim, absolute, map_mask), None), grads
        return Parts(dssim, None if absolute is None else absolute.flatten(2).sum(2)), grads

    def _pair(self, x: Tensor, y: Tensor, mask: Tensor | None, map_mask: Tensor | None) -> Pair:
        """The images without what nobody looks at."""
        if mask is None or map_mask is None:
            return Pair(x, y)
        seen = mask != 0 if self.settings.normalized else self._windows[0].sees(map_mask)
        x, y = torch.where(seen, x, 0.0), torch.where(seen, y, 0.0)
        return Pair(x, y, seen, mask if self.settings.normalized else None)

    def _constants(self, x: Tensor, block: Block) -> Constants:
        settings = self.settings
        data_range: float | Tensor | None = settings.data_range
        if self._ranges is not None:
            data_range = of_planes(self._ranges, x.dim())
            data_range = of_block(data_range, block)
        else:
            assert data_range is not None  # the settings are those for the dtypes of the images
        c1, c2 = ((k * data_range) ** 2 for k in (settings.k1, settings.k2))
        c2 = c2 / covariance_factor(settings, x.dim() - 2)
        if all(len(taps) == 1 for taps in self._windows[0].taps):
            # Variances are 0, and the constant has no influence. Where it is large, what they give to the gradient
            # vanishes, and what should cancel leaves no rest.
            c2 = 0.5e30
        return Constants(c1, c2, settings.k1 == 0 or settings.k2 == 0)

    def _finish(self, grads: Grads, sign: Tensor | None, mask: Tensor | None, block: Block) -> None:
        """Makes gradients of the sum of SSIM those of the value, in place; ``sign`` is that of ``x - y``."""
        if not self.wanted:
            return
        if sign is not None:
            for factor in (mask, of_block(self._pixel_gain, block), of_block(self._upstream, block)):
                if factor is not None:
                    sign.mul_(factor)
        for grad, direction in zip(grads, (1, -1), strict=True):
            if grad is not None:
                grad.mul_(of_block(self._map_gain, block))
                if sign is not None:
                    grad.add_(sign, alpha=direction)

    def _map(self, dssim: Tensor, absolute: Tensor | None, map_mask: Tensor | None) -> Tensor:
        """The map of SSIM or of the loss, times the mask; ``dssim`` and ``absolute`` have that factor already."""
        share = self.settings.lambda_dssim
        if share is None:
            return dssim.mul_(-2).add_(1 if map_mask is None else map_mask)
        dssim.mul_(2 * share)
        return dssim if absolute is None else dssim.add_(absolute, alpha=1 - share)

    def _multi_scale(self, x: Tensor, y: Tensor, constants: Constants, block: Block) -> tuple[Tensor, Grads]:
        """MS-SSIM of each plane, and its gradients: equations (11) and (12)."""
        weights = self.settings.weights
        assert weights is not None
        factors, grads, sizes, levels = [], [], [], []
        for level, window in enumerate(self._windows):
            if level:
                x, y = halve(x), halve(y)
            is_last = level == len(weights) - 1
            sums, *both = compare(Pair(x, y), window, constants, None, self.wanted, luminance=is_last)
            size = math.prod(window.map_shape)
            factors.append((1 - 2 * sums[..., 0] / size).clamp_(min=0))
            grads.append(both)
            sizes.append(size)
            levels.append(x.shape)
        value = torch.ones_like(factors[0])
        for factor, exponent in zip(factors, weights, strict=True):
            value = value * factor**exponent
        results: list[Tensor | None] = [None, None]
        for level in reversed(range(len(weights))):
            # The derivative by a factor is 0 where the value or the factor is.
            slope = weights[level] * value / torch.where(factors[level] == 0, math.inf, factors[level])
            gain = of_planes(slope / sizes[level], x.dim()) * of_block(self._map_gain, block)
            for number, grad in enumerate(grads[level]):
                if grad is not None:
                    coarse = results[number]
                    grad.mul_(gain)
                    results[number] = grad if coarse is None else grad.add_(unhalve(coarse, levels[level]))
            grads[level] = [None, None]
        return value, (results[0], results[1])


def of_planes(values: Tensor | float, ndim: int) -> Tensor | float:
    """Values of groups, [], [N] or [N, C], with axes of length 1 behind, as many as images have."""
    if not isinstance(values, Tensor):
        return values
    return values.reshape(*values.shape, *(1 for _ in range(ndim - values.dim())))


def of_block(values: Any, block: Block) -> Any:
    """The part of a block, of what may have axes N and C or be the same for all."""
    if not isinstance(values, Tensor):
        return values
    n, c = (part if size > 1 else slice(None) for part, size in zip(block, values.shape[:2], strict=True))
    return values[n, c]
