# SPDX-License-Identifier: MIT
"""NIfTI-1 and -2, and Analyze and its kin of SPM, by nibabel, which scales values as the header says."""

from __future__ import annotations

import gzip
import math
from typing import TYPE_CHECKING, Any, Literal

from fused_ssim.cli.common import extra
from fused_ssim.cli.files.picture import Raw

if TYPE_CHECKING:
    from fused_ssim.cli.files.source import Source
    from fused_ssim.cli.results import Array


ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")


def is_nifti(head: bytes) -> bool:
    """Whether the first bytes are a header of NIfTI-1 or -2, in one file with the data or in a file of its own.

    That of Analyze has only its own length, 348, and the number of axes.
    """
    analyze = any(
        int.from_bytes(head[:4], order) == 348 and 1 <= int.from_bytes(head[40:42], order) <= 7 for order in ORDERS
    )
    return analyze or head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def read_nifti(source: Source) -> Raw:
    """The image or volume of a NIfTI file."""
    with extra("cli"):
        import nibabel as nib
        import numpy as np

    data = source.head
    zipped = data[:2] == b"\x1f\x8b"
    single = data[344:348] == b"n+1\0" or data[4:8] == b"n+2\0"  # the pixels are in the same file
    # nibabel unpacks by the name, so it is shown only one that fits, and maps that file.
    named = source.is_plain and source.path.name.endswith((".nii", ".hdr", ".img"))
    if zipped or (single and not named) or not source.is_plain:
        # As a whole, to the end of the gzip stream: its checksum stands there, and nibabel stops before it.
        data = gzip.decompress(source.data) if zipped else source.data
        if not is_nifti(data):
            raise ValueError("a gzip file that holds no NIfTI volume")
        image: Any = _class_of(data).from_bytes(data)
    elif single:
        image = _class_of(data).from_file_map({"image": nib.FileHolder(filename=str(source.path))})
    else:  # a header whose pixels are in a file beside it
        try:
            image = nib.load(source.path)
        except nib.filebasedimages.ImageFileError as error:
            raise ValueError(str(error)) from error
    values = np.asanyarray(image.dataobj)  # scaled by the slope and intercept of the header, if it has them
    stored = np.dtype(image.get_data_dtype())
    channels: tuple[str, ...] = ()
    notes = _surplus(image, source, data) if single or zipped else []
    alpha: Array | None = None
    if stored.names and set(stored.names) >= {"R", "G", "B"}:  # colours as records
        if "A" in stored.names and bool((values["A"] < 255).any()):
            if values.ndim > 3:
                raise ValueError("colours with opacity and more than 3 axes are not read here")
            alpha = values["A"]
        values = np.stack([values[name] for name in ("R", "G", "B")], axis=-1)
        stored, channels = values.dtype, ("red", "green", "blue")

    space = min(values.ndim - bool(channels), 3)
    zooms = [float(zoom) for zoom in image.header.get_zooms()[:space]]
    if not all(0 < zoom < float("inf") for zoom in zooms):
        notes.append(f"sizes of voxels {', '.join(f'{zoom:g}' for zoom in zooms)} in its header; 1 is taken")
        zooms = [1.0] * space
    # Of the axes behind space (time, and the components of vectors) at most one may be longer than 1.
    others = [length for length in values.shape[space:] if length != 1]
    if len(others) > 1:
        raise ValueError(f"shape {tuple(image.shape)}: 2 or 3 spatial axes and at most one other are expected")
    values = values.reshape(*values.shape[:space], *others)
    if values.ndim < 2:
        values = values.reshape(*values.shape, *[1] * (2 - values.ndim))
    slope, inter = getattr(image.dataobj, "slope", 1.0), getattr(image.dataobj, "inter", 0.0)
    scaled = (slope, inter) != (1.0, 0.0)
    if others and not channels:
        channels = tuple(f"volume {i}" for i in range(others[0]))
    return Raw(
        values,
        axes=("DHW" if space == 3 else "HW") + "C" * len(others),
        dtype=stored.name,
        white=255.0 if stored.name == "uint8" and not scaled else None,
        channels=channels,
        scaled=scaled,
        physical=True,
        alpha=alpha,
        spacing=tuple(zooms),
        volume_axes="XYZ",
        affine=None if image.affine is None else np.asarray(image.affine),
        notes=notes,
    )


def _surplus(image: Any, source: Source, data: bytes) -> list[str]:
    """A note if a file of one piece holds more than its header describes: then one of both is wrong."""
    length = len(data) if data is not source.head else source.path.stat().st_size
    pixels = int(image.header.get_data_dtype().itemsize) * math.prod(image.header.get_data_shape())
    more = length - int(image.dataobj.offset) - pixels
    return [f"{more} bytes follow after its values, which are not read"] if more > 0 else []


def _class_of(data: bytes) -> Any:
    import nibabel as nib

    return nib.Nifti2Image if data[4:7] == b"n+2" else nib.Nifti1Image
