# SPDX-License-Identifier: MIT
"""Agreement with other implementations of SSIM, to the accuracy that each of them has."""

from __future__ import annotations

from typing import Any

import oracle
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from packages import import_piq
from tolerances import MONAI, PIQ, PYTORCH_MSSIM, PYTORCH_MSSIM_GRADIENT, SCIKIT_IMAGE, TORCHMETRICS

import fused_ssim

SHAPES = [(1, 1, 47, 53), (1, 1, 13, 17, 23)]
BATCHES = [(2, 3, 47, 53), (2, 3, 13, 17, 23)]


def ssim_of(shape):
    return fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim


def scikit_image_ssim(x, y):
    metrics = pytest.importorskip("skimage.metrics")
    return metrics.structural_similarity(
        x.squeeze().numpy(),
        y.squeeze().numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
    )


@pytest.mark.parametrize("shape", SHAPES, ids=readable)
def test_oracle_agrees_with_scikit_image(shape):
    x, y = pair(shape, torch.float64)
    expected = scikit_image_ssim(x, y)
    assert abs(float(oracle.ssim(x, y, "valid")) - float(expected)) <= SCIKIT_IMAGE


@pytest.mark.parametrize("shape", SHAPES, ids=readable)
def test_mean_agrees_with_scikit_image(device, shape):
    x, y = pair(shape, torch.float64)
    expected = scikit_image_ssim(x, y)
    value = ssim_of(shape)(x.to(device), y.to(device), "valid")
    assert abs(float(value) - float(expected)) <= SCIKIT_IMAGE


@pytest.mark.parametrize("shape", BATCHES, ids=readable)
def test_value_and_gradient_agree_with_pytorch_msssim(device, shape):
    pytorch_msssim = pytest.importorskip("pytorch_msssim")
    x, y = pair(shape, torch.float64)
    x.requires_grad_()
    theirs = pytorch_msssim.ssim(x, y, data_range=1.0)
    (their_grad,) = torch.autograd.grad(theirs, x)
    x = x.detach().to(device).requires_grad_()
    value = ssim_of(shape)(x, y.to(device), "valid")
    value.backward()
    assert absolute_error(value, theirs.detach()) <= PYTORCH_MSSIM
    assert relative_error(x.grad, their_grad) <= PYTORCH_MSSIM_GRADIENT


@pytest.mark.parametrize("shape", BATCHES, ids=readable)
def test_image_values_agree_with_pytorch_msssim(device, shape):
    pytorch_msssim = pytest.importorskip("pytorch_msssim")
    x, y = pair(shape, torch.float64)
    theirs = pytorch_msssim.ssim(x, y, data_range=1.0, size_average=False)
    value = ssim_of(shape)(x.to(device), y.to(device), "valid", reduction="image")
    assert absolute_error(value, theirs) <= PYTORCH_MSSIM


@pytest.mark.parametrize("shape", BATCHES, ids=readable)
def test_image_values_agree_with_monai(device, shape):
    regression = pytest.importorskip("monai.metrics.regression")
    x, y = pair(shape)
    metric = regression.SSIMMetric(spatial_dims=len(shape) - 2, data_range=1.0, win_size=11, kernel_sigma=1.5)
    theirs = metric(x, y).flatten().double()
    value = ssim_of(shape)(x.to(device), y.to(device), "valid", reduction="image")
    assert absolute_error(value, theirs) <= MONAI


@pytest.mark.parametrize("shape", [(2, 3, 47, 53), (1, 2, 11, 13, 14)], ids=readable)
def test_map_agrees_with_torchmetrics(device, shape):
    image = pytest.importorskip("torchmetrics.functional.image")
    x, y = pair(shape, torch.float64)  # small: its float64 convolution in 3D takes seconds
    _, theirs = image.structural_similarity_index_measure(
        x, y, gaussian_kernel=True, sigma=1.5, kernel_size=11, data_range=1.0, return_full_image=True
    )
    # It pads by reflection; positions whose windows do not reach the border agree.
    theirs = theirs[(..., *(slice(5, -5) for _ in shape[2:]))]
    values = ssim_of(shape)(x.to(device), y.to(device), "valid", reduction="none")
    assert absolute_error(values, theirs) <= TORCHMETRICS


@pytest.fixture
def piq(monkeypatch: pytest.MonkeyPatch) -> Any:
    return import_piq(monkeypatch)


def test_image_values_agree_with_piq(device, piq):
    x, y = pair((2, 3, 47, 53), torch.float64)
    theirs = piq.ssim(x, y, kernel_size=11, kernel_sigma=1.5, data_range=1.0, downsample=False, reduction="none")
    value = fused_ssim.fused_ssim(x.to(device), y.to(device), "valid", reduction="image")
    assert absolute_error(value, theirs) <= PIQ
