# SPDX-License-Identifier: MIT
"""What a release wheel has to be, checked from its bytes and by installing it. `tools/wheels.py` calls this."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pefile
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cmake"))

import device_code

LARGEST = 16_000_000  # bytes
LARGEST_FOR_ONE = 3_900_000  # with code for one architecture, as every change is checked
# "70;75;...;100-virtual", and the same as `info` names them.
RELEASE_ARCHITECTURES = device_code.architecture_lists()["release"]
EVERY_RELEASE_HAS = set(map(device_code.target_of, RELEASE_ARCHITECTURES.split(";")))
PLATFORM = re.compile(r"manylinux_2_(17|28)_(x86_64|aarch64)|manylinux2014_(x86_64|aarch64)|win_amd64")
SONAME = "libfusedssim.so.0"
GLIBC = re.compile(r"(libc|libm|libdl|libpthread|librt|ld-linux[-\w]*)\.so\.\d+")
# The system and the universal C runtime, which is part of Windows 10 and later.
WINDOWS = re.compile(r"KERNEL32\.dll|api-ms-win-crt-[\w-]+\.dll", re.IGNORECASE)

# Runs in an environment that has the wheel and NumPy, but no torch: it uses what works without torch. No driver has to
# be there. Without one, `info` says why CUDA cannot be used, and nothing fails.
SMOKE_TEST = """
import importlib.metadata, sys
import fused_ssim
from fused_ssim import _core

info = _core.info()
assert info["version"] == importlib.metadata.version("fused-ssim") == fused_ssim.__version__, info
assert info["cuda_devices"] or info["cuda_problem"], info
import numpy
import fused_ssim.array

