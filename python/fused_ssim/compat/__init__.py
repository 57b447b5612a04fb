# SPDX-License-Identifier: MIT
"""The interfaces of other packages, for code that was written for them: fused-ssim and pytorch-msssim.

``fused_ssim_cuda`` is also there by that name alone, as fused-ssim's extension module is.
"""

from __future__ import annotations

from . import fused_ssim, fused_ssim_cuda, pytorch_msssim

__all__ = ["fused_ssim", "fused_ssim_cuda", "pytorch_msssim"]
