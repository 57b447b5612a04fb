# SPDX-License-Identifier: MIT
"""vmap: a batch of calls runs as a single call. The axis of the batch becomes part of N or of C.

Calls with data ranges as tensors, which may differ within N and between calls, take plain operations instead.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._base.codes import GRAD_1, GRAD_2
from .._base.shapes import is_cropped, map_shape
from . import composite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._base.settings import Settings


def value(
    size: int,
    in_dims: Sequence[int | None],
    tensors: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    settings: Settings,
    call: Callable[[Tensor, Tensor, Tensor | None, Tensor | None, Settings], Tensor],
) -> tuple[Tensor, int]:
    """The values of ``size`` calls by one of ``call(img1, img2, mask, data_ranges, settings)``."""
    *images, ranges = tensors
    folded = _folded(settings)
    if folded is None or ranges is not None:
        one = lambda x, y, m, r: composite.ssim(x, y, m, r, settings)  # noqa: E731
        return torch.func.vmap(one, in_dims=tuple(in_dims))(*tensors), 0
    batch = _Batch(size, in_dims[:3], images, settings, folded)
    return batch.unfold_value(call(*batch.images(), None, folded)), 0


def gradients(
    size: int,
    in_dims: Sequence[int | None],
    tensors: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None],
    settings: Settings,
    wanted: int,
    call: Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Settings], tuple[Tensor, Tensor]],
) -> tuple[tuple[Tensor, Tensor], tuple[int | None, int | None]]:
    """The gradients of ``size`` calls by one of ``call(grad_out, img1, img2, mask, data_ranges, settings)``.

    Those that are not ``wanted`` are empty and have no axis of the batch.
    """
    grad_out, *images, ranges = tensors
    grads: Sequence[Tensor]
    folded = _folded(settings)
    if folded is None or ranges is not None:
        one = lambda g, x, y, m, r: composite.gradients(g, x, y, m, r, settings)  # noqa: E731
        grads = torch.func.vmap(one, in_dims=tuple(in_dims))(*tensors)
    else:
        batch = _Batch(size, in_dims[1:4], images, settings, folded)
        one_call = call(batch.fold_upstream(grad_out, in_dims[0]), *batch.images(), None, folded)
        grads = tuple(batch.unfold_image(grad) if grad.dim() > 1 else grad for grad in one_call)
    has = [bool(wanted & GRAD_1), bool(wanted & GRAD_2)]
    first, second = (grad if wanted_ else grad_out.new_empty(0) for grad, wanted_ in zip(grads, has, strict=True))
    return (first, second), (0 if has[0] else None, 0 if has[1] else None)


class _Batch:
    """``size`` calls with images [N, C, ...], as a single call with other images and settings.

    Mostly the batch joins N: the single call has ``size * N`` images. But "mean" and "sum" reduce N and C, which must
    not mix the calls. There the batch takes the place of N, and N joins C: ``size`` images of ``N * C`` channels.
    """

    def __init__(
        self,
        size: int,
        in_dims: Sequence[int | None],
        images: Sequence[Tensor | None],
        settings: Settings,
        folded: Settings,
    ) -> None:
        self.size = size
        self.settings = settings
        self.folded = folded
        self.moved = [_move(image, dim) for image, dim in zip(images, in_dims, strict=True)]
        img1 = self.moved[0]
        assert img1 is not None
        self.shape = tuple(img1.shape[1:])
        self.joins_n = settings.reduction in ("image", "channel", "none")

    def images(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The images and the mask of the single call."""
        img1, img2, mask = self.moved
        assert img1 is not None
        assert img2 is not None
        first, second = self._fold(img1, True), self._fold(img2, True)
        return first, second, None if mask is None else self._fold(mask, False)

    def unfold_value(self, value: Tensor) -> Tensor:
        """The values of all calls, from the value of the single call."""
        if self.joins_n:
            return value.reshape(self.size, -1, *value.shape[1:])
        return value if value.dim() == 1 else value.sum(tuple(range(1, value.dim())))

    def fold_upstream(self, grad_out: Tensor, dim: int | None) -> Tensor:
        """The upstream gradient of the single call, from those of all calls."""
        moved = _move(grad_out, dim)
        assert moved is not None
        grad_out = moved.expand(self.size, *moved.shape[1:])
        if self.joins_n:
            return grad_out.reshape(-1, *grad_out.shape[2:])
        if self.folded.reduction == "image":
            return grad_out
        axes: tuple[int, ...] = (self.size, self.shape[0] * self.shape[1])
        if self.folded.reduction == "none":
            axes = (*axes, *map_shape(self.settings, self.shape)[2:])
        return grad_out.reshape(-1, *(1 for _ in axes[1:])).expand(axes)

    def unfold_image(self, grad: Tensor) -> Tensor:
        """The gradients of all calls, from the gradient of the single call."""
        return grad.reshape(self.size, *self.shape)

    def _fold(self, image: Tensor, is_image: bool) -> Tensor:
        """[size or 1, N, C, ...] as images of the single call; a mask keeps axes of length 1 where it can."""
        batch, n, c = image.shape[:3]
        spatial = image.shape[3:]
        if self.joins_n:
            if is_image or batch * n > 1:
                batch, n = self.size, self.shape[0]
            return image.expand(batch, n, *image.shape[2:]).reshape(batch * n, c, *spatial)
        if is_image or n * c > 1:
            n, c = self.shape[:2]
        if is_image:
            batch = self.size
        return image.expand(batch, n, c, *spatial).reshape(batch, n * c, *spatial)


def _move(image: Tensor | None, dim: int | None) -> Tensor | None:
    """The axis of the batch comes first; of length 1 where the calls share the image."""
    if image is None:
        return None
    return image[None] if dim is None else image.movedim(dim, 0)


@lru_cache(maxsize=256)
def _folded(settings: Settings) -> Settings | None:
    """The settings of the single call. None if there is no such call: a loss with padding "valid" has no map to sum."""
    if settings.reduction == "mean":
        return replace(settings, reduction="image")
    if settings.reduction == "sum":
        if settings.weights is not None:
            return replace(settings, reduction="channel")
        has_map = settings.lambda_dssim in (None, 1) or not is_cropped(settings)
        return replace(settings, reduction="none") if has_map else None
    return settings
