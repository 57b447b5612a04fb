# SPDX-License-Identifier: MIT
"""From a pair of files to its scores: SSIM, PSNR, L1 and MS-SSIM of the same numbers."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

import fused_ssim
from fused_ssim.cli.common import Failure
from fused_ssim.cli.files import read
from fused_ssim.cli.files.picture import ReadOptions
from fused_ssim.cli.ranges import DataRange, check_pair, choose_data_range
from fused_ssim.cli.results import Pair, PairResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fused_ssim.cli.files.picture import Picture
    from fused_ssim.cli.results import Array, Settings

MS_SSIM_LEVELS = 5
KEPT_BYTES = 2**27  # 128 MiB for each image of a thread


@dataclass(frozen=True)
class Mask:
    """What --mask says."""

    weights: Array  # (1, ...) or (C, ...), from 0 to 1
    notes: tuple[str, ...] = ()  # what was decided while it was read


@dataclass(frozen=True)
class Scores:
    """The numbers of a pair."""

    ssim: float
    psnr: float
    l1: float
    ms_ssim: float | None
    channels: tuple[float, ...]


def read_options(settings: Settings) -> ReadOptions:
    """What the settings of a run say to the readers."""
    return ReadOptions(settings.kind, settings.background, settings.ignore_nan or settings.mask is not None)


def score_files(name: str, first: Path, second: Path, settings: Settings, mask: Mask | None = None) -> PairResult:
    """The result of a pair of files; of one that cannot be compared, with the reason in `error`."""
    result = PairResult(name, str(first), str(second))
    try:
        a, b = read(first, read_options(settings)), read(second, read_options(settings))
        return score_pictures(result, a, b, settings, mask)
    except Failure as failure:
        return replace(result, error=failure.message)


def score_pictures(
    result: PairResult, a: Picture, b: Picture, settings: Settings, mask: Mask | None = None
) -> PairResult:
    """The result of two pictures; raises Failure if they cannot be compared."""
    notes = [*a.notes, *b.notes]
    pair, data_range = pair_of(a, b, settings, mask, notes)
    scores = score(pair, settings, notes)
    dtype = a.dtype if a.dtype == b.dtype else f"{a.dtype} and {b.dtype}"
    return replace(
        result,
        ssim=scores.ssim,
        psnr=scores.psnr,
        l1=scores.l1,
        ms_ssim=scores.ms_ssim,
        notes=tuple(dict.fromkeys(notes)),
        shape=a.shape,
        kind=a.kind,
        channels=tuple(zip(a.channel_names, scores.channels, strict=True)),
        data_range=data_range.value,
        data_range_origin=data_range.origin,
        data_range_source=data_range.source,
        axes=a.axes,
        dtype=dtype,
    )


def pair_of(a: Picture, b: Picture, settings: Settings, mask: Mask | None, notes: list[str]) -> tuple[Pair, DataRange]:
    """Two pictures as one `Pair`, after all checks; adds notes."""
    notes += check_pair(a, b, settings.data_range)
    data_range = choose_data_range(a, b, settings.data_range, notes)
    if settings.padding == "valid" and min(a.shape) < settings.window_size:
        raise Failure(
            f"{a.path} and {b.path} are {a.description}: shorter than the window of {settings.window_size} with "
            "--padding valid; take a smaller --window-size, or --padding same"
        )
    counts = None
    if mask is not None:
        counts = _fitting(mask.weights, a)
        notes += mask.notes
    if a.finite is not None or b.finite is not None:
        finite = np.ones(a.values.shape, bool)
        for picture in (a, b):
            finite &= True if picture.finite is None else picture.finite
        if counts is not None and not settings.ignore_nan and bool((~finite & (counts > 0)).any()):
            raise Failure(
                f"{a.path} or {b.path} has values that are not finite (NaN or infinite) where the mask is not 0; "
                "--ignore-nan leaves them out"
            )
        counts = finite if counts is None else counts * finite
        notes.append("windows leave out what is not finite (normalised convolution)")
    pair = Pair(
        first=a.values,
        second=b.values,
        channel_names=a.channel_names,
        black=data_range.low,
        data_range=data_range.value,
        spacing=a.spacing if b.spacing else None,
        axes=a.axes if a.axes == b.axes or a.kind == "image" else "DHW",
        mask=counts,
    )
    return pair, data_range


def _fitting(weights: Array, a: Picture) -> Array:
    count = weights.shape[0]
    if weights.shape[1:] != a.shape or count not in (1, a.values.shape[0]):
        size = " x ".join(map(str, weights.shape[1:]))
        raise Failure(f"--mask is {size} with {count} channel{'s' * (count != 1)}, and {a.path} is {a.description}")
    return weights


def mask_of(settings: Settings) -> Mask | None:
    """The mask of a run, if it has one. It is read once, for all pairs."""
    if settings.mask is None:
        return None
    picture = read(Path(settings.mask), ReadOptions(kind=settings.kind))
    values = picture.values
    if values.dtype.kind == "u" or values.dtype.kind == "b":
        top = picture.white or {"b": 1.0}.get(values.dtype.kind) or float(np.iinfo(values.dtype).max)
        if picture.physical:
            top = 1.0  # labels of a scan: 0 and 1
        weights: Array = values.astype(np.float64) / top
    else:
        weights = values.astype(np.float64)
    if float(weights.min()) < 0 or float(weights.max()) > 1:
        raise Failure(f"{picture.path}: a mask runs from 0 to 1, this one from {weights.min():g} to {weights.max():g}")
    if not weights.any():
        raise Failure(f"{picture.path}: the mask is 0 everywhere, so nothing counts")
    if values.shape[0] == 3 and bool((values[0] == values[1]).all() and (values[0] == values[2]).all()):
        weights = weights[:1]  # grey, saved as colours
    return Mask(weights, picture.notes)


def arithmetic(pair: Pair, settings: Settings) -> tuple[torch.dtype, list[str]]:
    """float64, unless the files are too large for it, which is a note, or the user says otherwise."""
    if settings.precision != "auto":
        return {"float64": torch.float64, "float32": torch.float32}[settings.precision], []
    if _need(pair, torch.float64) <= _room(settings.device):
        return torch.float64, []
    return torch.float32, [
        "computed in float32, as the files are large for the memory of this machine; see --precision"
    ]


def _room(device: str) -> int:
    """How many bytes computing may take: half of the memory."""
    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(torch.device(device)).total_memory) // 2
    return _memory() // 2


def _memory() -> int:
    """How many bytes this machine has."""
    if sys.platform != "win32":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # A MEMORYSTATUSEX: its own size and a percentage, of 32 bits each; the bytes of memory; six other numbers.
    status = (ctypes.c_ulonglong * 8)(64)
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        raise ctypes.WinError()
    return status[1]


def _need(pair: Pair, dtype: torch.dtype) -> int:
    """How many bytes both images take, and as much again for the computation."""
    return 4 * dtype.itemsize * int(pair.first.size)


_turn = threading.Condition()
_taken = 0  # bytes of the pairs that are being computed


@contextmanager
def _in_turn(pair: Pair, dtype: torch.dtype, device: str) -> Iterator[None]:
    """Waits until there is room: as many threads as there are processors may have large files at the same time."""
    global _taken
    need, room = _need(pair, dtype), _room(device)
    with _turn:
        _turn.wait_for(lambda: _taken == 0 or _taken + need <= room)
        _taken += need
    try:
        yield
    finally:
        with _turn:
            _taken -= need
            _turn.notify_all()


def score(pair: Pair, settings: Settings, notes: list[str]) -> Scores:
    """All scores of a pair; adds notes."""
    dtype, remarks = arithmetic(pair, settings)
    notes += remarks
    with _failures(), _in_turn(pair, dtype, settings.device), torch.no_grad():
        x, y, mask = _tensors(pair, dtype, settings.device)
        channels = _ssim(x, y, mask, pair, settings, "channel")[0]
        # With a mask, channels may have weights of different sums.
        mean = channels.mean() if mask is None else _ssim(x, y, mask, pair, settings, "mean")
        value = float(mean)
        l1, mse = _differences(pair, x, y, mask)
        multiscale = None
        if settings.ms_ssim:
            multiscale = _ms_ssim(pair, x, y, settings, notes)
        per_channel = tuple(channels.tolist())
    if not all(math.isfinite(number) for number in (value, l1, mse)):
        raise Failure("the score is not a number: the values are too large for their data range, or nothing counts")
    psnr = math.inf if mse == 0 else 20 * math.log10(pair.data_range) - 10 * math.log10(mse)
    return Scores(value, psnr, l1 / pair.data_range, multiscale, per_channel)


def _ssim(
    x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor | None, pair: Pair, settings: Settings, reduction: str
) -> torch.Tensor:
    """SSIM of the tensors of a pair, as the settings want it; under a mask, by normalised convolution."""
    ssim = fused_ssim.fused_ssim3d if x.dim() == 5 else fused_ssim.fused_ssim2d
    return ssim(
        x,
        y,
        settings.padding,
        train=False,
        window_size=settings.window_size,
        sigma=settings.sigma,
        data_range=pair.data_range,
        reduction=reduction,
        mask=mask,
        mask_mode="normalized",
    )


def _differences(pair: Pair, x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor | None) -> tuple[float, float]:
    """The means of |x - y| and of (x - y)^2."""
    if mask is None and pair.first.dtype == pair.second.dtype == np.uint8 and x.device.type == "cpu":
        # Exact, and in a fraction of the time: |x - y| fits 8 bits. The sums of squares stay below 2^53.
        flat = _flat(pair.first, pair.second)
        if flat is not None:
            return _byte_differences(*flat)
    difference = (x - y).flatten()
    if mask is None:
        return float(difference.abs().mean()), float(difference.square().mean())
    weights = mask.flatten() / mask.sum()
    return float(torch.dot(weights, difference.abs())), float(torch.dot(weights, difference.square()))


def _flat(first: Array, second: Array) -> tuple[Array, Array] | None:
    """All elements of two images without gaps, in the order of memory: planes, or pixels with their channels."""
    for axes in (range(first.ndim), (*range(1, first.ndim), 0)):
        views = first.transpose(*axes), second.transpose(*axes)
        if all(view.flags.c_contiguous for view in views):
            return views[0].reshape(-1), views[1].reshape(-1)
    return None


def _byte_differences(first: Array, second: Array) -> tuple[float, float]:
    """The means of |x - y| and of (x - y)^2 of uint8 numbers, exactly: 256 of them sum up in float32."""
    distance = np.maximum(first, second)
    distance -= np.minimum(first, second)
    whole = distance.size // 256 * 256
    pieces, rest = distance[:whole].reshape(-1, 256).astype(np.float32), distance[whole:].astype(np.float64)
    sums, squares = pieces.sum(axis=1), np.einsum("ij,ij->i", pieces, pieces)
    total = float(sums.sum(dtype=np.float64)) + float(rest.sum())
    return total / distance.size, (float(squares.sum(dtype=np.float64)) + float(rest @ rest)) / distance.size


def _ms_ssim(pair: Pair, x: torch.Tensor, y: torch.Tensor, settings: Settings, notes: list[str]) -> float | None:
    """MS-SSIM of five levels, valid windows, as pytorch-msssim defines it."""
    least = (settings.window_size - 1) * 2 ** (MS_SSIM_LEVELS - 1)
    if pair.mask is not None:
        notes.append("MS-SSIM has no mask and is left out")
        return None
    if min(x.shape[2:]) <= least:
        notes.append(f"too small for MS-SSIM: its shortest side is {min(x.shape[2:])}, and more than {least} is needed")
        return None
    found = fused_ssim.ms_ssim(
        x, y, data_range=pair.data_range, win_size=settings.window_size, win_sigma=settings.sigma
    )
    return float(found)


_kept = threading.local()


def _tensor(values: Array, dtype: torch.dtype, device: str, place: str) -> torch.Tensor:
    """An image of any dtype and strides as a tensor [1, C, ...].

    On the CPU its memory is kept for the next image of this thread that is as large: the system takes as long to hand
    out new memory as it takes to fill it. `place` tells the tensors apart that are needed at the same time.
    """
    shape = (1, *values.shape)
    out: torch.Tensor | None = getattr(_kept, place, None)
    if out is None or out.shape != shape or out.dtype != dtype:
        out = torch.empty(shape, dtype=dtype)
        setattr(_kept, place, out if out.nbytes <= KEPT_BYTES else None)
    np.copyto(out.numpy()[0], values, casting="unsafe")
    return out.to(device)


@contextmanager
def _failures() -> Iterator[None]:
    """What the library raises, as one line."""
    try:
        yield
    except MemoryError as error:
        raise Failure("there is not enough memory to compare them") from error
    except (ValueError, RuntimeError) as error:
        raise Failure(str(error).splitlines()[0]) from error


def load_pair(result: PairResult, settings: Settings, mask: Mask | None = None) -> Pair:
    """The pixels of a pair, read again, under the mask of the run; raises `common.Failure` if that fails by now."""
    paths = Path(result.first), Path(result.second)
    if result.frame is not None:
        from fused_ssim.cli.files.films import frame_at

        a, b = (frame_at(path, result.frame, settings.luma) for path in paths)
    else:
        a, b = (read(path, read_options(settings)) for path in paths)
    return pair_of(a, b, settings, mask, [])[0]


def ssim_map(pair: Pair, settings: Settings) -> Array:
    """SSIM at each pixel of a pair, of the shape of its images; for padding valid, the border is cropped.

    With a mask it is the map of normalised convolution, and 1 where the mask is 0: there is nothing wrong there.
    """
    dtype, _ = arithmetic(pair, settings)
    with _failures(), _in_turn(pair, dtype, settings.device), torch.no_grad():
        x, y, mask = _tensors(pair, dtype, settings.device)
        found = _ssim(x, y, mask, pair, settings, "none")[0]
        if mask is not None:  # the library gives the mask times the map
            sizes = [(whole - part) // 2 for whole, part in zip(mask.shape[2:], found.shape[1:], strict=True)]
            cut = (slice(None), *(slice(size, -size or None) for size in sizes))
            inner = mask[0][cut]
            found = torch.where(inner > 0, found / inner, 1)
    values: Array = found.cpu().numpy()
    return values


def _tensors(pair: Pair, dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Both images and the mask, [1, C, ...]. What the mask excludes is 0 in the images."""
    x = _tensor(pair.first, dtype, device, "x")
    y = _tensor(pair.second, dtype, device, "y")
    if pair.mask is None:
        return x, y, None
    mask = _tensor(np.broadcast_to(pair.mask, pair.first.shape), dtype, device, "mask")
    return torch.where(mask > 0, x, 0), torch.where(mask > 0, y, 0), mask
