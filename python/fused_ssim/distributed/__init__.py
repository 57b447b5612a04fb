# SPDX-License-Identifier: MIT
"""SSIM of images and volumes that are spread over the processes of a ``torch.distributed`` group.

Each process holds a part along one axis: some of the batch, or a slab of each image or volume. A slab borrows from its
neighbours the layers that its windows reach, ``window_size // 2`` of them, and backward gives their gradients back. The
value, and each process's part of the gradient, are those of the whole: with the exact Gaussian window, as in
:func:`fused_ssim.ssim_map`.

Every process of the group must make the same call, and the same call of ``backward`` with the same upstream gradient:
the value is one value, known to all. Arguments that do not fit together are an error in every process; shapes, dtypes
and whether gradients are wanted are exchanged first, 48 numbers from each process. gloo serves CPU tensors, NCCL CUDA
tensors.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from .._base import shapes
from .._torch import checks, eager
from .._torch.checks import spatial_dims_of
from ._agreement import agree
from ._dtensor import is_dtensor, local_parts
from ._exchange import Part, sum_over_processes, with_neighbours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.distributed import ProcessGroup

    from .._base.settings import Settings

__all__ = ["sharded_photometric_loss", "sharded_ssim"]


def sharded_ssim(
    img1: Tensor,
    img2: Tensor,
    dim: int | None = None,
    group: ProcessGroup | None = None,
    padding: str = "same",
    *,
    window_size: int | Sequence[int] = 11,
    sigma: float | Sequence[float] = 1.5,
    taps: str | Sequence[Any] | None = None,
    sample_covariance: bool = False,
    data_range: float | Tensor | None = None,
    integer_scale: float | tuple[float, float] = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    arithmetic: str | None = None,
    reduction: str = "mean",
    mask: Tensor | None = None,
    mask_mode: str = "weight",
) -> Tensor:
    """The structural similarity (Wang et al. 2004) of two images or volumes, each spread over a process group.

    Args:
        img1: this process's part of the images ``[N, C, H, W]`` or volumes ``[N, C, D, H, W]``; dtypes as for
            :func:`fused_ssim.fused_ssim`. Parts follow each other in the order of the ranks, and may differ in length
            along ``dim``, also be shorter than the window, or empty. Or a DTensor, whole on all mesh axes but one, and
            sharded there along the batch or a spatial axis.
        img2: as ``img1``, with the same part of the other images.
        dim: the axis that is spread: 0, the batch, or a spatial axis, 2 or more (or negative). Not for DTensors.
        group: the processes; default: all. Not for DTensors.
        padding: ``"same"``, ``"valid"``, ``"reflect"``, ``"symmetric"`` or ``"replicate"``: what windows see beyond the
            border; ``"valid"`` counts only pixels whose window lies inside the image.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. Or a tensor, the same in every process; ``[N]`` for a
            range of each image, of this process's images if ``dim`` is the batch.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        reduction: ``"mean"`` or ``"sum"`` of everything; ``"image"`` or ``"channel"``, of the images of all processes
            if ``dim`` is spatial, of this process's images if it is the batch.
        mask: this process's part of a mask, as for :func:`fused_ssim.fused_ssim`, of as many axes as the images. An
            axis of length 1 stands for all; along a spatial ``dim`` that must be so for all processes or for none.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.

    Returns:
        The value, the same in every process: float32, or float64 for float64 images.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`fused_ssim.fused_ssim`; or the parts do not fit together. Each
            process raises.

    """
    data_range, ranges = checks.split_range(data_range)
    settings = _settings_or_error(
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        taps=taps,
        sample_covariance=sample_covariance,
        data_range=data_range,
        integer_scale=integer_scale,
        K=K,
        arithmetic=arithmetic,
        reduction=reduction,
        mask_mode=mask_mode,
    )
    return _sharded(img1, img2, mask, ranges, dim, group, settings, ("img1", "img2"))


def sharded_photometric_loss(
    pred: Tensor,
    target: Tensor,
    lambda_dssim: float = 0.2,
    dim: int | None = None,
    group: ProcessGroup | None = None,
    padding: str = "same",
    *,
    window_size: int | Sequence[int] = 11,
    sigma: float | Sequence[float] = 1.5,
    taps: str | Sequence[Any] | None = None,
    sample_covariance: bool = False,
    data_range: float | Tensor | None = None,
    integer_scale: float | tuple[float, float] = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    arithmetic: str | None = None,
    reduction: str = "mean",
    mask: Tensor | None = None,
    mask_mode: str = "weight",
) -> Tensor:
    """:func:`fused_ssim.photometric_loss` of images or volumes that are spread over a process group.

    Args:
        pred: this process's part, as ``img1`` of :func:`sharded_ssim`.
        target: as ``pred``.
        lambda_dssim: the share of SSIM, 0 to 1; 1 is the loss ``1 - SSIM``.
        dim: the axis that is spread: 0, the batch, or a spatial axis, 2 or more (or negative). Not for DTensors.
        group: the processes; default: all. Not for DTensors.
        padding: ``"same"``, ``"valid"``, ``"reflect"``, ``"symmetric"`` or ``"replicate"``: what windows see beyond the
            border; ``"valid"`` counts only pixels whose window lies inside the image.
        window_size: taps of the window along each axis: odd, from 1 to 33; or a number for each spatial axis.
        sigma: standard deviation of the Gaussian window, in pixels; or one for each spatial axis.
        taps: a window instead of the Gaussian: ``"uniform"``; its numbers, symmetric, not negative, of sum 1; or such
            numbers for each spatial axis.
        sample_covariance: variances and the covariance are multiplied by n / (n - 1), for windows of n pixels.
        data_range: the largest value that a pixel can have minus the smallest; None: 1.0, and for integers 255 (uint8)
            or 65535 (uint16, int16), times ``integer_scale``. Or a tensor, the same in every process; ``[N]`` for a
            range of each image, of this process's images if ``dim`` is the batch.
        integer_scale: what 1 stands for in images of integers; or a number for each image.
        K: the two constants of SSIM, at least 0.
        arithmetic: ``"float64"``: results are float64, and so is what leads to them, whatever the images are. None:
            float32, and float64 for float64 images.
        reduction: ``"mean"`` or ``"sum"`` of everything; ``"image"`` or ``"channel"``, as for :func:`sharded_ssim`.
        mask: this process's part of a mask, of as many axes as the images; as for :func:`sharded_ssim`.
        mask_mode: ``"weight"``: the mask weighs positions of the map, and windows see all pixels; ``"normalized"``: the
            statistics of a window are also those of its pixels under the mask alone.

    Returns:
        The loss, the same in every process: float32, or float64 for float64 images.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`sharded_ssim`.

    """
    data_range, ranges = checks.split_range(data_range)
    settings = _settings_or_error(
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        taps=taps,
        sample_covariance=sample_covariance,
        data_range=data_range,
        integer_scale=integer_scale,
        K=K,
        arithmetic=arithmetic,
        reduction=reduction,
        mask_mode=mask_mode,
        lambda_dssim=lambda_dssim,
        names=("pred", "target"),
    )
    return _sharded(pred, target, mask, ranges, dim, group, settings, ("pred", "target"))


# ---- The value -------------------------------------------------------------------------------------------------------


def _settings_or_error(**arguments: Any) -> Settings | Exception:
    """The settings, or the error that they give: the other processes must hear of it before it is raised."""
    try:
        settings = eager.settings_of(**arguments)
        if settings.reduction == "none":
            raise ValueError('reduction = \'none\'; expected "mean", "sum", "image" or "channel"')
    except (TypeError, ValueError) as error:
        return error
    return settings


def _sharded(
    img1: Tensor,
    img2: Tensor,
    mask: Tensor | None,
    ranges: Tensor | None,
    dim: int | None,
    group: ProcessGroup | None,
    settings: Settings | Exception,
    names: tuple[str, str],
) -> Tensor:
    if is_dtensor(img1) or is_dtensor(img2):
        if dim is not None or group is not None:
            raise ValueError(
                f"dim = {dim!r}, group = {group!r}; expected neither with DTensors, whose placements say both"
            )
        img1, img2, mask, dim, group = local_parts(img1, img2, mask, names)
        if dim is None:  # each process has everything
            if isinstance(settings, Exception):
                raise settings
            return eager.ssim(img1, img2, settings, spatial_dims_of(settings.names[0], img1), True, mask, ranges)
    if isinstance(settings, Exception) and not dist.is_initialized():
        raise settings
    lengths, dim, mask, ranges, is_spread = agree(img1, img2, mask, ranges, dim, group, settings)
    assert not isinstance(settings, Exception)
    part = Part(lengths, dist.get_rank(group), dim, img1.dim() - 2, is_spread, settings)
    terms = _terms(img1, img2, mask, ranges, part, group, settings)
    if dim == 0 and settings.reduction in ("image", "channel"):
        sums = torch.stack([torch.stack(term[1:]) for term in terms])
    else:
        sums = sum_over_processes(group, torch.stack([torch.stack(term[1:]) for term in terms]))
    value = sum(
        share * (total if settings.reduction == "sum" else total / weight)
        for (share, *_), (total, weight) in zip(terms, sums, strict=True)
    )
    assert isinstance(value, Tensor)
    return value.to(checks.arithmetic(settings, img1.dtype, img2.dtype))


# A share of the value, a sum over this process's part, and the divisor of a mean.
_Term = tuple[float, Tensor, Tensor]


def _terms(
    img1: Tensor,
    img2: Tensor,
    mask: Tensor | None,
    ranges: Tensor | None,
    part: Part,
    group: ProcessGroup | None,
    settings: Settings,
) -> list[_Term]:
    weight = _full(mask, img1, checks.arithmetic(settings, img1.dtype, img2.dtype))
    structural = _crop_other_axes(weight, part, settings).narrow(part.dim, part.map_begin - part.begin, part.map_length)
    # With padding "valid" the two terms of a loss are means of different numbers of elements.
    apart = settings.lambda_dssim is not None and shapes.is_cropped(settings)
    total = _structural_sum(
        img1, img2, mask, ranges, part, group, _variant(settings, settings.reduction, 1.0) if apart else settings
    )
    terms = [(settings.lambda_dssim or 0.0 if apart else 1.0, total, _sum(structural, settings.reduction))]
    if apart:
        assert settings.lambda_dssim is not None
        first, second = (
            checks.converted(image, weight.dtype, scale)
            for image, scale in zip((img1, img2), checks.for_images(settings, img1, img2).integer_scale, strict=True)
        )
        difference = (first - second).abs() * weight
        terms.append(
            (1 - settings.lambda_dssim, _sum(difference, settings.reduction), _sum(weight, settings.reduction))
        )
    return terms


def _structural_sum(
    img1: Tensor,
    img2: Tensor,
    mask: Tensor | None,
    ranges: Tensor | None,
    part: Part,
    group: ProcessGroup | None,
    settings: Settings,
) -> Tensor:
    """The sum over this process's own positions of the map."""
    dim, spatial_dims, arithmetic = part.dim, img1.dim() - 2, checks.arithmetic(settings, img1.dtype, img2.dtype)
    masked_statistics = mask is not None and settings.normalized
    if part.radius:
        img1, img2 = with_neighbours(part, group, img1, img2)
        if mask is not None and part.mask_is_spread:
            (mask,) = with_neighbours(part, group, mask)
    if part.map_length == 0 or img1.numel() == 0:  # neighbours may still wait for gradients of lent layers
        return _sum(img1[:, :, :0].to(arithmetic) + img2[:, :, :0].to(arithmetic), settings.reduction)
    if settings.reduction in ("mean", "sum") and not masked_statistics:
        if not part.crop and part.extended != part.map_length:
            # Borrowed positions belong to the map of a neighbour.
            own = torch.zeros(part.extended, dtype=arithmetic, device=img1.device)
            own[part.first : part.first + part.map_length] = 1
            own = own.reshape([-1 if axis == dim else 1 for axis in range(img1.dim())])
            mask = own if mask is None else own * mask
        return eager.ssim(
            img1, img2, _variant(settings, "sum", settings.lambda_dssim), spatial_dims, True, mask, ranges
        ).double()
    values = eager.ssim(img1, img2, _variant(settings, "none", settings.lambda_dssim), spatial_dims, True, mask, ranges)
    return _sum(values.narrow(dim, 0 if part.crop else part.first, part.map_length), settings.reduction)


@lru_cache(maxsize=256)
def _variant(settings: Settings, reduction: str, lambda_dssim: float | None) -> Settings:
    return replace(settings, reduction=reduction, lambda_dssim=lambda_dssim)


def _full(mask: Tensor | None, img1: Tensor, arithmetic: torch.dtype) -> Tensor:
    """The mask, or ones, in the shape of the images; expanded, not copied."""
    weight = torch.ones((), dtype=arithmetic, device=img1.device) if mask is None else mask.to(arithmetic)
    return weight.expand(img1.shape)


def _crop_other_axes(weight: Tensor, part: Part, settings: Settings) -> Tensor:
    for axis, taken_off in enumerate(shapes.crop(settings, weight.dim() - 2), start=2):
        if axis != part.dim:
            weight = weight.narrow(axis, taken_off, weight.shape[axis] - 2 * taken_off)
    return weight


def _sum(values: Tensor, reduction: str) -> Tensor:
    return values.sum(shapes.reduced_axes(reduction, values.dim()), dtype=torch.float64)
