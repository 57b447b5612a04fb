# SPDX-License-Identifier: MIT
"""Draws the pictures of docs/gallery.md into docs/images. Needs matplotlib and scikit-image.

python docs/gallery.py [FOLDER]
"""

from __future__ import annotations

import functools
import io
import math
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from skimage import data
from torch import Tensor
from torch.nn import functional

from fused_ssim import fused_ssim, ssim_map, value_and_grad

IMAGES = Path(__file__).parent / "images"
PSNR = 24.0


def photograph() -> Tensor:
    """[1, 3, 240, 300], values from 0 to 1."""
    return torch.from_numpy(data.chelsea()[20:260, 90:390]).permute(2, 0, 1)[None].float() / 255


def blurred(picture: Tensor, sigma: float) -> Tensor:
    """With a Gaussian."""
    radius = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).expand(3, 1, 1, -1)
    padded = functional.pad(picture, (radius,) * 4, mode="reflect")
    across = functional.conv2d(padded, taps, groups=3)
    return functional.conv2d(across, taps.transpose(2, 3), groups=3)


def compressed(picture: Tensor, quality: float) -> Tensor:
    """By JPEG."""
    buffer = io.BytesIO()
    pixels = (255 * picture[0]).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=round(quality))
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)[None].float() / 255


@functools.cache
def distorted() -> dict[str, Tensor]:
    """Pictures that are wrong in different ways, as much as makes the same mean squared error."""
    clean = photograph()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    ways = {
        "brighter": lambda amount: clean + amount,
        "more contrast": lambda amount: clean.mean() + (1 + 5 * amount) * (clean - clean.mean()),
        "noise": lambda amount: clean + amount * noise,
        "blur": lambda amount: blurred(clean, 40 * amount),
        "JPEG": lambda amount: compressed(clean, 40 - 300 * amount),
    }
    found = {}
    for name, way in ways.items():
        low, high = 1e-3, 0.13
        for _ in range(16):  # bisection
            middle = (low + high) / 2
            wrong = way(middle).clamp(0, 1)
            error = (wrong - clean).square().mean().item()
            low, high = (middle, high) if error < 10 ** (-PSNR / 10) else (low, middle)
        found[name] = wrong
    return found


def bare(axes: np.ndarray) -> None:
    """No ticks."""
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])


def save(figure: plt.Figure, path: Path) -> None:
    """As a PNG of 256 colours, which is a third as large."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80, metadata={"Software": None})
    plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def draw_distortions(path: Path) -> None:
    """The same PSNR, and what SSIM says."""
    clean = photograph()
    pictures = {"photograph": clean, **distorted()}
    figure, axes = plt.subplots(2, len(pictures), figsize=(15, 4.4), layout="constrained")
    for column, (name, picture) in enumerate(pictures.items()):
        error = (picture - clean).square().mean().item()
        score = fused_ssim(picture, clean, train=False).item()
        title = f"{name}\nSSIM {score:.3f}" + (f", PSNR {-10 * math.log10(error):.1f} dB" if error else "")
        axes[0, column].imshow(picture[0].permute(1, 2, 0))
        axes[0, column].set_title(title, fontsize=10)
        values = ssim_map(picture, clean, train=False)[0].mean(0)
        shown = axes[1, column].imshow(values, vmin=0, vmax=1)
    bare(axes)
    figure.colorbar(shown, ax=axes[1, -1], label="SSIM")
    save(figure, path)


def draw_windows(path: Path) -> None:
    """One pair, and the map with windows of different sizes."""
    clean = photograph()
    wrong = clean.clone()
    wrong[..., 100:160, 60:140] = blurred(clean, 2.5)[..., 100:160, 60:140]
    figure, axes = plt.subplots(1, 5, figsize=(15, 2.9), layout="constrained")
    axes[0].imshow(wrong[0].permute(1, 2, 0))
    axes[0].set_title("blurred in a block", fontsize=10)
    for axis, size in zip(axes[1:], (5, 11, 21, 33), strict=True):
        settings = {"window_size": size, "sigma": 1.5 * size / 11}
        values = ssim_map(wrong, clean, train=False, **settings)[0].mean(0)
        shown = axis.imshow(values, vmin=0, vmax=1)
        axis.set_title(f"window_size={size}, sigma={settings['sigma']:.2g}", fontsize=10)
    bare(axes)
    figure.colorbar(shown, ax=axes[-1], label="SSIM")
    save(figure, path)


def draw_gradients(path: Path) -> None:
    """What a pixel is told by L1 and by SSIM."""
    clean = photograph()
    wrong = blurred(clean, 2.0)
    ssim = -value_and_grad(wrong, clean)[1][0].mean(0)
    l1 = torch.sign(wrong - clean)[0].mean(0)
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.4), layout="constrained")
    for axis, picture, title in ((axes[0], clean, "target"), (axes[1], wrong, "picture: blurred")):
        axis.imshow(picture[0].permute(1, 2, 0))
        axis.set_title(title, fontsize=10)
    for axis, gradient, title in ((axes[2], l1, "gradient of L1"), (axes[3], ssim, "gradient of 1 - SSIM")):
        end = gradient.abs().quantile(0.99).item()
        axis.imshow(gradient, cmap="RdBu", vmin=-end, vmax=end)
        axis.set_title(title, fontsize=10)
    bare(axes)
    save(figure, path)


PICTURES = {
    "gallery-distortions.png": draw_distortions,
    "gallery-windows.png": draw_windows,
    "gallery-gradients.png": draw_gradients,
}


def main(folder: Path = IMAGES) -> None:
    """Draws all."""
    for name, draw in PICTURES.items():
        draw(folder / name)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
