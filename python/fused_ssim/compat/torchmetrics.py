# SPDX-License-Identifier: MIT
"""SSIM and MS-SSIM under the names and with the arguments of torchmetrics (1.9), images and volumes.

The window is Gaussian, of ``int(3.5 * sigma + 0.5) * 2 + 1`` taps whatever ``kernel_size`` is, or uniform. Images are
continued by their reflection at the border (the element at the edge is not repeated). SSIM is the mean of the whole
map; contrast is the mean over the windows inside the images. Results are float32, or float64 for float64 images. Images
of integers, which torchmetrics does not take, are read where they are.

With ``data_range=None`` the range depends on the images, and so has its part in the gradient: if a gradient is wanted,
plain operations of torch compute it, tens of times slower. They also do windows of more than 33 taps.

torchmetrics need not be installed. If it is, the classes are metrics of it. If not, they have ``update``, ``compute``,
``forward`` and ``reset`` for a single process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ._measure import Measure, check_reduction, check_scales, checked, reduced
from ._metric import SingleProcessMetric, require_a_single_process

try:
    from torchmetrics import Metric
except ImportError:
    Metric = SingleProcessMetric  # type: ignore[assignment, misc]

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MultiScaleStructuralSimilarityIndexMeasure",
    "StructuralSimilarityIndexMeasure",
    "multiscale_structural_similarity_index_measure",
    "structural_similarity_index_measure",
]

_BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def structural_similarity_index_measure(
    preds: Tensor,
    target: Tensor,
    gaussian_kernel: bool = True,
    sigma: float | Sequence[float] = 1.5,
    kernel_size: int | Sequence[int] = 11,
    reduction: str | None = "elementwise_mean",
    data_range: float | tuple[float, float] | None = None,
    k1: float = 0.01,
    k2: float = 0.03,
    return_full_image: bool = False,
    return_contrast_sensitivity: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The structural similarity (Wang et al. 2004) as torchmetrics defines it, differentiable in both images.

    Args:
        preds: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``: float32, float64, float16, bfloat16 or integers.
        target: as ``preds``, with the same shape and device; of two dtypes of floats, brought to that of ``preds``.
        gaussian_kernel: a Gaussian window of ``int(3.5 * sigma + 0.5) * 2 + 1`` taps; ``False``: a uniform one.
        sigma: standard deviation of the Gaussian, in pixels; or one for each spatial axis.
        kernel_size: taps of the uniform window: odd; or a number for each spatial axis.
        reduction: ``"elementwise_mean"`` or ``"sum"`` of the images, 0-d; ``"none"`` or None: the value of each,
            ``[N]``.
        data_range: the largest value that a pixel can have minus the smallest. Or the smallest and the largest, to
            which the images are clamped. None: the larger one of the ranges of both batches.
        k1: the constant of the luminance term.
        k2: the constant of the contrast term.
        return_full_image: also the map, of the shape of the images.
        return_contrast_sensitivity: also the mean of contrast and structure of each image, ``[N]``.

    Returns:
        SSIM, or a tuple of it and what else is asked for.

    Raises:
        ValueError: the shapes differ or have other than four or five axes, an image is smaller than the window, or
            another argument is out of range.
        TypeError: an argument is of another type.

    """
    check_reduction(reduction)
    measure = Measure(gaussian_kernel, sigma, kernel_size, data_range, k1, k2)
    preds, target = checked(preds, target)
    values, extra = measure.values(preds, target, return_full_image, return_contrast_sensitivity)
    value = reduced(values, reduction)
    return value if extra is None else (value, extra)


