# SPDX-License-Identifier: MIT
"""SSIM as a differentiable operation of torch: ordinary eager calls, and the way to all others.

An ordinary call runs the native library inside an ``autograd.Function``. Where torch wants to look at a call instead of
running it, or to transform it, the call takes another way: ``operators`` (compilation, export, tracing, fake and meta
tensors), ``transforms`` (``torch.func``) or ``composite`` (forward mode, second derivatives).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.nn import Parameter

from .._base import backends, shapes
from .._base.codes import wanted_gradients
from .._base.settings import ordered_settings, settings_factory, with_backend
from . import checks, composite, operators, transforms
from .plan import NoPlanError, plan_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._base.settings import Settings
    from .plan import AnyPlan

P = ParamSpec("P")
R = TypeVar("R")

# Private names of torch, each with a substitute for versions that lack it.
_transforms_active: Any = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
_mode_count: Any = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
_tracing_state: Any = getattr(torch._C, "_get_tracing_state", lambda: None)
# torch.autograd.grad(..., is_grads_batched=True) has a vmap of its own.
_is_batched: Any = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", lambda _tensor: False)

_is_compiling = torch.compiler.is_dynamo_compiling
_strided = torch.strided

# The settings for arguments of a public function.
settings_of = settings_factory(_is_compiling)
settings_in_order = partial(ordered_settings, settings_of, _is_compiling)


def ssim(
    img1: Tensor,
    img2: Tensor,
    settings: Settings,
    spatial_dims: int,
    train: bool = True,
    mask: Tensor | None = None,
    data_ranges: Tensor | None = None,
) -> Tensor:
    """SSIM of two images, or the loss or MS-SSIM that ``settings`` ask for; differentiable in both.

    ``data_ranges``: to be read instead of ``settings.data_range``.
    """
    settings = _with_current_backend(settings)
    if is_watched():
        return _watched_ssim(img1, img2, settings, spatial_dims, train, mask, data_ranges)
    if not (type(img1) is Tensor or type(img1) is Parameter) or img1.layout is not _strided or img1.is_neg():
        if _is_opaque(img1):
            return _watched_ssim(img1, img2, settings, spatial_dims, train, mask, data_ranges)
        img1 = checks.plain(settings.names[0], img1)
    if not (type(img2) is Tensor or type(img2) is Parameter) or img2.layout is not _strided or img2.is_neg():
        if _is_opaque(img2):
            return _watched_ssim(img1, img2, settings, spatial_dims, train, mask, data_ranges)
        img2 = checks.plain(settings.names[1], img2)
    if mask is not None:
        mask = checks.plain("mask", checks.view_mask(mask, settings, img1, img2))
    ranges = None
    if data_ranges is not None:
        ranges = checks.plain("data_range", checks.view_ranges(data_ranges, settings, img1, img2))
    try:
        if torch.is_grad_enabled():
            grads = wanted_gradients(img1.requires_grad, img2.requires_grad)
            if grads:
                plan = plan_for(img1, img2, mask, ranges, settings, spatial_dims, grads if train else 0)
                return _apply(img1, img2, mask, ranges, plan, train)
        return plan_for(img1, img2, mask, ranges, settings, spatial_dims, 0).forward(img1, img2, mask, ranges)
    except NoPlanError:
        return _watched_ssim(img1, img2, settings, spatial_dims, train, mask, data_ranges)


def value_and_grad(
    img1: Tensor,
    img2: Tensor,
    settings: Settings,
    spatial_dims: int,
    grads: int,
    mask: Tensor | None = None,
    data_ranges: Tensor | None = None,
    grad_scale: float = 1.0,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The value and the gradients of its sum times ``grad_scale``, without autograd."""
    settings = _with_current_backend(settings)
    if is_watched() or _is_opaque(img1) or _is_opaque(img2):
        return _watched_value_and_grad(img1, img2, settings, spatial_dims, grads, mask, data_ranges, grad_scale)
    img1, img2 = checks.plain(settings.names[0], img1), checks.plain(settings.names[1], img2)
    if mask is not None:
        mask = checks.plain("mask", checks.view_mask(mask, settings, img1, img2))
    ranges = None
    if data_ranges is not None:
        ranges = checks.plain("data_range", checks.view_ranges(data_ranges, settings, img1, img2))
    try:
        plan = plan_for(img1, img2, mask, ranges, settings, spatial_dims, grads)
    except NoPlanError:
        return _watched_value_and_grad(img1, img2, settings, spatial_dims, grads, mask, data_ranges, grad_scale)
    return plan.value_and_grad(img1, img2, mask, ranges, grad_scale)


