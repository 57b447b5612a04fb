# SPDX-License-Identifier: MIT
"""SSIM as operators of ``torch.library``, for torch.compile, torch.export and TorchScript, which do not look inside.

``fused_ssim::ssim`` gives the value. ``fused_ssim::ssim_value_and_grad`` gives the value and the gradients of its sum
in one pass; a compiled training step runs it. ``fused_ssim::ssim_backward`` gives the gradients for an upstream
gradient. Ordinary eager calls do not come this way: the dispatcher would cost more than a small image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._base import shapes
from .._base.checked import check_numbers
from .._base.codes import GRAD_1, GRAD_2, wanted_gradients
from .._base.settings import SCHEMA, pack, unpack
from . import batching, checks, composite
from .plan import plan_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._base.settings import Settings
    from .plan import AnyPlan

# ---- What callers use ------------------------------------------------------------------------------------------------


def ssim(
    img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, settings: Settings, train: bool = True
) -> Tensor:
    """The value, as an operator; differentiable."""
    packed = pack(settings)
    wanted = wanted_gradients(img1.requires_grad, img2.requires_grad)
    # A float16 gradient is rounded before the upstream gradient is known: too early for that of a mean.
    in_one_pass = settings.reduction != "none" and checks.gradient_dtype(img1.dtype, img2.dtype) != torch.float16
    value: Tensor
    if train and wanted and in_one_pass and torch.is_grad_enabled():
        value, _, _ = torch.ops.fused_ssim.ssim_value_and_grad(img1, img2, mask, ranges, wanted, *packed)
    else:
        value = torch.ops.fused_ssim.ssim(img1, img2, mask, ranges, train, *packed)
    return value


def value_and_grad(
    img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, settings: Settings, wanted: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The value and the gradients of its sum, as an operator; those not wanted are empty."""
    value, grad1, grad2 = torch.ops.fused_ssim.ssim_value_and_grad(img1, img2, mask, ranges, wanted, *pack(settings))
    return value, grad1, grad2


def backward(
    grad_out: Tensor,
    img1: Tensor,
    img2: Tensor,
    mask: Tensor | None,
    ranges: Tensor | None,
    settings: Settings,
    wanted: int,
) -> tuple[Tensor, Tensor]:
    """The gradients of ``(grad_out * value).sum()``, as an operator; those not wanted are empty."""
    grad1, grad2 = torch.ops.fused_ssim.ssim_backward(grad_out, img1, img2, mask, ranges, wanted, *pack(settings))
    return grad1, grad2


# ---- Kernels ---------------------------------------------------------------------------------------------------------


def _plan(
    img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, packed: Sequence[Any], grads: int
) -> AnyPlan:
    dims = shapes.spatial_dims("img1", img1.shape)
    return plan_for(img1, img2, mask, ranges, unpack(packed), dims, grads)


