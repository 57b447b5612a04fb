# SPDX-License-Identifier: MIT
"""A plan that computes without the native library, with the methods of :class:`plan.Plan`.

Planes are computed some at a time, so that memory beside the images stays small, and on the CPU within its caches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._base.codes import DEVICES, GRAD_1, GRAD_2
from .._base.gradients import grad_scale, is_eager
from .._base.settings import for_dtypes, native_settings
from .._base.shapes import out_shape
from .._core import Plan as NativePlan
from . import checks
from .layouts import Like, checked_upstream, native_images
from .plain_call import Call, Grads, Parts, level_shapes, of_planes
from .plain_filters import Window
from .triton_call import TritonCall, covers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._base.settings import Settings

# How many elements of the images are computed at a time, by the type of the device: what fits into the caches of a CPU,
# and what keeps a GPU busy. Never less than a plane.
_AT_A_TIME = {"cpu": 2**19}
_AT_A_TIME_ELSEWHERE = 2**24


class PlainPlan:
    """One kind of call on a device of any type: see :class:`plan.Plan`, whose methods these are.

    It computes by plain operations of torch; with ``by_triton`` by Triton's kernels, as far as they go.
    """

    saved_bytes = 0

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
        by_triton: bool = False,
    ) -> None:
        self.settings = settings
        settings = for_dtypes(settings, checks.NAMES[dtype1], checks.NAMES[dtype2])
        # The native library checks settings and layouts, as if the images were on the CPU.
        NativePlan(
            device=DEVICES["cpu"],
            device_index=0,
            settings=native_settings(settings),
            images=native_images(settings, dtype1, dtype2, shape, stride1, stride2, mask, ranges),
            grads=grads,
        )
        self._resolved = settings
        self.grads = grads
        self.spatial_dims = len(shape) - 2
        self.arithmetic = checks.arithmetic(settings, dtype1, dtype2)
        self._device = device
        self.by_triton = by_triton and covers(settings, self.arithmetic, shape, mask, ranges)
        self._call = TritonCall if self.by_triton else Call
        # The kernels convert images of 16 bits on their way; with other images, torch does it before.
        self._converts = not self.by_triton or dtype1 != dtype2 or not dtype1.is_floating_point
        self._shape = shape
        self._out_shape = out_shape(settings, shape)
        gradient = checks.gradient_dtype(dtype1, dtype2)
        self._empty_gradient = checks.empty_gradient(gradient)
        of = checks.NAMES[gradient]
        self.eager = is_eager(settings, of, 0, mask is not None, ranges is not None)
        self.grad_scale, self._undo_grad_scale = grad_scale(settings, of, shape)
        # What is kept must serve calls outside of inference mode, too.
        with torch.inference_mode(False):
            self._windows = [
                Window(settings, level, self.arithmetic, device) for level in level_shapes(settings, shape)
            ]

    @torch.no_grad()
    def forward(
        self, img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, _saved: Tensor | None = None
    ) -> Tensor:
        """The value or the map."""
        out, _, _ = self._compute(img1, img2, mask, ranges, 0)
        assert out is not None
        return out

    @torch.no_grad()
    def value_and_grad(
        self, img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, grad_scale: float = 1.0
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The value or the map, and the gradients of its sum, times ``grad_scale``."""
        out, grad1, grad2 = self._compute(img1, img2, mask, ranges, self.grads, scale=grad_scale)
        assert out is not None
        return out, grad1, grad2

    @torch.no_grad()
    def scale(self, grad_out: Tensor, grad1: Tensor | None, grad2: Tensor | None) -> None:
        """Makes gradients of ``value_and_grad(..., plan.grad_scale)`` those of :meth:`backward`, in place."""
        grad_out = checked_upstream(grad_out, self.arithmetic, self._out_shape)
        # With as many axes as a gradient: one of none would be rounded to the gradient's dtype before the product.
        factor = of_planes(grad_out, len(self._shape)) * self._undo_grad_scale
        for grad in (grad1, grad2):
            if grad is not None:
                grad.mul_(factor)

    @torch.no_grad()
    def backward(
        self,
        img1: Tensor,
        img2: Tensor,
        mask: Tensor | None,
        ranges: Tensor | None,
        _saved: Tensor | None,
        grad_out: Tensor,
    ) -> Grads:
        """The gradients of ``(grad_out * out).sum()``."""
        grad_out = checked_upstream(grad_out, self.arithmetic, self._out_shape)
        _, grad1, grad2 = self._compute(img1, img2, mask, ranges, self.grads, upstream=grad_out)
        return grad1, grad2

    def gradients(
        self,
        img1: Tensor,
        img2: Tensor,
        mask: Tensor | None,
        ranges: Tensor | None,
        saved: Tensor | None,
        grad_out: Tensor,
    ) -> Grads:
        """As :meth:`backward`, but the way the first backward went, so that a repeated one gives the same bits."""
        if not self.eager:
            return self.backward(img1, img2, mask, ranges, saved, grad_out)
        _, grad1, grad2 = self.value_and_grad(img1, img2, mask, ranges, self.grad_scale)
        self.scale(grad_out, grad1, grad2)
        return grad1, grad2

    def empty_saved(self, image: Tensor) -> Tensor:
        """Nothing: forward saves no maps."""
        return image.new_empty(0, dtype=torch.uint8)

    def _compute(
        self,
        img1: Tensor,
        img2: Tensor,
        mask: Tensor | None,
        ranges: Tensor | None,
        wanted: int,
        upstream: Tensor | None = None,
        scale: float = 1.0,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The value, and the gradients times ``scale`` for an upstream gradient; without a value if that is given."""
        for name, image in zip(self.settings.names, (img1, img2), strict=True):
            _check_memory(name, image)
        mask = None if mask is None else checked_weights(mask, self.arithmetic)
        ranges = None if ranges is None else checked_ranges(ranges)
        call = self._call(self._resolved, self._windows, self._shape, mask, ranges, wanted, upstream, scale)
        blocks = list(self._blocks())
        if len(blocks) == 1:
            parts, grads = call.run(*self._pair(img1, img2), blocks[0])
            grad1, grad2 = (
                None if grad is None else self._as_gradient(grad, image)
                for grad, image in zip(grads, (img1, img2), strict=True)
            )
            return call.value(parts) if upstream is None else None, grad1, grad2
        results = [
            self._empty_gradient(image) if wanted & bit else None for image, bit in ((img1, GRAD_1), (img2, GRAD_2))
        ]
        all_parts: Parts | None = None
        for block in blocks:
            parts, grads = call.run(*self._pair(img1[block], img2[block]), block)
            for result, grad in zip(results, grads, strict=True):
                if result is not None and grad is not None:
                    result[block] = grad
            if upstream is None:
                if all_parts is None:
                    absolute = None if parts.absolute is None else self._empty_part(parts.absolute)
                    all_parts = Parts(self._empty_part(parts.structural), absolute)
                for whole, part in zip(all_parts, parts, strict=True):
                    if whole is not None and part is not None:
                        whole[block] = part
        return None if all_parts is None else call.value(all_parts), results[0], results[1]

    def _pair(self, img1: Tensor, img2: Tensor) -> tuple[Tensor, Tensor]:
        """Both images in the dtype of the arithmetic, integers as what they stand for."""
        if not self._converts:
            return img1, img2
        scale1, scale2 = self._resolved.integer_scale
        return checks.converted(img1, self.arithmetic, scale1), checks.converted(img2, self.arithmetic, scale2)

    def _empty_part(self, part: Tensor) -> Tensor:
        """Memory for a part of all blocks, from that of one."""
        return part.new_empty((*self._shape[:2], *part.shape[2:]))

    def _planes_at_a_time(self) -> int:
        plane = math.prod(self._shape[2:])
        return max(1, _AT_A_TIME.get(self._device.type, _AT_A_TIME_ELSEWHERE) // plane)

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        """Slices of N and C that are computed one after the other."""
        n, c = self._shape[:2]
        planes = self._planes_at_a_time()
        images, channels = max(1, planes // c), min(planes, c)
        for first in range(0, n, images):
            for channel in range(0, c, channels):
                yield slice(first, min(first + images, n)), slice(channel, min(channel + channels, c))

    def _as_gradient(self, grad: Tensor, image: Tensor) -> Tensor:
        """The gradient with the dtype and the order of axes that gradients of that image have."""
        if grad.dtype == image.dtype and image.is_contiguous():
            return grad
        return self._empty_gradient(image).copy_(grad)


def _check_memory(name: str, image: Tensor) -> None:
    # Operations of torch read freed memory without a word. Only these devices are known to have addresses.
    if image.device.type in DEVICES and image.numel() and not image.untyped_storage().nbytes():
        raise ValueError(f"{name} has no memory: its storage was freed")


def checked_weights(mask: Tensor, arithmetic: torch.dtype) -> Tensor:
    """A mask in the dtype of the arithmetic. On the CPU a bad weight is an error; elsewhere it counts as 0."""
    if mask.dtype == torch.bool:
        return mask.to(arithmetic)
    if mask.device.type != "cpu":  # to look would wait for the device
        return torch.where(mask > 0, mask, 0.0)
    if not bool(((mask >= 0) & mask.isfinite()).all()):
        raise ValueError("mask has an element that is negative or not finite, expected weights >= 0")
    return mask


def checked_ranges(ranges: Tensor) -> Tensor:
    """Data ranges. On the CPU one that is not positive is an error; elsewhere its image gets the value NaN."""
    usable = (ranges > 0) & ranges.isfinite()
    if ranges.device.type != "cpu":
        return torch.where(usable, ranges, math.nan)
    if not bool(usable.all()):
        index = "" if ranges.dim() == 0 else f"[{int(usable.logical_not().nonzero()[0])}]"
        value = float(ranges[~usable][0])
        raise ValueError(f"data_range{index} = {value:g}, expected a positive number")
    return ranges
