# SPDX-License-Identifier: MIT
"""Draws docs/images/masks.png: what the two modes of a mask mean. Needs matplotlib and scikit-image.

python docs/mask_picture.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch
from skimage import data
from torch import Tensor

from fused_ssim import fused_ssim, ssim_map

PICTURE = Path(__file__).parent / "images" / "masks.png"


def main() -> None:
    """Five panels: the images, the mask, and the map in both modes."""
    photograph = torch.from_numpy(data.camera()).float()[None, None, 40:296, 120:376] / 255
    noise = torch.randn(photograph.shape, generator=torch.Generator().manual_seed(0))
    rendering = (photograph + 0.02 * noise).clamp(0, 1)
    mask = torch.ones(photograph.shape, dtype=torch.bool)
    mask[..., 90:190, 70:180] = False
    rendering = torch.where(mask, rendering, torch.ones(()))  # something quite wrong, which must not matter

    panels: list[tuple[str, Tensor, str]] = [
        ("photograph", photograph, "gray"),
        ("rendering, wrong in a block", rendering, "gray"),
        ("mask: the block is out", mask.float(), "gray"),
    ]
    explanations = {
        "weight": "windows see the block:\nits rim is scored low",
        "normalized": "windows see pixels under\nthe mask alone: no rim",
    }
    for mode, explanation in explanations.items():
        settings = {"mask": mask, "mask_mode": mode}
        mean = float(fused_ssim(photograph, rendering, train=False, **settings))  # type: ignore[arg-type]
        values = ssim_map(photograph, rendering, train=False, **settings)  # type: ignore[arg-type]
        panels.append((f'mask_mode="{mode}": mean {mean:.3f}\n{explanation}', values.where(mask, torch.nan), "viridis"))
    figure, axes = plt.subplots(1, len(panels), figsize=(15, 3.9), layout="constrained")
    for axis, (title, image, colours) in zip(axes, panels, strict=True):
        shown = axis.imshow(image[0, 0].numpy(), cmap=colours, vmin=0, vmax=1)
        axis.set_title(title, fontsize=10)
        axis.set(xticks=[], yticks=[])
    figure.colorbar(shown, ax=axes[-1], label="SSIM", shrink=0.8)
    figure.savefig(PICTURE, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
