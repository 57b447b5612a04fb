# SPDX-License-Identifier: MIT
"""What `fused-ssim compare` finds out about pairs of files: the interface between the run and whatever shows it.

A run gives one `PairResult` for each pair, in the order of the pairs, and the `Settings` that all of them had. A result
holds no pixels: `scoring.load_pair(result, settings, mask)` reads them again, by the same rules, when somebody wants to
see them, and gives a `Pair`, of which `scoring.ssim_map(pair, settings)` makes the map. This module needs no torch.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

import fused_ssim

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Array = npt.NDArray[Any]

Kind = Literal["image", "volume"]
Precision = Literal["auto", "float64", "float32"]


@dataclass(frozen=True)
class Settings:
    """How the pairs of a run are read and scored: the same for all."""

    padding: str = "same"
    window_size: int = 11
    sigma: float = 1.5
    data_range: float | None = None  # as given by the user; None: from the files (`PairResult.data_range` has it)
    kind: Kind | None = None  # --as
    background: tuple[float, float, float] | None = None  # what shows through transparency, each from 0 to 1
    ignore_nan: bool = False
    mask: str | None = None  # a file; what is 0 there does not count
    ms_ssim: bool = False
    precision: Precision = "auto"
    luma: bool = False  # films: the luma plane alone
    device: str = "cpu"  # as torch names it
    versions: Mapping[str, str] = field(default_factory=dict)  # package -> version: fused-ssim, torch, the readers


@dataclass(frozen=True, slots=True)
class PairResult:
    """The scores of one pair, or why there are none."""

    name: str  # the relative name that both files have; unique in a run
    first: str  # the paths, as given
    second: str
    ssim: float | None = None  # None if `error` says why
    psnr: float | None = None  # dB; infinite for identical files
    l1: float | None = None  # mean absolute difference, as a part of the data range
    ms_ssim: float | None = None  # None if it was not asked for, or the picture is too small for it (a note says so)
    error: str | None = None  # one line
    notes: tuple[str, ...] = ()  # what was decided on the way; each names the file it is about
    shape: tuple[int, ...] = ()  # (H, W), or (D, H, W) for a volume; () with an error
    kind: Kind | None = None  # what the files were read as; None with an error
    channels: tuple[tuple[str, float], ...] = ()  # the SSIM of each channel
    data_range: float | None = None  # the one that was used
    data_range_origin: str = ""  # where it is from, for people
    data_range_source: str = ""  # "option", "dtype", "format" or "values"
    axes: str = ""  # the names of the axes of `shape`: "HW", or of a volume "DHW", "XYZ" (NIfTI) or "ZYX" (DICOM)
    dtype: str = ""  # as stored in the files; "uint8 and float32" if they differ
    frame: int | None = None  # films: the index of this frame
    time: float | None = None  # films: when it is shown, in seconds


@dataclass(frozen=True)
class Pair:
    """The pixels of a pair, as they are scored."""

    first: Array  # (C, H, W) or (C, D, H, W), float32 or float64, in the units of the file
    second: Array
    channel_names: tuple[str, ...]
    black: float  # what is drawn black: the lower end of the range of values; white is `black + data_range`
    data_range: float
    spacing: tuple[float, ...] | None  # of a volume: the size of a voxel along each axis, where the files tell
    axes: str  # the names of the spatial axes, as `PairResult.axes`
    mask: Array | None = None  # which pixels count, broadcasts to the images; None: all


# What decides about a score: the library and the readers.
PACKAGES = (
    "fused-ssim", "torch", "numpy", "pillow", "simplejpeg", "imagecodecs", "tifffile", "netpbmfile", "nibabel",
    "pydicom", "OpenEXR", "av",
)  # fmt: skip


def versions() -> dict[str, str]:
    """The versions of the packages of `PACKAGES` that are installed."""
    found = {"fused-ssim": fused_ssim.__version__}  # also where it runs from a folder of sources
    for name in PACKAGES[1:]:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
