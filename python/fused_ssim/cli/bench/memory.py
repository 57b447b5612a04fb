# SPDX-License-Identifier: MIT
"""Peak extra memory of one call: beyond the two images, with the results alive."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from fused_ssim.cli.bench.cases import MODES, Shape
from fused_ssim.cli.bench.libraries import Call, find
from fused_ssim.cli.bench.timing import Inputs

CHILD_SECONDS = 120
RESET = Path("/proc/self/clear_refs")  # of Linux: starts the peak anew


def cuda_peak(call: Call, inputs: Inputs, device: torch.device) -> int:
    """What PyTorch's allocator hands out at most during a call."""
    inputs.rotate(call, 1)
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = call(*inputs.pairs[0])
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) - before
    del result
    return peak


def cpu_peaks(library: str, shapes: list[Shape]) -> list[dict[str, Any]]:
    """Growth of the peak resident memory, in a process of its own: one entry for each shape and mode."""
    if not RESET.exists():
        return not_measured(shapes, f"on the CPU it is measured on Linux only ({RESET} is missing)")
    task = json.dumps({"library": library, "shapes": shapes, "threads": torch.get_num_threads()})
    # Freed memory goes back to the system at once, so that a call cannot hide in memory that an earlier one left.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "fused_ssim.cli.bench.memory", task]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        return not_measured(shapes, f"took more than {CHILD_SECONDS} s")
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines()
        return not_measured(shapes, lines[-1] if lines else f"exit code {child.returncode}")
    entries: list[dict[str, Any]] = json.loads(child.stdout.splitlines()[-1])
    return entries


def not_measured(shapes: list[Shape], reason: str) -> list[dict[str, Any]]:
    """The entries of :func:`cpu_peaks` where there is nothing but a reason."""
    return [{"shape": list(shape), "mode": mode, "bytes": None, "reason": reason} for shape in shapes for mode in MODES]


def _child(task: dict[str, Any]) -> list[dict[str, Any]]:
    torch.set_num_threads(task["threads"])
    library = next(found for found in find(names=[task["library"]])[0] if found.name == task["library"])
    entries = []
    for shape in map(tuple, task["shapes"]):
        small = (*shape[:2], *(min(size, 24) for size in shape[2:]))
        for mode in MODES:
            call = library.prepare(mode, len(shape) - 2)
            if call is None:
                continue
            # Threads, code and libraries come into memory with the first call.
            Inputs(small, "float32", mode, torch.device("cpu")).rotate(call, 2)
            inputs = Inputs(shape, "float32", mode, torch.device("cpu"))
            gc.collect()
            RESET.write_text("5", encoding="ascii")
            before = _status("VmRSS")
            result = call(*inputs.pairs[0])
            entries.append({"shape": list(shape), "mode": mode, "bytes": max(_status("VmHWM") - before, 0)})
            del result, inputs
    return entries


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    print(json.dumps(_child(json.loads(sys.argv[1]))))
