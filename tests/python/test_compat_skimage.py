# SPDX-License-Identifier: MIT
"""`fused_ssim.compat.skimage` is `skimage.metrics.structural_similarity`, over the space of its arguments."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from tolerances import COMPAT, COMPAT_FLOAT32, COMPAT_FLOAT32_GRADIENT, COMPAT_FLOAT32_VALUE

from fused_ssim.compat.skimage import structural_similarity

scikit = pytest.importorskip("skimage.metrics")

DTYPES = [np.float64, np.float64, np.uint8, np.uint16, np.int8, np.int16, np.uint32, np.bool_, np.float32, np.float16]


def images(random: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    x = random.random(shape)
    y = 0.7 * x + 0.3 * random.random(shape)
    if np.issubdtype(dtype, np.floating):
        return x.astype(dtype), y.astype(dtype)
    if dtype == np.bool_:
        return x > 0.5, y > 0.5
    limits = np.iinfo(dtype)
    scale, least = min(float(limits.max), 60000.0), -50 if limits.min < 0 else 0
    return (x * scale + least).astype(dtype), (y * scale + least).astype(dtype)


def a_call(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Images and arguments, some of them bad."""
    dims = random.choice([2, 2, 3])
    shape = list(random.integers(12, 26, dims))
    channel = random.choice([None, 0, -1, 1])
    if channel is not None:
        shape.insert(channel if channel >= 0 else dims, random.integers(1, 4))
    x, y = images(random, tuple(shape), random.choice(DTYPES))
    if random.random() < 0.1:
        y = y.astype(random.choice([np.float64, np.uint16]))
    if random.random() < 0.3:
        x, y = x[::-1, ..., ::2][..., ::-1], y[::-1, ..., ::2][..., ::-1]
    arguments: dict[str, Any] = {
        "gradient": bool(random.random() < 0.5),
        "full": bool(random.random() < 0.5),
        "channel_axis": None if channel is None else int(channel),
        "gaussian_weights": bool(random.random() < 0.5),
    }
    if "f" in (x.dtype.kind, y.dtype.kind) or random.random() < 0.3:
        arguments["data_range"] = [1, 1.0, 255, 300.5][random.integers(4)]
    if random.random() < 0.5:
        arguments["win_size"] = int(random.choice([1, 3, 5, 7, 8, 9, 11, 13]))
    others = {"K1": 0.02, "K2": 0.1, "use_sample_covariance": False, "sigma": float(random.choice([0.1, 0.5, 1, 2]))}
    arguments.update({name: value for name, value in others.items() if random.random() < 0.4})
    return x, y, arguments


