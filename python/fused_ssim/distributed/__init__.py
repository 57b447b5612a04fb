# SPDX-License-Identifier: MIT
"""SSIM of images and volumes that are spread over the processes of a ``torch.distributed`` group.

Each process holds a part along one axis: some of the batch, or a slab of each image or volume. Slabs borrow from their
neighbours what a window reaches, ``window_size // 2`` layers, and backward gives the gradients of what was borrowed
back. The value, and each process's part of the gradient, are those of the whole.

Every process of the group must make the same call, and the same call of ``backward`` with the same upstream gradient:
the value is one value, known to all. Arguments that do not fit together are an error in every process; shapes, dtypes
and whether gradients are wanted are exchanged first, 32 numbers from each process. gloo serves CPU tensors, NCCL CUDA
tensors.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .._base.settings import settings as make_settings
from .._torch import eager as _ops
from .._torch import plan as _native
from ..functional import spatial_dims_of

if TYPE_CHECKING:
    from collections.abc import Callable

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
    window_size: int = 11,
    sigma: float = 1.5,
    data_range: float = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
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
        padding: as for :func:`fused_ssim.fused_ssim`.
        window_size: as for :func:`fused_ssim.fused_ssim`.
        sigma: as for :func:`fused_ssim.fused_ssim`.
        data_range: as for :func:`fused_ssim.fused_ssim`.
        K: as for :func:`fused_ssim.fused_ssim`.
        reduction: ``"mean"`` or ``"sum"`` of everything; ``"image"`` or ``"channel"``, of the images of all processes
            if ``dim`` is spatial, of this process's images if it is the batch.
        mask: this process's part of a mask, as for :func:`fused_ssim.fused_ssim`, of as many axes as the images. An
            axis of length 1 stands for all; along a spatial ``dim`` that must be so for all processes or for none.
        mask_mode: as for :func:`fused_ssim.fused_ssim`.

    Returns:
        The value, the same in every process: float32, or float64 for float64 images.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`fused_ssim.fused_ssim`; or the parts do not fit together. Each
            process raises.

    """
    settings = make_settings(padding, window_size, sigma, data_range, K, reduction, mask_mode)
    return _sharded(img1, img2, mask, dim, group, settings)


def sharded_photometric_loss(
    pred: Tensor,
    target: Tensor,
    lambda_dssim: float = 0.2,
    dim: int | None = None,
    group: ProcessGroup | None = None,
    padding: str = "same",
    *,
    window_size: int = 11,
    sigma: float = 1.5,
    data_range: float = 1.0,
    K: tuple[float, float] = (0.01, 0.03),
    reduction: str = "mean",
    mask: Tensor | None = None,
    mask_mode: str = "weight",
) -> Tensor:
    """:func:`fused_ssim.photometric_loss` of images or volumes that are spread over a process group.

    Args:
        pred: this process's part, as ``img1`` of :func:`sharded_ssim`.
        target: as ``pred``.
        lambda_dssim: as for :func:`fused_ssim.photometric_loss`.
        dim: as for :func:`sharded_ssim`.
        group: as for :func:`sharded_ssim`.
        padding: as for :func:`fused_ssim.photometric_loss`.
        window_size: as for :func:`fused_ssim.fused_ssim`.
        sigma: as for :func:`fused_ssim.fused_ssim`.
        data_range: as for :func:`fused_ssim.photometric_loss`.
        K: as for :func:`fused_ssim.fused_ssim`.
        reduction: as for :func:`sharded_ssim`.
        mask: as for :func:`sharded_ssim`.
        mask_mode: as for :func:`fused_ssim.fused_ssim`.

    Returns:
        The loss, the same in every process: float32, or float64 for float64 images.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`sharded_ssim`.

    """
    settings = make_settings(
        padding, window_size, sigma, data_range, K, reduction, mask_mode, lambda_dssim, names=("pred", "target")
    )
    return _sharded(pred, target, mask, dim, group, settings)


# ---- The value -------------------------------------------------------------------------------------------------------


