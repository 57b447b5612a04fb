# SPDX-License-Identifier: MIT
"""The command `fused-ssim`, run in this process, and files for it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from PIL import Image

from fused_ssim.cli import main

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files or signals")


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def compare(*arguments: object) -> dict[str, Any]:
    result = run("compare", *arguments, "--json", "--device", "cpu")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert isinstance(report, dict)
    return report


def benchmark_script(name: str) -> Any:
    """A script of benchmarks/, as a module."""
    path = BENCHMARKS / name
    if not path.exists():
        pytest.skip("no checkout around the tests")
    spec = importlib.util.spec_from_file_location(path.stem + "_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save(path: Path, values: np.ndarray, **options: Any) -> Path:
    """Writes an array in the format of the path's ending."""
    name = path.name
    if name.endswith(".npy"):
        np.save(path, values)
    elif name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    elif name.endswith(".tif"):
        tifffile.imwrite(path, values, **options)
    else:
        Image.fromarray(values).save(path, **options)
    return path


def heat_map(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)
