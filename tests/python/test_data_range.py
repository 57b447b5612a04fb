# SPDX-License-Identifier: MIT
"""A data range as a tensor, one number or one for each image, which changes from call to call."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import oracle
import pytest
import torch
import torch.distributed as dist
from images import FLOAT_DTYPES, absolute_error, pair, readable, relative_error
from tolerances import GRADIENT, GRADIENT_SCALED, SECOND_DERIVATIVE, VALUE

import fused_ssim

SHAPES = [(3, 2, 27, 31), (3, 2, 12, 13, 14)]
RANGES = (0.5, 1.0, 30.0)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)


def ranges_of(dtype: torch.dtype = torch.float32, device: str = "cpu") -> torch.Tensor:
    return torch.tensor(RANGES, dtype=dtype, device=device)


def ssim_of(shape: tuple[int, ...]) -> Any:
    return fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim


def each_with_its_range(
    x: torch.Tensor, y: torch.Tensor, padding: str, **settings: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """The oracle's value of each image and the gradient of their sum."""
    found = [
        oracle.objective_and_grads(x[i : i + 1], y[i : i + 1], padding, data_range=RANGES[i], **settings)[:2]
        for i in range(len(RANGES))
    ]
    return torch.stack([value for value, _ in found]), torch.cat([grad for _, grad in found])


# ---- Values and gradients --------------------------------------------------------------------------------------------


@shapes
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=readable)
def test_each_image_has_its_range(device, dtype, shape, padding):
    x, y = pair(shape, dtype, device)
    expected, expected_grad = each_with_its_range(x, y, padding)
    x.requires_grad_()
    value = ssim_of(shape)(x, y, padding, data_range=ranges_of(device=device), reduction="image")
    (1024 * value).sum().backward()  # a loss scale, for float16
    assert absolute_error(value, expected) <= VALUE[dtype] if dtype == torch.float64 else 6e-7
    assert relative_error(x.grad, 1024 * expected_grad) <= GRADIENT_SCALED[dtype]


@shapes
@pytest.mark.parametrize("reduction", ["mean", "sum", "channel", "none"])
def test_every_reduction_and_objective_takes_ranges(device, shape, reduction):
    x, y = pair(shape, torch.float64, device)
    mask = (torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.3).to(device)
    ranges = ranges_of(torch.float64, device)
    function = ssim_of(shape)
    calls = {
        "ssim": lambda a, b, _m, r: function(a, b, data_range=r, reduction=reduction),
        "masked": lambda a, b, m, r: function(a, b, data_range=r, reduction=reduction, mask=m),
        "normalized": lambda a, b, m, r: function(
            a, b, data_range=r, reduction=reduction, mask=m, mask_mode="normalized"
        ),
        "loss": lambda a, b, _m, r: fused_ssim.photometric_loss(a, b, data_range=r, reduction=reduction),
        "loss-class": lambda a, b, m, r: fused_ssim.SSIMLoss(data_range=r, reduction=reduction)(a, b, m),
    }
    if reduction != "none":
        calls["ms"] = lambda a, b, _m, r: fused_ssim.MSSSIMLoss(
            "same", data_range=r, weights=(0.4, 0.6), reduction=reduction
        )(a, b)
    for name, call in calls.items():
        a = x.clone().requires_grad_()
        value = call(a, y, mask, ranges)
        value.square().sum().backward()
        b = x.clone().requires_grad_()
        parts = [call(b[i : i + 1], y[i : i + 1], mask[i : i + 1], RANGES[i]) for i in range(3)]
        if reduction == "mean":
            shares = (
                mask.flatten(1).double().mean(1) / mask.double().mean() / 3
                if name in ("masked", "normalized", "loss-class")
                else [1 / 3] * 3
            )
            expected = sum(part * share for part, share in zip(parts, shares, strict=True))
        else:
            expected = sum(parts) if reduction == "sum" else torch.cat(parts)
        expected.square().sum().backward()
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12, msg=name)
        assert relative_error(a.grad, b.grad.cpu()) <= 1e-12, name


@shapes
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=readable)
def test_one_range_as_a_tensor_is_that_of_a_number(device, shape, dtype):
    x, y = pair(shape, dtype, device)
    for number in (1.0, 2.0, 0.75, 255.0):
        expected, expected_grad = fused_ssim.value_and_grad(x, y, data_range=number, reduction="image")
        for data_range in (
            torch.tensor(number, dtype=torch.float64),  # on the CPU, also for images on a GPU
            torch.tensor([number], device=device),
            torch.full((3,), number, device=device),
            torch.full((6,), number, device=device)[::2],
        ):
            value, grad = fused_ssim.value_and_grad(x, y, data_range=data_range, reduction="image")
            assert absolute_error(value, expected.cpu().double()) <= 1.2e-7
            assert relative_error(grad, expected_grad.cpu().double()) <= GRADIENT[dtype]
    assert fused_ssim.ssim(255 * x.float(), 255 * y.float(), torch.tensor(255), win_size=5).shape == ()


