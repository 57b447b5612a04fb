# SPDX-License-Identifier: MIT
"""The native library inside of programs of XLA: its operations, as XLA's foreign function interface calls them.

Here images are ``[N, ...]`` with their channels at ``Kind.channel_axis``, and a mask has as many axes. Everything about
a call but the addresses is known when it is traced: it is checked then, and what the handlers need of it goes into the
program as constants. Memory for the workspace is a further result, so XLA allocates it.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from .._base.codes import GRAD_1, GRAD_2
from .._base.gradients import grad_scale, is_eager
from .._base.settings import NOT_NATIVE, Settings, for_dtypes, pack, unpack
from .._base.shapes import contiguous_strides
from .._core import XLA_HANDLERS
from ..array._libraries import CPU, Device, Memory
from ..array._plans import ImageLayout, layout_of, mask_layout, plan_of, range_layout, result_dtypes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._core import Plan as NativePlan

# What XLA calls the devices. JAX calls them as `codes.DEVICES` does.
PLATFORMS = {"cpu": "cpu", "cuda": "CUDA"}

for _operation, _handlers in XLA_HANDLERS.items():
    for _device, _handler in _handlers.items():
        jax.ffi.register_ffi_target(f"fused_ssim_{_operation}", _handler, platform=PLATFORMS[_device])


class Kind(NamedTuple):
    """What a call computes, comparable by value: equal calls share a compiled program.

    Attributes:
        values: the settings, as ``pack`` has them.
        names: of the images.
        channel_axis: where the channels are.

    """

    values: tuple[Any, ...]
    names: tuple[str, str]
    channel_axis: int | None

    @classmethod
    def of(cls, settings: Settings, channel_axis: int | None) -> Kind:
        """The kind for these settings."""
        return cls(tuple(pack(settings)), settings.names, channel_axis)

    @property
    def settings(self) -> Settings:
        """The settings."""
        return _settings(self)

    def with_reduction(self, reduction: str) -> Kind:
        """The same with another reduction."""
        return Kind.of(replace(self.settings, reduction=reduction), self.channel_axis)


@lru_cache(maxsize=256)
def _settings(kind: Kind) -> Settings:
    return replace(unpack(kind.values), names=kind.names)


class Arrays(NamedTuple):
    """The arrays of a call.

    Attributes:
        img1: the first image.
        img2: the second.
        mask: with as many axes as the images, each of their length or 1; None: there is none.
        ranges: data ranges of the dtype of the arithmetic, without axes or ``[N]``; None: the settings have the range.

    """

    img1: Any
    img2: Any
    mask: Any
    ranges: Any

    def memory(self, name: str) -> Memory:
        """What is known of one of them when a call is traced."""
        return memory_of(getattr(self, name))


def memory_of(array: Any) -> Memory:
    """What is known of an array when a call is traced."""
    shape = tuple(array.shape)
    return Memory(0, array.dtype.name, shape, contiguous_strides(shape), CPU)


# ---- Operations ------------------------------------------------------------------------------------------------------


def forward(kind: Kind, arrays: Arrays) -> Any:
    """The value."""
    call = _Call(kind, arrays, 0)
    (value,) = call.run("forward", (), [call.value], lambda plan: plan.forward_workspace)
    return value


def value_and_grad(kind: Kind, wanted: int, scale: float, arrays: Arrays) -> tuple[Any, Any, Any]:
    """The value, and the gradients of its sum times ``scale``; None for one that is not wanted."""
    call = _Call(kind, arrays, wanted)
    value, *found = call.run(
        "value_and_grad", (), [call.value, *call.gradients], lambda plan: plan.value_and_grad_workspace, scale
    )
    return value, *_both(wanted, found)


def backward(kind: Kind, wanted: int, upstream: Any, arrays: Arrays) -> tuple[Any, Any]:
    """The gradients of ``(upstream * value).sum()``; None for one that is not wanted."""
    call = _Call(kind, arrays, wanted)
    return _both(wanted, call.run("backward", (upstream,), call.gradients, lambda plan: plan.backward_workspace))


def units(kind: Kind, arrays: Arrays) -> tuple[bool, float, float]:
    """Whether forward computes the gradients, the scale under which it stores them, and the factor that undoes that."""
    first, second = arrays.memory("img1"), arrays.memory("img2")
    settings = for_dtypes(kind.settings, first.dtype, second.dtype)
    _, gradient = result_dtypes(settings, first.dtype, second.dtype)
    shape = layout_of(kind.settings, first.shape, kind.channel_axis).shape
    eager = is_eager(settings, gradient, 0, arrays.mask is not None, arrays.ranges is not None)
    return eager, *grad_scale(settings, gradient, shape)


def _both(wanted: int, found: Sequence[Any]) -> tuple[Any, Any]:
    rest = iter(found)
    return next(rest) if wanted & GRAD_1 else None, next(rest) if wanted & GRAD_2 else None


class _Call:
    """A call with arrays of known shapes and dtypes. To make it is to check it."""

    def __init__(self, kind: Kind, arrays: Arrays, wanted: int) -> None:
        settings, first, second = kind.settings, arrays.memory("img1"), arrays.memory("img2")
        self._settings, self._arrays, self._wanted = settings, arrays, wanted
        self._layout: ImageLayout = layout_of(settings, first.shape, kind.channel_axis)
        self._arithmetic, of_gradients = result_dtypes(settings, first.dtype, second.dtype)
        self.value = jax.ShapeDtypeStruct(self._layout.out_shape, self._arithmetic)
        gradient = jax.ShapeDtypeStruct(first.shape, of_gradients)
        self.gradients = [gradient for bit in (GRAD_1, GRAD_2) if wanted & bit]
        self._plans = {device: self._plan(Device(device, 0)) for device in PLATFORMS}

    def _plan(self, device: Device) -> NativePlan | None:
        """The plan for a device; None if the library has no code for it, which it says when it is called."""
        arrays, axes = self._arrays, self._layout.axes
        first, second = arrays.memory("img1"), arrays.memory("img2")
        mask = ranges = None
        if arrays.mask is not None:
            mask = mask_layout(arrays.memory("mask"), first, second, self._arithmetic, axes)
        if arrays.ranges is not None:
            ranges = range_layout(arrays.memory("ranges"), first, axes)
        try:
            return plan_of(
                self._settings,
                self._wanted,
                first.dtype,
                second.dtype,
                device,
                self._layout,
                first.strides,
                second.strides,
                mask,
                ranges,
            )
        except NotImplementedError:  # a build without that device
            return None

    def run(
        self,
        operation: str,
        more: tuple[Any, ...],
        results: Sequence[Any],
        workspace: Callable[[NativePlan], int],
        scale: float = 1.0,
    ) -> tuple[Any, ...]:
        """The results of an operation. ``more``: what it reads besides the arrays."""
        dtypes = (self._arrays.memory(name).dtype for name in ("img1", "img2"))
        attributes = _attributes(for_dtypes(self._settings, *dtypes))
        channel_axis = self._layout.axes.channel
        assert channel_axis is not None
        attributes["channel_axis"] = np.int32(channel_axis)
        attributes["has_mask"] = self._arrays.mask is not None
        attributes["has_ranges"] = self._arrays.ranges is not None
        attributes["grads"] = np.int32(self._wanted)
        attributes["grad_scale"] = np.float64(scale)
        arguments = (*(array for array in self._arrays if array is not None), *more)

        def on(plan: NativePlan | None) -> Callable[..., tuple[Any, ...]]:
            size = 0 if plan is None else workspace(plan)
            extra = [jax.ShapeDtypeStruct((size,), "uint8")] if size else []
            call = jax.ffi.ffi_call(f"fused_ssim_{operation}", [*results, *extra])
            return lambda *arrays: tuple(call(*arrays, **attributes)[: len(results)])

        found: tuple[Any, ...] = jax.lax.platform_dependent(
            *arguments, **{device: on(plan) for device, plan in self._plans.items()}
        )
        return found


def _attributes(settings: Settings) -> dict[str, Any]:
    """The settings as constants of a program, by name, in the types that the handlers read.

    They are those of :func:`for_dtypes`.
    """
    result: dict[str, Any] = {"name1": settings.names[0], "name2": settings.names[1]}
    for each in fields(settings):
        value, convert = getattr(settings, each.name), each.metadata["native"]
        value = value if convert is None else convert(value)
        if each.name in (*NOT_NATIVE, "names") or value is None:
            continue
        if type(value) is not bool:
            are_integers = all(type(number) is int for number in (value if type(value) is tuple else (value,)))
            value = np.array(value, np.int32 if are_integers else np.float64)[()]  # a scalar where it is one
        result[each.name] = value
    return result
