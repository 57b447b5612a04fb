# SPDX-License-Identifier: MIT
"""SSIM as operators of ``torch.library``: what torch.compile, torch.export and TorchScript see, without looking inside.

``fused_ssim::ssim`` is the value; ``fused_ssim::ssim_value_and_grad`` is the value and the gradients of its sum in one
pass, what a compiled training step runs; ``fused_ssim::ssim_backward`` the gradients for an upstream gradient. Ordinary
eager calls do not come this way: the dispatcher would cost more than a small image.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._base import codes as _codes
from .._base.settings import Settings
from . import batching as _batching
from . import composite as _composite
from . import plan as _native

if TYPE_CHECKING:
    from collections.abc import Sequence

# The fields of Settings but for the names, in their order. Without defaults: the dispatcher would leave out arguments
# that are equal to theirs.
_SETTINGS = (
    "str padding, str reduction, int window_size, float sigma, float k1, float k2, float data_range, bool normalized, "
    "float? lambda_dssim, float[]? taps, float[]? weights"
)
_FIELDS = [field.name for field in fields(Settings) if field.name != "names"]


def pack(settings: Settings) -> list[Any]:
    """The settings as arguments of the operators."""
    return [getattr(settings, name) for name in _FIELDS]


@lru_cache(maxsize=256)
def _unpack(*values: Any) -> Settings:
    return Settings(**dict(zip(_FIELDS, values, strict=True)))


def unpack(values: Sequence[Any]) -> Settings:
    """The settings that :func:`pack` made these of."""
    return _unpack(*(tuple(value) if isinstance(value, list) else value for value in values))


# ---- What callers use ------------------------------------------------------------------------------------------------


def ssim(img1: Tensor, img2: Tensor, mask: Tensor | None, settings: Settings, train: bool = True) -> Tensor:
    """The value, as an operator; differentiable."""
    packed = pack(settings)
    wanted = (_native.GRAD_1 if img1.requires_grad else 0) | (_native.GRAD_2 if img2.requires_grad else 0)
    # A float16 gradient is rounded before the upstream gradient is known: too early for that of a mean.
    in_one_pass = settings.reduction != "none" and img1.dtype != torch.float16
    value: Tensor
    if train and wanted and in_one_pass and torch.is_grad_enabled():
        value, _, _ = torch.ops.fused_ssim.ssim_value_and_grad(img1, img2, mask, wanted, *packed)
    else:
        value = torch.ops.fused_ssim.ssim(img1, img2, mask, train, *packed)
    return value


def value_and_grad(
    img1: Tensor, img2: Tensor, mask: Tensor | None, settings: Settings, wanted: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The value and the gradients of its sum, as an operator; those not wanted are empty."""
    value, grad1, grad2 = torch.ops.fused_ssim.ssim_value_and_grad(img1, img2, mask, wanted, *pack(settings))
    return value, grad1, grad2


def backward(
    grad_out: Tensor, img1: Tensor, img2: Tensor, mask: Tensor | None, settings: Settings, wanted: int
) -> tuple[Tensor, Tensor]:
    """The gradients of ``(grad_out * value).sum()``, as an operator; those not wanted are empty."""
    grad1, grad2 = torch.ops.fused_ssim.ssim_backward(grad_out, img1, img2, mask, wanted, *pack(settings))
    return grad1, grad2


# ---- Kernels ---------------------------------------------------------------------------------------------------------


def _plan(img1: Tensor, img2: Tensor, mask: Tensor | None, packed: Sequence[Any], grads: int) -> _native.Plan:
    _check_rank(img1)
    return _native.plan(img1, img2, mask, unpack(packed), img1.dim() - 2, grads)


def _check_rank(img1: Tensor) -> None:
    if img1.dim() not in (4, 5):
        raise ValueError(
            f"img1.shape = {tuple(img1.shape)} has {img1.dim()} axes; expected 4, [N, C, H, W], or 5, [N, C, D, H, W]"
        )


