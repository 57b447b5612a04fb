# SPDX-License-Identifier: MIT
"""SSIM under the transformations of ``torch.func``: grad, vjp, jacrev and vmap run the native library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function

from .._base.codes import wanted_gradients
from .._base.settings import pack
from . import batching, composite, operators

if TYPE_CHECKING:
    from .._base.settings import Settings


def ssim(
    img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, settings: Settings, train: bool
) -> Tensor:
    """The value, under whatever is active; differentiable any number of times."""
    if is_forward_mode():
        return composite.ssim(img1, img2, mask, ranges, settings)
    value: Tensor = Value.apply(img1, img2, mask, ranges, train, settings)  # type: ignore[no-untyped-call]
    return value


def gradients(
    grad_out: Tensor,
    img1: Tensor,
    img2: Tensor,
    mask: Tensor | None,
    ranges: Tensor | None,
    settings: Settings,
    wanted: int,
) -> tuple[Tensor, Tensor]:
    """The gradients for an upstream gradient, under whatever is active; those not wanted may be empty."""
    if is_forward_mode():
        return composite.gradients(grad_out, img1, img2, mask, ranges, settings)
    grads: tuple[Tensor, Tensor] = Gradient.apply(grad_out, img1, img2, mask, ranges, wanted, settings)  # type: ignore[no-untyped-call]
    return grads


def is_forward_mode() -> bool:
    """Whether a jvp is among the active transformations."""
    stack = torch._C._functorch.get_interpreter_stack()
    return any(level.key() == torch._C._functorch.TransformType.Jvp for level in stack or ())


class Value(Function):
    """The value, with a derivative that works under ``torch.func``; that of an operator of torch.library does not."""

    @staticmethod
    def forward(
        img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, train: bool, settings: Settings
    ) -> Tensor:
        value: Tensor = torch.ops.fused_ssim.ssim(img1, img2, mask, ranges, train, *pack(settings))
        return value

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        img1, img2, mask, ranges, ctx.train, ctx.settings = inputs
        ctx.save_for_backward(img1, img2, mask, ranges)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        if not ctx.train:
            raise RuntimeError(operators.NO_BACKWARD)
        img1, img2, mask, ranges = ctx.saved_tensors
        wanted = wanted_gradients(*ctx.needs_input_grad[:2])
        grads = Gradient.apply(grad_outputs[0], img1, img2, mask, ranges, wanted, ctx.settings)  # type: ignore[no-untyped-call]
        return *operators.none_if_unwanted(wanted, *grads), None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        img1, img2, mask, ranges, train, settings = inputs

        def call(x: Tensor, y: Tensor, m: Tensor | None, r: Tensor | None, folded: Settings) -> Tensor:
            value: Tensor = Value.apply(x, y, m, r, train, folded)  # type: ignore[no-untyped-call]
            return value

        return batching.value(info.batch_size, in_dims[:4], (img1, img2, mask, ranges), settings, call)


class Gradient(Function):
    """The gradients for an upstream gradient, differentiable in their turn."""

    @staticmethod
    def forward(
        grad_out: Tensor,
        img1: Tensor,
        img2: Tensor,
        mask: Tensor | None,
        ranges: Tensor | None,
        wanted: int,
        settings: Settings,
    ) -> tuple[Tensor, Tensor]:
        return operators.backward(grad_out, img1, img2, mask, ranges, settings, wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: tuple[Tensor, Tensor]) -> None:
        grad_out, img1, img2, mask, ranges, ctx.wanted, ctx.settings = inputs
        ctx.save_for_backward(grad_out, img1, img2, mask, ranges)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        grad_out, img1, img2, mask, ranges = ctx.saved_tensors
        grad_grads = operators.none_if_unwanted(ctx.wanted, *grad_outputs)
        derivatives = composite.second_derivative(grad_out, img1, img2, mask, ranges, ctx.settings, *grad_grads)
        return *derivatives, None, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, Tensor], tuple[int | None, int | None]]:
        grad_out, img1, img2, mask, ranges, wanted, settings = inputs

        def call(
            g: Tensor, x: Tensor, y: Tensor, m: Tensor | None, r: Tensor | None, folded: Settings
        ) -> tuple[Tensor, Tensor]:
            grads: tuple[Tensor, Tensor] = Gradient.apply(g, x, y, m, r, wanted, folded)  # type: ignore[no-untyped-call]
            return grads

        tensors = (grad_out, img1, img2, mask, ranges)
        return batching.gradients(info.batch_size, in_dims[:5], tensors, settings, wanted, call)
