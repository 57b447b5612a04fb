# SPDX-License-Identifier: MIT
"""Masks, in both modes, against float64 autograd of their definitions."""

from __future__ import annotations

import oracle
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from tolerances import GRADIENT_SCALED, MAP, MASKED_GRADIENT, mean_tolerance

import fused_ssim
from fused_ssim._base.settings import checked_settings
from fused_ssim._torch import composite

SHAPES = [(2, 3, 25, 34), (2, 2, 12, 13, 18)]
REDUCTIONS = ["mean", "sum", "image", "channel", "none"]
MODES = ["weight", "normalized"]

shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)
modes = pytest.mark.parametrize("mode", MODES)


def make_mask(shape, kind, dtype=torch.float32, seed=4):
    """Masks with blocks that are out, so that windows are partly and wholly empty."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(shape, generator=generator, dtype=torch.float64)
    blocks = torch.ones(shape, dtype=torch.float64)
    blocks[..., : shape[-1] // 2] = 0
    blocks[..., shape[-2] // 3 :, :] = 1
    values = values * blocks
    return values > 0.4 if kind == "bool" else values.to(torch.float64 if dtype == torch.float64 else torch.float32)


def call(x, y, padding="same", **settings):
    if "lambda_dssim" in settings:
        return fused_ssim.photometric_loss(x, y, padding=padding, **settings)
    return (fused_ssim.fused_ssim3d if x.dim() == 5 else fused_ssim.fused_ssim)(x, y, padding, **settings)


def agree(x, y, padding="same", **settings):
    upstream = None
    reduction = settings.get("reduction", "mean")
    expected = oracle.objective(x.cpu().double(), y.cpu().double(), padding, **settings)
    # Of either sign, large enough for float16.
    upstream = torch.linspace(300, -700, expected.numel() or 1).reshape(expected.shape)
    expected, expected_x, expected_y = oracle.objective_and_grads(x, y, padding, upstream=upstream, **settings)
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = call(x, y, padding, **settings)
    value.backward(upstream.to(value))
    dtype = x.dtype
    assert value.shape == expected.shape
    # The weighted mean of few elements has the error of the map.
    allowed = (
        MAP[dtype]
        if reduction in ("none", "sum")
        else 3 * mean_tolerance(dtype, expected_x.numel() // expected.numel())
    )
    assert relative_error(value, expected) <= allowed
    tolerance = (MASKED_GRADIENT if settings.get("mask_mode") == "normalized" else GRADIENT_SCALED)[dtype]
    assert relative_error(x.grad, expected_x) <= tolerance
    assert relative_error(y.grad, expected_y) <= tolerance


@shapes
@modes
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=readable)
def test_masked_mean_matches_definition(device, shape, mode, kind, padding, dtype):
    x, y = pair(shape, dtype, device)
    agree(x, y, padding, mask=make_mask(shape, kind, dtype).to(device), mask_mode=mode)


@shapes
@modes
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("lambda_dssim", [None, 0.2], ids=["ssim", "loss"])
def test_masked_reductions_match_definition(device, shape, mode, reduction, lambda_dssim):
    x, y = pair(shape, device=device)
    settings = {} if lambda_dssim is None else {"lambda_dssim": lambda_dssim}
    agree(x, y, mask=make_mask(shape, "float").to(device), mask_mode=mode, reduction=reduction, **settings)


@modes
@pytest.mark.parametrize("lambda_dssim", [0.0, 0.5, 1.0], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "channel"])
def test_masked_valid_loss_matches_definition(device, mode, lambda_dssim, reduction):
    x, y = pair(SHAPES[0], device=device)
    mask = make_mask(SHAPES[0], "bool").to(device)
    agree(x, y, "valid", mask=mask, mask_mode=mode, lambda_dssim=lambda_dssim, reduction=reduction)


@shapes
@modes
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=readable)
@pytest.mark.parametrize("lambda_dssim", [None, 0.2], ids=["ssim", "loss"])
def test_masks_of_16_bit_images_match_definition(device, shape, mode, dtype, lambda_dssim):
    x, y = pair(shape, dtype, device)
    settings = {} if lambda_dssim is None else {"lambda_dssim": lambda_dssim}
    agree(x, y, mask=make_mask(shape, "float").to(device), mask_mode=mode, **settings)


@modes
@pytest.mark.parametrize(
    "form",
    [(25, 34), (1, 1, 25, 34), (2, 1, 25, 34), (3, 25, 34), (25, 1), (1, 34), (2, 1, 1, 1), (2, 3, 1, 1)],
    ids=readable,
)
def test_masks_broadcast(device, mode, form):
    x, y = pair(SHAPES[0], device=device)
    mask = 0.1 + torch.rand(form, generator=torch.Generator().manual_seed(1))
    agree(x, y, mask=mask.to(device), mask_mode=mode, window_size=7)
    narrow = mask.to(device)
    full = narrow.expand(SHAPES[0]).contiguous()
    assert torch.equal(call(x, y, mask=narrow, mask_mode=mode), call(x, y, mask=full, mask_mode=mode))


def test_masks_of_any_strides_are_read_in_place(device):
    x, y = pair(SHAPES[0], device=device)
    wide = torch.rand((34, 50, 3, 2), generator=torch.Generator().manual_seed(1)).to(device)
    mask = wide[:, ::2].permute(3, 2, 1, 0)
    assert torch.equal(call(x, y, mask=mask), call(x, y, mask=mask.contiguous()))
    half = (mask > 0.5)[..., :17].repeat_interleave(2, -1)[..., ::1]
    assert torch.equal(call(x, y, mask=half), call(x, y, mask=half.contiguous()))


@shapes
@modes
def test_mask_of_ones_changes_nothing(device, shape, mode):
    x, y = pair(shape, torch.float64, device)
    ones = torch.ones(shape[2:], dtype=torch.bool, device=device)
    assert absolute_error(call(x, y, "valid", mask=ones, mask_mode=mode), call(x, y, "valid").cpu()) <= 1e-14
    if mode == "weight":
        assert absolute_error(call(x, y, mask=ones), call(x, y).cpu()) <= 1e-14


@shapes
def test_normalized_mode_does_not_see_what_is_masked_out(device, shape):
    x, y = pair(shape, device=device)
    mask = make_mask(shape, "bool").to(device)
    other = torch.where(mask, x, torch.rand_like(x) * 100)
    settings = {"mask": mask, "mask_mode": "normalized"}
    value, (grad_x, grad_y) = fused_ssim.value_and_grad(x, y, argnums=(0, 1), **settings)
    other_value, (other_x, _) = fused_ssim.value_and_grad(other, y, argnums=(0, 1), **settings)
    assert absolute_error(other_value, value.cpu().double()) <= 1e-6
    assert not grad_x[~mask].any()
    assert not grad_y[~mask].any()
    assert relative_error(other_x, grad_x.cpu().double()) <= MASKED_GRADIENT[torch.float32]
    # A weight on the map is another thing: windows see it.
    assert abs(float(call(other, y, mask=mask)) - float(call(x, y, mask=mask))) > 1e-3


@shapes
@modes
def test_value_and_grad_and_map_take_masks(device, shape, mode):
    x, y = pair(shape, device=device)
    mask = make_mask(shape, "float").to(device)
    _, expected_x, expected_y = oracle.objective_and_grads(x, y, mask=mask, mask_mode=mode)
    _, (grad_x, grad_y) = fused_ssim.value_and_grad(x, y, argnums=(0, 1), mask=mask, mask_mode=mode)
    assert relative_error(grad_x, expected_x) <= MASKED_GRADIENT[torch.float32]
    assert relative_error(grad_y, expected_y) <= MASKED_GRADIENT[torch.float32]
    values = fused_ssim.ssim_map(x, y, mask=mask, mask_mode=mode)
    expected = oracle.objective(x.cpu().double(), y.cpu().double(), mask=mask, mask_mode=mode, reduction="none")
    assert absolute_error(values, expected) <= MAP[torch.float32]


@modes
def test_mean_under_a_mask_of_zeros_is_nan(device, mode):
    x, y = pair(SHAPES[0], device=device)
    zeros = torch.zeros(SHAPES[0][2:], dtype=torch.bool, device=device)
    assert call(x, y, mask=zeros, mask_mode=mode).isnan()
    assert float(call(x, y, mask=zeros, mask_mode=mode, reduction="sum")) == 0
    one_of_two = torch.ones((2, 1, 1, 1), dtype=torch.bool, device=device)
    one_of_two[0] = False
    values = call(x, y, mask=one_of_two, mask_mode=mode, reduction="image")
    assert values[0].isnan()
    assert not values[1].isnan()


def test_masked_second_backward_gives_the_same_bits(device):
    x, y = pair(SHAPES[0], device=device)
    mask = make_mask(SHAPES[0], "float").to(device)
    x.requires_grad_()
    value = call(x, y, mask=mask, mask_mode="normalized")
    (first,) = torch.autograd.grad(value, x, retain_graph=True)
    (second,) = torch.autograd.grad(value, x)
    assert torch.equal(first, second)


IMAGE = torch.zeros(1, 2, 12, 14)
ERRORS = {
    "list": ([[1.0]], TypeError, "mask is of type list"),
    "uint8": (
        torch.ones(12, 14, dtype=torch.uint8),
        TypeError,
        r"mask\.dtype = torch\.uint8; expected bool or torch\.float32",
    ),
    "float64": (torch.ones(12, 14, dtype=torch.float64), TypeError, r"mask\.dtype = torch\.float64"),
    "float16": (torch.ones(12, 14, dtype=torch.float16), TypeError, r"mask\.dtype = torch\.float16"),
    "shape": (torch.ones(12, 13), ValueError, r"mask\.shape = \(12, 13\).*\(1, 2, 12, 14\)"),
    "rank": (torch.ones(1, 1, 1, 12, 14), ValueError, r"mask\.shape = \(1, 1, 1, 12, 14\)"),
    "gradient": (torch.ones(12, 14).requires_grad_(), ValueError, r"mask\.requires_grad = True.*detach\(\)"),
    "device": (torch.ones(12, 14, device="meta"), ValueError, r"mask\.device = meta"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_mask_is_an_error_that_says_what_is_wrong(name):
    mask, exception, text = ERRORS[name]
    for do in (fused_ssim.fused_ssim, fused_ssim.photometric_loss, fused_ssim.ssim_map, fused_ssim.value_and_grad):
        with pytest.raises(exception, match=text):
            do(IMAGE, IMAGE, mask=mask)


def test_bad_mask_mode_is_an_error():
    with pytest.raises(ValueError, match='mask_mode = \'norm\'; expected one of "weight", "normalized"'):
        fused_ssim.fused_ssim(IMAGE, IMAGE, mask_mode="norm")
    with pytest.raises(TypeError, match="mask_mode = None"):
        fused_ssim.fused_ssim(IMAGE, IMAGE, mask_mode=None)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("mode", ["weight", "normalized"])
@pytest.mark.parametrize("shape", [(1, 2, 30, 31), (1, 1, 14, 15, 30)], ids=readable)
def test_what_a_mask_excludes_may_be_nan_in_every_derivative(device, shape, mode, padding):
    x, y = pair(shape, torch.float64, device)
    mask = torch.ones(shape[2:], dtype=torch.bool, device=device)
    mask[..., 12:] = False
    # In mode "weight", windows of positions under the mask see five pixels more; with "valid" the same.
    spoiled_x, spoiled_y = x.clone(), y.clone()
    spoiled_x[..., 17 if mode == "weight" else 12 :] = float("nan")
    spoiled_y[..., 20:] = float("inf")

    def results(a, b):
        def loss(image):
            return fused_ssim.photometric_loss(image, b, 0.3, padding, mask=mask, mask_mode=mode)

        image = a.clone().requires_grad_()
        value = loss(image)
        (grad,) = torch.autograd.grad(value, image, create_graph=True)
        (second,) = torch.autograd.grad(grad.square().sum(), image)
        tangent = torch.func.jvp(loss, (a,), (torch.ones_like(a),))[1]
        return value.detach(), grad.detach(), second, tangent

    for found, expected in zip(results(spoiled_x, spoiled_y), results(x, y), strict=True):
        assert not found.isnan().any()
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shape", [(1, 2, 14, 15), (1, 1, 12, 13, 14)], ids=readable)
def test_flat_images_without_constants_are_identical(device, shape):
    zero = torch.zeros(shape, dtype=torch.float64, device=device, requires_grad=True)
    value = fused_ssim.photometric_loss(zero, torch.zeros_like(zero), 1, K=(0, 0))
    (grad,) = torch.autograd.grad(value, zero, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), zero, allow_unused=True)
    assert float(value) == 0
    assert not grad.isnan().any()
    assert second is None or not second.isnan().any()
    tangent = torch.func.jvp(
        lambda image: fused_ssim.ssim_map(image, torch.zeros_like(image), K=(0, 0)), (zero.detach(),), (zero.detach(),)
    )
    assert torch.equal(tangent[0], torch.ones_like(zero))


@pytest.mark.parametrize("mode", ["weight", "normalized"])
@pytest.mark.parametrize("reduction", ["mean", "image", "channel"])
def test_mean_of_nothing_is_nan_in_plain_operations_too(device, mode, reduction):
    x, y = pair((2, 2, 14, 15), torch.float64, device)
    mask = torch.ones(2, 2, 14, 15, dtype=torch.bool, device=device)
    mask[0] = False
    if reduction == "mean":
        mask[1] = False

    def loss(image):
        return fused_ssim.photometric_loss(image, y, mask=mask, mask_mode=mode, reduction=reduction)

    native, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
    loss(native).sum().backward()
    settings = checked_settings(reduction=reduction, lambda_dssim=0.2, mask_mode=mode)
    value = composite.ssim(plain, y, mask, None, settings)
    value.sum().backward()
    torch.testing.assert_close(value, loss(x), equal_nan=True)
    assert plain.grad[0].isnan().all()
    if reduction != "mean":
        torch.testing.assert_close(plain.grad[1], native.grad[1])
