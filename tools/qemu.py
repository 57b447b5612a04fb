# SPDX-License-Identifier: MIT
"""Tries a wheel for Linux on aarch64 on another machine: Python, and C and C++ programs, under QEMU.

    python tools/qemu.py all dist/fused_ssim-*-cp312-abi3-*aarch64.whl TESTS    everything below
    python tools/qemu.py suite WHEEL [arguments of pytest]        tests: QEMU is slow, torch alone takes half a minute
    python tools/qemu.py command WHEEL                            fused-ssim info, demo, compare
    python tools/qemu.py programs WHEEL                           tests/cpp, tests/simulator, tests/consumer, examples
    python tools/qemu.py cuda WHEEL                               Python with the simulated device (after `programs`)

Needs Debian's qemu-user-static and mmdebstrap (apt-get install), and pip install --group release. Everything that it
downloads or writes is in build/qemu: Python and the C library of Debian for arm64, and packages, torch among them:
1 GB.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import trial

SUITE = "trixie"  # of Debian: has Python 3.13
# The plainest of 64 bits: what the wheel needs, and no more.
PROCESSOR = "cortex-a72"


class Qemu(trial.Machine):
    """A folder with files of Debian for arm64, in which QEMU looks for libraries."""

    target = "linux-aarch64"
    platform = "aarch64-manylinux_2_28"
    python_version = "3.13"
    pinned = ("torch==2.9.1",)
    left_out = ("playwright",)
    needs = (("qemu-aarch64-static", "qemu-user-static"), ("mmdebstrap", "mmdebstrap"))

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self.root = work / "root"
        self.emulator = ["qemu-aarch64-static", "-cpu", PROCESSOR, "-L", str(self.root)]
        self.python = [str(self.root / "usr" / "bin" / "emulated-python")]
        self.environment |= {"PYTHONPATH": f"{self.packages}:{self.wheel}"}

    def make(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        options = ["--architectures=arm64", "--variant=extract", "--include=python3,libstdc++6"]
        trial.run(["mmdebstrap", "--quiet", *options, SUITE, self.root])
        if not (self.root / "lib").exists():
            (self.root / "lib").symlink_to("usr/lib")
        # Python looks for its library beside the name that it is called by, and starts other processes by it.
        script = Path(self.python[0])
        command = [*self.emulator, "-0", script, script.with_name(f"python{self.python_version}")]
        words = " ".join(shlex.quote(str(word)) for word in command)
        script.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
        script.chmod(0o755)


if __name__ == "__main__":
    trial.main(Qemu, "qemu", __doc__)
