# SPDX-License-Identifier: MIT
"""torch.func: grad, vmap, jvp and what is made of them agree with ordinary calls."""

from __future__ import annotations

import oracle
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from tolerances import GRADIENT, SECOND_DERIVATIVE, VALUE
from torch.autograd import forward_ad

import fused_ssim

SHAPES = [(2, 3, 13, 17), (1, 2, 6, 7, 9)]
BATCH = 3
F64 = torch.float64

shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)
REDUCTIONS = ["mean", "sum", "image", "channel", "none"]


def ssim(reduction="mean", padding="same", **settings):
    def call(x, y, mask=None):
        function = fused_ssim.fused_ssim3d if x.dim() == 5 else fused_ssim.fused_ssim
        return function(x, y, padding, reduction=reduction, window_size=5, mask=mask, **settings)

    return call


def loss(reduction="mean", padding="same", **settings):
    def call(x, y, mask=None):
        return fused_ssim.photometric_loss(
            x, y, padding=padding, reduction=reduction, window_size=5, mask=mask, **settings
        )

    return call


def ms_ssim(reduction="mean"):
    module = fused_ssim.MSSSIMLoss(window_size=5, weights=[0.5, 0.5], padding="same", reduction=reduction)
    return lambda x, y, _mask=None: module(x, y)


CALLS = {f"ssim-{reduction}": ssim(reduction) for reduction in REDUCTIONS}
CALLS["ssim-valid"] = ssim(padding="valid")
CALLS["loss-mean"] = loss()
CALLS["loss-image"] = loss("image", "valid")
CALLS["loss-sum"] = loss("sum")
CALLS["loss-sum-valid"] = loss("sum", "valid")
CALLS["loss-none"] = loss("none")
CALLS["ms-mean"] = ms_ssim()
CALLS["ms-sum"] = ms_ssim("sum")
CALLS["ms-channel"] = ms_ssim("channel")

calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def batches(shape, device):
    return pair((BATCH, *shape), F64, device)


def gradient(call, x, y, mask=None):
    x = x.detach().requires_grad_()
    (grad,) = torch.autograd.grad(call(x, y, mask).square().sum(), x)
    return grad


def close(actual, expected, tolerance):
    assert actual.shape == expected.shape
    return relative_error(actual, expected.detach().cpu()) <= tolerance


# ---- grad and vmap ---------------------------------------------------------------------------------------------------


@shapes
@calls
def test_func_grad_is_the_gradient(device, shape, call):
    x, y = pair(shape, F64, device)
    grad_x, grad_y = torch.func.grad(lambda a, b: call(a, b).square().sum(), argnums=(0, 1))(x, y)
    assert close(grad_x, gradient(call, x, y), GRADIENT[F64])
    assert close(grad_y, gradient(lambda b, a, _: call(a, b), y, x), GRADIENT[F64])


@shapes
@calls
def test_vmap_is_a_loop(device, shape, call):
    x, y = batches(shape, device)
    batched = torch.func.vmap(call)(x, y)
    assert close(batched, torch.stack([call(a, b) for a, b in zip(x, y, strict=True)]), VALUE[F64])


@shapes
@calls
def test_vmap_takes_any_axis_and_a_shared_image(device, shape, call):
    x, y = batches(shape, device)
    expected = torch.stack([call(a, y[0]) for a in x])
    assert close(torch.func.vmap(call, in_dims=(2, None))(x.movedim(0, 2), y[0]), expected, VALUE[F64])
    expected = torch.stack([call(x[0], b) for b in y])
    assert close(torch.func.vmap(call, in_dims=(None, -1))(x[0], y.movedim(0, -1)), expected, VALUE[F64])


@shapes
@calls
def test_vmap_of_grad_is_a_gradient_for_each(device, shape, call):
    x, y = batches(shape, device)
    batched = torch.func.vmap(torch.func.grad(lambda a, b: call(a, b).square().sum()))(x, y)
    assert close(batched, torch.stack([gradient(call, a, b) for a, b in zip(x, y, strict=True)]), GRADIENT[F64])