def test_ranges_that_are_integers_are_converted(device):
    x, y = pair(SHAPES[0], device=device)
    ranges = torch.tensor([1, 2, 255], device=device)
    assert torch.equal(
        fused_ssim.ssim_map(x, y, data_range=ranges), fused_ssim.ssim_map(x, y, data_range=ranges.float())
    )


def test_float16_gradients_survive_large_ranges(device):
    # The size of the gradient is not known when forward runs, so it is not stored in 16 bits.
    x, y = (255 * image for image in pair((2, 1, 200, 210), device=device))
    x, y = x.half(), y.half()
    _, expected, _ = oracle.ssim_and_grads(x, y, data_range=255)
    x.requires_grad_()
    (2.0**24 * fused_ssim.fused_ssim(x, y, data_range=torch.full((2,), 255.0, device=device))).backward()
    assert relative_error(x.grad, 2.0**24 * expected) <= GRADIENT[torch.float16]


# ---- Other ways through torch ----------------------------------------------------------------------------------------


def test_second_derivatives_forward_mode_and_func_take_ranges(device):
    x, y = pair((3, 1, 13, 14), torch.float64, device)
    ranges = ranges_of(torch.float64, device)

    def with_tensor(image: torch.Tensor) -> torch.Tensor:
        return fused_ssim.fused_ssim(image, y, data_range=ranges, reduction="image")

    def with_numbers(image: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [
                fused_ssim.fused_ssim(image[i : i + 1], y[i : i + 1], data_range=RANGES[i], reduction="image")
                for i in range(3)
            ]
        )

    def second(function: Any) -> torch.Tensor:
        image = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(function(image).square().sum(), image, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), image)[0]

    assert relative_error(second(with_tensor), second(with_numbers).cpu()) <= SECOND_DERIVATIVE[torch.float64]
    for function in (
        lambda f: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1],
        lambda f: torch.func.grad(lambda image: f(image).sum())(x),
        lambda f: torch.func.vmap(f)(torch.stack([x, 0.9 * x])),
        lambda f: torch.func.vmap(torch.func.grad(lambda image: f(image).sum()))(torch.stack([x, 0.9 * x])),
    ):
        torch.testing.assert_close(function(with_tensor), function(with_numbers), rtol=1e-10, atol=1e-12)

    def one(image: torch.Tensor, data_range: torch.Tensor) -> torch.Tensor:
        return fused_ssim.fused_ssim(image, y, data_range=data_range)

    many = torch.func.vmap(one)(torch.stack([x, 0.9 * x, 0.8 * x]), ranges)
    expected = [one(image, number) for image, number in zip((x, 0.9 * x, 0.8 * x), RANGES, strict=True)]
    torch.testing.assert_close(many, torch.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["tensor", "tensor-of-each", "float"])
