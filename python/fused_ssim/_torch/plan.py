# SPDX-License-Identifier: MIT
"""Torch tensors to the native library: pointers, shapes, strides, streams. ``array`` does it for other libraries.

A :class:`Plan` holds everything about a call that does not change from one training step to the next. Plans are
cached by the layout of their images, so that a step costs one dictionary look-up and no check twice.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._base import codes
from .._base.codes import GRAD_1, GRAD_2
from .._base.settings import native_settings
from .._base.shapes import contiguous_strides, kept_axes, map_shape, out_shape
from .._core import Images, Layout
from .._core import Plan as NativePlan
from . import checks
from .devices import DEVICES

if TYPE_CHECKING:
    from .._base.settings import Settings


# What a plan depends on of a mask or of data ranges: dtype, device, shape, strides. None: there is none.
_Like = tuple[torch.dtype, torch.device, tuple[int, ...], tuple[int, ...]] | None


def plan_for(
    img1: Tensor,
    img2: Tensor,
    mask: Tensor | None,
    ranges: Tensor | None,
    settings: Settings,
    spatial_dims: int,
    grads: int,
) -> Plan:
    """The plan for two plain tensors (see :func:`checks.plain`), from the cache if there was one like it.

    ``grads`` is the set of gradients that will be asked for: ``GRAD_1 | GRAD_2``.
    """
    try:
        return _plan(
            settings,
            spatial_dims,
            grads,
            img1.dtype,
            img1.device,
            img1.shape,
            img1.stride(),
            img2.dtype,
            img2.device,
            img2.shape,
            img2.stride(),
            None if mask is None else (mask.dtype, mask.device, mask.shape, mask.stride()),
            None if ranges is None else (ranges.dtype, ranges.device, ranges.shape, ranges.stride()),
        )
    except RuntimeError:  # a nested tensor has no shape
        checks.check_layout(settings.names[0], img1)
        checks.check_layout(settings.names[1], img2)
        raise


class NoPlanError(Exception):
    """The images cannot be computed with as they are: they have no memory, or autocast is to convert them."""


@lru_cache(maxsize=512)
def _plan(
    settings: Settings,
    spatial_dims: int,
    grads: int,
    dtype1: torch.dtype,
    device1: torch.device,
    shape1: tuple[int, ...],
    stride1: tuple[int, ...],
    dtype2: torch.dtype,
    device2: torch.device,
    shape2: tuple[int, ...],
    stride2: tuple[int, ...],
    mask: _Like,
    ranges: _Like,
) -> Plan:
    if device1.type == "meta" or checks.is_promoted(device1, dtype1, dtype2):
        raise NoPlanError
    checks.check_images(settings.names, spatial_dims, dtype1, device1, shape1, dtype2, device2, shape2)
    if device1.type not in DEVICES:
        raise codes.UnsupportedDeviceError(
            f"{settings.names[0]}.device = {device1}; expected a tensor on {codes.enumeration(DEVICES)}"
        )
    return Plan(settings, grads, dtype1, device1, shape1, stride1, stride2, mask, ranges)


class Plan:
    """One kind of call: settings, wanted gradients, and images and mask of known dtype, device, shape and strides.

    Its methods take images of just that layout, allocate what they return, and enqueue on the current stream. The
    workspace is freed when a call returns: torch gives the memory only to later work of the same stream.
    """

    __slots__ = (
        "_backward",
        "_backward_workspace",
        "_empty_gradient",
        "_forward",
        "_forward_workspace",
        "_out_shape",
        "_same_dtype",
        "_saved_backward_workspace",
        "_scale",
        "_undo_grad_scale",
        "_value_and_grad",
        "_value_and_grad_workspace",
        "_where",
        "arithmetic",
        "eager",
        "grad_scale",
        "grads",
        "saved_bytes",
        "settings",
        "spatial_dims",
    )

    def __init__(
        self,
        settings: Settings,
        grads: int,
        dtype: torch.dtype,
        device: torch.device,
        shape: tuple[int, ...],
        stride1: tuple[int, ...],
        stride2: tuple[int, ...],
        mask: _Like,
        ranges: _Like,
    ) -> None:
        self.settings = settings
        self.grads = grads
        self.spatial_dims = len(shape) - 2
        self.arithmetic = checks.ARITHMETIC[dtype]
        self._same_dtype = dtype == self.arithmetic
        self._empty_gradient = checks.empty_gradient(dtype)
        self._out_shape = out_shape(settings, shape)
        where = DEVICES[device.type]
        self._where = where.where(device.index or 0)
        core = NativePlan(
            device=where.code,
            device_index=device.index or 0,
            settings=native_settings(settings),
            images=_layouts(dtype, shape, stride1, stride2, self._out_shape, mask, ranges),
            grads=grads,
        )
        # Bound methods and sizes as attributes: to look them up in every call would slow down small images.
        self._forward = core.forward
        self._value_and_grad = core.value_and_grad
        self._backward = core.backward
        self._scale = core.scale
        self._forward_workspace = core.forward_workspace
        self._value_and_grad_workspace = core.value_and_grad_workspace
        self._backward_workspace = core.backward_workspace
        self._saved_backward_workspace = core.saved_backward_workspace

        # The native library knows where saving maps pays; there forward saves. Elsewhere ("eager") forward computes the
        # gradient in the same pass, and backward only scales it. The gradient of a map cannot be scaled that way. In
        # float16 it would be unsafe where the size of the gradient is not known: it depends on how much a mask leaves
        # of a mean, and on the data range. (MS-SSIM has no other way.)
        self.saved_bytes = core.saved_bytes
        gradient = checks.GRADIENT[dtype]
        unknown = (mask is not None and settings.reduction != "sum") or ranges is not None
        unsafe = unknown and gradient == torch.float16 and settings.weights is None
        self.eager = self.saved_bytes == 0 and settings.reduction != "none" and not unsafe
        self.grad_scale, self._undo_grad_scale = _grad_scale(settings, gradient, shape)

    # Each method spells out its call: a shared helper would cost more time than it saves lines.

    def forward(
        self, img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, saved: Tensor | None = None
    ) -> Tensor:
        """The value or the map. ``saved``, of :meth:`empty_saved`, is filled for :meth:`backward`."""
        out = self._empty_out(img1)
        size = self._forward_workspace
        workspace = img1.new_empty(size, dtype=torch.uint8) if size else None
        self._forward(
            self._where(),
            0 if workspace is None else workspace.data_ptr(),
            img1.data_ptr(),
            img2.data_ptr(),
            0 if mask is None else mask.data_ptr(),
            0 if ranges is None else ranges.data_ptr(),
            out.data_ptr(),
            0 if saved is None else saved.data_ptr(),
        )
        return out

    def value_and_grad(
        self, img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, grad_scale: float = 1.0
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The value or the map, and the gradients of its sum, times ``grad_scale``."""
        out = self._empty_out(img1)
        grad1 = self._empty_gradient(img1) if self.grads & GRAD_1 else None
        grad2 = self._empty_gradient(img2) if self.grads & GRAD_2 else None
        size = self._value_and_grad_workspace
        workspace = img1.new_empty(size, dtype=torch.uint8) if size else None
        self._value_and_grad(
            self._where(),
            0 if workspace is None else workspace.data_ptr(),
            img1.data_ptr(),
            img2.data_ptr(),
            0 if mask is None else mask.data_ptr(),
            0 if ranges is None else ranges.data_ptr(),
            out.data_ptr(),
            0 if grad1 is None else grad1.data_ptr(),
            0 if grad2 is None else grad2.data_ptr(),
            grad_scale,
        )
        return out, grad1, grad2

    def scale(self, grad_out: Tensor, grad1: Tensor | None, grad2: Tensor | None) -> None:
        """Makes gradients of ``value_and_grad(..., plan.grad_scale)`` those of :meth:`backward`, in place."""
        grad_out = self._upstream(grad_out)
        self._scale(
            self._where(),
            self._undo_grad_scale,
            grad_out.data_ptr(),
            grad_out.stride(),
            0 if grad1 is None else grad1.data_ptr(),
            0 if grad2 is None else grad2.data_ptr(),
        )

    def backward(
        self,
        img1: Tensor,
        img2: Tensor,
        mask: Tensor | None,
        ranges: Tensor | None,
        saved: Tensor | None,
        grad_out: Tensor,
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of ``(grad_out * out).sum()``."""
        grad_out = self._upstream(grad_out)
        grad1 = self._empty_gradient(img1) if self.grads & GRAD_1 else None
        grad2 = self._empty_gradient(img2) if self.grads & GRAD_2 else None
        size = self._backward_workspace if saved is None else self._saved_backward_workspace
        workspace = img1.new_empty(size, dtype=torch.uint8) if size else None
        self._backward(
            self._where(),
            0 if workspace is None else workspace.data_ptr(),
            img1.data_ptr(),
            img2.data_ptr(),
            0 if mask is None else mask.data_ptr(),
            0 if ranges is None else ranges.data_ptr(),
            0 if saved is None else saved.data_ptr(),
            grad_out.data_ptr(),
            grad_out.stride(),
            0 if grad1 is None else grad1.data_ptr(),
            0 if grad2 is None else grad2.data_ptr(),
        )
        return grad1, grad2

    def gradients(
        self,
        img1: Tensor,
        img2: Tensor,
        mask: Tensor | None,
        ranges: Tensor | None,
        saved: Tensor | None,
        grad_out: Tensor,
    ) -> tuple[Tensor | None, Tensor | None]:
        """As :meth:`backward`, but the way the first backward went, so that a repeated one gives the same bits."""
        if not self.eager:
            return self.backward(img1, img2, mask, ranges, saved, grad_out)
        _, grad1, grad2 = self.value_and_grad(img1, img2, mask, ranges, self.grad_scale)
        self.scale(grad_out, grad1, grad2)
        return grad1, grad2

    def empty_saved(self, image: Tensor) -> Tensor:
        """Memory for the maps that :meth:`forward` saves."""
        return image.new_empty(self.saved_bytes, dtype=torch.uint8)

    def _empty_out(self, image: Tensor) -> Tensor:
        shape = self._out_shape
        return image.new_empty(shape) if self._same_dtype else image.new_empty(shape, dtype=self.arithmetic)

    def _upstream(self, grad_out: Tensor) -> Tensor:
        # Autograd itself brings an upstream gradient to the shape, dtype and device of the output.
        if type(grad_out) is not Tensor or grad_out.is_neg():
            grad_out = checks.plain("the upstream gradient", grad_out)
        if grad_out.dtype is not self.arithmetic or (self._out_shape and grad_out.shape != self._out_shape):
            raise ValueError(
                f"the upstream gradient is {grad_out.dtype} {list(grad_out.shape)}; expected that of the output, "
                f"{self.arithmetic} {list(self._out_shape)}"
            )
        return grad_out


def _layouts(
    dtype: torch.dtype,
    shape: tuple[int, ...],
    stride1: tuple[int, ...],
    stride2: tuple[int, ...],
    out_shape: tuple[int, ...],
    mask: _Like,
    ranges: _Like,
) -> Images:
    image, gradient = checks.DTYPES[dtype].code, checks.DTYPES[checks.GRADIENT[dtype]].code
    return Images(
        x=Layout(dtype=image, shape=shape, stride=stride1),
        y=Layout(dtype=image, shape=shape, stride=stride2),
        grad_x=Layout(dtype=gradient, shape=shape, stride=_empty_like_stride(shape, stride1)),
        grad_y=Layout(dtype=gradient, shape=shape, stride=_empty_like_stride(shape, stride2)),
        out=Layout(
            dtype=checks.DTYPES[checks.ARITHMETIC[dtype]].code, shape=out_shape, stride=contiguous_strides(out_shape)
        ),
        mask=_layout(mask),
        data_ranges=_layout(ranges),
    )


def _layout(like: _Like) -> Layout | None:
    return None if like is None else Layout(dtype=checks.MASK_DTYPES[like[0]], shape=like[2], stride=like[3])


def _grad_scale(settings: Settings, gradient: torch.dtype, shape: tuple[int, ...]) -> tuple[float, float]:
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
    # The derivative of SSIM by a pixel is near 1 / data_range, that of |x - y| is 1. A loss has both.
    unit = settings.data_range if settings.lambda_dssim in (None, 1.0) else min(settings.data_range, 1.0)
    # The derivative by a pixel grows as 1 / K where the images are dark or flat: leave room for that below the usual K.
    room = max(0.0, math.log2(0.01 / max(min(settings.k1, settings.k2), 1e-6)))
    exponent = max(round(math.log2(math.prod(averaged) * unit) - room), 0)
    return math.ldexp(1.0, exponent), math.ldexp(1.0, -exponent)


def _empty_like_stride(shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...]:
    """The strides that ``torch.empty_like`` gives for a tensor of these strides: dense, in the same order of axes."""
    return torch.empty_like(torch.empty_strided(shape, stride, device="meta")).stride()
