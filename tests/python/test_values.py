# SPDX-License-Identifier: MIT
"""Values and gradients against the oracle, for shapes of every kind and for all dtypes."""

from __future__ import annotations

import oracle
import pytest
import torch
from images import FLOAT_DTYPES, absolute_error, independent_pair, pair, readable, relative_error
from tolerances import GRADIENT, GRADIENT_SCALED, MAP, VALUE, mean_tolerance

import fused_ssim

# One pixel, sides below the window, primes, many channels, more than a thousand planes, sides around the tiles of the
# kernels (32, 128, 256 wide), tall and thin, wide and flat.
SHAPES_2D = [
    (1, 1, 1, 1),
    (1, 1, 1, 7),
    (1, 1, 7, 1),
    (1, 2, 1, 300),
    (2, 3, 5, 9),
    (1, 7, 10, 10),
    (1, 1, 11, 11),
    (1, 1, 12, 11),
    (1, 2, 31, 33),
    (2, 1, 32, 32),
    (1, 1, 33, 31),
    (1, 3, 37, 53),
    (1, 1, 61, 127),
    (1, 1, 67, 128),
    (1, 1, 13, 129),
    (1, 1, 40, 255),
    (1, 1, 41, 256),
    (1, 1, 29, 257),
    (1, 1, 300, 3),
    (1, 1, 3, 700),
    (1, 1, 1031, 12),
    (1, 1, 12, 1031),
    (1, 65, 17, 19),
    (70, 1, 13, 11),
    (30, 40, 2, 3),
    (5, 5, 23, 29),
    (1, 1, 263, 269),
    # Enough small planes for kernels that take several side by side.
    (90, 1, 28, 28),
    (24, 3, 35, 32),
    (3, 7, 113, 67),
]
SHAPES_3D = [
    (1, 1, 1, 1, 1),
    (1, 1, 1, 1, 9),
    (1, 1, 1, 9, 1),
    (1, 1, 9, 1, 1),
    (1, 1, 1, 13, 17),
    (2, 3, 5, 7, 9),
    (1, 1, 10, 10, 10),
    (1, 1, 11, 11, 11),
    (1, 2, 13, 31, 33),
    (2, 1, 16, 32, 32),
    (1, 1, 17, 33, 31),
    (1, 3, 12, 37, 41),
    (1, 1, 11, 15, 65),
    (1, 1, 11, 17, 63),
    (1, 1, 3, 5, 129),
    (1, 1, 129, 5, 3),
    (1, 1, 5, 129, 3),
    (1, 1, 64, 12, 12),
    (1, 1, 20, 48, 65),
    (1, 17, 4, 6, 5),
    (30, 40, 2, 1, 3),
    (3, 4, 12, 18, 20),
]
SHAPES = SHAPES_2D + SHAPES_3D
CASES = [(shape, "same") for shape in SHAPES] + [(shape, "valid") for shape in SHAPES if min(shape[2:]) >= 11]


def ssim_of(shape: tuple[int, ...]):
    return fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim


@pytest.mark.parametrize(("shape", "padding"), CASES, ids=readable)
def test_value_and_gradients_match_oracle_for_shape(device, shape, padding):
    x, y = independent_pair(shape, device=device)
    expected, expected_x, expected_y = oracle.ssim_and_grads(x, y, padding)
    value = ssim_of(shape)(x.requires_grad_(), y.requires_grad_(), padding)
    value.backward()
    assert value.shape == ()
    assert value.dtype == torch.float32
    elements = oracle.ssim(x, y, padding, reduction="none").numel()
    assert absolute_error(value, expected) <= mean_tolerance(torch.float32, elements)
    assert relative_error(x.grad, expected_x) <= GRADIENT[torch.float32]
    assert relative_error(y.grad, expected_y) <= GRADIENT[torch.float32]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", [(1, 3, 37, 53), (2, 2, 13, 17, 23)], ids=readable)