def _plain(img1: Tensor, img2: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    img1, img2 = _native.plain("img1", img1), _native.plain("img2", img2)
    return img1, img2, None if mask is None else _native.plain("mask", _native.view_mask(mask, img1))


@torch.library.custom_op(
    "fused_ssim::ssim",
    mutates_args=(),
    schema=f"(Tensor img1, Tensor img2, Tensor? mask, bool train, {_SETTINGS}) -> Tensor",
)
def _ssim(img1: Tensor, img2: Tensor, mask: Tensor | None, _train: bool, *packed: Any) -> Tensor:
    img1, img2, mask = _plain(img1, img2, mask)
    return _plan(img1, img2, mask, packed, 0).forward(img1, img2, mask)


@torch.library.custom_op(
    "fused_ssim::ssim_value_and_grad",
    mutates_args=(),
    schema=f"(Tensor img1, Tensor img2, Tensor? mask, int wanted, {_SETTINGS}) -> (Tensor, Tensor, Tensor)",
)
def _ssim_value_and_grad(
    img1: Tensor, img2: Tensor, mask: Tensor | None, wanted: int, *packed: Any
) -> tuple[Tensor, Tensor, Tensor]:
    img1, img2, mask = _plain(img1, img2, mask)
    value, grad1, grad2 = _plan(img1, img2, mask, packed, wanted).value_and_grad(img1, img2, mask)
    return value, *_or_empty(img1, grad1, grad2)


@torch.library.custom_op(
    "fused_ssim::ssim_backward",
    mutates_args=(),
    schema=f"(Tensor grad_out, Tensor img1, Tensor img2, Tensor? mask, int wanted, {_SETTINGS}) -> (Tensor, Tensor)",
)
def _ssim_backward(
    grad_out: Tensor, img1: Tensor, img2: Tensor, mask: Tensor | None, wanted: int, *packed: Any
) -> tuple[Tensor, Tensor]:
    img1, img2, mask = _plain(img1, img2, mask)
    plan = _plan(img1, img2, mask, packed, wanted)
    return _or_empty(img1, *plan.gradients(img1, img2, mask, None, grad_out))


def _or_empty(image: Tensor, grad1: Tensor | None, grad2: Tensor | None) -> tuple[Tensor, Tensor]:
    """An operator cannot return None."""
    return image.new_empty(0) if grad1 is None else grad1, image.new_empty(0) if grad2 is None else grad2


# ---- Shapes, without memory ------------------------------------------------------------------------------------------


def _fake_value(img1: Tensor, img2: Tensor, mask: Tensor | None, settings: Settings) -> Tensor:
    _check_rank(img1)
    names = settings.names
    _native.check_images(
        names, img1.dim() - 2, img1.dtype, img1.device, img1.shape, img2.dtype, img2.device, img2.shape
    )
    if mask is not None:
        _native.view_mask(mask, img1)
    if settings.padding == "valid":
        for axis in range(2, img1.dim()):
            if img1.shape[axis] < settings.window_size:
                raise ValueError(
                    f"{names[0]}.shape[{axis}] = {img1.shape[axis]} < window {settings.window_size} (padding valid)"
                )
    arithmetic = torch.float64 if img1.dtype == torch.float64 else torch.float32
    return img1.new_empty(_codes.out_shape(settings, img1.shape), dtype=arithmetic)


def _fake_gradients(img1: Tensor, img2: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(img1) if wanted & _native.GRAD_1 else img1.new_empty(0),
        torch.empty_like(img2) if wanted & _native.GRAD_2 else img1.new_empty(0),
    )


@_ssim.register_fake
def _(img1: Tensor, img2: Tensor, mask: Tensor | None, _train: bool, *packed: Any) -> Tensor:
    return _fake_value(img1, img2, mask, unpack(packed))


@_ssim_value_and_grad.register_fake
def _(img1: Tensor, img2: Tensor, mask: Tensor | None, wanted: int, *packed: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _fake_value(img1, img2, mask, unpack(packed)), *_fake_gradients(img1, img2, wanted)


@_ssim_backward.register_fake
def _(
    _grad_out: Tensor, img1: Tensor, img2: Tensor, _mask: Tensor | None, wanted: int, *_packed: Any
) -> tuple[Tensor, Tensor]:
    return _fake_gradients(img1, img2, wanted)


# ---- Derivatives -----------------------------------------------------------------------------------------------------


def _save_images(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 - given by name
    img1, img2, mask, ctx.train, *packed = inputs
    ctx.settings = unpack(packed)
    ctx.save_for_backward(img1, img2, mask)


def _ssim_derivative(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
    if not ctx.train:
        raise RuntimeError(NO_BACKWARD)
    img1, img2, mask = ctx.saved_tensors
    wanted = wanted_gradients(*ctx.needs_input_grad[:2])
    grads = backward(grad_out, img1, img2, mask, ctx.settings, wanted)
    return *none_if_unwanted(wanted, *grads), *(None for _ in ctx.needs_input_grad[2:])


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    img1, img2, mask, ctx.wanted, *packed = inputs
    ctx.settings = unpack(packed)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(img1, img2, mask, *output[1:])


def _scaled_gradients(ctx: Any, grad_out: Tensor, *_none: Any) -> tuple[Any, ...]:
    img1, img2, mask, *grads = ctx.saved_tensors
    settings: Settings = ctx.settings
    if torch.is_grad_enabled():  # create_graph=True: through an operator that has a derivative
        grads = backward(grad_out, img1, img2, mask, settings, ctx.wanted)
    else:
        # Plain operations, which a compiler merges with what follows.
        factor = grad_out.reshape(*grad_out.shape, *(1 for _ in range(img1.dim() - grad_out.dim())))
        grads = [(grad.to(factor.dtype) * factor).to(grad.dtype) if grad.dim() > 1 else grad for grad in grads]
    return *none_if_unwanted(ctx.wanted, *grads), *(None for _ in ctx.needs_input_grad[2:])


def _save_all(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 - given by name
    grad_out, img1, img2, mask, ctx.wanted, *packed = inputs
    ctx.settings = unpack(packed)
    ctx.save_for_backward(grad_out, img1, img2, mask)


def _second_derivative(ctx: Any, grad_grad1: Tensor | None, grad_grad2: Tensor | None) -> tuple[Any, ...]:
    grad_out, img1, img2, mask = ctx.saved_tensors
    grad_grads = none_if_unwanted(ctx.wanted, grad_grad1, grad_grad2)
    derivatives = _composite.second_derivative(grad_out, img1, img2, mask, ctx.settings, *grad_grads)
    return *derivatives, *(None for _ in ctx.needs_input_grad[3:])


_ssim.register_autograd(_ssim_derivative, setup_context=_save_images)
_ssim_value_and_grad.register_autograd(_scaled_gradients, setup_context=_save_gradients)
_ssim_backward.register_autograd(_second_derivative, setup_context=_save_all)

NO_BACKWARD = (
    "backward through an SSIM that was computed with train=False, which keeps nothing for it; call it with train=True"
)


def wanted_gradients(first: bool, second: bool) -> int:
    return (_native.GRAD_1 if first else 0) | (_native.GRAD_2 if second else 0)


def none_if_unwanted(wanted: int, grad1: Tensor | None, grad2: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    return grad1 if wanted & _native.GRAD_1 else None, grad2 if wanted & _native.GRAD_2 else None


# ---- Batches of calls ------------------------------------------------------------------------------------------------


def _vmap_value(info: Any, in_dims: Sequence[int | None], *inputs: Any) -> tuple[Tensor, int]:
    img1, img2, mask, train, *packed = inputs

    def call(x: Tensor, y: Tensor, m: Tensor | None, settings: Settings) -> Tensor:
        return ssim(x, y, m, settings, train)

    return _batching.value(info.batch_size, in_dims[:3], (img1, img2, mask), unpack(packed), call)


def _vmap_backward(
    info: Any, in_dims: Sequence[int | None], *inputs: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int | None, int | None]]:
    grad_out, img1, img2, mask, wanted, *packed = inputs

    def call(g: Tensor, x: Tensor, y: Tensor, m: Tensor | None, settings: Settings) -> tuple[Tensor, Tensor]:
        return backward(g, x, y, m, settings, wanted)

    tensors = (grad_out, img1, img2, mask)
    return _batching.gradients(info.batch_size, in_dims[:4], tensors, unpack(packed), wanted, call)


if hasattr(torch.library, "register_vmap"):  # since torch 2.5
    torch.library.register_vmap(_ssim, _vmap_value)
    torch.library.register_vmap(_ssim_backward, _vmap_backward)
