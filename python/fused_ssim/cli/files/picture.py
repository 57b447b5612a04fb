# SPDX-License-Identifier: MIT
"""What a reader gives, `Raw`, and what is compared, `Picture`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fused_ssim.cli.results import Array, Kind


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about all files of a run."""

    kind: Kind | None = None  # --as: overrides what a file seems to hold, where that is open to doubt
    background: tuple[float, float, float] | None = None  # what shows through transparency, red, green, blue, 0 to 1
    allow_nan: bool = False  # values that are not finite are marked instead of refused


@dataclass
class Raw:
    """What a reader found.

    `axes` names each axis of `values` by one letter of CDHW; empty if the file does not say. Readers turn what is
    stored into what it means, and make small numbers dark; all else is left to `files.read()`.
    """

    values: Array  # integers, bool or floats as they are stored, in full
    axes: str
    dtype: str = ""  # for people, where it is not that of `values`: "uint12"
    white: float | None = None  # the largest value that the format allows; None: that of the dtype
    channels: tuple[str, ...] = ()
    scaled: bool = False  # a header scales the stored values
    physical: bool = False  # scans: values have a unit of their own rather than the range of the dtype
    spacing: tuple[float, ...] | None = None  # size of a voxel along the axes DHW (or HW)
    volume_axes: str = "DHW"  # what these are, for people: NIfTI has XYZ, DICOM ZYX
    affine: Array | None = None  # from voxels to space
    alpha: Array | None = None  # opacity, of the shape of the values without their channels, in the dtype of values
    premultiplied: bool = False  # the colours are multiplied by the opacity already
    orientation: int = 1  # as EXIF and TIFF count them; `files.read()` turns the picture upright
    profile: bytes | None = None  # an ICC profile
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """An image or a volume as it is compared."""

    path: str  # for people
    kind: Kind
    values: Array  # (C, H, W) or (C, D, H, W), as stored; perhaps a view
    channel_names: tuple[str, ...]
    dtype: str
    white: float | None
    scaled: bool
    physical: bool
    spacing: tuple[float, ...] | None
    axes: str  # the names of the spatial axes: "HW", or of a volume "DHW", "XYZ" (NIfTI) or "ZYX" (DICOM)
    affine: Array | None
    profile: bytes | None
    finite: Array | None  # where the values are finite, of their shape; None: everywhere
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The spatial axes."""
        return tuple(self.values.shape[1:])

    @property
    def description(self) -> str:
        """What the picture is, for people: "an image, 300 x 451 (H x W), 3 channels"."""
        return describe(self.kind, self.shape, self.axes, len(self.channel_names))


def describe(kind: Kind | None, shape: tuple[int, ...], axes: str, channels: int) -> str:
    """Kind, size and channels in words."""
    sizes = f"{' x '.join(map(str, shape))} ({' x '.join(axes)})"
    return f"{an(kind)}, {sizes}, {channels} channel{'s' * (channels != 1)}"


def an(kind: Kind | None) -> str:
    """The kind with its article."""
    return "a volume" if kind == "volume" else "an image"


def upright(values: Array, orientation: int) -> Array:
    """A picture (..., H, W), turned or mirrored as the orientations 2 to 8 of EXIF and TIFF say."""
    if orientation >= 5:
        values = values.swapaxes(-1, -2)
    rows, columns = (slice(None, None, -1 if orientation in which else None) for which in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return values[..., rows, columns]
