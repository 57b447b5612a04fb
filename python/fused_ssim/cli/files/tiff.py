# SPDX-License-Identifier: MIT
"""TIFF and BigTIFF, by tifffile: all bit depths, stacks, and what the tags say about them.

tifffile hands out what is stored. What the tags mean is done here: inverted grey, palettes, orientation, opacity, inks.
A file that ends before its pages do is refused.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from fused_ssim.cli.common import extra
from fused_ssim.cli.files.picture import Raw
from fused_ssim.cli.files.raster import read_pillow

if TYPE_CHECKING:
    from fused_ssim.cli.files.source import Source
    from fused_ssim.cli.results import Array

ORIENTATION, INK_SET, COLOUR_PROFILE, NO_DATA = 274, 332, 34675, 42113
INKS = ("cyan", "magenta", "yellow", "black")
READABLE = ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE", "SEPARATED", "YCBCR")


def read_tiff(source: Source) -> Raw:
    """The image or the stack of a TIFF file."""
    with extra("cli"):
        import numpy as np
        import tifffile

    with source.stream() as stream, tifffile.TiffFile(stream) as file:
        if not file.pages or not file.series:
            raise ValueError("a TIFF file without an image")
        series = file.series[0]
        page: Any = series.keyframe
        photometric = getattr(page.photometric, "name", str(page.photometric))
        if photometric not in READABLE:
            raise ValueError(f"colours of kind {photometric} are not read here; convert it to RGB or grey")
        _check_complete(file, stream, tifffile)
        if photometric == "YCBCR" and page.compression.name not in ("JPEG", "OJPEG"):
            if page.bitspersample != 8 or len(file.pages) > 1:
                raise ValueError("YCbCr of this kind is not read here; convert it to RGB")
            return read_pillow(source)  # libtiff, behind Pillow, knows subsampled colours
        try:
            values = series.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise ValueError(f"compression {page.compression.name}: pip install imagecodecs") from error
            raise
        raw = Raw(values, "", notes=[])
        if len(file.series) > 1:
            raw.notes.append(f"holds {len(file.series)} images of different shapes; the first is taken")
        kept, raw.axes = _axes(series.axes, values.shape)
        raw.values = values[kept]
        _apply_tags(raw, page, photometric, np)
        _leave_out(raw, page, photometric, np)
        tag = page.tags.get(ORIENTATION)
        raw.orientation = int(tag.value) if tag is not None else 1
        profile = page.tags.get(COLOUR_PROFILE)
        raw.profile = bytes(profile.value) if profile is not None else None
        return raw


def _axes(names: str, shape: tuple[int, ...]) -> tuple[tuple[int | slice, ...], str]:
    """Which of tifffile's axes are kept (those longer than 1), and their names here."""
    axes = ""
    kept: list[int | slice] = []
    for axis, length in zip(names, shape, strict=True):
        letter = {"Y": "H", "X": "W", "S": "C", "C": "C"}.get(axis, "D")
        if letter in "CD" and length == 1:
            kept.append(0)
            continue
        if letter in axes:
            raise ValueError(f"axes {names} of shape {tuple(shape)}: one image or volume is expected")
        axes += letter
        kept.append(slice(None))
    return tuple(kept), axes


def _apply_tags(raw: Raw, page: Any, photometric: str, np: Any) -> None:
    """Opacity, palettes, inks, inverted grey, and the largest value."""
    samples = raw.axes.find("C")
    extra_samples = tuple(int(sample) for sample in page.extrasamples)
    bands = photometric in ("MINISBLACK", "MINISWHITE") and set(extra_samples) == {0}  # of no colour: all are compared
    if samples >= 0 and extra_samples and not bands:
        colours = raw.values.shape[samples] - len(extra_samples)
        parts = np.split(raw.values, [colours], axis=samples)
        kinds = [number for number, kind in enumerate(extra_samples) if kind in (1, 2)]  # 0 is unspecified
        if kinds:
            raw.alpha = parts[1].take(kinds[0], axis=samples)
            raw.premultiplied = extra_samples[kinds[0]] == 1
        if len(extra_samples) > len(kinds):
            raw.notes.append(f"{len(extra_samples) - len(kinds)} channels beyond its colours are left out")
        raw.values = parts[0]
        if colours == 1:
            raw.values, raw.axes = raw.values.take(0, axis=samples), raw.axes.replace("C", "")

    bits = int(page.bitspersample)
    kind = raw.values.dtype.kind
    if kind == "u" and bits < 8 * raw.values.dtype.itemsize:
        raw.white, raw.dtype = float(2**bits - 1), f"uint{bits}"
    if photometric == "PALETTE":
        raw.values, raw.axes = _through_palette(raw.values, page.colormap, np), raw.axes + "C"
        raw.white, raw.dtype = None, ""
    elif photometric == "SEPARATED":
        count = raw.values.shape[raw.axes.index("C")] if "C" in raw.axes else 1
        ink_set = page.tags.get(INK_SET)
        plain = count == 4 and (ink_set is None or int(ink_set.value) == 1)
        raw.channels = INKS if plain else tuple(f"ink {i}" for i in range(count))
        raw.notes.append("its inks are compared as they are stored, not as colours on a screen")
    elif photometric == "MINISWHITE":
        if kind == "b":
            raw.values = ~raw.values
        elif kind == "f":
            raw.values = 1 - raw.values
            raw.notes.append("0 is white in it; its values are taken as 1 - value")
        elif kind in "iu":
            info = np.iinfo(raw.values.dtype)
            top = int(raw.white) if raw.white is not None else int(info.max) + int(info.min)
            raw.values = (~raw.values if raw.white is None else top - raw.values).astype(raw.values.dtype)
            raw.notes.append("0 is white in it; its values are inverted")


