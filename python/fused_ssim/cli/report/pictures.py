# SPDX-License-Identifier: MIT
"""The pictures of a report: both files and their map of SSIM, as large as the page can bear, as `data:` addresses."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fused_ssim.cli.common import extra
from fused_ssim.cli.scoring import load_pair, pair_of, ssim_map

with extra("cli"):
    import matplotlib as mpl
    import numpy as np
    from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fused_ssim.cli.results import Array, Pair, PairResult, Settings
    from fused_ssim.cli.scoring import Mask

PAGE_BYTES = 64e6
WORST = 24  # pairs that get half of the page
THUMBNAIL = 112
COLOURS = "viridis"
# Settings of WebP, and how many bytes a pixel of both pictures and the map then takes, for photographs.
ENCODERS: list[tuple[dict[str, Any], float]] = [
    ({"lossless": True, "method": 2}, 4.5),
    ({"quality": 90, "method": 2}, 1.2),
    ({"quality": 80, "method": 2}, 0.8),
]
PIXELS = [2048 * 2048, 1600 * 1600, 1024 * 1024, 768 * 768, 512 * 512, 384 * 384, 256 * 256]


@dataclass(frozen=True)
class Level:
    """How many pixels (or voxels) of a pair are on the page, and how they are encoded."""

    pixels: int
    encoder: dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """The pictures of a pair: two small ones for the table, and what the viewer shows."""

    thumbnail: str
    map_thumbnail: str
    details: dict[str, Any]


def colours() -> str:
    """The colours of the map, from its low end to 1: 256 times six hexadecimal digits."""
    table = np.round(mpl.colormaps[COLOURS](np.arange(256))[:, :3] * 255).astype(np.uint8)
    return bytes(table.tobytes()).hex()


def detail_levels(count: int) -> list[Level]:
    """A level for each pair, the worst first: half of the page belongs to the `WORST`."""
    worst = min(count, WORST)
    rest = count - worst
    large = PAGE_BYTES / max(worst, 1) / (2 if rest else 1)
    small = min(large, PAGE_BYTES / 2 / max(rest, 1))
    return [_level(large)] * worst + [_level(small)] * rest


def _level(bytes_of_pair: float) -> Level:
    """As many pixels as these bytes hold. Lossless is better than more than a megapixel."""
    for least, (encoder, cost) in zip((1024 * 1024, 768 * 768, 0), ENCODERS, strict=True):
        for pixels in PIXELS:
            if pixels >= least and pixels * cost <= bytes_of_pair:
                return Level(pixels, encoder)
    return Level(PIXELS[-1], ENCODERS[-1][0])


def show(result: PairResult, settings: Settings, mask: Mask | None, level: Level) -> Shown:
    """Reads a pair again and makes its pictures."""
    return show_pair(load_pair(result, settings, mask), settings, level)


def show_frames(
    results: Sequence[PairResult], settings: Settings, mask: Mask | None, levels: Sequence[Level]
) -> Iterator[Shown]:
    """The pictures of frames of two films, which are decoded once; in the order of the frames."""
    from fused_ssim.cli.files.films import frames

    wanted = {result.frame: level for result, level in zip(results, levels, strict=True)}
    films = (frames(Path(path), settings.luma, []) for path in (results[0].first, results[0].second))
    for first, second in zip(*films, strict=False):
        if first.index in wanted:
            pair, _ = pair_of(first.picture, second.picture, settings, mask, [])
            yield show_pair(pair, settings, wanted.pop(first.index))
        if not wanted:
            return


def show_pair(pair: Pair, settings: Settings, level: Level) -> Shown:
    """The pictures of a pair."""
    values = ssim_map(pair, settings).mean(0)
    missing = tuple(short - long for long, short in zip(values.shape, pair.first.shape[1:], strict=True))
    if any(missing):  # padding valid: the map is smaller
        values = np.pad(values, [(each // 2, each - each // 2) for each in missing], constant_values=np.nan)
    if pair.mask is not None:
        values = np.where(np.broadcast_to(pair.mask, pair.first.shape).max(0) > 0, values, np.nan)
    volume = pair.first.ndim == 4
    first, second = (_eight_bits(pair, picture, volume) for picture in (pair.first, pair.second))
    step = _step(values.shape, level.pixels)
    # A map is smooth: where bytes are scarce, half of the pixels along each axis are enough.
    map_step = step if volume or level.encoder.get("lossless") else 2 * step
    low = _low(values)
    arrays = {"first": (first, step), "second": (second, step), "map": (values, map_step)}
    small = {name: _shrunk(array, each, values.ndim) for name, (array, each) in arrays.items()}
    small["map"] = _coded(small["map"], low)
    details: dict[str, Any] = {
        "kind": "volume" if volume else "image",
        "size": list(small["first"].shape[: values.ndim]),
        "full": list(values.shape),
        "low": low,
        "lossless": bool(level.encoder.get("lossless")),
    }
    thumbnails = [second, _coded(values, low)]
    if volume:
        small = {name: _sheet(array) for name, array in small.items()}
        details["spacing"] = [float(each) for each in pair.spacing or (1.0, 1.0, 1.0)]
        details["axes"] = pair.axes.lower()
        thumbnails = [_middle_slice(each, pair.axes) for each in thumbnails]
    encoders = {name: {"lossless": True} if name == "map" else level.encoder for name in small}
    details.update({name: _address(array, encoders[name]) for name, array in small.items()})
    small_second, small_map = (_thumbnail(each) for each in thumbnails)
    return Shown(
        thumbnail=_address(small_second, {"quality": 75}),
        map_thumbnail=_address(_coloured(small_map), {"quality": 75}),
        details=details,
    )


def _eight_bits(pair: Pair, picture: Array, volume: bool) -> Array:
    """What is drawn: (H, W) or (H, W, 3), or (D, H, W). Other numbers of channels are averaged."""
    scaled = np.clip(np.nan_to_num((picture - pair.black) * (255.0 / pair.data_range)), 0, 255)
    if len(scaled) == 3 and not volume:
        return np.moveaxis(np.round(scaled), 0, -1).astype(np.uint8)
    averaged: Array = np.round(scaled.mean(0)).astype(np.uint8)
    return averaged


def _step(shape: Sequence[int], pixels: int) -> int:
    """Of so many elements along each axis one is shown, so that there are about as many as `pixels`."""
    step = 1
    while math.prod(-(-side // step) for side in shape) > 1.3 * pixels:
        step += 1
    return step


def _shrunk(array: Array, step: int, axes: int) -> Array:
    """Means of blocks of `step` elements along each of the first `axes` axes; the last blocks may be smaller."""
    if step == 1:
        return array
    found: Array = array.astype(np.float64)
    for axis in range(axes):
        starts = np.arange(0, found.shape[axis], step)
        counts = np.diff([*starts, found.shape[axis]])
        found = np.add.reduceat(found, starts, axis=axis)
        found /= counts.reshape([-1 if each == axis else 1 for each in range(found.ndim)])
    return np.round(found).astype(np.uint8) if array.dtype == np.uint8 else found


def _low(values: Array) -> float:
    """The lower end of the colour scale: one digit below the least value, so that small differences show."""
    with np.errstate(invalid="ignore"):
        least = float(np.nanmin(values)) if np.isfinite(values).any() else 0.0
    for digits in range(1, 6):
        if 1.0 - least > 10.0**-digits:
            return max(math.floor(least * 10.0**digits) / 10.0**digits, -1.0)
    return 1.0 - 1e-5


def _coded(values: Array, low: float) -> Array:
    """The map in 8 bits: 1 to 255 for `low` to 1, and 0 where there is no value."""
    with np.errstate(invalid="ignore"):
        code = np.round(1 + 254 * np.clip((values - low) / (1.0 - low), 0, 1))
    return np.where(np.isfinite(values), code, 0).astype(np.uint8)


def _coloured(code: Array) -> Array:
    """A coded map in its colours."""
    table = np.round(mpl.colormaps[COLOURS](np.arange(256))[:, :3] * 255).astype(np.uint8)
    found: Array = table[code]
    return found


def _sheet(volume: Array) -> Array:
    """The slices of a volume side by side, in a nearly square picture."""
    slices, height, width = volume.shape
    columns = max(1, round(math.sqrt(slices * height / width)))
    rows = -(-slices // columns)
    sheet = np.zeros((rows * height, columns * width), volume.dtype)
    for index, piece in enumerate(volume):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = piece
    return sheet


def _middle_slice(volume: Array, axes: str) -> Array:
    """The slice in the middle; that of axes x, y and z with y upward."""
    middle: Array = volume[:, ::-1, volume.shape[2] // 2].T if axes == "XYZ" else volume[len(volume) // 2]
    return middle


def _thumbnail(array: Array) -> Array:
    return _shrunk(array, max(1, math.ceil(max(array.shape[:2]) / THUMBNAIL)), 2)


def _address(array: Array, encoder: dict[str, Any]) -> str:
    """A picture as an address that holds it. WebP has at most 16383 pixels a side; larger ones are PNG."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(array))
    kind = "webp" if max(image.size) < 16384 else "png"
    image.save(buffer, kind, **(encoder if kind == "webp" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
