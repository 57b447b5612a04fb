# SPDX-License-Identifier: MIT
"""The interfaces of other packages, for code that was written for them: fused-ssim and pytorch-msssim."""

from __future__ import annotations

from . import fused_ssim, pytorch_msssim

__all__ = ["fused_ssim", "pytorch_msssim"]
