# SPDX-License-Identifier: MIT
"""Which module may import which: only downward, in no circle, and without torch where that is promised.

The same for the includes of C++: docs/architecture.md says who may know whom. The sources are read, not run. One test
runs the parts that need no torch, where torch cannot be imported.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fused_ssim

ROOT = Path(fused_ssim.__file__).parent
PACKAGE = ROOT.name

# From the ground up. Modules of one row may not import each other.
LAYERS: list[tuple[str, ...]] = [
    ("_core",),
    ("_base",),
    ("_torch", "array"),
    ("gradients",),
    ("compat", "distributed", "functional", "jax", "metrics", "terms"),
    ("losses",),
    ("__init__",),
    ("cli",),
    ("__main__",),
]
# The same inside folders; others are only free of circles.
INSIDE: dict[str, list[tuple[str, ...]]] = {
    "_base": [("arguments", "codes"), ("settings",), ("shapes", "backends"), ("checked", "gradients", "info")],
    "_torch": [
        ("devices",),
        ("checks",),
        ("layouts", "plain_filters"),
        ("composite", "plain_math"),
        ("plain_call", "triton_kernels"),
        ("triton_call",),
        ("plain_plan",),
        ("plan",),
        ("batching",),
        ("operators",),
        ("transforms",),
        ("eager",),
    ],
    "array": [("_layouts", "_libraries"), ("_plans",), ("_call",), ("_losses", "_ssim"), ("__init__",)],
    "jax": [("_native",), ("_batching",), ("_derivatives",), ("_call",), ("_functions",), ("__init__",)],
    "distributed": [("_dtensor", "_exchange", "_agreement"), ("__init__",)],
}


def module_of(path: Path) -> str:
    """``_torch.plan`` for python/fused_ssim/_torch/plan.py; a folder for its ``__init__``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


SOURCES: dict[str, Path] = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}
MODULES = {*SOURCES, "_core"}
OTHER = "other:"


