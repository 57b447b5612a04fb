# SPDX-License-Identifier: MIT
"""The training step of 3D Gaussian splatting, 0.8 * L1 + 0.2 * (1 - SSIM): separate terms against one call.

Fits a picture of blurred spots (position, size and colour of each) twice, and prints how far the losses of the two fits
are apart and how long the loss takes in each, forward and backward.

python examples/splatting_step.py [--steps 200] [--height 1080 --width 1920] [--device cuda]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fused_ssim import fused_ssim, photometric_loss

if TYPE_CHECKING:
    from collections.abc import Callable


def separate_terms(image: Tensor, target: Tensor) -> Tensor:
    """What training codes have."""
    return 0.8 * (image - target).abs().mean() + 0.2 * (1.0 - fused_ssim(image, target))


def one_call(image: Tensor, target: Tensor) -> Tensor:
    """What replaces it."""
    return photometric_loss(image, target, 0.2)


class Spots(torch.nn.Module):
    """A picture [1, 3, H, W] as a sum of Gaussian spots."""

    def __init__(self, count: int, height: int, width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.center = torch.nn.Parameter(torch.rand((count, 2), generator=generator))
        self.log_size = torch.nn.Parameter(torch.full((count,), -2.5))
        self.colour = torch.nn.Parameter(torch.rand((count, 3), generator=generator) * 0.5)
        self.register_buffer("rows", torch.linspace(0, 1, height))
        self.register_buffer("columns", torch.linspace(0, 1, width))

    def forward(self) -> Tensor:
        """The picture."""
        scale = 0.5 / (2 * self.log_size).exp()[:, None]
        rows = torch.exp(-scale * (self.rows - self.center[:, :1]) ** 2)
        columns = torch.exp(-scale * (self.columns - self.center[:, 1:]) ** 2)
        return torch.einsum("nh,nw,nc->chw", rows, columns, self.colour)[None].sigmoid()


def fit(
    loss_function: Callable[[Tensor, Tensor], Tensor], steps: int, height: int, width: int, device: str
) -> list[float]:
    """The loss at each step."""
    target = Spots(40, height, width, seed=1).to(device)().detach()
    model = Spots(40, height, width, seed=2).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_function(model(), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


def milliseconds(
    loss_function: Callable[[Tensor, Tensor], Tensor], height: int, width: int, device: str, rounds: int
) -> float:
    """The median time of the loss and its gradient."""
    image, target = torch.rand((2, 1, 3, height, width)).to(device)
    image.requires_grad_()
    times = []
    for _ in range(rounds):
        if device != "cpu":
            torch.cuda.synchronize()
        start = time.perf_counter()
        torch.autograd.grad(loss_function(image, target), image)
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[rounds // 4 :])


def main(steps: int, height: int, width: int, device: str, rounds: int = 20) -> float:
    """Prints the comparison; gives the largest difference of the losses."""
    separate, together = (fit(function, steps, height, width, device) for function in (separate_terms, one_call))
    difference = max(abs(a - b) for a, b in zip(separate, together, strict=True))
    print(f"{steps} steps at {width} x {height}: loss {together[0]:.4f} -> {together[-1]:.4f}, ", end="")
    print(f"largest difference between the two fits {difference:.1e}")
    before, after = (milliseconds(function, height, width, device, rounds) for function in (separate_terms, one_call))
    print(f"loss and gradient: separate terms {before:.3f} ms, one call {after:.3f} ms, ", end="")
    print(f"{before / after:.2f} times as fast")
    return difference


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--height", type=int, default=270)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    main(arguments.steps, arguments.height, arguments.width, arguments.device)