def _sharded(
    img1: Tensor, img2: Tensor, mask: Tensor | None, dim: int | None, group: ProcessGroup | None, settings: Settings
) -> Tensor:
    if settings.reduction == "none":
        raise ValueError('reduction = \'none\'; expected "mean", "sum", "image" or "channel"')
    if _is_dtensor(img1) or _is_dtensor(img2):
        if dim is not None or group is not None:
            raise ValueError(
                f"dim = {dim!r}, group = {group!r}; expected neither with DTensors, whose placements say both"
            )
        img1, img2, mask, dim, group = _local(img1, img2, mask, settings.names)
        if dim is None:  # each process has everything
            return _ops.ssim(img1, img2, settings, spatial_dims_of(settings.names[0], img1), True, mask)
    lengths, dim, mask, is_spread = _agree(img1, img2, mask, dim, group, settings)
    part = _Part(lengths, dist.get_rank(group), dim, is_spread, settings)
    terms = _terms(img1, img2, mask, part, group, settings)
    if dim == 0 and settings.reduction in ("image", "channel"):
        sums = torch.stack([torch.stack(term[1:]) for term in terms])
    else:
        sums = _sum_over_processes(group, torch.stack([torch.stack(term[1:]) for term in terms]))
    value = sum(
        share * (total if settings.reduction == "sum" else total / weight)
        for (share, *_), (total, weight) in zip(terms, sums, strict=True)
    )
    assert isinstance(value, Tensor)
    return value.to(_arithmetic(img1))


