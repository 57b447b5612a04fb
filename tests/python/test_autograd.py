# SPDX-License-Identifier: MIT
"""How the functions behave inside autograd."""

from __future__ import annotations

import contextlib
import gc
import weakref

import oracle
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from tolerances import FLOAT16_EPS, GRADIENT, SECOND_DERIVATIVE, VALUE

import fused_ssim

SHAPES = [(2, 3, 21, 34), (1, 2, 11, 13, 18)]
REDUCTIONS = ["mean", "sum", "image", "channel", "none"]


def ssim_of(shape):
    return fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim


shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)
reductions = pytest.mark.parametrize("reduction", REDUCTIONS)


# ---- Modes -----------------------------------------------------------------------------------------------------------


@shapes
@reductions
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=lambda mode: mode.__name__)
def test_value_has_no_history_without_gradients(device, shape, reduction, mode):
    x, y = pair(shape, device=device)
    expected = ssim_of(shape)(x, y, reduction=reduction)
    assert expected.grad_fn is None
    x.requires_grad_()
    with mode():
        value = ssim_of(shape)(x, y, reduction=reduction)
    assert not value.requires_grad
    assert torch.equal(value, expected)


@shapes
@reductions
def test_value_is_the_same_with_and_without_gradients(device, shape, reduction):
    x, y = pair(shape, device=device)
    without = ssim_of(shape)(x, y, reduction=reduction)
    value = ssim_of(shape)(x.requires_grad_(), y, reduction=reduction)
    assert value.requires_grad
    assert value.grad_fn is not None
    assert relative_error(value, without.cpu().double()) <= VALUE[torch.float32]


@shapes
@pytest.mark.parametrize("second", [False, True], ids=["first", "both"])
def test_backward_after_train_false_is_an_error(device, shape, second):
    x, y = pair(shape, device=device)
    value = ssim_of(shape)(x.requires_grad_(), y.requires_grad_(second), train=False)
    assert absolute_error(value, oracle.ssim(x, y)) <= VALUE[torch.float32]
    with pytest.raises(RuntimeError, match=r"train=False.*call it with train=True"):
        value.backward()
    assert x.grad is None


def test_train_false_keeps_no_image_alive(device):
    x, y = pair((1, 1, 16, 16), device=device)
    x.requires_grad_()
    reference = weakref.ref(y)
    value = fused_ssim.fused_ssim(x, y, train=False)
    del y
    gc.collect()
    assert reference() is None
    assert value.requires_grad


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
@shapes
@reductions
def test_gradient_goes_to_the_images_that_require_it(device, shape, reduction, first, second):
    x, y = pair(shape, device=device)
    upstream = torch.rand(oracle.ssim(x, y, reduction=reduction).shape, generator=torch.Generator().manual_seed(5))
    _, expected_x, expected_y = oracle.ssim_and_grads(x, y, reduction=reduction, upstream=upstream)
    value = ssim_of(shape)(x.requires_grad_(first), y.requires_grad_(second), reduction=reduction)
    value.backward(upstream.to(device))
    for image, wanted, expected in ((x, first, expected_x), (y, second, expected_y)):
        assert (image.grad is not None) == wanted
        if wanted:
            assert relative_error(image.grad, expected) <= GRADIENT[torch.float32]


# ---- The same images -------------------------------------------------------------------------------------------------


@shapes
def test_gradient_is_zero_for_an_image_against_itself(device, shape):
    x, y = pair(shape, device=device)
    _, scale = fused_ssim.value_and_grad(x, y)
    value = ssim_of(shape)(x.requires_grad_(), x)
    value.backward()
    assert float(value.detach()) == 1.0
    assert float(x.grad.abs().max()) <= 1e-6 * float(scale.abs().max())


@shapes
@reductions
def test_gradient_is_right_for_overlapping_images(device, shape, reduction):
    base, _ = pair((*shape[:-1], shape[-1] + 3), device=device)
    upstream = torch.rand(
        oracle.ssim(base[..., 3:], base[..., :-3], reduction=reduction).shape,
        generator=torch.Generator().manual_seed(5),
    )
    wide = base.cpu().double().requires_grad_()
    value = oracle.reduce(oracle.ssim_map(wide[..., 3:], wide[..., :-3]), reduction)
    (expected,) = torch.autograd.grad(value, wide, upstream.double())
    base.requires_grad_()
    ssim_of(shape)(base[..., 3:], base[..., :-3], reduction=reduction).backward(upstream.to(device))
    assert relative_error(base.grad, expected) <= GRADIENT[torch.float32]


