# SPDX-License-Identifier: MIT
"""`fused_ssim.array`: NumPy on the CPU; CuPy, JAX and Numba where they are installed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from tolerances import BFLOAT16_EPS, GRADIENT, MAP, VALUE, mean_tolerance

import fused_ssim.array
from fused_ssim._base.codes import GRAD_1, GRAD_2
from fused_ssim._base.settings import checked_settings
from fused_ssim.array._call import Call

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = [(2, 3, 33, 29), (1, 1, 11, 40), (1, 2, 13, 17, 12)]
NUMPY_DTYPES = [torch.float32, torch.float64, torch.float16]


def arrays(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x, y = pair(shape, dtype, seed=seed)
    return x.numpy(), y.numpy()


def tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))


# ---- NumPy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("dtype", NUMPY_DTYPES, ids=readable)
@pytest.mark.parametrize("shape", SHAPES, ids=readable)
def test_numpy_agrees_with_the_definition(shape: tuple[int, ...], dtype: torch.dtype, padding: str) -> None:
    x, y = arrays(shape, dtype)
    value, (grad_x, grad_y) = fused_ssim.array.value_and_grad(x, y, padding, argnums=(0, 1), reduction="sum")
    expected, expected_x, expected_y = oracle.ssim_and_grads(
        torch.from_numpy(x), torch.from_numpy(y), padding, reduction="sum"
    )
    assert value.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    assert grad_x.dtype == grad_y.dtype == x.dtype
    elements = oracle.ssim_map(expected_x, expected_y, padding).numel()
    assert abs(value - float(expected)) / elements < mean_tolerance(dtype, elements)
    assert relative_error(tensor(grad_x), expected_x) < GRADIENT[dtype]
    assert relative_error(tensor(grad_y), expected_y) < GRADIENT[dtype]

    here = fused_ssim.array.map(x, y, padding)
    there = oracle.ssim_map(torch.from_numpy(x).double(), torch.from_numpy(y).double(), padding)
    assert absolute_error(tensor(here), there) < MAP[dtype]


@pytest.mark.parametrize("reduction", ["mean", "sum", "image", "channel", "none"])
def test_numpy_reductions_and_settings_are_those_of_torch(reduction: str) -> None:
    x, y = arrays((2, 3, 33, 29))
    settings: dict[str, Any] = {
        "window_size": 7, "sigma": 1.1, "data_range": 2.0, "K": (0.02, 0.05), "reduction": reduction
    }  # fmt: skip
    value, grad = fused_ssim.array.value_and_grad(x, y, "valid", argnums=1, **settings)
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    expected, expected_grad = fused_ssim.value_and_grad(*tensors, "valid", argnums=1, **settings)
    # the same library, with the same threads or not: sums run in a fixed order
    np.testing.assert_array_equal(value, expected.numpy())
    np.testing.assert_array_equal(grad, expected_grad.numpy())
    np.testing.assert_array_equal(fused_ssim.array.value(x, y, "valid", **settings), expected.numpy())


def test_numpy_number_is_a_scalar() -> None:
    x, y = arrays((1, 1, 16, 16))
    assert isinstance(fused_ssim.array.value(x, y), np.float32)
    assert isinstance(fused_ssim.array.value(x, y, reduction="channel"), np.ndarray)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[:, :, ::-1, ::-1],
        lambda a: a[:, :, ::2, 1::3],
        lambda a: a.transpose(0, 1, 3, 2),
        lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        lambda a: np.broadcast_to(a[:1, :1], (3, 2, *a.shape[2:])),
    ],
    ids=["reversed", "sliced", "transposed", "channels-last", "broadcast"],
)
def test_numpy_strides_are_read_in_place(view: Callable[[np.ndarray], np.ndarray]) -> None:
    x, y = (view(a) for a in arrays((2, 3, 40, 44)))
    value, grad = fused_ssim.array.value_and_grad(x, y)
    expected, expected_grad = fused_ssim.array.value_and_grad(np.ascontiguousarray(x), np.ascontiguousarray(y))
    assert abs(value - expected) < VALUE[torch.float32]
    assert grad.flags.c_contiguous
    assert relative_error(tensor(grad), tensor(expected_grad)) < GRADIENT[torch.float32]


def test_numpy_read_only_arrays_are_read() -> None:
    x, y = arrays((1, 2, 20, 21))
    expected = fused_ssim.array.value(x, y)
    x.flags.writeable = y.flags.writeable = False
    assert fused_ssim.array.value(x, y) == expected


class OnlyDLPack:
    """An array of a library that nobody knows, on the CPU."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **arguments: Any) -> Any:
        return self._array.__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


