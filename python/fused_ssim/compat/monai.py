# SPDX-License-Identifier: MIT
"""SSIM under the names and with the arguments of MONAI (1.6), images and volumes.

Only windows inside the image count. Results are float32 as in MONAI, or float64 for float64 images, which MONAI brings
to float32. Images of integers are read where they are. Windows of more than 33 taps run as plain operations of torch,
tens of times slower.

MONAI need not be installed. If it is, ``SSIMMetric`` is a metric of it. If not, it can be called, and has
``aggregate``, ``reset`` and ``get_buffer``, for a single process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .._base.arguments import choice, integer, number
from .._torch import checks
from . import _windows
from ._metric import require_a_single_process
from ._windows import Window

if TYPE_CHECKING:
    from collections.abc import Sequence


class _SingleProcessMetric:
    """The part of MONAI's ``RegressionMetric`` that a metric needs in a single process."""

    def __init__(self, reduction: str, get_not_nans: bool) -> None:
        self.reduction, self.get_not_nans = reduction, get_not_nans
        self._values: list[Tensor] = []

    def __call__(self, y_pred: Any, y: Any) -> Tensor:
        """The value of each image, ``[N, 1]``; they are kept for ``aggregate``."""
        if isinstance(y_pred, (list, tuple)):  # images without a batch axis
            values = torch.cat([self._compute_tensor(a[None], b[None]) for a, b in zip(y_pred, y, strict=True)])
        else:
            values = self._compute_tensor(y_pred, y)
        self._values.append(values.detach())
        return values

    def _compute_tensor(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return self._compute_metric(y_pred, y)

    def _compute_metric(self, y_pred: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError

    def get_buffer(self) -> Tensor | None:
        """The values of all images since the last ``reset``."""
        require_a_single_process()
        return torch.cat(self._values) if self._values else None

    def reset(self) -> None:
        """As if no images had been seen."""
        self._values = []

    def aggregate(self, reduction: str | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """The values of all images, reduced; NaN does not count."""
        values = self.get_buffer()
        if values is None:
            raise ValueError("the metric has seen no images; call it first")
        how = _reduction("reduction", self.reduction if reduction is None else reduction)
        if how == "none":
            result, count = values, (~values.isnan()).to(values.dtype)
        elif how in ("mean_channel", "sum_channel"):  # there is one value for each image
            result, count = values.nan_to_num(0)[:, 0], (~values.isnan()).to(values.dtype)[:, 0]
        else:
            count = (~values.isnan()).sum(0).to(values.dtype)
            total = values.nansum(0)
            mean = torch.where(count > 0, total / count.clamp(min=1), 0.0)
            result = total if how.startswith("sum") else mean
            if how in ("mean", "sum"):
                count = count[0]
            if how == "sum":  # in MONAI the sum has no axis, and the mean has one
                result = result[0]
        return (result, count) if self.get_not_nans else result


if TYPE_CHECKING:
    _Base = _SingleProcessMetric
else:
    try:
        from monai.metrics.regression import RegressionMetric as _Base
    except ImportError:
        _Base = _SingleProcessMetric

__all__ = ["SSIMLoss", "SSIMMetric"]

_KERNELS = ("gaussian", "uniform")
_REDUCTIONS = ("none", "mean", "sum", "mean_batch", "sum_batch", "mean_channel", "sum_channel")


class _Measure:
    """The arguments that the loss and the metric share."""

    def __init__(
        self,
        spatial_dims: int,
        kernel_type: str,
        win_size: int | Sequence[int],
        kernel_sigma: float | Sequence[float],
        k1: float,
        k2: float,
        names: tuple[str, str],
    ) -> None:
        dims = integer("spatial_dims", spatial_dims)
        if dims not in (2, 3):
            raise ValueError(f"spatial_dims = {dims}; expected 2 or 3")
        kind = choice(_KERNELS)("kernel_type", str(getattr(kernel_type, "value", kernel_type)))
        sizes = [_windows.odd("win_size", each) for each in _windows.for_each_axis("win_size", win_size, dims)]
        sigmas = [
            _windows.positive("kernel_sigma", each)
            for each in _windows.for_each_axis("kernel_sigma", kernel_sigma, dims)
        ]
        self.names, self.K = names, (number("k1", k1), number("k2", k2))
        self.windows = tuple(
            Window(size, sigma if kind == "gaussian" else None) for size, sigma in zip(sizes, sigmas, strict=True)
        )

    def values(self, img1: Tensor, img2: Tensor, data_range: float | Tensor, is_loss: bool) -> Tensor:
        """SSIM of each image, or 1 - SSIM, [N, 1]."""
        for name, image in zip(self.names, (img1, img2), strict=True):
            checks.check_tensor(name, image)
        return _windows.ssim(
            _windows.readable(img1),
            _windows.readable(img2),
            self.windows,
            names=self.names,
            data_range=data_range,
            K=self.K,
            reduction="image",
            lambda_dssim=1.0 if is_loss else None,
        )[:, None]


class SSIMLoss(nn.Module):
    """The loss ``1 - SSIM`` (Wang et al. 2004) as MONAI defines it, differentiable in both images.

    It keeps the digits that ``1 - SSIM`` loses where the images nearly agree.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        data_range: the largest value that a pixel can have minus the smallest.
        kernel_type: the window: ``"gaussian"`` or ``"uniform"``.
        win_size: taps of the window: odd; or a number for each spatial axis.
        kernel_sigma: standard deviation of the Gaussian, in pixels; or one for each spatial axis.
        k1: the constant of the luminance term.
        k2: the constant of the contrast term.
        reduction: ``"mean"`` or ``"sum"`` of the images, 0-d; ``"none"``: the loss of each, ``[N, 1]``.

    Raises:
        ValueError, TypeError: an argument is out of range, or of the wrong type.

    """

    def __init__(
        self,
        spatial_dims: int,
        data_range: float = 1.0,
        kernel_type: str = "gaussian",
        win_size: int | Sequence[int] = 11,
        kernel_sigma: float | Sequence[float] = 1.5,
        k1: float = 0.01,
        k2: float = 0.03,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self._measure = _Measure(spatial_dims, kernel_type, win_size, kernel_sigma, k1, k2, ("input", "target"))
        self.spatial_dims, self.data_range, self.kernel_type = spatial_dims, data_range, kernel_type
        self.reduction = choice(("none", "mean", "sum"))("reduction", str(getattr(reduction, "value", reduction)))
        self.k1, self.k2 = k1, k2

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 - the name of MONAI
        """The loss of images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``, as ``spatial_dims`` says."""
        loss = self._measure.values(input, target, self.data_range, True)
        if self.reduction == "mean":
            return loss.mean()
        return loss.sum() if self.reduction == "sum" else loss


class SSIMMetric(_Base):
    """The structural similarity (Wang et al. 2004) as a metric of MONAI: it is called for each batch.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        data_range: the largest value that a pixel can have minus the smallest.
        kernel_type: the window: ``"gaussian"`` or ``"uniform"``.
        win_size: taps of the window: odd; or a number for each spatial axis.
        kernel_sigma: standard deviation of the Gaussian, in pixels; or one for each spatial axis.
        k1: the constant of the luminance term.
        k2: the constant of the contrast term.
        reduction: of ``aggregate``: ``"mean"``, ``"sum"``, ``"mean_batch"``, ``"sum_batch"``, ``"mean_channel"``,
            ``"sum_channel"`` or ``"none"``. There is one value for each image, not one for each channel.
        get_not_nans: ``aggregate`` also returns how many values are not NaN.

    Raises:
        ValueError, TypeError: an argument is out of range, or of the wrong type.

    """

    def __init__(
        self,
        spatial_dims: int,
        data_range: float = 1.0,
        kernel_type: str = "gaussian",
        win_size: int | Sequence[int] = 11,
        kernel_sigma: float | Sequence[float] = 1.5,
        k1: float = 0.01,
        k2: float = 0.03,
        reduction: str = "mean",
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction=_reduction("reduction", reduction), get_not_nans=get_not_nans)
        self._measure = _Measure(spatial_dims, kernel_type, win_size, kernel_sigma, k1, k2, ("y_pred", "y"))
        self.spatial_dims, self.data_range, self.kernel_type = spatial_dims, data_range, kernel_type
        self.k1, self.k2 = k1, k2

    def _compute_metric(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return self._measure.values(y_pred, y, self.data_range, False)


def _reduction(name: str, value: Any) -> str:
    return choice(_REDUCTIONS)(name, str(getattr(value, "value", value)))
