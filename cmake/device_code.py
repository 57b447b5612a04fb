# SPDX-License-Identifier: MIT
"""Compiles and packs the device code; DeviceCode.cmake calls it.

    device_code.py find     which compiler there is, and whether it knows the wanted architectures
    device_code.py compile  one unit for one architecture -> a cubin, or PTX
    device_code.py pack     all images -> one file and an index of it

The compiler is NVRTC (a library, called through ctypes; it needs no GPU, driver or toolkit) or a given nvcc.
This file uses nothing but the standard library and runs on Python 3.8 and later.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import ctypes
import glob
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

NVRTC_PACKAGE = "nvidia-cuda-nvrtc-cu12==12.9.*"
CACHE_VARIABLE = "FUSEDSSIM_DEVICE_CODE_CACHE"  # a folder: images that several builds share are compiled once
ARCHITECTURE_LISTS = Path(__file__).with_name("architectures.txt")
OLDEST_ARCHITECTURE = 70  # kernel parameters marked __grid_constant__ need it
INSTRUCTION_BITS = 4  # an instruction of a GPU has 2^4 bytes
WARNING = re.compile(r"\): warning ")  # of the source; those of options and old architectures name no line

NO_COMPILER = f"""CUDA support was asked for, and no compiler for device code was found.
Looked for libnvrtc.so in the Python packages of {{python}}
and in the toolkits at {{roots}}.
One of these helps:
  1. Let pip build in isolation (its default), which installs NVRTC for the build; or install it for the Python above:
       {{python}} -m pip install "{NVRTC_PACKAGE}"
  2. Name a compiler: FUSEDSSIM_NVCC=/path/to/nvcc, or -DFUSEDSSIM_NVRTC=/path/to/libnvrtc.so
  3. Build without CUDA: FUSEDSSIM_CUDA=off (with pip), -DFUSEDSSIM_CUDA=OFF (with CMake)"""


def fail(message: str) -> NoReturn:
    sys.exit(message)


class Nvrtc:
    """The NVRTC library at a path."""

    def __init__(self, path: str) -> None:
        self.path = path
        # The wheel of NVRTC 13.0 does not find its second library by itself; one that is already loaded is found.
        for builtins in glob.glob(os.path.join(glob.escape(os.path.dirname(path)), "libnvrtc-builtins.so.*")):
            ctypes.CDLL(builtins)
        try:
            self.library = ctypes.CDLL(path)
        except OSError as error:
            fail(
                f"NVRTC cannot be loaded: {error}\n"
                "If it was in a build environment that is gone by now, configure the build again."
            )
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.check(self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
        self.name = f"NVRTC {major.value}.{minor.value}"

    def check(self, status: int, what: str) -> None:
        if status != 0:
            fail(f"{what} failed: {self.library.nvrtcGetErrorString(status).decode()} ({self.path})")

    def architectures(self) -> list[int]:
        count = ctypes.c_int()
        self.check(self.library.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "nvrtcGetNumSupportedArchs")
        values = (ctypes.c_int * count.value)()
        self.check(self.library.nvrtcGetSupportedArchs(values), "nvrtcGetSupportedArchs")
        return sorted(values)

    def _bytes(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self.check(getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)), f"nvrtcGet{what}Size")
        buffer = ctypes.create_string_buffer(size.value)
        self.check(getattr(self.library, f"nvrtcGet{what}")(program, buffer), f"nvrtcGet{what}")
        return buffer.raw

    def compile(self, source: Path, target: str, options: list[str]) -> tuple[bytes, str]:
        """The image, and what the compiler says."""
        program = ctypes.c_void_p()
        status = self.library.nvrtcCreateProgram(
            ctypes.byref(program), source.read_bytes(), os.fsencode(source), 0, None, None
        )
        self.check(status, "nvrtcCreateProgram")
        arguments = [os.fsencode(option) for option in [f"--gpu-architecture={target}", *options]]
        status = self.library.nvrtcCompileProgram(
            program, len(arguments), (ctypes.c_char_p * len(arguments))(*arguments)
        )
        log = self._bytes(program, "ProgramLog").rstrip(b"\0\n").decode(errors="replace")
        if log:
            print(log, file=sys.stderr, flush=True)
        self.check(status, f"{self.name}: compiling {source} for {target}")
        return self._bytes(program, "PTX" if target.startswith("compute_") else "CUBIN"), log


class Nvcc:
    """The nvcc program at a path."""

    def __init__(self, path: str) -> None:
        self.path = path
        version = re.search(r"release (\d+\.\d+)", self._run("--version"))
        if version is None:
            fail(f"{path} --version does not look like nvcc's")
        self.name = f"nvcc {version.group(1)}"

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [self.path, *arguments], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            fail(f"FUSEDSSIM_NVCC: {self.path} cannot be run: {error}")
        said = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            sys.stderr.write(said)
            sys.exit(done.returncode)
        return said

    def architectures(self) -> list[int]:
        return sorted({int(number) for number in re.findall(r"sm_(\d+)$", self._run("--list-gpu-code"), re.MULTILINE)})

    def compile(self, source: Path, target: str, options: list[str]) -> tuple[bytes, str]:
        """The image, and what the compiler says."""
        kind = "-ptx" if target.startswith("compute_") else "-cubin"
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "image"
            log = self._run(kind, f"-arch={target}", *options, "-x", "cu", str(source), "-o", str(output))
            print(log, end="", file=sys.stderr, flush=True)
            return output.read_bytes(), log


def nvrtc_candidates(roots: list[str]) -> list[str]:
    """NVRTC libraries of the Python packages (12.x before 13.x, which needs newer drivers), then of toolkits."""
    # pip's build isolation spreads the packages of one name space over several folders, so ask Python for all of them.
    spec = importlib.util.find_spec("nvidia")
    found = []
    for package in (spec.submodule_search_locations or []) if spec else []:
        found += glob.glob(os.path.join(glob.escape(package), "*", "lib", "libnvrtc.so.*"))
    found.sort(key=lambda path: [int(part) for part in re.findall(r"\d+", os.path.basename(path))])
    for root in roots:
        for folder in ("lib64", "targets/*/lib", "lib"):
            found += sorted(glob.glob(os.path.join(glob.escape(root), folder, "libnvrtc.so")))
    return [path for path in found if ".alt." not in path]


def toolkit_roots(given: str) -> list[str]:
    roots = [*given.split(";"), os.environ.get("CUDA_HOME", ""), os.environ.get("CUDA_PATH", ""), "/usr/local/cuda"]
    return list(dict.fromkeys(root for root in roots if root))


def open_compiler(nvcc: str, nvrtc: str) -> Nvcc | Nvrtc | None:
    if nvcc and nvrtc:
        fail("FUSEDSSIM_NVCC and FUSEDSSIM_NVRTC are both given; one compiler can be used.")
    if nvcc:
        return Nvcc(nvcc)
    return Nvrtc(nvrtc) if nvrtc else None


def target_of(architecture: str) -> str:
    """The compiler's name: sm_90 for 90, compute_120 for 120-virtual."""
    number, _, kind = architecture.partition("-")
    return f"compute_{number}" if kind == "virtual" else f"sm_{number}"


