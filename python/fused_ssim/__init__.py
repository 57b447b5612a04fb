# SPDX-License-Identifier: MIT
"""Structural similarity (SSIM) and its gradient, fused: 2D and 3D, CPU and CUDA, for torch."""

from __future__ import annotations

from ._info import CudaDevice, Info, info
from ._native import version as _version
from .functional import (
    FusedSSIMMap,
    allowed_padding,
    fused_ssim,
    fused_ssim2d,
    fused_ssim3d,
    photometric_loss,
    ssim_map,
    value_and_grad,
)

__version__ = _version()

__all__ = [
    "CudaDevice",
    "FusedSSIMMap",
    "Info",
    "allowed_padding",
    "fused_ssim",
    "fused_ssim2d",
    "fused_ssim3d",
    "info",
    "photometric_loss",
    "ssim_map",
    "value_and_grad",
]
