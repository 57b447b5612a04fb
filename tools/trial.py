# SPDX-License-Identifier: MIT
"""What is tried with a wheel for another system than this one, on an emulated machine: tools/wine.py, tools/qemu.py."""

from __future__ import annotations

import abc
import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import wheels

ROOT = Path(__file__).resolve().parent.parent

TWO_PICTURES = """
import numpy
from PIL import Image

pixels = numpy.random.default_rng(1).integers(0, 256, (70, 90, 3), "u1")
Image.fromarray(pixels).save("один.png")
Image.fromarray(pixels // 2).save("две 2.png")
"""


def run(command: Sequence[str | Path], **options: object) -> None:
    print("$", *command, flush=True)
    subprocess.run(command, check=True, **options)  # type: ignore[call-overload]


class Machine(abc.ABC):
    """Another system, with a Python and packages in a folder, which are made if they are not there."""

    target: str  # a key of wheels.TARGETS
    platform: str  # the name that uv has for it
    python_version: str
    pinned: tuple[str, ...]  # requirements
    left_out: tuple[str, ...]  # the beginnings of requirements that cannot be used there
    deselected: tuple[str, ...] = ()  # the beginnings of tests that end the process there
    needs: tuple[tuple[str, str], ...]  # programs, and Debian's packages with them
    emulator: list[str]  # the command that runs a program of that system
    python: list[str]  # the command that runs its Python

    def __init__(self, work: Path) -> None:
        self.work = work
        self.packages = work / "packages"
        self.wheel = work / "wheel"
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1"}

    @abc.abstractmethod
    def make(self) -> None:
        """The system and its Python, but no packages."""

    def simulator(self, folder: Path) -> dict[str, str]:
        """The environment in which a process finds the simulated CUDA device of that folder."""
        return {"LD_LIBRARY_PATH": str(folder)}

    def prepare(self) -> None:
        missing = [package for program, package in self.needs if shutil.which(program) is None]
        if missing:
            sys.exit(f"Missing: apt-get install {' '.join(missing)}")
        self.work.mkdir(parents=True, exist_ok=True)
        if not Path(self.python[-1]).is_file():
            self.make()
        if not self.packages.is_dir():
            self._install_packages()

    def _install_packages(self) -> None:
        project = wheels.read_project()
        extras = project["project"]["optional-dependencies"]
        wanted = [*project["project"]["dependencies"], *self.pinned, "setuptools"]
        for extra in ("cli", "video", "dicom", "exr", "demo", "metrics", "test"):
            wanted += [need for need in extras[extra] if not need.startswith(("fused-ssim", *self.left_out))]
        self.install(wanted, self.packages)

    def install(self, requirements: list[str], folder: Path, *options: str) -> None:
        # uv and not pip, which would take the conditions of requirements for those of this system.
        platform = ["--python-platform", self.platform, "--python-version", self.python_version]
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, *platform]
        run([*command, "--only-binary", ":all:", "--target", folder, *options, *requirements])

    def install_wheel(self, wheel: Path) -> Path:
        """The wheel alone; returns the folder of the package."""
        stamp = self.work / "wheel.sha256"
        line = f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}\n"
        print(line, end="", flush=True)
        if not stamp.is_file() or stamp.read_text(encoding="utf-8") != line:
            stamp.unlink(missing_ok=True)
            shutil.rmtree(self.wheel, ignore_errors=True)
            self.install([str(wheel)], self.wheel, "--no-deps")
            stamp.write_text(line, encoding="utf-8")
        return self.wheel / "fused_ssim"

    def run(self, command: Sequence[str | Path], folder: Path = ROOT, more: dict[str, str] | None = None) -> None:
        """Runs `command`, with `more` in its environment.

        Its output goes through a pipe: Python under Wine refuses some other handles.
        """
        print("$", *command, flush=True)
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment | (more or {}),
        )
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.buffer.write(line.replace(b"\r\n", b"\n"))
            sys.stdout.flush()
        if process.wait() != 0:
            sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}")


class Trial:
    """A wheel, unpacked, and what is done with it."""

    def __init__(self, machine: Machine, wheel: Path, arguments: list[str]) -> None:
        self.machine = machine
        self.package = machine.install_wheel(wheel)
        self.programs_folder = machine.work / "programs"
        self.arguments = arguments  # of pytest

    def suite(self) -> None:
        """The test suite, or a part of it, with torch for that system."""
        options = ["-p", "no:cacheprovider", *(f"--deselect={test}" for test in self.machine.deselected)]
        self.machine.run([*self.machine.python, "-m", "pytest", *options, *self.arguments])

    def command(self) -> None:
        """`fused-ssim`, in a folder whose name has spaces and letters of several alphabets."""
        folder = self.machine.work / "Bilder für Σ 画像"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        fused_ssim = [*self.machine.python, "-m", "fused_ssim"]
        self.machine.run([*fused_ssim, "info"], folder)
        self.machine.run([*fused_ssim, "demo", "--out", "Demo 示例"], folder)
        self.machine.run([*self.machine.python, "-c", TWO_PICTURES], folder)
        compare = [*fused_ssim, "compare"]
        self.machine.run([*compare, "один.png", "две 2.png", "--map", "Karte ö.png"], folder)
        self.machine.run([*compare, ".", ".", "--csv", "Wert é.csv", "--report", "Bericht ß"], folder)
        missing = [name for name in ("Karte ö.png", "Wert é.csv", "Bericht ß") if not (folder / name).exists()]
        if missing:
            sys.exit(f"fused-ssim compare did not write {missing}")

    def programs(self) -> None:
        """C and C++ with the library of the wheel: tests of the C interface, the simulated device, users' projects."""
        toolchain = wheels.write_toolchain(self.machine.work / "zig", self.machine.target)
        options = ["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_TOOLCHAIN_FILE={toolchain}"]
        options += [f"-DFusedSSIM_DIR={self.package}/lib/cmake/FusedSSIM"]
        options += [f"-DCMAKE_CROSSCOMPILING_EMULATOR={';'.join(self.machine.emulator)}"]
        options += ["-DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit=ON"]  # what is there is for this machine
        for source in ("tests", "tests/consumer", "examples"):
            build = self.programs_folder / source
            run(["cmake", "-S", ROOT / source, "-B", build, *options])
            run(["cmake", "--build", build])
            run(["ctest", "--test-dir", build, "--output-on-failure"], env=self.machine.environment)

    def cuda(self) -> None:
        """The CUDA backend from Python, on the simulated device that `programs` built."""
        device = self.machine.simulator(self.programs_folder / "tests" / "simulator")
        tests = "tests/simulator/test_from_python.py"
        self.machine.run([*self.machine.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests], more=device)


COMMANDS = ("suite", "command", "programs", "cuda")


def main(machine_type: type[Machine], default: str, text: str | None) -> None:
    """The command line of a machine; `default` is its folder in build/."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["all", *COMMANDS])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / default)
    arguments, others = parser.parse_known_args()
    machine = machine_type(arguments.work.resolve())
    machine.prepare()
    trial = Trial(machine, arguments.wheel, others)
    for name in COMMANDS if arguments.command == "all" else [arguments.command]:
        getattr(trial, name)()
