# SPDX-License-Identifier: MIT
"""Sessions that need more than one environment. `.ci/run` does everything else.

nox -s wheels                          the release: three wheels in dist/, checked (tools/wheels.py)
nox -s torch_matrix                    one of those wheels under old and new releases of torch
nox -s "torch_matrix(torch='2.4.1')"   under one of them
nox -s windows                         the wheel for Windows: made, checked, and tried under Wine, which has to be there
nox -s windows -- dist/NAME.whl        the same with a wheel that is there
nox -s aarch64                         the wheels for Linux on aarch64, the same under QEMU, which has to be there
nox -s docs                            the documentation site, in build/site
nox -s report                          the HTML report in a browser (Chromium has to be installed)
nox -s plain                           the tests of values by plain operations of torch, in place of the native library
nox -s hunt                            fuzzing, generated calls, threads, soak: three hours on two cores
nox -s hunt -- 0.05                    the same, for a twentieth of the time
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["wheels", "windows", "aarch64", "torch_matrix"]  # a release
nox.options.default_venv_backend = "venv"

# The last patch of the oldest release that pyproject.toml allows, the release that development uses, and the newest.
TORCH = ["2.4.1", "2.13.0", "2.15.0"]
# A Python that all of them have wheels for; the wheel for it serves every later Python.
PYTHON = "3.12"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@nox.session
def wheels(session: nox.Session) -> None:
    """The release wheels; arguments go to tools/wheels.py."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "release"))
    session.run("python", "tools/wheels.py", *session.posargs)


@nox.session(python=PYTHON)
def windows(session: nox.Session) -> None:
    """A wheel for Windows and all that tools/wine.py does with it: tests, the command, C and C++ programs, CUDA.

    Needs Wine and npm (Debian: apt-get install wine npm), CMake and Ninja; about 4 GB of disk. Arguments: a wheel, and
    for pytest.
    """
    try_elsewhere(session, "windows-x86_64", "fused_ssim-*-win_amd64.whl", "tools/wine.py")


# QEMU computes about 20 times slower than the machine, so this is a part of the suite: values of all kinds.
EMULATED = ("array", "autograd", "instruction_sets", "masks", "msssim", "strides", "values")


@nox.session(python=PYTHON)
def aarch64(session: nox.Session) -> None:
    """A wheel for Linux on aarch64 and all that tools/qemu.py does with it; of the test suite only EMULATED.

    Needs QEMU (Debian: apt-get install qemu-user-static mmdebstrap), CMake and Ninja; about 2 GB of disk. Arguments: a
    wheel, and for pytest in place of EMULATED.
    """
    tests = ["-q", *(f"tests/python/test_{name}.py" for name in EMULATED)]
    try_elsewhere(session, "linux-aarch64", "fused_ssim-*-cp312-abi3-*aarch64.whl", "tools/qemu.py", tests)


def try_elsewhere(session: nox.Session, target: str, wheel: str, script: str, tests: Sequence[str] = ()) -> None:
    """Makes the wheel for a system that is not here, unless one is given, and runs all of `script`."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "release"))
    given = [argument for argument in session.posargs if argument.endswith(".whl")]
    others = [argument for argument in session.posargs if argument not in given]
    if not given:
        session.run("python", "tools/wheels.py", "--target", target)
        given = list(map(str, Path("dist").glob(wheel)))
    session.run("python", script, "all", *given, *(others or tests))


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


# The files that compute values; others are about the native library and its known faults, or about packages around it.
VALUES = [
    *("any_device", "autocast", "autograd", "compat", "compile", "data_range", "gradcheck", "hard_cases"),
    *("improvements", "losses", "masks", "metrics", "msssim", "references", "replaced_windows", "settings", "strides"),
    *("threads", "transforms", "values"),
]


@nox.session(python=PYTHON)
def plain(session: nox.Session) -> None:
    """The tests of values with FUSED_SSIM_BACKEND=torch: what other devices of torch run, on this one."""
    session.install(".[test]")
    files = [f"tests/python/test_{name}.py" for name in VALUES]
    session.run("pytest", "-q", *files, *session.posargs, env={"FUSED_SSIM_BACKEND": "torch"})


@nox.session(python=PYTHON)
def docs(session: nox.Session) -> None:
    """The documentation site, strictly: a link into nothing or a notebook that fails is an error."""
    session.install(".[docs]")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(python=PYTHON)
def report(session: nox.Session) -> None:
    """The HTML report and the search of the site in a real browser; without one the session fails."""
    session.install(".[test]")
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        session.error(f"none of {', '.join(BROWSERS)} is installed")
    tests = ("tests/python/test_report_browser.py", "tests/python/test_site_browser.py")
    session.run("pytest", "-q", "-n", "0", *tests, *session.posargs, env={"FUSEDSSIM_BROWSER": browser})


@nox.session(python=PYTHON)
def hunt(session: nox.Session) -> None:
    """The long runs of tests/fuzz; an argument multiplies all times and counts. CUDA is hunted where there is a GPU.

    Needs Clang with libFuzzer (Debian: clang-14 and libclang-rt-14-dev; other names through CC and CXX), GCC, CMake and
    Ninja. Summaries go to build/hunt.
    """
    share = float(session.posargs[0]) if session.posargs else 1.0
    out = Path("build/hunt").resolve()
    for folder in ("seeds", "corpus"):
        (out / folder).mkdir(parents=True, exist_ok=True)

    clang = {"CC": os.environ.get("CC", "clang-14"), "CXX": os.environ.get("CXX", "clang++-14")}
    session.run("cmake", "--preset", "fuzz", external=True, env=clang)
    session.run("cmake", "--build", "--preset", "fuzz", "--target", "abi_random", "abi_fuzz", external=True)
    fuzz = Path("build/fuzz/tests/fuzz").resolve()
    with session.chdir(out):
        # Memory of the library's own is full of garbage at first, so that nothing is right by luck.
        garbage = {"ASAN_OPTIONS": "max_malloc_fill_size=1048576:quarantine_size_mb=16"}
        session.run(str(fuzz / "abi_random"), "--runs", "20000", "--corpus", "seeds", external=True, env=garbage)
        runs = str(round(500_000 * share))
        session.run(str(fuzz / "abi_random"), "--seed", "1", "--runs", runs, external=True, env=garbage)
        limits = ("-max_len=400", "-len_control=0", "-timeout=60", "-rss_limit_mb=4000", "-print_final_stats=1")
        seconds = f"-max_total_time={max(1, round(3600 * share))}"
        session.run(str(fuzz / "abi_fuzz"), "corpus", "seeds", *limits, seconds, external=True, env=garbage)

    session.run("cmake", "--preset", "tsan", external=True)
    session.run("cmake", "--build", "--preset", "tsan", "--target", "abi_threads", external=True)
    seconds = str(max(5, round(300 * share)))
    session.run("build/tsan/tests/fuzz/abi_threads", "--seconds", seconds, external=True)

    session.install(".[test]")
    examples = str(max(100, round(20_000 * share)))  # of each of five tests
    session.run("pytest", "-q", "tests/python/test_properties.py", env={"FUSEDSSIM_EXAMPLES": examples})
    for script, minutes in (("differential", 10), ("soak", 60)):
        arguments = ("--minutes", str(minutes * share), "--json", str(out / f"{script}.json"))
        session.run("python", f"tests/fuzz/{script}.py", *arguments)