def _leave_out(raw: Raw, page: Any, photometric: str, np: Any) -> None:
    """NaN for the value that means "no data" in maps of the earth (a tag of GDAL)."""
    tag = page.tags.get(NO_DATA)
    if tag is None:
        return
    try:
        nothing: float | None = float(str(tag.value).strip("\0 "))
    except ValueError:
        nothing = None
    if nothing is None or photometric not in ("MINISBLACK", "RGB"):  # others are no longer as they are stored
        raw.notes.append(f"its value for missing data, {tag.value}, is ignored")
        return
    empty = raw.values == nothing
    if not empty.any():
        return
    raw.dtype = raw.dtype or raw.values.dtype.name
    if raw.values.dtype.kind != "f":
        raw.values = raw.values.astype(np.float64)
    raw.values = np.where(empty, np.nan, raw.values)
    raw.notes.append(f"{nothing:g} means that there is no data, as it says; such values are taken as NaN")


def _through_palette(values: Array, palette: Array, np: Any) -> Array:
    """The colours of a palette, whose entries have 16 bits: 8 bits if that is all they hold."""
    palette = np.asarray(palette, np.uint16)
    repeated = bool(((palette >> 8) == (palette & 255)).all())  # 0xABAB for 0xAB
    shifted = bool(((palette & 255) == 0).all())  # 0xAB00 for 0xAB, which some programs write
    if repeated or shifted:
        palette = (palette >> 8).astype(np.uint8)
    colours: Array = palette[:, values].transpose(*range(1, values.ndim + 1), 0)
    return colours


def _check_complete(file: Any, stream: Any, tifffile: Any) -> None:
    """Refuses a file whose chain of pages breaks off, or whose pages lie beyond its end."""
    count = len(file.pages)
    stream.seek(0, 2)
    end = stream.tell()
    if not file.is_mmstack and not file.is_ndpi and not file.is_lsm:
        # The last directory says where the next one is: nowhere, or there is one that could not be read.
        size = file.tiff.offsetsize
        stream.seek(file.pages.next_page_offset)
        pointer = stream.read(size)
        code = file.byteorder + {4: "I", 8: "Q"}[size]
        if len(pointer) < size or struct.unpack(code, pointer)[0] != 0:
            raise ValueError(f"the file is damaged or cut off: it announces another page after its {count}")
    expected = _announced_pages(file)
    if expected > count:
        raise ValueError(f"the file is damaged or cut off: {count} of {expected} pages are there")
    for number, page in enumerate(file.pages):
        found = page if isinstance(page, tifffile.TiffPage) else page.aspage()
        if found.shaped[0] > 1 or file.is_stk:  # pages that lie behind the first, by rules of their own
            continue
        for offset, length in zip(found.dataoffsets, found.databytecounts, strict=False):
            if offset + length > end:
                raise ValueError(f"the file is cut off: the pixels of page {number} reach to byte {offset + length}")
            if length == 0 or offset == 0:
                raise ValueError(f"the file is damaged: pixels of page {number} are missing")


def _announced_pages(file: Any) -> int:
    """How many pages the metadata of ImageJ announce, or 0."""
    metadata = file.imagej_metadata if file.is_imagej else None
    announced = int((metadata or {}).get("images", 0))
    # ImageJ writes one page and all pixels behind it where there are very many.
    return announced if len(file.pages) > 1 else 0
