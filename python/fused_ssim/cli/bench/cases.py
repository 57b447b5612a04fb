# SPDX-License-Identifier: MIT
"""What is measured, and the least work that it takes: the formulas behind the two ceilings, in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from fused_ssim._base import codes

Shape = tuple[int, ...]

TRAIN = "value + gradient"  # fused_ssim(x, y), then torch.autograd.grad for the first image
INFERENCE = "inference"  # fused_ssim(x, y, train=False) under torch.no_grad()
MODES = (TRAIN, INFERENCE)

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in codes.DTYPES}

WINDOW = 11
SIGMA = 1.5


@dataclass(frozen=True)
class Plan:
    """How much to measure. Times in seconds."""

    shapes: list[Shape]
    dtypes: list[str] = field(default_factory=lambda: ["float32"])
    modes: tuple[str, ...] = MODES
    growth: list[list[Shape]] = field(default_factory=list)  # each list: 1, 2, 4 and 8 times the size
    memory_shapes: list[Shape] = field(default_factory=list)  # on the CPU only; CUDA measures every shape
    loop_seconds: float = 0.02  # how long one loop of calls should take
    repeats: int = 15  # loops; their median counts
    case_seconds: float = 1.0  # after so long a case has enough loops, if it has three
    limit: float = 0.5  # a call of another package that takes longer is not repeated or not made
    budget: float = 120.0  # after so long other packages are skipped


def default_plan(device: torch.device, quick: bool) -> Plan:
    """The shapes that suit a device."""
    if quick:
        return Plan(
            shapes=[(1, 3, 64, 64), (1, 3, 128, 128), (1, 1, 24, 24, 24), (1, 1, 32, 32, 32)],
            growth=[_doubled((1, 3, 64, 64)), _doubled((1, 1, 24, 24, 24))],
            memory_shapes=[(1, 3, 512, 512), (1, 1, 64, 64, 64)],
            loop_seconds=0.002,
            repeats=5,
            case_seconds=0.1,
            limit=1.0,
            budget=30.0,
        )
    if device.type == "cuda":
        return Plan(
            shapes=[
                (1, 3, 64, 64),
                (1, 3, 256, 256),
                (1, 3, 1080, 1920),
                (1, 3, 4096, 4096),
                (5, 5, 1080, 1920),
                (2, 3, 96, 96, 96),
                (1, 1, 256, 256, 256),
                (1, 1, 512, 512, 512),
            ],
            # From sizes on where the fixed cost of a call, some 10 microseconds, no longer counts.
            growth=[_doubled((1, 3, 4096, 4096)), _doubled((1, 1, 256, 256, 256))],
        )
    return Plan(
        shapes=[
            (1, 3, 64, 64),
            (1, 3, 256, 256),
            (1, 3, 1080, 1920),
            (1, 1, 32, 32, 32),
            (1, 1, 64, 64, 64),
            (2, 3, 96, 96, 96),
        ],
        growth=[_doubled((1, 3, 512, 512)), _doubled((1, 1, 64, 64, 64))],
        memory_shapes=[(1, 3, 1080, 1920), (1, 1, 96, 96, 96)],
        loop_seconds=0.05,
        repeats=9,
        case_seconds=2.0,
        limit=5.0,
        budget=240.0,
    )


def elements(shape: Shape) -> int:
    return math.prod(shape)


def spatial_dims(shape: Shape) -> int:
    return len(shape) - 2


def readable(shape: Shape) -> str:
    """`1x3x256x256`, and the cube of a volume as a power: `2x3x96³`."""
    if len(shape) == 5 and len(set(shape[2:])) == 1:
        return f"{shape[0]}x{shape[1]}x{shape[2]}³"
    return "x".join(map(str, shape))


def _doubled(shape: Shape) -> list[Shape]:
    """The shape, and shapes with 2, 4 and 8 times as many elements: the shortest of the spatial axes is doubled."""
    shapes = [shape]
    for _ in range(3):
        last = list(shapes[-1])
        axis = min(range(2, len(last)), key=lambda index: last[index])
        last[axis] *= 2
        shapes.append(tuple(last))
    return shapes


# ---- Ceilings --------------------------------------------------------------------------------------------------------
#
# The formulas are those of docs/performance.md. They count what any implementation with separable filters has to do,
# so a share of 100 % is out of reach: halos, and about 40 operations an element besides the filters, are left out.

SOURCE = "docs/performance.md: least bytes of one pass; multiply-adds of the separable filters alone"


def least_bytes(shape: Shape, dtype: str, mode: str) -> int:
    """Each image read once; with the gradient, that written once."""
    return (3 if mode == TRAIN else 2) * elements(shape) * DTYPES[dtype].itemsize


def least_fmas(shape: Shape, mode: str) -> int:
    """Along each axis 11 taps for 4 quantities (s, d, s², d²), and with the gradient for 3 partial derivatives more."""
    return (7 if mode == TRAIN else 4) * WINDOW * spatial_dims(shape) * elements(shape)


@dataclass(frozen=True)
class Ceilings:
    """What the device can do at most."""

    bytes_per_second: float  # a copy, bytes read plus bytes written
    bytes_source: str
    fmas_per_second: float | None  # None: not known
    fmas_source: str

    def shares(self, shape: Shape, dtype: str, mode: str, seconds: float) -> tuple[float, float | None]:
        """The share of both ceilings that a call reaches: of the copy bandwidth, and of the float32 multiply-adds."""
        of_bytes = least_bytes(shape, dtype, mode) / self.bytes_per_second / seconds
        if self.fmas_per_second is None or dtype == "float64":
            return of_bytes, None
        return of_bytes, least_fmas(shape, mode) / self.fmas_per_second / seconds

    def floor(self, shape: Shape, dtype: str, mode: str) -> float:
        """The time that no implementation with separable filters beats."""
        return max(share for share in self.shares(shape, dtype, mode, 1.0) if share is not None)
