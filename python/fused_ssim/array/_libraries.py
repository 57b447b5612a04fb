# SPDX-License-Identifier: MIT
"""Array libraries: where an array's memory is, how to get more of it, and on which stream its work runs.

The type of the arrays chooses a backend, which hands back arrays of the same library. No library is imported that the
caller has not imported. The one exception is CuPy, where nothing else can hold an array on a CUDA device.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .._base.codes import UnsupportedDeviceError
from .._base.shapes import contiguous_strides


@dataclass(frozen=True)
class Device:
    """A device: its kind, a key of ``_base.codes.DEVICES``, and its number among those of that kind."""

    kind: str
    index: int

    def __str__(self) -> str:
        return {"cpu": "the CPU", "cuda": f"CUDA device {self.index}"}[self.kind]


CPU = Device("cpu", 0)


class Memory(NamedTuple):
    """An array as the native library sees it. ``strides`` are in elements.

    A tuple, since each call makes several: a frozen dataclass takes more than twice the time.
    """

    pointer: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    device: Device


class NumPy:
    """NumPy arrays, and any other array on the CPU, seen as a NumPy array without a copy."""

    def view(self, name: str, array: Any) -> Any:
        """``array`` as an array of this library, without a copy."""
        if is_masked(array):  # images that are one have come to be their data before
            raise TypeError(f"{name} is a masked array; expected a plain one, such as {name}.filled(0)")
        if isinstance(array, np.ndarray):
            return array
        if hasattr(array, "__array_interface__"):
            return np.asarray(array)
        try:
            return np.from_dlpack(array)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{name} cannot be viewed as a NumPy array: {error}") from error

    def memory(self, name: str, array: Any) -> Memory:
        """Where the array's elements are."""
        if not array.dtype.isnative:
            raise TypeError(
                f"{name}.dtype = {array.dtype} has its bytes in another order than this machine: convert it by "
                f'{name}.astype("{array.dtype.name}")'
            )
        strides = _in_elements(name, array)
        if not array.flags.aligned:
            raise ValueError(
                f"{name} is not aligned to its elements, as in a field of a packed structure or a view of bytes: copy "
                f"it by {name}.copy()"
            )
        pointer = int(array.__array_interface__["data"][0])
        return Memory(pointer, _name_of(array.dtype), array.shape, strides, CPU)

    def numbers(self, name: str, array: Any, arithmetic: str, like: Any) -> Any:
        """``array``, a few numbers, in the dtype of the arithmetic for these images. ``like`` is one of them."""
        del like
        return np.array(self.view(name, array), dtype=arithmetic)

    def mean(self, array: Any) -> Any:
        """The mean of the elements, in their dtype; summed in float64, so that the mean of ones is 1."""
        return array.mean(dtype=np.float64).astype(array.dtype)

    def decibels(self, loss: Any) -> Any:
        """``-10 log10(loss)``, infinite for 0."""
        with np.errstate(divide="ignore"):
            return -10 * np.log10(loss)

    def empty(self, shape: tuple[int, ...], dtype: str, like: Any) -> Any:
        """A C-contiguous array, where ``like`` is."""
        return np.empty(shape, like.dtype if _name_of(like.dtype) == dtype else dtype)

    def pointer(self, array: Any) -> int:
        """Where an array of :meth:`empty` is."""
        return int(array.__array_interface__["data"][0])

    def stream(self, *_arrays: Any) -> int:
        """The stream that work on these arrays is enqueued on."""
        return 0

    def finish(self, stream: int, device: Device, result: Any) -> Any:
        """``result``, an array of :meth:`empty` that work was enqueued for, as the caller gets it."""
        del stream, device
        return result[()]  # a 0-d array as a scalar, as NumPy's own functions do


class CuPy:
    """CuPy arrays, and any other array on a CUDA device, seen as a CuPy array. Work runs on CuPy's current stream."""

    def __init__(self) -> None:
        self._cupy: Any = importlib.import_module("cupy")

    def view(self, name: str, array: Any) -> Any:
        if isinstance(array, self._cupy.ndarray):
            return array
        try:  # both wait for the stream that the array is being written on
            if hasattr(array, "__cuda_array_interface__"):
                return self._cupy.asarray(array)
            return self._cupy.from_dlpack(array)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{name} cannot be viewed as a CuPy array: {error}") from error

    def memory(self, name: str, array: Any) -> Memory:
        strides = _in_elements(name, array)
        return Memory(array.data.ptr, _name_of(array.dtype), array.shape, strides, Device("cuda", array.device.id))

    def numbers(self, name: str, array: Any, arithmetic: str, like: Any) -> Any:
        with like.device:
            return self.view(name, array).astype(arithmetic, copy=False)

    def mean(self, array: Any) -> Any:
        with array.device:
            return array.mean(dtype=np.float64).astype(array.dtype)

    def decibels(self, loss: Any) -> Any:
        with loss.device:
            return -10 * self._cupy.log10(loss)

    def empty(self, shape: tuple[int, ...], dtype: str, like: Any) -> Any:
        with like.device:
            return self._cupy.empty(shape, like.dtype if _name_of(like.dtype) == dtype else dtype)

    def pointer(self, array: Any) -> int:
        return int(array.data.ptr)

    def stream(self, *arrays: Any) -> int:
        with arrays[0].device:
            return int(self._cupy.cuda.get_current_stream().ptr)

    def finish(self, stream: int, device: Device, result: Any) -> Any:
        del stream, device
        return result


