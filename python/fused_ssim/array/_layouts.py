# SPDX-License-Identifier: MIT
"""Layouts: where the batch, the channels and the spatial axes of an array are.

The native library knows ``[N, C, H, W]`` and ``[N, C, D, H, W]`` with any strides. An array of another layout is handed
to it with its axes in another order, and with axes of length 1 where it has none: nothing is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._base.shapes import AXES, contiguous_strides, is_cropped, window_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._base.settings import Settings


@dataclass(frozen=True)
class Axes:
    """The axes of a layout in the order of the native library.

    Attributes:
        order: for each axis of the native library, that of the array; None where the array has no such axis.

    """

    order: tuple[int | None, ...]

    @property
    def batch(self) -> int | None:
        return self.order[0]

    @property
    def channel(self) -> int | None:
        return self.order[1]

    def to_native(self, extents: Sequence[int], missing: int) -> tuple[int, ...]:
        """Lengths or strides of an array as the native library has them; ``missing``: those of axes that it lacks."""
        return tuple(missing if axis is None else extents[axis] for axis in self.order)

    def from_native(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape, in this layout, of an array that has this shape in the native library."""
        places = {axis: length for axis, length in zip(self.order, shape, strict=True) if axis is not None}
        return tuple(places[axis] for axis in range(len(places)))

    def strides_of_new(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The strides, for the native library, of a C-contiguous array of this layout; ``shape`` is the native one."""
        return self.to_native(contiguous_strides(self.from_native(shape)), 0)

    def kept(self, native: Sequence[int]) -> tuple[int, ...]:
        """The shape of a reduced value, whose first axes are the batch and the channels, without axes that lack."""
        return tuple(length for axis, length in zip(self.order, native, strict=False) if axis is not None)


def axes_of(name: str, shape: tuple[int, ...], channel_axis: int | None) -> Axes:
    """The axes of an array of this shape, whose channels are at ``channel_axis``; None: it has no channels.

    Four axes are a batch of images, five a batch of volumes, and three are one image. Without channels two axes are an
    image and three a volume.
    """
    try:
        return _axes(len(shape), channel_axis)
    except _LayoutError as error:
        raise ValueError(f"{name}.shape = {tuple(shape)} has {len(shape)} axes; {error}") from None


class _LayoutError(ValueError):
    """A number of axes and a ``channel_axis`` that are no layout."""


def _axes(ndim: int, channel_axis: int | None) -> Axes:
    if channel_axis is None:
        if ndim in (2, 3):
            return Axes((None, None, *range(ndim)))
        raise _LayoutError(
            "without channels (channel_axis=None) expected 2, [H, W], or 3, [D, H, W]; a batch has channels"
        )
    if ndim == 3:
        if channel_axis in (0, 2, -1):
            return Axes((None, 0, 1, 2) if channel_axis == 0 else (None, 2, 0, 1))
        raise _LayoutError(
            f"expected 4, {AXES[2]}, or 5, {AXES[3]}; or channel_axis=0 for [C, H, W], -1 for [H, W, C], None for a "
            "volume [D, H, W]"
        )
    if ndim not in (4, 5):
        expected = "; or channel_axis=None for an image [H, W]" if ndim == 2 else ""
        raise _LayoutError(f"expected 4, {AXES[2]}, or 5, {AXES[3]}{expected}")
    channel = channel_axis + ndim if channel_axis < 0 else channel_axis
    if not 1 <= channel < ndim:
        raise _LayoutError(
            f"with channel_axis = {channel_axis}; expected 1 to {ndim - 1}, or -1: the first axis is the batch (for a "
            "single volume with channels add one of length 1)"
        )
    return Axes((0, channel, *(axis for axis in range(1, ndim) if axis != channel)))


def check_fits(name: str, shape: tuple[int, ...], axes: Axes, settings: Settings) -> None:
    """An error if a window does not fit where the padding wants it to. It names the axis of the array."""
    spatial = axes.order[2:]
    if is_cropped(settings) and settings.weights is None:
        for axis, window in zip(spatial, window_sizes(settings, len(spatial)), strict=True):
            if axis is not None and shape[axis] < window:
                raise ValueError(f"{name}.shape[{axis}] = {shape[axis]} < window {window} (padding {settings.padding})")


# ---- Masks -----------------------------------------------------------------------------------------------------------


def mask_axes(
    mask: Sequence[int], images: tuple[int, ...], axes: Axes
) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
    """The native shape of a mask of this shape, and for each native axis that of the mask; None: it is repeated there.

    A mask has the axes of the images, each of their length or 1; or only some of the last ones, where that can be read
    in one way; or the spatial ones alone.
    """
    spatial = [axis for axis in axes.order[2:] if axis is not None]
    dims = len(spatial)
    order: tuple[int | None, ...]
    if len(mask) == len(images):
        order = axes.order
    elif len(mask) == dims:
        order = (None, None, *range(dims))
    elif len(mask) < len(images) and spatial == list(range(len(images) - dims, len(images))):
        missing = len(images) - len(mask)
        if len(mask) > dims and 1 < mask[0] == images[0] == images[1]:
            raise ValueError(
                f"mask.shape = {tuple(mask)} for images of {images} may be one of each image or of each channel; pass "
                "mask[:, None] for the first, mask[None] for the second"
            )
        order = tuple(None if axis is None or axis < missing else axis - missing for axis in axes.order)
    else:
        order = ()
    native = tuple(1 if axis is None else mask[axis] for axis in order)
    if not native or any(
        length not in (1, full) for length, full in zip(native, axes.to_native(images, 1), strict=True)
    ):
        raise ValueError(
            f"mask.shape = {tuple(mask)}; expected one that broadcasts to that of the images, {images}, or that of "
            f"their spatial axes, {tuple(images[axis] for axis in spatial)}"
        )
    return native, order
