# SPDX-License-Identifier: MIT
"""SSIM of two folders of images with the same names: each image, and the mean. Needs pillow, numpy and torchmetrics.

python examples/folder_metric.py renderings/ photographs/
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fused_ssim.metrics import SSIMMetric


def read(path: Path) -> Tensor:
    """An image as [1, 3, H, W], values in [0, 255]."""
    with Image.open(path) as image:
        values = np.asarray(image.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(values.copy()).permute(2, 0, 1)[None]


def main(first: Path, second: Path) -> float:
    """Prints the scores and gives their mean."""
    names = sorted({path.name for path in first.iterdir()} & {path.name for path in second.iterdir()})
    if not names:
        sys.exit(f"{first} and {second} have no names in common")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mean = SSIMMetric(data_range=255).to(device)
    for name in names:
        score = mean(read(first / name).to(device), read(second / name).to(device))
        print(f"{name:30s} {score.item():.6f}")
    print(f"{'mean':30s} {mean.compute().item():.6f}")
    return float(mean.compute())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    arguments = parser.parse_args()
    main(arguments.first, arguments.second)
