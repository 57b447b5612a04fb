# SPDX-License-Identifier: MIT
"""Reading an image or a volume from a file, by Pillow, tifffile, nibabel or numpy.

Every reader gives an array and the meaning of its axes as a word, such as "HWC" or "DHW". NPY files do not say what
their axes mean, so `infer_axes` decides, by a rule that `fused-ssim compare --help` states.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from fused_ssim.cli.common import Failure, extra

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from PIL.Image import Image as PillowImage

    Array = npt.NDArray[Any]

Kind = Literal["image", "volume"]

# How many channels an array may have to be taken for an image with channels rather than for a volume.
CHANNEL_COUNTS = (1, 3, 4)
COLOUR_NAMES = {3: ("red", "green", "blue")}


@dataclass(frozen=True)
class Picture:
    """An image or a volume as it is compared."""

    path: Path
    kind: Kind
    values: Array  # (C, H, W) or (C, D, H, W), float32 or float64
    channel_names: tuple[str, ...]
    dtype: str  # as stored in the file
    scaled: bool  # a NIfTI file whose header scales the stored values
    physical: bool  # NIfTI: values have a unit of their own rather than the range of the dtype
    spacing: tuple[float, ...] | None  # size of a voxel, where the file tells
    affine: Array | None  # NIfTI: from voxels to space
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The spatial axes."""
        return tuple(self.values.shape[1:])

    @property
    def description(self) -> str:
        """What the picture is, for people: "an image, 300 x 451 (H x W), 3 channels"."""
        axes = ("X x Y x Z" if self.physical else "D x H x W") if self.kind == "volume" else "H x W"
        channels = len(self.channel_names)
        return (
            f"{_an(self.kind)}, {' x '.join(map(str, self.shape))} ({axes}), {channels} channel{'s' * (channels != 1)}"
        )


@dataclass
class _Raw:
    """What a reader found: `axes` names each axis of `values` by one letter of CDHW; empty if the file does not say."""

    values: Array
    axes: str
    dtype: str = ""
    channels: tuple[str, ...] = ()
    scaled: bool = False
    physical: bool = False
    spacing: tuple[float, ...] | None = None
    affine: Array | None = None
    notes: tuple[str, ...] = ()


def read(path: Path, kind: Kind | None = None) -> Picture:
    """The image or volume in a file. `kind` overrides what the file seems to hold, where that is open to doubt."""
    with extra("cli"):
        import numpy as np

    name = path.name.lower()
    with _one_line_errors(path):
        if name.endswith(".npy"):
            raw = _read_npy(path)
        elif name.endswith((".nii", ".nii.gz")):
            raw = _read_nifti(path)
        elif name.endswith((".tif", ".tiff")):
            raw = _read_tiff(path)
        else:
            raw = _read_pillow(path)

    values, axes = raw.values, raw.axes
    dtype = raw.dtype or values.dtype.name
    if 0 in values.shape:
        raise Failure(f"{path}: the array of shape {tuple(values.shape)} is empty")
    overridden = kind is not None and (kind == "volume") != ("D" in axes) and name.endswith((".tif", ".tiff"))
    if not axes or overridden:  # nothing says what the axes are, or the user knows better than the TIFF file
        while values.ndim > (3 if kind == "volume" else 2) and values.shape[0] == 1:
            values = values[0]
        axes = infer_axes(path, tuple(values.shape), kind)
    found: Kind = "volume" if "D" in axes else "image"
    if kind not in (None, found):
        raise Failure(f"{path} is {_an(found)} of shape {tuple(values.shape)}, which cannot be read as {_an(kind)}")

    if values.dtype.kind not in "biuf":
        raise Failure(f"{path}: values of type {values.dtype} cannot be compared; real numbers are needed")
    # float32 holds 16-bit integers exactly; what is wider is computed in float64.
    wide = values.dtype.itemsize > (4 if values.dtype.kind == "f" else 2)
    order = [axes.index(axis) for axis in "CDHW" if axis in axes]
    values = values.transpose(order).astype(np.float64 if wide else np.float32, order="C")
    if "C" not in axes:
        values = values[None]
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise Failure(f"{path}: {bad} of {values.size} values are not finite (NaN or infinite)")

    count = values.shape[0]
    return Picture(
        path=path,
        kind=found,
        values=values,
        channel_names=raw.channels or COLOUR_NAMES.get(count, tuple(f"channel {i}" for i in range(count))),
        dtype=dtype,
        scaled=raw.scaled,
        physical=raw.physical,
        spacing=raw.spacing,
        affine=raw.affine,
        notes=tuple(f"{path}: {note}" for note in raw.notes),
    )