def architecture_lists() -> dict[str, str]:
    """The words that stand for a list of architectures, as architectures.txt has them."""
    lines = ARCHITECTURE_LISTS.read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def wanted_architectures(wanted: str, compiler: Nvcc | Nvrtc) -> list[str]:
    lists = architecture_lists()
    wanted = lists.get(wanted.lower(), wanted)
    known = [number for number in compiler.architectures() if number >= OLDEST_ARCHITECTURE]
    if wanted.lower() == "all":
        return [*map(str, known), f"{known[-1]}-virtual"]
    result = []
    for name in filter(None, re.split(r"[;, ]+", wanted)):
        match = re.fullmatch(r"(\d+)(-real|-virtual)?", name)
        if match is None:
            fail(
                f"FUSEDSSIM_CUDA_ARCHITECTURES: {name!r} is not understood.\n"
                "Expected numbers such as 90 (a cubin) or 120-virtual (PTX), or one of the words "
                f"{', '.join([*lists, 'all'])}."
            )
        if int(match.group(1)) < OLDEST_ARCHITECTURE:
            fail(f"FUSEDSSIM_CUDA_ARCHITECTURES: {name} is too old, the kernels need {OLDEST_ARCHITECTURE} or later.")
        if int(match.group(1)) not in known:
            fail(
                f"FUSEDSSIM_CUDA_ARCHITECTURES: {compiler.name} ({compiler.path}) cannot compile for {name}.\n"
                f"It knows {' '.join(map(str, known))}. Take {name} off the list, or give another compiler "
                "(FUSEDSSIM_NVCC, FUSEDSSIM_NVRTC)."
            )
        result.append(name[: -len("-real")] if name.endswith("-real") else name)
    if not result:
        fail("FUSEDSSIM_CUDA_ARCHITECTURES is empty. To build without CUDA set FUSEDSSIM_CUDA=off.")
    return list(dict.fromkeys(result))


def find(arguments: argparse.Namespace) -> None:
    compiler = open_compiler(arguments.nvcc, arguments.nvrtc)
    if compiler is None:
        roots = toolkit_roots(arguments.roots)
        candidates = nvrtc_candidates(roots)
        if not candidates:
            fail(NO_COMPILER.format(python=sys.executable, roots=", ".join(roots)))
        compiler = Nvrtc(candidates[0])
    architectures = wanted_architectures(arguments.architectures, compiler)
    print(f"COMPILER={compiler.name}")
    print(f"COMPILER_ARGS=--{'nvcc' if isinstance(compiler, Nvcc) else 'nvrtc'}={compiler.path}")
    print(f"ARCHITECTURES={';'.join(architectures)}")
    print(f"TARGETS={' '.join(map(target_of, architectures))}")