# ---- Backward, again and in other ways -------------------------------------------------------------------------------


@shapes
@reductions
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=readable)
def test_second_backward_gives_the_same_bits(device, shape, reduction, dtype):
    x, y = pair(shape, dtype, device)
    x.requires_grad_()
    y.requires_grad_()
    value = ssim_of(shape)(x, y, reduction=reduction)
    upstream = torch.full_like(value, 3.0)
    first = torch.autograd.grad(value, (x, y), upstream, retain_graph=True)
    kept = [grad.clone() for grad in first]
    for grad in first:
        grad.fill_(float("nan"))  # the caller's to write to
    second = torch.autograd.grad(value, (x, y), upstream, retain_graph=True)
    third = torch.autograd.grad(value, (x, y), upstream)
    for expected, *others in zip(kept, second, third, strict=True):
        assert all(torch.equal(other, expected) for other in others)


@shapes
def test_second_backward_follows_its_own_upstream_gradient(device, shape):
    x, y = pair(shape, device=device)
    x.requires_grad_()
    value = ssim_of(shape)(x, y)
    (first,) = torch.autograd.grad(value, x, torch.tensor(0.0, device=device), retain_graph=True)
    (second,) = torch.autograd.grad(value, x)
    _, expected, _ = oracle.ssim_and_grads(x, y)
    assert not first.any()
    assert relative_error(second, expected) <= GRADIENT[torch.float32]


@pytest.mark.parametrize("side", [11, 16])
def test_derivatives_of_a_valid_map_of_the_loss_are_those_of_plain_torch(side):
    # |pred - target|, which has no share in this loss, has another size than the map.
    x, y = pair((1, 1, side, side), torch.float64)
    loss = fused_ssim.SSIMLoss("valid", reduction="none")
    direction = torch.ones_like(x)

    def exact(image):
        return 1 - oracle.ssim_map(image, y, "valid")

    def second_derivative(function):
        image = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(function(image).square().sum(), image, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), image)[0]

    expected_value, expected_tangent = torch.func.jvp(exact, (x,), (direction,))
    for function in (
        lambda image: loss(image, y),
        lambda image: fused_ssim.photometric_loss(image, y, 1, "valid", reduction="none"),
    ):
        assert relative_error(second_derivative(function), second_derivative(exact)) <= SECOND_DERIVATIVE[torch.float64]
        value, tangent = torch.func.jvp(function, (x,), (direction,))
        assert value.shape == tangent.shape == expected_value.shape
        assert relative_error(tangent, expected_tangent) <= SECOND_DERIVATIVE[torch.float64]


def test_second_backward_without_retained_graph_is_an_error(device):
    x, y = pair((1, 1, 16, 16), device=device)
    value = fused_ssim.fused_ssim(x.requires_grad_(), y)
    value.backward()
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


def test_gradients_accumulate(device):
    x, y = pair((1, 2, 16, 19), device=device)
    _, expected, _ = oracle.ssim_and_grads(x, y)
    x.requires_grad_()
    for _ in range(3):
        fused_ssim.fused_ssim(x, y).backward()
    assert relative_error(x.grad, 3 * expected) <= GRADIENT[torch.float32]


@shapes
def test_loss_of_several_terms_has_the_right_gradient(device, shape):
    x, y = pair(shape, device=device)
    reference = x.cpu().double().requires_grad_()
    target = y.cpu().double()
    loss = 0.2 * (1 - oracle.ssim_map(reference**2, target).mean()) + 0.8 * (reference - target).abs().mean()
    loss.backward()
    x.requires_grad_()
    (0.2 * (1 - ssim_of(shape)(x**2, y)) + 0.8 * (x - y).abs().mean()).backward()
    assert relative_error(x.grad, reference.grad) <= GRADIENT[torch.float32]


@shapes
@reductions
def test_upstream_gradient_may_be_expanded(device, shape, reduction):
    x, y = pair(shape, device=device)
    _, expected, _ = oracle.ssim_and_grads(x, y, reduction=reduction)
    x.requires_grad_()
    ssim_of(shape)(x, y, reduction=reduction).sum().backward()  # the gradient of sum() is one element, expanded
    assert relative_error(x.grad, expected) <= GRADIENT[torch.float32]


LAYOUTS = {
    "contiguous": lambda image: image.contiguous(),
    "channels last": lambda image: image.contiguous(
        memory_format=torch.channels_last if image.dim() == 4 else torch.channels_last_3d
    ),
    "transposed": lambda image: image.mT.contiguous().mT,
}


