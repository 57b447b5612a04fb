# SPDX-License-Identifier: MIT
"""DTensors: which part of an image this process holds, and with whom it shares the whole."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup


def _dtensor_module() -> Any:
    """Where DTensor is, or None if nothing has loaded it, so that nobody has one."""
    modules = map(sys.modules.get, ("torch.distributed.tensor", "torch.distributed._tensor"))  # the latter in torch 2.4
    return next((module for module in modules if hasattr(module, "DTensor")), None)


def is_dtensor(image: object) -> bool:
    module = _dtensor_module()
    return module is not None and isinstance(image, module.DTensor)


def local_parts(
    img1: Any, img2: Any, mask: Any, names: tuple[str, str]
) -> tuple[Tensor, Tensor, Tensor | None, int | None, ProcessGroup | None]:
    """The local parts, the axis along which they are parts (None: they are all), and the processes that share it."""
    if not (is_dtensor(img1) and is_dtensor(img2)):
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
    if is_dtensor(mask):
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
