# SPDX-License-Identifier: MIT
"""Faults that were found by generated calls, each as its smallest input.

A fault that is still there is marked `to_be_mended`, with what has to change. The mark is strict: the test of a fault
that has been mended fails until the mark is taken away.
"""

from __future__ import annotations

import math
import threading

import pytest
import torch

import fused_ssim

EXACT = {"rtol": 0, "atol": 0}


def to_be_mended(what: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(reason=what, strict=True)


def window_sized() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 1, 16, 16, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.requires_grad_(), y


# ---- Losses ----------------------------------------------------------------------------------------------------------


def test_double_backward_of_a_valid_loss_map_works() -> None:
    x, y = window_sized()
    loss = fused_ssim.SSIMLoss("valid", reduction="none")(x, y)
    (grad,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), x)
    assert second.shape == x.shape
    assert bool(second.isfinite().all())


def test_jvp_of_a_valid_loss_map_has_the_shape_of_the_map() -> None:
    x, y = window_sized()
    _, tangent = torch.func.jvp(
        lambda image: fused_ssim.photometric_loss(image, y, 1.0, "valid", reduction="none"), (x.detach(),), (y,)
    )
    assert tangent.shape == (1, 1, 6, 6)


@pytest.mark.parametrize("make", ["function", "module"])
def test_lambda_none_is_an_error(make: str) -> None:
    x = torch.zeros(1, 1, 12, 12)

    def call() -> torch.Tensor:
        if make == "function":
            return fused_ssim.photometric_loss(x, x, None)  # type: ignore[arg-type]
        return fused_ssim.PhotometricLoss(None)(x, x)  # type: ignore[arg-type,no-any-return]

    with pytest.raises((TypeError, ValueError)):
        call()


def test_ms_ssim_loss_without_scales_is_an_error() -> None:
    with pytest.raises(ValueError, match="weights"):
        fused_ssim.MSSSIMLoss(weights=[])


@pytest.mark.parametrize("setting", [{"window_size": 10}, {"sigma": -1.0}, {"data_range": 0.0}, {"lambda_dssim": 2.0}])
def test_constructors_refuse_numbers_out_of_range(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        fused_ssim.PhotometricLoss(**setting)  # type: ignore[arg-type]


def test_meta_tensors_check_numbers() -> None:
    x = torch.zeros(1, 1, 16, 16, device="meta")
    with pytest.raises(ValueError, match="window_size"):
        fused_ssim.fused_ssim(x, x, window_size=10)


# ---- Numbers ---------------------------------------------------------------------------------------------------------


def test_ms_ssim_weight_of_zero_counts_as_one() -> None:
    # Opposite patterns of single pixels: a contrast below 0 at the first scale, and equal images at the second.
    pattern = torch.tensor([[0.3, -0.3], [-0.3, 0.3]]).repeat(8, 8)[None, None]
    loss = fused_ssim.MSSSIMLoss("same", weights=(0.0, 1.0), window_size=3)
    assert float(loss(0.5 + pattern, 0.5 - pattern)) < 1e-6


def test_ms_ssim_of_nan_is_nan() -> None:
    x = torch.full((1, 1, 1, 1), torch.nan)
    assert math.isnan(float(fused_ssim.MSSSIMLoss("same", weights=(1.0,))(x, torch.zeros_like(x))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_flat_images_give_one_without_constants(dtype: torch.dtype) -> None:
    x = torch.zeros(1, 1, 12, 12, dtype=dtype)
    assert float(fused_ssim.fused_ssim(x, x, K=(0.0, 0.0))) == 1


@pytest.mark.parametrize(("dtype", "data_range"), [(torch.float32, 1e19), (torch.float64, 1e154)])
def test_data_range_whose_squares_overflow_is_refused_or_right(dtype: torch.dtype, data_range: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 1, 16, 16, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = float(fused_ssim.fused_ssim(x, y))
    try:
        value = float(
            fused_ssim.fused_ssim((x * data_range).to(dtype), (y * data_range).to(dtype), data_range=data_range)
        )
    except ValueError:
        return
    assert abs(value - expected) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_of_a_mean_over_nothing_is_nan_in_both_modes(dtype: torch.dtype) -> None:
    x, y = torch.rand(2, 1, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    for mode in ("weight", "normalized"):
        _, grad = fused_ssim.value_and_grad(x, y, mask=torch.zeros(1, 1, dtype=torch.bool), mask_mode=mode)
        assert bool(grad.isnan().all()), mode


# ---- The window of the pytorch-msssim names -------------------------------------------------------------------------


def test_window_of_a_huge_sigma_raises_nothing_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: raised.append(arguments.exc_type))
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fused_ssim.ssim(x, x.flip(-1), data_range=1, win_sigma=1e308)
    assert raised == []


def test_tiny_sigma_of_ssim_is_an_error() -> None:
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="win_sigma"):  # its square is 0 in float32
        fused_ssim.ssim(x, x.flip(-1), data_range=1, win_sigma=1e-30)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_float16_gradient_of_an_absolute_difference_fits_a_large_data_range(device: str, reduction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, 1, 7, 10, generator=generator).mul(60000).half().to(device) for _ in range(2))
    x.requires_grad_()
    loss = fused_ssim.photometric_loss(x, y, 0.0, data_range=60000.0, reduction=reduction)
    loss.backward()
    assert x.grad is not None
    expected = (x.detach() - y).sign() / (x.numel() if reduction == "mean" else 1)
    torch.testing.assert_close(x.grad, expected, rtol=1e-3, atol=0)


# ---- Messages --------------------------------------------------------------------------------------------------------


def test_argnums_of_another_type_is_named() -> None:
    x = torch.zeros(1, 1, 12, 12)
    with pytest.raises((TypeError, ValueError), match="argnums"):
        fused_ssim.value_and_grad(x, x, argnums=1.0)  # type: ignore[call-overload]


def test_sigma_beyond_float64_is_named() -> None:
    x = torch.zeros(1, 1, 12, 12)
    with pytest.raises(ValueError, match="sigma"):
        fused_ssim.fused_ssim(x, x, sigma=10**400)


def test_win_size_of_numpy_is_accepted() -> None:
    np = pytest.importorskip("numpy")
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        fused_ssim.ssim(x, 1 - x, data_range=1, win_size=np.int64(11)), fused_ssim.ssim(x, 1 - x, data_range=1), **EXACT
    )


def test_freed_storage_is_named() -> None:
    x, y = torch.zeros(1, 1, 12, 12), torch.zeros(1, 1, 12, 12)
    x.untyped_storage().resize_(0)
    with pytest.raises((ValueError, RuntimeError), match="storage"):
        fused_ssim.fused_ssim(x, y)


@to_be_mended("products with a weight below 1e-38 leave float32: NaN with normalised windows, 1 as a weight")
@pytest.mark.parametrize(("mode", "weight"), [("weight", 1e-45), ("normalized", 1e-39)])
def test_tiny_weights_of_a_mask_are_weights(mode: str, weight: float) -> None:
    x, y = torch.rand(2, 1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    value = fused_ssim.fused_ssim(x, y, "valid", mask=torch.full((1, 1), weight), mask_mode=mode)
    torch.testing.assert_close(value, fused_ssim.fused_ssim(x, y, "valid"), rtol=0, atol=1e-5)