# Odd numbers of elements: a last pack of several elements is not full.
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=readable)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 1, 11, 13), (1, 3, 61, 67), (1, 1, 7, 9, 11)], ids=readable)
def test_every_element_follows_the_upstream_gradient(device, shape, dtype, layout):
    x, y = (LAYOUTS[layout](image.to(dtype)) for image in pair(shape, device=device))
    x.requires_grad_()
    value = ssim_of(shape)(x, y, reduction="sum")  # gradients near 1: no float16 is subnormal, and doubling is exact
    (one,) = torch.autograd.grad(value, x, torch.ones_like(value), retain_graph=True)
    (two,) = torch.autograd.grad(value, x, torch.full_like(value, -2.0))
    assert torch.equal(two, -2 * one)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=readable)
def test_upstream_gradient_may_come_from_another_dtype(device, dtype):
    x, y = pair((2, 3, 16, 19), device=device)
    upstream = torch.tensor([0.5, 2.0])
    _, expected, _ = oracle.ssim_and_grads(x, y, reduction="image", upstream=upstream)
    x.requires_grad_()
    value = fused_ssim.fused_ssim(x, y, reduction="image")
    value.to(dtype).backward(upstream.to(device, dtype))
    assert relative_error(x.grad, expected) <= GRADIENT[torch.float32]


@shapes
@reductions
def test_image_changed_before_backward_is_an_error_or_does_not_matter(device, shape, reduction):
    x, y = pair(shape, device=device)
    upstream = torch.rand(oracle.ssim(x, y, reduction=reduction).shape, generator=torch.Generator().manual_seed(5))
    _, expected, _ = oracle.ssim_and_grads(x, y, reduction=reduction, upstream=upstream)
    x.requires_grad_()
    value = ssim_of(shape)(x, y, reduction=reduction)
    y.zero_()
    grad = None
    with contextlib.suppress(RuntimeError):
        (grad,) = torch.autograd.grad(value, x, upstream.to(device), retain_graph=True)
    if grad is not None:  # computed in forward, from the image before the change
        assert relative_error(grad, expected) <= GRADIENT[torch.float32]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(value, x, upstream.to(device))


@shapes
@reductions
def test_images_moved_away_between_forward_and_backward_are_found(device, shape, reduction):
    # Hooks that pack saved tensors bring them back at another address, here with other strides too.
    x, y = pair((*shape[:-1], 2 * shape[-1]), device=device)
    x, y = x[..., ::2], y[..., 1::2]
    _, expected, _ = oracle.ssim_and_grads(x, y, reduction=reduction)
    x = x.detach().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone().contiguous(), lambda t: t):
        value = ssim_of(shape)(x, y, reduction=reduction)
    for _ in range(2):
        (grad,) = torch.autograd.grad(value, x, torch.ones_like(value), retain_graph=True)
        assert relative_error(grad, expected) <= GRADIENT[torch.float32]


@shapes
def test_images_may_change_the_order_of_their_axes_between_forward_and_backward(device, shape):
    # Maps that are saved for a volume are in the order that its axes had in memory.
    x, y = (image.transpose(2, -1) for image in pair((*shape[:2], 40, *shape[3:]), device=device))
    _, expected, _ = oracle.ssim_and_grads(x, y)
    x = x.detach().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.contiguous(), lambda t: t):
        value = ssim_of(shape)(x, y)
    value.backward()
    assert relative_error(x.grad, expected) <= GRADIENT[torch.float32]


def test_parameters_and_subclasses_are_images(device):
    class Image(torch.Tensor):
        pass

    x, y = pair((1, 3, 20, 22), device=device)
    _, expected, _ = oracle.ssim_and_grads(x, y)
    parameter = torch.nn.Parameter(x.clone())
    value = fused_ssim.fused_ssim(parameter, y.as_subclass(Image))
    assert type(value) is torch.Tensor
    value.backward()
    assert relative_error(parameter.grad, expected) <= GRADIENT[torch.float32]
    image = x.as_subclass(Image).requires_grad_()
    fused_ssim.fused_ssim(image, y).backward()
    assert relative_error(image.grad.as_subclass(torch.Tensor), expected) <= GRADIENT[torch.float32]


# ---- Second derivatives ----------------------------------------------------------------------------------------------


