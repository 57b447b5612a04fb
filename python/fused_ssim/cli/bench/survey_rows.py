# SPDX-License-Identifier: MIT
"""The survey's rows: what people call besides the usual call, and shapes besides the usual ones; a table each.

The usual call is `fused_ssim(x, y)` of contiguous float32 images: `Row("usual call")` would be a row of nothing but
defaults. Limits say how many times as long as the usual call of the same shape (or as an element of a usual shape) a
row may take on a GPU. They are aims, set so that nobody needs to know which arguments are the slow ones; where one is
missed, docs/performance.md says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

import fused_ssim
from fused_ssim.cli.bench.cases import INFERENCE, MODES, TRAIN, Plan, Shape, spatial_dims
from fused_ssim.cli.bench.libraries import Call, either, with_gradient
from fused_ssim.cli.bench.timing import Arrange

STANDS_OUT = 3.0  # times the usual call: more stands out, where a row has no limit of its own
MEMORY_LIMIT = 1.6  # images besides the two inputs, for value + gradient of volumes from 512³ on
MEMORY_FROM = 512**3

Limits = dict[tuple[int, str], float]  # by the number of spatial axes, and the mode
Prepare = Callable[[Shape, str, torch.device], Call]
MakeMask = Callable[[Shape, torch.device], Tensor]


@dataclass(frozen=True)
class Row:
    """A call besides the usual one.

    Attributes:
        name: for tables and charts.
        prepare: makes the call, from a shape, a mode and a device.
        arrange: what the images are in memory.
        dtype: of the images, before `arrange`.
        dims: for images (2), volumes (3) or both.
        modes: what is measured.
        channels: None: those of the usual shape; a number: one image of so many channels, against the usual call of it.
        limits: how many times as long as the usual call it may take on a GPU.

    """

    name: str
    prepare: Prepare
    arrange: Arrange | None = None
    dtype: str = "float32"
    dims: tuple[int, ...] = (2, 3)
    modes: tuple[str, ...] = MODES
    channels: int | None = None
    limits: Limits = field(default_factory=dict)

    def shape(self, usual: Shape) -> Shape:
        """The shape that is measured where the usual shape is this one."""
        return usual if self.channels is None else (1, self.channels, *usual[2:])


@dataclass(frozen=True)
class Size:
    """A shape whose time per element is measured against that of a usual shape.

    Attributes:
        large: the shape on a GPU.
        small: the shape on the CPU, of the same kind.
        limit: how many times as long as an element of the usual shape one may take on a GPU.
        seconds: or how long a call may take there, by mode, where a launch takes most of it.

    """

    large: Shape
    small: Shape
    limit: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def limits(images: float | None = None, volumes: float | None = None, modes: tuple[str, ...] = MODES) -> Limits:
    """The same limit for some modes."""
    given = {2: images, 3: volumes}
    return {(dims, mode): most for dims, most in given.items() if most is not None for mode in modes}


# ---- What is called --------------------------------------------------------------------------------------------------


def ssim(mask: MakeMask | None = None, **settings: Any) -> Prepare:
    """`fused_ssim` with settings."""

    def prepare(shape: Shape, mode: str, device: torch.device) -> Call:
        function = fused_ssim.fused_ssim3d if spatial_dims(shape) == 3 else fused_ssim.fused_ssim
        return _of(function, mask, settings, shape, mode, device)

    return prepare


def loss(mask: MakeMask | None = None) -> Prepare:
    """The photometric loss."""
    return partial(_of, fused_ssim.photometric_loss, mask, {})


def _of(
    function: Callable[..., Tensor],
    mask: MakeMask | None,
    settings: dict[str, Any],
    shape: Shape,
    mode: str,
    device: torch.device,
) -> Call:
    given = settings if mask is None else {**settings, "mask": mask(shape, device)}
    return either(partial(function, train=mode == TRAIN, **given), mode)


def window_by_axis(shape: Shape, mode: str, device: torch.device) -> Call:
    """A window for each axis."""
    return ssim(window_size=(5, 7, 11)[-spatial_dims(shape) :])(shape, mode, device)


def through_the_map(shape: Shape, mode: str, device: torch.device) -> Call:
    """The map, and with a gradient a weight for each of its elements."""
    if mode == INFERENCE:
        return either(partial(fused_ssim.ssim_map, train=False), mode)
    return with_gradient(fused_ssim.ssim_map, torch.rand(shape, device=device))


def ms_ssim(shape: Shape, mode: str, _device: torch.device) -> Call:
    """MS-SSIM: five levels of images, three of volumes."""
    weights = None if spatial_dims(shape) == 2 else (0.3, 0.4, 0.3)
    return either(partial(fused_ssim.ms_ssim, data_range=1.0, weights=weights), mode)


def bool_mask(shape: Shape, device: torch.device) -> Tensor:
    """A mask for each image, `[N, 1, ...]`: half of its pixels."""
    return torch.rand((shape[0], 1, *shape[2:]), device=device) > 0.5


def float_mask(shape: Shape, device: torch.device) -> Tensor:
    """A weight for each pixel of each image, `[N, 1, ...]`."""
    return torch.rand((shape[0], 1, *shape[2:]), device=device)


# ---- What the images are in memory -----------------------------------------------------------------------------------


def cropped(image: Tensor) -> Tensor:
    """The same image as a part of a larger one: eight elements off each side."""
    larger = image.new_zeros((*image.shape[:2], *(size + 16 for size in image.shape[2:])))
    part = larger
    for axis, size in enumerate(image.shape[2:], start=2):
        part = part.narrow(axis, 8, size)
    return part.copy_(image)


def transposed(image: Tensor) -> Tensor:
    """The same image with its spatial axes the other way round in memory, as NIfTI files have them."""
    order = (0, 1, *range(image.dim() - 1, 1, -1))
    return image.permute(order).contiguous().permute(order)


def channels_last(image: Tensor) -> Tensor:
    """The same image with its channels side by side in memory."""
    return image.contiguous(memory_format=torch.channels_last)


def as_uint8(image: Tensor) -> Tensor:
    """The same image in 0 ... 255."""
    return image.mul(255).round().to(torch.uint8)


def both(change: Callable[[Tensor], Tensor]) -> Arrange:
    """Both images."""
    return lambda x, y: (change(x), change(y))


def target(change: Callable[[Tensor], Tensor]) -> Arrange:
    """The second image alone."""
    return lambda x, y: (x, change(y))


# ---- The tables ------------------------------------------------------------------------------------------------------


def _window(size: int, images: float, volumes: float) -> Row:
    return Row(f"window {size}", ssim(window_size=size), limits=limits(images, volumes))


ROWS = (
    Row("target is a crop", ssim(), target(cropped), limits=limits(volumes=1.5)),
    Row("target transposed", ssim(), target(transposed), limits=limits(volumes=1.5)),
    Row("both transposed", ssim(), both(transposed), limits=limits(volumes=1.5)),
    Row("channels-last", ssim(), both(channels_last), dims=(2,), limits=limits(images=1.3)),
    Row("channels-last, C = 3", ssim(), both(channels_last), dims=(2,), channels=3, limits=limits(images=1.3)),
    Row("float16", ssim(), dtype="float16", limits=limits(volumes=1.0)),
    Row("bfloat16", ssim(), dtype="bfloat16", limits=limits(volumes=1.0)),
    Row("float64", ssim(), dtype="float64", limits=limits(2.6, 2.6)),
    Row("uint8", ssim(), both(as_uint8), modes=(INFERENCE,), limits=limits(1.0, 1.0, (INFERENCE,))),
    Row("target is uint8", ssim(integer_scale=1 / 255), target(as_uint8)),
    _window(3, 0.85, 0.85),
    _window(5, 0.85, 0.85),
    _window(7, 0.85, 0.85),
    _window(9, 1.0, 1.0),
    _window(13, 2.0, 2.5),
    _window(15, 2.0, 2.5),
    _window(17, 2.0, 2.5),
    _window(21, 2.5, 3.5),
    _window(33, 4.0, 6.0),
    Row("window by axis", window_by_axis),
    Row("padding valid", ssim(padding="valid"), limits=limits(1.05, 1.05, (INFERENCE,))),
    Row("padding reflect", ssim(padding="reflect")),
    Row("padding symmetric", ssim(padding="symmetric")),
    Row("padding replicate", ssim(padding="replicate")),
    Row("mask, bool", ssim(bool_mask), limits=limits(1.25, 1.25)),
    Row("mask, float", ssim(float_mask), limits=limits(1.25, 1.25)),
    Row("mask that normalises", ssim(bool_mask, mask_mode="normalized"), limits=limits(2.0, 2.0)),
    Row("photometric loss", loss()),
    Row("photometric loss, mask", loss(bool_mask), limits=limits(1.4, 1.4)),
    Row("map", through_the_map, limits=limits(1.7, 1.7, (TRAIN,))),
    Row("MS-SSIM", ms_ssim, limits=limits(2.0, 2.0)),
)

SIZES = (
    Size((1, 3, 800, 800), (1, 3, 400, 400), 1.5),
    Size((1, 3, 1600, 1066), (1, 3, 800, 533), 1.25),
    Size((1, 3, 1079, 1919), (1, 3, 539, 959), 1.2),
    Size((1, 3, 1080, 1921), (1, 3, 540, 961), 1.2),
    Size((16, 3, 256, 256), (4, 3, 256, 256), 1.5),
    Size((64, 3, 64, 64), (16, 3, 64, 64), 2.2),
    Size((1024, 3, 32, 32), (128, 3, 32, 32), 2.5),
    Size((256, 1, 28, 28), (256, 1, 28, 28), seconds={TRAIN: 18e-6, INFERENCE: 10e-6}),
    Size((1, 1, 200000, 8), (1, 1, 40000, 8), 5.0),
    Size((1, 1, 255, 257, 251), (1, 1, 95, 97, 91), 1.15),
    Size((1000, 1, 16, 16, 16), (64, 1, 16, 16, 16), 1.8),
    Size((1, 1, 1024, 16, 16), (1, 1, 512, 16, 16), 4.0),
)


def survey_plan(device: torch.device, quick: bool) -> Plan:
    """The usual shapes, one of images and one of volumes, and how long to measure."""
    if quick:
        return Plan(
            shapes=[(1, 1, 176, 176), (1, 1, 48, 48, 48)],  # the least for five and for three levels of MS-SSIM, or so
            memory_shapes=[(1, 1, 64, 64, 64)],
            loop_seconds=0.002,
            repeats=3,
            case_seconds=0.05,
        )
    if device.type == "cuda":
        return Plan(
            shapes=[(5, 5, 1080, 1920), (1, 1, 256, 256, 256)],
            memory_shapes=[(5, 5, 1080, 1920), (1, 1, 256, 256, 256), (1, 1, 512, 512, 512)],
            loop_seconds=0.01,
            repeats=11,
        )
    return Plan(
        shapes=[(1, 3, 512, 512), (1, 1, 64, 64, 64)],
        memory_shapes=[(1, 3, 1080, 1920), (1, 1, 96, 96, 96)],
        # A call or two a loop, and many loops: on a CPU that others use, medians of these are least disturbed.
        loop_seconds=0.002,
        repeats=101,
        case_seconds=0.6,
    )
