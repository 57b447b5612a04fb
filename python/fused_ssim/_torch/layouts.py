# SPDX-License-Identifier: MIT
"""What every plan decides about arguments and results: layouts as the native library has them, upstream gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._base.shapes import contiguous_strides, out_shape
from .._core import Images, Layout
from . import checks

if TYPE_CHECKING:
    from .._base.settings import Settings

# What a plan depends on of a mask or of data ranges: dtype, device, shape, strides. None: there is none.
Like = tuple[torch.dtype, torch.device, tuple[int, ...], tuple[int, ...]] | None


def native_images(
    settings: Settings,
    dtype1: torch.dtype,
    dtype2: torch.dtype,
    shape: tuple[int, ...],
    stride1: tuple[int, ...],
    stride2: tuple[int, ...],
    mask: Like,
    ranges: Like,
) -> Images:
    """The images of a call as the native library describes them."""
    out = out_shape(settings, shape)
    gradient = checks.DTYPES[checks.gradient_dtype(dtype1, dtype2)].code
    arithmetic = checks.DTYPES[checks.arithmetic(settings, dtype1, dtype2)].code
    return Images(
        x=Layout(dtype=checks.DTYPES[dtype1].code, shape=shape, stride=stride1),
        y=Layout(dtype=checks.DTYPES[dtype2].code, shape=shape, stride=stride2),
        grad_x=Layout(dtype=gradient, shape=shape, stride=_empty_like_stride(shape, stride1)),
        grad_y=Layout(dtype=gradient, shape=shape, stride=_empty_like_stride(shape, stride2)),
        out=Layout(dtype=arithmetic, shape=out, stride=contiguous_strides(out)),
        mask=_layout(mask),
        data_ranges=_layout(ranges),
    )


def _layout(like: Like) -> Layout | None:
    return None if like is None else Layout(dtype=checks.MASK_DTYPES[like[0]], shape=like[2], stride=like[3])


def _empty_like_stride(shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...]:
    """The strides that ``torch.empty_like`` gives for a tensor of these strides: dense, in the same order of axes.

    The stride of an axis of one element may be another; no element depends on it.
    """
    axes = sorted((axis for axis, size in enumerate(shape) if size > 1), key=lambda axis: stride[axis], reverse=True)
    steps = [stride[axis] for axis in axes]
    if 0 in steps or len(set(steps)) < len(steps):
        # Elements repeat. PyTorch decides, but not without importing SymPy, which takes half a second.
        return torch.empty_like(torch.empty_strided(shape, stride, device="meta")).stride()
    dense = dict(zip(axes, contiguous_strides(tuple(shape[axis] for axis in axes)), strict=True))
    return tuple(dense.get(axis, step) for axis, step in enumerate(stride))


def checked_upstream(grad_out: Tensor, arithmetic: torch.dtype, out: tuple[int, ...]) -> Tensor:
    """An upstream gradient as a plain tensor; an error if it is not one for an output of that dtype and shape."""
    # Autograd itself brings an upstream gradient to the shape, dtype and device of the output.
    if type(grad_out) is not Tensor or grad_out.is_neg():
        grad_out = checks.plain("the upstream gradient", grad_out)
    if grad_out.dtype is not arithmetic or (out and grad_out.shape != out):
        raise ValueError(
            f"the upstream gradient is {grad_out.dtype} {list(grad_out.shape)}; expected that of the output, "
            f"{arithmetic} {list(out)}"
        )
    return grad_out