def infer_axes(path: Path, shape: tuple[int, ...], kind: Kind | None) -> str:
    """The meaning of the axes of an array that does not tell it; leading axes of length 1 are dropped before.

    2 axes: an image. 3 axes: an image with channels if the last or else the first has length 1, 3 or 4, otherwise a
    volume. 4 axes: a volume with channels, found the same way. With `kind` given, the shorter of the last and the first
    axis holds the channels.
    """
    if len(shape) == 2 and kind != "volume":
        return "HW"
    if len(shape) == 3 and kind == "volume":
        return "DHW"
    if len(shape) == 3 or (len(shape) == 4 and kind != "image"):
        space = "HW" if len(shape) == 3 else "DHW"
        if kind is None:
            last, first = shape[-1] in CHANNEL_COUNTS, shape[0] in CHANNEL_COUNTS
        else:
            last, first = shape[-1] <= shape[0], shape[-1] > shape[0]
        if last:
            return space + "C"
        if first:
            return "C" + space
        if len(shape) == 3:
            return "DHW"
    if len(shape) == 4 and kind is None:
        raise Failure(
            f"{path}: shape {shape} has 4 axes, and neither the first nor the last has a length of 1, 3 or 4; "
            "--as volume takes the shorter of the two for the channels"
        )
    what = _an(kind) if kind else "an image or a volume"
    raise Failure(f"{path}: an array of shape {shape} cannot be read as {what}")


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """What the reading packages raise for a damaged or foreign file, as one line that names the file."""
    try:
        yield
    except click.ClickException:
        raise
    except Exception as error:  # damaged files raise whatever: OSError, ValueError, zlib.error, HeaderDataError, ...
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Failure(f"{path}: cannot be read: {reason}") from error


def _an(kind: Kind | None) -> str:
    return "a volume" if kind == "volume" else "an image"


def _read_npy(path: Path) -> _Raw:
    import numpy as np

    return _Raw(np.load(path, allow_pickle=False), axes="")


def _read_nifti(path: Path) -> _Raw:
    with extra("cli"):
        import nibabel as nib
        import numpy as np

    try:
        image: Any = nib.load(path)
    except nib.filebasedimages.ImageFileError as error:
        raise ValueError(str(error)) from error
    values = np.asanyarray(image.dataobj)  # scaled by the slope and intercept of the header, if it has them
    # (X, Y, Z, 1, channels) is how NIfTI stores vectors.
    while values.ndim > 3 and 1 in values.shape[3:]:
        values = values.squeeze(3 + values.shape[3:].index(1))
    while values.ndim > 2 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3, 4):
        raise ValueError(f"shape {tuple(image.shape)}: 2 or 3 spatial axes and at most one other are expected")
    slope, inter = getattr(image.dataobj, "slope", 1.0), getattr(image.dataobj, "inter", 0.0)
    return _Raw(
        values,
        axes={2: "HW", 3: "DHW", 4: "DHWC"}[values.ndim],
        dtype=np.dtype(image.get_data_dtype()).name,
        channels=tuple(f"volume {i}" for i in range(values.shape[3])) if values.ndim == 4 else (),
        scaled=(slope, inter) != (1.0, 0.0),
        physical=True,
        spacing=tuple(float(zoom) for zoom in image.header.get_zooms()[: min(values.ndim, 3)]),
        affine=np.asarray(image.affine),
    )


