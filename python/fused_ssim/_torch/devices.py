# SPDX-License-Identifier: MIT
"""Devices: by what a call is computed on each, and how the native library is called. The only list of them here."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch

from .._base import backends, codes

if TYPE_CHECKING:
    from collections.abc import Callable


class Device(NamedTuple):
    """A kind of device.

    Attributes:
        code: of the native library.
        where: for the index of a device, the function that says how a call runs there now: on how many threads (the
            CPU), or on which stream.

    """

    code: int
    where: Callable[[int], Callable[[], int]]


def _public_current_stream(device_index: int) -> int:
    return int(torch.cuda.current_stream(device_index).cuda_stream)


# The raw call spares building a Stream object; it is what torch's own compiled code uses, but is not documented.
_current_stream: Callable[[int], int] = getattr(torch._C, "_cuda_getCurrentRawStream", _public_current_stream)

# By torch.device.type.
DEVICES: dict[str, Device] = {
    "cpu": Device(codes.DEVICES["cpu"], lambda _index: torch.get_num_threads),
    "cuda": Device(codes.DEVICES["cuda"], lambda index: partial(_current_stream, index)),
}


def has_kernels(device_type: str) -> bool:
    """Whether the native library may compute with the memory of such devices."""
    # torch for ROCm calls AMD's GPUs "cuda", too.
    return device_type in DEVICES and not (device_type == "cuda" and torch.version.hip)


def backend_of(device_type: str, backend: str) -> str:
    """What computes there under that setting: "native", "torch" or "triton"."""
    if backend == "auto":
        if has_kernels(device_type):
            return "native"
        return "torch" if backends.triton_problem(device_type) else "triton"
    return backend
