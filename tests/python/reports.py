# SPDX-License-Identifier: MIT
"""Pairs of files and their results, for the tests of the report."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

import fused_ssim
from fused_ssim.cli.results import PairResult

if TYPE_CHECKING:
    from pathlib import Path

NASTY = """<img src=x onerror="alert(1)">&amp;'"<script>.png"""
if sys.platform == "win32":  # has no names with < > or "
    NASTY = "&lt;img src=x onerror='alert(1)'&gt;&amp;.png"


def image(seed: int, height: int = 40, width: int = 56) -> np.ndarray[Any, Any]:
    """A smooth picture, (H, W, 3), uint8."""
    coarse = torch.rand((1, 3, 5, 6), generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (255 * fine[0].permute(1, 2, 0)).round().byte().numpy()


def noisy(picture: np.ndarray[Any, Any], amount: float) -> np.ndarray[Any, Any]:
    """The same with noise."""
    noise = np.random.default_rng(0).normal(0, amount, picture.shape)
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


def image_pair(folder: Path, name: str, amount: float, seed: int = 0, **values: Any) -> PairResult:
    """Two files and their result; `values` replaces fields of it."""
    pictures = image(seed), noisy(image(seed), amount)
    for side, picture in zip("ab", pictures, strict=True):
        (folder / side).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / side / name)
    x, y = (torch.from_numpy(picture).permute(2, 0, 1)[None].double() / 255 for picture in pictures)
    fields: dict[str, Any] = {
        "name": name,
        "first": str(folder / "a" / name),
        "second": str(folder / "b" / name),
        "ssim": fused_ssim.fused_ssim(x, y, train=False).item(),
        "psnr": -10 * (x - y).square().mean().log10().item(),
        "l1": (x - y).abs().mean().item(),
        "ms_ssim": None,
        "error": None,
        "notes": (),
        "shape": pictures[0].shape[:2],
        "kind": "image",
        "data_range": 255.0,
        "data_range_origin": "from dtype uint8",
        "dtype": "uint8",
    }
    return PairResult(**{**fields, **values})


def volume_pair(folder: Path, name: str = "volume.npy") -> PairResult:
    """Two volumes (12, 20, 16) that differ in one block."""
    first = torch.rand((12, 20, 16), generator=torch.Generator().manual_seed(0)).numpy()
    second = first.copy()
    second[2:6, 11:17, 3:8] = 0.5
    for side, volume in (("a", first), ("b", second)):
        (folder / side).mkdir(parents=True, exist_ok=True)
        np.save(folder / side / name, volume)
    x, y = (torch.from_numpy(volume)[None, None].double() for volume in (first, second))
    return PairResult(
        name=name,
        first=str(folder / "a" / name),
        second=str(folder / "b" / name),
        ssim=fused_ssim.fused_ssim3d(x, y, train=False).item(),
        psnr=20.0,
        l1=0.01,
        ms_ssim=None,
        error=None,
        notes=("volume.npy: a note",),
        shape=first.shape,
        kind="volume",
        data_range=1.0,
        dtype="float32",
    )


def failure(name: str = "broken.png") -> PairResult:
    """A pair that could not be scored."""
    return PairResult(name, "a", "b", None, None, None, None, f"{name}: cannot be read: <truncated>", (), ())
