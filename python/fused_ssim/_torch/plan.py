# SPDX-License-Identifier: MIT
"""Torch tensors to the native library: pointers, shapes, strides, streams. ``array`` does it for other libraries.

A :class:`Plan` holds everything about a call that does not change from one training step to the next. Plans are
cached by the layout of their images, so that a step costs one dictionary look-up and no check twice.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Union

import torch
from torch import Tensor

from .._base import codes, shapes
from .._base.backends import triton_problem
from .._base.codes import GRAD_1, GRAD_2
from .._base.gradients import grad_scale, is_eager
from .._base.settings import for_dtypes, native_settings
from .._base.shapes import out_shape
from .._core import Plan as NativePlan
from . import checks
from .devices import DEVICES, backend_of, has_kernels
from .layouts import Like, checked_upstream, native_images
from .plain_plan import PlainPlan
from .triton_call import works

if TYPE_CHECKING:
    from .._base.settings import Settings

# A kind of call on any device.
AnyPlan = Union["Plan", PlainPlan]


def plan_for(
    img1: Tensor,
    img2: Tensor,
    mask: Tensor | None,
    ranges: Tensor | None,
    settings: Settings,
    spatial_dims: int,
    grads: int,
) -> AnyPlan:
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
    mask: Like,
    ranges: Like,
) -> AnyPlan:
    if device1.type == "meta" or checks.is_promoted(device1, dtype1, dtype2):
        raise NoPlanError
    checks.check_images(settings.names, spatial_dims, dtype1, device1, shape1, dtype2, device2, shape2)
    shapes.check_windows(settings, spatial_dims)
    checks.check_gradients(settings.names, grads, dtype1, dtype2)
    backend = backend_of(device1.type, settings.backend)
    if backend != "native":
        by_triton = backend == "triton" and _runs_triton(device1, len(shape1) - 2, settings)
        return PlainPlan(settings, grads, dtype1, dtype2, device1, shape1, stride1, stride2, mask, ranges, by_triton)
    if not has_kernels(device1.type):
        raise codes.UnsupportedDeviceError(
            f'{settings.names[0]}.device = {device1}, and the backend is "native"; expected a tensor on '
            f'{codes.enumeration(DEVICES)}, or the backend "auto"'
        )
    return Plan(settings, grads, dtype1, dtype2, device1, shape1, stride1, stride2, mask, ranges)


def _runs_triton(device: torch.device, spatial_dims: int, settings: Settings) -> bool:
    """Whether the kernels of Triton are to be used; an error if they are asked for where there is no Triton."""
    if settings.backend != "triton":
        return works(device, spatial_dims)
    problem = triton_problem(device.type)
    if problem:
        raise codes.UnsupportedDeviceError(
            f'{settings.names[0]}.device = {device}, and the backend is "triton", but {problem}; expected a tensor '
            'on a device that Triton has code for, or the backend "auto"'
        )
    return True


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
        "_scale_dtype",
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
        dtype1: torch.dtype,
        dtype2: torch.dtype,
        device: torch.device,
        shape: tuple[int, ...],
        stride1: tuple[int, ...],
        stride2: tuple[int, ...],
        mask: Like,
        ranges: Like,
    ) -> None:
        self.settings = settings
        self.grads = grads
        self.spatial_dims = len(shape) - 2
        self.arithmetic = checks.arithmetic(settings, dtype1, dtype2)
        self._same_dtype = dtype1 == self.arithmetic
        gradient = checks.gradient_dtype(dtype1, dtype2)
        self._empty_gradient = checks.empty_gradient(gradient)
        # The dtype in which gradients of that dtype are scaled; `settings.arithmetic` does not change it.
        self._scale_dtype = checks.ARITHMETIC[gradient]
        resolved = for_dtypes(settings, checks.NAMES[dtype1], checks.NAMES[dtype2])
        self._out_shape = out_shape(settings, shape)
        where = DEVICES[device.type]
        self._where = where.where(device.index or 0)
        core = NativePlan(
            device=where.code,
            device_index=device.index or 0,
            settings=native_settings(resolved),
            images=native_images(resolved, dtype1, dtype2, shape, stride1, stride2, mask, ranges),
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

        # The native library knows where saving maps pays; there forward saves.
        self.saved_bytes = core.saved_bytes
        of = checks.NAMES[gradient]
        self.eager = is_eager(settings, of, self.saved_bytes, mask is not None, ranges is not None)
        self.grad_scale, self._undo_grad_scale = grad_scale(resolved, of, shape)

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
            1.0,
        )
        return out, grad1, grad2

    def scale(self, grad_out: Tensor, grad1: Tensor | None, grad2: Tensor | None) -> None:
        """Makes gradients of ``value_and_grad(..., plan.grad_scale)`` those of :meth:`backward`, in place."""
        grad_out = checked_upstream(grad_out, self.arithmetic, self._out_shape)
        if self._scale_dtype is not self.arithmetic:
            grad_out = grad_out.to(self._scale_dtype)
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
        grad_out = checked_upstream(grad_out, self.arithmetic, self._out_shape)
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
