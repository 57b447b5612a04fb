# SPDX-License-Identifier: MIT
"""By what a call with tensors is computed: the setting of the process, and that of a block of code."""

from __future__ import annotations

import importlib.util
import os
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING

from .arguments import choice
from .codes import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

VARIABLE = "FUSED_SSIM_BACKEND"

# Kinds of devices for which torch comes with Triton. Its interpreter is for tests.
_TRITON_DEVICES = ("cuda", "xpu")
_INTERPRETER = "TRITON_INTERPRET"

_chosen: ContextVar[str | None] = ContextVar("fused_ssim.backend", default=None)


def backend(name: str) -> AbstractContextManager[None]:
    """Has calls with tensors computed by another backend, inside a ``with`` block.

    Without it, ``"auto"`` holds: the native library computes on the CPU and on CUDA devices of NVIDIA, and plain
    operations of torch on all others, such as ``mps``, ``xpu`` and ROCm's ``cuda``. Plain operations give the same
    values but for rounding, also gradients, masks and whatever else a call may ask for; they are slower. So on ``xpu``
    and ROCm, where torch comes with Triton, kernels of Triton compute SSIM and photometric losses in float32 arithmetic
    with padding ``"same"`` or ``"valid"``, without a mask, a map or data ranges in a tensor. They were not yet run on
    these devices: at their first use they are compared with plain operations, which take over with a warning if the
    results differ. ``fused_ssim.info().routes`` says what computes on which device, and why.

    A block holds for the calls of its thread, or of its asynchronous task, and for their backward. Blocks nest. The
    environment variable ``FUSED_SSIM_BACKEND`` has the same names and holds for the process, outside of blocks. What
    ``torch.compile`` has compiled keeps the backend under which it was compiled. ``fused_ssim.array`` is always native.

    Args:
        name: ``"torch"``: plain operations of torch, on any device. ``"native"``: the native library; on a device that
            it does not know, a call is an error. ``"triton"``: kernels of Triton, and plain operations for what they
            lack; on a device for which Triton has no compiler, a call is an error. ``"auto"``: as each device has it.

    Returns:
        A context manager; as a decorator, it holds for the calls of a function.

    Raises:
        TypeError: the name is not a string.
        ValueError: the name is none of the four.

    Example:
        >>> with fused_ssim.backend("torch"):
        ...     loss = 1 - fused_ssim.fused_ssim(prediction, target)

    """
    return _using(choice(BACKENDS)("name", name))


@contextmanager
def _using(name: str) -> Iterator[None]:
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def current() -> str:
    """The setting that holds here: a key of ``BACKENDS``."""
    return _chosen.get() or of_process()


@lru_cache(maxsize=1)
def of_process() -> str:
    """The setting of the environment variable, read once."""
    name = os.environ.get(VARIABLE) or "auto"
    return choice(BACKENDS)(VARIABLE, name)


def triton_problem(device_type: str) -> str:
    """Why kernels of Triton cannot run on such devices; empty if they may."""
    if device_type not in _TRITON_DEVICES and not (device_type == "cpu" and os.environ.get(_INTERPRETER) == "1"):
        return "Triton has no code for it"
    return "" if importlib.util.find_spec("triton") else "Triton is not installed"
