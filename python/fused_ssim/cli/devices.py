# SPDX-License-Identifier: MIT
"""The choice of the device that a command computes on."""

from __future__ import annotations

import torch

import fused_ssim
from fused_ssim.cli.common import Failure


def pick_device(name: str) -> torch.device:
    """The device for the value of --device."""
    if name not in ("auto", "cuda"):
        return torch.device(name)
    problem = cuda_problem()
    if not problem:
        return torch.device("cuda", next(i for i, device in enumerate(fused_ssim.info().devices) if device.usable))
    if name == "cuda":
        raise Failure(f"CUDA cannot be used: {problem}")
    return torch.device("cpu")


def cuda_problem() -> str:
    """Why CUDA cannot be used here and what to do about it; empty if it can."""
    info = fused_ssim.info()
    if info.cuda_problem:
        return info.cuda_problem
    if not torch.cuda.is_available():
        return (
            f"PyTorch {torch.__version__} cannot use the GPU; install a CUDA build of it: "
            "https://pytorch.org/get-started/locally/"
        )
    if not any(device.usable for device in info.devices):
        return "this library has no code for the GPUs of this machine; build it for their architecture"
    return ""


def describe_device(device: torch.device) -> str:
    """The device for people: "cpu", or "cuda:0 (NVIDIA H200)"."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
