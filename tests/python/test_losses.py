# SPDX-License-Identifier: MIT
"""The photometric loss, losses as modules, MS-SSIM and its reductions, against float64 autograd of the definitions."""

from __future__ import annotations

import copy
import inspect
import pickle

import oracle
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from tolerances import GRADIENT, GRADIENT_SCALED, MAP, VALUE, mean_tolerance

import fused_ssim
from fused_ssim import MSSSIMLoss, PhotometricLoss, SSIMLoss, photometric_loss

SHAPES = [(2, 3, 25, 34), (2, 2, 12, 13, 18)]
REDUCTIONS = ["mean", "sum", "image", "channel", "none"]
WEIGHTS = [0.2, 0.5, 0.3]

shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)
paddings = pytest.mark.parametrize("padding", ["same", "valid"])


def agree(actual, x, y, expected, expected_x, expected_y, tolerance, scales=1):
    assert actual.shape == expected.shape
    assert relative_error(actual, expected) <= tolerance
    scaled = scales * GRADIENT_SCALED[x.dtype]
    assert relative_error(x.grad, expected_x) <= scaled
    assert relative_error(y.grad, expected_y) <= scaled


# ---- photometric_loss ------------------------------------------------------------------------------------------------


@shapes
@paddings
@pytest.mark.parametrize("lambda_dssim", [0, 0.2, 0.85, 1.0], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=readable)
def test_loss_matches_definition(device, shape, padding, lambda_dssim, dtype):
    x, y = pair(shape, dtype, device)
    upstream = torch.tensor(3000.0)  # as a loss scale, for float16
    expected = oracle.objective_and_grads(x, y, padding, lambda_dssim=float(lambda_dssim), upstream=upstream)
    x.requires_grad_()
    y.requires_grad_()
    value = photometric_loss(x, y, lambda_dssim, padding)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    value.backward(upstream.to(value))
    agree(value, x, y, *expected, 3 * mean_tolerance(dtype, x.numel()))


@shapes
@paddings
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=readable)
def test_loss_reductions_match_definition(device, shape, padding, reduction, dtype):
    x, y = pair(shape, dtype, device)
    settings = {"lambda_dssim": 1.0 if (reduction, padding) == ("none", "valid") else 0.2, "reduction": reduction}
    value = oracle.objective(x.cpu().double(), y.cpu().double(), padding, **settings)
    upstream = torch.linspace(300, -700, value.numel()).reshape(value.shape)
    expected = oracle.objective_and_grads(x, y, padding, upstream=upstream, **settings)
    x.requires_grad_()
    y.requires_grad_()
    value = photometric_loss(x, y, padding=padding, **settings)
    value.backward(upstream.to(value))
    agree(value, x, y, *expected, MAP[dtype])


@shapes
def test_loss_keeps_its_digits_where_images_nearly_agree(device, shape):
    x, _ = pair(shape, device=device)
    y = x + 1e-4 * torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device)
    for lambda_dssim in (0.2, 1.0):
        expected = oracle.objective(x.cpu().double(), y.cpu().double(), lambda_dssim=lambda_dssim)
        assert float(expected) < 1e-4
        assert relative_error(photometric_loss(x, y, lambda_dssim), expected) <= 1e-5


@shapes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=readable)
def test_loss_of_an_image_and_itself_is_zero_with_a_gradient_of_zero(device, shape, dtype):
    x, _ = pair(shape, dtype, device)
    x.requires_grad_()
    value = photometric_loss(x, x.detach().clone())
    value.backward()
    assert float(value.detach()) == 0
    assert not x.grad.any()


def test_loss_without_ssim_is_the_mean_of_differences(device):
    x, y = pair(SHAPES[0], torch.float64, device)
    assert absolute_error(photometric_loss(x, y, 0.0), (x - y).abs().mean().cpu()) <= 1e-15