class Numba:
    """Device arrays of Numba. Work runs on the stream that the arrays are bound to, or the default one."""

    def __init__(self) -> None:
        self._cuda: Any = importlib.import_module("numba.cuda")

    def view(self, name: str, array: Any) -> Any:
        if not self._cuda.is_cuda_array(array):
            raise TypeError(f"{name} is of type {type(array).__name__}; expected a device array of Numba")
        return self._cuda.as_cuda_array(array)

    def memory(self, name: str, array: Any) -> Memory:
        shape, strides = tuple(array.shape), _in_elements(name, array)
        return Memory(
            int(array.device_ctypes_pointer.value or 0),
            _name_of(array.dtype),
            shape,
            strides,
            Device("cuda", _current_device()),
        )

    def numbers(self, name: str, array: Any, arithmetic: str, like: Any) -> Any:
        del like
        view = self.view(name, array)
        if view.dtype.name != arithmetic:
            raise TypeError(f"{name}.dtype = {view.dtype}; expected {arithmetic} for these images")
        return view

    def mean(self, _array: Any) -> Any:
        raise TypeError("arrays of Numba cannot be summed here; call value_and_grad and map")

    def decibels(self, _loss: Any) -> Any:
        raise TypeError("arrays of Numba have no logarithm here; call photometric_loss with lambda_dssim = 1")

    def empty(self, shape: tuple[int, ...], dtype: str, like: Any) -> Any:
        return self._cuda.device_array(shape, dtype, stream=like.stream)

    def pointer(self, array: Any) -> int:
        return int(array.device_ctypes_pointer.value)

    def stream(self, *arrays: Any) -> int:
        handles = {int(array.__cuda_array_interface__.get("stream") or 0) for array in arrays} - {0}
        if len(handles) > 1:
            raise ValueError("the images are bound to different streams; expected one that orders the work on both")
        return handles.pop() if handles else 0

    def finish(self, stream: int, device: Device, result: Any) -> Any:
        del stream, device
        return result


class Jax:
    """JAX arrays. On a GPU their streams are JAX's own: inputs are waited for, and so are results."""

    def __init__(self) -> None:
        self._jax: Any = importlib.import_module("jax")
        self._numpy: Any = importlib.import_module("jax.numpy")

    def view(self, name: str, array: Any) -> Any:
        if not isinstance(array, self._jax.Array):
            raise TypeError(f"{name} is of type {type(array).__name__}; expected an array of JAX")
        if isinstance(array, self._jax.core.Tracer):
            raise TypeError(
                f"{name} is traced by JAX (jit, grad, vmap); expected an array with values: use fused_ssim.jax"
            )
        if len(array.devices()) != 1:
            raise ValueError(f"{name} is spread over {len(array.devices())} devices; expected one")
        return array.block_until_ready()

    def memory(self, name: str, array: Any) -> Memory:
        (device,) = array.devices()
        strides = contiguous_strides(array.shape)  # JAX shows no strides: its arrays are contiguous to others
        if device.platform == "cpu":
            where = CPU
        elif device.platform in ("gpu", "cuda"):
            where = Device("cuda", device.local_hardware_id)
        else:
            raise UnsupportedDeviceError(f"{name} is on {device}; expected the CPU or a CUDA device")
        return Memory(self.pointer(array), _name_of(array.dtype), array.shape, strides, where)

    def numbers(self, name: str, array: Any, arithmetic: str, like: Any) -> Any:
        del like
        return self.view(name, array).astype(arithmetic).block_until_ready()

    def mean(self, array: Any) -> Any:
        return array.mean()

    def decibels(self, loss: Any) -> Any:
        return -10 * self._numpy.log10(loss)

    def empty(self, shape: tuple[int, ...], dtype: str, like: Any) -> Any:
        (device,) = like.devices()
        # A buffer of its own, which nobody else has seen when it is written to.
        array = self._numpy.empty(shape, like.dtype if _name_of(like.dtype) == dtype else dtype, device=device)
        if array.dtype.name != dtype:
            raise TypeError(f"the result is {dtype}, which JAX has only with jax_enable_x64")
        return array.block_until_ready()

    def pointer(self, array: Any) -> int:
        return int(array.unsafe_buffer_pointer())

    def stream(self, *_arrays: Any) -> int:
        return 0

    def finish(self, stream: int, device: Device, result: Any) -> Any:
        if device.kind == "cuda":
            _synchronize(stream, device.index)
        return result


Backend = NumPy | CuPy | Numba | Jax


