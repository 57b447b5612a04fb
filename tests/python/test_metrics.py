# SPDX-License-Identifier: MIT
"""Metrics for torchmetrics agree with evaluating all images at once, streamed and over processes."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from images import absolute_error, pair, readable
from tolerances import VALUE

import fused_ssim

pytest.importorskip("torchmetrics")
metrics = pytest.importorskip("fused_ssim.metrics")

SHAPES = [(7, 3, 24, 31), (5, 1, 12, 13, 14)]
SETTINGS = {"window_size": 5, "sigma": 1.0, "data_range": 2.0, "K": (0.02, 0.05)}
WEIGHTS = (0.4, 0.6)

shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)


def at_once(name, x, y, mask=None):
    """The value of each image."""
    if name == "SSIMMetric":
        function = fused_ssim.fused_ssim3d if x.dim() == 5 else fused_ssim.fused_ssim
        return function(x, y, "valid", reduction="image", mask=mask, **SETTINGS)
    return 1 - fused_ssim.MSSSIMLoss(reduction="image", weights=WEIGHTS, **SETTINGS)(x, y)


def make(name, **arguments):
    if name == "SSIMMetric":
        return metrics.SSIMMetric("valid", **SETTINGS, **arguments)
    return metrics.MSSSIMMetric(weights=WEIGHTS, **SETTINGS, **arguments)


names = pytest.mark.parametrize("name", ["SSIMMetric", "MSSSIMMetric"])


@shapes
@names
def test_streamed_mean_is_that_of_all_images(device, name, shape):
    x, y = pair(shape, device=device)
    metric = make(name).to(device)
    for batch in (slice(0, 1), slice(1, 4), slice(4, None)):  # a mean of batch means would be wrong
        metric.update(x[batch], y[batch])
    value = metric.compute()
    assert value.shape == ()
    assert absolute_error(value, at_once(name, x, y).mean().cpu().double()) <= VALUE[torch.float32]
    metric.reset()
    metric.update(x[:1], y[:1])
    assert absolute_error(metric.compute(), at_once(name, x[:1], y[:1]).mean().cpu().double()) <= VALUE[torch.float32]


@shapes
@names
def test_list_has_the_value_of_each_image(device, name, shape):
    x, y = pair(shape, device=device)
    metric = make(name, reduction="none").to(device)
    metric.update(x[:3], y[:3])
    metric.update(x[3:], y[3:])
    assert torch.equal(metric.compute(), at_once(name, x, y))


def test_forward_gives_the_value_of_the_batch_and_keeps_the_sum(device):
    x, y = pair(SHAPES[0], device=device)
    metric = make("SSIMMetric").to(device)
    for batch in (slice(0, 2), slice(2, None)):
        value = metric(x[batch], y[batch])
        expected = at_once("SSIMMetric", x[batch], y[batch]).mean()
        assert absolute_error(value, expected.cpu().double()) <= VALUE[torch.float32]
    assert absolute_error(metric.compute(), at_once("SSIMMetric", x, y).mean().cpu().double()) <= VALUE[torch.float32]


def test_masks_and_batches_of_other_sizes_are_taken(device):
    x, y = pair(SHAPES[0], device=device)
    small_x, small_y = pair((2, 3, 12, 13), device=device)
    mask = torch.rand((24, 31), generator=torch.Generator().manual_seed(1)).to(device) > 0.5
    metric = make("SSIMMetric").to(device)
    metric.update(x, y, mask)
    metric.update(small_x, small_y)
    expected = torch.cat([at_once("SSIMMetric", x, y, mask), at_once("SSIMMetric", small_x, small_y)]).mean()
    assert absolute_error(metric.compute(), expected.cpu().double()) <= VALUE[torch.float32]


def test_metric_keeps_no_graph(device):
    x, y = pair(SHAPES[0], device=device)
    x.requires_grad_()
    for reduction in ("mean", "none"):
        metric = make("SSIMMetric", reduction=reduction).to(device)
        metric.update(x, y)
        assert not metric(x, y).requires_grad
        assert not metric.compute().requires_grad


def test_16_bit_images_are_summed_in_float64(device):
    x, y = pair(SHAPES[0], torch.float16, device)
    metric = make("SSIMMetric").to(device)
    for _ in range(3):
        metric.update(x, y)
    assert metric._state("total").dtype == torch.float64
    assert metric.compute().dtype == torch.float32


@names
def test_float64_images_give_a_float64_value(device, name):
    x, y = pair(SHAPES[0], torch.float64, device)
    for reduction in ("mean", "none"):
        metric = make(name, reduction=reduction).to(device)
        metric.update(x.float(), y.float())
        metric.reset()
        assert metric(x, y).dtype == torch.float64
        expected = at_once(name, x, y).cpu()
        assert absolute_error(metric.compute(), expected if reduction == "none" else expected.mean()) <= 1e-12


@pytest.mark.parametrize(
    "convert",
    [
        lambda metric: metric.to(torch.bfloat16),
        lambda metric: metric.half(),
        lambda metric: metric.float(),
        lambda metric: metric.set_dtype(torch.float16),
        lambda metric: torch.nn.ModuleList([metric]).to(torch.bfloat16)[0],
        lambda metric: torch.nn.ModuleList([metric]).bfloat16()[0],
    ],
    ids=["to", "half", "float", "set_dtype", "to-of-a-model", "bfloat16-of-a-model"],
)
def test_sum_stays_float64_whatever_a_model_becomes(device, convert):
    x, _ = pair((30, 1, 12, 12), device=device)
    metric = convert(metrics.SSIMMetric().to(device))
    for _ in range(20):  # 600 images: in bfloat16 the sum stops at 256
        metric.update(x, x)
    metric = convert(metric)
    assert metric.compute() == 1
    metric.reset()
    metric.update(x, x)
    assert metric._state("total").dtype == torch.float64
    other = metrics.SSIMMetric(padding="same")
    metric.persistent(True)
    other.persistent(True)
    convert(other).load_state_dict(metric.state_dict())
    assert other._state("total").dtype == torch.float64
    assert float(other._state("total")) == 30


def test_nan_is_not_hidden(device):
    x, y = pair((2, 1, 24, 31), device=device)
    x[1, 0, 12, 12] = float("nan")
    for name in ("SSIMMetric", "MSSSIMMetric"):
        metric, values = make(name).to(device), make(name, reduction="none").to(device)
        metric.update(x, y)
        values.update(x, y)
        assert metric.compute().isnan()
        assert values.compute().isnan().tolist() == [False, True]


@names
def test_metric_prints_its_settings_and_survives_a_copy(name):
    metric = make(name)
    text = repr(metric)
    assert text.startswith(f"{name}(")
    for key, value in {**SETTINGS, "padding": "valid", "reduction": "mean"}.items():
        assert f"{key}={value!r}" in text
    x, y = pair(SHAPES[0])
    metric.update(x, y)
    for other in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        assert torch.equal(other.compute(), metric.compute())


def test_metrics_work_in_a_collection():
    torchmetrics = pytest.importorskip("torchmetrics")
    x, y = pair(SHAPES[0])
    collection = torchmetrics.MetricCollection({"ssim": make("SSIMMetric"), "ms": make("MSSSIMMetric")})
    collection.update(x, y)
    values = collection.compute()
    assert absolute_error(values["ssim"], at_once("SSIMMetric", x, y).mean().double()) <= VALUE[torch.float32]
    assert absolute_error(values["ms"], at_once("MSSSIMMetric", x, y).mean().double()) <= VALUE[torch.float32]


def test_a_collection_keeps_metrics_apart_that_differ():
    torchmetrics = pytest.importorskip("torchmetrics")
    x, y = pair((2, 3, 24, 31))
    different = {
        "a": metrics.SSIMMetric(),
        "b": metrics.SSIMMetric(data_range=255.0),
        "window": metrics.SSIMMetric(window_size=5),
        "ms": metrics.MSSSIMMetric("same"),
        "ms-weights": metrics.MSSSIMMetric("same", weights=(0.5, 0.5)),
        "list": metrics.SSIMMetric(reduction="none"),
        "list-valid": metrics.SSIMMetric("valid", reduction="none"),
    }
    alone = {name: copy.deepcopy(metric) for name, metric in different.items()}
    same = {"again": metrics.SSIMMetric()}
    collection = torchmetrics.MetricCollection({**different, **same})
    for _ in range(2):
        collection.reset()
        for metric in alone.values():
            metric.reset()
        for a, b in ((x, x), (x, y)):  # the first batch: all values are 1
            collection.update(a, b)
            for metric in alone.values():
                metric.update(a, b)
        values = collection.compute()
        for name, metric in alone.items():
            assert torch.equal(values[name], metric.compute()), name
        assert torch.equal(values["again"], values["a"])
    assert ["a", "again"] in [sorted(group) for group in collection.compute_groups.values()]


def test_bad_settings_are_an_error_at_once():
    for make_one, text in (
        (lambda: metrics.SSIMMetric(window_size=10), "window_size = 10"),
        (lambda: metrics.SSIMMetric(sigma=-1), "sigma = -1"),
        (lambda: metrics.MSSSIMMetric(data_range=0), "data_range = 0"),
        (lambda: metrics.MSSSIMMetric(weights=[]), "weights is empty"),
        (lambda: metrics.MSSSIMMetric(weights=[0.1] * 9), "9 weights; expected at most 8"),
    ):
        with pytest.raises(ValueError, match=text):
            make_one()
    with pytest.raises(ValueError, match='reduction = \'image\'; expected "mean" or "none"'):
        metrics.SSIMMetric(reduction="image")
    with pytest.raises(ValueError, match="padding = 'mirror'"):
        metrics.SSIMMetric("mirror")
    with pytest.raises(ValueError, match=r"preds\.shape = .* but target\.shape = "):
        metrics.SSIMMetric().update(torch.zeros(1, 1, 20, 20), torch.zeros(1, 1, 20, 21))


def synchronised(device):
    x, y = pair(SHAPES[0], device=device)
    mine = slice(0, 5) if dist.get_rank() == 0 else slice(5, None)  # uneven
    for name in ("SSIMMetric", "MSSSIMMetric"):
        metric, values = make(name), make(name, reduction="none")
        for each in (metric, values):
            each.update(x[mine], y[mine])
        expected = at_once(name, x, y)
        assert absolute_error(metric.compute(), expected.mean().double()) <= VALUE[torch.float32]
        assert torch.equal(values.compute(), expected)


def test_two_processes_give_the_metric_of_all_images(two_processes):
    two_processes.run(synchronised)


def test_metrics_without_torchmetrics_name_the_extra():
    code = """
import sys
sys.modules["torchmetrics"] = None
import fused_ssim
try:
    import fused_ssim.metrics
except ImportError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "fused_ssim.metrics needs torchmetrics: pip install 'fused-ssim[metrics]'" in result.stdout
