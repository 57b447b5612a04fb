"""What the commands share: errors, optional packages, the choice of the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
import torch

import fused_ssim

Command = TypeVar("Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """An error that the user can understand and mend: one line on stderr, exit code 1."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports of packages of the extra `name`: a missing one becomes a line that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "fused_ssim":
            raise
        missing = error.name.partition(".")[0]
        raise Failure(
            f"this needs the Python package '{missing}', which is not installed: pip install 'fused-ssim[{name}]'"
        ) from error


def device_option(command: Command) -> Command:
    """The option --device of a command."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Where to compute; auto takes CUDA if it can be used.",
    )(command)


def pick_device(name: str) -> torch.device:
    """The device for the value of --device."""
    if name == "cpu":
        return torch.device("cpu")
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
