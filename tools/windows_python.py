# SPDX-License-Identifier: MIT
"""What a module for Python on Windows is compiled and linked with, made on any system. `tools/wheels.py` calls this.

The headers are those of the Python that is here, but for pyconfig.h, of which the stable ABI needs little. What is
linked is an import library of python3.dll, made from the list of the stable ABI's functions (the package abi3info).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

# Of 64-bit Windows. Py_ENABLE_SHARED: functions and data are imported from a DLL.
PYCONFIG = """\
#ifndef Py_CONFIG_H
#define Py_CONFIG_H
#ifndef Py_LIMITED_API
#error "only for the stable ABI"
#endif
#define MS_WINDOWS 1
#define MS_WIN32 1
#define MS_WIN64 1
#define Py_ENABLE_SHARED 1
#define HAVE_STDDEF_H 1
#define SIZEOF_SHORT 2
#define SIZEOF_INT 4
#define SIZEOF_LONG 4
#define SIZEOF_LONG_LONG 8
#define SIZEOF_FLOAT 4
#define SIZEOF_DOUBLE 8
#define SIZEOF_VOID_P 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_TIME_T 8
#define SIZEOF_WCHAR_T 2
#define SIZEOF_PID_T 4
#define ALIGNOF_MAX_ALIGN_T 8
#endif
"""


def write_headers(python: Path, folder: Path) -> Path:
    """The headers of that Python for Windows, in `folder`."""
    query = "import sysconfig; print(sysconfig.get_path('include'))"
    own = subprocess.run([python, "-c", query], check=True, capture_output=True, text=True).stdout.strip()
    shutil.copytree(own, folder, dirs_exist_ok=True)
    (folder / "pyconfig.h").write_text(PYCONFIG, encoding="utf-8")
    return folder


def write_import_library(zig: Path, folder: Path) -> Path:
    """python3.lib in `folder`: all that python3.dll may export. What is not used of it does no harm."""
    import abi3info

    folder.mkdir(parents=True, exist_ok=True)
    names = [f"    {symbol.name}" for symbol in abi3info.FUNCTIONS]
    names += [f"    {symbol.name} DATA" for symbol in abi3info.DATAS]
    definition = folder / "python3.def"
    definition.write_text("LIBRARY python3.dll\nEXPORTS\n" + "\n".join(sorted(names)) + "\n", encoding="utf-8")
    library = folder / "python3.lib"
    machine = ["-m", "i386:x86-64"]
    subprocess.run([zig, "dlltool", *machine, "-d", definition, "-l", library], check=True)
    return library


def version_of(python: Path) -> str:
    """For instance 312."""
    query = "import sys; print('%d%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", query], check=True, capture_output=True, text=True).stdout.strip()


def write_all(python: Path, zig: Path, folder: Path) -> dict[str, str]:
    """All of it; returns the environment that makes scikit-build-core use it."""
    include = write_headers(python, folder / "include")
    library = write_import_library(zig, folder / "libs")
    # CMake wants to see the library of the full interface, too; nothing is linked with it.
    versioned = library.with_name(f"python{version_of(python)}.lib")
    shutil.copyfile(library, versioned)
    config = folder / "cross.cfg"
    config.write_text(f"[build_ext]\nlibrary_dirs={library.parent}\n", encoding="utf-8")
    return {
        "_PYTHON_HOST_PLATFORM": "win-amd64",
        "DIST_EXTRA_CONFIG": str(config),
        "CMAKE_ARGS": f"-DPython_INCLUDE_DIR={include} -DPython_LIBRARY={versioned}",
    }
