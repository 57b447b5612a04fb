# SPDX-License-Identifier: MIT
"""A call by Triton's kernels: which calls they cover, and in which order they run. ``plain_call`` has the rest.

Triton is imported by the first call, since that takes time and most installations have no use for it.
"""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .._base.codes import GRAD_1, GRAD_2
from .._base.settings import checked_settings
from .plain_call import Call, Parts, of_block
from .plain_filters import ELEMENT_SEEN, Window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from .._base.settings import Settings
    from .layouts import Like
    from .plain_call import Block, Grads

# Rows, columns and warps of the tile of a program.
TILE = (32, 32, 4)

# How many pixels of a plane make its pivot.
_SAMPLES = 1024

# Offsets within a plane are integers of 32 bits.
_LARGEST_PLANE = 2**30


def covers(settings: Settings, arithmetic: torch.dtype, shape: Sequence[int], mask: Like, ranges: Like) -> bool:
    """Whether the kernels can compute a call; the settings are those for the dtypes of its images."""
    return (
        arithmetic == torch.float32
        and settings.padding not in ELEMENT_SEEN
        and settings.reduction != "none"
        and settings.weights is None
        and mask is None
        and ranges is None
        and math.prod(shape[2:]) <= _LARGEST_PLANE
    )


class TritonCall(Call):
    """A call that the kernels cover. They convert images of 16 bits themselves."""

    def run(self, x: Tensor, y: Tensor, block: Block) -> tuple[Parts, Grads]:
        """The parts and the gradients of some planes of the images."""
        constants = self._constants(x, block)
        c1x2, c2x2 = (2 * float(each) for each in constants[:2])
        with _current(x.device):
            planes = _Planes(x, y, self._windows[0].taps, self._windows[0].crops)
            maps = planes.statistics(c1x2, c2x2, self.wanted, self._has_absolute)
            parts = Parts(planes.structural, planes.absolute)
            if not maps:
                return parts, (None, None)
            gains = [of_block(gain, block) for gain in (self._map_gain, self._pixel_gain)]
            return parts, planes.gradients(maps, gains, self.wanted)


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Has Triton launch on a device: it takes the current one, wherever the tensors are."""
    return nullcontext() if device.type == "cpu" else getattr(torch, device.type).device(device)


@lru_cache(maxsize=64)
def works(device: torch.device, spatial_dims: int) -> bool:
    """Whether the kernels give on a device what plain operations give. Tried once, on small images; a warning if not.

    Nobody can try all devices that Triton compiles for, nor all versions of it.
    """
    shape = (1, 2, 12, 13, 11)[: spatial_dims + 2]
    settings = checked_settings(data_range=1.0, lambda_dssim=0.5)
    block = slice(0, 1), slice(0, 2)
    try:
        with torch.inference_mode(False), torch.no_grad():
            x = torch.linspace(0, 1, math.prod(shape), dtype=torch.float32, device=device).reshape(shape)
            y = (37 * x).cos().abs()
            windows = [Window(settings, shape, torch.float32, device)]
            results = []
            for kind in (Call, TritonCall):
                call = kind(settings, windows, shape, None, None, GRAD_1 | GRAD_2)
                parts, (grad1, grad2) = call.run(x, y, block)
                assert grad1 is not None
                assert grad2 is not None
                results.append((call.value(parts), grad1, grad2))
            differences = [
                float((ours - plain).abs().max() / plain.abs().max()) for plain, ours in zip(*results, strict=True)
            ]
        problem = (
            "" if max(differences) < 1e-4 else f"results differ from those of plain operations by {max(differences)}"
        )
    except Exception as error:  # whatever a compiler, a driver or another version may have to say
        problem = f"{type(error).__name__}: {error}"
    if problem:
        warnings.warn(
            f"kernels of Triton cannot be used on {device}, plain operations are slower: {problem}", stacklevel=2
        )
    return not problem


class _View(NamedTuple):
    """What a kernel sees of a quantity: [outer, length, inner], in rows of ``pitch``; it filters ``length``."""

    outer: int
    length: int
    inner: int
    pitch: int

    @property
    def size(self) -> int:
        return self.outer * self.length * self.pitch

    def exchanged_size(self, pitch: int) -> int:
        """That of the quantity with the last two axes exchanged, in rows of so many elements."""
        return self.outer * self.inner * pitch

    @property
    def programs(self) -> int:
        rows, columns, _ = TILE
        return self.outer * -(-self.length // rows) * -(-self.inner // columns)


class _Planes:
    """Planes of two images on their way through the kernels; ``triton_kernels`` says what they hand on.

    Two buffers take turns, so that at most eight images of memory are in use.

    Attributes:
        structural: the sums of DSSIM and of 1/2 - DSSIM over each plane, [N, C, 2].
        absolute: the sums of ``|x - y|``, [N, C], or None.

    """

    structural: Tensor
    absolute: Tensor | None = None

    def __init__(self, x: Tensor, y: Tensor, windows: Sequence[tuple[float, ...]], crops: Sequence[int]) -> None:
        from . import triton_kernels

        self._kernels = triton_kernels
        self._x, self._y = x.contiguous(), y.contiguous()
        self._windows = [_on_device(window, x.device) for window in windows]
        self._masses = [math.fsum(window) for window in windows]
        self._shape = tuple(x.shape[:2])
        planes = math.prod(self._shape)
        self._pivots = self._empty(planes, 3)
        height, width = x.shape[-2:]
        self._depth = math.prod(x.shape[2:-2])
        parts = planes * self._depth
        self._is_volume = x.dim() == 5
        # Rows of exchanged quantities; and of others, which volumes have without gaps: so slices are rows for z.
        self._exchanged_pitch = _padded(height)
        self._pitch = width if self._is_volume else _padded(width)
        self._along_x = _View(parts, width, height, self._exchanged_pitch)
        self._along_y = _View(parts, height, width, self._pitch)
        self._along_first = (
            _View(planes, self._depth, height * width, height * width) if self._is_volume else self._along_y
        )
        self._crops = (*crops[:-2], crops[-1], crops[-2]) if self._is_volume else (0, crops[-1], crops[-2])

    def statistics(self, c1x2: float, c2x2: float, wanted: int, has_absolute: bool) -> list[Tensor]:
        """Finds the sums. Returns the partial maps of the wanted gradients, exchanged, and free memory, if any."""
        self._find_pivots()
        maps = _number_of_maps(wanted)
        exchanged, straight = self._along_x.size, self._along_y.size
        moments = self._empty(max(4 * exchanged, maps * straight))
        if self._is_volume:
            other = self._empty(max(4 * straight, maps * exchanged))
            self._first(other, 0, has_absolute)
            self._filter(1, self._along_y, other, moments, 4, self._exchanged_pitch, moments=True)
        else:
            self._first(moments, self._exchanged_pitch, has_absolute)
            other = self._empty(maps * exchanged) if maps else moments
        sums = self._empty(self._along_x.programs, 2)
        view = self._along_x
        self._launch(
            self._kernels.statistics, -1, view, moments, other, sums, self._pivots, exchanged, exchanged, self._depth,
            view.length, view.inner, view.pitch, *self._crops, math.prod(self._masses[:-1]),
            _lacking(math.prod(self._masses)), c1x2, c2x2, GRADS=wanted,
        )  # fmt: skip
        self.structural = sums.reshape(*self._shape, -1, 2).sum(2)
        return [other, moments] if maps else []

    def _find_pivots(self) -> None:
        sizes = self._x.shape[2:]
        if any(size < len(window) for size, window in zip(sizes, self._windows, strict=True)):
            # Each window sees zeros beyond the border. No variance is small, and a pivot would cost digits.
            self._pivots.zero_()
            return
        size, programs = math.prod(sizes), len(self._pivots)
        self._run(self._kernels.sample_pivots, programs, self._x, self._y, self._pivots, size, SAMPLES=_SAMPLES)

    def gradients(self, maps: list[Tensor], gains: Sequence[Any], wanted: int) -> Grads:
        """The gradients of the value, for factors of SSIM and of ``|x - y|``. Empties the list, to free memory."""
        number = _number_of_maps(wanted)
        partials, buffer = maps
        maps.clear()
        self._filter(-1, self._along_x, partials, buffer, number, self._pitch)
        if self._is_volume:
            self._filter(1, self._along_y, buffer, partials, number)
            partials, buffer = buffer, partials
        del partials
        x, y = self._x, self._y
        grad1 = torch.empty_like(x) if wanted & GRAD_1 else None
        grad2 = torch.empty_like(y) if wanted & GRAD_2 else None
        by_plane = None
        if any(isinstance(gain, Tensor) for gain in gains):
            each = [torch.as_tensor(gain, dtype=torch.float32, device=x.device) for gain in gains]
            by_plane = torch.stack([gain.reshape(gain.shape[:2]).expand(self._shape) for gain in each], -1).contiguous()
            gains = 1.0, 1.0
        view = self._along_first
        self._launch(
            self._kernels.gradient, 0, view, buffer, x, y, x if grad1 is None else grad1, y if grad2 is None else grad2,
            self._pivots, self._pivots if by_plane is None else by_plane, view.size, view.length, view.inner,
            view.pitch, *gains, GRADS=wanted, ABSOLUTE=self.absolute is not None, GAINS=by_plane is not None,
        )  # fmt: skip
        return grad1, grad2

    def _first(self, out: Tensor, out_pitch: int, has_absolute: bool) -> None:
        view = self._along_first
        sums = self._empty(view.programs) if has_absolute else None
        quantity = view.exchanged_size(out_pitch) if out_pitch else view.size
        self._launch(
            self._kernels.first, 0, view, self._x, self._y, self._pivots, out, self._pivots if sums is None else sums,
            quantity, view.length, view.inner, out_pitch, EXCHANGE=out_pitch != 0, ABSOLUTE=has_absolute,
        )  # fmt: skip
        self.absolute = None if sums is None else sums.reshape(*self._shape, -1).sum(2)

    def _filter(
        self,
        axis: int,
        view: _View,
        source: Tensor,
        out: Tensor,
        number: int,
        out_pitch: int = 0,
        moments: bool = False,
    ) -> None:
        """Filters so many quantities. With an ``out_pitch`` the last two axes of the result are exchanged."""
        out_quantity = view.exchanged_size(out_pitch) if out_pitch else view.size
        self._launch(
            self._kernels.spread, axis, view._replace(outer=number * view.outer), source, out, self._pivots, view.size,
            out_quantity, view.outer, self._depth, view.length, view.inner, view.pitch, out_pitch,
            math.prod(self._masses[:axis]), EXCHANGE=out_pitch != 0, MOMENTS=moments,
        )  # fmt: skip

    def _launch(self, kernel: Any, axis: int, view: _View, *arguments: Any, **constants: Any) -> None:
        rows, columns, warps = TILE
        taps = self._windows[axis]
        constants.update(ROWS=rows, COLUMNS=columns, num_warps=warps)
        self._run(kernel, view.programs, taps, len(taps), *arguments, **constants)

    def _run(self, kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
        kernel[(programs,)](*arguments, **constants)

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self._x.device)


def _number_of_maps(wanted: int) -> int:
    """How many partial maps are filtered: a single gradient needs those of the means merged."""
    return 0 if not wanted else 4 if wanted == GRAD_1 | GRAD_2 else 3


def _padded(size: int) -> int:
    """A length of rows for which each begins at an address that suits wide loads."""
    return -(-size // 16) * 16


def _lacking(mass: float) -> float:
    """What a window lacks of 1; nothing, if its sum differs from 1 by the rounding of float64."""
    return 0.0 if abs(1 - mass) < 1e-13 else 1 - mass


@lru_cache(maxsize=64)
def _on_device(window: tuple[float, ...], device: torch.device) -> Tensor:
    # Kept, since bringing it to the device anew would wait for it.
    with torch.inference_mode(False):
        return torch.tensor(window, dtype=torch.float32).to(device)