def _with_current_backend(settings: Settings) -> Settings:
    backend = _current_backend()
    if backend == settings.backend:
        return settings
    return replace(settings, backend=backend) if _is_compiling() else with_backend(settings, backend)


# ---- Ordinary calls --------------------------------------------------------------------------------------------------


class _SSIM(Function):
    @staticmethod
    def forward(
        ctx: Any, img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, plan: AnyPlan, train: bool
    ) -> Tensor:
        # ctx.state: the plan, and the gradients for backward if forward computes them already.
        if not train:
            ctx.state = None
            return plan.forward(img1, img2, mask, ranges)
        if plan.eager:
            out, grad1, grad2 = plan.value_and_grad(img1, img2, mask, ranges, plan.grad_scale)
            ctx.state = plan, [(grad1, grad2)]
            # For a second backward only; the first does not read the images again.
            ctx.save_for_backward(img1, img2, mask, ranges)
            return out
        ctx.state = plan, []
        if plan.saved_bytes:
            saved = plan.empty_saved(img1)
            out = plan.forward(img1, img2, mask, ranges, saved)
            ctx.save_for_backward(img1, img2, mask, ranges, saved)
        else:
            out = plan.forward(img1, img2, mask, ranges)
            ctx.save_for_backward(img1, img2, mask, ranges)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        (grad_out,) = grad_outputs
        if ctx.state is None:
            raise RuntimeError(operators.NO_BACKWARD)
        plan: AnyPlan
        eager: list[tuple[Tensor | None, Tensor | None]]
        plan, eager = ctx.state
        if type(grad_out) is not Tensor or _transforms_active() or _is_batched(grad_out):
            img1, img2, mask, ranges, *_ = ctx.saved_tensors
            grads = transforms.gradients(grad_out, img1, img2, mask, ranges, plan.settings, plan.grads)
            return *operators.none_if_unwanted(plan.grads, *grads), None, None, None, None
        try:
            # The gradient that forward left, scaled in place: it leaves ctx, for its new owner may write to it.
            grad1, grad2 = eager.pop()
        except IndexError:  # there is none, or another backward, perhaps of another thread, has it
            grad1 = grad2 = None
        if grad1 is not None or grad2 is not None:
            plan.scale(grad_out, grad1, grad2)
        else:
            img1, img2, mask, ranges, *saved = ctx.saved_tensors
            # Saved-tensor hooks may have brought the images back with other strides. Maps are in the order of those
            # that forward had.
            again = plan_for(img1, img2, mask, ranges, plan.settings, plan.spatial_dims, plan.grads)
            maps = saved[0] if saved and again is plan else None
            grad1, grad2 = again.gradients(img1, img2, mask, ranges, maps, grad_out)
        if torch.is_grad_enabled():  # only under create_graph=True
            img1, img2, mask, ranges, *_ = ctx.saved_tensors
            grad1, grad2 = _differentiable(grad_out, img1, img2, mask, ranges, plan.settings, grad1, grad2)
        return grad1, grad2, None, None, None, None


