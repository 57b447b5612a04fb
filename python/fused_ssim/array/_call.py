# SPDX-License-Identifier: MIT
"""A call of the native library for two arrays: what is checked, and the plan for arrays like them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .._base.arguments import choice
from .._base.codes import GRAD_1, GRAD_2, as_argnums_ask, gradients_of_argnums
from .._base.settings import Settings, settings_factory
from ._libraries import Backend, backend_of, is_masked, is_numbers, unmasked
from ._plans import check_alike, check_dtype, layout_of, mask_layout, plan_of, range_layout, result_dtypes

if TYPE_CHECKING:
    from collections.abc import Sequence

_settings_of = settings_factory(lambda: False)


def forward(img1: Any, img2: Any, mask: Any, channel_axis: Any, **arguments: Any) -> Any:
    """The value for arguments of a public function."""
    img1, img2, mask, arguments = _without_masked_arrays(img1, img2, mask, arguments)
    ranges = _take_ranges(arguments)
    return Call(img1, img2, _settings_of(**arguments), mask=mask, ranges=ranges, channel_axis=channel_axis).forward()


def decibels(img1: Any, img2: Any, mask: Any, channel_axis: Any, **arguments: Any) -> Any:
    """``-10 log10(1 - SSIM)`` for arguments of a public function."""
    choice(("mean", "image", "channel", "none"))("reduction", arguments["reduction"])
    img1, img2, mask, arguments = _without_masked_arrays(img1, img2, mask, arguments)
    ranges = _take_ranges(arguments)
    settings = _settings_of(**arguments, lambda_dssim=1.0)
    call = Call(img1, img2, settings, mask=mask, ranges=ranges, channel_axis=channel_axis)
    return call.library.decibels(call.forward())


def value_map_and_grad(
    img1: Any, img2: Any, channel_axis: Any, argnums: int | Sequence[int], reduction: str, **arguments: Any
) -> tuple[Any, Any, Any]:
    """The mean or the sum of the map, the map, and the gradients of the former, for arguments of a public function."""
    is_mean = choice(("mean", "sum"))("reduction", reduction) == "mean"
    grads = gradients_of_argnums(argnums)
    for name, image in (("img1", img1), ("img2", img2)):
        if is_masked(image):
            raise TypeError(
                f"{name} is a masked array; expected a plain one: call value_and_grad and map, which take it"
            )
    ranges = _take_ranges(arguments)
    call = Call(img1, img2, _settings_of(**arguments, reduction="none"), grads, None, ranges, channel_axis)
    value, full, *both = call.value_map_and_grad(is_mean)
    return value, full, as_argnums_ask(argnums, both)


def value_and_grad(
    img1: Any, img2: Any, mask: Any, channel_axis: Any, argnums: int | Sequence[int], **arguments: Any
) -> tuple[Any, Any]:
    """The value and the gradients that ``argnums`` names, for arguments of a public function."""
    grads = gradients_of_argnums(argnums)
    img1, img2, mask, arguments = _without_masked_arrays(img1, img2, mask, arguments)
    ranges = _take_ranges(arguments)
    call = Call(img1, img2, _settings_of(**arguments), grads, mask, ranges, channel_axis)
    result, *both = call.value_and_grad()
    return result, as_argnums_ask(argnums, both)


class Call:
    """Two arrays, looked at and checked, and the plan of the native library for arrays like them.

    ``by_integers``: whether gradients by images of integers, which the native library has on the CPU, are allowed.
    """

    def __init__(
        self,
        img1: Any,
        img2: Any,
        settings: Settings,
        grads: int = 0,
        mask: Any = None,
        ranges: Any = None,
        channel_axis: Any = 1,
        by_integers: bool = False,
    ) -> None:
        names = settings.names
        self.library: Backend = backend_of(img1, img2, names)
        self._img1 = self.library.view(names[0], img1)
        self._img2 = self.library.view(names[1], img2)
        first = self.library.memory(names[0], self._img1)
        second = self.library.memory(names[1], self._img2)
        for name, memory in zip(names, (first, second), strict=True):
            check_dtype(name, memory)
        self._layout = layout = layout_of(settings, first.shape, channel_axis)
        check_alike(names, first, second)
        self._settings, self._grads = settings, grads
        self._arithmetic, self._grad_dtype = result_dtypes(settings, first.dtype, second.dtype)
        self._ranges = None
        if ranges is not None:
            self._ranges = self.library.numbers("data_range", ranges, self._arithmetic, self._img1)
        of_ranges = None
        if self._ranges is not None:
            of_ranges = range_layout(self.library.memory("data_range", self._ranges), first, layout.axes)
        if mask is not None:
            backend_of(img1, mask, (names[0], "mask"))  # an error if they are of two libraries
        self._mask = None if mask is None else self.library.view("mask", mask)
        mask_memory = None if self._mask is None else self.library.memory("mask", self._mask)
        of_mask = None
        if mask_memory is not None:
            of_mask = mask_layout(mask_memory, first, second, self._arithmetic, layout.axes)
        self._pointers = (
            first.pointer,
            second.pointer,
            0 if mask_memory is None else mask_memory.pointer,
            0 if self._ranges is None else self.library.pointer(self._ranges),
        )
        self._device = first.device
        self._shape = first.shape
        self._plan = plan_of(
            settings,
            grads,
            first.dtype,
            second.dtype,
            first.device,
            layout,
            first.strides,
            second.strides,
            of_mask,
            of_ranges,
            by_integers,
        )
        # As many threads as the library finds good, or the stream of the arrays.
        self._where = self.library.stream(self._img1, self._img2)

    def forward(self) -> Any:
        """The value."""
        out = self._empty(self._layout.out_shape, self._arithmetic)
        workspace = self._workspace(self._plan.forward_workspace)
        self._plan.forward(self._where, self._at(workspace), *self._pointers, self._at(out), 0)
        return self._finish(out)

    def value_and_grad(self, grad_scale: float = 1.0, variance_grad_scale: float = 1.0) -> tuple[Any, Any, Any]:
        """The value, and the gradients of its sum times ``grad_scale``; None for one that is not wanted.

        ``variance_grad_scale`` multiplies derivatives by variances and covariance: see ``fusedssim.h``.
        """
        out = self._empty(self._layout.out_shape, self._arithmetic)
        grad1, grad2 = self._empty_gradients()
        workspace = self._workspace(self._plan.value_and_grad_workspace)
        self._plan.value_and_grad(
            self._where,
            self._at(workspace),
            *self._pointers,
            self._at(out),
            self._at(grad1),
            self._at(grad2),
            grad_scale,
            variance_grad_scale,
        )
        return self._finish(out), self._finish(grad1), self._finish(grad2)

    def value_map_and_grad(self, is_mean: bool) -> tuple[Any, Any, Any, Any]:
        """The mean or the sum of the map, the map, and the gradients of the former."""
        elements = math.prod(self._layout.out_shape)
        full, *grads = self.value_and_grad(1 / elements if is_mean else 1.0)
        mean = self.library.mean(full)
        return mean if is_mean else mean * elements, full, *grads

    def backward(self, upstream: Any) -> tuple[Any, Any]:
        """The gradients of ``(upstream * value).sum()``; ``upstream`` is like what :meth:`forward` gives."""
        memory = self.library.memory("upstream", upstream)
        if (memory.shape, memory.dtype, memory.device) != (self._layout.out_shape, self._arithmetic, self._device):
            raise ValueError(
                f"upstream is {memory.dtype} {memory.shape}; expected {self._arithmetic} {self._layout.out_shape}"
            )
        strides = (
            self._layout.axes.to_native(memory.strides, 0) if self._settings.reduction == "none" else memory.strides
        )
        grad1, grad2 = self._empty_gradients()
        workspace = self._workspace(self._plan.backward_workspace)
        self._plan.backward(
            self._where,
            self._at(workspace),
            *self._pointers,
            0,
            memory.pointer,
            strides,
            self._at(grad1),
            self._at(grad2),
        )
        return self._finish(grad1), self._finish(grad2)

    def _empty_gradients(self) -> tuple[Any, Any]:
        """Memory for the gradients, C-contiguous in the layout of the images."""
        grad1 = self._empty(self._shape, self._grad_dtype) if self._grads & GRAD_1 else None
        grad2 = self._empty(self._shape, self._grad_dtype) if self._grads & GRAD_2 else None
        return grad1, grad2

    def _empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self.library.empty(shape, dtype, self._img1)

    def _workspace(self, size: int) -> Any:
        return self._empty((size,), "uint8") if size else None

    def _at(self, array: Any) -> int:
        return 0 if array is None else self.library.pointer(array)

    def _finish(self, array: Any) -> Any:
        return None if array is None else self.library.finish(self._where, self._device, array)


def _take_ranges(arguments: dict[str, Any]) -> Any:
    """The data range, if it is an array that is to be read; a number stays among the arguments."""
    data_range = arguments["data_range"]
    if data_range is None or not is_numbers(data_range):
        return None
    arguments["data_range"] = 1.0
    return data_range


def _without_masked_arrays(
    img1: Any, img2: Any, mask: Any, arguments: dict[str, Any]
) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Masked arrays of NumPy as their data, and what neither of them masks as the mask.

    What is masked has no meaning, so no window is to see it.
    """
    if not (is_masked(img1) or is_masked(img2)):
        return img1, img2, mask, arguments
    data1, data2, keep = unmasked(img1, img2)
    if keep is None:
        return data1, data2, mask, arguments
    if mask is not None:
        raise ValueError(
            "mask is given, and the images are masked arrays; expected one of the two: combine the masks, or pass the "
            "data of the images"
        )
    if "mask_mode" not in arguments:  # MS-SSIM, which has no masks
        raise TypeError("the images are masked arrays; expected plain ones: there is no MS-SSIM under a mask")
    return data1, data2, keep, {**arguments, "mask_mode": "normalized"}
