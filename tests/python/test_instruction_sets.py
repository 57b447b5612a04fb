# SPDX-License-Identifier: MIT
"""The accuracy tests with each instruction set of the CPU: a process each, since the choice is made once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from systems import X86

import fused_ssim._core as core

VARIABLE = "FUSEDSSIM_CPU_ISA"
INSTRUCTION_SETS = ["baseline", "avx2", "avx512"]
ACCURACY = ["test_values.py", "test_references.py", "test_hard_cases.py", "test_strides.py"]
HERE = Path(__file__).parent


def run(isa, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, VARIABLE: isa},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=1800,
    )


def isa_of_child(isa):
    return run(isa, "-c", "import fused_ssim._core as core; print(core.info()['cpu_isa'])")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_results_are_right_with_every_instruction_set(isa):
    child = isa_of_child(isa)
    if child.returncode != 0:
        assert f"{VARIABLE} = {isa}" in child.stderr
        pytest.skip(f"this processor or this build does not have {isa}")
    assert child.stdout.strip() == isa
    if os.environ.get(VARIABLE) or core.info()["cpu_isa"] == isa:
        return  # what all tests of this process use
    options = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not cuda and not large"]
    tests = run(isa, "-m", "pytest", *options, *ACCURACY)
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert " passed" in tests.stdout


def test_unknown_instruction_set_is_an_error():
    child = isa_of_child("mmx")
    assert child.returncode != 0
    names = "baseline, avx2 or avx512" if X86 else "baseline"
    assert f"{VARIABLE} = mmx, expected {names}, as far as" in child.stderr
