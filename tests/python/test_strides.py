# SPDX-License-Identifier: MIT
"""Images of any memory layout have the results of their contiguous copies."""

from __future__ import annotations

import subprocess
import sys

import oracle
import pytest
import torch
from images import absolute_error, pair, relative_error
from tolerances import GRADIENT, MAP, VALUE, mean_tolerance

import fused_ssim
from fused_ssim._torch import layouts


def channels_last(shape, device, seed):
    image, _ = pair(shape, device=device, seed=seed)
    return image.to(memory_format=torch.channels_last if len(shape) == 4 else torch.channels_last_3d)


def transposed(shape, device, seed):
    image, _ = pair((*shape[:-2], shape[-1], shape[-2]), device=device, seed=seed)
    return image.transpose(-1, -2)


def batch_inside(shape, device, seed):
    image, _ = pair((shape[1], *shape[2:], shape[0]), device=device, seed=seed)
    return image.movedim(-1, 0)


def sliced(shape, device, seed):
    image, _ = pair((shape[0], shape[1] * 2, *(3 * size + 2 for size in shape[2:])), device=device, seed=seed)
    return image[(slice(None), slice(1, None, 2), *(slice(1, 3 * size, 3) for size in shape[2:]))]


def cropped(shape, device, seed):
    image, _ = pair((*shape[:2], *(size + 5 for size in shape[2:])), device=device, seed=seed)
    return image[(..., *(slice(2, 2 + size) for size in shape[2:]))]


def expanded_batch(shape, device, seed):
    return pair((1, *shape[1:]), device=device, seed=seed)[0].expand(shape)


def expanded_channels(shape, device, seed):
    return pair((shape[0], 1, *shape[2:]), device=device, seed=seed)[0].expand(shape)


def expanded_rows(shape, device, seed):
    return pair((*shape[:-2], 1, shape[-1]), device=device, seed=seed)[0].expand(shape)


def overlapping(shape, device, seed):
    size = sum(shape)
    image = torch.rand(size, generator=torch.Generator().manual_seed(seed)).to(device)
    return image.as_strided(shape, (1,) * len(shape))


LAYOUTS = [
    channels_last,
    transposed,
    batch_inside,
    sliced,
    cropped,
    expanded_batch,
    expanded_channels,
    expanded_rows,
    overlapping,
]
SHAPES = [(3, 2, 19, 38), (2, 3, 11, 12, 21)]


def ssim_of(shape):
    return fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim


def contiguous(shape, device, seed):
    return pair(shape, device=device, seed=seed)[0]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("which", ["first", "second", "both"])
def test_value_and_gradients_match_oracle_for_layout(device, which, layout, shape, padding):
    x = (contiguous if which == "second" else layout)(shape, device, 0)
    y = (contiguous if which == "first" else layout)(shape, device, 1)
    expected, expected_x, expected_y = oracle.ssim_and_grads(x, y, padding)
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    value = ssim_of(shape)(x, y, padding)
    grad_x, grad_y = torch.autograd.grad(value, (x, y))
    tolerance = VALUE[torch.float32]
    if layout is overlapping and which == "both":
        # Inside the map, positions with the same sum of indices are equal, and so are their errors.
        sizes = [*shape[:2], *(size - 10 if padding == "valid" else size for size in shape[2:])]
        tolerance = mean_tolerance(torch.float32, sum(sizes) - len(sizes) + 1)
    assert absolute_error(value, expected) <= tolerance
    assert relative_error(grad_x, expected_x) <= GRADIENT[torch.float32]
    assert relative_error(grad_y, expected_y) <= GRADIENT[torch.float32]


@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_map_and_gradient_match_oracle_for_layout(device, layout, shape):
    x, y = layout(shape, device, 0), contiguous(shape, device, 1)
    upstream = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    expected, expected_x, _ = oracle.ssim_and_grads(x, y, reduction="none", upstream=upstream)
    x = x.detach().requires_grad_()
    values = ssim_of(shape)(x, y, reduction="none")
    (grad,) = torch.autograd.grad(values, x, upstream.to(device))
    assert absolute_error(values, expected) <= MAP[torch.float32]
    assert relative_error(grad, expected_x) <= GRADIENT[torch.float32]