def is_numbers(value: Any) -> bool:
    """Whether this is an array of numbers, and no number."""
    if isinstance(value, (float, int, np.generic)):
        return False
    return any(
        hasattr(value, name) for name in ("__array_interface__", "__cuda_array_interface__", "__dlpack__")
    ) and not hasattr(value, "__torch_function__")


def is_masked(image: Any) -> bool:
    """Whether this is a masked array of NumPy, with or without a mask."""
    return isinstance(image, np.ma.MaskedArray)


def unmasked(img1: Any, img2: Any) -> tuple[Any, Any, Any]:
    """The data of masked arrays of NumPy, and a mask of what neither masks; None: nothing is masked."""
    hidden = [np.ma.getmask(image) for image in (img1, img2)]
    hidden = [each for each in hidden if each is not np.ma.nomask]
    keep = None
    if hidden:
        keep = ~hidden[0] if len(hidden) == 1 or hidden[0].shape != hidden[1].shape else ~(hidden[0] | hidden[1])
    data1, data2 = (image.data if is_masked(image) else image for image in (img1, img2))
    return data1, data2, keep


def backend_of(img1: Any, img2: Any, names: tuple[str, str] = ("img1", "img2")) -> Backend:
    """The backend for two arrays, which must be of one library."""
    name1, name2 = names
    kinds = [_kind(name1, img1), _kind(name2, img2)]
    if kinds[0] is not kinds[1]:
        raise TypeError(
            f"{name1} is of type {_name(img1)} but {name2} of type {_name(img2)}; expected arrays of one library, on "
            "one device"
        )
    return kinds[0]()


def _kind(name: str, array: Any) -> type[Backend]:
    library = type(array).__module__.partition(".")[0]
    if isinstance(array, np.ndarray):
        return NumPy
    if library == "torch":
        raise TypeError(f"{name} is a tensor of torch; use the functions of fused_ssim itself")
    if library == "cupy":
        return CuPy
    if library in ("numba", "numba_cuda"):
        return Numba
    if library in ("jax", "jaxlib"):
        return Jax
    on_cuda = hasattr(array, "__cuda_array_interface__")
    if not on_cuda and hasattr(array, "__dlpack_device__"):
        device_type = int(array.__dlpack_device__()[0])
        if device_type not in (_DLPACK_CPU, _DLPACK_CUDA):
            raise UnsupportedDeviceError(
                f"{name} is on a device of DLPack type {device_type}; expected the CPU (1) or CUDA (2)"
            )
        on_cuda = device_type == _DLPACK_CUDA
    if on_cuda:
        if importlib.util.find_spec("cupy") is None:
            raise TypeError(f"{name} is of type {_name(array)} on a CUDA device; that needs CuPy to hold the results")
        return CuPy
    if hasattr(array, "__array_interface__") or hasattr(array, "__dlpack__"):
        return NumPy
    raise TypeError(
        f"{name} is of type {_name(array)}; expected an array of NumPy, CuPy, JAX or Numba, or another that has DLPack "
        "or __cuda_array_interface__"
    )


_DLPACK_CPU, _DLPACK_CUDA = 1, 2


def _name(array: Any) -> str:
    return f"{type(array).__module__}.{type(array).__qualname__}"


@lru_cache(maxsize=64)
def _name_of(dtype: Any) -> str:
    """The name of a dtype, which NumPy puts together anew each time."""
    return str(dtype.name)


def _in_elements(name: str, array: Any) -> tuple[int, ...]:
    strides = _divided(array.strides, array.dtype.itemsize)
    if strides is None:
        raise ValueError(
            f"{name}.strides = {tuple(array.strides)} bytes; expected multiples of an element's "
            f"{array.dtype.itemsize}: copy it, for instance by numpy.ascontiguousarray({name})"
        )
    return strides


@lru_cache(maxsize=256)
def _divided(strides: tuple[int, ...], size: int) -> tuple[int, ...] | None:
    """Strides in elements of so many bytes; None if they are no multiples of it."""
    return None if any(stride % size for stride in strides) else tuple(stride // size for stride in strides)


# ---- The CUDA driver, for facts that an array library does not tell -------------------------------------------------


def _driver() -> Any:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def _check(status: int, function: str) -> None:
    if status:
        raise RuntimeError(f"{function} failed with CUDA error {status}")


def _current_device() -> int:
    device = ctypes.c_int()
    _check(_driver().cuCtxGetDevice(ctypes.byref(device)), "cuCtxGetDevice")
    return device.value


def _synchronize(stream: int, device: int) -> None:
    driver = _driver()
    handle, context, previous = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
    _check(driver.cuDeviceGet(ctypes.byref(handle), device), "cuDeviceGet")
    _check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle), "cuDevicePrimaryCtxRetain")
    try:
        _check(driver.cuCtxPushCurrent_v2(context), "cuCtxPushCurrent")
        try:
            _check(driver.cuStreamSynchronize(ctypes.c_void_p(stream)), "cuStreamSynchronize")
        finally:
            driver.cuCtxPopCurrent_v2(ctypes.byref(previous))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(handle)
