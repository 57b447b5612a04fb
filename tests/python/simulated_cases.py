# SPDX-License-Identifier: MIT
"""Calls with tensors of a device that only torch knows. test_any_device.py runs this file in a process of its own."""

from __future__ import annotations

import oracle
import pytest
import simulated_device
import torch
from images import absolute_error, pair, readable, relative_error
from simulated_device import to_cpu, to_device
from tolerances import FLOAT16_EPS, VALUE

import fused_ssim

SHAPES = [(2, 3, 17, 24), (1, 2, 12, 13, 15)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)

CASES = {
    "same": {},
    "valid": {"padding": "valid"},
    "sum": {"reduction": "sum"},
    "image": {"reduction": "image"},
    "channel": {"reduction": "channel"},
    "map": {"reduction": "none"},
    "window": {"window_size": 7, "sigma": 2.0},
    "constants": {"data_range": 2.0, "K": (0.02, 0.05)},
    "loss": {"lambda_dssim": 0.2},
    "masked": {"mask": "float"},
    "normalized": {"mask": "bool", "mask_mode": "normalized", "reduction": "image"},
    "masked-loss": {"mask": "float", "mask_mode": "normalized", "lambda_dssim": 0.2, "padding": "valid"},
}


def mask_of(kind, shape):
    mask = torch.rand(shape[0], 1, *shape[2:], generator=torch.Generator().manual_seed(3)) + 0.1
    return mask > 0.4 if kind == "bool" else mask


@shapes
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_match_oracle(shape, name):
    settings = dict(CASES[name])
    x, y = pair(shape)
    on_device = dict(settings)
    if "mask" in settings:
        settings["mask"] = mask_of(settings["mask"], shape)
        on_device["mask"] = to_device(settings["mask"])
    expected, *expected_grads = oracle.objective_and_grads(x, y, **settings)
    a, b = to_device(x).requires_grad_(), to_device(y).requires_grad_()
    simulated_device.ran.clear()
    if "lambda_dssim" in settings:
        value = fused_ssim.photometric_loss(a, b, **on_device)
    else:
        ssim = fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim
        value = ssim(a, b, **on_device)
    value.sum().backward()
    assert value.device.type == a.grad.device.type == "sim"
    assert simulated_device.ran["addcmul"] > 4
    scale = float(expected.abs().max())
    assert absolute_error(to_cpu(value), expected) <= (1e-5 if name == "map" else 1e-6) * max(scale, 1)
    for image, grad in zip((a, b), expected_grads, strict=True):
        assert relative_error(to_cpu(image.grad), grad) <= 1e-5


@shapes
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=readable)
def test_half_images_are_computed_in_float32(shape, dtype):
    x, y = pair(shape, dtype)
    expected, expected_x, _ = oracle.ssim_and_grads(x, y, reduction="sum")
    a, b = to_device(x).requires_grad_(), to_device(y)
    value = fused_ssim.ssim_map(a, b).sum()
    value.backward()
    assert value.dtype == torch.float32
    assert a.grad.dtype == dtype
    assert abs(float(value) - float(expected)) <= 1e-6 * float(expected)
    assert relative_error(to_cpu(a.grad), expected_x) <= 1e-5 + (FLOAT16_EPS if dtype == torch.float16 else 2.0**-8)


def test_data_range_may_be_a_tensor_of_either_device():
    x, y = pair((3, 2, 15, 16))
    for data_range in (torch.tensor([1.0, 2.0, 3.0]), torch.tensor(2.0, dtype=torch.float64)):
        expected = fused_ssim.fused_ssim(x, y, data_range=data_range, reduction="image")
        on_device = to_device(data_range) if data_range.dim() else data_range
        value = fused_ssim.fused_ssim(to_device(x), to_device(y), data_range=on_device, reduction="image")
        torch.testing.assert_close(to_cpu(value), expected, rtol=1e-6, atol=1e-6)


def test_data_range_that_is_not_positive_makes_its_image_nan():
    x, y = pair((2, 1, 15, 16))
    ranges = to_device(torch.tensor([1.0, 0.0]))
    value = to_cpu(fused_ssim.fused_ssim(to_device(x), to_device(y), data_range=ranges, reduction="image"))
    assert value.isnan().tolist() == [False, True]


def test_weights_that_are_not_positive_count_as_zero():
    x, y = pair((1, 1, 15, 16))
    mask = torch.ones(15, 16)
    mask[:, 3], mask[2] = -1.0, float("nan")
    value = fused_ssim.fused_ssim(to_device(x), to_device(y), mask=to_device(mask))
    torch.testing.assert_close(to_cpu(value), fused_ssim.fused_ssim(x, y, mask=mask == 1))


@shapes
def test_ms_ssim_and_value_and_grad_match_the_native_library(shape):
    x, y = pair((*shape[:2], *(size + 10 for size in shape[2:])))
    a = to_device(x).requires_grad_()
    loss = fused_ssim.MSSSIMLoss("same", weights=(0.3, 0.3, 0.4))
    loss(a, to_device(y)).backward()
    reference = x.clone().requires_grad_()
    loss(reference, y).backward()
    assert relative_error(to_cpu(a.grad), reference.grad.double()) <= 1e-5
    value, grads = fused_ssim.value_and_grad(to_device(x), to_device(y), argnums=(0, 1))
    expected, expected_grads = fused_ssim.value_and_grad(x, y, argnums=(0, 1))
    torch.testing.assert_close(to_cpu(value), expected, rtol=0, atol=VALUE[torch.float32])
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert relative_error(to_cpu(grad), expected_grad.double()) <= 1e-5


def test_second_derivative_is_there():
    x, y = pair((1, 1, 12, 13))

    def second(image, other):
        image.requires_grad_()
        (grad,) = torch.autograd.grad(fused_ssim.fused_ssim(image, other), image, create_graph=True)
        return torch.autograd.grad((grad * grad).sum(), image)[0]

    assert relative_error(to_cpu(second(to_device(x), to_device(y))), second(x.double(), y.double())) <= 1e-4


def test_backward_without_training_is_an_error():
    x, y = pair((1, 1, 12, 13))
    value = fused_ssim.fused_ssim(to_device(x).requires_grad_(), to_device(y), train=False)
    with pytest.raises(RuntimeError, match="train=False"):
        value.backward()


def test_native_backend_is_a_not_implemented_error_there():
    x, y = pair((1, 1, 12, 13))
    for exception in (ValueError, NotImplementedError):
        with fused_ssim.backend("native"), pytest.raises(exception, match=r'img1.device = sim:0, .*"native"; .*"auto"'):
            fused_ssim.fused_ssim(to_device(x), to_device(y))


def test_images_on_different_devices_are_an_error():
    x, y = pair((1, 1, 12, 13))
    with pytest.raises(ValueError, match=r"img1.device = sim:0 but img2.device = cpu"):
        fused_ssim.fused_ssim(to_device(x), y)


def test_info_says_what_computes_there():
    routes = {route.device: route for route in fused_ssim.info().routes}
    assert routes["cpu"].backend == "native"
    assert routes["sim"].backend == routes["other"].backend == "torch"
    assert "no code" in routes["sim"].reason
    with fused_ssim.backend("native"):
        assert "error" in {route.device: route for route in fused_ssim.info().routes}["sim"].reason
