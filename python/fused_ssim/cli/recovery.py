# SPDX-License-Identifier: MIT
"""What the demonstration computes: pictures recovered from noise by gradient ascent on SSIM, and a fit under a mask."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import fused_ssim
from fused_ssim.cli.common import Failure, extra

if TYPE_CHECKING:
    from collections.abc import Callable

LEARNING_RATE = 0.06


@dataclass(frozen=True)
class Recovery:
    """The start and the result of one ascent. The tensors are on the CPU, without the batch axis."""

    name: str
    target: torch.Tensor
    start: torch.Tensor
    result: torch.Tensor
    ssim_map: torch.Tensor
    scores: list[float]  # before each step, and after the last
    seconds: float


@dataclass(frozen=True)
class MaskedFit:
    """A picture fitted to a photograph that shows something wrong in a block, in three ways. On the CPU, (3, H, W)."""

    scene: torch.Tensor
    photograph: torch.Tensor  # the scene, and a sticker
    known: torch.Tensor  # (H, W), bool: False under the sticker
    start: torch.Tensor
    results: dict[str, torch.Tensor]  # by the kind of mask
    rims: dict[str, float]  # the mean error beside the sticker
    seconds: float


def load_photograph() -> torch.Tensor:
    """A photograph of the cat Chelsea by Stefan van der Walt (CC0), from scikit-image: (3, 300, 451), 0 to 1."""
    with extra("demo"):
        from skimage import data
    chelsea: Callable[[], Any] = data.chelsea
    return torch.from_numpy(chelsea()).permute(2, 0, 1).float().contiguous() / 255


def load_volume() -> tuple[torch.Tensor, tuple[float, ...]]:
    """A brain by MR imaging, and the size of its voxels in mm. Part of nibabel.

    Cropped to its bounds: (1, 73, 92, 24), axes x, y, z, from 0 to 1.
    """
    with extra("demo"):
        import nibabel as nib
        import numpy as np
    path = Path(nib.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    if not path.exists():
        raise Failure(f"this installation of nibabel lacks its example {path}: pip install --force-reinstall nibabel")
    image: Any = nib.load(path)
    voxels = np.asarray(image.dataobj[..., 0], dtype=np.float32)
    margin = 2
    inside = np.argwhere(voxels > 0)
    box = tuple(
        slice(max(int(low) - margin, 0), int(high) + 1 + margin)
        for low, high in zip(inside.min(axis=0), inside.max(axis=0), strict=True)
    )
    white = np.percentile(voxels[box], 99.9)
    spacing = tuple(float(zoom) for zoom in image.header.get_zooms()[:3])
    return torch.from_numpy(np.clip(voxels[box] / white, 0, 1))[None], spacing


def ascend(
    target: torch.Tensor, steps: int, report: Callable[[int, float], None]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[float]]:
    """Ascends the SSIM with `target` (1, C, ...): the noise at the start, the result, its SSIM map, and the scores."""
    ssim = fused_ssim.fused_ssim3d if target.ndim == 5 else fused_ssim.fused_ssim2d
    # Drawn on the CPU, so that every device starts from the same noise.
    start = torch.rand(target.shape, generator=torch.Generator().manual_seed(0)).to(target)
    picture = start.clone()
    optimizer = torch.optim.Adam([picture], lr=LEARNING_RATE, maximize=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    scores = []
    for step in range(steps):
        score, picture.grad = fused_ssim.value_and_grad(picture, target)
        optimizer.step()
        schedule.step()
        picture.clamp_(0, 1)
        scores.append(score.item())
        report(step, scores[-1])
    ssim_map = ssim(picture, target, train=False, reduction="none")
    scores.append(ssim_map.mean().item())
    report(steps, scores[-1])
    return start, picture, ssim_map, scores


def load_portrait() -> torch.Tensor:
    """A part of a portrait of Eileen Collins by NASA (public domain), from scikit-image: (3, 240, 240), 0 to 1."""
    with extra("demo"):
        from skimage import data
    astronaut: Callable[[], Any] = data.astronaut
    return torch.from_numpy(astronaut()[0:240, 100:340]).permute(2, 0, 1).float().contiguous() / 255


def fit_masked(scene: torch.Tensor, steps: int, device: torch.device, report: Callable[[int], object]) -> MaskedFit:
    """Sharpens a blurred picture by the photometric loss against a photograph with a sticker, which must not matter.

    Without a mask the sticker is copied. With one as a weight, windows at its rim still see it. With
    `mask_mode="normalized"` no window does.
    """
    begin = time.perf_counter()
    known = torch.ones(scene.shape[1:], dtype=torch.bool)
    known[150:200, 30:100] = False
    photograph = torch.where(known, scene, torch.tensor([1.0, 0.9, 0.2])[:, None, None])
    start = _blurred(scene)
    masks: dict[str, dict[str, Any]] = {
        "no mask": {},
        "weight": {"mask": known.to(device)},
        "normalized": {"mask": known.to(device), "mask_mode": "normalized"},
    }
    results, rims = {}, {}
    grown = torch.nn.functional.max_pool2d((~known).float()[None], 11, stride=1, padding=5)[0] > 0
    for number, (name, mask) in enumerate(masks.items()):
        picture = start.to(device)[None].clone().requires_grad_()
        optimizer = torch.optim.Adam([picture], lr=0.02)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            optimizer.zero_grad()
            fused_ssim.photometric_loss(picture, photograph.to(device)[None], 0.8, **mask).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                picture.clamp_(0, 1)
            report(number * steps + step + 1)
        results[name] = picture.detach()[0].cpu()
        # Under the sticker, where it is known that nothing is known, against the start; around it, against the scene.
        wanted = torch.where(known, scene, start)
        rims[name] = float((results[name] - wanted).abs()[:, grown].mean())
    return MaskedFit(scene, photograph, known, start, results, rims, time.perf_counter() - begin)


def _blurred(picture: torch.Tensor) -> torch.Tensor:
    """Averaged over blocks, and smooth between them."""
    height, width = picture.shape[1:]
    coarse = torch.nn.functional.avg_pool2d(picture[None], 6)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
