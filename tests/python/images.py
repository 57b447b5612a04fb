# SPDX-License-Identifier: MIT
"""Images to test with, the same on every device, and readable names for cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOAT_DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTEGER_DTYPES = [torch.uint8, torch.uint16, torch.int16]

_SHORT = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}


def readable(value: object) -> str | None:
    """Ids for pytest: f16, 2x3x17x19, r5; None leaves the id to pytest."""
    if isinstance(value, torch.dtype):
        return _SHORT.get(value, str(value))
    if isinstance(value, tuple) and all(isinstance(size, int) for size in value):
        return "x".join(map(str, value))
    return None


def pair(
    shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu", seed: int = 0, noise: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Two related random images in [0, 1]: the second is the first, mixed with noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(tuple(shape), generator=generator, dtype=torch.float64)
    y = (1 - noise) * x + noise * torch.rand(tuple(shape), generator=generator, dtype=torch.float64)
    return x.to(device, dtype), y.to(device, dtype)


def independent_pair(
    shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu", seed: int = 0
) -> tuple[Tensor, Tensor]:
    return pair(shape, dtype, device, seed, noise=1.0)


def hard_case(name: str, device: str = "cpu", size: int = 256) -> tuple[Tensor, Tensor]:
    """The hard cases: float32 images on which the classic form in float32 loses digits."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 1, size, size)
    uniform = torch.rand(shape, generator=generator)
    noise = torch.randn(shape, generator=generator)
    if name == "random":
        x, y = uniform, torch.rand(shape, generator=generator)
    elif name == "smooth":
        t = torch.arange(size) / size
        x = (0.5 + 0.25 * torch.sin(6 * t)[:, None] + 0.25 * torch.cos(5 * t)[None, :]).expand(shape).clone()
        y = x + 1e-2 * noise
    elif name == "flat-bright":
        x, y = torch.full(shape, 0.95), 0.95 + 1e-3 * noise
    elif name == "near-identical":
        x, y = uniform, uniform + 1e-3 * noise
    elif name == "flat-shifted":
        x, y = torch.full(shape, 0.6), torch.full(shape, 0.6) + 1e-7
    else:
        raise ValueError(name)
    return x.to(device), y.to(device)


def _compared(actual: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 on the CPU."""
    return actual.detach().to("cpu", torch.float64), expected.detach().to("cpu", torch.float64)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The error as max |actual - expected| / max |expected|."""
    actual, expected = _compared(actual, expected)
    assert actual.shape == expected.shape
    error = (actual - expected).abs().max()
    return float(error / expected.abs().max()) if error else 0.0


def relative_norm_error(actual: Tensor, expected: Tensor) -> float:
    """The error as ||actual - expected|| / ||expected||."""
    actual, expected = _compared(actual, expected)
    return float((actual - expected).norm() / expected.norm())


def absolute_error(actual: Tensor, expected: Tensor) -> float:
    """The error as max |actual - expected|."""
    actual, expected = _compared(actual, expected)
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max())
