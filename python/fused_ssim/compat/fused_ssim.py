# SPDX-License-Identifier: MIT
"""Names that training codes import from fused-ssim, beside its functions; and those of its extension module."""

from __future__ import annotations

from torch import Tensor

from .._torch import eager
from .fused_ssim_cuda import fusedssim, fusedssim3d, fusedssim_backward, fusedssim_backward3d, map_settings

__all__ = [
    "FusedSSIMMap",
    "allowed_padding",
    "fusedssim",
    "fusedssim3d",
    "fusedssim_backward",
    "fusedssim_backward3d",
]

# As fused-ssim has it; the functions of this package take more.
allowed_padding: list[str] = ["same", "valid"]


class FusedSSIMMap:
    """The SSIM map, under the name and with the arguments that training codes of fused-ssim import.

    Only :meth:`apply` is meant to be used.
    """

    @staticmethod
    def apply(
        C1: float,
        C2: float,
        img1: Tensor,
        img2: Tensor,
        padding: str = "same",
        train: bool = True,
        spatial_dims: int = 2,
    ) -> Tensor:
        """The SSIM map (Wang et al. 2004) for a window of 11 taps and sigma 1.5, differentiable in both images.

        Args:
            C1: the constant of the luminance term, ``(K1 * data_range)**2``, at least 0: 0.01**2 for [0, 1].
            C2: the constant of the contrast term, ``(K2 * data_range)**2``, at least 0: 0.03**2 for [0, 1].
            img1: images ``[N, C, H, W]``, or volumes ``[N, C, D, H, W]`` if ``spatial_dims`` is 3.
            img2: as ``img1``.
            padding: ``"same"``, or ``"valid"`` for the map without 5 elements at each end of each spatial axis.
            train: ``False`` promises that no backward will come: nothing is kept for it, and a backward raises.
            spatial_dims: 2 or 3.

        Returns:
            The map, values at most 1: float32, or float64 for float64 images. Unless they are float64, the window is
            that of fused-ssim, as for :func:`fused_ssim`; its map differs from that of :func:`ssim_map` in the seventh
            digit.

        Raises:
            ValueError, TypeError, RuntimeError: as :func:`fused_ssim`.

        """
        if isinstance(spatial_dims, bool) or spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims = {spatial_dims!r}; expected 2 or 3")
        return eager.ssim(img1, img2, map_settings(C1, C2, padding), spatial_dims, train)
