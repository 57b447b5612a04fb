# SPDX-License-Identifier: MIT
"""Window, sigma, constants, data range and reductions against the oracle."""

from __future__ import annotations

import oracle
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from tolerances import FLOAT32_EPS, GRADIENT, MAP, VALUE

import fused_ssim

WINDOWS = [
    (3, 0.8),
    (3, 1.5),
    (5, 1.0),
    (7, 1.5),
    (7, 3.0),
    (9, 1.0),
    (9, 2.5),
    (11, 0.7),
    (11, 1.5),
    (11, 100.0),
    (13, 2.0),
    (21, 3.5),
    (33, 1.5),
    (33, 6.0),
]
REDUCTIONS = ["mean", "sum", "image", "channel", "none"]


def ssim_of(shape):
    return fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim


def value_and_grads(shape, x, y, *args, upstream=None, **settings):
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = ssim_of(shape)(x, y, *args, **settings)
    value.backward(torch.ones_like(value) if upstream is None else upstream.to(value))
    return value, x.grad, y.grad


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("window_size", "sigma"), WINDOWS, ids=lambda v: str(v))
@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=readable)
def test_value_and_gradients_match_oracle_for_window(device, dtype, dims, window_size, sigma, padding):
    shape = (2, 2, 35, 47) if dims == 2 else (1, 2, window_size + 3, window_size, window_size + 2)
    x, y = pair(shape, dtype, device)
    window = {"window_size": window_size, "sigma": sigma}
    expected, expected_x, expected_y = oracle.ssim_and_grads(x, y, padding, **window)
    value, grad_x, grad_y = value_and_grads(shape, x, y, padding, **window)
    # float32 taps are moved by up to an ulp of the largest so that their sum is 1: of the small taps of a narrow window
    # this is more than a rounding.
    moved = 1e-6 if dtype == torch.float32 and sigma < 1 else 0.0
    assert absolute_error(value, expected) <= VALUE[dtype]
    assert relative_error(grad_x, expected_x) <= GRADIENT[dtype] + moved
    assert relative_error(grad_y, expected_y) <= GRADIENT[dtype] + moved


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", [(2, 2, 13, 17), (1, 2, 5, 6, 7)], ids=readable)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=readable)
def test_value_and_gradients_match_oracle_for_window_of_one_tap(device, dtype, shape, padding):
    # Without a neighbourhood all variances are 0 and SSIM is the luminance term. Terms of the gradient that are
    # |d| / C2 large cancel (the derivative by mean and by variance), so a relative error of 1 / C2 roundings remains.
    x, y = pair(shape, dtype, device)
    expected, expected_x, expected_y = oracle.ssim_and_grads(x, y, padding, window_size=1)
    value, grad_x, grad_y = value_and_grads(shape, x, y, padding, window_size=1)
    rounding = FLOAT32_EPS if dtype == torch.float32 else 2.0**-53
    tolerance = 4 * rounding * float((x - y).abs().max()) / 0.03**2
    scale = float(expected_x.abs().max()) * x.numel()
    assert absolute_error(value, expected) <= tolerance
    assert relative_error(grad_x, expected_x) <= tolerance / min(scale, 1)
    assert relative_error(grad_y, expected_y) <= tolerance / min(scale, 1)


@pytest.mark.parametrize("shape", [(1, 2, 29, 31), (1, 1, 13, 14, 15)], ids=readable)
@pytest.mark.parametrize("K", [(0.01, 0.03), (0.05, 0.2), (0.0, 0.03), (0.3, 0.01)], ids=str)
def test_value_and_gradients_match_oracle_for_constants(device, shape, K):
    x, y = pair(shape, device=device)
    expected, expected_x, _ = oracle.ssim_and_grads(x, y, K=K)
    value, grad, _ = value_and_grads(shape, x, y, K=K)
    assert absolute_error(value, expected) <= VALUE[torch.float32]
    assert relative_error(grad, expected_x) <= GRADIENT[torch.float32]


@pytest.mark.parametrize("shape", [(1, 2, 29, 31), (1, 1, 13, 14, 15)], ids=readable)
@pytest.mark.parametrize("data_range", [1e-3, 2.0, 255.0, 65535.0], ids=str)
def test_value_and_gradients_match_oracle_for_data_range(device, shape, data_range):
    x, y = (image * data_range for image in pair(shape, device=device))
    expected, expected_x, _ = oracle.ssim_and_grads(x, y, data_range=data_range)
    value, grad, _ = value_and_grads(shape, x, y, data_range=data_range)
    assert absolute_error(value, expected) <= VALUE[torch.float32]
    assert relative_error(grad, expected_x) <= GRADIENT[torch.float32]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=readable)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(3, 2, 23, 37), (2, 3, 12, 13, 18)], ids=readable)
def test_value_and_gradients_match_oracle_for_reduction(device, shape, reduction, padding, dtype):
    x, y = pair(shape, dtype, device)
    expected = oracle.ssim(x, y, padding, reduction=reduction)
    generator = torch.Generator().manual_seed(1)
    # Powers of two of either sign, large enough for float16.
    exponent = torch.randint(8, 11, expected.shape, generator=generator)
    upstream = 2.0**exponent * (2.0 * torch.randint(0, 2, expected.shape, generator=generator) - 1)
    expected, expected_x, expected_y = oracle.ssim_and_grads(x, y, padding, reduction=reduction, upstream=upstream)
    value, grad_x, grad_y = value_and_grads(shape, x, y, padding, reduction=reduction, upstream=upstream)
    assert value.shape == expected.shape
    assert relative_error(value, expected) <= (MAP if reduction == "none" else VALUE)[dtype]
    assert relative_error(grad_x, expected_x) <= GRADIENT[dtype]
    assert relative_error(grad_y, expected_y) <= GRADIENT[dtype]


@pytest.mark.parametrize("value", [torch.tensor(2.0), 2, torch.tensor([2.0], dtype=torch.float64)[0]], ids=repr)
def test_settings_accept_numbers_of_other_types(value):
    x, y = pair((1, 1, 20, 20))
    expected = fused_ssim.fused_ssim(x, y, data_range=2.0, sigma=2.0)
    assert torch.equal(fused_ssim.fused_ssim(x, y, data_range=value, sigma=value), expected)


def test_settings_follow_a_tensor_that_changes():
    x, y = pair((1, 1, 20, 20))
    data_range = torch.tensor(1.0)
    first = fused_ssim.fused_ssim(x, y, data_range=data_range)
    data_range.fill_(3.0)
    assert torch.equal(fused_ssim.fused_ssim(x, y, data_range=data_range), fused_ssim.fused_ssim(x, y, data_range=3.0))
    assert torch.equal(first, fused_ssim.fused_ssim(x, y))


def test_constants_accept_a_list():
    x, y = pair((1, 1, 20, 20))
    assert torch.equal(fused_ssim.fused_ssim(x, y, K=[0.02, 0.05]), fused_ssim.fused_ssim(x, y, K=(0.02, 0.05)))


def test_tiny_sigma_is_a_window_of_one_tap(device):
    x, y = pair((1, 2, 17, 19), device=device)
    value = fused_ssim.fused_ssim(x, y, sigma=1e-200)
    assert float(value) == pytest.approx(float(fused_ssim.fused_ssim(x, y, window_size=1)), abs=1e-6)
