# SPDX-License-Identifier: MIT
"""Accuracy at every level of brightness in float32: what the pivots are for (docs/derivation.md)."""

from __future__ import annotations

import oracle
import pytest
import torch
from images import readable, relative_norm_error
from tolerances import (
    FLOAT32_EPS,
    LEVELS,
    LEVELS_HALVES,
    LEVELS_MIXED,
    LEVELS_MIXED_CUDA,
    LEVELS_MIXED_VALUE,
    LEVELS_ROUNDED_DIFFERENCE,
    LEVELS_ROUNDED_SUM,
    LEVELS_VALUE,
)

import fused_ssim

SHAPES = [(1, 1, 256, 256), (1, 1, 48, 64, 80)]

shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)
paddings = pytest.mark.parametrize("padding", ["same", "valid"])


def images(name, shape, device="cpu", dtype=torch.float32):
    """Two images and their data range."""
    generator = torch.Generator().manual_seed(0)

    def uniform(low, high):
        return low + (high - low) * torch.rand(shape, generator=generator)

    def halves(axis):
        first = torch.arange(shape[axis]) < shape[axis] // 2
        return torch.where(first, 0.05, 0.95).reshape([-1] + [1] * (-axis - 1))

    data_range = 1.0
    if name == "bright":
        x, y = uniform(0.8, 0.9), uniform(0.8, 0.9)
    elif name == "bright-flat":
        x, y = (0.95 + 1e-3 * torch.randn(shape, generator=generator) for _ in range(2))
    elif name == "bright-dark":
        x, y = uniform(0.88, 0.92), uniform(0.08, 0.12)
    elif name == "uniform":
        x, y = uniform(0, 1), uniform(0, 1)
    elif name == "side-by-side":
        x, y = (halves(-1) + uniform(-0.02, 0.02) for _ in range(2))
    elif name == "above-each-other":
        x, y = (halves(-2) + uniform(-0.02, 0.02) for _ in range(2))
    elif name == "behind-each-other":
        x, y = (halves(-3) + uniform(-0.02, 0.02) for _ in range(2))
    elif name == "20000":
        x, y, data_range = uniform(20000, 20006), uniform(20000, 20006), 6.0
    elif name == "1e6":
        x, y, data_range = uniform(1e6 - 50, 1e6 + 50), uniform(1e6 - 50, 1e6 + 50), 200.0
    else:
        raise ValueError(name)
    return x.to(device, dtype), y.to(device, dtype), data_range


def bound(name, device):
    """Of the gradient's relative error."""
    if name == "side-by-side":
        return LEVELS_MIXED_CUDA if device == "cuda" else LEVELS_MIXED
    if device == "cpu":
        return LEVELS[name]
    return {"20000": LEVELS_ROUNDED_SUM, "1e6": LEVELS_ROUNDED_SUM, "bright-dark": LEVELS_ROUNDED_DIFFERENCE}.get(
        name, LEVELS[name]
    )


def check(x, y, padding, gradient, value_error, **settings):
    expected, expected_x, expected_y = oracle.ssim_and_grads(x, y, padding, **settings)
    value, (grad_x, grad_y) = fused_ssim.value_and_grad(x, y, padding, argnums=(0, 1), **settings)
    _, only = fused_ssim.value_and_grad(x, y, padding, **settings)
    # A result near 1 is rounded to float32.
    assert abs(float(value) - float(expected)) <= value_error + FLOAT32_EPS * abs(float(expected))
    assert relative_norm_error(grad_x, expected_x) <= gradient
    assert relative_norm_error(grad_y, expected_y) <= gradient
    assert relative_norm_error(only, expected_x) <= gradient


@paddings
@shapes
@pytest.mark.parametrize("name", LEVELS)
def test_level_costs_no_accuracy(device, name, shape, padding):
    x, y, data_range = images(name, shape, device)
    check(x, y, padding, bound(name, device), LEVELS_VALUE[name], data_range=data_range)