def multiscale_structural_similarity_index_measure(
    preds: Tensor,
    target: Tensor,
    gaussian_kernel: bool = True,
    sigma: float | Sequence[float] = 1.5,
    kernel_size: int | Sequence[int] = 11,
    reduction: str | None = "elementwise_mean",
    data_range: float | tuple[float, float] | None = None,
    k1: float = 0.01,
    k2: float = 0.03,
    betas: tuple[float, ...] = _BETAS,
    normalize: str | None = "relu",
) -> Tensor:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003) as torchmetrics defines it.

    For each image, the product of the contrast of all scales but the last and of SSIM at the last, each to the power of
    its weight. Each scale halves the images by averages of two pixels along each axis, without a last one of an odd
    number.

    Args:
        preds: images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``.
        target: as ``preds``.
        gaussian_kernel: a Gaussian window; ``False``: a uniform one.
        sigma: standard deviation of the Gaussian, in pixels; or one for each spatial axis.
        kernel_size: taps of the uniform window; or a number for each spatial axis. The least size of the images is
            that for ``kernel_size`` in both cases, as in torchmetrics.
        reduction: ``"elementwise_mean"`` or ``"sum"`` of the images, 0-d; ``"none"`` or None: the value of each.
        data_range: as for :func:`structural_similarity_index_measure`; None: that of each scale.
        k1: the constant of the luminance term.
        k2: the constant of the contrast term.
        betas: a tuple, the weight of each scale, finest first.
        normalize: ``"relu"``: negative values of a scale count as 0; ``"simple"``: they are brought from [-1, 1] to
            [0, 1]; None: they are kept, which makes the result NaN.

    Returns:
        MS-SSIM.

    Raises:
        ValueError, TypeError: as :func:`structural_similarity_index_measure`; or the images are too small for their
            scales.

    """
    check_reduction(reduction)
    measure = Measure(gaussian_kernel, sigma, kernel_size, data_range, k1, k2)
    check_scales(betas, normalize)
    preds, target = checked(preds, target)
    return reduced(measure.multi_scale(preds, target, betas, normalize), reduction)


# ---- Metrics ---------------------------------------------------------------------------------------------------------


class _Similarity(Metric):
    """A value for each image: their mean, their sum, or all of them."""

    higher_is_better = True
    is_differentiable = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    # The states; lists of values where they are not summed up.
    similarity: Any
    total: Any
    float64_seen: Any
    image_return: Any

    def __init__(self, measure: Measure, reduction: str | None, has_extra: bool, kwargs: dict[str, Any]) -> None:
        super().__init__(**kwargs)
        check_reduction(reduction)
        measure.check()
        self._measure, self.reduction, self._has_extra = measure, reduction, has_extra
        if reduction in ("elementwise_mean", "sum"):
            # A float32 would stop to grow after some million images.
            self.add_state("similarity", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        else:
            self.add_state("similarity", [], dist_reduce_fx=None)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        if has_extra:
            self.add_state("image_return", [], dist_reduce_fx="cat")
        self.add_state("float64_seen", torch.zeros((), dtype=torch.int64), dist_reduce_fx="max")
        self.gaussian_kernel, self.sigma, self.kernel_size = measure.gaussian_kernel, measure.sigma, measure.kernel_size
        self.data_range, (self.k1, self.k2) = measure.data_range, measure.K

    def _add(self, values: Tensor, extra: Tensor | None) -> None:
        if values.dtype == torch.float64:
            self.float64_seen = torch.ones_like(self.float64_seen)
        if isinstance(self, SingleProcessMetric) and not self._keeps_graph:
            values, extra = values.detach(), None if extra is None else extra.detach()
        if self.reduction in ("elementwise_mean", "sum"):
            self.similarity = self.similarity + values.sum(dtype=torch.float64)
        else:
            self.similarity.append(values)
        self.total = self.total + len(values)
        if extra is not None:
            self.image_return.append(extra)

    def compute(self) -> Tensor | tuple[Tensor, Tensor]:
        """The result for all images since the last ``reset``: float32, or float64 if some of the images were."""
        if isinstance(self, SingleProcessMetric):
            require_a_single_process()
        if self.reduction in ("elementwise_mean", "sum"):
            total = self.similarity if self.reduction == "sum" else self.similarity / self.total
            similarity = total if bool(self.float64_seen) else total.to(torch.float32)
        else:
            similarity = _joined(self.similarity)
        return (similarity, _joined(self.image_return)) if self._has_extra else similarity

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draws the result, or the results ``val``, with matplotlib; needs torchmetrics."""
        return self._plot(val, ax)


