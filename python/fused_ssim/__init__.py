# SPDX-License-Identifier: MIT
"""Structural similarity (SSIM) and its gradient, fused: 2D and 3D, CPU and CUDA, for torch."""

from __future__ import annotations

from ._info import CudaDevice, Info, info
from ._losses import MSSSIMLoss, PhotometricLoss, SSIMLoss
from ._msssim import MS_SSIM, SSIM, ms_ssim, ssim
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
    "MS_SSIM",
    "SSIM",
    "CudaDevice",
    "FusedSSIMMap",
    "Info",
    "MSSSIMLoss",
    "PhotometricLoss",
    "SSIMLoss",
    "allowed_padding",
    "fused_ssim",
    "fused_ssim2d",
    "fused_ssim3d",
    "info",
    "ms_ssim",
    "photometric_loss",
    "ssim",
    "ssim_map",
    "value_and_grad",
]
