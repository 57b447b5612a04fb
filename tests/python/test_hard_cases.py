# SPDX-License-Identifier: MIT
"""Accuracy where images nearly agree or hardly vary: what the sum/difference form is for."""

from __future__ import annotations

import oracle
import pytest
import torch
from images import FLOAT_DTYPES, absolute_error, hard_case, pair, readable, relative_norm_error
from tolerances import FLOAT32_EPS, HARD_CASE, HARD_CASE_MARGIN

import fused_ssim


@pytest.mark.parametrize("name", HARD_CASE)
def test_accuracy_is_that_of_the_sum_difference_form_in_hard_case(device, name):
    x, y = hard_case(name, device)
    value_error, map_error, gradient_error = HARD_CASE[name]
    expected, expected_x, expected_y = oracle.ssim_and_grads(x, y)
    expected_map = oracle.ssim(x, y, reduction="none")

    # The window of fused-ssim, that of fused_ssim.fused_ssim, has a sum below 1, which these images show.
    values = fused_ssim.ssim_map(x, y)
    value, (grad_x, grad_y) = fused_ssim.value_and_grad(x, y, argnums=(0, 1))
    # The figures are without the last rounding, of a result near 1 to float32.
    assert absolute_error(value, expected) <= HARD_CASE_MARGIN * value_error + FLOAT32_EPS * float(expected)
    assert absolute_error(values, expected_map) <= HARD_CASE_MARGIN * map_error + FLOAT32_EPS
    if gradient_error is not None:
        assert relative_norm_error(grad_x, expected_x) <= HARD_CASE_MARGIN * gradient_error
        assert relative_norm_error(grad_y, expected_y) <= HARD_CASE_MARGIN * gradient_error


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("name", HARD_CASE)
def test_ssim_never_exceeds_one_in_hard_case(device, name, padding):
    x, y = hard_case(name, device)
    assert float(fused_ssim.fused_ssim(x, y, padding, reduction="none").max()) <= 1.0
    assert float(fused_ssim.fused_ssim(x, y, padding)) <= 1.0


@pytest.mark.parametrize("level", [0.0, 0.25, 0.5, 0.95, 1.0, 255.0])
@pytest.mark.parametrize("noise", [1e-7, 1e-5, 1e-3])
def test_ssim_never_exceeds_one_on_flat_images(device, level, noise):
    generator = torch.Generator().manual_seed(0)
    x = torch.full((1, 2, 40, 70), level)
    y = x + noise * torch.randn(x.shape, generator=generator)
    x, y = x.to(device), y.to(device)
    for first, second in ((x, y), (y, x), (y, 2 * y - x)):
        assert float(fused_ssim.fused_ssim(first, second, reduction="none").max()) <= 1.0
        volume = fused_ssim.fused_ssim3d(first.unsqueeze(1), second.unsqueeze(1), reduction="none")
        assert float(volume.max()) <= 1.0


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_ssim_never_exceeds_one_on_opposite_images(device, scale):
    x = scale * (1 + torch.rand((1, 2, 40, 70), generator=torch.Generator().manual_seed(0))).to(device)
    assert float(fused_ssim.fused_ssim(x, -x, reduction="none").max()) <= 1.0
    assert float(fused_ssim.fused_ssim(x, -x, reduction="none").min()) >= -1.0


# K = 0 is the universal quality index; windows of 7 run in a kernel for 11 taps.
@pytest.mark.parametrize("window_size", [7, 11, 13])
def test_gradient_is_finite_without_stability_constants(device, window_size):
    x, y = pair((1, 1, 40, 41), device=device)
    _, grad = fused_ssim.value_and_grad(x, y, K=(0.0, 0.0), window_size=window_size)
    _, expected, _ = oracle.ssim_and_grads(x, y, K=(0.0, 0.0), window_size=window_size)
    assert relative_norm_error(grad, expected) <= 1e-5  # no C2 bounds 1 / variance


@pytest.mark.parametrize("reduction", ["mean", "image", "channel", "none"])
@pytest.mark.parametrize("padding", ["same", "valid"])
# 49 * (1 / 49.0) is not 1.
@pytest.mark.parametrize("shape", [(2, 3, 31, 47), (1, 1, 14, 14), (1, 2, 13, 17, 19)], ids=readable)
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=readable)
def test_identical_images_give_exactly_one(device, dtype, shape, padding, reduction):
    x, _ = pair(shape, dtype, device)
    ssim = fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim
    for image in (x, 255 * x, torch.zeros_like(x), torch.full_like(x, 0.75)):
        value = ssim(image, image.clone(), padding, reduction=reduction)
        assert torch.equal(value, torch.ones_like(value))


@pytest.mark.parametrize("shape", [(1, 3, 31, 47), (1, 2, 13, 17, 19)], ids=readable)
def test_gradient_of_identical_images_is_zero(device, shape):
    x, _ = pair(shape, device=device)
    _, (grad_x, grad_y) = fused_ssim.value_and_grad(x, x.clone(), argnums=(0, 1))
    # S has its maximum there; only rounding is left.
    _, scale = fused_ssim.value_and_grad(x, pair(shape, device=device, seed=1)[0])
    assert float(grad_x.abs().max()) <= 1e-6 * float(scale.abs().max())
    assert float(grad_y.abs().max()) <= 1e-6 * float(scale.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=readable)
def test_ssim_is_symmetric(device, dtype):
    x, y = pair((2, 3, 41, 43), dtype, device)
    assert torch.equal(fused_ssim.fused_ssim(x, y), fused_ssim.fused_ssim(y, x))


@pytest.fixture
def flushed_denormals() -> object:
    # As code that is compiled with -ffast-math leaves a process; torch loads such code.
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush denormals")
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("shape", [(2, 3, 29, 35), (1, 1, 13, 15, 17)], ids=readable)
def test_float16_is_not_changed_where_denormals_are_flushed(device, shape, request):
    x, y = ((image * 2.0**-13).half() for image in pair(shape, device=device))
    assert float(((x > 0) & (x < 2.0**-14)).float().mean()) > 0.2  # float16 has subnormals here, float32 none
    fused = fused_ssim.fused_ssim if len(shape) == 4 else fused_ssim.fused_ssim3d

    def results():
        value = fused(x.requires_grad_(), y, data_range=2.0**-13, reduction="sum")
        # Gradients are near 2^13; scaled, near 2^-15.
        (grad,) = torch.autograd.grad(value, x, torch.full_like(value, 2.0**-28))
        return value.detach(), grad

    expected = results()
    assert float(((expected[1] != 0) & (expected[1].abs() < 2.0**-14)).float().mean()) > 0.2
    request.getfixturevalue("flushed_denormals")
    for found, before in zip(results(), expected, strict=True):
        assert torch.equal(found, before)
