# SPDX-License-Identifier: MIT
"""vmap: a batch of calls runs as a single call. Its axis becomes part of N, or, in one case, takes the place of N.

Where the calls do not fit into one, they run one after the other, on the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from .._base.shapes import is_cropped
from ..array._plans import layout_of
from . import _native
from ._native import Arrays, Kind

if TYPE_CHECKING:
    from collections.abc import Callable


def forward(kind: Kind, arrays: Arrays) -> Any:
    """:func:`_native.forward`, which vmap may batch."""

    def one(*arrays: Any) -> Any:
        return forward(kind, Arrays(*arrays))

    def rule(size: int, batched: Any, *arrays: Any) -> tuple[Any, Any]:
        batch = _batch(kind, size, batched, arrays)
        if batch is None:
            return _one_by_one(one, batched, arrays), True
        return batch.unfold_value(forward(batch.kind, batch.arrays)), True

    return _batchable(lambda *arrays: _native.forward(kind, Arrays(*arrays)), rule)(*arrays)


def value_and_grad(kind: Kind, wanted: int, scale: float, arrays: Arrays) -> tuple[Any, Any, Any]:
    """:func:`_native.value_and_grad`, which vmap may batch."""

    def one(*arrays: Any) -> Any:
        return value_and_grad(kind, wanted, scale, Arrays(*arrays))

    def rule(size: int, batched: Any, *arrays: Any) -> tuple[Any, Any]:
        batch = _batch(kind, size, batched, arrays)
        if batch is None:
            found = _one_by_one(one, batched, arrays)
        else:
            value, *both = value_and_grad(batch.kind, wanted, scale * batch.share, batch.arrays)
            found = batch.unfold_value(value), *(batch.unfold_image(grad) for grad in both)
        return found, _all_batched(found)

    call = _batchable(lambda *arrays: _native.value_and_grad(kind, wanted, scale, Arrays(*arrays)), rule)
    found: tuple[Any, Any, Any] = call(*arrays)
    return found


def backward(kind: Kind, wanted: int, upstream: Any, arrays: Arrays) -> tuple[Any, Any]:
    """:func:`_native.backward`, which vmap may batch."""

    def one(upstream: Any, *arrays: Any) -> Any:
        return backward(kind, wanted, upstream, Arrays(*arrays))

    def rule(size: int, batched: Any, upstream: Any, *arrays: Any) -> tuple[Any, Any]:
        batch = _batch(kind, size, batched[1:], arrays)
        if batch is None:
            found = _one_by_one(one, batched, (upstream, *arrays))
        else:
            upstream = _expand(upstream, size, batched[0])
            both = backward(batch.kind, wanted, batch.fold_upstream(upstream), batch.arrays)
            found = tuple(batch.unfold_image(grad) for grad in both)
        return found, _all_batched(found)

    call = _batchable(
        lambda upstream, *arrays: _native.backward(kind, wanted, upstream, Arrays(*arrays)),
        rule,
    )
    found: tuple[Any, Any] = call(upstream, *arrays)
    return found


def _batchable(function: Callable[..., Any], rule: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, with what vmap makes of it."""
    call = custom_vmap(function)
    call.def_vmap(rule)
    result: Callable[..., Any] = call
    return result


def _all_batched(results: Any) -> Any:
    return jax.tree.map(lambda _: True, results)


def _one_by_one(function: Callable[..., Any], batched: Any, arrays: tuple[Any, ...]) -> Any:
    """The results of calls that run one after the other."""
    moving = [array if is_batched else None for array, is_batched in zip(arrays, batched, strict=True)]

    def step(moving: list[Any]) -> Any:
        return function(*(fixed if move is None else move for fixed, move in zip(arrays, moving, strict=True)))

    return jax.lax.map(step, moving)


def _expand(array: Any, size: int, is_batched: bool) -> Any:
    """With the axis of the batch in front, also where the calls share the array."""
    return array if is_batched else jnp.broadcast_to(array, (size, *array.shape))


def _batch(kind: Kind, size: int, batched: Any, arrays: tuple[Any, ...]) -> _Batch | None:
    """The single call for a batch of ``size`` calls; None if there is none."""
    settings, n = kind.settings, arrays[0].shape[1 if batched[0] else 0]
    has_mask, has_ranges = arrays[2] is not None, arrays[3] is not None
    if settings.reduction == "sum" and settings.lambda_dssim not in (None, 1) and is_cropped(settings):
        return None  # there is no map that could be summed
    # A mean under a mask is one quotient for all images of a call, so they must stay together.
    joins_channels = settings.reduction == "mean" and has_mask and n > 1
    if joins_channels and has_ranges and arrays[3].ndim > (1 if batched[3] else 0):
        return None  # images of other ranges must stay apart
    return _Batch(kind, size, batched, arrays, joins_channels)