@calls
def test_grad_of_vmap_is_the_gradient_of_the_batch(device, call):
    x, y = batches(SHAPES[0], device)
    batched = torch.func.grad(lambda a: torch.func.vmap(call)(a, y).square().sum())(x)
    assert close(batched, torch.stack([gradient(call, a, b) for a, b in zip(x, y, strict=True)]), GRADIENT[F64])


def test_backward_through_vmap_is_the_gradient_of_the_batch(device):
    x, y = batches(SHAPES[0], device)
    x.requires_grad_()
    torch.func.vmap(ssim())(x, y).square().sum().backward()
    expected = torch.stack([gradient(ssim(), a, b) for a, b in zip(x.detach(), y, strict=True)])
    assert close(x.grad, expected, GRADIENT[F64])


def test_vmap_within_vmap_is_a_loop_within_a_loop(device):
    x, y = pair((2, 3, 1, 2, 13, 17), F64, device)
    batched = torch.func.vmap(torch.func.vmap(ssim()))(x, y)
    expected = torch.stack(
        [torch.stack([ssim()(a, b) for a, b in zip(p, q, strict=True)]) for p, q in zip(x, y, strict=True)]
    )
    assert close(batched, expected, VALUE[F64])


MASKS = {
    "ssim-mean": ssim(),
    "normalized": ssim(mask_mode="normalized"),
    "sum": ssim("sum"),
    "image": ssim("image"),
    "loss-mean": loss(),
    "loss-sum-valid": loss("sum", "valid"),
}


@pytest.mark.parametrize("call", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("shape", [(BATCH, 2, 3, 13, 17), (BATCH, 1, 1, 13, 17), (BATCH, 2, 1, 13, 1)], ids=readable)
def test_vmap_takes_masks(device, shape, call):
    x, y = batches(SHAPES[0], device)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=F64).to(device)
    batched = torch.func.vmap(call)(x, y, mask)
    assert close(batched, torch.stack([call(a, b, m) for a, b, m in zip(x, y, mask, strict=True)]), VALUE[F64])
    shared = torch.func.vmap(call, in_dims=(0, 0, None))(x, y, mask[0])
    assert close(shared, torch.stack([call(a, b, mask[0]) for a, b in zip(x, y, strict=True)]), VALUE[F64])
    grads = torch.func.vmap(torch.func.grad(lambda a, b, m: call(a, b, m).square().sum()))(x, y, mask)
    expected = [gradient(call, a, b, m) for a, b, m in zip(x, y, mask, strict=True)]
    assert close(grads, torch.stack(expected), GRADIENT[F64])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=readable)
def test_vmap_of_16_bit_images_gives_float32(device, dtype):
    x, y = pair((BATCH, 1, 3, 40, 44), dtype, device)
    batched = torch.func.vmap(ssim())(x, y)
    assert batched.dtype == torch.float32
    expected = torch.stack([oracle.ssim(a, b, window_size=5) for a, b in zip(x, y, strict=True)])
    assert absolute_error(batched, expected) <= VALUE[dtype]


# ---- Jacobians and forward mode --------------------------------------------------------------------------------------


def test_jacrev_is_a_jacobian(device):
    x, y = pair((2, 2, 7, 8), F64, device)
    jacobian = torch.func.jacrev(lambda a: ssim("channel")(a, y))(x)
    reference = x.clone().requires_grad_()
    values = ssim("channel")(reference, y)
    for index in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        (expected,) = torch.autograd.grad(values[index], reference, retain_graph=True)
        assert close(jacobian[index], expected, GRADIENT[F64])


@shapes
@calls
def test_jvp_is_the_gradient_along_the_tangent(device, shape, call):
    x, y = pair(shape, F64, device)
    tangent_x, tangent_y = pair(shape, F64, device, seed=1)
    value, derivative = torch.func.jvp(call, (x, y), (tangent_x, tangent_y))
    assert close(value, call(x, y), VALUE[F64])
    a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
    grads = torch.autograd.grad(call(a, b).sum(), (a, b))
    expected = (grads[0] * tangent_x).sum() + (grads[1] * tangent_y).sum()
    assert close(derivative.sum(), expected, 1e-11)  # a sum of terms of either sign


