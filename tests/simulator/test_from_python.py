# SPDX-License-Identifier: MIT
"""The CUDA backend from Python, on the simulated device, whose memory is that of the host: NumPy's arrays serve it.

Run with the device as the driver: LD_LIBRARY_PATH=<its folder> pytest tests/simulator/test_from_python.py. On Windows
the variable FUSEDSSIM_SIMULATOR names the folder.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import fused_ssim
import fused_ssim.array
from fused_ssim.array import _libraries

if "FUSEDSSIM_SIMULATOR" in os.environ:
    os.add_dll_directory(os.environ["FUSEDSSIM_SIMULATOR"])  # type: ignore[attr-defined, unused-ignore]

SHAPES = [(1, 1, 11, 13), (2, 3, 37, 70), (1, 2, 12, 13, 15), (1, 1, 9, 40, 33)]
CASES = {
    "same": {},
    "valid": {"padding": "valid", "window_size": 7, "sigma": 1.2},
    "reflect": {"padding": "reflect", "window_size": 9, "sigma": 1.5},
    "image": {"reduction": "image"},
    "map": {"reduction": "none"},
}
# Bounds of the largest difference of values, which may be close to 0, and of gradients relative to the largest element.
TOLERANCE = {"float32": (2e-6, 2e-6), "float64": (1e-13, 1e-13), "float16": (2e-6, 2e-3)}


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's arrays count as memory of the device."""
    memory = _libraries.NumPy.memory
    monkeypatch.setattr(
        _libraries.NumPy,
        "memory",
        lambda self, name, array: memory(self, name, array)._replace(device=_libraries.Device("cuda", 0)),
    )


def test_driver_is_the_simulated_one() -> None:
    info = fused_ssim.info()
    assert not info.cuda_problem
    (device,) = info.devices
    assert (device.name, device.compute_capability, device.usable) == ("simulated", 90, True)


def value_and_grad(img1: np.ndarray, img2: np.ndarray, **arguments: object) -> tuple[np.ndarray, np.ndarray]:
    return fused_ssim.array.value_and_grad(img1, img2, data_range=1.0, **arguments)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_cuda_agrees_with_the_cpu(
    shape: tuple[int, ...], case: str, dtype: str, request: pytest.FixtureRequest
) -> None:
    random = np.random.default_rng(sum(shape))
    img1, img2 = (random.random(shape).astype(dtype) for _ in range(2))
    expected = value_and_grad(img1, img2, **CASES[case])
    request.getfixturevalue("on_cuda")
    found = value_and_grad(img1, img2, **CASES[case])
    scales = 1.0, np.abs(np.asarray(expected[1], "f8")).max()
    for ours, theirs, bound, scale in zip(found, expected, TOLERANCE[dtype], scales, strict=True):
        assert np.shape(ours) == np.shape(theirs)
        assert np.abs(np.asarray(ours, "f8") - np.asarray(theirs, "f8")).max() <= bound * scale


@pytest.mark.usefixtures("on_cuda")
def test_identical_images_have_the_value_one_and_no_gradient() -> None:
    image = np.random.default_rng(1).random((1, 3, 20, 30)).astype("f4")
    value, grad = value_and_grad(image, image)
    assert value == 1
    assert not grad.any()