def image_key(compiler: Nvcc | Nvrtc, arguments: argparse.Namespace) -> str:
    """What an image depends on, as a hash: the compiler, the target, the options, and the text of every source file.

    Paths are left out: a build somewhere else that compiles the same text gets the same image.
    """
    options = [option for option in arguments.options if not option.startswith("-I")]
    digest = hashlib.sha256(repr([compiler.name, arguments.output.name, options]).encode())
    for path in [arguments.source, *arguments.depends]:
        text = path.read_bytes()
        digest.update(f"{path.name} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def compile_image(arguments: argparse.Namespace) -> None:
    compiler = open_compiler(arguments.nvcc, arguments.nvrtc)
    if compiler is None:
        fail("device_code.py compile: --nvcc or --nvrtc is missing")
    cached = None
    if os.environ.get(CACHE_VARIABLE):
        cached = Path(os.environ[CACHE_VARIABLE], image_key(compiler, arguments))
        if cached.is_file():
            arguments.output.write_bytes(cached.read_bytes())
            return
    target = arguments.output.name.split(".")[1]
    image, log = compiler.compile(arguments.source, target, arguments.options)
    has_warnings = WARNING.search(log) is not None
    if has_warnings and arguments.werror:
        fail(f"{arguments.source} has warnings, which FUSEDSSIM_WERROR makes errors")
    arguments.output.write_bytes(image)
    if cached and not has_warnings:  # another build is to see them, too
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_name(f"{cached.name}.{os.getpid()}")
        partial.write_bytes(image)
        partial.replace(cached)  # at once: another build may be reading


def pack_image(image: bytes) -> bytes:
    """An image, packed by LZMA as src/cpp/cuda/lzma.h says: a literal has a model for each byte of an instruction."""
    try:
        import lzma
    except ImportError:
        fail(f"{sys.executable} was built without the module lzma, which packs the device code. Take another Python.")
    options = {"preset": 6, "dict_size": 1 << 24, "lc": 0, "lp": INSTRUCTION_BITS, "pb": INSTRUCTION_BITS}
    return lzma.compress(image, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, **options}])


def read_packed(path: Path) -> tuple[Path, int, bytes]:
    """Path, size and packed bytes of an image."""
    image = path.read_bytes()
    if path.suffix == ".ptx":
        image += b"\0"  # the driver reads PTX as a C string
    return path, len(image), pack_image(image)


def pack(arguments: argparse.Namespace) -> None:
    packed = bytearray()
    entries = []
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for path, size, image in threads.map(read_packed, arguments.images):
            unit, target, _ = path.name.split(".")
            kind, number = target.split("_")
            is_ptx = str(kind == "compute").lower()
            entries.append(f'    {{"{unit}", {number}, {is_ptx}, {len(packed)}, {len(image)}, {size}}},\n')
            packed += image
    arguments.bin.write_bytes(packed)
    arguments.index.write_text(
        "// Generated by cmake/device_code.py\n"
        "#pragma once\n\n"
        f'constexpr char kCompiler[] = "{arguments.compiler}";\n\n'
        "struct ImageEntry {\n"
        "    const char* unit;\n"
        "    int cc;\n"
        "    bool ptx;\n"
        "    unsigned long long offset, packed_size, size;\n"
        "};\n\n"
        f"constexpr ImageEntry kImages[] = {{\n{''.join(entries)}}};\n",
        encoding="utf-8",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("find")
    command.add_argument("--nvcc", default="")
    command.add_argument("--nvrtc", default="")
    command.add_argument("--roots", default="", help="toolkits to look in, separated by semicolons")
    command.add_argument("--architectures", required=True)
    command.set_defaults(run=find)

    command = commands.add_parser("compile")
    command.add_argument("--nvcc", default="")
    command.add_argument("--nvrtc", default="")
    command.add_argument("--output", type=Path, required=True, help="<unit>.sm_<n>.cubin or <unit>.compute_<n>.ptx")
    command.add_argument("--depends", type=Path, action="append", default=[], help="a header that the source includes")
    command.add_argument("--werror", action="store_true", help="warnings are errors")
    command.add_argument("source", type=Path)
    command.add_argument("options", nargs="*", help="for the compiler, after --")
    command.set_defaults(run=compile_image)

    command = commands.add_parser("pack")
    command.add_argument("--compiler", required=True)
    command.add_argument("--bin", type=Path, required=True)
    command.add_argument("--index", type=Path, required=True)
    command.add_argument("images", type=Path, nargs="+", help="named as compile names them")
    command.set_defaults(run=pack)

    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
