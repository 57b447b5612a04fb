# SPDX-License-Identifier: MIT
"""Whether two pictures can be compared, and on which range of values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fused_ssim.cli.common import Failure

if TYPE_CHECKING:
    from fused_ssim.cli.files.picture import Picture

DTYPE_RANGES = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}
FLOATS = ("float16", "float32", "float64")
# Floats that are expected from 0 to 1 may overshoot, as outputs of networks do. Beyond this the guess is wrong.
OVERSHOOT = (-0.5, 1.5)


@dataclass(frozen=True)
class DataRange:
    """The data range of a pair."""

    value: float
    source: Literal["option", "dtype", "format", "values"]
    origin: str  # the source in words
    low: float  # the lower end: what is drawn black


def check_pair(a: Picture, b: Picture, data_range: float | None) -> list[str]:
    """Refuses two files that cannot be compared, and says why; otherwise notes."""
    if a.kind != b.kind or a.shape != b.shape or len(a.channel_names) != len(b.channel_names):
        raise Failure(f"the files do not match: {a.path} is {a.description}; {b.path} is {b.description}{_hint(a, b)}")
    notes = []
    if a.dtype != b.dtype:
        both = f"{a.path} is {a.dtype}, {b.path} is {b.dtype}"
        on_one_scale = (a.physical and b.physical) or (a.dtype in FLOATS and b.dtype in FLOATS)
        if not on_one_scale and data_range is None:
            raise Failure(
                f"the files have different dtypes: {both}; "
                "convert one of them, or give --data-range if their values are on the same scale"
            )
        notes.append(f"the files have different dtypes: {both}; their values are compared as they are")
    if a.profile != b.profile:
        notes.append("the files have different colour profiles; values are compared as they are stored")
    if a.affine is not None and b.affine is not None:
        same = a.affine.shape == b.affine.shape and bool(abs(a.affine - b.affine).max() < 1e-3)
        if not same:
            notes.append("the files have different affines; voxels are compared by index, not by position in space")
    return notes


def _hint(a: Picture, b: Picture) -> str:
    """What may help."""
    counts = sorted((len(a.channel_names), len(b.channel_names)))
    if a.kind == b.kind and a.shape == b.shape:
        if a.physical or b.physical:
            return f"; take {'one' if counts[0] == 1 else 'as many'} of the {counts[1]} out of the longer file"
        return "; convert one of them, for instance both to grey" if counts[0] == 1 else "; convert one of them"
    if a.kind == b.kind == "image" and a.shape == b.shape[::-1]:
        return "; one of them seems to be turned by 90 degrees"
    if a.kind != b.kind:
        return "; --as image or --as volume says what both are, where the files leave it open"
    return ""


def choose_data_range(a: Picture, b: Picture, given: float | None, notes: list[str]) -> DataRange:
    """The data range, and where it is from. May add a note."""
    if given is not None:
        return DataRange(given, "option", "as given", 0.0)
    white = full_scale(a)
    low, high = _extremes(a, b)
    if white is not None and white == full_scale(b):
        if a.white is None and a.dtype == "uint16" and 0 < high <= 32767:
            bits = max(8, math.ceil(math.log2(high + 1)))
            notes.append(
                f"no value is above {high:g}: if the files hold values of {bits} bits, give --data-range {2**bits - 1}"
            )
        if a.dtype in DTYPE_RANGES:
            return DataRange(white, "dtype", f"from dtype {a.dtype}", 0.0)
        return DataRange(white, "format", f"the largest value of {a.dtype}", 0.0)
    physical = a.physical or b.physical
    if a.dtype in FLOATS and b.dtype in FLOATS and (not physical or (low >= 0 and high <= 1)):
        if not physical and (low < OVERSHOOT[0] or high > OVERSHOOT[1]):
            raise Failure(
                f"{a.path} and {b.path} hold {a.dtype} values from {low:g} to {high:g}, which are not those of a "
                "picture from 0 to 1: give --data-range, the largest minus the smallest possible value"
            )
        if high - low > 1.1 or 0 < high - low < 1 / 16:
            notes.append(
                f"the values run from {low:g} to {high:g}, which hardly fits a data range of 1; see --data-range"
            )
        return DataRange(1.0, "dtype", f"for {a.dtype}, whose values are expected from 0 to 1", 0.0)
    if not math.isfinite(high - low):
        raise Failure(f"{a.path} and {b.path} hold values from {low:g} to {high:g}, whose span is beyond float64")
    if high > low:
        words = f"from the smallest to the largest value of both files, {low:g} to {high:g}"
        return DataRange(high - low, "values", words, low)
    raise Failure(f"{a.path} and {b.path} both hold the one value {low:g}: give --data-range")


def full_scale(picture: Picture) -> float | None:
    """The largest possible value, where the file or its dtype says one."""
    if picture.white is not None:
        return picture.white
    return None if picture.physical or picture.scaled else DTYPE_RANGES.get(picture.dtype)


def _extremes(a: Picture, b: Picture) -> tuple[float, float]:
    """The smallest and the largest finite value of both."""
    if full_scale(a) == full_scale(b) == 255:
        return 0.0, 255.0  # not needed, and a pass over the pixels less
    ends = [
        (float(part.min()), float(part.max()))
        for picture in (a, b)
        for part in [picture.values if picture.finite is None else picture.values[picture.finite]]
    ]
    return min(low for low, _ in ends), max(high for _, high in ends)
