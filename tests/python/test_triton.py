# SPDX-License-Identifier: MIT
"""Kernels of Triton: their results in Triton's interpreter, and that they compile for GPUs that are not here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

FOLDER = Path(__file__).parent


def test_cases_pass_in_the_interpreter():
    # In a process of its own: Triton decides at import whether it interprets.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(FOLDER / "triton_cases.py")],
        env={**os.environ, "FUSED_SSIM_BACKEND": "auto", "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


# AMD's MI300 and RX 7000, and the threads of their warps.
@pytest.mark.parametrize(("arch", "threads"), [("gfx942", "64"), ("gfx1100", "32")])
def test_kernels_compile_for_amd_without_spills(tmp_path, arch, threads):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(FOLDER / "triton_compiled.py"), "hip", arch, threads],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    kernels = [line.split() for line in done.stdout.splitlines()]
    assert len(kernels) == 5
    for name, size, *spills in kernels:
        assert int(size) > 1000, name
        assert spills
        assert set(spills) == {"0"}, f"{name} has more values than registers"
