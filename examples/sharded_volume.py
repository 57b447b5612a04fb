# SPDX-License-Identifier: MIT
"""SSIM and its gradient of a volume that no process holds as a whole.

torchrun --nproc-per-node 2 examples/sharded_volume.py     # gloo on CPUs, NCCL if each process has a GPU
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from fused_ssim import fused_ssim3d
from fused_ssim.distributed import sharded_ssim

DEPTH, SIDE = 48, 32


def slab(begin: int, end: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Layers of two volumes [1, 1, D, H, W]; each process makes its own."""
    layers = [
        torch.rand((2, 1, 1, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(z)) for z in range(begin, end)
    ]
    x, noise = torch.cat(layers, dim=3).to(device)
    return x, 0.8 * x + 0.2 * noise


def main() -> None:
    """Compares the sharded value with that of the whole, which is small enough here."""
    has_gpus = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    dist.init_process_group("nccl" if has_gpus and torch.cuda.is_available() else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    device = "cpu"
    if dist.get_backend() == "nccl":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)

    begin, end = DEPTH * rank // world, DEPTH * (rank + 1) // world
    x, y = slab(begin, end, device)
    x.requires_grad_()
    value = sharded_ssim(x, y, dim=2)
    value.backward()

    whole = fused_ssim3d(*slab(0, DEPTH, device))
    difference = abs(value.item() - whole.item())
    print(
        f"rank {rank} of {world}: layers {begin} to {end - 1}, SSIM {value.item():.6f}, off by {difference:.0e}, "
        f"gradient {tuple(x.grad.shape)}"
    )
    assert difference < 1e-6
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
