# SPDX-License-Identifier: MIT
"""The functions of fused_ssim under the import name of fused-ssim3D."""

from __future__ import annotations

from fused_ssim import FusedSSIMMap, allowed_padding, fused_ssim, fused_ssim2d, fused_ssim3d

__all__ = ["FusedSSIMMap", "allowed_padding", "fused_ssim", "fused_ssim2d", "fused_ssim3d"]