class _Differentiable(Function):
    """Makes a gradient differentiable: by the upstream gradient and by both images."""

    @staticmethod
    def forward(
        ctx: Any,
        grad_out: Tensor,
        img1: Tensor,
        img2: Tensor,
        mask: Tensor | None,
        ranges: Tensor | None,
        settings: Settings,
        *grads: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        ctx.settings = settings
        ctx.save_for_backward(grad_out, img1, img2, mask, ranges)
        return tuple(None if grad is None else grad.view_as(grad) for grad in grads)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_out, img1, img2, mask, ranges = ctx.saved_tensors
        derivatives = composite.second_derivative(grad_out, img1, img2, mask, ranges, ctx.settings, *grad_outputs)
        return *derivatives, None, None, None, None, None


_differentiable: Callable[..., tuple[Tensor | None, Tensor | None]] = _Differentiable.apply

# Function.apply prepares for functorch in Python, at the price of a third of a call on a small image; is_watched() has
# already turned functorch away, so this goes to the C++ method below it.
_ApplyTo: TypeAlias = "Callable[[Tensor, Tensor, Tensor | None, Tensor | None, AnyPlan, bool], Tensor]"
_apply: _ApplyTo = torch._C._FunctionBase.__dict__["apply"].__get__(None, _SSIM)


# ---- Calls that torch watches ----------------------------------------------------------------------------------------


def is_watched() -> bool:
    """Whether torch compiles, traces or transforms this call. A dual level has the number 0 or more."""
    return (
        _is_compiling()
        or _transforms_active()
        or _mode_count() > 0
        or _tracing_state() is not None
        or getattr(forward_ad, "_current_level", 0) >= 0
    )


def constant_when_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Has the compiler call the function and keep its result, as ``torch.compiler.assume_constant_result`` does.

    That one would load the compiler.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant_when_compiled
def _current_backend() -> str:
    return backends.current()


# The compiler of torch 2.4 cannot look into the function of torch. What it finds holds for the compiled code: that is
# made anew under other transformations.
@constant_when_compiled
def _is_transformed() -> bool:
    return bool(_transforms_active())


def _is_opaque(image: object) -> bool:
    """Whether the tensor only answers to operations. Those of nested tensors do not know this one."""
    return isinstance(image, Tensor) and checks.is_opaque(image) and not image.is_nested


def _watched_ssim(
    img1: Tensor,
    img2: Tensor,
    settings: Settings,
    spatial_dims: int,
    train: bool,
    mask: Tensor | None,
    ranges: Tensor | None,
) -> Tensor:
    img1, img2, mask, ranges = checked(img1, img2, settings, spatial_dims, mask, ranges)
    if _has_tangent(img1) or _has_tangent(img2):
        return composite.ssim(img1, img2, mask, ranges, settings)
    if _is_transformed():
        if _is_compiling():  # the compiler sees through torch.func, but not with an autograd.Function inside
            return composite.ssim(img1, img2, mask, ranges, settings)
        return transforms.ssim(img1, img2, mask, ranges, settings, train)
    return operators.ssim(img1, img2, mask, ranges, settings, train)


def _watched_value_and_grad(
    img1: Tensor,
    img2: Tensor,
    settings: Settings,
    spatial_dims: int,
    grads: int,
    mask: Tensor | None,
    ranges: Tensor | None,
    grad_scale: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    img1, img2, mask, ranges = checked(img1, img2, settings, spatial_dims, mask, ranges)
    checks.check_gradients(settings.names, grads, img1.dtype, img2.dtype)
    both: Sequence[Tensor]
    if _has_tangent(img1) or _has_tangent(img2) or (_is_transformed() and _is_compiling()):
        value = composite.ssim(img1, img2, mask, ranges, settings)
        both = composite.gradients(torch.ones_like(value), img1, img2, mask, ranges, settings)
    elif _is_transformed():
        value = transforms.ssim(img1, img2, mask, ranges, settings, train=True)
        both = transforms.gradients(torch.ones_like(value), img1, img2, mask, ranges, settings, grads)
    else:
        value, *both = operators.value_and_grad(img1.detach(), img2.detach(), mask, ranges, settings, grads)
    grad1, grad2 = both if grad_scale == 1 else (grad * grad_scale for grad in both)
    return value, *operators.none_if_unwanted(grads, grad1, grad2)


def checked(
    img1: Tensor,
    img2: Tensor,
    settings: Settings,
    spatial_dims: int,
    mask: Tensor | None,
    ranges: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """The arguments as far as they can be checked without memory, of one dtype under autocast."""
    names = settings.names
    checks.check_tensor(names[0], img1)
    checks.check_tensor(names[1], img2)
    if img1.dtype != img2.dtype and checks.is_promoted(img1.device, img1.dtype, img2.dtype):
        dtype = torch.promote_types(img1.dtype, img2.dtype)
        img1, img2 = img1.to(dtype), img2.to(dtype)
    checks.check_images(names, spatial_dims, img1.dtype, img1.device, img1.shape, img2.dtype, img2.device, img2.shape)
    shapes.check_windows(settings, spatial_dims)
    mask = None if mask is None else checks.view_mask(mask, settings, img1, img2)
    return img1, img2, mask, None if ranges is None else checks.view_ranges(ranges, settings, img1, img2)


def _has_tangent(image: Tensor) -> bool:
    # Outside a dual level no tensor has a tangent; the level is a private name, so its absence means "look".
    if _is_compiling() or getattr(forward_ad, "_current_level", 0) < 0 or _is_transformed():
        return False
    unpack: Callable[[Tensor], tuple[Tensor, Tensor | None]] = forward_ad.unpack_dual
    return unpack(image)[1] is not None
