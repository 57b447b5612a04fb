# SPDX-License-Identifier: MIT
"""What processes send to each other: layers at the border of a slab, and sums. Both with their derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .._base import shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.distributed import ProcessGroup

    from .._base.settings import Settings


class Part:
    """Where the layers of this process lie in the whole, and those that their windows reach."""

    def __init__(
        self,
        lengths: list[int],
        rank: int,
        dim: int,
        spatial_dims: int,
        mask_is_spread: bool,
        settings: Settings,
    ) -> None:
        self.dim = dim
        self.mask_is_spread = mask_is_spread
        # Along the batch no window reaches out of its image, and nothing is taken off.
        self.radius = shapes.radius(settings, spatial_dims)[dim - 2] if dim >= 2 else 0
        self.crop = shapes.crop(settings, spatial_dims)[dim - 2] if dim >= 2 else 0
        whole = sum(lengths)
        ends = [sum(lengths[: index + 1]) for index in range(len(lengths))]
        #: The layers of each process: first, and one after the last.
        self.bounds = [(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        #: The same, with the layers that windows reach.
        self.reach = [(max(begin - self.radius, 0), min(end + self.radius, whole)) for begin, end in self.bounds]
        self.rank = rank
        self.begin, self.end = self.bounds[rank]
        self.first = self.begin - self.reach[rank][0]
        self.extended = self.reach[rank][1] - self.reach[rank][0]
        #: The layers of the map that are this process's own.
        self.map_begin = min(max(self.begin, self.crop), self.end)
        self.map_length = max(min(self.end, whole - self.crop) - self.map_begin, 0)


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
    def forward(ctx: Any, part: Part, group: ProcessGroup | None, *images: Tensor) -> tuple[Tensor, ...]:
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
        part: Part = ctx.part
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
sum_over_processes: Callable[[ProcessGroup | None, Tensor], Tensor] = _SumOverProcesses.apply
with_neighbours: Callable[..., tuple[Tensor, ...]] = _WithNeighbours.apply

# A rank of the group, the first layer as counted in the tensor at hand, how many.
_Segment = tuple[int, int, int]


def _lent(part: Part) -> list[_Segment]:
    """Layers of this process that others reach, as counted in its own."""
    segments = []
    for rank, (begin, end) in enumerate(part.reach):
        begin, end = max(begin, part.begin), min(end, part.end)
        if rank != part.rank and begin < end:
            segments.append((rank, begin - part.begin, end - begin))
    return segments


def _borrowed(part: Part) -> list[_Segment]:
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
        operations += [dist.P2POp(dist.isend, _sendable(tensor.contiguous()), peer, group) for tensor in tensors]
    for (rank, _, _), tensors in zip(origin, received, strict=True):
        peer = dist.get_global_rank(whole, rank)
        operations += [dist.P2POp(dist.irecv, _sendable(tensor), peer, group) for tensor in tensors]
    if operations:
        for work in dist.batch_isend_irecv(operations):
            work.wait()
    return received


def _sendable(tensor: Tensor) -> Tensor:
    """The same memory in a dtype that every backend can send: integers of 16 bits as bytes."""
    return tensor.view(torch.uint8) if tensor.dtype in (torch.int16, torch.uint16) else tensor
