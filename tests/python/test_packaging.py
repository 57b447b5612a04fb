# SPDX-License-Identifier: MIT
"""What is inside the installed package: it must run wherever Python and a C++ runtime are, and nothing more."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection
from elftools.elf.sections import SymbolTableSection

import fused_ssim
import fused_ssim._core as core

if not sys.platform.startswith("linux"):
    pytest.skip("reads ELF files", allow_module_level=True)

# From the extension module's place and not the package's: in an editable install the two differ.
INSTALLED = Path(core.__file__).parent
SONAME = "libfusedssim.so.0"
SHARED_OBJECTS = sorted(path for path in INSTALLED.rglob("*") if re.search(r"\.so(\.|$)", path.name))

# The C and C++ runtimes, which every Linux with Python has or which come with torch.
SYSTEM = re.compile(
    r"(libc|libm|libdl|libpthread|librt|libstdc\+\+|libgcc_s|ld-linux[-\w]*|libc\.musl-\w+)\.so(\.\d+)?"
)


def dynamic_section(path: Path, tag: str) -> list[str]:
    attribute = {"DT_NEEDED": "needed", "DT_SONAME": "soname", "DT_RUNPATH": "runpath", "DT_RPATH": "rpath"}[tag]
    with path.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".dynamic")
        assert isinstance(section, DynamicSection)
        return [getattr(entry, attribute) for entry in section.iter_tags(tag)]


def exported_symbols(path: Path) -> set[str]:
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".dynsym")
        assert isinstance(table, SymbolTableSection)
        return {
            symbol.name
            for symbol in table.iter_symbols()
            # SHN_ABS: the name of a symbol version, which some linkers list too
            if symbol["st_shndx"] not in ("SHN_UNDEF", "SHN_ABS") and symbol["st_info"]["bind"] != "STB_LOCAL"
        }


def test_package_has_one_library_and_one_module() -> None:
    names = [path.name for path in SHARED_OBJECTS]
    assert SONAME in names
    assert sum(name.startswith("_core.") for name in names) == 1
    assert len(names) == 2, names


@pytest.mark.parametrize("path", SHARED_OBJECTS, ids=lambda path: path.name)
def test_shared_object_needs_only_system_libraries(path: Path) -> None:
    needed = dynamic_section(path, "DT_NEEDED")
    for forbidden in ("torch", "c10", "python", "cudart", "cuda", "nvrtc"):
        assert not any(forbidden in name for name in needed), needed
    assert [name for name in needed if name != SONAME and not SYSTEM.fullmatch(name)] == []


@pytest.mark.parametrize("path", SHARED_OBJECTS, ids=lambda path: path.name)
def test_shared_object_is_a_plain_file(path: Path) -> None:
    assert not path.is_symlink()  # a wheel would have copied it


def test_library_exports_exactly_what_the_header_declares() -> None:
    header = (INSTALLED / "include" / "fusedssim" / "fusedssim.h").read_text(encoding="utf-8")
    declared = set(re.findall(r"^FUSEDSSIM_API [^;(]*?\b(fusedssim_\w+)\(", header, re.MULTILINE))
    assert len(declared) > 5
    assert exported_symbols(INSTALLED / "lib" / SONAME) == declared


def test_module_exports_nothing_but_its_entry() -> None:
    module = next(path for path in SHARED_OBJECTS if path.name.startswith("_core."))
    assert exported_symbols(module) == {"PyInit__core"}


def test_library_gives_its_symbols_a_version() -> None:
    with (INSTALLED / "lib" / SONAME).open("rb") as file:
        section = ELFFile(file).get_section_by_name(".gnu.version_d")
        assert isinstance(section, GNUVerDefSection)
        names = [[auxiliary.name for auxiliary in auxiliaries] for _, auxiliaries in section.iter_versions()]
    assert names == [[SONAME], [f"FUSEDSSIM_{SONAME.rpartition('.')[2]}"]]


def test_library_has_its_soname() -> None:
    assert dynamic_section(INSTALLED / "lib" / SONAME, "DT_SONAME") == [SONAME]


def test_module_finds_the_library_beside_it() -> None:
    module = next(path for path in SHARED_OBJECTS if path.name.startswith("_core."))
    assert dynamic_section(module, "DT_RUNPATH") + dynamic_section(module, "DT_RPATH") == ["$ORIGIN/lib"]


def test_module_uses_the_stable_abi_from_python_3_12() -> None:
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    is_stable = ".abi3." in Path(core.__file__).name
    assert is_stable == (sys.version_info >= (3, 12) and not free_threaded)


def test_module_loads_without_torch_and_without_the_driver() -> None:
    program = f"""
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
loader = ExtensionFileLoader("_core", {str(core.__file__)!r})
loader.exec_module(module_from_spec(spec_from_loader("_core", loader)))
maps = open("/proc/self/maps").read()
print("torch" in sys.modules, "libcuda" in maps, "libfusedssim" in maps)
"""
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.split() == ["False", "False", "True"]


@pytest.mark.parametrize(
    "file",
    [
        "include/fusedssim/fusedssim.h",
        "include/fusedssim/fusedssim.hpp",
        "lib/pkgconfig/fusedssim.pc",
        "lib/cmake/FusedSSIM/FusedSSIMConfig.cmake",
        "lib/cmake/FusedSSIM/FusedSSIMConfigVersion.cmake",
        "lib/cmake/FusedSSIM/FusedSSIMTargets.cmake",
    ],
)
def test_package_serves_cpp_projects_with(file: str) -> None:
    assert (INSTALLED / file).is_file()


def test_cmake_files_hold_no_path_of_the_build_machine() -> None:
    for file in (INSTALLED / "lib" / "cmake" / "FusedSSIM").glob("*.cmake"):
        paths = re.findall(r'"(/[^"$]+)"', file.read_text(encoding="utf-8"))
        assert paths == [], file.name


def test_pkgconfig_file_holds_no_path_of_the_build_machine() -> None:
    text = (INSTALLED / "lib" / "pkgconfig" / "fusedssim.pc").read_text(encoding="utf-8")
    assert "prefix=${pcfiledir}/../..\n" in text
    assert not re.search(r"(?<![}.\w])/", text.partition("Libs:")[2]), text


@pytest.mark.parametrize(
    ("option", "holds"),
    [
        ("--cmake-dir", "FusedSSIMConfig.cmake"),
        ("--include-dir", "fusedssim/fusedssim.h"),
        ("--lib-dir", SONAME),
        ("--pkgconfig-dir", "fusedssim.pc"),
        ("--prefix", f"lib/{SONAME}"),
    ],
)
def test_python_module_tells_where_the_c_library_is(option: str, holds: str) -> None:
    command = [sys.executable, "-c", f"import sys; sys.modules['torch'] = None; sys.argv[1:] = ['{option}']\n" + _MAIN]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    assert (Path(answer.stdout.strip()) / holds).is_file()


_MAIN = "import runpy; runpy.run_module('fused_ssim', run_name='__main__', alter_sys=True)"


def test_python_module_is_the_command_otherwise() -> None:
    command = [sys.executable, "-m", "fused_ssim", "--version"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    assert answer.stdout.split() == ["fused-ssim", fused_ssim.__version__]


def test_package_is_typed() -> None:
    assert Path(fused_ssim.__file__).with_name("py.typed").is_file()


def test_version_is_the_same_everywhere() -> None:
    header = (INSTALLED / "include" / "fusedssim" / "fusedssim.h").read_text(encoding="utf-8")
    parts = [re.search(rf"#define FUSEDSSIM_VERSION_{part} (\d+)", header) for part in ("MAJOR", "MINOR", "PATCH")]
    version = ".".join(part.group(1) for part in parts if part)
    assert fused_ssim.__version__ == version
    assert importlib.metadata.version("fused-ssim") == version
    recipe = Path(__file__).parents[2] / "conda" / "recipe.yaml"
    assert re.search(r'^  version: "([\d.]+)"', recipe.read_text(encoding="utf-8"), re.MULTILINE).group(1) == version  # type: ignore[union-attr]


def test_architectures_stand_in_one_list() -> None:
    root = Path(__file__).parents[2]
    text = (root / "cmake" / "architectures.txt").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^(\w+) +(\S+)$", text, re.MULTILINE))
    assert set(rows) == {"default", "release", "ci"}
    for file, row in {
        "CMakeLists.txt": "set(FUSEDSSIM_CUDA_ARCHITECTURES default ",
        "pyproject.toml": 'FUSEDSSIM_CUDA_ARCHITECTURES = "release"',
        ".ci/run": "export FUSEDSSIM_CUDA_ARCHITECTURES=ci ",
    }.items():
        assert row in (root / file).read_text(encoding="utf-8"), file
    # The document for users repeats two of them, as "sm_70, 75, 80" and "PTX (compute_100)".
    document = " ".join((root / "docs" / "compatibility.md").read_text(encoding="utf-8").split())
    for row, cubins in (("release", r"\(sm_([\d, ]+)\)"), ("default", r"cubins for sm_([\d, and]+)")):
        listed = re.search(cubins, document)
        ptx = re.findall(r"PTX \(compute_(\d+)\)", document)
        assert listed is not None
        names = rows[row].split(";")
        assert re.findall(r"\d+", listed.group(1)) == [name for name in names if name.isdecimal()], row
        assert {f"{number}-virtual" for number in ptx} >= {name for name in names if not name.isdecimal()}, row


def test_entry_points_name_what_is_there() -> None:
    entry_points = importlib.metadata.distribution("fused-ssim").entry_points
    (root,) = entry_points.select(group="cmake.root")
    assert (root.name, root.value) == ("FusedSSIM", "fused_ssim")
    (script,) = entry_points.select(group="console_scripts")
    assert script.name == "fused-ssim"
    assert callable(script.load())