class _Batch:
    """``size`` calls as a single call of another kind, with other arrays.

    Mostly the batch joins N: the single call has ``size * N`` images, and what "mean" and "sum" reduce beyond one image
    is reduced afterwards. If ``joins_channels``, the batch takes the place of N, and N joins C: ``size`` images of
    ``N * C`` channels.

    Attributes:
        kind: of the single call.
        arrays: of the single call.
        share: what the gradient of a call is, as a share of that of the single call.

    """

    def __init__(self, kind: Kind, size: int, batched: Any, arrays: tuple[Any, ...], joins_channels: bool) -> None:
        self._size, self._joins_channels = size, joins_channels
        self._axis = kind.channel_axis or 0
        self._shape = tuple(arrays[0].shape[1 if batched[0] else 0 :])
        self._reduction = kind.settings.reduction
        is_multi_scale = kind.settings.weights is not None
        folded = {"mean": "image", "sum": "channel" if is_multi_scale else "none"}.get(self._reduction, self._reduction)
        self.kind = kind.with_reduction(folded)
        self.share = 1.0 if self._reduction != "mean" or joins_channels else 1 / self._shape[0]
        img1, img2, mask, ranges = arrays
        self.arrays = Arrays(
            self._fold_image(_expand(img1, size, batched[0])),
            self._fold_image(_expand(img2, size, batched[1])),
            None if mask is None else self._fold_mask(mask, batched[2]),
            None if ranges is None else self._fold_ranges(ranges, batched[3]),
        )

    def unfold_value(self, value: Any) -> Any:
        """The values of all calls, from that of the single call."""
        if self._joins_channels:
            return value
        value = value.reshape(self._size, -1, *value.shape[1:])
        if self._reduction == "mean":
            return value.mean(1)
        return value.sum(range(1, value.ndim)) if self._reduction == "sum" else value

    def unfold_image(self, grad: Any) -> Any:
        """The gradients of all calls, from one of the single call; None stays None."""
        if grad is None:
            return None
        if not self._joins_channels:
            return grad.reshape(self._size, *self._shape)
        n, *each = self._shape
        shape = (self._size, *each)
        split = grad.reshape(*shape[: self._axis], n, *shape[self._axis :])
        return jnp.moveaxis(split, self._axis, 1)

    def fold_upstream(self, upstream: Any) -> Any:
        """The upstream gradient of the single call, from those of all calls."""
        if self._joins_channels:
            return upstream
        if self._reduction in ("mean", "sum"):
            shape = layout_of(self.kind.settings, self.arrays.img1.shape, self.kind.channel_axis).out_shape
            upstream = upstream.reshape(self._size, *(1 for _ in shape)) * self.share
            return jnp.broadcast_to(upstream, (self._size, self._shape[0], *shape[1:])).reshape(shape)
        return upstream.reshape(-1, *upstream.shape[2:])

    def _fold_image(self, image: Any) -> Any:
        """[size, N, ...] as images of the single call."""
        if not self._joins_channels:
            return image.reshape(-1, *image.shape[2:])
        moved = jnp.moveaxis(image, 1, self._axis)  # N stands in front of C
        return moved.reshape(*moved.shape[: self._axis], -1, *moved.shape[self._axis + 2 :])

    def _fold_mask(self, mask: Any, is_batched: bool) -> Any:
        """The mask of the single call. Axes of length 1 stay so where they can."""
        if not is_batched and (mask.shape[0] == 1 and not (self._joins_channels and mask.shape[self._axis] > 1)):
            return mask
        mask = mask if is_batched else mask[None]
        n, channels = self._shape[0], self._shape[self._axis]
        shape = list(mask.shape)
        if not self._joins_channels:
            shape[:2] = self._size, n
        elif shape[1] * shape[self._axis + 1] > 1:
            shape[1], shape[self._axis + 1] = n, channels
        return self._fold_image(jnp.broadcast_to(mask, shape))

    def _fold_ranges(self, ranges: Any, is_batched: bool) -> Any:
        """The data ranges of the single call."""
        if not is_batched and ranges.ndim == 0:
            return ranges
        ranges = _expand(ranges, self._size, is_batched)
        if self._joins_channels:
            return ranges
        ranges = ranges if ranges.ndim == 2 else ranges[:, None]
        return jnp.broadcast_to(ranges, (self._size, self._shape[0])).reshape(-1)
