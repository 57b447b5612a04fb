# SPDX-License-Identifier: MIT
"""SSIM and MS-SSIM as metrics of torchmetrics: streamed over batches, synchronised over processes.

Needs torchmetrics: ``pip install 'fused-ssim[metrics]'``.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ._base.checked import check_numbers
from ._base.settings import scale_weights
from ._torch import checks, eager
from ._torch.checks import spatial_dims_of

try:
    from torchmetrics import Metric
    from torchmetrics.utilities import dim_zero_cat
except ImportError as error:
    raise ImportError("fused_ssim.metrics needs torchmetrics: pip install 'fused-ssim[metrics]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


__all__ = ["MSSSIMMetric", "SSIMMetric"]


class _ImageMetric(Metric):
    """A value for each image: their mean, or all of them."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(self, settings: dict[str, Any], reduction: str, **kwargs: Any) -> None:
        data_range, ranges = checks.split_range(settings["data_range"])
        native_settings = eager.settings_of(
            **{**settings, "data_range": data_range}, reduction="image", names=("preds", "target")
        )
        check_numbers(native_settings)
        super().__init__(**kwargs)
        if reduction not in ("mean", "none"):
            raise ValueError(f'reduction = {reduction!r}; expected "mean" or "none"')
        self.reduction = reduction
        self._settings = native_settings
        self._ranges = ranges
        self._shown = {**settings, "reduction": reduction}
        # MetricCollection takes metrics for the same whose states have the same names and, after the first batch, the
        # same values. So the names say what is computed.
        range_of_each = None if ranges is None else ranges.tolist()
        described = repr((type(self).__name__, self._shown, range_of_each))
        self._suffix = f"{zlib.crc32(described.encode()):08x}"
        if reduction == "mean":
            # A float32 would stop to grow after some million images.
            self._add_state("total", torch.zeros((), dtype=torch.float64), "sum")
            self._add_state("count", torch.zeros((), dtype=torch.int64), "sum")
            self._add_state("float64_seen", torch.zeros((), dtype=torch.int64), "max")
        else:
            self._add_state("values", [], "cat")

    def _add_state(self, name: str, default: Any, reduce: str) -> None:
        self.add_state(f"{name}_{self._suffix}", default, dist_reduce_fx=reduce)

    def _state(self, name: str) -> Any:
        return getattr(self, f"{name}_{self._suffix}")

    def _apply(self, fn: Callable[[Tensor], Tensor], *arguments: Any, **settings: Any) -> Any:
        """States move to other devices, but keep their dtype: a sum in 16 bits would stop to grow after some images."""

        def moved(state: Tensor) -> Tensor:
            result = fn(state)
            return result if result.dtype == state.dtype else state.to(result.device)

        return super()._apply(moved, *arguments, **settings)

    def _update(self, preds: Tensor, target: Tensor, mask: Tensor | None) -> None:
        with torch.no_grad():
            dims = spatial_dims_of("preds", preds)
            values = eager.ssim(preds, target, self._settings, dims, False, mask, self._ranges)
        if self.reduction == "mean":
            self._state("total").add_(values.sum(dtype=torch.float64))
            self._state("count").add_(values.numel())
            if values.dtype == torch.float64:
                self._state("float64_seen").fill_(1)
        else:
            self._state("values").append(values)

    def compute(self) -> Tensor:
        """The mean of all images since the last ``reset``, 0-d; or the value of each, ``[images]``.

        float32, or float64 if some of the images were.
        """
        if self.reduction == "mean":
            mean: Tensor = self._state("total") / self._state("count")
            return mean if bool(self._state("float64_seen")) else mean.to(torch.float32)
        values: Tensor = dim_zero_cat(self._state("values"))
        return values

    def extra_repr(self) -> str:
        """The settings, for printing."""
        return ", ".join(f"{name}={value!r}" for name, value in self._shown.items())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class SSIMMetric(_ImageMetric):
    """The mean structural similarity (Wang et al. 2004) of all images that were seen, or the value of each.

    Every image counts the same, also where batches differ in size; so the result is that of all images at once. The sum
    is kept in float64, whatever dtype a module with the metric inside is brought to.

    Args:
        padding: ``"same"``, ``"valid"``, ``"reflect"``, ``"symmetric"`` or ``"replicate"``: what windows see beyond the
            border; ``"valid"`` counts only pixels whose window lies inside the image.
        reduction: ``"mean"``: the mean of the images; ``"none"``: a list of their values, in the order in which they
            came (of several processes: those of the first process first).
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. Or a tensor, ``[N]`` for a range of each image.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.
        **kwargs: those of ``torchmetrics.Metric``, such as ``sync_on_compute`` or ``process_group``.

    Raises:
        ValueError, TypeError: an argument is out of range, or of the wrong type.

    Example:
        >>> metric = SSIMMetric(data_range=1.0)
        >>> for prediction, target in loader:
        ...     metric.update(prediction, target)
        >>> metric.compute()

    """

    def __init__(
        self,
        padding: str = "same",
        reduction: str = "mean",
        *,
        window_size: int | Sequence[int] = 11,
        sigma: float | Sequence[float] = 1.5,
        taps: str | Sequence[Any] | None = None,
        sample_covariance: bool = False,
        data_range: float | Tensor | None = None,
        integer_scale: float | tuple[float, float] = 1.0,
        K: tuple[float, float] = (0.01, 0.03),
        arithmetic: str | None = None,
        mask_mode: str = "weight",
        **kwargs: Any,
    ) -> None:
        settings = {
            "padding": padding,
            "window_size": window_size,
            "sigma": sigma,
            "taps": taps,
            "sample_covariance": sample_covariance,
            "data_range": data_range,
            "integer_scale": integer_scale,
            "K": K,
            "arithmetic": arithmetic,
            "mask_mode": mask_mode,
        }
        super().__init__(settings, reduction, **kwargs)

    def update(self, preds: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        """Adds a batch of images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``; masks as for fused_ssim."""
        self._update(preds, target, mask)


class MSSSIMMetric(_ImageMetric):
    """The mean multi-scale structural similarity (Wang, Simoncelli and Bovik 2003) of all images, or the value of each.

    Args:
        padding: ``"valid"``: each side must be larger than ``(window_size - 1) * 2**(scales - 1)``; or another
            one, which continues the images of each scale and takes images of any size.
        reduction: ``"mean"``: the mean of the images; ``"none"``: a list of their values.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. Or a tensor, ``[N]`` for a range of each image.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        weights: of the scales, finest first; 1 to 8 of them. Default: those of the paper, .0448, .2856, .3001, .2363,
            .1333.
        **kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError, TypeError: an argument is out of range, or of the wrong type.

    """

    def __init__(
        self,
        padding: str = "valid",
        reduction: str = "mean",
        *,
        window_size: int | Sequence[int] = 11,
        sigma: float | Sequence[float] = 1.5,
        taps: str | Sequence[Any] | None = None,
        sample_covariance: bool = False,
        data_range: float | Tensor | None = None,
        integer_scale: float | tuple[float, float] = 1.0,
        K: tuple[float, float] = (0.01, 0.03),
        arithmetic: str | None = None,
        weights: Sequence[float] | Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        settings = {
            "padding": padding,
            "window_size": window_size,
            "sigma": sigma,
            "taps": taps,
            "sample_covariance": sample_covariance,
            "data_range": data_range,
            "integer_scale": integer_scale,
            "K": K,
            "arithmetic": arithmetic,
            "weights": scale_weights(weights),
        }
        super().__init__(settings, reduction, **kwargs)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds a batch of images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``."""
        self._update(preds, target, None)
