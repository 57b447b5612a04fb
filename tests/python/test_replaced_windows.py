# SPDX-License-Identifier: MIT
"""Names of other packages compute with the window of those packages: eleven float32 numbers.

The tolerances are those of the test files of fused-ssim and fused-ssim3D. They are below the 2e-7 by which the window
moves SSIM, so these tests fail with the exact Gaussian.
"""

from __future__ import annotations

import math
from typing import Any

import oracle
import pytest
import torch
from images import absolute_error, independent_pair, pair, readable
from torch.nn import functional

import fused_ssim
from fused_ssim._base.settings import FLOAT32_WINDOW
from fused_ssim.compat import pytorch_msssim

C1, C2 = 0.01**2, 0.03**2


def window_in_float32(size: int = 11, sigma: float = 1.5) -> torch.Tensor:
    taps = torch.tensor([math.exp(-((i - size // 2) ** 2) / (2 * sigma**2)) for i in range(size)])
    return taps / taps.sum()


def textbook_map(x: torch.Tensor, y: torch.Tensor, padding: str) -> torch.Tensor:
    """The classic form by convolutions, in the dtype of the images.

    The window is a product of float32 numbers: rounded to float32 for "same", as in the reference of those test files,
    and not for "valid", where their reference is pytorch-msssim, which filters axis by axis.
    """
    dims, channels = x.dim() - 2, x.shape[1]
    taps = window_in_float32() if padding == "same" else window_in_float32().to(x)
    window = taps
    for _ in range(dims - 1):
        window = window[..., None] * taps
    window = window.to(x).expand(channels, 1, *window.shape).contiguous()
    convolve = functional.conv3d if dims == 3 else functional.conv2d

    def filtered(image: torch.Tensor) -> torch.Tensor:
        return convolve(image, window, padding=5 if padding == "same" else 0, groups=channels)

    mean_x, mean_y = filtered(x), filtered(y)
    var_x, var_y = filtered(x * x) - mean_x**2, filtered(y * y) - mean_y**2
    covariance = filtered(x * y) - mean_x * mean_y
    return ((2 * mean_x * mean_y + C1) * (2 * covariance + C2)) / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))


def test_window_is_the_gaussian_in_steps_of_float32():
    assert torch.tensor(FLOAT32_WINDOW, dtype=torch.float64).equal(window_in_float32().double())
    assert math.fsum(FLOAT32_WINDOW) == pytest.approx(1 - 3.1e-8, abs=1e-9)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_images_agree_with_the_formula_in_float32(device, padding):
    x, y = independent_pair((2, 3, 270, 480), device=device)
    x, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = textbook_map(theirs, y, padding).mean()
    value = fused_ssim.fused_ssim(x, y, padding)
    expected.backward()
    value.backward()
    assert torch.isclose(value, expected, rtol=1e-5)
    assert torch.isclose(x.grad, theirs.grad, rtol=1e-5).all()


@pytest.mark.parametrize("function", ["fused_ssim", "fused_ssim2d", "map"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_images_agree_with_the_formula_in_float64(device, function, padding):
    x, y = independent_pair((1, 2, 120, 131), device=device)
    exact = x.double().requires_grad_()
    x.requires_grad_()
    expected = textbook_map(exact, y.double(), padding).mean()
    if function == "map":
        value = fused_ssim.FusedSSIMMap.apply(C1, C2, x, y, padding).mean()
    else:
        value = getattr(fused_ssim, function)(x, y, padding)
    expected.backward()
    value.backward()
    assert absolute_error(value, expected.detach().cpu()) <= 6e-8
    assert torch.allclose(x.grad.double(), exact.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("function", ["fused_ssim3d", "map"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_volumes_agree_with_the_formula_in_float64(device, function, padding):
    x, y = independent_pair((1, 2, 40, 42, 44), device=device)
    exact = x.double().requires_grad_()
    x.requires_grad_()
    expected = textbook_map(exact, y.double(), padding).mean()
    if function == "map":
        value = fused_ssim.FusedSSIMMap.apply(C1, C2, x, y, padding, True, 3).mean()
    else:
        value = fused_ssim.fused_ssim3d(x, y, padding)
    expected.backward()
    value.backward()
    assert torch.allclose(value.double(), expected, rtol=1e-6, atol=1e-8)
    assert torch.allclose(x.grad.double(), exact.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(1, 2, 120, 131), (1, 1, 30, 32, 34)], ids=readable)
def test_names_of_pytorch_msssim_agree_with_the_formula_in_float64(device, shape):
    x, y = independent_pair(shape, device=device)
    exact = x.double().requires_grad_()
    x.requires_grad_()
    expected = textbook_map(exact, y.double(), "valid").mean()
    value = fused_ssim.ssim(x, y, data_range=1)
    expected.backward()
    value.backward()
    assert torch.allclose(value.double(), expected, rtol=1e-6, atol=1e-8)
    assert torch.allclose(x.grad.double(), exact.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=readable)
def test_16_bit_images_have_that_window_too(device, dtype):
    x, y = independent_pair((1, 2, 120, 131), dtype, device)
    expected = textbook_map(x.double(), y.double(), "same").mean()
    assert absolute_error(fused_ssim.fused_ssim(x, y), expected.cpu()) <= 6e-8


def test_float64_images_and_other_windows_have_the_exact_gaussian(device):
    x, y = independent_pair((1, 2, 60, 61), torch.float64, device)
    assert absolute_error(fused_ssim.fused_ssim(x, y), oracle.ssim(x, y)) <= 1e-12
    assert absolute_error(fused_ssim.FusedSSIMMap.apply(C1, C2, x, y), oracle.ssim(x, y, reduction="none")) <= 1e-12
    x, y = x.float(), y.float()
    for settings in ({"window_size": 9}, {"sigma": 1.4}):
        exact = fused_ssim.ssim_map(x, y, **settings).mean()
        assert absolute_error(fused_ssim.fused_ssim(x, y, **settings), exact.cpu().double()) <= 3e-8


def test_exact_functions_differ_by_what_is_documented(device):
    x, y = independent_pair((1, 3, 256, 256), device=device)
    exact, _ = fused_ssim.value_and_grad(x, y)
    difference = absolute_error(fused_ssim.fused_ssim(x, y), exact.cpu().double())
    assert 1e-7 <= difference <= 4e-7


# ---- The window of pytorch-msssim for other sizes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "sigma"), [(3, 0.5), (7, 1.5), (11, 1.5), (11, 2.0), (21, 3.5), (41, 7.0), (11, 100.0)], ids=str
)
def test_other_windows_are_computed_in_steps_of_float32(size, sigma):
    taps = pytorch_msssim._gaussian(size, sigma)
    offsets = torch.arange(size, dtype=torch.float32) - size // 2
    expected = torch.exp(-(offsets**2) / (2 * sigma**2))
    expected /= expected.sum()
    assert torch.tensor(taps, dtype=torch.float64).equal(torch.tensor(taps).double())
    # Equal on most machines; torch sums in another order where vectors have another length.
    torch.testing.assert_close(torch.tensor(taps), expected, rtol=4 * 2.0**-24, atol=0)


@pytest.mark.parametrize("sigma", [1e-200, 1e-30, 5e-324])
def test_sigma_without_a_window_in_float32_is_an_error(sigma):
    x, y = pair((1, 1, 20, 20))
    with pytest.raises(ValueError, match=r"win_sigma = .* is too small"):
        fused_ssim.ssim(x, y, data_range=1, win_sigma=sigma)


def test_huge_sigma_is_a_window_of_equal_taps():
    x, y = pair((1, 1, 20, 20))
    expected = fused_ssim.ssim(x, y, data_range=1, win_sigma=1e30)
    assert pytorch_msssim._gaussian(5, 1e308) == (pytorch_msssim._gaussian(5, 1e308)[0],) * 5
    assert torch.equal(fused_ssim.ssim(x, y, data_range=1, win_sigma=1e308), expected)


def test_window_needs_no_thread(monkeypatch):
    import threading

    def refuse(*_arguments: Any, **_settings: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    x, y = pair((1, 1, 20, 20))
    assert torch.isfinite(fused_ssim.ssim(x, y, data_range=1, win_size=7, win_sigma=1.2345))
