# SPDX-License-Identifier: MIT
"""SSIM and its gradient for arrays of NumPy, CuPy, JAX and Numba, and whatever else has DLPack or
``__cuda_array_interface__``. torch is not imported, and need not be installed.

Arrays are read where they are: on the CPU or on a CUDA device, with any strides, without a copy. Results are arrays of
the same library on the same device; those for an unknown library are NumPy arrays on the CPU and CuPy arrays on a CUDA
device. Work on a CUDA device is enqueued on the stream that the library would use itself: CuPy's current stream, or the
stream that a Numba array is bound to. JAX shows no stream to others, so there the call waits: for its inputs, and for
its results. On the CPU a call uses the processors that the process may run on, or ``OMP_NUM_THREADS`` of them.

These functions are not differentiable; :func:`value_and_grad` gives the gradient, to use in a rule of one's own (such
as ``jax.custom_vjp`` around ``jax.pure_callback``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

from .._base.codes import (
    DEVICES,
    DTYPES,
    GRAD_1,
    GRAD_2,
    complex_message,
    enumeration,
    gradients_of_argnums,
)
from .._base.settings import Settings, native_settings, settings_factory
from .._base.shapes import contiguous_strides, out_shape, spatial_dims
from .._core import Images, Layout
from .._core import Plan as NativePlan
from ._libraries import Backend, Device, Memory, backend_of, is_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["map", "value", "value_and_grad"]

_settings_of = settings_factory(lambda: False)


def value(
    img1: Any,
    img2: Any,
    padding: str = "same",
    *,
    window_size: int = 11,
    sigma: float = 1.5,
    data_range: Any = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    reduction: str = "mean",
) -> Any:
    """The structural similarity (Wang et al. 2004) of two batches of images or volumes.

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``: float32, float64, float16 or bfloat16.
        img2: as ``img1``, with the same shape and dtype, of the same library and on the same device.
        padding: ``"same"`` pads with zeros, and every pixel counts; ``"valid"`` counts only pixels whose window lies
            inside the image, ``window_size // 2`` away from the border.
        window_size: taps of the Gaussian window along each axis: odd, from 1 to 33.
        sigma: standard deviation of the window, in pixels.
        data_range: the largest value that a pixel can have minus the smallest: 1.0 for images in [0, 1], 255 for
            images in [0, 255]. Or an array of the same library, without axes or ``[N]`` for a range of each image.
        K: the two constants of SSIM, at least 0.
        reduction: ``"mean"`` or ``"sum"`` of the map, one number; ``"image"``, the mean of each image, ``[N]``;
            ``"channel"``, the mean of each channel of each image, ``[N, C]``; ``"none"``, the map, as :func:`map`.

    Returns:
        SSIM, at most 1, and 1 for identical images: float32, or float64 for float64 images. One number is a 0-d array,
        and a scalar for NumPy.

    Raises:
        ValueError: the shapes are not four or five axes of equal, positive sizes, a side is shorter than the window
            with ``"valid"``, the devices differ, or another argument is out of range.
        TypeError: an image is not an array, or its dtype is not one of the four, or dtypes or libraries differ.
        RuntimeError: CUDA cannot be used (``fused_ssim.info()`` says why).

    Example:
        >>> fused_ssim.array.value(numpy_image, numpy_reference, data_range=255)

    """
    data_range, ranges = _split_range(data_range)
    settings = _settings_of(
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        data_range=data_range,
        K=K,
        reduction=reduction,
    )
    return _Call(img1, img2, ranges, settings, 0).forward()


def map(  # noqa: A001 - fused_ssim.array.map says what it is
    img1: Any,
    img2: Any,
    padding: str = "same",
    *,
    window_size: int = 11,
    sigma: float = 1.5,
    data_range: Any = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
) -> Any:
    """The SSIM (Wang et al. 2004) of each pixel: arguments and errors as for :func:`value`.

    Returns:
        An array ``[N, C, H, W]`` or ``[N, C, D, H, W]``, in H, W and D smaller by ``window_size - 1`` for ``"valid"``.

    """
    data_range, ranges = _split_range(data_range)
    settings = _settings_of(
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        data_range=data_range,
        K=K,
        reduction="none",
    )
    return _Call(img1, img2, ranges, settings, 0).forward()


@overload
def value_and_grad(
    img1: Any,
    img2: Any,
    padding: str = ...,
    *,
    argnums: int = ...,
    window_size: int = ...,
    sigma: float = ...,
    data_range: Any = ...,
    K: tuple[float, float] = ...,
    reduction: str = ...,
) -> tuple[Any, Any]: ...


@overload
def value_and_grad(
    img1: Any,
    img2: Any,
    padding: str = ...,
    *,
    argnums: Sequence[int],
    window_size: int = ...,
    sigma: float = ...,
    data_range: Any = ...,
    K: tuple[float, float] = ...,
    reduction: str = ...,
) -> tuple[Any, tuple[Any, ...]]: ...


def value_and_grad(
    img1: Any,
    img2: Any,
    padding: str = "same",
    *,
    argnums: int | Sequence[int] = 0,
    window_size: int = 11,
    sigma: float = 1.5,
    data_range: Any = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    reduction: str = "mean",
) -> tuple[Any, Any]:
    """SSIM (Wang et al. 2004) and its gradient in one pass: arguments and errors as for :func:`value`.

    Args:
        img1: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``: float32, float64, float16 or bfloat16.
        img2: as ``img1``, with the same shape and dtype, of the same library and on the same device.
        padding: ``"same"`` pads with zeros, and every pixel counts; ``"valid"`` counts only pixels whose window lies
            inside the image.
        argnums: which gradient: 0 for ``img1``, 1 for ``img2``, ``(0, 1)`` for both.
        window_size: taps of the Gaussian window along each axis: odd, from 1 to 33.
        sigma: standard deviation of the window, in pixels.
        data_range: the largest value that a pixel can have minus the smallest: 1.0 for images in [0, 1], 255 for 8-bit
            values. Or an array, ``[N]`` for a range of each image.
        K: the two constants of SSIM, at least 0.
        reduction: ``"mean"``, ``"sum"``, ``"image"``, ``"channel"`` or ``"none"``: what the value is, as for
            :func:`value`.

    Returns:
        ``(value, grad)``, or ``(value, (grad1, grad2))`` if ``argnums`` is a tuple. The gradient is that of
        ``value.sum()``, C-contiguous, with the shape and dtype of its image. The gradient of a mean over many float16
        pixels is too small for float16: take ``reduction="sum"`` there.

    """
    wanted, grads = gradients_of_argnums(argnums)
    data_range, ranges = _split_range(data_range)
    settings = _settings_of(
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        data_range=data_range,
        K=K,
        reduction=reduction,
    )
    result, *both = _Call(img1, img2, ranges, settings, grads).value_and_grad()
    found = tuple(both[number] for number in wanted)
    return result, found if isinstance(argnums, (tuple, list)) else found[0]


# ---- One call --------------------------------------------------------------------------------------------------------


class _Call:
    """Two arrays, looked at and checked, and the plan of the native library for arrays like them."""

    def __init__(self, img1: Any, img2: Any, ranges: Any, settings: Settings, grads: int) -> None:
        self._backend: Backend = backend_of(img1, img2)
        self._img1 = self._backend.view("img1", img1)
        self._img2 = self._backend.view("img2", img2)
        first = self._backend.memory("img1", self._img1)
        second = self._backend.memory("img2", self._img2)
        _check(first, second)
        self._grads = grads
        self._ranges = None if ranges is None else self._backend.numbers("data_range", ranges, first, self._img1)
        each = None if self._ranges is None else self._backend.memory("data_range", self._ranges)
        if each is not None:
            _check_ranges(each, first)
        self._pointers = (first.pointer, second.pointer, 0, 0 if each is None else each.pointer)
        self._device = first.device
        self._shape = first.shape
        self._arithmetic, self._grad_dtype = DTYPES[first.dtype].arithmetic, DTYPES[first.dtype].gradient
        self._out_shape = out_shape(settings, first.shape)
        self._plan = _plan(
            settings,
            grads,
            first.dtype,
            first.device,
            first.shape,
            first.strides,
            second.strides,
            None if each is None else (each.shape, each.strides),
        )
        # As many threads as the library finds good, or the stream of the arrays.
        self._where = self._backend.stream(self._img1, self._img2)

    def forward(self) -> Any:
        out = self._empty(self._out_shape, self._arithmetic)
        workspace = self._workspace(self._plan.forward_workspace)
        self._plan.forward(self._where, self._at(workspace), *self._pointers, self._at(out), 0)
        return self._finish(out)

    def value_and_grad(self) -> tuple[Any, Any, Any]:
        out = self._empty(self._out_shape, self._arithmetic)
        grad1 = self._empty(self._shape, self._grad_dtype) if self._grads & GRAD_1 else None
        grad2 = self._empty(self._shape, self._grad_dtype) if self._grads & GRAD_2 else None
        workspace = self._workspace(self._plan.value_and_grad_workspace)
        self._plan.value_and_grad(
            self._where,
            self._at(workspace),
            *self._pointers,
            self._at(out),
            self._at(grad1),
            self._at(grad2),
            1.0,
        )
        return self._finish(out), self._finish(grad1), self._finish(grad2)

    def _empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self._backend.empty(shape, dtype, self._img1)

    def _workspace(self, size: int) -> Any:
        return self._empty((size,), "uint8") if size else None

    def _at(self, array: Any) -> int:
        return 0 if array is None else self._backend.pointer(array)

    def _finish(self, array: Any) -> Any:
        return None if array is None else self._backend.finish(self._where, self._device, array)


def _split_range(data_range: Any) -> tuple[Any, Any]:
    """A data range as the setting and the array that is to be read instead of it, if it is one."""
    is_array = is_numbers(data_range)
    return (1.0, data_range) if is_array else (data_range, None)


def _check_ranges(ranges: Memory, images: Memory) -> None:
    if ranges.shape not in ((), images.shape[:1]):
        raise ValueError(
            f"data_range.shape = {ranges.shape} for images of {images.shape}; expected one number, or one for each "
            f"image, {list(images.shape[:1])}"
        )
    if ranges.device != images.device:
        raise ValueError(
            f"data_range is on {ranges.device} but the images on {images.device}; expected the same device"
        )


def _check(first: Memory, second: Memory) -> None:
    for name, memory in (("img1", first), ("img2", second)):
        if memory.dtype.startswith("complex"):
            raise TypeError(complex_message(name, memory.dtype, f"numpy.abs({name})", f"{name}.real and {name}.imag"))
        if memory.dtype not in DTYPES:
            raise TypeError(
                f"{name}.dtype = {memory.dtype}; expected {enumeration(DTYPES)}: convert it, for instance by "
                f'{name}.astype("float32"), and pass data_range (255 for 8-bit images)'
            )
        spatial_dims(name, memory.shape)
    if first.dtype != second.dtype:
        raise TypeError(f"img1.dtype = {first.dtype} but img2.dtype = {second.dtype}; expected the same dtype")
    if first.shape != second.shape:
        raise ValueError(f"img1.shape = {first.shape} but img2.shape = {second.shape}; expected the same shape")
    if first.device != second.device:
        raise ValueError(f"img1 is on {first.device} but img2 on {second.device}; expected the same device")


@lru_cache(maxsize=256)
def _plan(
    settings: Settings,
    grads: int,
    dtype: str,
    device: Device,
    shape: tuple[int, ...],
    strides1: tuple[int, ...],
    strides2: tuple[int, ...],
    ranges: tuple[tuple[int, ...], tuple[int, ...]] | None,
) -> NativePlan:
    row = DTYPES[dtype]
    gradient = Layout(dtype=DTYPES[row.gradient].code, shape=shape, stride=contiguous_strides(shape))
    out = out_shape(settings, shape)
    return NativePlan(
        device=DEVICES[device.kind],
        device_index=device.index,
        settings=native_settings(settings),
        images=Images(
            x=Layout(dtype=row.code, shape=shape, stride=strides1),
            y=Layout(dtype=row.code, shape=shape, stride=strides2),
            grad_x=gradient,
            grad_y=gradient,
            out=Layout(dtype=DTYPES[row.arithmetic].code, shape=out, stride=contiguous_strides(out)),
            mask=None,
            data_ranges=None
            if ranges is None
            else Layout(dtype=DTYPES[row.arithmetic].code, shape=ranges[0], stride=ranges[1]),
        ),
        grads=grads,
    )
