# SPDX-License-Identifier: MIT
"""The extension module of fused-ssim by its name, for training codes that call its functions themselves."""

from __future__ import annotations

from fused_ssim.compat.fused_ssim_cuda import fusedssim, fusedssim3d, fusedssim_backward, fusedssim_backward3d

__all__ = ["fusedssim", "fusedssim3d", "fusedssim_backward", "fusedssim_backward3d"]
