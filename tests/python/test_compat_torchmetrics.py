# SPDX-License-Identifier: MIT
"""`fused_ssim.compat.torchmetrics` has the functions and the metrics of torchmetrics."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from tolerances import COMPAT, COMPAT_FLOAT32, COMPAT_FLOAT32_VALUE

from fused_ssim.compat import torchmetrics as ours

functions = pytest.importorskip("torchmetrics.functional.image")
metrics = pytest.importorskip("torchmetrics.image")

NAMES = ("structural_similarity_index_measure", "multiscale_structural_similarity_index_measure")
CLASSES = ("StructuralSimilarityIndexMeasure", "MultiScaleStructuralSimilarityIndexMeasure")


def described(function: Any) -> list[Any]:
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", [*NAMES, *CLASSES])
def test_signature_is_theirs(name: str) -> None:
    there = getattr(functions if name in NAMES else metrics, name)
    assert described(getattr(ours, name)) == described(there)


def check(here: Any, there: Any, tolerance: float = COMPAT) -> None:
    for a, b in zip(*(each if isinstance(each, tuple) else (each,) for each in (here, there)), strict=True):
        assert absolute_error(a, b.detach().double()) <= tolerance


@pytest.mark.parametrize("seed", range(40))
def test_ssim_agrees(seed: int) -> None:
    random = np.random.default_rng(seed)
    dims = 2 + int(random.random() < 0.3)
    x, y = pair((int(random.integers(1, 3)), int(random.integers(1, 3)), *random.integers(14, 20, dims)), torch.float64)
    sigmas = [1.5, 0.8, 1, 2.1] + [[1.5, 0.7, 1.1][:dims], (2.0, 1.0, 0.5)[:dims]] * (seed % 3 == 0)
    sizes = [11, 7, 3] + [[5, 3, 9][:dims], (3, 7, 11)[:dims]] * (seed % 3 == 1)
    arguments = {
        "gaussian_kernel": bool(random.random() < 0.6),
        "sigma": sigmas[random.integers(len(sigmas))],
        "kernel_size": sizes[random.integers(len(sizes))],
        "reduction": random.choice(["elementwise_mean", "sum", "none", None]),
        "data_range": [None, 1.0, 2, (0.1, 0.8)][random.integers(4)],
        "k1": float(random.choice([0.01, 0.05])),
        "k2": float(random.choice([0.03, 0.1])),
        **[{}, {"return_full_image": True}, {"return_contrast_sensitivity": True}][random.integers(3)],
    }
    check(
        ours.structural_similarity_index_measure(x, y, **arguments),
        functions.structural_similarity_index_measure(x, y, **arguments),
    )


@pytest.mark.parametrize("normalize", ["relu", "simple", None])
@pytest.mark.parametrize("data_range", [None, 1.0, (0.1, 0.8)], ids=str)
@pytest.mark.parametrize("shape", [(2, 2, 45, 49), (1, 1, 22, 27, 23)], ids=readable)
def test_ms_ssim_agrees(shape: tuple[int, ...], data_range: Any, normalize: Any) -> None:
    x, y = pair(shape, torch.float64)
    for window in ({}, {"gaussian_kernel": False, "kernel_size": 5}, {"sigma": 0.9, "kernel_size": 7}):
        arguments = {
            "data_range": data_range,
            "normalize": normalize,
            "betas": (0.3, 0.2, 0.5)[: 7 - len(shape)],
            **window,
        }
        for reduction in ("elementwise_mean", "none"):
            check(
                ours.multiscale_structural_similarity_index_measure(x, y, reduction=reduction, **arguments),
                functions.multiscale_structural_similarity_index_measure(x, y, reduction=reduction, **arguments),
            )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data_range", [None, 1.0, (0.1, 0.8)], ids=str)
def test_gradients_agree(name: str, data_range: Any) -> None:
    arguments = {"betas": (0.4, 0.6)} if name.startswith("multi") else {}
    found = []
    for module in (ours, functions):
        x, y = (image.requires_grad_() for image in pair((1, 2, 26, 25), torch.float64))
        getattr(module, name)(x, y, data_range=data_range, **arguments).backward()
        found.append((x.grad, y.grad))
    for here, there in zip(*found, strict=True):
        assert relative_error(here, there) <= COMPAT


@pytest.mark.parametrize("reduction", ["elementwise_mean", "sum", "none", None])
@pytest.mark.parametrize("extra", [{}, {"return_full_image": True}, {"return_contrast_sensitivity": True}], ids=str)
def test_metric_agrees(reduction: Any, extra: dict[str, bool]) -> None:
    mine, theirs = (
        module.StructuralSimilarityIndexMeasure(reduction=reduction, data_range=1.0, **extra)
        for module in (ours, metrics)
    )
    for _ in range(2):
        for seed, count in enumerate((1, 3)):
            x, y = pair((count, 1, 20, 23), seed=seed)
            check(mine(x, y), theirs(x, y), COMPAT_FLOAT32)
        check(mine.compute(), theirs.compute(), COMPAT_FLOAT32)
        mine.reset()
        theirs.reset()


def test_ms_metric_agrees_and_keeps_float64() -> None:
    mine, theirs = (
        module.MultiScaleStructuralSimilarityIndexMeasure(data_range=1.0, betas=(0.5, 0.5))
        for module in (ours, metrics)
    )
    x, y = pair((3, 1, 30, 27), torch.float64)
    mine.update(x, y)
    theirs.update(x, y)
    assert mine.compute().dtype == torch.float64
    check(mine.compute(), theirs.compute(), COMPAT_FLOAT32_VALUE)  # their sum is float32
    mine.reset()
    mine.update(x.float(), y.float())
    assert mine.compute().dtype == torch.float32


def test_metrics_are_collected() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    collection = torchmetrics.MetricCollection({"a": ours.StructuralSimilarityIndexMeasure(data_range=1.0)})
    x, y = pair((2, 1, 20, 20))
    collection.update(x, y)
    check(
        collection.compute()["a"],
        functions.structural_similarity_index_measure(x, y, data_range=1.0),
        COMPAT_FLOAT32_VALUE,
    )


X = torch.rand(1, 1, 16, 16)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"target": X[:, :, 1:]}, ValueError, r"preds.shape = \(1, 1, 16, 16\) but target.shape"),
        ({"preds": X[0], "target": X[0]}, ValueError, "preds.shape = .* has 3 axes"),
        ({"preds": X.numpy()}, TypeError, "preds is of type ndarray"),
        ({"preds": X.to(torch.complex64)}, TypeError, "preds.dtype = torch.complex64"),
        ({"sigma": -1}, ValueError, "sigma = -1"),
        ({"sigma": (1.5, 1.5, 1.5)}, ValueError, r"sigma = \(1.5, 1.5, 1.5\); expected one for each of 2"),
        ({"kernel_size": 4, "gaussian_kernel": False}, ValueError, "kernel_size = 4; expected an odd number"),
        ({"reduction": "median"}, ValueError, "reduction = 'median'"),
        ({"data_range": (1.0, 0.0)}, ValueError, "data_range = "),
        ({"return_full_image": True, "return_contrast_sensitivity": True}, ValueError, "return_full_image and"),
    ],
)
def test_bad_argument_is_named(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ours.structural_similarity_index_measure(**{"preds": X, "target": X, "data_range": 1.0, **arguments})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"betas": [0.5, 0.5]}, "betas = "),
        ({"normalize": "other"}, "normalize = 'other'"),
        ({"betas": (0.5, 0.5)}, r"preds.shape\[2\] = 16; expected at least"),
    ],
)
def test_bad_argument_of_ms_ssim_is_named(arguments: dict[str, Any], words: str) -> None:
    small = {"kernel_size": 17} if arguments == {"betas": (0.5, 0.5)} else {}
    with pytest.raises(ValueError, match=words):
        ours.multiscale_structural_similarity_index_measure(X, X, **arguments, **small)


def test_metrics_need_no_torchmetrics() -> None:
    program = """
