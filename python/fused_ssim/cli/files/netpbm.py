# SPDX-License-Identifier: MIT
"""PBM, PGM, PPM, PAM and PFM, by netpbmfile: it keeps all 16 bits and the maximum, which Pillow scales away."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from fused_ssim.cli.common import extra
from fused_ssim.cli.files.picture import Raw

if TYPE_CHECKING:
    from fused_ssim.cli.files.source import Source


def read_netpbm(source: Source) -> Raw:
    """The image of a Netpbm file."""
    with extra("cli"):
        import netpbmfile
        import numpy as np

    with netpbmfile.NetpbmFile(io.BytesIO(source.data)) as file:
        values, axes, white = np.asarray(file.asarray()), str(file.axes), float(file.maxval)
        magic, tuple_type = str(file.magicnumber), str(file.tupltype or "")
    if "I" in axes:
        raise ValueError(f"holds {values.shape[axes.index('I')]} images; one is expected")
    raw = Raw(values, axes.translate(str.maketrans("YXS", "HWC")))
    if magic in ("Pf", "PF"):
        raw.values = values[::-1]  # PFM is stored from the bottom to the top
        return raw
    if magic in ("P1", "P4"):
        raw.values = ~values.astype(bool)  # 1 is black
        return raw
    if values.dtype == bool:
        return raw
    if values.size and int(values.max()) > white:
        raise ValueError(f"holds the value {int(values.max())}, above its own maximum {white:g}")
    if white not in (255.0, 65535.0):
        raw.white, raw.dtype = white, f"{values.dtype.name} up to {white:g}"
    if tuple_type.endswith("_ALPHA"):
        # Opacity has the same maximum; scaled to that of the dtype, as other formats have it.
        top = np.iinfo(values.dtype).max
        raw.alpha = np.round(values[..., -1] * (top / white)).astype(values.dtype)
        raw.values = values[..., :-1]
    elif "C" in axes and values.shape[axes.index("C")] not in (1, 3):
        raw.channels = tuple(f"channel {i}" for i in range(values.shape[axes.index("C")]))
    return raw