@paddings
@shapes
@pytest.mark.parametrize("name", ["side-by-side", "above-each-other", "behind-each-other"])
def test_two_levels_cost_little_accuracy(device, name, shape, padding):
    if name == "behind-each-other" and len(shape) == 4:
        pytest.skip("an image has no depth")
    x, y, _ = images(name, shape, device)
    # On CUDA a tile of a volume has 32 columns, some of which hold both halves here.
    is_mixed = device == "cuda" and len(shape) == 5 and name == "side-by-side"
    gradient = LEVELS_MIXED_CUDA if is_mixed else LEVELS_HALVES
    check(x, y, padding, gradient, LEVELS_MIXED_VALUE[device if is_mixed else "cpu"])


@shapes
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=readable)
def test_level_costs_no_accuracy_in_half(device, dtype, shape):
    x, y, _ = images("bright", shape, device, dtype)
    expected, expected_x, _ = oracle.ssim_and_grads(x, y)
    value, grad = fused_ssim.value_and_grad(x, y)
    assert abs(float(value) - float(expected)) <= 2e-8 + FLOAT32_EPS * abs(float(expected))
    eps = torch.finfo(dtype).eps / 2
    # Those of float16 are near its least numbers.
    assert relative_norm_error(grad, expected_x) <= eps + 1e-6 + (2e-3 if dtype == torch.float16 else 0)


@pytest.mark.parametrize(("window_size", "sigma"), [(3, 0.5), (7, 1.0), (13, 2.0), (33, 5.0)])
@pytest.mark.parametrize("name", ["bright", "bright-dark", "side-by-side"])
def test_level_costs_no_accuracy_with_other_windows(device, name, window_size, sigma):
    for shape in [(1, 2, 70, 300), (1, 1, 35, 36, 150)]:
        x, y, _ = images(name, shape, device)
        check(x, y, "same", bound(name, device), LEVELS_MIXED_VALUE[device], window_size=window_size, sigma=sigma)


# The window of the packages that are replaced sums to 1 - 3e-8.
@shapes
def test_missing_mass_of_a_window_is_accounted_for(device, shape):
    taps = torch.tensor(
        [0.001028380123898387, 0.0075987582094967365, 0.036000773310661316, 0.10936068743467331, 0.21300552785396576],
        dtype=torch.float64,
    )
    taps = torch.cat([taps, torch.tensor([0.26601171493530273], dtype=torch.float64), taps.flip(0)])
    x, y, _ = images("bright", shape, device)
    x64, y64 = x.double().cpu().requires_grad_(), y.double().cpu()

    def filtered(image):
        for axis in range(2, image.dim()):
            band = torch.zeros(image.shape[axis], image.shape[axis], dtype=torch.float64)
            for offset, tap in enumerate(taps.tolist(), start=-5):
                band.diagonal(offset).fill_(tap)
            image = torch.movedim(torch.movedim(image, axis, -1) @ band, -1, axis)
        return image

    mean_x, mean_y, square_x, square_y, product = map(filtered, (x64, y64, x64 * x64, y64 * y64, x64 * y64))
    c1, c2 = 1e-4, 9e-4
    covariance, variances = product - mean_x * mean_y, square_x - mean_x**2 + square_y - mean_y**2
    values = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    values = values / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    expected = values.mean()
    expected.backward()
    ssim = fused_ssim.fused_ssim3d if x.dim() == 5 else fused_ssim.fused_ssim
    x.requires_grad_()
    value = ssim(x, y)
    value.backward()
    value, expected = value.detach(), expected.detach()
    assert abs(float(value) - float(expected)) <= 2e-8 + FLOAT32_EPS * abs(float(expected))
    assert relative_norm_error(x.grad, x64.grad) <= 1e-6


@pytest.mark.parametrize("mask_mode", ["weight", "normalized"])
@paddings
@pytest.mark.parametrize("shape", [(1, 2, 90, 150), (1, 1, 24, 48, 80)], ids=readable)
@pytest.mark.parametrize("name", ["bright", "bright-flat", "bright-dark", "uniform", "side-by-side"])
def test_level_costs_no_accuracy_under_a_mask(device, name, shape, padding, mask_mode):
    x, y, _ = images(name, shape, device)
    mask = (torch.rand(shape, generator=torch.Generator().manual_seed(7)) > 0.3).float().to(device)
    expected, expected_x, expected_y = oracle.objective_and_grads(x, y, padding, mask=mask, mask_mode=mask_mode)
    value, (grad_x, grad_y) = fused_ssim.value_and_grad(x, y, padding, argnums=(0, 1), mask=mask, mask_mode=mask_mode)
    gradient = bound(name, device)
    assert abs(float(value) - float(expected)) <= LEVELS_MIXED_VALUE[device] + FLOAT32_EPS * abs(float(expected))
    assert relative_norm_error(grad_x, expected_x) <= gradient
    assert relative_norm_error(grad_y, expected_y) <= gradient