@shapes
def test_loss_gives_its_gradient_twice_and_in_inference(device, shape):
    x, y = pair(shape, device=device)
    x.requires_grad_()
    value = photometric_loss(x, y)
    (first,) = torch.autograd.grad(value, x, torch.tensor(2.0, device=device), retain_graph=True)
    (second,) = torch.autograd.grad(value, x, torch.tensor(2.0, device=device))
    assert torch.equal(first, second)
    with torch.no_grad():
        assert absolute_error(photometric_loss(x, y), value.detach().cpu().double()) <= VALUE[torch.float32]
    with pytest.raises(RuntimeError, match="train=True"):
        photometric_loss(x, y, train=False).backward()


def test_loss_arguments_are_in_the_documented_order():
    names = list(inspect.signature(photometric_loss).parameters)
    assert names[:5] == ["pred", "target", "lambda_dssim", "padding", "train"]


@pytest.mark.parametrize(
    ("settings", "exception", "text"),
    [
        ({"lambda_dssim": -0.1}, ValueError, r"lambda_dssim = -0\.1"),
        ({"lambda_dssim": 1.5}, ValueError, r"lambda_dssim = 1\.5"),
        ({"lambda_dssim": float("nan")}, ValueError, "lambda_dssim = nan"),
        ({"lambda_dssim": "0.2"}, TypeError, r"lambda_dssim = '0\.2'"),
        ({"reduction": "none", "padding": "valid"}, ValueError, "(?i)none"),
        ({"window_size": 4}, ValueError, "window_size = 4"),
    ],
    ids=str,
)
def test_loss_out_of_range_is_an_error(settings, exception, text):
    x = torch.zeros(1, 1, 20, 20)
    with pytest.raises(exception, match=text):
        photometric_loss(x, x, **settings)


def test_loss_errors_name_its_arguments():
    x = torch.zeros(1, 1, 20, 20)
    with pytest.raises(ValueError, match=r"pred\.shape = .* but target\.shape = "):
        photometric_loss(x, x[..., 1:])
    with pytest.raises(ValueError, match=r"pred\.shape\[3\] = 5 < window 11"):
        photometric_loss(x[..., :5], x[..., :5], padding="valid")
    with pytest.raises(TypeError, match="target is of type list"):
        photometric_loss(x, [0.0])
    with pytest.raises(ValueError, match=r"pred\.shape = \(1, 20, 20\) has 3 axes"):
        photometric_loss(x[0], x[0])


