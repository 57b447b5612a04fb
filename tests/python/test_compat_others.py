# SPDX-License-Identifier: MIT
"""`fused_ssim.compat.monai`, `.kornia` and `.piq` have the functions and the classes of those packages."""

from __future__ import annotations

import importlib
import inspect
import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from packages import import_piq
from tolerances import COMPAT, COMPAT_FLOAT32, KORNIA, MONAI_UNIFORM

from fused_ssim import compat

SHAPES = [(2, 3, 23, 19), (1, 2, 13, 14, 15)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)


def described(function: Any) -> list[Any]:
    """Names and defaults; enumerations of words as words."""
    parameters = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, getattr(each.default, "value", each.default)) for each in parameters]


def test_modules_are_there_without_their_packages() -> None:
    program = """
import sys
for name in ("torchmetrics", "monai", "kornia", "piq", "skimage", "pytorch_msssim"):
    sys.modules[name] = None  # to import it now is an ImportError
import fused_ssim
for name in fused_ssim.compat.__all__:
    module = getattr(fused_ssim.compat, name)
    assert module.__all__ and all(hasattr(module, each) for each in module.__all__), name
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# ---- MONAI -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def monai() -> Any:
    regression = pytest.importorskip("monai.metrics.regression")
    losses = importlib.import_module("monai.losses.ssim_loss")
    return type("monai", (), {"SSIMMetric": regression.SSIMMetric, "SSIMLoss": losses.SSIMLoss})


@pytest.mark.parametrize("name", ["SSIMLoss", "SSIMMetric"])
def test_signature_is_that_of_monai(monai: Any, name: str) -> None:
    assert described(getattr(compat.monai, name)) == described(getattr(monai, name))


def monai_arguments(seed: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    random = np.random.default_rng(seed)
    dims = 2 + seed % 2
    return SHAPES[dims - 2], {
        "spatial_dims": dims,
        "data_range": float(random.choice([1.0, 2.5])),
        "kernel_type": str(random.choice(["gaussian", "uniform"])),
        "win_size": [11, 5, [7, 3, 5][:dims]][random.integers(3)],
        "kernel_sigma": [1.5, 0.7, [0.8, 1.5, 2.0][:dims]][random.integers(3)],
        "k1": float(random.choice([0.01, 0.05])),
        "k2": float(random.choice([0.03, 0.1])),
    }


@pytest.mark.parametrize("seed", range(24))
def test_monai_agrees(monai: Any, seed: int) -> None:
    shape, arguments = monai_arguments(seed)
    x, y = pair(shape, seed=seed)
    tolerance = KORNIA if arguments["kernel_type"] == "gaussian" else MONAI_UNIFORM
    for reduction in ("none", "mean", "sum"):
        here, there = (module.SSIMLoss(**arguments, reduction=reduction)(x, y) for module in (compat.monai, monai))
        assert absolute_error(here, there.double()) <= 2 * tolerance
    mine, theirs = (module.SSIMMetric(**arguments) for module in (compat.monai, monai))
    for images in ((x, y), (y, x), (list(x), list(y))):
        assert absolute_error(mine(*images), theirs(*images).double()) <= tolerance
    for reduction in ("mean", "sum", "none", "mean_batch", "sum_batch", "mean_channel", "sum_channel"):
        here, there = (each.aggregate(reduction) for each in (mine, theirs))
        assert absolute_error(here, there.double()) <= 10 * tolerance


@shapes
def test_monai_loss_is_the_definition_in_float64(shape: tuple[int, ...]) -> None:
    x, y = pair(shape, torch.float64)
    x.requires_grad_()
    loss = compat.monai.SSIMLoss(len(shape) - 2, reduction="none")(x, y)
    assert loss.shape == (len(x), 1)
    expected, expected_grad, _ = oracle.ssim_and_grads(x.detach(), y, "valid")
    assert absolute_error(1 - loss.mean(), expected) <= COMPAT
    loss.mean().backward()
    assert relative_error(-x.grad, expected_grad) <= COMPAT


def test_monai_metric_needs_no_monai(monai: Any) -> None:
    class Alone(compat.monai._SingleProcessMetric):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)

        def _compute_metric(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return compat.monai.SSIMMetric(2)._compute_metric(y_pred, y)

    x, y = pair((3, 1, 20, 21))
    x[1] = torch.nan
    for reduction, counts in itertools.product(
        ("mean", "sum", "none", "mean_batch", "sum_batch", "mean_channel", "sum_channel"), (False, True)
    ):
        mine, theirs = (
            Alone(reduction=reduction, get_not_nans=counts),
            monai.SSIMMetric(2, reduction=reduction, get_not_nans=counts),
        )
        mine(x[:2], y[:2])
        mine([x[2]], [y[2]])
        theirs(x, y)
        here, there = mine.aggregate(), theirs.aggregate()
        for a, b in zip(*(each if counts else (each,) for each in (here, there)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
    mine.reset()
    with pytest.raises(ValueError, match="has seen no images"):
        mine.aggregate()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"spatial_dims": 1}, "spatial_dims = 1"),
        ({"kernel_type": "box"}, "kernel_type = 'box'"),
        ({"win_size": 4}, "win_size = 4; expected an odd number"),
        ({"win_size": (3, 3, 3)}, "expected one for each of 2 spatial axes"),
        ({"kernel_sigma": 0}, "kernel_sigma = 0"),
        ({"reduction": "median"}, "reduction = 'median'"),
    ],
)
def test_bad_argument_for_monai_is_named(arguments: dict[str, Any], words: str) -> None:
    for name in ("SSIMLoss", "SSIMMetric"):
        with pytest.raises(ValueError, match=words):
            getattr(compat.monai, name)(**{"spatial_dims": 2, **arguments})


# ---- kornia ----------------------------------------------------------------------------------------------------------

FUNCTIONS = {"ssim": "metrics", "ssim3d": "metrics", "ssim_loss": "losses", "ssim3d_loss": "losses"}
CLASSES = {"SSIM": "metrics", "SSIM3D": "metrics", "SSIMLoss": "losses", "SSIM3DLoss": "losses"}


@pytest.fixture(scope="module")
def kornia() -> Any:
    return pytest.importorskip("kornia")


def of_kornia(kornia: Any, name: str) -> Any:
    return getattr(getattr(kornia, {**FUNCTIONS, **CLASSES}[name]), name)


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_signature_is_that_of_kornia(kornia: Any, name: str) -> None:
    assert described(getattr(compat.kornia, name)) == described(of_kornia(kornia, name))


@pytest.mark.parametrize("padding", ["same", "valid", "VALID"])
@pytest.mark.parametrize("window_size", [11, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.uint8], ids=readable)
@shapes
def test_kornia_agrees(kornia: Any, shape: tuple[int, ...], dtype: torch.dtype, window_size: int, padding: str) -> None:
    x, y = (image * 255 for image in pair(shape, torch.float64))
    x, y = x.to(dtype), y.to(dtype)
    name = "ssim3d" if len(shape) == 5 else "ssim"
    tolerance = {torch.float64: KORNIA, torch.float16: 1e-3}.get(dtype, 5 * COMPAT_FLOAT32)
    arguments = {"window_size": window_size, "max_val": 255.0, "padding": padding}
    here, there = (f(x, y, **arguments) for f in (getattr(compat.kornia, name), of_kornia(kornia, name)))
    assert here.dtype == there.dtype
    assert absolute_error(here, there.double()) <= tolerance
    for reduction in ("mean", "sum", "none"):
        here, there = (
            f(x, y, **arguments, reduction=reduction)
            for f in (getattr(compat.kornia, f"{name}_loss"), of_kornia(kornia, f"{name}_loss"))
        )
        assert absolute_error(here, there.double()) <= tolerance * max(1.0, float(there.abs().max()))


@pytest.mark.parametrize("name", CLASSES)
def test_modules_agree_with_kornia_with_gradients(kornia: Any, name: str) -> None:
    found = []
    for cls in (getattr(compat.kornia, name), of_kornia(kornia, name)):
        x, y = (image.requires_grad_() for image in pair(SHAPES["3D" in name], torch.float64))
        cls(7, eps=0.0)(x, y).mean().backward()
        found.append((x.grad, y.grad))
    for here, there in zip(*found, strict=True):
        assert relative_error(here, there) <= COMPAT


def test_eps_of_kornia_is_bounded_as_documented(kornia: Any) -> None:
    black = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    assert compat.kornia.ssim(black, black, 11).min() == 1
    assert absolute_error(compat.kornia.ssim(black, black, 11), kornia.metrics.ssim(black, black, 11)) < 1.2e-5
    with pytest.raises(ValueError, match=r"eps = 1e-12 with max_val = 0.1; expected at most"):
        compat.kornia.ssim(black, black, 11, 0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"window_size": 4}, "window_size = 4; expected an odd number"),
        ({"padding": "zeros"}, "padding = 'zeros'"),
        ({"max_val": 0.0}, "max_val = 0.0"),
        ({"window_size": 33, "padding": "valid"}, r"img1.shape\[2\] = 16 < window 33"),
    ],
)
def test_bad_argument_for_kornia_is_named(arguments: dict[str, Any], words: str) -> None:
    x = torch.rand(1, 1, 16, 16)
    with pytest.raises(ValueError, match=words):
        compat.kornia.ssim(x, x, **{"window_size": 11, **arguments})


# ---- piq -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def piq(monkeypatch: pytest.MonkeyPatch) -> Any:
    return import_piq(monkeypatch)


@pytest.mark.parametrize("name", ["ssim", "multi_scale_ssim", "SSIMLoss", "MultiScaleSSIMLoss"])
def test_signature_is_that_of_piq(piq: Any, name: str) -> None:
    assert described(getattr(compat.piq, name)) == described(getattr(piq, name))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(2, 3, 33, 29), (1, 1, 385, 421)], ids=readable)
def test_piq_ssim_agrees(piq: Any, shape: tuple[int, ...], reduction: str) -> None:
    x, y = pair(shape, torch.float64)
    for full, downsample in itertools.product((False, True), repeat=2):
        arguments = {"kernel_size": 9, "kernel_sigma": 1.1, "data_range": 2, "k1": 0.02, "k2": 0.05, "full": full}
        here, there = (
            f(x, y, **arguments, reduction=reduction, downsample=downsample) for f in (compat.piq.ssim, piq.ssim)
        )
        assert isinstance(here, list) is full
        for a, b in zip(*((each if full else [each]) for each in (here, there)), strict=True):
            assert absolute_error(a, b) <= COMPAT
    here, there = (module.SSIMLoss(reduction=reduction)(x, y) for module in (compat.piq, piq))
    assert absolute_error(here, there) <= COMPAT


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(2, 2, 44, 49), (1, 2, 51, 42)], ids=readable)
def test_piq_ms_ssim_agrees(piq: Any, shape: tuple[int, ...], reduction: str) -> None:
    x, y = pair(shape, torch.float64)
    weights = torch.tensor([0.2, 0.5, 0.4], dtype=torch.float64)
    arguments = {"scale_weights": weights, "reduction": reduction, "data_range": 1.5}
    here, there = (f(x, y, **arguments) for f in (compat.piq.multi_scale_ssim, piq.multi_scale_ssim))
    assert absolute_error(here, there) <= COMPAT
    for options in ({"kernel_size": 3}, {"kernel_size": 3, "scale_weights": weights}):
        here, there = (module.MultiScaleSSIMLoss(**options, reduction=reduction)(x, y) for module in (compat.piq, piq))
        assert absolute_error(here, there) <= COMPAT
    here, there = (
        f(x, y, kernel_size=3, reduction=reduction) for f in (compat.piq.multi_scale_ssim, piq.multi_scale_ssim)
    )
    assert absolute_error(here, there) <= COMPAT


def test_piq_gradients_agree(piq: Any) -> None:
    found = []
    for module in (compat.piq, piq):
        x, y = (image.requires_grad_() for image in pair((1, 2, 51, 42), torch.float64))
        value, contrast = module.ssim(x, y, full=True)
        (value + 2 * contrast + module.multi_scale_ssim(x, y, kernel_size=3)).backward()
        found.append((x.grad, y.grad))
    for here, there in zip(*found, strict=True):
        assert relative_error(here, there) <= COMPAT


@pytest.mark.parametrize(
    ("shape", "arguments", "words"),
    [
        ((1, 1, 16, 16), {"kernel_size": 4}, "kernel_size = 4; expected an odd number"),
        ((1, 1, 16, 16, 2), {}, "complex images are not supported"),
        ((1, 1, 16, 9), {}, r"x.shape\[3\] = 9 < window 11"),
        ((1, 1, 16, 16), {"reduction": "median"}, "reduction = 'median'"),
        ((1, 1, 16, 16), {"kernel_sigma": -1}, "kernel_sigma = -1"),
    ],
)
def test_bad_argument_for_piq_is_named(shape: tuple[int, ...], arguments: dict[str, Any], words: str) -> None:
    x = torch.rand(shape)
    with pytest.raises(ValueError, match=words):
        compat.piq.ssim(x, x, **arguments)


def test_small_image_for_scales_of_piq_is_named() -> None:
    x = torch.rand(1, 1, 100, 200)
    with pytest.raises(ValueError, match=r"x.shape\[2\] = 100; expected at least 161"):
        compat.piq.multi_scale_ssim(x, x)


# ---- Transformations of torch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: compat.torchmetrics.structural_similarity_index_measure(x, y, data_range=1.0),
        lambda x, y: compat.monai.SSIMLoss(2)(x, y),
        lambda x, y: compat.kornia.ssim_loss(x, y, 11),
        lambda x, y: compat.piq.ssim(x, y),
    ],
    ids=["torchmetrics", "monai", "kornia", "piq"],
)
def test_functions_are_compiled_and_transformed(function: Any) -> None:
    x, y = pair((1, 1, 20, 21), torch.float64)
    leaf = x.clone().requires_grad_()
    expected = function(leaf, y)
    expected.backward()
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, y), expected.detach())
    torch.testing.assert_close(torch.func.grad(lambda image: function(image, y))(x), leaf.grad)
