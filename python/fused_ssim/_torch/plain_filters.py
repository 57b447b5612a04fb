# SPDX-License-Identifier: MIT
"""Windows and their filters from plain operations of torch, for devices that the native library does not know.

A filter is separable. Two forms of it give the same numbers but for rounding, and each device has the one that is fast
there: sums of shifted views in place (the CPU, and devices of which nothing is known), and a depthwise convolution for
each axis (GPUs).
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from .._base import shapes
from .checks import has_autocast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._base.settings import Settings

    # Changes images along the spatial axis of that number.
    AxisChange = Callable[[Tensor, int], Tensor]

    # Filters an axis of [planes, ...] by the taps; the last argument is how many zeros lie before and behind the axis.
    AxisFilter = Callable[[Tensor, int, tuple[float, ...], int], Tensor]

# Device types whose depthwise convolution is fast and keeps float32. A convolution of more channels may round its
# operands to TF32, and other devices may do that to depthwise ones, too: they sum shifted views, which is always exact.
CONVOLVES = frozenset({"cuda", "mps", "xpu"})

# Quantities up to this size are filtered together: there the time goes into starting operations. Larger ones are
# filtered one after the other, which needs less memory.
_SMALL = 2**18


class Window:
    """The window of a call, for images of one shape, dtype and device."""

    def __init__(self, settings: Settings, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
        dims = len(shape) - 2
        self.taps = shapes.taps(settings, dims)
        self.crops = shapes.crop(settings, dims)
        self._spatial = tuple(shape[2:])
        # How the images go on beyond their border, if that is not by zeros.
        self._border = ELEMENT_SEEN.get(settings.padding)
        self._axis_filter: AxisFilter = _sum_shifted
        if device.type in CONVOLVES:
            # Kept here, since bringing them to the device anew would wait for it.
            self._axis_filter = _Convolution(self.taps, dtype, device)
        self._missing = self._missing_by_axis(dtype, device)

    @property
    def map_shape(self) -> tuple[int, ...]:
        """The spatial shape of the map."""
        return tuple(size - 2 * crop for size, crop in zip(self._spatial, self.crops, strict=True))

    def filter(self, images: list[Tensor]) -> list[Tensor]:
        """Images [N, C, ...] filtered, each of the shape of the map. The list is emptied, to free memory."""
        # "same" is "valid" with zeros around the image, and the other borders are "valid" with a border around it.
        zeros = [len(taps) // 2 - crop for taps, crop in zip(self.taps, self.crops, strict=True)]
        return self._each(images, zeros, self._with_border if self._border is not None else None)

    def spread(self, maps: list[Tensor]) -> list[Tensor]:
        """The transpose of :meth:`filter`: each map element goes to all pixels that its window sees."""
        if self._border is not None:
            # The transpose of "valid", whose result is as wide as the images with their border.
            return self._each(maps, [len(taps) - 1 for taps in self.taps], None, self._without_border)
        return self._each(maps, [len(taps) // 2 + crop for taps, crop in zip(self.taps, self.crops, strict=True)])

    def sees(self, map_weight: Tensor) -> Tensor:
        """The pixels that are seen by a window of the map whose weight is not 0."""
        counts = (map_weight != 0).to(torch.float32)
        for axis, (taps, crop) in enumerate(zip(self.taps, self.crops, strict=True), start=2):
            zeros = len(taps) - 1 if self._border is not None else len(taps) // 2 + crop
            counts = _sum_views(counts, axis, (1.0,) * len(taps), zeros)
            if self._border is not None:
                counts = fold_border(counts, axis, len(taps) // 2, self._border)
        return counts > 0

    def crop(self, image: Tensor) -> Tensor:
        """The middle of an image, of the size of the map."""
        for axis, (crop, size) in enumerate(zip(self.crops, self.map_shape, strict=True), start=2):
            image = image.narrow(axis, crop, size) if crop else image
        return image

    def missing(self) -> Tensor | None:
        """What each window lacks of the mass 1, by zeros beyond the border or by its taps: [...]. None: nothing."""
        first, *others = self._missing
        plane = first
        for vector in others:
            if vector is not None:
                # 1 - (1 - plane) (1 - vector), as a sum of positive terms
                plane = vector if plane is None else torch.addcmul(vector, 1 - vector, plane)
        return plane

    def _each(
        self, images: list[Tensor], zeros: list[int], before: AxisChange | None = None, behind: AxisChange | None = None
    ) -> list[Tensor]:
        if images[0].numel() > _SMALL:
            return [self._filtered(images.pop(0), zeros, before, behind) for _ in range(len(images))]
        stacked = torch.stack(images)
        images.clear()
        filtered = self._filtered(stacked.flatten(0, 1), zeros, before, behind)
        return list(filtered.reshape(*stacked.shape[:2], *filtered.shape[1:]).unbind())

    def _filtered(
        self, images: Tensor, zeros: list[int], before: AxisChange | None, behind: AxisChange | None
    ) -> Tensor:
        # The last axis first: it is the cheapest, and with "valid" it makes the others shorter.
        for number in reversed(range(len(zeros))):
            if before:
                images = before(images, number)
            images = self._axis_filter(images, number + 2, self.taps[number], 0 if before else zeros[number])
            if behind:
                images = behind(images, number)
        return images

    def _with_border(self, images: Tensor, number: int) -> Tensor:
        assert self._border is not None
        return add_border(images, number + 2, len(self.taps[number]) // 2, self._border)

    def _without_border(self, images: Tensor, number: int) -> Tensor:
        assert self._border is not None
        return fold_border(images, number + 2, len(self.taps[number]) // 2, self._border)

    def _missing_by_axis(self, dtype: torch.dtype, device: torch.device) -> list[Tensor | None]:
        """The missing mass along each axis, as a vector that broadcasts to the map."""
        result: list[Tensor | None] = []
        for number, (taps, crop, size) in enumerate(zip(self.taps, self.crops, self._spatial, strict=True)):
            short = 1 - math.fsum(taps)
            short = 0.0 if abs(short) < 1e-13 else short  # a Gaussian, whose sum in float64 is not quite 1
            ones = (1,) * (len(self.taps) - 1 - number)
            reach = len(taps) // 2
            if crop or not reach or self._border is not None:
                vector = torch.full((1, *ones), short, dtype=torch.float64) if short else None
            else:
                # The filter of what is 1 beyond the border and 0 inside: sums of taps, without 1 - ...
                outside = functional.pad(torch.zeros(1, 1, size, dtype=torch.float64), [reach, reach], value=1.0)
                vector = (_sum_views(outside, 2, taps, 0) + short).reshape(-1, *ones)
            result.append(None if vector is None else vector.to(dtype).to(device))
        return result


def _sum_shifted(images: Tensor, axis: int, taps: tuple[float, ...], zeros: int) -> Tensor:
    """The sum of shifted views, in place. Zeros are not added: what they would meet is left out."""
    size = images.shape[axis]
    length = size + 2 * zeros - len(taps) + 1
    out = None
    # From the centre outwards: the first term fills most of the result.
    for number in sorted(range(len(taps)), key=lambda number: abs(number - len(taps) // 2)):
        # out[i] += tap * images[i + offset], for both in range
        offset = number - zeros
        start, end = max(0, -offset), min(length, size - offset)
        if out is None:
            if start == 0 and end == length:
                out = images.narrow(axis, offset, length) * taps[number]
                continue
            out = images.new_zeros([length if other == axis else full for other, full in enumerate(images.shape)])
        if start < end:
            seen = images.narrow(axis, start + offset, end - start)
            out.narrow(axis, start, end - start).add_(seen, alpha=taps[number])
    assert out is not None
    return out


def _sum_views(images: Tensor, axis: int, taps: tuple[float, ...], zeros: int) -> Tensor:
    """The sum of shifted views, as one expression."""
    border = [0, 0] * (images.dim() - axis)
    border[-2:] = [zeros, zeros]
    padded = functional.pad(images, border)
    size = images.shape[axis] + 2 * zeros - len(taps) + 1
    first, *others = (padded.narrow(axis, offset, size) * tap for offset, tap in enumerate(taps))
    total = first
    for term in others:
        total = total + term
    return total


class _Convolution:
    """A depthwise convolution of two dimensions along any axis of [N, C, ...]; every plane is a channel."""

    def __init__(self, windows: Sequence[tuple[float, ...]], dtype: torch.dtype, device: torch.device) -> None:
        self._taps = {taps: torch.tensor(taps, dtype=torch.float64).to(dtype).to(device) for taps in set(windows)}

    def __call__(self, images: Tensor, axis: int, taps: tuple[float, ...], zeros: int) -> Tensor:
        shape = list(images.shape)
        last = axis == images.dim() - 1
        channels = math.prod(shape[: axis - 1 if last else axis])
        if channels == 1:
            return _sum_shifted(images, axis, taps, zeros)  # of a single channel no convolution is depthwise
        kernel, border = ((1, len(taps)), (0, zeros)) if last else ((len(taps), 1), (zeros, 0))
        rows = images.reshape(1, channels, shape[axis - 1] if last else shape[axis], -1)
        weight = self._taps[taps].reshape(1, 1, *kernel).expand(channels, 1, *kernel)
        # Under autocast the operands of a convolution would be rounded to 16 bits. (Not every type of device has it.)
        device_type = images.device.type
        with torch.autocast(device_type, enabled=False) if has_autocast(device_type) else nullcontext():
            out = functional.conv2d(rows, weight, padding=border, groups=channels)
        shape[axis] += 2 * zeros - len(taps) + 1
        return out.reshape(shape)


# ---- Borders ---------------------------------------------------------------------------------------------------------


def _reflected(position: int, size: int) -> int:
    period = max(2 * (size - 1), 1)
    return min(position % period, -position % period)


def _symmetric(position: int, size: int) -> int:
    return min(position % (2 * size), (-1 - position) % (2 * size))


def _replicated(position: int, size: int) -> int:
    return min(max(position, 0), size - 1)


# For each padding that continues images, the element of an axis of some size that is seen at a position outside.
ELEMENT_SEEN: dict[str, Callable[[int, int], int]] = {
    "reflect": _reflected,
    "symmetric": _symmetric,
    "replicate": _replicated,
}


def add_border(image: Tensor, axis: int, width: int, seen: Callable[[int, int], int]) -> Tensor:
    """An image that goes on beyond both ends of an axis; differentiable."""
    size = image.shape[axis]
    if not width:
        return image
    before = [image.narrow(axis, seen(position, size), 1) for position in range(-width, 0)]
    behind = [image.narrow(axis, seen(size + position, size), 1) for position in range(width)]
    return torch.cat([*before, image, *behind], axis)


def fold_border(image: Tensor, axis: int, width: int, seen: Callable[[int, int], int]) -> Tensor:
    """The transpose of :func:`add_border`: what lies outside is added to the elements that are seen there, in place."""
    size = image.shape[axis] - 2 * width
    inside = image.narrow(axis, width, size)
    for position in (*range(-width, 0), *range(size, size + width)):
        inside.narrow(axis, seen(position, size), 1).add_(image.narrow(axis, position + width, 1))
    return inside


# ---- Levels of MS-SSIM -----------------------------------------------------------------------------------------------


def halve(image: Tensor) -> Tensor:
    """Averages of two elements along each spatial axis of [N, C, ...]; an axis of odd size begins with a zero."""
    for axis in range(2, image.dim()):
        size = image.shape[axis]
        first, second = _halves(image, axis)
        out = second * 0.5
        # Of an odd size, the first element of the pairs is missing at the beginning.
        out.narrow(axis, size % 2, first.shape[axis]).add_(first, alpha=0.5)
        image = out
    return image


def unhalve(image: Tensor, shape: Sequence[int]) -> Tensor:
    """The transpose of :func:`halve`, for images whose shape was this."""
    for axis in reversed(range(2, image.dim())):
        out = image.new_empty([shape[axis] if other == axis else full for other, full in enumerate(image.shape)])
        first, second = _halves(out, axis)
        second.copy_(image).mul_(0.5)
        first.copy_(image.narrow(axis, shape[axis] % 2, first.shape[axis])).mul_(0.5)
        image = out
    return image


def _halves(image: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The first and the second elements of all pairs along an axis; of an odd size there is one second more."""
    odd = image.shape[axis] % 2
    every_other = [slice(None)] * axis
    first, second = (*every_other, slice(odd, None, 2)), (*every_other, slice(1 - odd, None, 2))
    return image[first], image[second]