# ---- MS-SSIM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 25, 34), (2, 2, 21, 22, 26)], ids=readable)
@paddings
@pytest.mark.parametrize("reduction", ["mean", "sum", "image", "channel"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=readable)
def test_ms_ssim_loss_matches_definition(device, shape, padding, reduction, dtype):
    x, y = pair(shape, dtype, device)
    window = {"window_size": 5, "sigma": 1.0}

    def definition(a, b):
        planes = 1 - oracle.ms_ssim(a, b, padding, WEIGHTS, **window)
        return planes if reduction == "channel" else oracle.reduce(planes, reduction)

    a, b = (image.detach().cpu().double().requires_grad_() for image in (x, y))
    expected = definition(a, b)
    upstream = torch.linspace(3000, -7000, expected.numel(), dtype=torch.float64).reshape(expected.shape)
    expected.backward(upstream)
    x.requires_grad_()
    y.requires_grad_()
    loss = MSSSIMLoss(padding, weights=WEIGHTS, reduction=reduction, **window)
    value = loss(x, y)
    value.backward(upstream.to(value))
    agree(value, x, y, expected.detach(), a.grad, b.grad, MAP[dtype], scales=3)


def test_ms_ssim_loss_of_bad_settings_is_an_error():
    with pytest.raises(ValueError, match=r"reduction = 'none'"):
        MSSSIMLoss(reduction="none")
    with pytest.raises(TypeError, match="weights"):
        MSSSIMLoss(weights=["a"])
    x = torch.zeros(1, 1, 100, 200)
    with pytest.raises(ValueError, match=r"pred\.shape\[2\] = 100"):
        MSSSIMLoss()(x, x)
    with pytest.raises(ValueError, match=r"expected 1 to 8|at most 8"):
        MSSSIMLoss(weights=[0.1] * 9, padding="same")(x, x)


# ---- Modules ---------------------------------------------------------------------------------------------------------

MODULES = {
    "SSIMLoss": (
        SSIMLoss,
        {
            "padding": "valid",
            "window_size": 7,
            "sigma": 1.0,
            "taps": None,
            "sample_covariance": False,
            "data_range": 2.0,
            "integer_scale": 1.0,
            "K": (0.02, 0.05),
            "arithmetic": None,
            "reduction": "image",
            "mask_mode": "normalized",
        },
    ),
    "PhotometricLoss": (
        PhotometricLoss,
        {
            "lambda_dssim": 0.3,
            "padding": "valid",
            "window_size": 7,
            "sigma": 1.0,
            "taps": None,
            "sample_covariance": False,
            "data_range": 2.0,
            "integer_scale": 1.0,
            "K": (0.02, 0.05),
            "arithmetic": None,
            "reduction": "image",
            "mask_mode": "normalized",
        },
    ),
    "MSSSIMLoss": (
        MSSSIMLoss,
        {
            "padding": "same",
            "window_size": 7,
            "sigma": 1.0,
            "taps": None,
            "sample_covariance": False,
            "data_range": 2.0,
            "integer_scale": 1.0,
            "K": (0.02, 0.05),
            "arithmetic": None,
            "weights": (0.4, 0.6),
            "reduction": "image",
        },
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_module_prints_every_setting(name):
    module, settings = MODULES[name]
    shown = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    assert repr(module(**settings)) == f"{name}({shown})"
    assert list(inspect.signature(module.__init__).parameters)[1:] == list(settings)


@pytest.mark.parametrize("name", MODULES)
def test_module_can_be_copied_and_pickled(name):
    module, settings = MODULES[name]
    x, y = pair(SHAPES[0])
    original = module(**settings)
    for other in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert repr(other) == repr(original)
        assert torch.equal(other(x, y), original(x, y))
    assert not original.state_dict()
    assert not list(original.parameters())


@shapes
def test_modules_agree_with_the_functions(device, shape):
    x, y = pair(shape, device=device)
    mask = torch.rand(shape[2:], generator=torch.Generator().manual_seed(1)).to(device)
    settings = MODULES["SSIMLoss"][1]
    ssim = fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim
    expected = 1 - ssim(x, y, mask=mask, **settings)
    assert absolute_error(SSIMLoss(**settings)(x, y, mask), expected.cpu().double()) <= 1e-6
    settings = MODULES["PhotometricLoss"][1]
    assert torch.equal(PhotometricLoss(**settings)(x, y, mask), photometric_loss(x, y, mask=mask, **settings))


@pytest.mark.parametrize("module", [SSIMLoss, PhotometricLoss, MSSSIMLoss])
def test_module_of_bad_settings_is_an_error_at_once(module):
    with pytest.raises(ValueError, match="padding = 'mirror'"):
        module("mirror") if module is not PhotometricLoss else module(padding="mirror")
    with pytest.raises(TypeError, match="sigma = '1'"):
        module(sigma="1")


# ---- Maps ------------------------------------------------------------------------------------------------------------


@shapes
@paddings
def test_map_is_what_the_mean_is_of(device, shape, padding):
    x, y = pair(shape, device=device)
    _, expected_x, _ = oracle.ssim_and_grads(x, y, padding)
    values = fused_ssim.ssim_map(x.requires_grad_(), y, padding)
    assert absolute_error(values, oracle.ssim(x, y, padding, reduction="none")) <= MAP[torch.float32]
    values.mean().backward()
    assert relative_error(x.grad, expected_x) <= GRADIENT[torch.float32]