def _joined(values: Tensor | list[Tensor]) -> Tensor:
    if isinstance(values, Tensor):  # brought together from several processes
        return values
    if not values:
        raise ValueError("the metric has seen no images; call update first")
    return torch.cat(values)


class StructuralSimilarityIndexMeasure(_Similarity):
    """:func:`structural_similarity_index_measure` as a metric: of all images that were seen.

    The sum is kept in float64.

    Args:
        gaussian_kernel: a Gaussian window of ``int(3.5 * sigma + 0.5) * 2 + 1`` taps; ``False``: a uniform one.
        sigma: standard deviation of the Gaussian, in pixels; or one for each spatial axis.
        kernel_size: taps of the uniform window: odd; or a number for each spatial axis.
        reduction: ``"elementwise_mean"`` or ``"sum"`` of the images, 0-d; ``"none"`` or None: the value of each.
        data_range: the largest value that a pixel can have minus the smallest. Or the smallest and the largest, to
            which the images are clamped. None: that of each batch.
        k1: the constant of the luminance term.
        k2: the constant of the contrast term.
        return_full_image: also the map.
        return_contrast_sensitivity: also the mean of contrast and structure of each image.
        **kwargs: those of ``torchmetrics.Metric``, which need torchmetrics.

    Raises:
        ValueError, TypeError: an argument is out of range, or of the wrong type.

    """

    def __init__(
        self,
        gaussian_kernel: bool = True,
        sigma: float | Sequence[float] = 1.5,
        kernel_size: int | Sequence[int] = 11,
        reduction: str | None = "elementwise_mean",
        data_range: float | tuple[float, float] | None = None,
        k1: float = 0.01,
        k2: float = 0.03,
        return_full_image: bool = False,
        return_contrast_sensitivity: bool = False,
        **kwargs: Any,
    ) -> None:
        measure = Measure(gaussian_kernel, sigma, kernel_size, data_range, k1, k2)
        super().__init__(measure, reduction, return_full_image or return_contrast_sensitivity, kwargs)
        self.return_full_image, self.return_contrast_sensitivity = return_full_image, return_contrast_sensitivity

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds a batch of images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``."""
        preds, target = checked(preds, target)
        self._add(*self._measure.values(preds, target, self.return_full_image, self.return_contrast_sensitivity))


class MultiScaleStructuralSimilarityIndexMeasure(_Similarity):
    """:func:`multiscale_structural_similarity_index_measure` as a metric: of all images that were seen.

    The sum is kept in float64.

    Args:
        gaussian_kernel: a Gaussian window; ``False``: a uniform one.
        kernel_size: taps of the uniform window; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian, in pixels; or one for each spatial axis.
        reduction: ``"elementwise_mean"`` or ``"sum"`` of the images, 0-d; ``"none"`` or None: the value of each.
        data_range: as for :class:`StructuralSimilarityIndexMeasure`.
        k1: the constant of the luminance term.
        k2: the constant of the contrast term.
        betas: a tuple, the weight of each scale, finest first.
        normalize: ``"relu"``, ``"simple"`` or None, as for the function.
        **kwargs: those of ``torchmetrics.Metric``, which need torchmetrics.

    Raises:
        ValueError, TypeError: an argument is out of range, or of the wrong type.

    """

    def __init__(
        self,
        gaussian_kernel: bool = True,
        kernel_size: int | Sequence[int] = 11,
        sigma: float | Sequence[float] = 1.5,
        reduction: str | None = "elementwise_mean",
        data_range: float | tuple[float, float] | None = None,
        k1: float = 0.01,
        k2: float = 0.03,
        betas: tuple[float, ...] = _BETAS,
        normalize: str | None = "relu",
        **kwargs: Any,
    ) -> None:
        check_scales(betas, normalize)
        super().__init__(Measure(gaussian_kernel, sigma, kernel_size, data_range, k1, k2), reduction, False, kwargs)
        self.betas, self.normalize = betas, normalize

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds a batch of images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``."""
        preds, target = checked(preds, target)
        self._add(self._measure.multi_scale(preds, target, self.betas, self.normalize), None)