import sys
sys.modules["torchmetrics"] = None  # to import it now is an ImportError
import torch
from fused_ssim.compat import torchmetrics
x, y = torch.rand(2, 5, 1, 20, 20, generator=torch.Generator().manual_seed(0))
for reduction in ("elementwise_mean", "sum", "none"):
    function = lambda a, b: torchmetrics.structural_similarity_index_measure(a, b, reduction=reduction, data_range=1.0)
    metric = torchmetrics.StructuralSimilarityIndexMeasure(reduction=reduction, data_range=1.0)
    a = x[:2].clone().requires_grad_()
    value = metric(a, y[:2])
    torch.testing.assert_close(value, function(a, y[:2]))
    value.sum().backward()
    metric.update(x[2:], y[2:])
    torch.testing.assert_close(metric.compute(), function(x, y))
    metric.double().reset()
    metric.update(x, y)
    torch.testing.assert_close(metric.compute(), function(x, y))
metric = torchmetrics.StructuralSimilarityIndexMeasure(return_full_image=True)
assert metric(x, y)[1].shape == x.shape
for wrong in (lambda: torchmetrics.StructuralSimilarityIndexMeasure(sync_on_compute=True), metric.plot):
    try:
        wrong()
    except (TypeError, ImportError) as error:
        assert "needs torchmetrics" in str(error)
    else:
        raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program], check=True)
