# SPDX-License-Identifier: MIT
"""torch.autocast: 16-bit images are computed as they are, other dtypes next to them are no error."""

from __future__ import annotations

import oracle
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from tolerances import GRADIENT, VALUE

import fused_ssim

DTYPES = [torch.float16, torch.bfloat16]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=readable)


@dtypes
def test_16_bit_images_are_taken_as_they_are(device, dtype):
    x, y = pair((2, 3, 40, 44), dtype, device)
    _, expected, _ = oracle.ssim_and_grads(x, y, upstream=torch.tensor(2.0**14))
    x.requires_grad_()
    with torch.autocast(device, dtype):
        value = fused_ssim.fused_ssim(x, y)
    assert value.dtype == torch.float32
    assert absolute_error(value, oracle.ssim(x, y)) <= VALUE[dtype]
    (grad,) = torch.autograd.grad(value, x, torch.tensor(2.0**14, device=device))
    assert grad.dtype == dtype
    assert relative_error(grad, expected) <= GRADIENT[dtype]


@dtypes
def test_float32_images_stay_float32(device, dtype):
    x, y = pair((2, 3, 40, 44), device=device)
    with torch.autocast(device, dtype):
        assert torch.equal(fused_ssim.fused_ssim(x, y), fused_ssim.fused_ssim(x.clone(), y.clone()))
        assert absolute_error(fused_ssim.fused_ssim(x, y), oracle.ssim(x, y)) <= VALUE[torch.float32]


@dtypes
@pytest.mark.parametrize("name", ["fused_ssim", "photometric_loss", "ssim"])
def test_network_output_and_target_of_other_dtypes_are_brought_together(device, dtype, name):
    x, y = pair((2, 3, 40, 44), device=device)
    layer = torch.nn.Conv2d(3, 3, 1).to(device)
    function = getattr(fused_ssim, name)
    with torch.autocast(device, dtype):
        output = layer(x)
        assert output.dtype == dtype
        value = function(output, y)
    assert torch.equal(value, function(output.float(), y))
    value.backward()
    assert layer.weight.grad.dtype == torch.float32
    assert layer.weight.grad.any()
    with pytest.raises(TypeError, match=r"dtype = .* but .*dtype = "):
        function(output, y)  # outside, nothing is converted unasked


@dtypes
def test_compiled_autocast_is_right(device, dtype):
    torch.compiler.reset()
    x, y = pair((1, 3, 30, 34), device=device)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def call(a, b):
        with torch.autocast(device, dtype):
            return fused_ssim.fused_ssim(a.to(dtype), b)

    assert absolute_error(call(x, y), oracle.ssim(x.to(dtype).float(), y)) <= VALUE[torch.float32]
