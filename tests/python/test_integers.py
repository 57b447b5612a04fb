# SPDX-License-Identifier: MIT
"""Images of integers, the dtype of the arithmetic, and the outputs of a single call."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
import torch
from images import INTEGER_DTYPES, absolute_error, pair, readable, relative_error
from tolerances import GRADIENT, MAP, VALUE

import fused_ssim
from fused_ssim import fused_ssim as ssim

SHAPE = (2, 3, 21, 26)
F64 = torch.float64
SCALE = 1 / 255


def bytes_pair(shape=SHAPE, dtype=torch.float32, device="cpu"):
    """A prediction in [0, 1], a target of bytes, and the target as floats."""
    prediction, target = pair(shape, dtype, device)
    target = (255 * target.double()).round().to(torch.uint8)
    return prediction.requires_grad_(), target, target.double() * SCALE


@pytest.mark.parametrize("padding", fused_ssim._base.codes.PADDINGS)
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=readable)
def test_target_of_bytes_has_the_value_and_the_gradient_of_floats(device, dtype, backend, padding):
    prediction, target, floats = bytes_pair(dtype=dtype, device=device)
    with fused_ssim.backend(backend):
        loss = fused_ssim.photometric_loss(prediction, target, padding=padding, integer_scale=SCALE)
        loss.backward()
    expected, by_x, _ = oracle.objective_and_grads(prediction, floats, padding, lambda_dssim=0.2)
    assert absolute_error(loss, expected) <= VALUE[dtype]
    # The least step of float16 is that of a mean.
    assert relative_error(prediction.grad, by_x) <= GRADIENT[dtype] + (1e-2 if dtype == torch.float16 else 0)


@pytest.mark.parametrize("first", INTEGER_DTYPES, ids=readable)
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_default_range_is_that_of_the_integers(device, first, backend):
    limits = torch.iinfo(first)
    x, y = ((image * (limits.max - limits.min) + limits.min).round().to(device, first) for image in pair(SHAPE, F64))
    expected = oracle.ssim_map(x.cpu().double(), y.cpu().double(), data_range=255 if first == torch.uint8 else 65535)
    with fused_ssim.backend(backend):
        assert absolute_error(fused_ssim.ssim_map(x, y), expected) <= MAP[torch.float32]
        assert absolute_error(ssim(x, y, reduction="image"), expected.flatten(1).mean(1)) <= VALUE[torch.float32]
        # Also beside an image of floats, and for both orders.
        mixed = fused_ssim.ssim_map(x.float(), y), fused_ssim.ssim_map(x, y.double())
    assert mixed[1].dtype == F64
    for found, dtype in zip(mixed, (torch.float32, F64), strict=True):
        assert absolute_error(found, expected) <= MAP[dtype]


def test_two_kinds_of_integers_need_equal_ranges():
    x, y = (255 * torch.rand(1, 1, 12, 13)).byte(), (65535 * torch.rand(1, 1, 12, 13)).to(torch.uint16)
    with pytest.raises(ValueError, match="data_range is missing"):
        ssim(x, y)
    expected = ssim(x.double() / 255, y.double() / 65535)
    assert abs(float(ssim(x, y, integer_scale=(1 / 255, 1 / 65535), arithmetic="float64") - expected)) <= 1e-12
    # In the units of 16 bits: 257 times a byte.
    assert abs(float(ssim(x, y, integer_scale=(257, 1), arithmetic="float64") - expected)) <= 1e-12


def test_image_of_integers_has_no_gradient(device):
    x, target, _ = bytes_pair(device=device)
    for call in (
        lambda: fused_ssim.value_and_grad(x, target, argnums=1),
        lambda: fused_ssim.value_and_grad(x, target, argnums=(0, 1)),
        lambda: fused_ssim.value_map_and_grad(x, target, argnums=1),
        lambda: torch.compile(lambda: fused_ssim.value_and_grad(x, target, argnums=1), backend="eager")(),
    ):
        with pytest.raises(TypeError, match=r"img2.dtype = torch.uint8, which has no gradient"):
            call()


def test_every_function_takes_integers(device):
    x, target, floats = bytes_pair((1, 2, 34, 36), device=device)
    arguments = {"integer_scale": SCALE, "data_range": 1.0}
    floats = floats.float()
    for module in (
        fused_ssim.SSIMLoss,
        fused_ssim.PhotometricLoss,
        lambda **more: fused_ssim.MSSSIMLoss(weights=(0.5, 0.5), **more),
    ):
        found, expected = module(**arguments)(x, target), module()(x, floats)
        assert absolute_error(found, expected.double()) <= 2 * VALUE[torch.float32]
        for image in (found, expected):
            image.backward()
        assert x.grad.isfinite().all()
    for theirs, ours in zip(
        fused_ssim.ssim_terms(x, floats), fused_ssim.ssim_terms(x, target, **arguments), strict=True
    ):
        assert absolute_error(ours, theirs.double()) <= 2 * VALUE[torch.float32]
    # The names of pytorch-msssim, whose range is 255 by default.
    as_bytes = (255 * x.detach()).byte()
    expected = fused_ssim.ssim(as_bytes.float(), target.float())
    assert absolute_error(fused_ssim.ssim(as_bytes, target), expected.double()) <= VALUE[torch.float32]


def test_metric_takes_integers(device):
    metrics = pytest.importorskip("fused_ssim.metrics")
    x, target, floats = bytes_pair(device=device)
    metric, of_floats = metrics.SSIMMetric(integer_scale=SCALE).to(device), metrics.SSIMMetric().to(device)
    metric.update(x, target)
    of_floats.update(x, floats.float())
    assert absolute_error(metric.compute(), of_floats.compute().double()) <= VALUE[torch.float32]


# ---- Transformations of torch ----------------------------------------------------------------------------------------


SETTINGS = {"padding": "reflect", "window_size": (3, 5), "sample_covariance": True, "integer_scale": SCALE}


def test_transformations_take_integers_and_borders(device):
    x, target, floats = bytes_pair((1, 2, 9, 10), F64, device)
    x = x.detach()
    call = lambda a, b: ssim(a, b, **SETTINGS)  # noqa: E731
    _, expected, _ = oracle.ssim_and_grads(x, floats, "reflect", window_size=(3, 5), sample_covariance=True)
    grad, value = torch.func.grad_and_value(call)(x, target)
    assert absolute_error(value, call(x, target)) == 0
    assert relative_error(grad, expected) <= GRADIENT[F64]
    # A batch of calls, with one target or with one each.
    several = torch.stack([x, 0.5 * x])
    targets = torch.stack([target, target.flip(2)])
    for dims, second in (((0, None), target), ((0, 0), targets)):
        found = torch.func.vmap(call, in_dims=dims)(several, second)
        for index in range(2):
            alone = call(several[index], second if dims[1] is None else second[index])
            assert absolute_error(found[index], alone) <= 1e-15
    # Forward mode and second derivatives.
    direction = torch.rand_like(x)
    _, slope = torch.func.jvp(lambda a: call(a, target), (x,), (direction,))
    assert absolute_error(slope, (expected.to(device) * direction).sum()) <= 1e-12
    x.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda a: call(a, target), (x,), fast_mode=True)
    (first,) = torch.autograd.grad(call(x, target), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert second.isfinite().all()
    assert second.abs().max() > 0


@pytest.mark.parametrize("dtype", INTEGER_DTYPES, ids=readable)
def test_compiled_code_takes_integers(device, dtype):
    x, _, _ = bytes_pair((1, 2, 12, 14), device=device)
    scale = 1 / torch.iinfo(dtype).max
    target = (pair((1, 2, 12, 14), F64, device)[1] / scale).to(dtype)
    call = lambda a: fused_ssim.photometric_loss(a, target, padding="symmetric", integer_scale=scale, data_range=1.0)  # noqa: E731
    expected = torch.autograd.grad(call(x), x)
    found = torch.autograd.grad(torch.compile(call, backend="aot_eager", fullgraph=True)(x), x)
    assert relative_error(found[0], expected[0].double()) <= GRADIENT[torch.float32]


# ---- The arithmetic --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=readable)
def test_arithmetic_in_float64_has_its_digits(device, dtype, backend):
    x, y = (image.requires_grad_() for image in pair(SHAPE, dtype, device))
    for reduction in ("mean", "none"):
        with fused_ssim.backend(backend):
            value = ssim(x, y, "valid", reduction=reduction, arithmetic="float64")
            upstream = torch.ones_like(value)
            found = torch.autograd.grad(value, (x, y), upstream)
        expected, *grads = oracle.ssim_and_grads(x, y, "valid", reduction=reduction)
        assert value.dtype == F64
        assert absolute_error(value, expected) <= MAP[F64]
        for grad, want in zip(found, grads, strict=True):
            assert grad.dtype == dtype
            # Rounded once, and for float16 perhaps below its least normal number.
            assert relative_error(grad, want) <= {torch.float32: 2.0**-23}.get(dtype, 2e-2)


def test_mask_has_the_dtype_of_the_arithmetic(device):
    x, target, _ = bytes_pair(device=device)
    mask = torch.rand(SHAPE[2:], dtype=F64, device=device)
    assert ssim(x, target, mask=mask, arithmetic="float64").dtype == F64
    with pytest.raises(TypeError, match=r"expected bool or torch.float32 for images of torch.float32 and .*uint8"):
        ssim(x, target, mask=mask)


# ---- Outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("padding", ["same", "valid", "symmetric"])
def test_one_call_gives_value_map_and_gradient(device, padding, reduction, masked):
    x, y = pair(SHAPE, F64, device)
    mask = torch.rand(SHAPE[2:], dtype=F64, device=device) if masked else None
    arguments = {"window_size": 7, "mask": mask}
    value, full, (by_x, by_y) = fused_ssim.value_map_and_grad(
        x, y, padding, argnums=(0, 1), reduction=reduction, **arguments
    )
    expected, wanted = fused_ssim.value_and_grad(x, y, padding, argnums=(0, 1), reduction=reduction, **arguments)
    assert relative_error(value, expected) <= 1e-14
    assert torch.equal(full, fused_ssim.ssim_map(x, y, padding, **arguments))
    assert relative_error(by_x, wanted[0]) <= 1e-12
    assert relative_error(by_y, wanted[1]) <= 1e-12
    if not masked:
        here = fused_ssim.array.value_map_and_grad(
            x.cpu().numpy(), y.cpu().numpy(), padding, window_size=7, reduction=reduction
        )
        for found, want in zip(here, (value, full, by_x), strict=True):
            assert absolute_error(torch.as_tensor(found), want.cpu()) <= 1e-12 * max(1.0, float(want.abs().max()))


def test_value_of_identical_images_is_one(device):
    x, _ = pair((1, 3, 517, 613), device=device)
    value, full, grad = fused_ssim.value_map_and_grad(x, x)
    assert float(value) == 1
    assert bool((full == 1).all())
    assert bool((grad == 0).all())


@pytest.mark.parametrize("noise", [0.3, 1e-3, 1e-6])
def test_decibels_keep_their_digits(device, noise):
    x, y = pair(SHAPE, torch.float32, device, noise=noise)
    # The loss is linear in SSIM, so its digits are those of float64 here.
    exact = -10 * math.log10(float(oracle.objective(x.cpu().double(), y.cpu().double(), lambda_dssim=1.0)))
    assert abs(float(fused_ssim.ssim_db(x, y)) - exact) <= 1e-3
    assert abs(float(fused_ssim.array.decibels(x.cpu().numpy(), y.cpu().numpy())) - exact) <= 1e-3
    each = fused_ssim.ssim_db(x, y, reduction="image")
    assert each.shape == (SHAPE[0],)


def test_decibels_of_identical_images_are_infinite(device):
    x, _ = pair(SHAPE, device=device)
    assert float(fused_ssim.ssim_db(x, x)) == math.inf
    assert fused_ssim.array.decibels(x.cpu().numpy(), x.cpu().numpy()) == math.inf
    with pytest.raises(ValueError, match="reduction = 'sum'"):
        fused_ssim.ssim_db(x, x, reduction="sum")


# ---- Arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_arrays_of_integers_agree_with_the_definition(dtype, channel_axis):
    limits = np.iinfo(dtype)
    x, y = (
        (image.numpy() * (float(limits.max) - limits.min) + limits.min).round().astype(dtype)
        for image in pair(SHAPE, F64)
    )
    as_given = [np.moveaxis(image, 1, channel_axis) for image in (x, y)]
    settings = {"window_size": (3, 7), "taps": "uniform", "sample_covariance": True}
    expected = oracle.ssim_map(
        torch.from_numpy(x.astype(float)),
        torch.from_numpy(y.astype(float)),
        "replicate",
        data_range=255 if dtype == np.uint8 else 65535,
        **settings,
    )
    found = fused_ssim.array.map(*as_given, "replicate", arithmetic="float64", channel_axis=channel_axis, **settings)
    assert found.dtype == np.float64
    assert np.abs(np.moveaxis(found, channel_axis, 1) - expected.numpy()).max() <= MAP[F64]
    # A prediction in floats beside them.
    value, grad = fused_ssim.array.value_and_grad(
        as_given[0].astype(np.float32), as_given[1], "replicate", channel_axis=channel_axis, **settings
    )
    assert abs(value - float(expected.mean())) <= 1e-6
    assert grad.shape == as_given[0].shape
    with pytest.raises(TypeError, match=r"img2.dtype = .* has no gradient"):
        fused_ssim.array.value_and_grad(*as_given, argnums=1, channel_axis=channel_axis)


def test_masked_array_of_integers_is_a_mask():
    x, y = ((255 * image.numpy()).astype(np.uint8) for image in pair((1, 1, 20, 22), F64))
    hidden = np.zeros(x.shape, bool)
    hidden[..., 5:9, 3:14] = True
    x[hidden] = 255
    expected = fused_ssim.array.value(x, y, mask=~hidden, mask_mode="normalized")
    assert fused_ssim.array.value(np.ma.masked_array(x, hidden), y) == expected