@pytest.mark.parametrize("requires_grad", [False, True])
def test_dual_numbers_carry_the_derivative(device, requires_grad):
    x, y = pair(SHAPES[0], F64, device)
    tangent, _ = pair(SHAPES[0], F64, device, seed=1)
    _, expected_derivative = torch.func.jvp(lambda a: ssim()(a, y), (x,), (tangent,))
    expected = ssim()(x, y)
    x.requires_grad_(requires_grad)
    with forward_ad.dual_level():
        value, derivative = forward_ad.unpack_dual(ssim()(forward_ad.make_dual(x, tangent), y))
        assert close(value, expected, VALUE[F64])
        assert close(derivative, expected_derivative, VALUE[F64])
        plain = ssim()(x.detach(), y)  # without a tangent
        assert close(plain, expected, VALUE[F64])


def test_hessian_is_that_of_the_oracle(device):
    x, y = pair((1, 1, 5, 6), F64, device)
    call = lambda a: fused_ssim.fused_ssim(a, y, window_size=3)  # noqa: E731
    reference = lambda a: oracle.ssim_map(a, y.cpu(), window_size=3).mean()  # noqa: E731
    expected = torch.autograd.functional.hessian(reference, x.cpu())
    for hessian in (torch.func.hessian(call), torch.func.jacrev(torch.func.jacrev(call))):
        assert close(hessian(x), expected, SECOND_DERIVATIVE[F64])
    assert close(torch.autograd.functional.hessian(call, x), expected, SECOND_DERIVATIVE[F64])


def test_value_and_grad_can_be_transformed(device):
    x, y = batches(SHAPES[0], device)
    values, grads = torch.func.vmap(lambda a, b: fused_ssim.value_and_grad(a, b, window_size=5))(x, y)
    for value, grad, a, b in zip(values, grads, x, y, strict=True):
        expected, expected_grad = fused_ssim.value_and_grad(a, b, window_size=5)
        assert close(value, expected, VALUE[F64])
        assert close(grad, expected_grad, GRADIENT[F64])


def test_train_false_has_no_gradient_under_func_grad(device):
    x, y = pair(SHAPES[0], F64, device)
    with pytest.raises(RuntimeError, match="train=True"):
        torch.func.grad(lambda a: fused_ssim.fused_ssim(a, y, train=False))(x)


def test_bad_input_is_an_error_under_vmap():
    x, y = torch.zeros(2, 1, 1, 20, 20), torch.zeros(2, 1, 1, 20, 21)
    with pytest.raises(ValueError, match=r"img2\.shape = \(1, 1, 20, 21\)"):
        torch.func.vmap(fused_ssim.fused_ssim)(x, y)


# ---- Which way calls take --------------------------------------------------------------------------------------------


@pytest.fixture
def no_composite(monkeypatch):
    def refuse(*_arguments):
        raise AssertionError("the slow way")

    for name in ("ssim", "ssim_with_windows", "gradients"):
        monkeypatch.setattr(fused_ssim._torch.composite, name, refuse)


@calls
@shapes
@pytest.mark.usefixtures("no_composite")
def test_ordinary_calls_run_the_native_library(device, shape, call):
    x, y = pair(shape, F64, device)
    x.requires_grad_()
    y.requires_grad_()
    torch.autograd.grad(call(x, y).sum(), (x, y), create_graph=True)


@pytest.mark.parametrize("name", ["ssim", "ms_ssim"])
@pytest.mark.usefixtures("no_composite")
def test_pytorch_msssim_interface_runs_the_native_library(device, name):
    x, y = pair((1, 2, 40, 44), F64, device)
    function = getattr(fused_ssim, name)
    own = torch.tensor([0.25, 0.5, 0.25]).expand(2, 1, 1, 3)
    for window in ({"win_size": 3}, {"win": own}):
        function(x.requires_grad_(), y, data_range=1, **window).backward()
    with pytest.raises(AssertionError, match="the slow way"):
        function(x, y, data_range=1, win=torch.tensor([0.5, 0.3, 0.2]).expand(2, 1, 1, 3))


@pytest.mark.parametrize("name", [name for name in CALLS if name != "loss-sum-valid"])
@pytest.mark.usefixtures("no_composite")
def test_func_grad_and_vmap_run_the_native_library(device, name):
    x, y = batches(SHAPES[0], device)
    torch.func.vmap(torch.func.grad(lambda a, b: CALLS[name](a, b).sum()))(x, y)
