# SPDX-License-Identifier: MIT
"""From two pictures to numbers: whether they can be compared, their data range, the arithmetic, the scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import fused_ssim
from fused_ssim.cli.common import Failure
from fused_ssim.cli.images import Picture, read
from fused_ssim.cli.results import Pair

if TYPE_CHECKING:
    from fused_ssim.cli.results import Array, PairResult, Settings

DTYPE_RANGES = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}
FLOATS = ("float16", "float32", "float64")


def check_pair(a: Picture, b: Picture, data_range: float | None) -> None:
    """Refuses two files that cannot be compared, and says why."""
    if a.kind != b.kind or a.shape != b.shape or len(a.channel_names) != len(b.channel_names):
        hint = ""
        if a.kind == b.kind and a.shape == b.shape:
            hint = "; convert one of them, for instance both to grey"
        elif a.kind == b.kind == "image" and a.shape == b.shape[::-1]:
            hint = "; one of them seems to be turned by 90 degrees"
        raise Failure(f"the files do not match: {a.path} is {a.description}; {b.path} is {b.description}{hint}")
    if a.dtype != b.dtype and data_range is None:
        raise Failure(
            f"the files have different dtypes: {a.path} is {a.dtype}, {b.path} is {b.dtype}; "
            "convert one of them, or give --data-range if their values are on the same scale"
        )


def choose_data_range(a: Picture, b: Picture, given: float | None, notes: list[str]) -> tuple[float, str, str]:
    """The data range, where it is from ("option", "dtype", "values"), and the same in words. May add a note."""
    if given is not None:
        return given, "option", "as given"
    low = float(min(a.values.min(), b.values.min()))
    high = float(max(a.values.max(), b.values.max()))
    if a.dtype in DTYPE_RANGES and not (a.scaled or b.scaled):
        chosen, origin = DTYPE_RANGES[a.dtype], f"from dtype {a.dtype}"
    elif a.dtype in FLOATS and (not a.physical or (low >= 0 and high <= 1)):
        chosen, origin = 1.0, f"for {a.dtype}, whose values are expected from 0 to 1"
    elif high > low:
        return high - low, "values", f"from the smallest to the largest value of both files, {low:g} to {high:g}"
    else:
        raise Failure(f"{a.path} and {b.path} both hold the one value {low:g}: give --data-range")
    # A network's output may overshoot a little, and pictures may be dark; more than that is a mistake to point out.
    if high - low > 1.1 * chosen or 0 < high - low < chosen / 16:
        notes.append(
            f"the values run from {low:g} to {high:g}, which hardly fits a data range of {chosen:g}; see --data-range"
        )
    return chosen, "dtype", origin


def affine_notes(a: Picture, b: Picture) -> list[str]:
    """Says so if two scans lie differently in space."""
    if a.affine is None or b.affine is None:
        return []
    if a.affine.shape == b.affine.shape and bool(abs(a.affine - b.affine).max() < 1e-3):
        return []
    return ["the files have different affines; voxels are compared by index, not by position in space"]


def load_pair(result: PairResult, settings: Settings) -> Pair:
    """The pixels of a pair, read again; raises `common.Failure` if the files cannot be read any more."""
    first, second = read(Path(result.first), settings.kind), read(Path(result.second), settings.kind)
    check_pair(first, second, settings.data_range)
    data_range, source, _ = choose_data_range(first, second, settings.data_range, [])
    low = float(min(first.values.min(), second.values.min()))
    return Pair(
        first=first.values,
        second=second.values,
        channel_names=first.channel_names,
        black=low if source == "values" else 0.0,
        data_range=data_range,
        spacing=first.spacing,
    )


def ssim_map(pair: Pair, settings: Settings) -> Array:
    """SSIM at each pixel of a pair, of the shape of its images; for padding valid, the border is cropped."""
    ssim = fused_ssim.fused_ssim3d if pair.first.ndim == 4 else fused_ssim.fused_ssim2d
    x, y = (torch.from_numpy(values)[None].to(torch.float64) for values in (pair.first, pair.second))
    options: dict[str, Any] = {"window_size": settings.window_size, "sigma": settings.sigma}
    with torch.no_grad():
        found = ssim(x, y, settings.padding, train=False, data_range=pair.data_range, reduction="none", **options)
    values: Array = found[0].numpy()
    return values
