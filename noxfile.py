# SPDX-License-Identifier: MIT
"""Sessions that need more than one environment. `.ci/run` does everything else.

nox -s wheels                          the release: three wheels in dist/, checked (tools/wheels.py)
nox -s torch_matrix                    one of those wheels under old and new releases of torch
nox -s "torch_matrix(torch='2.4.1')"   under one of them
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["wheels", "torch_matrix"]
nox.options.default_venv_backend = "venv"

# The last patch of the oldest release that pyproject.toml allows, the release that development uses, and the newest.
TORCH = ["2.4.1", "2.13.0", "2.15.0"]
# A Python that all of them have wheels for; the wheel for it serves every later Python.
PYTHON = "3.12"


@nox.session
def wheels(session: nox.Session) -> None:
    """The release wheels; arguments go to tools/wheels.py."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "release"))
    session.run("python", "tools/wheels.py", *session.posargs)


@nox.session(python=PYTHON, reuse_venv=False)
@nox.parametrize("torch", TORCH)
def torch_matrix(session: nox.Session, torch: str) -> None:
    """The test suite, with that torch and an unchanged wheel of dist/. Needs up to 6 GB of disk meanwhile."""
    (wheel,) = Path("dist").glob("fused_ssim-*-cp312-abi3-*x86_64.whl")
    try:
        session.install(f"torch=={torch}")
        session.install(str(wheel.resolve()))  # with nothing that forbids pip to take another torch
        version = "import importlib.metadata; print(importlib.metadata.version('torch'))"
        found = session.run("python", "-c", version, silent=True)
        if str(found).strip().split("+")[0] != torch:
            session.error(f"torch {torch} was replaced by {found}")
        # The packages that the tests compare with may ask for another torch, so pip is told to keep this one.
        constraints = Path(session.create_tmp()) / "constraints.txt"
        constraints.write_text(f"torch=={torch}\n", encoding="utf-8")
        session.install(f"fused-ssim[test] @ {wheel.resolve().as_uri()}", "--constraint", str(constraints))
        session.run("fused-ssim", "info")
        session.run("pytest", "-q", "-p", "no:cacheprovider", *session.posargs)
    finally:
        shutil.rmtree(session.virtualenv.location, ignore_errors=True)