@pytest.mark.parametrize("which", [0, 1], ids=["first", "second"])
def test_gradient_of_one_image_matches_oracle(device, shape, padding, which):
    images = pair(shape, device=device)
    expected = oracle.ssim_and_grads(*images, padding)
    images[which].requires_grad_()
    ssim_of(shape)(*images, padding).backward()
    assert images[1 - which].grad is None
    assert relative_error(images[which].grad, expected[1 + which]) <= GRADIENT[torch.float32]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", [(2, 3, 29, 43), (1, 2, 12, 19, 17)], ids=readable)
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=readable)
def test_value_map_and_gradients_match_oracle_for_dtype(device, dtype, shape, padding):
    x, y = pair(shape, dtype, device)
    # The upstream gradient keeps a gradient of a mean within the range of float16; a power of two adds no rounding.
    upstream = torch.tensor(float(2 ** (x.numel() - 1).bit_length()))
    expected, expected_x, expected_y = oracle.ssim_and_grads(x, y, padding, upstream=upstream)
    value = ssim_of(shape)(x.requires_grad_(), y.requires_grad_(), padding)
    value.backward(upstream.to(value))
    arithmetic = torch.float64 if dtype == torch.float64 else torch.float32
    assert value.dtype == arithmetic
    assert x.grad.dtype == y.grad.dtype == dtype
    assert absolute_error(value, expected) <= VALUE[dtype]
    assert relative_error(x.grad, expected_x) <= GRADIENT[dtype]
    assert relative_error(y.grad, expected_y) <= GRADIENT[dtype]

    values = ssim_of(shape)(x.detach(), y.detach(), padding, reduction="none")
    assert values.dtype == arithmetic
    assert absolute_error(values, oracle.ssim(x, y, padding, reduction="none")) <= MAP[dtype]


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=readable)
def test_gradient_matches_oracle_for_upstream_that_is_no_power_of_two(device, dtype):
    x, y = pair((1, 3, 33, 35), dtype, device)
    upstream = torch.tensor(1234.5)
    _, expected, _ = oracle.ssim_and_grads(x, y, upstream=upstream)
    value = fused_ssim.fused_ssim(x.requires_grad_(), y)
    value.backward(upstream.to(value))
    assert relative_error(x.grad, expected) <= GRADIENT_SCALED[dtype]


@pytest.mark.parametrize("argnums", [0, 1, (0,), (1,), (0, 1), (1, 0)], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 17, 19), (1, 2, 9, 17, 18)], ids=readable)
def test_value_and_grad_matches_oracle_for_argnums(device, shape, argnums):
    x, y = pair(shape, device=device)
    expected, *expected_grads = oracle.ssim_and_grads(x, y)
    value, grads = fused_ssim.value_and_grad(x, y, argnums=argnums)
    assert absolute_error(value, expected) <= VALUE[torch.float32]
    assert isinstance(grads, tuple) == isinstance(argnums, tuple)
    if isinstance(argnums, int):
        argnums, grads = (argnums,), (grads,)
    assert len(grads) == len(argnums)
    for number, grad in zip(argnums, grads, strict=True):
        assert relative_error(grad, expected_grads[number]) <= GRADIENT[torch.float32]


@pytest.mark.parametrize("reduction", ["mean", "sum", "image", "channel", "none"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", [(2, 3, 17, 19), (2, 2, 11, 13, 18)], ids=readable)
def test_value_and_grad_matches_oracle_for_reduction(device, shape, padding, reduction):
    x, y = pair(shape, device=device)
    expected, expected_x, _ = oracle.ssim_and_grads(x, y, padding, reduction=reduction)
    value, grad = fused_ssim.value_and_grad(x.requires_grad_(), y, padding, reduction=reduction)
    assert not value.requires_grad
    assert not grad.requires_grad
    assert relative_error(value, expected) <= MAP[torch.float32]
    assert relative_error(grad, expected_x) <= GRADIENT[torch.float32]


def test_fused_ssim2d_is_fused_ssim(device):
    x, y = pair((2, 3, 20, 21), device=device)
    assert torch.equal(fused_ssim.fused_ssim2d(x, y, "valid"), fused_ssim.fused_ssim(x, y, "valid"))