x = numpy.linspace(0, 1, 2 * 3 * 17 * 19, dtype=numpy.float32).reshape(2, 3, 17, 19)
value, grad = fused_ssim.array.value_and_grad(x, x)
assert value == 1 and not grad.any(), (value, grad)
assert -1 < fused_ssim.array.value(x, x[::-1]) < 1
assert "torch" not in sys.modules
print(sys.version.split()[0], info["cpu_isa"], info["cuda_architectures"], info["cuda_problem"], sep=" | ")
"""


class BadWheelError(Exception):
    """What is wrong with a wheel."""


def expect(condition: object, text: str) -> None:
    if not condition:
        raise BadWheelError(text)


def check(wheels: list[Path], pythons: list[Path], *, release: list[str] | None = None) -> None:
    """Checks each wheel, and installs it into those of `pythons` that it is for.

    `release`: the wheels are a whole release for one target, with these tags of Python.
    """
    expect(wheels, "no wheels")
    run("twine", "check", "--strict", *wheels)
    tags = []
    for wheel in wheels:
        try:
            tags.append(check_file(wheel))
            for python in pythons:
                if is_for_here(wheel) and is_for(tags[-1], python):
                    check_installed(wheel, python, complete=release is not None)
        except BadWheelError as error:
            raise BadWheelError(f"{wheel.name}: {error}") from error
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, all right", flush=True)
    if release is not None:
        expect(sorted(tags) == sorted(release), f"a release has the tags {release}, these wheels {tags}")


def run(module: str, *arguments: str | Path) -> str:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"{module} says:\n{done.stdout}{done.stderr}")
    return done.stdout


# ---- The file --------------------------------------------------------------------------------------------------------


def check_file(path: Path) -> str:
    """Name, tags, size, contents, libraries. Returns the Python and ABI tags."""
    name, version, python, abi, platforms = path.stem.split("-")
    expect(name == "fused_ssim", f"its name is {name}")
    expect(path.stat().st_size < LARGEST, f"{path.stat().st_size} bytes, expected less than {LARGEST}")
    expect(all(PLATFORM.fullmatch(tag) for tag in platforms.split(".")), platforms)
    with zipfile.ZipFile(path) as archive:
        expect(archive.testzip() is None, "a file in it is damaged")
        files = {file: archive.read(file) for file in archive.namelist()}
    info = f"{name}-{version}.dist-info"
    packages = {"fused_ssim", "fused_ssim3d", "fused_ssim_cuda"}
    expect({file.split("/")[0] for file in files} == {*packages, info}, f"holds {sorted(files)}")
    written = set(re.findall(r"^Tag: (.*)$", files[f"{info}/WHEEL"].decode(), re.MULTILINE))
    expect(written == {f"{python}-{abi}-{tag}" for tag in platforms.split(".")}, f"its WHEEL file says {written}")
    needs = re.findall(r"^Requires-Dist: (torch\b.*)$", files[f"{info}/METADATA"].decode(), re.MULTILINE)
    expect(needs == ["torch>=2.4"], f"needs {needs}; a bound on torch would replace what is installed")

    header = files["fused_ssim/include/fusedssim/fusedssim.h"].decode()
    declared = set(re.findall(r"^FUSEDSSIM_API [^;(]*?\b(fusedssim_\w+)\(", header, re.MULTILINE))
    objects = {file: data for file, data in files.items() if data.startswith((b"\x7fELF", b"MZ"))}
    modules = [file for file in objects if re.match(r"fused_ssim/_core\.(?!pyi)", file)]
    if platforms == "win_amd64":
        # The DLL is beside the module: there Windows looks for it, without any help.
        library = "fused_ssim/fusedssim.dll"
        expect(files.get("fused_ssim/lib/fusedssim.lib", b"").startswith(b"!<arch>"), "has no import library")
        check_dll(objects[library], needed=set(), exported=declared)
        check_dll(objects[modules[0]], needed={"fusedssim.dll", "python3.dll"}, exported={"PyInit__core"})
    else:
        library = f"fused_ssim/lib/{SONAME}"
        check_object(objects[library], soname=[SONAME], rpath=[], exported=declared)
        check_object(objects[modules[0]], soname=None, rpath=["$ORIGIN/lib"], exported={"PyInit__core"})
        expect((".abi3." in modules[0]) == (abi == "abi3"), f"the module is {modules[0]}")
    expect(len(modules) == 1 and set(objects) == {library, *modules}, f"its shared objects are {sorted(objects)}")
    if abi == "abi3":
        run("abi3audit", "--strict", path)
    return f"{python}-{abi}"


def check_object(data: bytes, *, soname: list[str] | None, rpath: list[str], exported: set[str]) -> None:
    elf = ELFFile(io.BytesIO(data))
    dynamic = elf.get_section_by_name(".dynamic")
    symbols = elf.get_section_by_name(".dynsym")
    assert isinstance(dynamic, DynamicSection)
    assert isinstance(symbols, SymbolTableSection)
    needed = [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")]
    strange = [name for name in needed if name != SONAME and not GLIBC.fullmatch(name)]
    expect(not strange, f"needs {strange}; only glibc is on every system")
    # LD_LIBRARY_PATH comes before a RUNPATH: another libfusedssim.so.0 there would take the place of the wheel's.
    expect(not list(dynamic.iter_tags("DT_RUNPATH")), "has a RUNPATH; expected an RPATH, if anything")
    expect([tag.rpath for tag in dynamic.iter_tags("DT_RPATH")] == rpath, f"its RPATH is not {rpath}")
    expect(not list(dynamic.iter_tags("DT_TEXTREL")), "has text relocations")
    if soname is not None:
        expect([tag.soname for tag in dynamic.iter_tags("DT_SONAME")] == soname, f"its SONAME is not {soname}")
    stack = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_GNU_STACK"]
    expect(stack and not stack[0]["p_flags"] & 1, "asks for an executable stack")
    expect(elf.get_section_by_name(".symtab") is None, "is not stripped")
    found = {
        symbol.name
        for symbol in symbols.iter_symbols()
        if symbol["st_info"]["bind"] != "STB_LOCAL" and symbol["st_shndx"] not in ("SHN_UNDEF", "SHN_ABS")
    }
    expect(found == exported, f"exports {sorted(found - exported)}, lacks {sorted(exported - found)}")


def check_dll(data: bytes, *, needed: set[str], exported: set[str]) -> None:
    pe = pefile.PE(data=data)
    expect(pe.FILE_HEADER.Machine == pefile.MACHINE_TYPE["IMAGE_FILE_MACHINE_AMD64"], "is not for x86-64")
    imported = {entry.dll.decode() for entry in pe.DIRECTORY_ENTRY_IMPORT}
    others = {name for name in imported if not WINDOWS.fullmatch(name)}
    expect(others == needed, f"needs {sorted(others)} beside the system, expected {sorted(needed)}")
    # nanobind declares the types of its exceptions as exported.
    found = {symbol.name.decode() for symbol in pe.DIRECTORY_ENTRY_EXPORT.symbols}
    found = {name for name in found if not name.startswith("_ZTVN8nanobind")}
    expect(found == exported, f"exports {sorted(found - exported)}, lacks {sorted(exported - found)}")
    # Loaded anywhere in 64 bits of addresses, data is not executed.
    safe = ("DYNAMIC_BASE", "HIGH_ENTROPY_VA", "NX_COMPAT")
    unsafe = [name for name in safe if not getattr(pe.OPTIONAL_HEADER, f"IMAGE_DLLCHARACTERISTICS_{name}")]
    expect(not unsafe, f"lacks {unsafe}")


# ---- Installed -------------------------------------------------------------------------------------------------------


def is_for_here(wheel: Path) -> bool:
    return wheel.stem.endswith("-win_amd64") == (sys.platform == "win32")


def is_for(tag: str, python: Path) -> bool:
    query = "import sys; print('cp%d%d' % sys.version_info[:2])"
    own = subprocess.run([python, "-c", query], check=True, capture_output=True, text=True).stdout.strip()
    wanted, abi = tag.split("-")
    return own == wanted or (abi == "abi3" and int(own[2:]) >= int(wanted[2:]))


def check_installed(wheel: Path, python: Path, *, complete: bool) -> None:
    """Into an environment of its own, with NumPy alone: the module loads and computes, for this Python."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
        inside = str(Path(folder, *(("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python"))))
        environment = {key: text for key, text in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        pip = [sys.executable, "-m", "pip", "--python", inside, "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--only-binary=:all:", "numpy"], check=True, env=environment)
        subprocess.run([*pip, "--no-deps", wheel], check=True, env=environment)
        done = subprocess.run([inside, "-c", SMOKE_TEST], capture_output=True, text=True, env=environment, check=False)
        expect(done.returncode == 0, f"fails under {python}:\n{done.stderr}")
        targets = set(done.stdout.split(" | ")[2].split())
        missing = EVERY_RELEASE_HAS - targets
        expect(not (complete and missing), f"has no code for {sorted(missing)}")
        size = wheel.stat().st_size
        expect(len(targets) > 1 or size < LARGEST_FOR_ONE, f"{size} bytes, expected less than {LARGEST_FOR_ONE}")
        print(f"  installed: {done.stdout.strip()}", flush=True)