class _Part:
    """Where the layers of this process lie in the whole, and those that their windows reach."""

    def __init__(self, lengths: list[int], rank: int, dim: int, mask_is_spread: bool, settings: Settings) -> None:
        self.dim = dim
        self.mask_is_spread = mask_is_spread
        self.radius = settings.window_size // 2 if dim >= 2 else 0
        self.crop = self.radius if settings.padding == "valid" else 0
        whole = sum(lengths)
        ends = [sum(lengths[: index + 1]) for index in range(len(lengths))]
        #: The layers of each process: first, and one after the last.
        self.bounds = [(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        #: The same, with what windows reach.
        self.reach = [(max(begin - self.radius, 0), min(end + self.radius, whole)) for begin, end in self.bounds]
        self.rank = rank
        self.begin, self.end = self.bounds[rank]
        self.first = self.begin - self.reach[rank][0]
        self.extended = self.reach[rank][1] - self.reach[rank][0]
        #: The layers of the map that are this process's own.
        self.map_begin = min(max(self.begin, self.crop), self.end)
        self.map_length = max(min(self.end, whole - self.crop) - self.map_begin, 0)


# A share of the value, a sum over this process's part, and what a mean divides it by.
_Term = tuple[float, Tensor, Tensor]


def _terms(
    img1: Tensor, img2: Tensor, mask: Tensor | None, part: _Part, group: ProcessGroup | None, settings: Settings
) -> list[_Term]:
    weight = _full(mask, img1)
    structural = _crop_other_axes(weight, part, settings).narrow(part.dim, part.map_begin - part.begin, part.map_length)
    # With padding "valid" the two terms of a loss are means of different numbers of elements.
    apart = settings.lambda_dssim is not None and settings.padding == "valid"
    total = _structural_sum(
        img1, img2, mask, part, group, _variant(settings, settings.reduction, 1.0) if apart else settings
    )
    terms = [(settings.lambda_dssim or 0.0 if apart else 1.0, total, _sum(structural, settings.reduction))]
    if apart:
        assert settings.lambda_dssim is not None
        difference = (img1.to(weight.dtype) - img2.to(weight.dtype)).abs() * weight
        terms.append(
            (1 - settings.lambda_dssim, _sum(difference, settings.reduction), _sum(weight, settings.reduction))
        )
    return terms


def _structural_sum(
    img1: Tensor, img2: Tensor, mask: Tensor | None, part: _Part, group: ProcessGroup | None, settings: Settings
) -> Tensor:
    """The sum over this process's own positions of the map."""
    dim, spatial_dims = part.dim, img1.dim() - 2
    masked_statistics = mask is not None and settings.normalized
    if part.radius:
        img1, img2 = _with_neighbours(part, group, img1, img2)
        if mask is not None and part.mask_is_spread:
            (mask,) = _with_neighbours(part, group, mask)
    if part.map_length == 0 or img1.numel() == 0:  # nothing, but neighbours may wait for the gradient of what was lent
        return _sum(img1[:, :, :0].to(_arithmetic(img1)) + img2[:, :, :0].to(_arithmetic(img1)), settings.reduction)
    if settings.reduction in ("mean", "sum") and not masked_statistics:
        if settings.padding == "same" and part.extended != part.map_length:
            # Borrowed positions belong to the map of a neighbour.
            own = torch.zeros(part.extended, dtype=_arithmetic(img1), device=img1.device)
            own[part.first : part.first + part.map_length] = 1
            own = own.reshape([-1 if axis == dim else 1 for axis in range(img1.dim())])
            mask = own if mask is None else own * mask
        return _ops.ssim(
            img1, img2, _variant(settings, "sum", settings.lambda_dssim), spatial_dims, True, mask
        ).double()
    values = _ops.ssim(img1, img2, _variant(settings, "none", settings.lambda_dssim), spatial_dims, True, mask)
    return _sum(
        values.narrow(dim, part.first if settings.padding == "same" else 0, part.map_length), settings.reduction
    )


@lru_cache(maxsize=256)
def _variant(settings: Settings, reduction: str, lambda_dssim: float | None) -> Settings:
    return replace(settings, reduction=reduction, lambda_dssim=lambda_dssim)


def _full(mask: Tensor | None, img1: Tensor) -> Tensor:
    """The mask, or ones, in the shape of the images; expanded, not copied."""
    weight = torch.ones((), dtype=_arithmetic(img1), device=img1.device) if mask is None else mask.to(_arithmetic(img1))
    return weight.expand(img1.shape)


def _crop_other_axes(weight: Tensor, part: _Part, settings: Settings) -> Tensor:
    radius = settings.window_size // 2 if settings.padding == "valid" else 0
    for axis in range(2, weight.dim()):
        if axis != part.dim:
            weight = weight.narrow(axis, radius, weight.shape[axis] - 2 * radius)
    return weight


def _sum(values: Tensor, reduction: str) -> Tensor:
    axes = tuple(range({"image": 1, "channel": 2}.get(reduction, 0), values.dim()))
    return values.sum(axes, dtype=torch.float64)


def _arithmetic(image: Tensor) -> torch.dtype:
    return torch.float64 if image.dtype == torch.float64 else torch.float32


# ---- Agreement -------------------------------------------------------------------------------------------------------


def _agree(
    img1: Tensor, img2: Tensor, mask: Tensor | None, dim: int | None, group: ProcessGroup | None, settings: Settings
) -> tuple[list[int], int, Tensor | None, bool]:
    """The lengths of all parts, the axis, the mask in as many axes as the images, and whether it is spread like them.

    Or an error in every process.
    """
    problem: Exception | None = None
    facts: dict[str, int] = {}
    try:
        dim, mask = _check(img1, img2, mask, dim, settings)
        facts = _facts(img1, img2, mask, dim, settings)
    except (TypeError, ValueError) as error:
        problem = error
    # What follows is the same in every process.
    ours = [int(problem is None), *facts.values()]
    row = torch.tensor(ours + [0] * (_FACTS - len(ours)), dtype=torch.int64, device=_device_of(group))
    table = [torch.empty_like(row) for _ in range(dist.get_world_size(group))]
    dist.all_gather(table, row, group=group)
    rows = [each.tolist() for each in torch.stack(table).cpu()]
    if problem is not None:
        raise problem
    for rank, other in enumerate(rows):
        if not other[0]:
            raise ValueError(f"the arguments of rank {rank} of the group are in error: it says how")
        for name, value, other_value in zip(facts, ours[1:], other[1:], strict=False):
            unknown = name == _MASK_FORM and 0 in (value, other_value)
            if value != other_value and name != "length" and not unknown:
                raise ValueError(
                    f"{name} differs between the processes: {value} here, on rank {dist.get_rank(group)} of the group, "
                    f"but {other_value} on rank {rank}; expected the same (settings have numbers)"
                )
    columns = {name: [other[1 + index] for other in rows] for index, name in enumerate(facts)}
    assert dim is not None
    _check_whole(sum(columns["length"]), dim, settings)
    is_spread = mask is not None and 1 not in columns[_MASK_FORM]
    return columns["length"], dim, mask, is_spread


_FACTS = 32
_MASK_FORM = "what the mask is along dim: 1 for one layer that stands for all, 2 for as many as the images"


def _check(
    img1: Tensor, img2: Tensor, mask: Tensor | None, dim: int | None, settings: Settings
) -> tuple[int, Tensor | None]:
    names = settings.names
    for name, image in zip(names, (img1, img2), strict=True):
        _native.check_tensor(name, image)
    spatial_dims = spatial_dims_of(names[0], img1)
    _native.check_images(names, spatial_dims, img1.dtype, img1.device, img1.shape, img2.dtype, img2.device, img2.shape)
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"dim = {dim!r}; expected an integer, the axis that is spread over the processes")
    axis = dim + img1.dim() if dim < 0 else dim
    if axis != 0 and not 2 <= axis < img1.dim():
        raise ValueError(f"dim = {dim}; expected 0, the batch, or a spatial axis of {names[0]}, 2 to {img1.dim() - 1}")
    if settings.padding == "valid":
        for other in range(2, img1.dim()):
            if other != axis and img1.shape[other] < settings.window_size:
                raise ValueError(
                    f"{names[0]}.shape[{other}] = {img1.shape[other]} < window {settings.window_size} (padding valid)"
                )
    return axis, None if mask is None else _native.view_mask(mask, img1)


def _facts(img1: Tensor, img2: Tensor, mask: Tensor | None, dim: int, settings: Settings) -> dict[str, int]:
    """What must be the same in every process, but for the length."""
    names = settings.names
    recorded = torch.is_grad_enabled()
    # Where there is one layer, both forms look the same.
    form = 0 if mask is None or img1.shape[dim] == 1 else 1 if mask.shape[dim] == 1 else 2
    shape = [0 if axis == dim else size for axis, size in enumerate(img1.shape)]
    described = repr([getattr(settings, field) for field in settings.__dataclass_fields__])
    return {
        "length": img1.shape[dim],
        "dim": dim,
        f"{names[0]}.dim()": img1.dim(),
        **{f"{names[0]}.shape[{axis}]": size for axis, size in enumerate(shape)},
        f"{names[0]}.dtype": _DTYPES.index(img1.dtype),
        f"{names[0]}.requires_grad": int(recorded and img1.requires_grad),
        f"{names[1]}.requires_grad": int(recorded and img2.requires_grad),
        "mask": 0 if mask is None else 1 + _DTYPES.index(mask.dtype),
        _MASK_FORM: form,
        "settings": zlib.crc32(described.encode()),
    }


_DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool]


