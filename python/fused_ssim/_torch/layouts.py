# SPDX-License-Identifier: MIT
"""What every plan decides about arguments and results: layouts as the native library has them, scales, upstreams."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._base.shapes import contiguous_strides, kept_axes, map_shape, out_shape
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


def is_eager(settings: Settings, gradient: torch.dtype, saved_bytes: int, has_mask: bool, has_ranges: bool) -> bool:
    """Whether forward computes the gradient in the same pass, so that backward only scales it.

    The gradient of a map cannot be scaled that way. In float16 it would be unsafe where the size of the gradient is not
    known: it depends on how much a mask leaves of a mean, and on the data range. (MS-SSIM has no other way.)
    """
    unknown = (has_mask and settings.reduction != "sum") or has_ranges
    unsafe = unknown and gradient == torch.float16 and settings.weights is None
    return saved_bytes == 0 and settings.reduction != "none" and not unsafe


def grad_scale(settings: Settings, gradient: torch.dtype, shape: tuple[int, ...]) -> tuple[float, float]:
    """The scale under which an eager gradient is stored, and the factor that undoes it.

    The gradient of a mean over a million pixels is below the range of float16 unless the loss is scaled, and the scale
    is known only in backward. So float16 keeps the gradient of the sum over pixels in units of the data range, which
    is near 1. The scale is rounded to a power of two, because that multiplies without an error.
    """
    if gradient != torch.float16:
        return 1.0, 1.0
    if settings.reduction == "sum":
        # MS-SSIM sums planes, and the value of each plane is a mean.
        kept = len(shape) if settings.weights is None else 2
    else:
        kept = kept_axes(settings.reduction, len(shape))
    averaged = map_shape(settings, shape)[kept:]
    assert settings.data_range is not None  # the settings are those for the dtypes of the images
    # The derivative of SSIM by a pixel is near 1 / data_range, that of |x - y| is 1. A loss has both.
    unit = settings.data_range if settings.lambda_dssim in (None, 1.0) else min(settings.data_range, 1.0)
    # The derivative by a pixel grows as 1 / K where the images are dark or flat: leave room for that below the usual K.
    room = max(0.0, math.log2(0.01 / max(min(settings.k1, settings.k2), 1e-6)))
    exponent = max(round(math.log2(math.prod(averaged) * unit) - room), 0)
    return math.ldexp(1.0, exponent), math.ldexp(1.0, -exponent)


def _empty_like_stride(shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...]:
    """The strides that ``torch.empty_like`` gives for a tensor of these strides: dense, in the same order of axes."""
    return torch.empty_like(torch.empty_strided(shape, stride, device="meta")).stride()


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
