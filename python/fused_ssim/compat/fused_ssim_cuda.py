# SPDX-License-Identifier: MIT
"""The functions of fused-ssim's extension module, which some training codes call themselves.

There, the forward function computes three maps of partial derivatives for the backward function. Here, backward reads
the images again instead, so those three are empty tensors: to be passed on, not to be used.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from .._base.arguments import number
from .._base.codes import GRAD_1
from .._torch import eager, operators

if TYPE_CHECKING:
    from torch import Tensor

    from .._base.settings import Settings

__all__ = ["fusedssim", "fusedssim3d", "fusedssim_backward", "fusedssim_backward3d"]


def fusedssim(C1: float, C2: float, img1: Tensor, img2: Tensor, train: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The SSIM map (Wang et al. 2004) of images ``[N, C, H, W]`` with zeros as their border, and three empty tensors.

    Args:
        C1: the constant of the luminance term, ``(K1 * data_range)**2``.
        C2: the constant of the contrast term, ``(K2 * data_range)**2``.
        img1: the images whose gradient :func:`fusedssim_backward` gives.
        img2: as ``img1``.
        train: of no effect: backward reads the images again.

    """
    del train
    return _map(C1, C2, img1, img2, 2)


def fusedssim_backward(
    C1: float,
    C2: float,
    img1: Tensor,
    img2: Tensor,
    dL_dmap: Tensor,
    dm_dmu1: Tensor,
    dm_dsigma1_sq: Tensor,
    dm_dsigma12: Tensor,
) -> Tensor:
    """The gradient of ``img1`` for the gradient ``dL_dmap`` of the map. The last three arguments are not looked at."""
    del dm_dmu1, dm_dsigma1_sq, dm_dsigma12
    return _gradient(C1, C2, img1, img2, dL_dmap, 2)


def fusedssim3d(C1: float, C2: float, img1: Tensor, img2: Tensor, train: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`fusedssim` of volumes ``[N, C, D, H, W]``."""
    del train
    return _map(C1, C2, img1, img2, 3)


def fusedssim_backward3d(
    C1: float,
    C2: float,
    img1: Tensor,
    img2: Tensor,
    dL_dmap: Tensor,
    dm_dmu1: Tensor,
    dm_dsigma1_sq: Tensor,
    dm_dsigma12: Tensor,
) -> Tensor:
    """:func:`fusedssim_backward` of volumes ``[N, C, D, H, W]``."""
    del dm_dmu1, dm_dsigma1_sq, dm_dsigma12
    return _gradient(C1, C2, img1, img2, dL_dmap, 3)


def _map(C1: float, C2: float, img1: Tensor, img2: Tensor, spatial_dims: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    settings = map_settings(C1, C2, "same")
    with torch.no_grad():
        values = eager.ssim(img1, img2, settings, spatial_dims, train=False)
    return values, values.new_empty(0), values.new_empty(0), values.new_empty(0)


def _gradient(C1: float, C2: float, img1: Tensor, img2: Tensor, dL_dmap: Tensor, spatial_dims: int) -> Tensor:
    settings = map_settings(C1, C2, "same")
    with torch.no_grad():
        img1, img2, _, _ = eager.checked(img1, img2, settings, spatial_dims, None, None)
        grad, _ = operators.backward(dL_dmap, img1, img2, None, None, settings, GRAD_1)
    return grad


def map_settings(C1: float, C2: float, padding: str) -> Settings:
    """The settings of a map by the constants that fused-ssim takes."""
    return eager.settings_of(
        padding=padding,
        window_size=11,
        sigma=1.5,
        data_range=1.0,
        K=(_root("C1", C1), _root("C2", C2)),
        reduction="none",
        float32_window=True,
    )


def _root(name: str, value: object) -> float:
    constant = number(name, value)
    if not 0 <= constant < math.inf:
        raise ValueError(f"{name} = {value!r}; expected a number of at least 0")
    return math.sqrt(constant)