def _check_whole(length: int, dim: int, settings: Settings) -> None:
    if length == 0:
        raise ValueError(f"{settings.names[0]} is empty along axis {dim} in all processes")
    if dim >= 2 and settings.padding == "valid" and length < settings.window_size:
        raise ValueError(
            f"{settings.names[0]} has {length} layers along axis {dim} in all processes < window "
            f"{settings.window_size} (padding valid)"
        )


def _device_of(group: ProcessGroup | None) -> torch.device:
    """A device whose tensors the group can send."""
    if "gloo" in str(dist.get_backend(group)):
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


# ---- Communication ---------------------------------------------------------------------------------------------------


class _SumOverProcesses(Function):
    """The sum of all processes' tensors. It is one value, whose gradient every process already knows."""

    @staticmethod
    def forward(_ctx: Any, group: ProcessGroup | None, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values, group=group)
        return values

    @staticmethod
    @once_differentiable
    def backward(_ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor]:
        return None, grad_outputs[0]


class _WithNeighbours(Function):
    """Images with the layers that windows reach in other processes; backward gives their gradients to the owners."""

    @staticmethod
    def forward(ctx: Any, part: _Part, group: ProcessGroup | None, *images: Tensor) -> tuple[Tensor, ...]:
        ctx.part, ctx.group = part, group
        wide = []
        for image in images:
            shape = list(image.shape)
            shape[part.dim] = part.extended
            wide.append(image.new_empty(shape))
            wide[-1].narrow(part.dim, part.first, image.shape[part.dim]).copy_(image)
        lent = [[image.narrow(part.dim, offset, n) for image in images] for _, offset, n in _lent(part)]
        borrowed = [[image.narrow(part.dim, offset, n) for image in wide] for _, offset, n in _borrowed(part)]
        received = _exchange(group, _lent(part), lent, _borrowed(part), borrowed)
        for places, values in zip(borrowed, received, strict=True):
            for place, value in zip(places, values, strict=True):
                place.copy_(value)
        return tuple(wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        part: _Part = ctx.part
        needed = ctx.needs_input_grad[2:]
        grads = tuple(grad for grad, need in zip(grads, needed, strict=True) if need)
        own = [grad.narrow(part.dim, part.first, part.end - part.begin).clone() for grad in grads]
        borrowed = [[grad.narrow(part.dim, offset, n) for grad in grads] for _, offset, n in _borrowed(part)]
        lent = [[grad.narrow(part.dim, offset, n) for grad in own] for _, offset, n in _lent(part)]
        received = _exchange(ctx.group, _borrowed(part), borrowed, _lent(part), lent)
        for places, values in zip(lent, received, strict=True):
            for place, value in zip(places, values, strict=True):
                place.add_(value)
        results = iter(own)
        return None, None, *(next(results) if need else None for need in needed)


# Function.apply has no types.
_sum_over_processes: Callable[[ProcessGroup | None, Tensor], Tensor] = _SumOverProcesses.apply
_with_neighbours: Callable[..., tuple[Tensor, ...]] = _WithNeighbours.apply

# A rank of the group, the first layer as counted in the tensor at hand, how many.
_Segment = tuple[int, int, int]


def _lent(part: _Part) -> list[_Segment]:
    """Layers of this process that others reach, as counted in its own."""
    segments = []
    for rank, (begin, end) in enumerate(part.reach):
        begin, end = max(begin, part.begin), min(end, part.end)
        if rank != part.rank and begin < end:
            segments.append((rank, begin - part.begin, end - begin))
    return segments


def _borrowed(part: _Part) -> list[_Segment]:
    """Layers of others that this process reaches, as counted in its extended images."""
    reach_begin, reach_end = part.reach[part.rank]
    segments = []
    for rank, (begin, end) in enumerate(part.bounds):
        begin, end = max(begin, reach_begin), min(end, reach_end)
        if rank != part.rank and begin < end:
            segments.append((rank, begin - reach_begin, end - begin))
    return segments


def _exchange(
    group: ProcessGroup | None,
    to: list[_Segment],
    sent: list[list[Tensor]],
    origin: list[_Segment],
    like: list[list[Tensor]],
) -> list[list[Tensor]]:
    """Sends ``sent`` and receives tensors of the shapes of ``like``, both in the order of the ranks."""
    whole = dist.group.WORLD if group is None else group
    assert whole is not None
    received = [[torch.empty_like(place, memory_format=torch.contiguous_format) for place in places] for places in like]
    operations = []
    for (rank, _, _), tensors in zip(to, sent, strict=True):
        peer = dist.get_global_rank(whole, rank)
        operations += [dist.P2POp(dist.isend, tensor.contiguous(), peer, group) for tensor in tensors]
    for (rank, _, _), tensors in zip(origin, received, strict=True):
        peer = dist.get_global_rank(whole, rank)
        operations += [dist.P2POp(dist.irecv, tensor, peer, group) for tensor in tensors]
    if operations:
        for work in dist.batch_isend_irecv(operations):
            work.wait()
    return received


# ---- DTensor ---------------------------------------------------------------------------------------------------------


def _dtensor_module() -> Any:
    """Where DTensor is, or None if nothing has loaded it, so that nobody has one."""
    modules = map(sys.modules.get, ("torch.distributed.tensor", "torch.distributed._tensor"))  # the latter in torch 2.4
    return next((module for module in modules if hasattr(module, "DTensor")), None)


def _is_dtensor(image: object) -> bool:
    module = _dtensor_module()
    return module is not None and isinstance(image, module.DTensor)


def _local(
    img1: Any, img2: Any, mask: Any, names: tuple[str, str]
) -> tuple[Tensor, Tensor, Tensor | None, int | None, ProcessGroup | None]:
    """The local parts, the axis along which they are parts (None: they are all), and the processes that share it."""
    if not (_is_dtensor(img1) and _is_dtensor(img2)):
        raise TypeError(f"{names[0]} is of type {type(img1).__name__} but {names[1]} of type {type(img2).__name__}")
    if img1.device_mesh != img2.device_mesh or img1.placements != img2.placements:
        raise ValueError(
            f"{names[0]} is placed as {img1.placements} on {img1.device_mesh} but {names[1]} as {img2.placements} on "
            f"{img2.device_mesh}; expected the same"
        )
    Replicate, Shard = _dtensor_module().Replicate, _dtensor_module().Shard
    sharded = [(axis, placement) for axis, placement in enumerate(img1.placements) if not placement.is_replicate()]
    if len(sharded) > 1 or any(type(placement) is not Shard for _, placement in sharded):
        raise ValueError(f"{names[0]}.placements = {img1.placements}; expected Shard once at the most, else Replicate")
    if _is_dtensor(mask):
        if mask.device_mesh != img1.device_mesh or mask.placements not in (
            img1.placements,
            tuple(Replicate() for _ in img1.placements),
        ):
            raise ValueError(f"mask.placements = {mask.placements}; expected those of {names[0]}, or Replicate")
        mask = mask.to_local()
    dim, group = None, None
    if sharded:
        dim, group = sharded[0][1].dim, img1.device_mesh.get_group(sharded[0][0])
    return img1.to_local(), img2.to_local(), mask, dim, group
