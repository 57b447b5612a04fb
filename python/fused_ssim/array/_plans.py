# SPDX-License-Identifier: MIT
"""What a call decides from shapes, dtypes and strides alone: errors, layouts, and the plan of the native library."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from .._base.arguments import integer
from .._base.codes import (
    DEVICES,
    DTYPES,
    GRAD_1,
    GRAD_2,
    MASK_DTYPES,
    complex_message,
    enumeration,
    integer_gradient_message,
    is_integer,
)
from .._base.settings import Settings, arithmetic_of, for_dtypes, native_settings
from .._base.shapes import check_windows, contiguous_strides, out_shape
from .._core import Images, Layout
from .._core import Plan as NativePlan
from ._layouts import Axes, axes_of, check_fits, mask_axes

if TYPE_CHECKING:
    from ._libraries import Device, Memory

# Of a mask: its dtype, and its shape and strides for the native library.
MaskLayout = tuple[str, tuple[int, ...], tuple[int, ...]]
# Of data ranges: shape and strides.
RangeLayout = tuple[tuple[int, ...], tuple[int, ...]]


# ---- Errors ----------------------------------------------------------------------------------------------------------


def check_dtype(name: str, image: Memory) -> None:
    """An error if this is no dtype of images."""
    if image.dtype in DTYPES:
        return
    if image.dtype.startswith("complex"):
        raise TypeError(complex_message(name, image.dtype, f"numpy.abs({name})", f"{name}.real and {name}.imag"))
    raise TypeError(
        f"{name}.dtype = {image.dtype}; expected {enumeration(DTYPES)}: convert it, for instance by "
        f'{name}.astype("float32"), and pass data_range'
    )


def check_alike(names: tuple[str, str], first: Memory, second: Memory) -> None:
    """An error if two arrays do not fit together."""
    name1, name2 = names
    if first.dtype != second.dtype and not (is_integer(first.dtype) or is_integer(second.dtype)):
        raise TypeError(
            f"{name1}.dtype = {first.dtype} but {name2}.dtype = {second.dtype}; expected the same dtype, or one of "
            "integers"
        )
    if first.shape != second.shape:
        raise ValueError(f"{name1}.shape = {first.shape} but {name2}.shape = {second.shape}; expected the same shape")
    if first.device != second.device:
        raise ValueError(f"{name1} is on {first.device} but {name2} on {second.device}; expected the same device")


def mask_layout(mask: Memory, first: Memory, second: Memory, arithmetic: str, axes: Axes) -> MaskLayout:
    """The layout of a mask; an error if it is none for these images, whose arithmetic has that dtype."""
    if mask.dtype not in MASK_DTYPES or mask.dtype not in ("bool", arithmetic):
        dtypes = " and ".join(dict.fromkeys((first.dtype, second.dtype)))
        raise TypeError(f"mask.dtype = {mask.dtype}; expected bool or {arithmetic} for images of {dtypes}")
    if mask.device != first.device:
        raise ValueError(f"mask is on {mask.device} but the images on {first.device}; expected the same device")
    shape, order = mask_axes(mask.shape, first.shape, axes)
    return mask.dtype, shape, tuple(0 if axis is None else mask.strides[axis] for axis in order)


def range_layout(ranges: Memory, images: Memory, axes: Axes) -> RangeLayout:
    """The layout of data ranges; an error if they are none for these images."""
    each = () if axes.batch is None else (images.shape[axes.batch],)
    if ranges.shape not in ((), each):
        raise ValueError(
            f"data_range.shape = {ranges.shape} for images of {images.shape}; expected one number"
            + (f", or one for each image, {list(each)}" if each else "")
        )
    if ranges.device != images.device:
        raise ValueError(
            f"data_range is on {ranges.device} but the images on {images.device}; expected the same device"
        )
    return ranges.shape, ranges.strides


# ---- Layouts and plans -----------------------------------------------------------------------------------------------


class ImageLayout(NamedTuple):
    """What follows from the shape of the images, and what the value is like.

    Attributes:
        axes: where the native library's axes are in the images.
        shape: of the images, for the native library.
        strides: of a new, C-contiguous array like the images, for the native library.
        out_shape: of the value, as the caller gets it.
        native_out_shape: the same, for the native library.
        out_strides: of a C-contiguous value, for the native library.

    """

    axes: Axes
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    out_shape: tuple[int, ...]
    native_out_shape: tuple[int, ...]
    out_strides: tuple[int, ...]


def layout_of(settings: Settings, shape: tuple[int, ...], channel_axis: Any) -> ImageLayout:
    """The layout of images of that shape, whose channels are at ``channel_axis``."""
    if type(channel_axis) is not int and channel_axis is not None:
        channel_axis = integer("channel_axis", channel_axis)
    return _layout(settings, shape, channel_axis)


@lru_cache(maxsize=256, typed=True)
def _layout(settings: Settings, shape: tuple[int, ...], channel_axis: int | None) -> ImageLayout:
    name = settings.names[0]
    axes = axes_of(name, shape, channel_axis)
    check_windows(settings, len(axes.order) - 2)
    check_fits(name, shape, axes, settings)
    native = axes.to_native(shape, 1)
    out = out_shape(settings, native)
    strides = axes.strides_of_new(native)
    if settings.reduction == "none":
        return ImageLayout(axes, native, strides, axes.from_native(out), out, axes.strides_of_new(out))
    return ImageLayout(axes, native, strides, axes.kept(out), out, contiguous_strides(out))


@lru_cache(maxsize=256)
def result_dtypes(settings: Settings, dtype1: str, dtype2: str) -> tuple[str, str]:
    """The dtypes of the arithmetic, and so of the value, and of gradients."""
    arithmetic = arithmetic_of(settings, dtype1, dtype2)
    return arithmetic, DTYPES[dtype1].gradient or DTYPES[dtype2].gradient or arithmetic


@lru_cache(maxsize=256)
def plan_of(
    settings: Settings,
    grads: int,
    dtype1: str,
    dtype2: str,
    device: Device,
    layout: ImageLayout,
    strides1: tuple[int, ...],
    strides2: tuple[int, ...],
    mask: MaskLayout | None,
    ranges: RangeLayout | None,
    by_integers: bool = False,
) -> NativePlan:
    """The plan of the native library, which checks what is left to check. Strides are those of the arrays."""
    for name, dtype, bit in zip(settings.names, (dtype1, dtype2), (GRAD_1, GRAD_2), strict=True):
        if grads & bit and is_integer(dtype) and not by_integers:
            raise TypeError(integer_gradient_message(name, dtype))
    settings = for_dtypes(settings, dtype1, dtype2)
    arithmetic, floats = (DTYPES[dtype].code for dtype in result_dtypes(settings, dtype1, dtype2))
    gradient = Layout(dtype=floats, shape=layout.shape, stride=layout.strides)
    stride1, stride2 = (layout.axes.to_native(strides, 0) for strides in (strides1, strides2))
    return NativePlan(
        device=DEVICES[device.kind],
        device_index=device.index,
        settings=native_settings(settings),
        images=Images(
            x=Layout(dtype=DTYPES[dtype1].code, shape=layout.shape, stride=stride1),
            y=Layout(dtype=DTYPES[dtype2].code, shape=layout.shape, stride=stride2),
            grad_x=gradient,
            grad_y=gradient,
            out=Layout(dtype=arithmetic, shape=layout.native_out_shape, stride=layout.out_strides),
            mask=None if mask is None else Layout(dtype=MASK_DTYPES[mask[0]], shape=mask[1], stride=mask[2]),
            data_ranges=None if ranges is None else Layout(dtype=arithmetic, shape=ranges[0], stride=ranges[1]),
        ),
        grads=grads,
    )
