# SPDX-License-Identifier: MIT
"""Situations in which other packages are wrong or silent, and this one must not be: a tour for readers.

Other files test most of this too, in more cases: windows and data ranges (test_settings.py), strides (test_strides.py),
values and gradients (test_values.py). Tested only elsewhere: side streams, CUDA graphs and more than 2**31 elements
(test_cuda.py, test_strides.py), bad shapes, dtypes, devices and windows (test_bad_input.py), second backward, double
backward, jvp and vmap (test_autograd.py), flat and near-identical images (test_hard_cases.py).
"""

from __future__ import annotations

import oracle
import pytest
import torch
from images import absolute_error, independent_pair, pair, readable, relative_error
from tolerances import GRADIENT, MAP, VALUE

import fused_ssim


@pytest.mark.parametrize("shape", [(1, 3, 20, 37, 41), (2, 3, 17, 30, 50), (1, 4, 12, 16, 33)], ids=readable)
def test_volumes_of_several_channels_and_any_size_are_right(device, shape):
    x, y = independent_pair(shape, device=device)
    expected, expected_x, _ = oracle.ssim_and_grads(x, y)
    results = [fused_ssim.value_and_grad(x, y) for _ in range(4)]
    for value, grad in results:
        assert absolute_error(value, expected) <= VALUE[torch.float32]
        assert relative_error(grad, expected_x) <= GRADIENT[torch.float32]
        assert torch.equal(value, results[0][0])
        assert torch.equal(grad, results[0][1])


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_map_of_channels_last_images_has_the_right_gradient(device, padding):
    x, y = (image.to(memory_format=torch.channels_last) for image in pair((2, 3, 33, 47), device=device))
    _, expected, _ = oracle.ssim_and_grads(x, y, padding)
    x.requires_grad_()
    fused_ssim.FusedSSIMMap.apply(0.01**2, 0.03**2, x, y, padding).mean().backward()
    assert relative_error(x.grad, expected) <= GRADIENT[torch.float32]


@pytest.mark.cuda
def test_channels_last_images_are_not_copied():
    x, y = (image.cuda().to(memory_format=torch.channels_last) for image in pair((4, 3, 256, 256)))
    fused_ssim.fused_ssim(x, y)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    fused_ssim.fused_ssim(x, y)
    assert torch.cuda.max_memory_allocated() - before < x.numel() * x.element_size() // 4


def test_second_image_gets_its_gradient(device):
    x, y = pair((1, 3, 33, 47), device=device)
    _, _, expected = oracle.ssim_and_grads(x, y)
    y.requires_grad_()
    fused_ssim.fused_ssim(x, y).backward()
    assert y.grad is not None
    assert relative_error(y.grad, expected) <= GRADIENT[torch.float32]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=readable)
def test_half_precision_images_are_computed_in_float32(device, dtype):
    # Weights or sums in 16 bits are wrong in the fourth digit.
    x, y = pair((1, 3, 65, 130), dtype, device)
    assert absolute_error(fused_ssim.fused_ssim(x, y), oracle.ssim(x, y)) <= VALUE[dtype]
    values = fused_ssim.fused_ssim(x, y, reduction="none")
    assert absolute_error(values, oracle.ssim(x, y, reduction="none")) <= MAP[dtype]


@pytest.mark.parametrize("window_size", [7, 9])
def test_small_windows_have_the_sigma_that_was_asked_for(device, window_size):
    x, y = pair((1, 2, 40, 44), device=device)
    expected = oracle.ssim(x, y, window_size=window_size, sigma=1.5)
    assert absolute_error(fused_ssim.fused_ssim(x, y, window_size=window_size), expected) <= VALUE[torch.float32]
    # Taps that sum to 1 leave a constant as it is: SSIM of two constants is the luminance term of their levels.
    a, b = torch.full((1, 1, 40, 44), 0.8, device=device), torch.full((1, 1, 40, 44), 0.2, device=device)
    luminance = (2 * 0.8 * 0.2 + 0.01**2) / (0.8**2 + 0.2**2 + 0.01**2)
    value = fused_ssim.fused_ssim(a, b, "valid", window_size=window_size)
    assert abs(float(value) - luminance) <= 5e-6  # flat images: rounding over C2


@pytest.mark.parametrize("shape", [(257, 257, 5, 6), (66000, 1, 3, 4), (1, 66000, 2, 3, 4)], ids=readable)
def test_more_than_65535_planes_are_right(device, shape):
    x, y = pair(shape, device=device)
    expected, expected_x, _ = oracle.ssim_and_grads(x, y)
    ssim = fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim
    value = ssim(x.requires_grad_(), y)
    value.backward()
    assert absolute_error(value, expected) <= VALUE[torch.float32]
    assert relative_error(x.grad, expected_x) <= GRADIENT[torch.float32]
    planes = ssim(x.detach(), y, reduction="channel")
    assert absolute_error(planes, oracle.ssim(x, y, reduction="channel")) <= MAP[torch.float32]


def test_images_near_the_end_of_training_have_a_right_gradient(device):
    x, _ = pair((1, 3, 64, 96), device=device)
    for noise in (1e-2, 1e-3, 1e-4):
        y = x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(device)
        _, (grad, _) = fused_ssim.value_and_grad(x, y, argnums=(0, 1))
        _, expected, _ = oracle.ssim_and_grads(x, y)
        assert relative_error(grad, expected) <= GRADIENT[torch.float32]