def statements(tree: ast.AST, at_import: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of a module: all of them, or those that run when it is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif at_import and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        elif at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue  # also where torch is loaded already
        else:
            yield from statements(node, at_import)


def targets(module: str, at_import: bool = False) -> set[str]:
    """The absolute names that a module imports; ``fused_ssim.`` is left out of those of this package.

    Those of other packages begin with OTHER: fused_ssim.jax and jax are two.
    """
    path = SOURCES[module]
    package = [PACKAGE, *path.relative_to(ROOT).parent.parts]
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8")), at_import):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names]
        for name in names:
            if name.partition(".")[0] != PACKAGE:
                found.add(OTHER + name)
                continue
            inner = name.partition(".")[2]
            while inner and inner not in MODULES:  # a name in a module
                inner = inner.rpartition(".")[0]
            found.add(inner or "__init__")
    return found


def within(module: str) -> set[str]:
    return {target for target in targets(module) if target in MODULES and target != module}


def level(name: str, layers: list[tuple[str, ...]]) -> int:
    return next(index for index, names in enumerate(layers) if name in names)


@pytest.mark.parametrize("module", SOURCES)
def test_imports_run_downward(module: str) -> None:
    here, _, rest = module.partition(".")
    for target in within(module):
        there, _, target_rest = target.partition(".")
        if here != there:
            assert level(there, LAYERS) < level(here, LAYERS), f"{module} imports {target}, which stands above it"
        elif here in INSIDE:
            mine, other = (level(name or "__init__", INSIDE[here]) for name in (rest, target_rest))
            assert other < mine, f"{module} imports {target}, which stands above it"


def test_imports_run_in_no_circle() -> None:
    above: list[str] = []
    done: set[str] = set()

    def visit(module: str) -> None:
        assert module not in above, f"a circle: {' -> '.join([*above[above.index(module) :], module])}"
        if module in done or module == "_core":
            return
        above.append(module)
        for target in sorted(within(module)):
            visit(target)
        done.add(above.pop())

    for module in SOURCES:
        visit(module)


def needs_torch(module: str) -> bool:
    return any(target.partition(".")[0] == f"{OTHER}torch" for target in targets(module))


@pytest.mark.parametrize("module", [name for name in SOURCES if name.partition(".")[0] in ("_base", "array", "jax")])
def test_module_never_imports_torch(module: str) -> None:
    assert not needs_torch(module)


@pytest.mark.parametrize(
    "start", ["cli", "cli.info", "__main__", "array", "compat", "compat.skimage", "__init__", "jax"]
)
def test_import_loads_no_torch(start: str) -> None:
    reached, open_ends = {"__init__"}, [start, "__init__"]
    while open_ends:
        module = open_ends.pop()
        if module == "_core":
            continue
        imported = targets(module, at_import=True)
        assert not any(name.partition(".")[0] == f"{OTHER}torch" for name in imported), module
        open_ends += [name for name in imported - reached if name in MODULES]
        reached |= imported


def test_what_needs_no_torch_runs_without_it() -> None:
    base = [f"{PACKAGE}.{name}" for name in SOURCES if name.startswith("_base")]
    program = f"""
import sys
from importlib import import_module
sys.modules["torch"] = None  # to import it now is an ImportError
for name in {base!r}:
    import_module(name)
import numpy
import fused_ssim
x = numpy.linspace(0, 1, 2 * 16 * 18, dtype=numpy.float32).reshape(1, 2, 16, 18)
assert fused_ssim.array.value(x, x, "valid") == 1
from fused_ssim.cli import main
for arguments in (["info"], ["info", "--json"], ["--version"], ["--help"], ["compare", "--help"]):
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0, arguments
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not installed" in done.stdout


@pytest.mark.parametrize("name", ["array", "compat", "distributed", "functional", "jax", "losses", "metrics"])
def test_module_is_there_after_import_of_the_package(name: str) -> None:
    if name in ("jax", "metrics"):
        pytest.importorskip({"jax": "jax", "metrics": "torchmetrics"}[name])
    program = f"""
import sys
import fused_ssim
assert "torch" not in sys.modules
assert {name!r} in dir(fused_ssim)
module = fused_ssim.{name}
assert module.__name__ == "fused_ssim.{name}"
for public in getattr(module, "__all__", ()):
    getattr(module, public)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- C++ -------------------------------------------------------------------------------------------------------------

CPP = Path(__file__).parents[2]
INCLUDE_FOLDERS = ("include", "src/cpp", "src/cuda")
# By folder: the folders, and the single files, that its files may include.
DESCRIPTION = ("src/cpp/problem.h", "src/cpp/settings.h", "src/cpp/devices.h", "src/cpp/error.h")
MAY_INCLUDE: dict[str, tuple[str, ...]] = {
    "include/fusedssim": ("include/fusedssim",),
    "src/cuda": ("src/cuda", "src/cpp/core"),
    "src/cpp/core": ("src/cpp/core", "include/fusedssim/fusedssim.h"),
    "src/cpp/cpu": ("src/cpp/cpu", "src/cpp/core", "src/cpp/platform.h", *DESCRIPTION),
    "src/cpp/cuda": ("src/cpp/cuda", "src/cuda", "src/cpp/core", "src/cpp/platform.h", *DESCRIPTION),
    "src/cpp": ("src/cpp", "src/cpp/core", "include/fusedssim/fusedssim.h"),
    "src/cpp/python": ("src/cpp/python", "src/cpp/platform.h", "include/fusedssim/fusedssim.h"),
}
EXCEPTIONS = {
    ("src/cpp/devices.cpp", "src/cpp/cpu/backend.h"),
    ("src/cpp/devices.cpp", "src/cpp/cuda/backend.h"),
    ("src/cpp/api.cpp", "src/cpp/cuda/backend.h"),
}


def included(path: Path) -> Iterator[str]:
    """The files of the library that a file includes; generated ones are left out."""
    for name in re.findall(r'^ *#include "([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE):
        places = [path.parent, *(CPP / folder for folder in INCLUDE_FOLDERS)]
        found = next((place / name for place in places if (place / name).is_file()), None)
        if found is not None:
            yield found.relative_to(CPP).as_posix()


@pytest.mark.parametrize("folder", MAY_INCLUDE)
def test_includes_run_downward(folder: str) -> None:
    paths = [path for path in sorted((CPP / folder).iterdir()) if path.suffix in (".h", ".hpp", ".cpp", ".cu")]
    assert paths
    for path in paths:
        for target in included(path):
            allowed = MAY_INCLUDE[folder]
            is_allowed = target in allowed or target.rpartition("/")[0] in allowed
            pair = (path.relative_to(CPP).as_posix(), target)
            assert is_allowed or pair in EXCEPTIONS, f"{pair[0]} includes {target}"


def test_every_folder_of_sources_has_a_rule() -> None:
    folders = {path.parent for top in ("include", "src") for path in (CPP / top).rglob("*") if path.is_file()}
    assert {folder.relative_to(CPP).as_posix() for folder in folders} == set(MAY_INCLUDE)