def test_range_that_changes_each_step_compiles_once(device, kind):
    x, y = pair((2, 1, 20, 21), device=device)
    graphs = 0

    def counting(graph: Any, _inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return graph.forward

    def step(image: torch.Tensor, data_range: Any) -> torch.Tensor:
        return fused_ssim.photometric_loss(image, y, data_range=data_range)

    torch._dynamo.reset()
    compiled = torch.compile(step, backend=counting, fullgraph=True)
    for number in range(1, 13):
        data_range: Any = float(number) + 0.25
        if kind == "tensor":
            data_range = torch.tensor(data_range, device=device)
        elif kind == "tensor-of-each":
            data_range = torch.full((2,), data_range, device=device)
        image, same = x.clone().requires_grad_(), x.clone().requires_grad_()
        value, expected = compiled(image, data_range), step(same, float(number) + 0.25)
        value.backward()
        expected.backward()
        assert absolute_error(value, expected.detach().cpu().double()) <= 1.2e-7
        assert relative_error(image.grad, same.grad.cpu().double()) <= GRADIENT[torch.float32]
    assert graphs <= (1 if kind != "float" else 2)
    torch._dynamo.reset()


@pytest.mark.cuda
def test_ranges_are_not_waited_for():
    x, y = pair(SHAPES[0], device="cuda")
    ranges = ranges_of(device="cuda")
    x.requires_grad_()
    fused_ssim.fused_ssim(x, y, data_range=ranges).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        fused_ssim.fused_ssim(x, y, data_range=2 * ranges).backward()
        fused_ssim.MSSSIMLoss("same", data_range=ranges)(x, y).backward()
        fused_ssim.ssim_map(x, y, data_range=ranges.max())
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_range_that_is_not_positive_gives_nan_on_cuda():
    x, y = pair(SHAPES[0], device="cuda")
    for bad in (0.0, -1.0, float("nan")):
        value = fused_ssim.fused_ssim(x, y, data_range=torch.tensor([1.0, bad, 2.0], device="cuda"), reduction="image")
        assert value.isnan().tolist() == [False, True, False]


# ---- Metrics, arrays, processes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SSIMMetric", "MSSSIMMetric"])
def test_metrics_take_ranges(device, name):
    torchmetrics = pytest.importorskip("torchmetrics")
    make = getattr(fused_ssim.metrics, name)
    x, y = pair((3, 2, 27, 31), device=device)
    values = make("same", "none", data_range=ranges_of(device=device)).to(device)
    values.update(x, y)
    for i in range(3):
        one = make("same", data_range=RANGES[i]).to(device)
        one.update(x[i : i + 1], y[i : i + 1])
        assert absolute_error(values.compute()[i], one.compute().cpu().double()) <= 1.2e-7
    assert torch.equal(copy.deepcopy(values).compute(), values.compute())
    near = [make(data_range=torch.tensor(number)) for number in (1.0, 1.00001, 1.0)]
    assert near[0]._suffix == near[2]._suffix != near[1]._suffix
    assert isinstance(near[0], torchmetrics.Metric)


def test_arrays_take_ranges():
    x, y = (image.numpy() for image in pair((3, 2, 27, 31)))
    expected = np.array([fused_ssim.array.value(x[i : i + 1], y[i : i + 1], data_range=RANGES[i]) for i in range(3)])
    for ranges in (np.array(RANGES), np.array(RANGES, dtype=">f4"), np.array([*RANGES, *RANGES])[:3]):
        value, grad = fused_ssim.array.value_and_grad(x, y, data_range=ranges, reduction="image")
        np.testing.assert_allclose(value, expected, rtol=0, atol=1.2e-7)
        assert grad.shape == x.shape
    for one in (np.array(2.0), np.array(2), np.float64(2.0), np.int64(2)):
        value = fused_ssim.array.value(x, y, data_range=one)
        np.testing.assert_allclose(value, fused_ssim.array.value(x, y, data_range=2.0), rtol=0, atol=1.2e-7)
    with pytest.raises(ValueError, match=r"data_range.shape = \(2,\) for images of \(3, 2, 27, 31\); .*\[3\]"):
        fused_ssim.array.map(x, y, data_range=np.ones(2))
    with pytest.raises(ValueError, match=r"data_range\[1\] = 0, expected a positive number"):
        fused_ssim.array.map(x, y, data_range=np.array([1, 0, 1.0]))


def in_every_process(device: str) -> None:
    from fused_ssim.distributed import sharded_photometric_loss, sharded_ssim

    rank = dist.get_rank()
    x, y = pair((2, 2, 30, 31), torch.float64, device)
    ranges = ranges_of(torch.float64, device)[:2]
    slab = slice(0, 14) if rank == 0 else slice(14, None)
    value = sharded_ssim(x[:, :, slab], y[:, :, slab], 2, data_range=ranges)
    torch.testing.assert_close(value, fused_ssim.fused_ssim(x, y, data_range=ranges), rtol=1e-12, atol=1e-12)
    mine = slice(rank, rank + 1)
    for padding in ("same", "valid"):
        value = sharded_photometric_loss(x[mine], y[mine], dim=0, data_range=ranges[mine], padding=padding)
        expected = fused_ssim.photometric_loss(x, y, data_range=ranges, padding=padding)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="whether data_range is a tensor differs"):
        sharded_ssim(x, y, 2, data_range=ranges if rank else 1.0)
    with pytest.raises(ValueError, match=r"data_range.shape = \(3,\)" if rank else "rank 1"):
        sharded_ssim(x, y, 2, data_range=ranges_of() if rank else ranges)


def test_processes_take_ranges(two_processes):
    two_processes.run(in_every_process)


# ---- Errors ----------------------------------------------------------------------------------------------------------

X = torch.rand(3, 2, 12, 12)
BAD: dict[str, tuple[torch.Tensor, type[Exception], str]] = {
    "shape": (torch.ones(2), ValueError, "data_range.shape = (2,) for images of (3, 2, 12, 12)"),
    "axes": (torch.ones(3, 1), ValueError, "data_range.shape = (3, 1)"),
    "gradient": (torch.ones(3, requires_grad=True), ValueError, "data_range.requires_grad = True"),
    "complex": (torch.ones(3, dtype=torch.complex64), TypeError, "data_range.dtype = torch.complex64"),
    "bool": (torch.ones(3, dtype=torch.bool), TypeError, "data_range.dtype = torch.bool"),
    "device": (torch.ones(3, device="meta"), ValueError, "data_range.device = meta"),
    "zero": (torch.tensor([1.0, 0.0, 1.0]), ValueError, "data_range[1] = 0, expected a positive number"),
    "nan": (torch.tensor(float("nan")), ValueError, "data_range = nan"),
    "infinite": (torch.tensor([1.0, 1.0, float("inf")]), ValueError, "data_range[2] = inf"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_ranges_are_an_error_that_says_what_is_wrong(name):
    data_range, exception, text = BAD[name]
    for call in (fused_ssim.fused_ssim, fused_ssim.value_and_grad, fused_ssim.photometric_loss):
        with pytest.raises(exception, match=re.escape(text)):
            call(X, X, data_range=data_range)
