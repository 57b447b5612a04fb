# SPDX-License-Identifier: MIT
"""A small network that learns to remove noise, with the photometric loss.

python examples/training_loop.py [--steps 200] [--device cuda]
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

from fused_ssim import PhotometricLoss, fused_ssim


def pictures(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Smooth random pictures [N, 3, H, W] in [0, 1]."""
    coarse = torch.rand((count, 3, 6, 6), generator=generator)
    return nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


def train(steps: int, device: str = "cpu", size: int = 48) -> tuple[float, float]:
    """SSIM of noisy pictures and of what the network makes of them."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    loss_function = PhotometricLoss(lambda_dssim=0.2)
    print(loss_function)
    for step in range(steps + 1):
        target = pictures(8, size, generator).to(device)
        noisy = target + 0.1 * torch.randn(target.shape, generator=generator).to(device)
        output = noisy + network(noisy)
        loss = loss_function(output, target)
        if step % 50 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        before, after = fused_ssim(noisy, target, train=False), fused_ssim(noisy + network(noisy), target, train=False)
    print(f"SSIM of the noisy pictures {before.item():.3f}, of the network's {after.item():.3f}")
    return before.item(), after.item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    train(arguments.steps, arguments.device)