@shapes
@reductions
def test_second_derivative_matches_oracle(device, shape, reduction):
    x, y = pair(shape, torch.float64, device)
    reference = x.cpu().clone().requires_grad_()
    value = oracle.reduce(oracle.ssim_map(reference, y.cpu()), reduction).square().sum()
    (grad,) = torch.autograd.grad(value, reference, create_graph=True)
    (expected,) = torch.autograd.grad(grad.square().sum(), reference)
    x.requires_grad_()
    value = ssim_of(shape)(x, y, reduction=reduction).square().sum()
    (grad,) = torch.autograd.grad(value, x, create_graph=True)
    grad.square().sum().backward()
    assert relative_error(x.grad, expected) <= SECOND_DERIVATIVE[torch.float64]


@shapes
def test_gradient_penalty_reaches_both_images(device, shape):
    x, y = pair(shape, device=device)
    expected = []
    for dtype, where in ((torch.float64, "cpu"), (torch.float32, device)):
        a, b = x.to(where, dtype).requires_grad_(), y.to(where, dtype).requires_grad_()
        value = oracle.ssim_map(a, b).mean() if dtype == torch.float64 else ssim_of(shape)(a, b)
        (grad,) = torch.autograd.grad(value, b, create_graph=True)
        grad.square().sum().backward()
        expected.append((a.grad, b.grad))
    for actual, reference in zip(expected[1], expected[0], strict=True):
        assert relative_error(actual, reference) <= SECOND_DERIVATIVE[torch.float32]


def test_gradient_under_create_graph_has_the_bits_of_an_ordinary_one(device):
    x, y = pair((1, 2, 16, 19), device=device)
    x.requires_grad_()
    value = fused_ssim.fused_ssim(x, y)
    (ordinary,) = torch.autograd.grad(value, x, retain_graph=True)
    (differentiable,) = torch.autograd.grad(value, x, create_graph=True)
    assert differentiable.requires_grad
    assert torch.equal(ordinary, differentiable)


def test_create_graph_is_no_error_for_other_terms(device):
    x, y = pair((1, 1, 16, 18), device=device)
    x.requires_grad_()
    (other,) = torch.autograd.grad((x**3).sum() + fused_ssim.fused_ssim(x, y).detach(), x, create_graph=True)
    other.sum().backward()
    assert torch.allclose(x.grad, 6 * x.detach())


@reductions
def test_batched_upstream_gradient_is_a_jacobian(device, reduction):
    x, y = pair((2, 2, 13, 15), device=device)
    x.requires_grad_()
    value = fused_ssim.fused_ssim(x, y, reduction=reduction)
    directions = torch.rand((3, *value.shape), generator=torch.Generator().manual_seed(1)).to(device)
    (batched,) = torch.autograd.grad(value, x, directions, is_grads_batched=True, retain_graph=True)
    for row, direction in zip(batched, directions, strict=True):
        (expected,) = torch.autograd.grad(value, x, direction, retain_graph=True)
        assert relative_error(row, expected.cpu().double()) <= GRADIENT[torch.float32]


# ---- float16 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "image", "channel"])
@pytest.mark.parametrize("shape", [(1, 3, 160, 240), (1, 1, 32, 40, 48)], ids=readable)
def test_float16_gradient_is_accurate_under_a_loss_scale(device, shape, reduction):
    # A mean over this many pixels has gradients below the range of float16: the loss scale, which is known only in
    # backward, must reach them before they are rounded.
    x, y = pair(shape, torch.float16, device)
    scale = 65536.0
    upstream = torch.full(oracle.ssim(x, y, reduction=reduction).shape, -scale)
    _, expected, _ = oracle.ssim_and_grads(x, y, reduction=reduction, upstream=upstream)
    x.requires_grad_()
    loss = (1 - ssim_of(shape)(x, y, reduction=reduction)).sum()
    (loss * scale).backward()
    assert float(expected.abs().median()) / scale < 2.0**-14  # without the scale: subnormal
    # Rounded once to 11 bits; elements below the normal range have an absolute error of half their spacing.
    error = (x.grad.cpu().double() - expected).abs()
    allowed = 1.01 * FLOAT16_EPS * expected.abs() + 2.0**-25 + GRADIENT[torch.float32] * expected.abs().max()
    assert bool((error <= allowed).all())


def test_float16_gradient_does_not_overflow_for_a_wide_data_range(device):
    x, y = (255 * image for image in pair((1, 1, 64, 96), torch.float16, device))
    _, expected, _ = oracle.ssim_and_grads(x, y, data_range=255, upstream=torch.tensor(2.0**20))
    x.requires_grad_()
    fused_ssim.fused_ssim(x, y, data_range=255).backward(torch.tensor(2.0**20, device=device))
    assert relative_error(x.grad, expected) <= GRADIENT[torch.float16]
