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

from .. import _core
from .._base import settings as _settings
from .._base.codes import map_shape, out_shape, plan_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._base.settings import Settings

_settings.is_compiling = torch.compiler.is_dynamo_compiling

GRAD_1: int = _core.GRAD_X
GRAD_2: int = _core.GRAD_Y

_DTYPES: dict[torch.dtype, int] = {
    torch.float32: _core.FLOAT32,
    torch.float64: _core.FLOAT64,
    torch.float16: _core.FLOAT16,
    torch.bfloat16: _core.BFLOAT16,
}

_DEVICES: dict[str, int] = {"cpu": _core.CPU, "cuda": _core.CUDA}

MAX_WINDOW_SIZE: int = _core.MAX_WINDOW_SIZE
MAX_LEVELS: int = _core.MAX_LEVELS

version = _core.version
info = _core.info


# ---- Images ----------------------------------------------------------------------------------------------------------


def plan(img1: Tensor, img2: Tensor, mask: Tensor | None, settings: Settings, spatial_dims: int, grads: int) -> Plan:
    """The plan for two plain tensors (see :func:`plain`), from the cache if there was one like it.

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
        )
    except RuntimeError:  # a nested tensor has no shape
        _check_layout(settings.names[0], img1)
        _check_layout(settings.names[1], img2)
        raise


def plain(name: str, image: Tensor) -> Tensor:
    """``image`` as a tensor whose memory says it all: of class Tensor, dense, no pending negation."""
    check_tensor(name, image)
    if type(image) is not Tensor and type(image) is not torch.nn.Parameter:
        if is_opaque(image):
            raise TypeError(f"{name} is of type {type(image).__name__}, which owns no memory; expected a plain tensor")
        image = image.as_subclass(Tensor)
    _check_layout(name, image)
    return image.resolve_neg() if image.is_neg() else image


def is_opaque(image: Tensor) -> bool:
    """Whether the tensor is of a class that answers to operations only, and has no memory to point at."""
    return type(image).__torch_dispatch__ is not Tensor.__torch_dispatch__


def check_tensor(name: str, image: object) -> None:
    if not isinstance(image, Tensor):
        raise TypeError(f"{name} is of type {type(image).__name__}; expected a torch.Tensor")


def _check_layout(name: str, image: Tensor) -> None:
    if image.layout is not torch.strided or image.is_nested:
        layout = "nested" if image.is_nested else str(image.layout)
        raise TypeError(f"{name} has the layout {layout}; expected a dense tensor: use {name}.to_dense()")


def check_images(
    names: tuple[str, str],
    spatial_dims: int,
    dtype1: torch.dtype,
    device1: torch.device,
    shape1: tuple[int, ...],
    dtype2: torch.dtype,
    device2: torch.device,
    shape2: tuple[int, ...],
) -> None:
    """What can be said of the images without their memory: dtype, rank, shape, device."""
    name1, name2 = names
    for name, dtype in ((name1, dtype1), (name2, dtype2)):
        if dtype not in _DTYPES:
            raise TypeError(
                f"{name}.dtype = {dtype}; expected float32, float64, float16 or bfloat16: convert it, for instance by "
                f"{name}.float(), and pass data_range (255 for 8-bit images)"
            )
    if dtype1 != dtype2:
        raise TypeError(f"{name1}.dtype = {dtype1} but {name2}.dtype = {dtype2}; expected the same dtype")
    axes = "[N, C, D, H, W]" if spatial_dims == 3 else "[N, C, H, W]"
    for name, shape in ((name1, shape1), (name2, shape2)):
        if len(shape) != spatial_dims + 2:
            other = {4: "; use fused_ssim for images", 5: "; use fused_ssim3d for volumes"}.get(len(shape), "")
            raise ValueError(
                f"{name}.shape = {tuple(shape)} has {len(shape)} axes; expected {spatial_dims + 2}, {axes}{other}"
            )
    if shape1 != shape2:
        raise ValueError(
            f"{name1}.shape = {tuple(shape1)} but {name2}.shape = {tuple(shape2)}; expected the same shape"
        )
    if device1 != device2:
        raise ValueError(f"{name1}.device = {device1} but {name2}.device = {device2}; expected the same device")


def view_mask(mask: object, img1: Tensor) -> Tensor:
    """The mask with as many axes as the images, each as long as theirs or 1; an error if it cannot be one."""
    check_tensor("mask", mask)
    assert isinstance(mask, Tensor)
    expected = torch.float64 if img1.dtype == torch.float64 else torch.float32
    if mask.dtype not in (torch.bool, expected):
        raise TypeError(f"mask.dtype = {mask.dtype}; expected bool or {expected} for images of {img1.dtype}")
    if mask.requires_grad:
        raise ValueError(
            "mask.requires_grad = True; expected a constant: SSIM has no gradient by its mask, detach() it"
        )
    if mask.device != img1.device:
        raise ValueError(f"mask.device = {mask.device} but the images are on {img1.device}; expected the same device")
    shape = (1,) * (img1.dim() - mask.dim()) + tuple(mask.shape)
    if len(shape) != img1.dim() or any(size not in (1, full) for size, full in zip(shape, img1.shape, strict=True)):
        raise ValueError(
            f"mask.shape = {tuple(mask.shape)}; expected one that broadcasts to that of the images, {tuple(img1.shape)}"
        )
    return mask if mask.dim() == img1.dim() else mask[(None,) * (img1.dim() - mask.dim())]


def is_promoted(device: torch.device, dtype1: torch.dtype, dtype2: torch.dtype) -> bool:
    """Whether autocast, which lets networks give other dtypes than targets have, wants the two brought to one."""
    if dtype1 == dtype2 or device.type not in _DEVICES or dtype1 not in _DTYPES or dtype2 not in _DTYPES:
        return False
    return torch.is_autocast_enabled(device.type)


# ---- Plans -----------------------------------------------------------------------------------------------------------


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
    mask: tuple[torch.dtype, torch.device, tuple[int, ...], tuple[int, ...]] | None,
) -> Plan:
    if device1.type == "meta" or is_promoted(device1, dtype1, dtype2):
        raise NoPlanError
    check_images(settings.names, spatial_dims, dtype1, device1, shape1, dtype2, device2, shape2)
    if device1.type not in _DEVICES:
        raise ValueError(f"{settings.names[0]}.device = {device1}; expected a tensor on cpu or cuda")
    return Plan(settings, grads, dtype1, device1, shape1, stride1, stride2, mask)


class Plan:
    """One kind of call: settings, wanted gradients, and images and mask of known dtype, device, shape and strides.

    Its methods take images of just that layout, allocate what they return, and enqueue on the current stream. The
    workspace is freed when a call returns: torch gives the memory only to later work of the same stream.
    """

    __slots__ = (
        "_backward",
        "_backward_workspace",
        "_core",
        "_forward",
        "_forward_workspace",
        "_index",
        "_out_shape",
        "_same_dtype",
        "_saved_backward_workspace",
        "_scale",
        "_undo_grad_scale",
        "_value_and_grad",
        "_value_and_grad_workspace",
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
        mask: tuple[torch.dtype, torch.device, tuple[int, ...], tuple[int, ...]] | None,
    ) -> None:
        self.settings = settings
        self.grads = grads
        self.spatial_dims = len(shape) - 2
        self.arithmetic = torch.float64 if dtype == torch.float64 else torch.float32
        self._same_dtype = dtype == self.arithmetic
        self._index = (device.index or 0) if device.type == "cuda" else -1
        self._out_shape = out_shape(settings, shape)
        mask_dtype, _, mask_shape, mask_stride = mask or (None, None, (), ())
        self._core = core = _core.Plan(
            device=_DEVICES[device.type],
            device_index=max(self._index, 0),
            **plan_settings(settings),
            grads=grads,
            dtype=_DTYPES[dtype],
            shape=shape,
            stride1=stride1,
            stride2=stride2,
            grad_stride1=_empty_like_stride(shape, stride1),
            grad_stride2=_empty_like_stride(shape, stride2),
            out_shape=self._out_shape,
            mask_dtype=None if mask_dtype is None else _DTYPES.get(mask_dtype, _core.BOOL),
            mask_shape=mask_shape,
            mask_stride=mask_stride,
        )
        # Bound methods and sizes as attributes: looking them up in every call is what small images would pay for.
        self._forward = core.forward
        self._value_and_grad = core.value_and_grad
        self._backward = core.backward
        self._scale = core.scale
        self._forward_workspace = core.forward_workspace
        self._value_and_grad_workspace = core.value_and_grad_workspace
        self._backward_workspace = core.backward_workspace
        self._saved_backward_workspace = core.saved_backward_workspace

        # How gradients come about is the library's choice: where saving maps pays, forward saves; elsewhere forward
        # computes the gradient itself, in the same pass, and backward only scales it. For the map that is impossible,
        # and for a masked mean in float16 unsafe: how large its gradient is depends on how much the mask leaves.
        self.saved_bytes = core.saved_bytes
        unsafe = mask is not None and dtype == torch.float16 and settings.reduction != "sum"
        self.eager = self.saved_bytes == 0 and settings.reduction != "none" and not unsafe
        self.grad_scale, self._undo_grad_scale = _grad_scale(settings, dtype, shape)

    # Each method spells out its call: one shared helper would cost more than what it shares.

    def forward(self, img1: Tensor, img2: Tensor, mask: Tensor | None) -> Tensor:
        """The value or the map."""
        out = self._empty_out(img1)
        size = self._forward_workspace
        workspace = img1.new_empty(size, dtype=torch.uint8) if size else None
        index = self._index
        self._forward(
            torch.get_num_threads() if index < 0 else 0,
            0 if index < 0 else _current_stream(index),
            0 if workspace is None else workspace.data_ptr(),
            img1.data_ptr(),
            img2.data_ptr(),
            0 if mask is None else mask.data_ptr(),
            out.data_ptr(),
            0,
        )
        return out

    def forward_saving(self, img1: Tensor, img2: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value or the map, and what :meth:`backward` takes as ``saved``."""
        out = self._empty_out(img1)
        saved = img1.new_empty(self.saved_bytes, dtype=torch.uint8)
        size = self._forward_workspace
        workspace = img1.new_empty(size, dtype=torch.uint8) if size else None
        index = self._index
        self._forward(
            torch.get_num_threads() if index < 0 else 0,
            0 if index < 0 else _current_stream(index),
            0 if workspace is None else workspace.data_ptr(),
            img1.data_ptr(),
            img2.data_ptr(),
            0 if mask is None else mask.data_ptr(),
            out.data_ptr(),
            saved.data_ptr(),
        )
        return out, saved

    def value_and_grad(
        self, img1: Tensor, img2: Tensor, mask: Tensor | None, grad_scale: float = 1.0
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The value or the map, and the gradients of its sum, times ``grad_scale``."""
        out = self._empty_out(img1)
        grad1 = torch.empty_like(img1) if self.grads & GRAD_1 else None
        grad2 = torch.empty_like(img2) if self.grads & GRAD_2 else None
        size = self._value_and_grad_workspace
        workspace = img1.new_empty(size, dtype=torch.uint8) if size else None
        index = self._index
        self._value_and_grad(
            torch.get_num_threads() if index < 0 else 0,
            0 if index < 0 else _current_stream(index),
            0 if workspace is None else workspace.data_ptr(),
            img1.data_ptr(),
            img2.data_ptr(),
            0 if mask is None else mask.data_ptr(),
            out.data_ptr(),
            0 if grad1 is None else grad1.data_ptr(),
            0 if grad2 is None else grad2.data_ptr(),
            grad_scale,
        )
        return out, grad1, grad2

    def scale(self, grad_out: Tensor, grad1: Tensor | None, grad2: Tensor | None) -> None:
        """Turns what ``value_and_grad(..., grad_scale=plan.grad_scale)`` gave into what :meth:`backward` gives."""
        grad_out = self._upstream(grad_out)
        index = self._index
        self._scale(
            torch.get_num_threads() if index < 0 else 0,
            0 if index < 0 else _current_stream(index),
            self._undo_grad_scale,
            grad_out.data_ptr(),
            grad_out.stride(),
            0 if grad1 is None else grad1.data_ptr(),
            0 if grad2 is None else grad2.data_ptr(),
        )

    def backward(
        self, img1: Tensor, img2: Tensor, mask: Tensor | None, saved: Tensor | None, grad_out: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of ``(grad_out * out).sum()``."""
        grad_out = self._upstream(grad_out)
        grad1 = torch.empty_like(img1) if self.grads & GRAD_1 else None
        grad2 = torch.empty_like(img2) if self.grads & GRAD_2 else None
        size = self._backward_workspace if saved is None else self._saved_backward_workspace
        workspace = img1.new_empty(size, dtype=torch.uint8) if size else None
        index = self._index
        self._backward(
            torch.get_num_threads() if index < 0 else 0,
            0 if index < 0 else _current_stream(index),
            0 if workspace is None else workspace.data_ptr(),
            img1.data_ptr(),
            img2.data_ptr(),
            0 if mask is None else mask.data_ptr(),
            0 if saved is None else saved.data_ptr(),
            grad_out.data_ptr(),
            grad_out.stride(),
            0 if grad1 is None else grad1.data_ptr(),
            0 if grad2 is None else grad2.data_ptr(),
        )
        return grad1, grad2

    def gradients(
        self, img1: Tensor, img2: Tensor, mask: Tensor | None, saved: Tensor | None, grad_out: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """The same as :meth:`backward`, in the way in which a first backward came by them: with the same bits."""
        if not self.eager:
            return self.backward(img1, img2, mask, saved, grad_out)
        _, grad1, grad2 = self.value_and_grad(img1, img2, mask, self.grad_scale)
        self.scale(grad_out, grad1, grad2)
        return grad1, grad2

    def _empty_out(self, image: Tensor) -> Tensor:
        shape = self._out_shape
        return image.new_empty(shape) if self._same_dtype else image.new_empty(shape, dtype=self.arithmetic)

    def _upstream(self, grad_out: Tensor) -> Tensor:
        # Autograd itself brings an upstream gradient to the shape, dtype and device of the output.
        if type(grad_out) is not Tensor or grad_out.is_neg():
            grad_out = plain("the upstream gradient", grad_out)
        if grad_out.dtype is not self.arithmetic or (self._out_shape and grad_out.shape != self._out_shape):
            raise ValueError(
                f"the upstream gradient is {grad_out.dtype} {list(grad_out.shape)}; expected that of the output, "
                f"{self.arithmetic} {list(self._out_shape)}"
            )
        return grad_out


def _grad_scale(settings: Settings, dtype: torch.dtype, shape: tuple[int, ...]) -> tuple[float, float]:
    """The scale under which an eager gradient is stored, and the factor that undoes it.

    The gradient of a mean over a million pixels is below the range of float16 unless the loss is scaled, and how it
    is scaled is known only in backward. So float16 keeps the gradient of the sum over pixels in units of the data
    range, which is near 1; rounded to a power of two, since that multiplies without an error.
    """
    if dtype != torch.float16:
        return 1.0, 1.0
    first = {"mean": 0, "image": 1, "channel": 2}.get(settings.reduction, len(shape))
    # A sum of MS-SSIM is one of planes, each of which is a mean.
    averaged = map_shape(settings, shape)[first if settings.weights is None else min(first, 2) :]
    # The derivative by a pixel grows as 1 / K where the images are dark or flat: leave room for that below the usual K.
    room = max(0.0, math.log2(0.01 / max(min(settings.k1, settings.k2), 1e-6)))
    exponent = max(round(math.log2(math.prod(averaged) * settings.data_range) - room), 0)
    return math.ldexp(1.0, exponent), math.ldexp(1.0, -exponent)


def _empty_like_stride(shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...]:
    """The strides that ``torch.empty_like`` gives for a tensor of these strides: dense, in the same order of axes."""
    return torch.empty_like(torch.empty_strided(shape, stride, device="meta")).stride()


def _public_current_stream(device_index: int) -> int:
    return int(torch.cuda.current_stream(device_index).cuda_stream)


# The raw call spares building a Stream object; it is what torch's own compiled code uses, but is not documented.
_current_stream: Callable[[int], int] = getattr(torch._C, "_cuda_getCurrentRawStream", _public_current_stream)
