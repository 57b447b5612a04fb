# SPDX-License-Identifier: MIT
"""Reading an image or a volume from a file. The numbers are those the file means, in full, or the file is refused.

`FORMATS` decides which reader a file goes to, by its first bytes; its name decides nothing. A reader gives a `Raw`, and
`read()` makes a `Picture` of it: axes in the order C, (D), H, W, upright, without opacity. Whatever is decided on the
way is a note.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fused_ssim.cli.common import Failure
from fused_ssim.cli.files.arrays import infer_axes, read_npy, read_npz
from fused_ssim.cli.files.complaints import complaints
from fused_ssim.cli.files.dicom import is_dicom, read_dicom, read_series
from fused_ssim.cli.files.exr import read_exr
from fused_ssim.cli.files.netpbm import read_netpbm
from fused_ssim.cli.files.nifti import is_nifti, read_nifti
from fused_ssim.cli.files.picture import Picture, Raw, ReadOptions, an, upright
from fused_ssim.cli.files.raster import read_avif, read_jpeg, read_jpeg2000, read_jpegxl, read_pillow, read_png
from fused_ssim.cli.files.source import Source
from fused_ssim.cli.files.tiff import read_tiff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fused_ssim.cli.results import Array, Kind

COLOUR_NAMES = {3: ("red", "green", "blue")}
AVIF_BRANDS = (b"avif", b"avis")
JPEG2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
JPEGXL = (b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a")
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Format:
    """A row of the table."""

    name: str
    endings: tuple[str, ...]
    is_it: Callable[[bytes], bool]  # asked for the first bytes of a file
    reader: Callable[[Source], Raw]


# The first row that says yes. docs/compare.md has the same table with the reasons.
FORMATS: tuple[Format, ...] = (
    Format("PNG", (".png",), lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), read_png),
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".mpo"), lambda head: head.startswith(b"\xff\xd8\xff"), read_jpeg),
    Format("TIFF", (".tif", ".tiff"), lambda head: head.startswith(TIFF), read_tiff),
    Format("NPY", (".npy",), lambda head: head.startswith(b"\x93NUMPY"), read_npy),
    Format("NPZ", (".npz",), lambda head: head.startswith(b"PK\3\4"), read_npz),
    Format("EXR", (".exr",), lambda head: head.startswith(b"\x76\x2f\x31\x01"), read_exr),
    Format(
        "Netpbm",
        (".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".pfm"),
        lambda head: head[:1] == b"P" and head[1:2] in b"1234567fF" and head[2:3].isspace(),
        read_netpbm,
    ),
    Format(
        "JPEG 2000", (".jp2", ".j2k", ".jpf", ".jpx", ".j2c"), lambda head: head.startswith(JPEG2000), read_jpeg2000
    ),
    Format("JPEG XL", (".jxl",), lambda head: head.startswith(JPEGXL), read_jpegxl),
    Format("AVIF", (".avif",), lambda head: head[4:8] == b"ftyp" and head[8:12] in AVIF_BRANDS, read_avif),
    Format("DICOM", (".dcm", ".ima"), is_dicom, read_dicom),
    Format("NIfTI", (".nii", ".nii.gz", ".hdr", ".img"), is_nifti, read_nifti),
    Format("gzipped NIfTI", (".nii.gz",), lambda head: head.startswith(b"\x1f\x8b"), read_nifti),
    Format("GIF", (".gif",), lambda head: head.startswith((b"GIF87a", b"GIF89a")), read_pillow),
    Format("BMP", (".bmp", ".dib"), lambda head: head.startswith(b"BM"), read_pillow),
    Format("WebP", (".webp",), lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", read_pillow),
)
# What has no signature, or a rare one, and what is read by its name: `raster.EIGHT_BIT_FORMATS` decides.
OTHER = Format("a format of Pillow", (".tga", ".pcx", ".qoi"), lambda _: True, read_pillow)

ENDINGS: tuple[str, ...] = tuple(ending for row in (*FORMATS, OTHER) for ending in row.endings)


def format_of(source: Source) -> Format:
    """The row of the table for a file."""
    return next((row for row in FORMATS if row.is_it(source.head)), OTHER)


def read(path: Path, options: ReadOptions | None = None) -> Picture:
    """The image or volume in a file, or in a folder with a DICOM series.

    Raises:
        Failure: one line that names the file, if it cannot be read in full.
    """
    options = options or ReadOptions()
    shown = click.format_filename(path)
    with one_line_errors(shown), complaints() as said:
        if path.is_dir():
            raw, row = read_series(path), None
        else:
            header = path.with_suffix(".hdr")  # what .img beside it is
            source = Source(header if path.suffix.lower() == ".img" and header.is_file() else path)
            if not source.head:
                raise ValueError("the file is empty")
            row = format_of(source)
            raw = row.reader(source)
            ending = next((end for end in ENDINGS if source.name.endswith(end)), None)
            if ending is not None and ending not in row.endings and row is not OTHER:
                raw.notes.append(f"is named {ending}, but it is {row.name} and read as that")
        if said.errors:
            raise ValueError(said.errors[0])
    raw.notes += [f"its reader says: {line}" for line in said]
    is_tiff = row is not None and row.name == "TIFF"
    return _picture(shown, raw, options, may_be_overridden=is_tiff or raw.physical)


def _picture(path: str, raw: Raw, options: ReadOptions, may_be_overridden: bool) -> Picture:
    """What a reader found, in the order and the form in which pictures are compared."""
    import numpy as np

    values, kind = raw.values, options.kind
    dtype = raw.dtype or values.dtype.name
    if 0 in values.shape:
        raise Failure(f"{path}: the array of shape {tuple(values.shape)} is empty")
    if values.dtype.kind == "c":
        raise Failure(
            f"{path}: complex numbers ({values.dtype}) cannot be compared; save the magnitude, or the real and the "
            "imaginary part as channels"
        )
    if values.dtype.kind not in "biuf":
        raise Failure(f"{path}: values of type {values.dtype} cannot be compared; real numbers are needed")
    notes = list(raw.notes)
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        notes.append(f"{values.dtype} is taken as float64")
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        largest = max(abs(int(values.min())), abs(int(values.max())))
        if largest > 2**53:
            raise Failure(f"{path}: holds the value {largest}, and beyond 2^53 float64 has no place for every integer")
    values, axes, alpha, spacing = _meaning(path, raw, kind, may_be_overridden)

    order = [axes.index(axis) for axis in "CDHW" if axis in axes]
    values = values.transpose(order)
    if "C" not in axes:
        values = values[None]
    if alpha is not None:
        letters = axes.replace("C", "")
        alpha = alpha.transpose([letters.index(axis) for axis in "DHW" if axis in letters])
    if raw.orientation in range(2, 9):
        values = upright(values, raw.orientation)
        alpha = None if alpha is None else upright(alpha, raw.orientation)
        word = "turned upright" if raw.orientation in (3, 6, 8) else "mirrored"
        notes.append(f"{word}, as its orientation {raw.orientation} says (EXIF or TIFF)")
    if alpha is not None:
        values = _behind(path, values, alpha, raw, options, notes)

    finite: Array | None = None
    if values.dtype.kind == "f":
        found = np.isfinite(values)
        bad = int(values.size - found.sum())
        if bad and not options.allow_nan:
            raise Failure(
                f"{path}: {bad} of {values.size} values are not finite (NaN or infinite); --ignore-nan leaves them "
                "out, and so does a --mask that is 0 there"
            )
        if bad == values.size:
            raise Failure(f"{path}: none of its {values.size} values is finite")
        if bad:
            finite = found
            notes.append(f"{bad} of {values.size} values are not finite (NaN or infinite)")

    count = values.shape[0]
    channels = raw.channels if len(raw.channels) == count else ()
    return Picture(
        path=path,
        kind="volume" if values.ndim == 4 else "image",
        values=values,
        channel_names=channels or COLOUR_NAMES.get(count, tuple(f"channel {i}" for i in range(count))),
        dtype=dtype,
        white=raw.white,
        scaled=raw.scaled,
        physical=raw.physical,
        spacing=spacing,
        axes=raw.volume_axes if values.ndim == 4 else "HW",
        affine=raw.affine,
        profile=raw.profile,
        finite=finite,
        notes=tuple(f"{path}: {note}" for note in notes),
    )


def _meaning(
    path: str, raw: Raw, kind: Kind | None, may_be_overridden: bool
) -> tuple[Array, str, Array | None, tuple[float, ...] | None]:
    """The values with the meaning of each axis. Axes of length 1 do not make a volume of an image."""
    values, axes, alpha, spacing = raw.values, raw.axes, raw.alpha, raw.spacing
    if not axes:  # nothing says what the axes are
        while values.ndim > (3 if kind == "volume" else 2) and values.shape[0] == 1:
            values = values[0]
        axes = infer_axes(path, tuple(values.shape), kind)
    elif kind == "volume" and "D" not in axes and may_be_overridden:  # the user knows better than the file
        axes, alpha, spacing = infer_axes(path, tuple(values.shape), kind), None, None
    while "D" in axes and kind != "volume":
        single = next((axis for axis in "DHW" if values.shape[axes.index(axis)] == 1), None)
        if single is None:
            break
        # The axes that are left are H and W, in their order.
        place, where = axes.index(single), [axis for axis in axes if axis != "C"].index(single)
        values = values.take(0, axis=place)
        alpha = None if alpha is None else alpha.take(0, axis=where)
        spacing = None if spacing is None else spacing[:where] + spacing[where + 1 :]
        axes = axes[:place] + axes[place + 1 :]
        left = [axis for axis in axes if axis != "C"]
        axes = axes.translate({ord(left[0]): "H", ord(left[1]): "W"})
    if kind == "image" and "D" in axes and may_be_overridden:
        if "C" in axes:
            raise Failure(f"{path}: a volume of shape {tuple(values.shape)} with channels cannot be read as an image")
        if raw.physical:
            axes = axes.translate(str.maketrans("DHW", "HWC"))  # x and y are the image, its slices the channels
            spacing = None if spacing is None else spacing[:2]
        else:
            axes = infer_axes(path, tuple(values.shape), kind)
    found: Kind = "volume" if "D" in axes else "image"
    if kind not in (None, found):
        raise Failure(f"{path} is {an(found)} of shape {tuple(values.shape)}, which cannot be read as {an(kind)}")
    return values, axes, alpha, spacing


def _behind(path: str, values: Array, alpha: Array, raw: Raw, options: ReadOptions, notes: list[str]) -> Array:
    """The colours over the background that the user names; without one as they are stored, and a note."""
    import numpy as np

    opaque = float(np.iinfo(alpha.dtype).max) if alpha.dtype.kind in "iu" else 1.0
    clear = int((alpha < opaque).sum())
    if not clear:
        return values
    if options.background is None:
        notes.append(
            f"has transparency ({100 * clear / alpha.size:.3g} % of its pixels), which is ignored: hidden colours are "
            "compared as they are stored; see --background"
        )
        return values
    white = raw.white or (float(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else 1.0)
    colours = options.background
    if values.shape[0] != 3:
        if len(set(colours)) != 1:
            raise Failure(f"{path}: --background is a colour, and the picture has {values.shape[0]} channels")
        colours = colours[:1] * values.shape[0]
    share = alpha.astype(np.float64)[None] / opaque
    behind = np.asarray(colours, np.float64).reshape(-1, *[1] * (values.ndim - 1)) * white
    over = values if raw.premultiplied else values * share
    notes.append("its transparent pixels are laid over the background")
    mixed: Array = over + behind * (1 - share)
    raw.white = white if values.dtype.kind in "iu" else raw.white
    return mixed


@contextmanager
def one_line_errors(path: str) -> Iterator[None]:
    """What the reading packages raise for a damaged or foreign file, as one line that names the file."""
    try:
        yield
    except click.ClickException:
        raise
    except RecursionError:
        raise
    except MemoryError as error:
        raise Failure(f"{path}: cannot be read: there is not enough memory for it") from error
    except Exception as error:  # damaged files raise whatever: OSError, ValueError, zlib.error, HeaderDataError, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise Failure(f"{path}: cannot be read: {reason}") from error