def test_unknown_library_is_read_through_dlpack() -> None:
    x, y = arrays((1, 2, 20, 21))
    value, grad = fused_ssim.array.value_and_grad(OnlyDLPack(x), OnlyDLPack(y))
    assert value == fused_ssim.array.value(x, y)
    assert isinstance(grad, np.ndarray)


def test_unknown_device_is_an_error() -> None:
    class Elsewhere(OnlyDLPack):
        def __dlpack_device__(self) -> tuple[int, int]:
            return 8, 0  # Metal

    x, y = arrays((1, 1, 16, 16))
    with pytest.raises(ValueError, match="img1 is on a device of DLPack type 8; expected the CPU"):
        fused_ssim.array.value(Elsewhere(x), Elsewhere(y))


X, Y = arrays((1, 1, 16, 16))


def unaligned(array: np.ndarray) -> np.ndarray:
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


@pytest.mark.parametrize(
    ("x", "y", "settings", "error", "words"),
    [
        ([[0.5]], Y, {}, TypeError, "img1 is of type builtins.list; expected an array"),
        (torch.ones(1, 1, 16, 16), Y, {}, TypeError, "img1 is a tensor of torch; use the functions of fused_ssim"),
        (X.astype(np.int32), Y, {}, TypeError, r"img1.dtype = int32; expected float32.*data_range"),
        (X, Y.astype(np.float64), {}, TypeError, "img1.dtype = float32 but img2.dtype = float64"),
        (X.astype(">f4"), Y, {}, TypeError, r"img1.dtype = >f4 has its bytes .*img1.astype\(.float32.\)"),
        (X.astype(np.complex64), Y, {}, TypeError, r"img1.dtype = complex64.*numpy.abs\(img1\)"),
        (unaligned(X), Y, {}, ValueError, r"img1 is not aligned.*img1.copy\(\)"),
        (X[0], Y, {}, ValueError, r"img1.shape = \(1, 16, 16\) has 3 axes; expected 4"),
        (X, Y[:, :, :-1], {}, ValueError, r"img1.shape = \(1, 1, 16, 16\) but img2.shape = \(1, 1, 15, 16\)"),
        (X[:, :, :7], Y[:, :, :7], {"padding": "valid"}, ValueError, r"img1.shape\[2\] = 7 < window"),
        (X, Y, {"window_size": 8}, ValueError, "window_size = 8"),
        (X, Y, {"padding": "mirror"}, ValueError, 'padding = \'mirror\'; expected one of "same", "valid"'),
        (X, Y, {"reduction": "median"}, ValueError, "reduction = 'median'"),
    ],
)  # fmt: skip
def test_bad_argument_is_named(x: Any, y: Any, settings: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fused_ssim.array.value(x, y, **settings)


def test_bad_argnums_is_named() -> None:
    with pytest.raises(ValueError, match="argnums = 2; expected 0 for img1"):
        fused_ssim.array.value_and_grad(X, Y, argnums=2)


def test_strides_within_an_element_are_an_error() -> None:
    packed = np.zeros((1, 1, 16, 16), dtype=[("pixel", np.float32), ("flag", np.uint8)])
    with pytest.raises(ValueError, match=r"img1.strides = .* multiples of an element's 4.*ascontiguousarray"):
        fused_ssim.array.value(packed["pixel"], packed["pixel"])


@pytest.mark.parametrize("arguments", [{}, {"lambda_dssim": 0.3}, {"weights": (0.4, 0.6)}], ids=list)
@pytest.mark.parametrize("arithmetic", ["float64", None])
@pytest.mark.parametrize("shape", [(2, 3, 61, 90), (1, 1, 30, 33, 40)], ids=readable)
def test_gradient_by_integers_is_that_by_their_numbers(
    shape: tuple[int, ...], arithmetic: str | None, arguments: dict[str, Any]
) -> None:
    """``compat.skimage`` has one; public functions refuse it."""
    random = np.random.default_rng(0)
    x, y = (random.integers(0, 256, shape).astype(np.uint8) for _ in range(2))
    settings = checked_settings(arithmetic=arithmetic, data_range=255.0, **arguments)
    found = Call(x, y, settings, GRAD_1 | GRAD_2, by_integers=True).value_and_grad()
    floats = (image.astype(arithmetic or "float32") for image in (x, y))
    for ours, expected in zip(found, Call(*floats, settings, GRAD_1 | GRAD_2).value_and_grad(), strict=True):
        assert ours.dtype == expected.dtype
        assert np.array_equal(ours, expected)


def test_array_needs_no_torch() -> None:
    program = """
import sys
sys.modules["torch"] = None  # to import it now is an ImportError
import numpy
import fused_ssim.array
x = numpy.linspace(0, 1, 2 * 16 * 18, dtype=numpy.float32).reshape(1, 2, 16, 18)
value, grad = fused_ssim.array.value_and_grad(x, x)
assert value == 1 and not grad.any()
assert fused_ssim.info().torch_version == "", fused_ssim.info()
print(fused_ssim.__version__)
"""
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == fused_ssim.__version__


def test_array_does_not_import_torch_but_the_package_finds_it() -> None:
    program = """
import sys
import fused_ssim.array
assert "torch" not in sys.modules
import fused_ssim
assert set(fused_ssim.__all__) <= set(dir(fused_ssim))
for name in fused_ssim.__all__:
    getattr(fused_ssim, name)
assert "torch" in sys.modules
from fused_ssim import fused_ssim as function
assert callable(function)
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)


# ---- Other libraries -------------------------------------------------------------------------------------------------


def check_library(asarray: Callable[[np.ndarray], Any], asnumpy: Callable[[Any], np.ndarray], kind: type) -> None:
    """Value, map and gradients of arrays of a library, which come back as arrays of that library."""
    for shape in SHAPES:
        x, y = arrays(shape, seed=len(shape))
        value, grads = fused_ssim.array.value_and_grad(asarray(x), asarray(y), argnums=(0, 1))
        here = fused_ssim.array.map(asarray(x), asarray(y), "valid")
        assert isinstance(value, kind)
        assert isinstance(here, kind)
        expected, *expected_grads = oracle.ssim_and_grads(torch.from_numpy(x), torch.from_numpy(y))
        assert abs(float(asnumpy(value)) - float(expected)) < VALUE[torch.float32]
        for grad, expected_grad in zip(grads, expected_grads, strict=True):
            assert isinstance(grad, kind)
            assert relative_error(tensor(asnumpy(grad)), expected_grad) < GRADIENT[torch.float32]
        there = oracle.ssim_map(torch.from_numpy(x).double(), torch.from_numpy(y).double(), "valid")
        assert absolute_error(tensor(asnumpy(here)), there) < MAP[torch.float32]


def test_jax_on_the_cpu() -> None:
    jax = pytest.importorskip("jax")
    cpu = jax.devices("cpu")[0]
    check_library(lambda array: jax.device_put(array, cpu), np.asarray, jax.Array)


@pytest.mark.cuda
def test_jax_on_the_gpu() -> None:
    jax = pytest.importorskip("jax")
    devices = [device for device in jax.devices() if device.platform == "gpu"]
    if not devices:
        pytest.skip("this JAX has no GPU")
    check_library(lambda array: jax.device_put(array, devices[0]), np.asarray, jax.Array)


def test_jax_bfloat16_and_tracers() -> None:
    jax = pytest.importorskip("jax")
    x, y = (jax.numpy.asarray(array).astype(jax.numpy.bfloat16) for array in arrays((1, 2, 20, 21)))
    value, grad = fused_ssim.array.value_and_grad(x, y, reduction="sum")
    exact = [tensor(array.astype(jax.numpy.float32)) for array in (x, y)]
    expected, expected_grad, _ = oracle.ssim_and_grads(*exact, reduction="sum")
    assert grad.dtype == jax.numpy.bfloat16
    assert abs(float(value) - float(expected)) / x.size < mean_tolerance(torch.bfloat16, x.size)
    assert (
        relative_error(tensor(grad.astype(jax.numpy.float32)), expected_grad) < GRADIENT[torch.float32] + BFLOAT16_EPS
    )
    with pytest.raises(TypeError, match="img1 is traced by JAX"):
        jax.jit(fused_ssim.array.value)(x, y)
    with pytest.raises(TypeError, match="expected arrays of one library"):
        fused_ssim.array.value(x, X)


@pytest.mark.cuda
def test_cupy() -> None:
    cupy = pytest.importorskip("cupy")
    check_library(cupy.asarray, cupy.asnumpy, cupy.ndarray)


@pytest.mark.cuda
def test_cupy_works_in_the_order_of_its_current_stream() -> None:
    cupy = pytest.importorskip("cupy")
    x, y = arrays((1, 3, 512, 512))
    expected = fused_ssim.array.value(x, y)
    device_x, device_y = cupy.asarray(x), cupy.asarray(y)
    late = cupy.empty_like(device_x)
    burn = cupy.ones((4096, 4096), dtype=cupy.float32)
    # Once before: loading and compiling kernels would take longer than the work that is waited for.
    late[...] = device_x + (burn @ burn * 0)[0, 0]
    fused_ssim.array.value(late, device_y)
    late[...] = 0
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        for _ in range(20):  # milliseconds of work, behind which the image is written on this stream alone
            burn = burn @ burn * 0
        late[...] = device_x + burn[0, 0]
        value = fused_ssim.array.value(late, device_y)
        assert not stream.done  # the call has not waited
    stream.synchronize()
    assert abs(float(value) - float(expected)) < 2 * VALUE[torch.float32]  # CPU and GPU, each within VALUE


@pytest.mark.cuda
def test_cupy_strides_are_read_in_place() -> None:
    cupy = pytest.importorskip("cupy")
    x, y = (cupy.asarray(array)[:, :, ::2, ::-1] for array in arrays((2, 3, 40, 44)))
    expected = fused_ssim.array.value(cupy.asnumpy(x), cupy.asnumpy(y))
    assert abs(float(fused_ssim.array.value(x, y)) - float(expected)) < 2 * VALUE[torch.float32]


class OnlyCudaArrayInterface:
    """An array of a library that nobody knows, on a CUDA device."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__


@pytest.mark.cuda
def test_unknown_library_on_cuda_gives_cupy_arrays() -> None:
    cupy = pytest.importorskip("cupy")
    x, y = (cupy.asarray(array) for array in arrays((1, 2, 20, 21)))
    value, grad = fused_ssim.array.value_and_grad(OnlyCudaArrayInterface(x), OnlyCudaArrayInterface(y))
    assert isinstance(grad, cupy.ndarray)
    assert float(value) == float(fused_ssim.array.value(x, y))


@pytest.mark.cuda
def test_numba_on_its_stream() -> None:
    cuda = pytest.importorskip("numba.cuda")
    x, y = arrays((1, 3, 64, 61))
    expected, expected_grad, _ = oracle.ssim_and_grads(torch.from_numpy(x), torch.from_numpy(y))
    stream = cuda.stream()
    device_x, device_y = (cuda.to_device(array, stream=stream) for array in (x, y))
    value, grad = fused_ssim.array.value_and_grad(device_x, device_y)
    stream.synchronize()
    assert abs(float(value.copy_to_host()) - float(expected)) < VALUE[torch.float32]
    assert relative_error(tensor(grad.copy_to_host()), expected_grad) < GRADIENT[torch.float32]
