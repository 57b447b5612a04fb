# SPDX-License-Identifier: MIT
"""SSIM under the names and with the arguments of kornia (0.9), its metrics and its losses, images and volumes.

The window is Gaussian, of sigma 1.5. ``"same"`` continues the images by their reflection: the element at the edge is
not repeated. Images of integers are read where they are.

``eps``, which kornia adds to the denominator, is not added here: identical images are 1. It moves a value by at most
``eps / (C1 * C2)``, which is 1.1e-5 for black images with the defaults, and far less for others. An ``eps`` that may
move it by more than 2e-5 is an error, as it is for a ``max_val`` below 0.9 with the default: pass ``eps=0.0`` then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .._base.arguments import choice, number
from .._torch import checks
from . import _windows
from ._windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "SSIM",
    "SSIM3D",
    "SSIM3DLoss",
    "SSIMLoss",
    "ssim",
    "ssim3d",
    "ssim3d_loss",
    "ssim_loss",
]

_NAMES = ("img1", "img2")


def ssim(
    img1: Tensor,
    img2: Tensor,
    window_size: int,
    max_val: float = 1.0,
    eps: float = 1e-12,
    padding: str = "same",
) -> Tensor:
    """The map of SSIM (Wang et al. 2004) of images as kornia defines it, differentiable in both.

    Args:
        img1: images ``[N, C, H, W]``; integers count as float32.
        img2: as ``img1``, with the same shape and device; two dtypes are brought to the wider one.
        window_size: taps of the window along each axis: odd.
        max_val: the largest value that a pixel can have minus the smallest.
        eps: not added to the denominator; see the head of the module.
        padding: ``"same"``: the map has the size of the images; ``"valid"``: only windows inside the images.

    Returns:
        The map: of the dtype of the images.

    Raises:
        ValueError: the shapes differ or have other than four axes, the images are smaller than the window for
            ``"valid"``, or another argument is out of range.
        TypeError: an argument is of another type.

    """
    return _map(img1, img2, window_size, max_val, eps, padding, 2)


def ssim3d(
    img1: Tensor,
    img2: Tensor,
    window_size: int,
    max_val: float = 1.0,
    eps: float = 1e-12,
    padding: str = "same",
) -> Tensor:
    """:func:`ssim` (Wang et al. 2004) of volumes ``[N, C, D, H, W]``."""
    return _map(img1, img2, window_size, max_val, eps, padding, 3)


def ssim_loss(
    img1: Tensor,
    img2: Tensor,
    window_size: int,
    max_val: float = 1.0,
    eps: float = 1e-12,
    reduction: str = "mean",
    padding: str = "same",
) -> Tensor:
    """The loss ``(1 - SSIM) / 2`` (Wang et al. 2004) of images as kornia defines it, from 0 to 1.

    It keeps the digits that ``1 - SSIM`` loses where the images nearly agree.

    Args:
        img1: images ``[N, C, H, W]``, as for :func:`ssim`.
        img2: as ``img1``.
        window_size: taps of the window along each axis: odd.
        max_val: the largest value that a pixel can have minus the smallest.
        eps: not added to the denominator; see the head of the module.
        reduction: ``"mean"`` or ``"sum"`` of all pixels; ``"none"``: the loss of each.
        padding: ``"same"`` or ``"valid"``, as for :func:`ssim`.

    Raises:
        ValueError, TypeError: as :func:`ssim`.

    """
    return _loss(img1, img2, window_size, max_val, eps, reduction, padding, 2)


def ssim3d_loss(
    img1: Tensor,
    img2: Tensor,
    window_size: int,
    max_val: float = 1.0,
    eps: float = 1e-12,
    reduction: str = "mean",
    padding: str = "same",
) -> Tensor:
    """:func:`ssim_loss` (Wang et al. 2004) of volumes ``[N, C, D, H, W]``."""
    return _loss(img1, img2, window_size, max_val, eps, reduction, padding, 3)


# ---- Modules ---------------------------------------------------------------------------------------------------------


class _Module(nn.Module):
    """A module without state, which calls a function with the arguments that it was made with."""

    _function: Callable[..., Tensor]

    def __init__(self, **arguments: object) -> None:
        super().__init__()
        _windows.odd("window_size", arguments["window_size"])
        for name, value in arguments.items():
            setattr(self, name, value)
        self._arguments = tuple(arguments)

    def forward(self, img1: Tensor, img2: Tensor) -> Tensor:
        """The result of the function for these images."""
        return type(self)._function(img1, img2, **{name: getattr(self, name) for name in self._arguments})

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._arguments)


class _Map(_Module):
    def __init__(self, window_size: int, max_val: float = 1.0, eps: float = 1e-12, padding: str = "same") -> None:
        super().__init__(window_size=window_size, max_val=max_val, eps=eps, padding=padding)


class _Loss(_Module):
    def __init__(
        self, window_size: int, max_val: float = 1.0, eps: float = 1e-12, reduction: str = "mean", padding: str = "same"
    ) -> None:
        super().__init__(window_size=window_size, max_val=max_val, eps=eps, reduction=reduction, padding=padding)


class SSIM(_Map):
    """:func:`ssim` as a module, with the same arguments."""

    _function = staticmethod(ssim)


class SSIM3D(_Map):
    """:func:`ssim3d` as a module, with the same arguments."""

    _function = staticmethod(ssim3d)


class SSIMLoss(_Loss):
    """:func:`ssim_loss` as a module, with the same arguments."""

    _function = staticmethod(ssim_loss)


class SSIM3DLoss(_Loss):
    """:func:`ssim3d_loss` as a module, with the same arguments."""

    _function = staticmethod(ssim3d_loss)


# ---- Computation -----------------------------------------------------------------------------------------------------


def _map(img1: Tensor, img2: Tensor, window_size: int, max_val: float, eps: float, padding: str, dims: int) -> Tensor:
    img1, img2, dtype = _common(img1, img2)
    return _compute(img1, img2, window_size, max_val, eps, padding, dims, "none", None).to(dtype)


def _loss(
    img1: Tensor,
    img2: Tensor,
    window_size: int,
    max_val: float,
    eps: float,
    reduction: str,
    padding: str,
    dims: int,
) -> Tensor:
    reduction = choice(("mean", "sum", "none"))("reduction", reduction)
    img1, img2, dtype = _common(img1, img2)
    return (_compute(img1, img2, window_size, max_val, eps, padding, dims, reduction, 1.0) / 2).to(dtype)


def _compute(
    img1: Tensor,
    img2: Tensor,
    window_size: int,
    max_val: float,
    eps: float,
    padding: str,
    dims: int,
    reduction: str,
    lambda_dssim: float | None,
) -> Tensor:
    window = Window(_windows.odd("window_size", window_size), 1.5)
    padding = choice(("same", "valid"))("padding", padding.lower() if isinstance(padding, str) else padding)
    _check_eps(eps, max_val)
    return _windows.ssim(
        img1,
        img2,
        (window,) * dims,
        names=_NAMES,
        data_range=max_val,
        K=(0.01, 0.03),
        reduction=reduction,
        padding="reflect" if padding == "same" else "valid",
        lambda_dssim=lambda_dssim,
    )


def _common(img1: Tensor, img2: Tensor) -> tuple[Tensor, Tensor, torch.dtype]:
    """The images in one dtype, which is that of the result, but integers that the kernels read as they are."""
    for name, image in zip(_NAMES, (img1, img2), strict=True):
        checks.check_tensor(name, image)
    img1, img2 = _windows.readable(img1), _windows.readable(img2)
    dtype = torch.promote_types(_windows.float_dtype(img1), _windows.float_dtype(img2))
    img1, img2 = (image.to(dtype) if image.is_floating_point() else image for image in (img1, img2))
    return img1, img2, dtype


def _check_eps(eps: float, max_val: float) -> None:
    eps, max_val = number("eps", eps), number("max_val", max_val)
    if max_val <= 0:
        raise ValueError(f"max_val = {max_val}; expected a positive number")
    most = 2e-5 * (0.01 * max_val) ** 2 * (0.03 * max_val) ** 2
    if not 0 <= eps <= most:
        raise ValueError(
            f"eps = {eps:g} with max_val = {max_val:g}; expected at most {most:.2g}, so that it makes no difference: "
            "it is not added to the denominator here"
        )