def _read_tiff(path: Path) -> _Raw:
    with extra("cli"):
        import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        page: Any = series.keyframe
        orientation = page.tags.get(274)
        plain = page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
        if not plain or (orientation is not None and orientation.value != 1):
            return _read_pillow(path)  # palettes, CMYK, inverted grey, rotated pages
        try:
            values = series.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            if page.bitspersample > 8 and page.samplesperpixel > 1:  # which Pillow would cut to 8 bits
                raise ValueError(f"compression {page.compression.name}: pip install imagecodecs") from error
            return _read_pillow(path)
        notes: tuple[str, ...] = ()
        if len(file.series) > 1:
            notes += (f"holds {len(file.series)} images of different shapes; the first is taken",)
        axes = ""
        keep: list[int | slice] = []
        for axis, length in zip(series.axes, values.shape, strict=True):
            letter = {"Y": "H", "X": "W", "S": "C", "C": "C"}.get(axis, "D")
            if letter in "CD" and length == 1:
                keep.append(0)
                continue
            if letter in axes:
                raise ValueError(f"axes {series.axes} of shape {tuple(values.shape)}: one image or volume is expected")
            axes += letter
            keep.append(slice(None))
        if 1 in page.extrasamples or 2 in page.extrasamples:  # the last sample is alpha
            keep[series.axes.index("S")] = slice(0, -1)
            notes += _alpha_note(values.take(-1, axis=series.axes.index("S")))
        return _Raw(values[tuple(keep)], axes, notes=notes)


def _read_pillow(path: Path) -> _Raw:
    with extra("cli"):
        import numpy as np
        from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # the file is the user's own, however large
    try:
        opened = Image.open(path)
    except UnidentifiedImageError:
        raise ValueError("not an image in a format that is known here (PNG, JPEG, TIFF, NPY, NIfTI)") from None
    with opened:
        if opened.format == "PNG" and _is_deep_colour_png(path):
            return _read_deep_colour_png(path)
        frames = getattr(opened, "n_frames", 1)
        if frames > 1 and opened.format == "TIFF":
            pages = [_from_pillow(page, opened.format) for page in ImageSequence.Iterator(opened)]
            return _Raw(np.stack([page.values for page in pages]), "D" + pages[0].axes, notes=pages[0].notes)
        if frames > 1 and opened.format != "MPO":  # an MPO is a JPEG with a preview or a second view behind it
            raise ValueError(f"holds {frames} frames; a still image is expected")
        before = opened.size
        raw = _from_pillow(ImageOps.exif_transpose(opened), opened.format)
        if before != raw.values.shape[1::-1]:
            raw.notes += ("turned upright, as its EXIF orientation says",)
        return raw


def _from_pillow(image: PillowImage, file_format: str | None) -> _Raw:
    """A Pillow image as grey or RGB."""
    import numpy as np

    notes: tuple[str, ...] = ()
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or (
        image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info
    ):
        notes += _alpha_note(np.asarray(image.convert("RGBA"))[..., 3])
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PNG"):  # the latter in old Pillow
        return _Raw(np.asarray(image).astype(np.uint16), "HW", notes=notes)
    if image.mode in ("1", "I", "F"):
        return _Raw(np.asarray(image), "HW", notes=notes)
    if image.mode in ("L", "LA", "La"):
        return _Raw(np.asarray(image.convert("L")), "HW", notes=notes)
    if image.mode in ("CMYK", "LAB", "HSV"):
        notes += (f"{image.mode} is converted to RGB",)
    if image.mode == "RGBA":
        return _Raw(np.asarray(image)[..., :3], "HWC", notes=notes)
    return _Raw(np.asarray(image.convert("RGB")), "HWC", notes=notes)


def _is_deep_colour_png(path: Path) -> bool:
    """Whether a PNG has 16 bits a channel and more than one channel, which Pillow silently cuts to 8 bits."""
    with path.open("rb") as file:
        header = file.read(26)  # signature, length, "IHDR", width, height, bit depth, colour type
    return header[24] == 16 and header[25] in (2, 4, 6)


def _read_deep_colour_png(path: Path) -> _Raw:
    try:  # not part of any extra: a large package for a rare kind of file
        imagecodecs = importlib.import_module("imagecodecs")
    except ModuleNotFoundError:
        raise ValueError(
            "16-bit colour PNG, which Pillow would cut to 8 bits: pip install imagecodecs, or convert it to TIFF"
        ) from None
    values = imagecodecs.png_decode(path.read_bytes())
    notes: tuple[str, ...] = ()
    if values.shape[-1] in (2, 4):
        notes = _alpha_note(values[..., -1])
        values = values[..., :-1]
    return _Raw(values, "HWC", notes=notes)


def _alpha_note(alpha: Array) -> tuple[str, ...]:
    """Transparency is not compared: say so, unless there is none."""
    import numpy as np

    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1.0
    return ("has transparency, which is ignored",) if bool((alpha < opaque).any()) else ()
