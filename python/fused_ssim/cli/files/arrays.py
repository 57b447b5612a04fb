# SPDX-License-Identifier: MIT
"""NPY and NPZ files, by NumPy itself. They do not say what their axes mean: `infer_axes` decides."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from fused_ssim.cli.common import Failure
from fused_ssim.cli.files.picture import Raw, an

if TYPE_CHECKING:
    from pathlib import Path

    from fused_ssim.cli.files.source import Source
    from fused_ssim.cli.results import Kind

# How many channels an array may have to be taken for an image with channels rather than for a volume.
CHANNEL_COUNTS = (1, 3, 4)


def read_npy(source: Source) -> Raw:
    """The array of an NPY file."""
    import numpy as np

    with source.stream() as file:
        values = np.load(file, allow_pickle=False)
        rest = len(file.read(1))
    return Raw(values, axes="", notes=["more follows after its array, which is not read"] * rest)


def read_npz(source: Source) -> Raw:
    """The array of an NPZ file that holds one."""
    import numpy as np

    with np.load(io.BytesIO(source.data), allow_pickle=False) as archive:
        if len(archive.files) != 1:
            raise ValueError(f"holds {len(archive.files)} arrays; one is expected")
        return Raw(archive[archive.files[0]], axes="")


def infer_axes(path: Path | str, shape: tuple[int, ...], kind: Kind | None) -> str:
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
    what = an(kind) if kind else "an image or a volume"
    raise Failure(f"{path}: an array of shape {shape} cannot be read as {what}")
