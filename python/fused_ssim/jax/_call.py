# SPDX-License-Identifier: MIT
"""From the arguments of a public function to arrays of one layout, and back to the caller's."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from .._base.arguments import integer
from .._base.settings import settings_factory
from ..array._layouts import Axes
from ..array._libraries import is_masked
from ..array._plans import check_alike, check_dtype, layout_of, mask_layout, range_layout, result_dtypes
from . import _derivatives
from ._native import Arrays, Kind, memory_of

_settings_of = settings_factory(lambda: False)


def ssim(img1: Any, img2: Any, mask: Any, channel_axis: Any, **arguments: Any) -> Any:
    """The value for arguments of a public function."""
    names = arguments.get("names", ("img1", "img2"))
    for name, array in zip((*names, "mask"), (img1, img2, mask), strict=True):
        if array is not None or name != "mask":
            _check_array(name, array)
    ranges = None
    if isinstance(arguments["data_range"], (jax.Array, np.ndarray)):
        ranges, arguments["data_range"] = arguments["data_range"], 1.0
        _check_array("data_range", ranges)
    if channel_axis is not None:
        channel_axis = integer("channel_axis", channel_axis)
    return _ssim(img1, img2, mask, ranges, kind=Kind.of(_settings_of(**arguments), channel_axis))


def _check_array(name: str, array: Any) -> None:
    """An error if JAX does not take it for an array."""
    if is_masked(array):
        raise TypeError(f"{name} is a masked array; expected a plain one: pass its data, and mask=~{name}.mask")
    if isinstance(array, (jax.Array, np.ndarray)):
        return
    what = f"{type(array).__module__}.{type(array).__qualname__}"
    if what.startswith("torch."):
        raise TypeError(f"{name} is a tensor of torch; use the functions of fused_ssim itself")
    raise TypeError(f"{name} is of type {what.removeprefix('builtins.')}; expected an array of JAX or NumPy")


# Compiled, so that a call outside of jit runs one program. Everything in it that is Python runs when it is traced.
@partial(jax.jit, static_argnames=("kind",))
def _ssim(img1: Any, img2: Any, mask: Any, ranges: Any, *, kind: Kind) -> Any:
    settings = kind.settings
    first, second = memory_of(img1), memory_of(img2)
    for name, memory in zip(kind.names, (first, second), strict=True):
        check_dtype(name, memory)
    layout = layout_of(settings, first.shape, kind.channel_axis)
    check_alike(kind.names, first, second)
    arithmetic, _ = result_dtypes(settings, first.dtype, second.dtype)
    if arithmetic == "float64" and not jax.config.jax_enable_x64:
        raise ValueError(
            f'arithmetic = {settings.arithmetic!r}; expected jax.config.update("jax_enable_x64", True) before it: '
            "without it, JAX has no float64"
        )
    if ranges is not None:
        ranges = ranges.astype(arithmetic)
        range_layout(memory_of(ranges), first, layout.axes)
    if mask is not None:
        _, mask_shape, _ = mask_layout(memory_of(mask), first, second, arithmetic, layout.axes)
        mask = _as_batch(mask, mask_shape, layout.axes)
    img1, img2 = (_as_batch(image, layout.shape, layout.axes) for image in (img1, img2))
    arrays = Arrays(img1, img2, mask, ranges)
    inner = Kind(kind.values, kind.names, _batch_order(layout.axes).index(1))
    return _derivatives.ssim(inner, arrays).reshape(layout.out_shape)


def _as_batch(array: Any, shape: tuple[int, ...], images: Axes) -> Any:
    """An image or a mask of the native ``shape`` as a batch with channels, with its axes in the order of the images.

    Nothing moves: only axes of length 1 come, where there are none.
    """
    return array.reshape([shape[native] for native in _batch_order(images)])


def _batch_order(axes: Axes) -> list[int]:
    """The native axes in the order that they have in the images. Those that the images lack come first."""
    places = [-1 if axis is None else axis for axis in axes.order]
    return sorted(range(len(places)), key=places.__getitem__)
