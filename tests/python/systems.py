# SPDX-License-Identifier: MIT
"""What tests have to know of the system that they run on."""

from __future__ import annotations

import functools
import platform
import shutil
import sys

import pytest
import torch.distributed as dist

X86 = platform.machine() in ("x86_64", "AMD64")


@functools.cache
def gloo_is_missing() -> bool:
    """Whether torch cannot form groups of processes on CPUs, as torch for Windows since 2.7."""
    if sys.platform != "win32":
        return False
    try:
        dist.ProcessGroupGloo.create_default_device()
    except RuntimeError as error:
        return "unsupported gloo device" in str(error)
    return False


NO_GLOO = "this torch for Windows has no device for gloo"

needs_compiler = pytest.mark.skipif(
    sys.platform == "win32" and shutil.which("cl") is None, reason="inductor compiles with Microsoft's cl there"
)
