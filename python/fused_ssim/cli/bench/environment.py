# SPDX-License-Identifier: MIT
"""Where the figures come from: date, commit, versions, device."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import fused_ssim
from fused_ssim.cli.bench.libraries import Library
from fused_ssim.cli.bench.timing import query_gpu


def describe(device: torch.device, libraries: list[Library], commit: str | None) -> dict[str, Any]:
    """The environment of a run, as it goes into the JSON file."""
    info = dataclasses.asdict(fused_ssim.info())
    build = {name: info[name] for name in ("cuda_built", "cuda_architectures", "cuda_compiler", "cpu_isa")}
    on_cuda = device.type == "cuda"
    return {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit or _commit(),
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if on_cuda else _cpu_name(),
        "driver": (query_gpu(device, "driver_version") or None) if on_cuda else None,
        "cuda": torch.version.cuda if on_cuda else None,
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        # Above the number of CPUs that were idle, others were at work, and times on the CPU mean little.
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "threads": torch.get_num_threads(),
        # Convolutions, so pytorch-msssim, torchmetrics and MONAI: whether they may round their inputs to 10 bits.
        "tf32": torch.backends.cudnn.allow_tf32 if on_cuda else None,
        "system": platform.platform(),
        "build": build,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            **_versions("numpy", "matplotlib"),
            **{library.name: library.version for library in libraries},
        },
    }


def _versions(*names: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in names if importlib.util.find_spec(name)}


def _commit() -> str | None:
    """The commit of the checkout in which the command runs, if it is one of this project; `-dirty` if it is changed."""
    try:
        root = Path(_git("rev-parse", "--show-toplevel"))
        if not (root / "include" / "fusedssim" / "fusedssim.h").exists():
            return None
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "include", "python", "cmake")
        return _git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
