# SPDX-License-Identifier: MIT
"""A picture fitted to a photograph with a hole: what lies in the hole must not matter.

The hole (say, a passer-by) is white in the target. Without a mask the fit becomes white there. With a mask as a weight
the hole is not scored, but windows at its edge still see the white. With mask_mode="normalized" no window sees it: the
hole keeps what it was.

python examples/masked_fit.py [--steps 150]
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from fused_ssim import photometric_loss


def scene(size: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """The scene, the photograph of it, and the mask: True where the photograph can be trusted."""
    t = torch.linspace(0, 6, size)
    clean = (0.5 + 0.3 * torch.sin(2 * t)[:, None] * torch.cos(3 * t)[None, :]).expand(1, 3, size, size).clone()
    trusted = torch.ones((size, size), dtype=torch.bool)
    trusted[size // 3 : size // 2, size // 3 : 2 * size // 3] = False
    return clean, torch.where(trusted, clean, torch.ones(())), trusted


def fit(photograph: Tensor, start: Tensor, steps: int, **mask: object) -> Tensor:
    """The picture that the loss leads to."""
    picture = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([picture], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        photometric_loss(picture, photograph, 0.8, **mask).backward()  # type: ignore[arg-type]
        optimizer.step()
    return picture.detach()


def main(steps: int) -> dict[str, float]:
    """How far each fit is from the scene, at trusted pixels near the hole and inside it."""
    clean, photograph, trusted = scene()
    start = torch.full_like(clean, 0.5)
    errors = {}
    for name, mask in {
        "no mask": {},
        "weight": {"mask": trusted},
        "normalized": {"mask": trusted, "mask_mode": "normalized"},
    }.items():
        picture = fit(photograph, start, steps, **mask)
        change = (picture - start).abs()[..., ~trusted].mean().item()
        error = (picture - clean).abs()[..., trusted].mean().item()
        print(f"{name:10s}  mean error where the mask is on {error:.4f}, mean change in the hole {change:.4f}")
        errors[name] = change
    return errors


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    main(parser.parse_args().steps)
