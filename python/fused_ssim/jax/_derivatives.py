# SPDX-License-Identifier: MIT
"""SSIM as a differentiable function of JAX: a ``custom_vjp``.

Where a derivative is wanted, forward computes the value and the gradients in one call and keeps the gradients, and
backward only scales them. The scaling is an operation of XLA, which merges it with what follows, and drops it where the
upstream gradient is 1. Gradients of maps, and some of float16, are computed in backward.

There are no second derivatives: what gives a gradient is again a ``custom_vjp``, whose backward says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .._base.codes import GRAD_1, GRAD_2, wanted_gradients
from . import _batching, _native
from ._native import Arrays, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

_NO_SECOND_DERIVATIVE = (
    "fused_ssim.jax has no second derivatives (nor forward mode through a gradient): differentiate once, or take "
    "jax.lax.stop_gradient of the gradient"
)


@partial(jax.tree_util.register_dataclass, data_fields=["gradients", "arrays"], meta_fields=["factor"])
@dataclass
class _Kept:
    """What forward keeps for backward.

    JAX may run forward for several sets of wanted gradients, and wants one structure of all. So what is not wanted is
    an empty array here, of one axis.

    Attributes:
        gradients: of the sum of the value, divided by ``factor``. Where backward computes them: numbers. None for an
            image of integers, which never has one.
        arrays: of the call, if backward computes the gradients.
        factor: see ``gradients``.

    """

    gradients: tuple[Any, Any]
    arrays: Arrays | None
    factor: float

    @classmethod
    def of(cls, images: Arrays, gradients: Iterable[Any], factor: float, arrays: Arrays | None = None) -> _Kept:
        """With gradients that are None where they are not wanted."""
        first, second = (
            None if not _is_float(image) else jnp.zeros(0) if grad is None else grad
            for image, grad in zip(images[:2], gradients, strict=True)
        )
        return cls((first, second), arrays, factor)

    def wanted(self) -> tuple[bool, bool]:
        """Which gradients are wanted."""
        first, second = (grad is not None and grad.ndim != 1 for grad in self.gradients)
        return first, second

    def scaled(self, kind: Kind, upstream: Any) -> Arrays:
        """The gradients times ``upstream``, which has no axes or is [N] or [N, C]; computed in its dtype."""

        def scaled(grad: Any) -> Any:
            shape = [1] * grad.ndim
            for axis, length in zip((0, kind.channel_axis or 1), upstream.shape, strict=False):
                shape[axis] = length
            factor = (upstream * self.factor).reshape(shape)
            return (grad.astype(factor.dtype) * factor).astype(grad.dtype)

        both = zip(self.gradients, self.wanted(), strict=True)
        first, second = (scaled(grad) if is_wanted else None for grad, is_wanted in both)
        return self.cotangents(first, second)

    def cotangents(self, first: Any, second: Any) -> Arrays:
        """What backward gives: these gradients, and zeros for one of floats that is not wanted.

        JAX wants one structure here, too. Of integers it wants nothing.
        """
        other = second if first is None else first
        if other is None:
            return Arrays(None, None, None, None)
        first, second = (
            jnp.zeros_like(other) if grad is None and kept is not None else grad
            for grad, kept in zip((first, second), self.gradients, strict=True)
        )
        return Arrays(first, second, None, None)


def _is_float(array: Any) -> bool:
    """Whether there are derivatives by the elements of an array."""
    return bool(jnp.issubdtype(array.dtype, jnp.floating))


# ---- The value -------------------------------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def ssim(kind: Kind, arrays: Arrays) -> Any:
    """SSIM of two images, or the loss or MS-SSIM that the settings ask for; differentiable in both."""
    return _batching.forward(kind, arrays)


def _ssim_forward(kind: Kind, primals: Arrays) -> tuple[Any, _Kept]:
    arrays, wanted = _plain(primals)
    eager, scale, factor = _native.units(kind, arrays)
    if not eager:
        marks = (jnp.zeros(()) if wanted & bit else None for bit in (GRAD_1, GRAD_2))
        return ssim(kind, arrays), _Kept.of(arrays, marks, 1.0, arrays)
    if not wanted:
        return ssim(kind, arrays), _Kept.of(arrays, (None, None), factor)
    value, *both = _value_and_grad(kind, wanted, scale, arrays)
    return value, _Kept.of(arrays, both, factor)


def _ssim_backward(kind: Kind, kept: _Kept, upstream: Any) -> tuple[Any]:
    wanted = wanted_gradients(*kept.wanted())
    if isinstance(upstream, SymbolicZero) or not wanted:
        return (None,)
    if kept.arrays is None:
        return (kept.scaled(kind, upstream),)
    return (kept.cotangents(*_backward(kind, wanted, upstream, kept.arrays)),)


ssim.defvjp(_ssim_forward, _ssim_backward, symbolic_zeros=True)


def _plain(primals: Arrays) -> tuple[Arrays, int]:
    """The arrays that JAX is about to differentiate by, and the set of those gradients."""

    def is_wanted(primal: Any) -> bool:
        return bool(primal.perturbed) and _is_float(primal.value)  # JAX also marks integers and bools

    for name, primal in (("mask", primals.mask), ("data_range", primals.ranges)):
        if primal is not None and is_wanted(primal):
            raise ValueError(
                f"{name} is differentiated; expected a constant: SSIM has no gradient by it, take "
                f"jax.lax.stop_gradient({name})"
            )
    arrays = Arrays(*(None if primal is None else primal.value for primal in primals))
    return arrays, wanted_gradients(is_wanted(primals.img1), is_wanted(primals.img2))


# ---- Gradients, which have no derivatives ----------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _value_and_grad(kind: Kind, wanted: int, scale: float, arrays: Arrays) -> tuple[Any, Any, Any]:
    return _batching.value_and_grad(kind, wanted, scale, arrays)


def _value_and_grad_forward(kind: Kind, wanted: int, scale: float, primals: Arrays) -> tuple[Any, _Kept]:
    # Of the value, this may be the derivative by another image.
    arrays, needed = _plain(primals)
    value, *both = _value_and_grad(kind, wanted | needed, scale, arrays)
    asked, kept = (
        [grad if those & bit else None for grad, bit in zip(both, (GRAD_1, GRAD_2), strict=True)]
        for those in (wanted, needed)
    )
    return (value, *asked), _Kept.of(arrays, kept, 1 / scale)


def _value_and_grad_backward(
    kind: Kind, _wanted: int, _scale: float, kept: _Kept, upstream: tuple[Any, Any, Any]
) -> tuple[Any]:
    of_value, *of_gradients = upstream
    _check_first(of_gradients)
    return (None if isinstance(of_value, SymbolicZero) else kept.scaled(kind, of_value),)


_value_and_grad.defvjp(_value_and_grad_forward, _value_and_grad_backward, symbolic_zeros=True)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _backward(kind: Kind, wanted: int, upstream: Any, arrays: Arrays) -> tuple[Any, Any]:
    return _batching.backward(kind, wanted, upstream, arrays)


def _backward_forward(kind: Kind, wanted: int, upstream: Any, primals: Arrays) -> tuple[Any, None]:
    arrays, _ = _plain(primals)
    return _batching.backward(kind, wanted, upstream.value, arrays), None


def _backward_backward(_kind: Kind, _wanted: int, _kept: None, upstream: tuple[Any, Any]) -> tuple[Any, Any]:
    _check_first(upstream)
    return None, None


_backward.defvjp(_backward_forward, _backward_backward, symbolic_zeros=True)


def _check_first(upstream: Any) -> None:
    """An error if one of these upstream gradients of gradients is not 0."""
    if not all(each is None or isinstance(each, SymbolicZero) for each in upstream):
        raise NotImplementedError(_NO_SECOND_DERIVATIVE)
