# SPDX-License-Identifier: MIT
"""SSIM as a differentiable operation. The only place that knows autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.nn import Parameter

from . import _native
from ._native import GRAD_1, GRAD_2, Plan, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


def ssim(img1: Tensor, img2: Tensor, settings: Settings, spatial_dims: int, train: bool) -> Tensor:
    """SSIM of two images, reduced as ``settings`` says; differentiable in both."""
    img1, img2 = _plain(img1, img2)
    if torch.is_grad_enabled():
        grads = (GRAD_1 if img1.requires_grad else 0) | (GRAD_2 if img2.requires_grad else 0)
        if grads:
            plan = _native.plan(img1, img2, settings, spatial_dims, grads if train else 0)
            return _apply(img1, img2, plan, train)
    return _native.plan(img1, img2, settings, spatial_dims, 0).forward(img1, img2)


def value_and_grad(
    img1: Tensor, img2: Tensor, settings: Settings, spatial_dims: int, grads: int
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """SSIM and the gradients of its sum, without autograd."""
    img1, img2 = _plain(img1, img2)
    return _native.plan(img1, img2, settings, spatial_dims, grads).value_and_grad(img1, img2)


class _SSIM(Function):
    @staticmethod
    def forward(ctx: Any, img1: Tensor, img2: Tensor, plan: Plan, train: bool) -> Tensor:
        # ctx.state: the plan, and what backward will hand out if forward already computes it.
        if not train:
            ctx.state = None
            return plan.forward(img1, img2)
        if plan.eager:
            out, grad1, grad2 = plan.value_and_grad(img1, img2, plan.grad_scale)
            ctx.state = plan, [(grad1, grad2)]
            # For a second backward only; the first does not read the images again.
            ctx.save_for_backward(img1, img2)
            return out
        ctx.state = plan, []
        if plan.saved_bytes:
            out, saved = plan.forward_saving(img1, img2)
            ctx.save_for_backward(img1, img2, saved)
        else:
            out = plan.forward(img1, img2)
            ctx.save_for_backward(img1, img2)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad_out,) = grad_outputs
        if ctx.state is None:
            raise RuntimeError(
                "backward through an SSIM that was computed with train=False, which keeps nothing for it; "
                "call it with train=True"
            )
        if _transforms_active() or _is_batched(grad_out):
            raise RuntimeError(_NO_TRANSFORMS)
        plan: Plan
        eager: list[tuple[Tensor | None, Tensor | None]]
        plan, eager = ctx.state
        try:
            # The gradient that forward left, scaled in place: it leaves ctx, for its new owner may write to it.
            grad1, grad2 = eager.pop()
        except IndexError:  # there is none, or another backward, perhaps of another thread, has it
            grad1 = grad2 = None
        if grad1 is not None or grad2 is not None:
            plan.scale(grad_out, grad1, grad2)
        else:
            img1, img2, *saved = ctx.saved_tensors
            # Saved-tensor hooks may have brought the images back with other strides.
            plan = _native.plan(img1, img2, plan.settings, plan.spatial_dims, plan.grads)
            if plan.eager:
                # A second backward takes the same way as the first, and so gives the same bits.
                _, grad1, grad2 = plan.value_and_grad(img1, img2, plan.grad_scale)
                plan.scale(grad_out, grad1, grad2)
            else:
                grad1, grad2 = plan.backward(img1, img2, saved[0] if saved else None, grad_out)
        if torch.is_grad_enabled():  # only under create_graph=True
            img1, img2, *_ = ctx.saved_tensors
            if grad1 is not None:
                grad1 = _apply_once(grad1, img1, img2, grad_out)
            if grad2 is not None:
                grad2 = _apply_once(grad2, img1, img2, grad_out)
        return grad1, grad2, None, None

    @staticmethod
    def jvp(_ctx: Any, *_tangents: Any) -> Any:
        raise RuntimeError(_NO_FORWARD_MODE)


class _OnceDifferentiable(Function):
    """Ties a gradient to what it depends on, so that a second derivative is an error and not silently zero."""

    @staticmethod
    def forward(_ctx: Any, grad: Tensor, *_origins: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(_ctx: Any, *_grad_outputs: Tensor) -> Any:
        raise RuntimeError(
            "the second derivative of SSIM is not implemented: its gradient was computed under create_graph=True and "
            "cannot be differentiated again; detach() it if it is meant to be a constant"
        )


# Function.apply prepares for functorch in Python, at the price of a third of a call on a small image; _plain() has
# already turned functorch away, so this goes to the C++ method below it.
_apply: Callable[[Tensor, Tensor, Plan, bool], Tensor] = torch._C._FunctionBase.__dict__["apply"].__get__(None, _SSIM)
_apply_once: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _OnceDifferentiable.apply


_NO_TRANSFORMS = (
    "SSIM cannot be computed under vmap or another transformation of torch.func: images come in batches "
    '[N, C, ...] with reduction="image" for one value each, and gradients from backward() or value_and_grad()'
)
_NO_FORWARD_MODE = "SSIM has no forward-mode derivative (jvp); use backward() or value_and_grad()"

_strided = torch.strided
_transforms_active: Any = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
# torch.autograd.grad(..., is_grads_batched=True) has a vmap of its own.
_is_batched: Any = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", lambda _tensor: False)


def _plain(img1: Tensor, img2: Tensor) -> tuple[Tensor, Tensor]:
    """The images as tensors that are memory and nothing else; an error where that is impossible."""
    if not (type(img1) is Tensor or type(img1) is Parameter) or img1.layout is not _strided or img1.is_neg():
        img1 = _native.plain("img1", img1)
    if not (type(img2) is Tensor or type(img2) is Parameter) or img2.layout is not _strided or img2.is_neg():
        img2 = _native.plain("img2", img2)
    if _transforms_active():
        raise RuntimeError(_NO_TRANSFORMS)
    # Outside a dual level no tensor has a tangent; the level is a private name, so its absence means "look".
    if getattr(forward_ad, "_current_level", 0) >= 0 and (_has_tangent(img1) or _has_tangent(img2)):
        raise RuntimeError(_NO_FORWARD_MODE)
    return img1, img2


def _has_tangent(image: Tensor) -> bool:
    unpack: Callable[[Tensor], tuple[Tensor, Tensor | None]] = forward_ad.unpack_dual
    return unpack(image)[1] is not None