@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
def test_gradient_of_channels_last_image_is_channels_last(device, shape):
    x = channels_last(shape, device, 0).requires_grad_()
    ssim_of(shape)(x, contiguous(shape, device, 1)).backward()
    assert x.grad.stride() == x.stride()


def test_upstream_map_may_have_any_strides(device):
    shape = (2, 3, 17, 19)
    x, y = pair(shape, device=device)
    x.requires_grad_()
    generator = torch.Generator().manual_seed(3)
    for upstream in (
        torch.rand((), generator=generator).expand(shape),
        torch.rand(1, 3, 1, 19, generator=generator).expand(shape),
        torch.rand(2, 3, 19, 17, generator=generator).transpose(2, 3),
        torch.rand(2, 17, 19, 6, generator=generator)[..., ::2].movedim(-1, 1),
    ):
        _, expected, _ = oracle.ssim_and_grads(x, y, reduction="none", upstream=upstream)
        values = fused_ssim.fused_ssim(x, y, reduction="none")
        (grad,) = torch.autograd.grad(values, x, upstream.to(device))
        assert relative_error(grad, expected) <= GRADIENT[torch.float32]


@pytest.mark.parametrize("reduction", ["image", "channel"])
def test_upstream_of_images_and_channels_may_have_any_strides(device, reduction):
    x, y = pair((3, 4, 15, 14), device=device)
    x.requires_grad_()
    shape = (3,) if reduction == "image" else (3, 4)
    generator = torch.Generator().manual_seed(3)
    wide = torch.rand(tuple(2 * size for size in shape), generator=generator)
    for upstream in (
        torch.rand((), generator=generator).expand(shape),
        wide[tuple(slice(None, None, 2) for _ in shape)],
        torch.rand(tuple(reversed(shape)), generator=generator).permute(*reversed(range(len(shape)))),
    ):
        _, expected, _ = oracle.ssim_and_grads(x, y, reduction=reduction, upstream=upstream)
        value = fused_ssim.fused_ssim(x, y, reduction=reduction)
        (grad,) = torch.autograd.grad(value, x, upstream.to(device))
        assert relative_error(grad, expected) <= GRADIENT[torch.float32]


def test_negated_view_is_read_with_its_sign(device):
    complex_image = torch.complex(*pair((1, 1, 16, 18), device=device))
    x = complex_image.conj().imag
    assert x.is_neg()
    y = pair((1, 1, 16, 18), device=device, seed=4)[0]
    assert absolute_error(fused_ssim.fused_ssim(x, y), oracle.ssim(x.resolve_neg(), y)) <= VALUE[torch.float32]


def test_offsets_beyond_two_to_the_31_are_reached_on_cpu():
    try:
        memory = torch.empty(20 * 2**27 + 64, dtype=torch.float16)  # only the pages that are used become real
    except RuntimeError:
        pytest.skip("no 5 GiB of address space")
    image = memory.as_strided((1, 1, 20, 24), (0, 0, 2**27, 1))
    x, y = pair(image.shape, torch.float16)
    image.copy_(x)
    assert torch.equal(fused_ssim.fused_ssim(image, y), fused_ssim.fused_ssim(x, y))


@pytest.mark.parametrize("shape", [(1, 3, 7, 5), (2, 1, 6, 1), (1, 1, 4, 3, 6), (2, 3, 1, 5, 4)])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_plans_know_the_strides_of_empty_like(layout, shape):
    """Where an axis has one element, its stride may be anything."""
    image = layout(shape, "cpu", seed=6)
    planned = layouts._empty_like_stride(tuple(image.shape), image.stride())
    actual = torch.empty_like(image).stride()
    assert [step for step, size in zip(planned, shape, strict=True) if size > 1] == [
        step for step, size in zip(actual, shape, strict=True) if size > 1
    ]


def test_a_first_call_imports_nothing_large():
    """PyTorch's operators for tensors without memory import SymPy: 0.4 s, or seconds from a cold disk."""
    program = """
import sys, torch, fused_ssim
x = torch.rand(2, 3, 24, 32, requires_grad=True)
for image in (x, x[..., 3:20, 2:30], x.transpose(-1, -2)):
    fused_ssim.fused_ssim(image, torch.rand_like(image), reduction="none").sum().backward()
fused_ssim.fused_ssim3d(torch.rand(1, 1, 12, 12, 12, requires_grad=True), torch.rand(1, 1, 12, 12, 12)).backward()
assert "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
