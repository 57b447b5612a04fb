# SPDX-License-Identifier: MIT
"""SSIM and MS-SSIM under the names and with the arguments of pytorch-msssim, images and volumes.

The window has the numbers of pytorch-msssim, which computes it in float32, so that results agree to the last digits.
They differ by some 2e-7 from those of ``ssim_map``, ``value_and_grad``, the losses and the metrics, whose window is the
exact Gaussian.

The native library runs where it can: for a Gaussian window, and for a ``win`` that is symmetric, not negative, of sum 1
and the same for all channels. Plain torch operations do the rest, tens of times slower: other windows (in compiled code
any ``win``, since its values are not known there), windows of more than 33 taps, more than 8 scales, and axes shorter
than the window, which stay unfiltered with a warning.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from .._base import shapes
from .._base.arguments import integer, number
from .._base.settings import rounded_to_float32, scale_weights
from .._core import MAX_LEVELS, MAX_WINDOW_SIZE
from .._torch import checks, composite, eager

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

__all__ = ["MS_SSIM", "SSIM", "ms_ssim", "ssim"]


def ssim(
    X: Tensor,
    Y: Tensor,
    data_range: float | Tensor = 255,
    size_average: bool = True,
    win_size: int = 11,
    win_sigma: float = 1.5,
    win: Tensor | None = None,
    K: tuple[float, float] | list[float] = (0.01, 0.03),
    nonnegative_ssim: bool = False,
) -> Tensor:
    """The structural similarity (Wang et al. 2004) as pytorch-msssim defines it, differentiable in both images.

    Args:
        X: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``: float32, float64, float16 or bfloat16. Spatial axes
            of length 1 are dropped; four axes have to remain.
        Y: as ``X``, with the same shape, dtype and device.
        data_range: the largest value that a pixel can have minus the smallest: 255, or 1. Or a tensor,
            ``[N]`` for a range of each image.
        size_average: the mean of all images, a 0-d tensor; ``False``: one value for each image, ``[N]``.
        win_size: taps of the Gaussian window along each axis, odd. An axis shorter than that is not filtered, and a
            warning names it.
        win_sigma: standard deviation of the window, in pixels.
        win: a window for each channel instead, ``[C, 1, ..., 1, win_size]`` with as many axes as the images (after
            those of length 1 are dropped).
        K: the two constants of SSIM.
        nonnegative_ssim: negative means of channels become 0.

    Returns:
        SSIM over the windows that lie wholly inside the image: float32, or float64 for float64 images.

    Raises:
        ValueError: the shapes differ or have other than four or five axes, the window is even or does not fit the
            images, the devices differ, or another argument is out of range.
        TypeError: the dtypes differ or are not among the four.

    """
    X, Y = _squeezed(X, Y)
    reduction = "channel" if nonnegative_ssim else "mean" if size_average else "image"
    value = _compute(X, Y, _window(X, win, win_size, win_sigma), data_range, K, reduction)
    if nonnegative_ssim:
        value = torch.relu(value)
        return value.mean() if size_average else value.mean(1)
    return value


def ms_ssim(
    X: Tensor,
    Y: Tensor,
    data_range: float | Tensor = 255,
    size_average: bool = True,
    win_size: int = 11,
    win_sigma: float = 1.5,
    win: Tensor | None = None,
    weights: Sequence[float] | Tensor | None = None,
    K: tuple[float, float] | list[float] = (0.01, 0.03),
) -> Tensor:
    """Multi-scale structural similarity as pytorch-msssim defines it, differentiable in both images.

    Z. Wang, E. P. Simoncelli and A. C. Bovik, "Multi-scale structural similarity for image quality assessment",
    Asilomar Conference on Signals, Systems and Computers (2003): the product over the scales of the means of contrast
    and structure, each to the power of its weight, and of the mean of SSIM at the last scale; negative means count as
    0. Each scale halves the images by averages of two pixels along each axis; an axis of odd size gets a zero in front.

    Args:
        X: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, as for :func:`ssim`. H and W must be larger than
            ``(win_size - 1) * 2**4``, or than ``(win_size - 1) * 2**(scales - 1)`` if there are fewer than five scales.
        Y: as ``X``.
        data_range: the largest value that a pixel can have minus the smallest: 255, or 1. Or a tensor,
            ``[N]`` for a range of each image.
        size_average: the mean of all images; ``False``: one value for each image.
        win_size: taps of the Gaussian window along each axis, odd; also at the coarser scales.
        win_sigma: standard deviation of the window, in pixels.
        win: a window for each channel instead, ``[C, 1, ..., 1, win_size]``, as for :func:`ssim`.
        weights: of the scales, finest first. Default: .0448, .2856, .3001, .2363, .1333.
        K: the two constants of SSIM.

    Returns:
        MS-SSIM, from 0 to 1: float32, or float64 for float64 images.

    Raises:
        ValueError: as :func:`ssim`, or an image is too small for its scales.
        TypeError: as :func:`ssim`.

    """
    X, Y = _squeezed(X, Y)
    scales = scale_weights(weights)
    window = _window(X, win, win_size, win_sigma)
    halvings = min(len(scales) - 1, 4)
    side, least = min(X.shape[-2:]), (window.size - 1) * 2**halvings
    if side <= least:
        raise ValueError(
            f"X.shape = {tuple(X.shape)} has a side of {side}; expected more than {least} = ({window.size} - 1) * "
            f"2**{halvings}, so that windows still fit after the images are halved {halvings} times"
        )
    return _compute(X, Y, window, data_range, K, "mean" if size_average else "image", scales)


class SSIM(nn.Module):
    """:func:`ssim` as a module, with the arguments of pytorch-msssim; loaded and saved without state.

    Args:
        data_range: the largest value that a pixel can have minus the smallest: 255, or 1. Or a tensor,
            ``[N]`` for a range of each image.
        size_average: the mean of all images; ``False``: one value for each image.
        win_size: taps of the Gaussian window along each axis, odd.
        win_sigma: standard deviation of the window, in pixels.
        channel: of no effect: images may have any number of channels.
        spatial_dims: of no effect: images and volumes may alternate.
        K: the two constants of SSIM.
        nonnegative_ssim: negative means of channels become 0.

    """

    def __init__(
        self,
        data_range: float | Tensor = 255,
        size_average: bool = True,
        win_size: int = 11,
        win_sigma: float = 1.5,
        channel: int = 3,
        spatial_dims: int = 2,
        K: tuple[float, float] | list[float] = (0.01, 0.03),
        nonnegative_ssim: bool = False,
    ) -> None:
        super().__init__()
        _checked_window_size(win_size)
        self.data_range = data_range
        self.size_average = size_average
        self.win_size = win_size
        self.win_sigma = win_sigma
        self.channel = channel
        self.spatial_dims = spatial_dims
        self.K = K
        self.nonnegative_ssim = nonnegative_ssim

    def forward(self, X: Tensor, Y: Tensor) -> Tensor:
        """As :func:`ssim`, with the settings of the module."""
        return ssim(
            X,
            Y,
            data_range=self.data_range,
            size_average=self.size_average,
            win_size=self.win_size,
            win_sigma=self.win_sigma,
            K=self.K,
            nonnegative_ssim=self.nonnegative_ssim,
        )

    def extra_repr(self) -> str:
        """The settings, for printing."""
        return (
            f"data_range={self.data_range}, size_average={self.size_average}, win_size={self.win_size}, "
            f"win_sigma={self.win_sigma}, channel={self.channel}, spatial_dims={self.spatial_dims}, K={self.K}, "
            f"nonnegative_ssim={self.nonnegative_ssim}"
        )


class MS_SSIM(nn.Module):  # noqa: N801 - the name of pytorch-msssim
    """:func:`ms_ssim` as a module, with the arguments of pytorch-msssim; loaded and saved without state.

    Args:
        data_range: the largest value that a pixel can have minus the smallest: 255, or 1. Or a tensor,
            ``[N]`` for a range of each image.
        size_average: the mean of all images; ``False``: one value for each image.
        win_size: taps of the Gaussian window along each axis, odd.
        win_sigma: standard deviation of the window, in pixels.
        channel: of no effect: images may have any number of channels.
        spatial_dims: of no effect: images and volumes may alternate.
        weights: of the scales, finest first. Default: .0448, .2856, .3001, .2363, .1333.
        K: the two constants of SSIM.

    """

    def __init__(
        self,
        data_range: float | Tensor = 255,
        size_average: bool = True,
        win_size: int = 11,
        win_sigma: float = 1.5,
        channel: int = 3,
        spatial_dims: int = 2,
        weights: Sequence[float] | Tensor | None = None,
        K: tuple[float, float] | list[float] = (0.01, 0.03),
    ) -> None:
        super().__init__()
        _checked_window_size(win_size)
        self.data_range = data_range
        self.size_average = size_average
        self.win_size = win_size
        self.win_sigma = win_sigma
        self.channel = channel
        self.spatial_dims = spatial_dims
        self.weights = weights
        self.K = K

    def forward(self, X: Tensor, Y: Tensor) -> Tensor:
        """As :func:`ms_ssim`, with the settings of the module."""
        return ms_ssim(
            X,
            Y,
            data_range=self.data_range,
            size_average=self.size_average,
            win_size=self.win_size,
            win_sigma=self.win_sigma,
            weights=self.weights,
            K=self.K,
        )

    def extra_repr(self) -> str:
        """The settings, for printing."""
        return (
            f"data_range={self.data_range}, size_average={self.size_average}, win_size={self.win_size}, "
            f"win_sigma={self.win_sigma}, channel={self.channel}, spatial_dims={self.spatial_dims}, "
            f"weights={self.weights}, K={self.K}"
        )


# ---- Images and windows ----------------------------------------------------------------------------------------------

_NAMES = ("X", "Y")


def _squeezed(X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    for name, image in zip(_NAMES, (X, Y), strict=True):
        checks.check_tensor(name, image)
    if X.shape != Y.shape:
        raise ValueError(f"X.shape = {tuple(X.shape)} but Y.shape = {tuple(Y.shape)}; expected the same shape")
    for axis in range(X.dim() - 1, 1, -1):
        if X.shape[axis] == 1:
            X, Y = X.squeeze(axis), Y.squeeze(axis)
    shapes.spatial_dims("X", X.shape, note=" (without spatial axes of length 1)")
    return X, Y


def _checked_window_size(win_size: object) -> int:
    size = integer("win_size", win_size)
    if size % 2 != 1 or size < 1:
        raise ValueError(f"win_size = {size}; expected an odd number")
    return size


@dataclass(frozen=True)
class _Window:
    """A window: taps, or those of each channel [C, K] where the native library does not know them, or a Gaussian."""

    size: int
    sigma: float
    taps: tuple[float, ...] | None = None
    channels: Tensor | None = None

    @property
    def is_native(self) -> bool:
        return self.channels is None and self.size <= MAX_WINDOW_SIZE

    def for_composite(self) -> composite.Taps:
        if self.channels is not None:
            return self.channels
        return self.taps or shapes.gaussian(self.size, self.sigma)


def _window(X: Tensor, win: Tensor | None, win_size: int, win_sigma: float) -> _Window:
    if win is None:
        win_size = _checked_window_size(win_size)
        win_sigma = number("win_sigma", win_sigma)
        if not 0 < win_sigma < math.inf:
            raise ValueError(f"win_sigma = {win_sigma}; expected a positive number")
        return _Window(win_size, win_sigma, _gaussian(win_size, win_sigma))
    checks.check_tensor("win", win)
    ones = [1] * (X.dim() - 2)
    if win.dim() != X.dim() or list(win.shape[:-1]) != [X.shape[1], *ones]:
        expected = ", ".join(map(str, [X.shape[1], *ones]))
        raise ValueError(f"win.shape = {tuple(win.shape)}; expected ({expected}, win_size) for these images")
    if win.requires_grad:
        raise ValueError(
            "win.requires_grad = True; expected a constant: SSIM has no gradient by its window, detach() it"
        )
    _checked_window_size(win.shape[-1])
    taps = None if eager.is_watched() else _taps_of(win)
    return _Window(win.shape[-1], 1.0, taps, win.reshape(win.shape[0], -1) if taps is None else None)


@eager.constant_when_compiled
def _gaussian(size: int, sigma: float) -> tuple[float, ...]:
    """The Gaussian as pytorch-msssim has it, also for float64 images: each step is rounded to float32."""
    return _rounded_gaussian(size, sigma)


@lru_cache(maxsize=64)
def _rounded_gaussian(size: int, sigma: float) -> tuple[float, ...]:
    # In plain Python, because a mode of torch may be active that has operations looked at instead of done.
    rounded = rounded_to_float32
    divisor = rounded(2 * sigma * sigma)
    if not divisor:
        raise ValueError(f"win_sigma = {sigma} is too small: in float32 its square is 0")
    exponents = [rounded(-(float(offset - size // 2) ** 2) / divisor) for offset in range(size)]
    values = [rounded(math.exp(exponent)) for exponent in exponents]
    # In the order of torch's sum on most CPUs: of the rest after whole vectors of 8, then of the 8 lanes.
    whole = size - size % 8
    lanes = [values[lane:whole:8] for lane in range(8)] if whole else []
    total = 0.0
    for part in [*values[whole:], *(_sum_in_float32(lane) for lane in lanes)]:
        total = rounded(total + part)
    return tuple(rounded(value / total) for value in values)


def _sum_in_float32(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total = rounded_to_float32(total + value)
    return total


# The taps of windows that were given before, with the version of the tensor: to read them waits for a GPU.
_known: MutableMapping[Tensor, tuple[int, tuple[float, ...] | None]] = WeakIdKeyDictionary()


def _taps_of(win: Tensor) -> tuple[float, ...] | None:
    """The window of all channels, if the native library takes it: not negative, symmetric, of sum 1."""
    version, taps = _known.get(win, (-1, None))
    if version != win._version:
        rows = win.reshape(win.shape[0], -1).tolist()
        taps = tuple(rows[0])
        is_average = min(taps) >= 0 and math.isclose(math.fsum(taps), 1, abs_tol=1e-4)
        if not (is_average and taps == taps[::-1] and all(row == rows[0] for row in rows)):
            taps = None
        _known[win] = (win._version, taps)
    return taps


# ---- Computation -----------------------------------------------------------------------------------------------------


def _compute(
    X: Tensor,
    Y: Tensor,
    window: _Window,
    data_range: float | Tensor,
    K: tuple[float, float] | list[float],
    reduction: str,
    weights: tuple[float, ...] | None = None,
) -> Tensor:
    data_range, ranges = checks.split_range(data_range, X)
    settings = eager.settings_of(
        padding="valid",
        window_size=window.size,
        sigma=window.sigma,
        data_range=data_range,
        K=tuple(K) if isinstance(K, list) else K,
        reduction=reduction,
        known_taps=window.taps,
        weights=weights,
        names=_NAMES,
    )
    spatial_dims = X.dim() - 2
    unfiltered = _unfiltered_axes(X, window.size, 1 if weights is None else len(weights))
    if window.is_native and not unfiltered and (weights is None or len(weights) <= MAX_LEVELS):
        return eager.ssim(X, Y, settings, spatial_dims, data_ranges=ranges)
    for axis, scale in unfiltered:
        where = f" at scale {scale + 1} of {len(weights)}" if weights is not None else ""
        warnings.warn(
            f"axis {axis} of X.shape = {tuple(X.shape)} is shorter than the window of {window.size}{where}: it is not "
            "filtered",
            stacklevel=3,
        )
    checks.check_images(_NAMES, spatial_dims, X.dtype, X.device, X.shape, Y.dtype, Y.device, Y.shape)
    short = {axis for axis, scale in unfiltered if scale == 0}
    windows = [None if axis in short else window.for_composite() for axis in range(2, X.dim())]
    ranges = None if ranges is None else checks.view_ranges(ranges, settings, X, Y)
    return composite.ssim_with_windows(X, Y, None, ranges, settings, windows)


def _unfiltered_axes(X: Tensor, window_size: int, scales: int) -> list[tuple[int, int]]:
    """Axes that are shorter than the window, and the first scale at which they are."""
    result = []
    for axis in range(2, X.dim()):
        size = X.shape[axis]
        for scale in range(scales):
            if size < window_size:
                result.append((axis, scale))
                break
            size = (size + 1) // 2
    return result