def _plain(
    img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, packed: Sequence[Any]
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    settings = unpack(packed)
    img1, img2 = checks.plain("img1", img1), checks.plain("img2", img2)
    mask = None if mask is None else checks.plain("mask", checks.view_mask(mask, settings, img1, img2))
    if ranges is not None:
        ranges = checks.plain("data_range", checks.view_ranges(ranges, settings, img1, img2))
    return img1, img2, mask, ranges


_TENSORS = "Tensor img1, Tensor img2, Tensor? mask, Tensor? data_ranges"


@torch.library.custom_op(
    "fused_ssim::ssim",
    mutates_args=(),
    schema=f"({_TENSORS}, bool train, {SCHEMA}) -> Tensor",
)
def _ssim(img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, _train: bool, *packed: Any) -> Tensor:
    img1, img2, mask, ranges = _plain(img1, img2, mask, ranges, packed)
    return _plan(img1, img2, mask, ranges, packed, 0).forward(img1, img2, mask, ranges)


@torch.library.custom_op(
    "fused_ssim::ssim_value_and_grad",
    mutates_args=(),
    schema=f"({_TENSORS}, int wanted, {SCHEMA}) -> (Tensor, Tensor, Tensor)",
)
def _ssim_value_and_grad(
    img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, wanted: int, *packed: Any
) -> tuple[Tensor, Tensor, Tensor]:
    img1, img2, mask, ranges = _plain(img1, img2, mask, ranges, packed)
    value, grad1, grad2 = _plan(img1, img2, mask, ranges, packed, wanted).value_and_grad(img1, img2, mask, ranges)
    return value, *_or_empty(img1, grad1, grad2)


@torch.library.custom_op(
    "fused_ssim::ssim_backward",
    mutates_args=(),
    schema=f"(Tensor grad_out, {_TENSORS}, int wanted, {SCHEMA}) -> (Tensor, Tensor)",
)
def _ssim_backward(
    grad_out: Tensor, img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, wanted: int, *packed: Any
) -> tuple[Tensor, Tensor]:
    img1, img2, mask, ranges = _plain(img1, img2, mask, ranges, packed)
    plan = _plan(img1, img2, mask, ranges, packed, wanted)
    return _or_empty(img1, *plan.gradients(img1, img2, mask, ranges, None, grad_out))


def _or_empty(image: Tensor, grad1: Tensor | None, grad2: Tensor | None) -> tuple[Tensor, Tensor]:
    """An operator cannot return None."""
    return _nothing(image) if grad1 is None else grad1, _nothing(image) if grad2 is None else grad2


def _nothing(image: Tensor) -> Tensor:
    """In place of a gradient that is not wanted. Of floats, also for integers, which would have no derivative."""
    return image.new_empty(0, dtype=torch.float32)


# ---- Shapes, without memory ------------------------------------------------------------------------------------------


def _fake_value(img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, settings: Settings) -> Tensor:
    names = settings.names
    dims = shapes.spatial_dims(names[0], img1.shape)
    checks.check_images(names, dims, img1.dtype, img1.device, img1.shape, img2.dtype, img2.device, img2.shape)
    if mask is not None:
        checks.view_mask(mask, settings, img1, img2)
    if ranges is not None:
        checks.view_ranges(ranges, settings, img1, img2)
    shapes.check_windows(settings, dims)
    shapes.check_fits(names[0], img1.shape, settings)
    check_numbers(settings, checks.NAMES[img1.dtype], checks.NAMES[img2.dtype])
    arithmetic = checks.arithmetic(settings, img1.dtype, img2.dtype)
    return img1.new_empty(shapes.out_shape(settings, img1.shape), dtype=arithmetic)


def _fake_gradients(img1: Tensor, img2: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    empty_gradient = checks.empty_gradient(checks.gradient_dtype(img1.dtype, img2.dtype))
    return (
        empty_gradient(img1) if wanted & GRAD_1 else _nothing(img1),
        empty_gradient(img2) if wanted & GRAD_2 else _nothing(img1),
    )


@_ssim.register_fake
def _(img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, _train: bool, *packed: Any) -> Tensor:
    return _fake_value(img1, img2, mask, ranges, unpack(packed))


@_ssim_value_and_grad.register_fake
def _(
    img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, wanted: int, *packed: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _fake_value(img1, img2, mask, ranges, unpack(packed)), *_fake_gradients(img1, img2, wanted)


@_ssim_backward.register_fake
def _(
    _grad_out: Tensor,
    img1: Tensor,
    img2: Tensor,
    _mask: Tensor | None,
    _ranges: Tensor | None,
    wanted: int,
    *_packed: Any,
) -> tuple[Tensor, Tensor]:
    return _fake_gradients(img1, img2, wanted)


# ---- Derivatives -----------------------------------------------------------------------------------------------------


def _save_images(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 - given by name
    img1, img2, mask, ranges, ctx.train, *packed = inputs
    ctx.settings = unpack(packed)
    ctx.save_for_backward(img1, img2, mask, ranges)


def _ssim_derivative(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
    if not ctx.train:
        raise RuntimeError(NO_BACKWARD)
    img1, img2, mask, ranges = ctx.saved_tensors
    wanted = wanted_gradients(*ctx.needs_input_grad[:2])
    grads = backward(grad_out, img1, img2, mask, ranges, ctx.settings, wanted)
    return *none_if_unwanted(wanted, *grads), *(None for _ in ctx.needs_input_grad[2:])


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    img1, img2, mask, ranges, ctx.wanted, *packed = inputs
    ctx.settings = unpack(packed)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(img1, img2, mask, ranges, *output[1:])


def _scaled_gradients(ctx: Any, grad_out: Tensor, *_none: Any) -> tuple[Any, ...]:
    img1, img2, mask, ranges, *grads = ctx.saved_tensors
    settings: Settings = ctx.settings
    if torch.is_grad_enabled():  # create_graph=True: through an operator that has a derivative
        grads = backward(grad_out, img1, img2, mask, ranges, settings, ctx.wanted)
    else:
        # Plain operations, which a compiler can merge with those that follow.
        factor = grad_out.reshape(*grad_out.shape, *(1 for _ in range(img1.dim() - grad_out.dim())))
        grads = [(grad.to(factor.dtype) * factor).to(grad.dtype) if grad.dim() > 1 else grad for grad in grads]
    return *none_if_unwanted(ctx.wanted, *grads), *(None for _ in ctx.needs_input_grad[2:])


def _save_all(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 - given by name
    grad_out, img1, img2, mask, ranges, ctx.wanted, *packed = inputs
    ctx.settings = unpack(packed)
    ctx.save_for_backward(grad_out, img1, img2, mask, ranges)


def _second_derivative(ctx: Any, grad_grad1: Tensor | None, grad_grad2: Tensor | None) -> tuple[Any, ...]:
    grad_out, img1, img2, mask, ranges = ctx.saved_tensors
    grad_grads = none_if_unwanted(ctx.wanted, grad_grad1, grad_grad2)
    derivatives = composite.second_derivative(grad_out, img1, img2, mask, ranges, ctx.settings, *grad_grads)
    return *derivatives, *(None for _ in ctx.needs_input_grad[3:])


_ssim.register_autograd(_ssim_derivative, setup_context=_save_images)
_ssim_value_and_grad.register_autograd(_scaled_gradients, setup_context=_save_gradients)
_ssim_backward.register_autograd(_second_derivative, setup_context=_save_all)

NO_BACKWARD = (
    "backward through an SSIM that was computed with train=False, which keeps nothing for it; call it with train=True"
)


def none_if_unwanted(wanted: int, grad1: Tensor | None, grad2: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    return grad1 if wanted & GRAD_1 else None, grad2 if wanted & GRAD_2 else None


# ---- Batches of calls ------------------------------------------------------------------------------------------------


def _vmap_value(info: Any, in_dims: Sequence[int | None], *inputs: Any) -> tuple[Tensor, int]:
    img1, img2, mask, ranges, train, *packed = inputs

    def call(x: Tensor, y: Tensor, m: Tensor | None, r: Tensor | None, settings: Settings) -> Tensor:
        return ssim(x, y, m, r, settings, train)

    return batching.value(info.batch_size, in_dims[:4], (img1, img2, mask, ranges), unpack(packed), call)


def _vmap_backward(
    info: Any, in_dims: Sequence[int | None], *inputs: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int | None, int | None]]:
    grad_out, img1, img2, mask, ranges, wanted, *packed = inputs

    def call(
        g: Tensor, x: Tensor, y: Tensor, m: Tensor | None, r: Tensor | None, settings: Settings
    ) -> tuple[Tensor, Tensor]:
        return backward(g, x, y, m, r, settings, wanted)

    tensors = (grad_out, img1, img2, mask, ranges)
    return batching.gradients(info.batch_size, in_dims[:5], tensors, unpack(packed), wanted, call)


if hasattr(torch.library, "register_vmap"):  # since torch 2.5
    torch.library.register_vmap(_ssim, _vmap_value)
    torch.library.register_vmap(_ssim_backward, _vmap_backward)