def result(function: Any, x: np.ndarray, y: np.ndarray, arguments: dict[str, Any]) -> Any:
    """What the function gives, as a tuple; or None for an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = function(x, y, **arguments)
        except (ValueError, ZeroDivisionError):
            return None
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("seed", range(120))
def test_value_map_and_gradient_agree(seed: int) -> None:
    x, y, arguments = a_call(np.random.default_rng(seed))
    theirs, ours = (result(f, x, y, arguments) for f in (scikit.structural_similarity, structural_similarity))
    if theirs is None or ours is None:
        assert theirs is ours, arguments
        return
    is_double = x.dtype not in (np.float32, np.float16)
    kinds = ["value", *["gradient"] * arguments["gradient"], *["map"] * arguments["full"]]
    for kind, there, here in zip(kinds, theirs, ours, strict=True):
        assert np.shape(here) == np.shape(there)
        assert np.asarray(here).dtype == np.asarray(there).dtype
        error = np.abs(np.asarray(here, np.float64) - np.asarray(there, np.float64)).max()
        if kind == "gradient":
            error /= np.abs(there).max() or 1.0
        single = {"value": COMPAT_FLOAT32_VALUE, "gradient": COMPAT_FLOAT32_GRADIENT, "map": COMPAT_FLOAT32}
        assert error <= (COMPAT if is_double else single[kind]), (kind, arguments)


def test_signature_is_theirs() -> None:
    def described(function: Any) -> list[Any]:
        return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]

    assert described(structural_similarity) == described(scikit.structural_similarity)


def test_window_larger_than_the_image_is_continued_more_than_once() -> None:
    x, y = images(np.random.default_rng(0), (9, 5), np.float64)
    arguments = {"gaussian_weights": True, "sigma": 2.0, "win_size": 5, "data_range": 1, "full": True, "gradient": True}
    for there, here in zip(
        scikit.structural_similarity(x, y, **arguments), structural_similarity(x, y, **arguments), strict=True
    ):
        assert np.abs(here - there).max() <= COMPAT


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize(
    ("shape", "channel"), [((3, 83, 531), 0), ((83, 531, 3), -1), ((41, 67, 150), None), ((23, 40, 66, 2), 3)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_images_of_several_tiles_agree(dtype: Any, shape: tuple[int, ...], channel: int | None, weights: bool) -> None:
    x, y = images(np.random.default_rng(3), shape, dtype)
    arguments: dict[str, Any] = {"channel_axis": channel, "data_range": 1 if dtype == np.float64 else 255}
    arguments |= {"gaussian_weights": weights, "full": True, "gradient": True}
    theirs, ours = (f(x, y, **arguments) for f in (scikit.structural_similarity, structural_similarity))
    for there, here in zip(theirs, ours, strict=True):
        assert np.abs(here - there).max() <= COMPAT * np.abs(there).max()
    del arguments["full"], arguments["gradient"]
    assert abs(structural_similarity(x, y, **arguments) - theirs[0]) <= COMPAT


@pytest.mark.parametrize("sample", [True, False])
def test_gradient_of_population_covariance_is_the_derivative(sample: bool) -> None:
    """With sample covariance it is not, in scikit-image: the test holds down which of the two ours is."""
    x, y = images(np.random.default_rng(1), (14, 15), np.float64)
    arguments: dict[str, Any] = {"win_size": 5, "data_range": 1, "use_sample_covariance": sample}
    _, gradient = structural_similarity(x, y, gradient=True, **arguments)
    step = np.zeros_like(y)
    step[4, 6] = 1e-5
    above, below = (structural_similarity(x, y + each, full=True, **arguments)[1].mean() for each in (step, -step))
    derivative = (above - below) / 2e-5
    assert (abs(derivative - gradient[4, 6]) < 1e-8 * abs(gradient).max()) is not sample


def test_warnings_are_those_of_guessed_ranges() -> None:
    x, y = images(np.random.default_rng(2), (12, 12), np.uint16)
    with pytest.warns(UserWarning, match="data_range is that of uint16, 65535"):
        structural_similarity(x, y)
    with pytest.warns(UserWarning, match=r"im1.dtype = uint8 but im2.dtype = uint16"):
        structural_similarity(x.astype(np.uint8), y)


X = np.zeros((12, 13))


@pytest.mark.parametrize(
    ("im1", "im2", "arguments", "error", "words"),
    [
        (X.tolist(), X, {}, TypeError, "im1 is of type list"),
        (X, np.ma.masked_array(X), {}, TypeError, "im2 is a masked array.*fused_ssim.array.value"),
        (X + 1j, X, {}, TypeError, "im1.dtype = complex128"),
        (X, X[:-1], {}, ValueError, r"im1.shape = \(12, 13\) but im2.shape = \(11, 13\)"),
        (X[0], X[0], {}, ValueError, "1 spatial axes; expected 2 or 3"),
        (X, X, {}, ValueError, "data_range is missing"),
        (X[..., None][..., :0], X[..., None][..., :0], {"channel_axis": 2}, ValueError, r"im1.shape\[2\] = 0"),
        (X, X, {"data_range": 1, "win_size": 13}, ValueError, r"im1.shape\[0\] = 12 < win_size = 13"),
        (X, X, {"data_range": 1, "win_size": 4}, ValueError, "win_size = 4; expected an odd number"),
        (X, X, {"data_range": 1, "win_size": 35}, ValueError, "win_size = 35; expected at most 33"),
        (X, X, {"data_range": 1, "win_size": 1}, ValueError, "use_sample_covariance = True with a window of one"),
        (X, X, {"data_range": 1, "gaussian_weights": True, "sigma": 5}, ValueError, "sigma = 5.0.*at most 33 taps"),
        (X, X, {"data_range": 1, "sigma": -1}, ValueError, "sigma = -1.0"),
        (X, X, {"data_range": 1, "K1": -1}, ValueError, "K1 = -1.0"),
        (X, X, {"data_range": 1, "multichannel": True}, TypeError, "multichannel is not an argument"),
        (X, X, {"data_range": 1, "channel_axis": 2}, ValueError, "channel_axis = 2 for an array of 2 axes"),
        (X, X, {"data_range": "1"}, TypeError, "data_range = '1'"),
    ],
)
def test_bad_argument_is_named(im1: Any, im2: Any, arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        structural_similarity(im1, im2, **arguments)


def test_module_needs_no_torch() -> None:
    program = """
import sys
sys.modules["torch"] = None  # to import it now is an ImportError
import numpy
from fused_ssim.compat.skimage import structural_similarity
x = numpy.arange(20 * 21 * 3, dtype=numpy.uint8).reshape(20, 21, 3)
assert structural_similarity(x, x, channel_axis=-1) == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True)