# What is excluded has no say in the pivot either: no bit changes.
@pytest.mark.parametrize("shape", [(1, 1, 90, 150), (1, 1, 24, 48, 80)], ids=readable)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30, -7.0])
def test_garbage_under_a_normalized_mask_changes_no_bit(device, shape, bad):
    x, y, _ = images("bright", shape, device)
    mask = (torch.rand(shape, generator=torch.Generator().manual_seed(7)) > 0.3).float().to(device)
    holed = torch.where(mask == 0, bad, x)
    expected = fused_ssim.value_and_grad(x, y, mask=mask, mask_mode="normalized")
    for found, before in zip(
        fused_ssim.value_and_grad(holed, y, mask=mask, mask_mode="normalized"), expected, strict=True
    ):
        assert torch.equal(found, before)


# NaN stays where windows see it, wherever it stands: also among the elements that a pivot comes from.
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -3e38])
def test_one_bad_element_spoils_its_windows_alone(device, bad):
    x, y, _ = images("bright", (1, 1, 64, 96), device)
    clean = fused_ssim.ssim_map(x, y)
    for row in range(0, 64, 7):
        for column in range(0, 96, 11):
            holed = x.clone()
            holed[0, 0, row, column] = bad
            values = fused_ssim.ssim_map(holed, y)
            far = torch.ones_like(x, dtype=torch.bool)
            far[0, 0, max(0, row - 5) : row + 6, max(0, column - 5) : column + 6] = False
            # On CUDA a huge element takes the pivot from its piece of a strip: as it was without one.
            assert float((values - clean)[far].abs().max()) <= (1e-3 if device == "cuda" and bad == -3e38 else 1e-6)
    assert torch.isnan(fused_ssim.ssim_map(torch.full_like(x, float("nan")), y)).all()


@shapes
@pytest.mark.parametrize("name", ["side-by-side", "bright-dark"])
def test_strides_change_no_bit(device, name, shape):
    x, y, _ = images(name, shape, device)
    expected = fused_ssim.value_and_grad(x, y, argnums=(0, 1))

    def every_second(image):
        wide = torch.zeros(*image.shape[:-1], 2 * image.shape[-1], device=device)
        wide[..., ::2] = image
        return wide[..., ::2]

    value, grads = fused_ssim.value_and_grad(every_second(x), every_second(y), argnums=(0, 1))
    assert torch.equal(value, expected[0])
    assert all(torch.equal(found, before) for found, before in zip(grads, expected[1], strict=True))


@pytest.mark.parametrize("name", ["side-by-side", "above-each-other", "bright-dark"])
@pytest.mark.parametrize("shape", [(1, 2, 300, 530), (1, 1, 75, 140, 150)], ids=readable)
@pytest.mark.parametrize("is_normalized", [False, True], ids=["plain", "normalized"])
@pytest.mark.usefixtures("restore_threads")
def test_threads_change_no_bit(name, shape, is_normalized):
    x, y, _ = images(name, shape)
    settings = {"mask": torch.rand(shape).round(), "mask_mode": "normalized"} if is_normalized else {}
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        value, grads = fused_ssim.value_and_grad(x, y, argnums=(0, 1), **settings)
        results.append([value, *grads, fused_ssim.ssim_map(x, y, **settings)])
    for others in results[1:]:
        assert all(torch.equal(found, before) for found, before in zip(others, results[0], strict=True))


# Where two images are equal and others are not: 1 beside what they differ in, too.
def test_equal_parts_of_images_of_like_level_give_one(device):
    x, y, _ = images("uniform", (1, 1, 128, 128), device)
    y[..., :64] = x[..., :64]
    y[..., 64:] = 0.9 * x[..., 64:] + 0.05 * y[..., 64:]
    assert torch.equal(fused_ssim.ssim_map(x, y)[..., :59], torch.ones_like(x)[..., :59])
