# SPDX-License-Identifier: MIT
"""`ssim_terms`: the two factors of SSIM, as the textbook has them."""

from __future__ import annotations

import oracle
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from tolerances import GRADIENT, MAP, VALUE

import fused_ssim

SHAPES = [(2, 3, 33, 29), (1, 2, 13, 17, 12)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=readable)
paddings = pytest.mark.parametrize("padding", ["same", "valid"])


def expected_maps(x, y, padding, data_range):
    """By the classic formulas; each is SSIM divided by the other."""
    radius, C1, C2 = 5, (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    filtered = [oracle.gaussian_filter(image, 11, 1.5) for image in (x, y, x * x, y * y, x * y)]
    mean_x, mean_y, square_x, square_y, product = filtered
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    spread = square_x - mean_x**2 + square_y - mean_y**2
    contrast = (2 * (product - mean_x * mean_y) + C2) / (spread + C2)
    inside = (..., *[slice(radius, -radius)] * (x.dim() - 2)) if padding == "valid" else ...
    return luminance[inside], contrast[inside]


@paddings
@dtypes
@shapes
@pytest.mark.parametrize("data_range", [1.0, 65535.0])
def test_maps_are_the_factors(device, shape, dtype, padding, data_range):
    if dtype == torch.float16 and data_range > 255:
        pytest.skip("beyond the range of float16")
    x, y = (image.to(dtype) for image in (each * data_range for each in pair(shape, torch.float64)))
    terms = fused_ssim.ssim_terms(x.to(device), y.to(device), padding, data_range=data_range, reduction="none")
    for here, there in zip(terms, expected_maps(x.double(), y.double(), padding, data_range), strict=True):
        assert absolute_error(here, there) <= MAP[dtype]
    product = terms.luminance * terms.contrast_structure
    assert (
        absolute_error(product, oracle.ssim_map(x.double(), y.double(), padding, data_range=data_range))
        <= 2 * MAP[dtype]
    )


@paddings
@shapes
def test_gradients_are_those_of_the_factors(device, shape, padding):
    images = [each.requires_grad_() for each in pair(shape, torch.float64)]
    expected = expected_maps(*images, padding, 1.0)
    here = [each.detach().to(device).requires_grad_() for each in images]
    terms = fused_ssim.ssim_terms(*here, padding)
    for term, there in zip(terms, expected, strict=True):
        grads = torch.autograd.grad(term, here)
        for grad, expected_grad in zip(
            grads, torch.autograd.grad(there.mean(), images, retain_graph=True), strict=True
        ):
            assert relative_error(grad, expected_grad) <= GRADIENT[torch.float64]


def test_identical_images_have_terms_of_exactly_one(device):
    x, _ = pair((1, 1, 20, 20), device=device)
    assert fused_ssim.ssim_terms(x, x) == (1, 1)


def test_ranges_of_each_image_and_masks_are_passed_on():
    x, y = pair((2, 1, 20, 21), torch.float64)
    mask = torch.rand(20, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ranges = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = fused_ssim.ssim_terms(x, y, data_range=ranges, mask=mask, reduction="image", train=False)
    for index, data_range in enumerate((1.0, 2.0)):
        maps = expected_maps(x[index : index + 1], y[index : index + 1], "same", data_range)
        for here, there in zip(found, maps, strict=True):
            assert abs(here[index] - (there * mask).sum() / mask.sum()) <= VALUE[torch.float64]
