# SPDX-License-Identifier: MIT
"""`fused-ssim demo`, `info` and help; test_cli_compare and test_cli_errors are about `compare`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from commandline import heat_map, run

import fused_ssim
from fused_ssim.cli import recovery

if TYPE_CHECKING:
    from pathlib import Path

EXTRAS = ("PIL", "matplotlib", "nibabel", "numpy", "rich", "skimage", "tifffile")


def test_demo_with_few_steps_writes_the_pictures(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    result = run("demo", "--out", out, "--steps", "3", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "3/3" in result.output
    for name in ("photograph.png", "volume.png", "curve.png", "masked.png"):
        pixels = heat_map(out / name)
        assert min(pixels.shape[:2]) > 300
        assert np.ptp(pixels) > 200
        assert name in result.output


def test_demo_recovers_both_targets(tmp_path: Path) -> None:
    result = run("demo", "--out", tmp_path, "--device", "cpu")
    assert result.exit_code == 0, result.output
    for name in ("photograph", "MR volume"):
        row = next(line for line in result.output.splitlines() if name in line and "cpu" in line)
        start, final = (float(cell) for cell in row.replace("|", "│").split("│")[3:5])
        assert start < 0.1
        assert 0.95 < final <= 1
    line = next(line for line in result.output.replace("\n", " ").split("Mean error")[1:])
    errors = {name: float(re.search(rf"{name} ([\d.]+)", line)[1]) for name in ("no mask", "weight", "normalized")}
    assert errors["no mask"] > errors["weight"] > errors["normalized"]
    assert errors["normalized"] < 0.01


def test_demo_reports_on_its_results(tmp_path: Path) -> None:
    result = run("demo", "--out", tmp_path, "--steps", "2", "--device", "cpu")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    files = sorted(path.name for path in (tmp_path / "targets").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "results").iterdir())
    assert len(files) == 5
    for name in files:
        assert f">{name}</button>" in page
    # The command says the same of the files.
    compared = run("compare", tmp_path / "targets", tmp_path / "results", "--json")
    assert compared.exit_code == 0, compared.output
    for line in compared.stdout.splitlines():
        pair = json.loads(line)
        assert f"<td>{pair['ssim']:.5f}</td>" in page


def test_demo_into_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("demo", "--out", tmp_path / "file" / "below", "--steps", "1")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


def test_demo_into_a_folder_that_cannot_be_written_is_an_error_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "ascend", lambda *_: pytest.fail("the work has begun"))
    for taken in ("curve.png", "report/photograph.png"):
        folder = tmp_path / taken.replace("/", "-")
        (folder / taken).mkdir(parents=True)
        result = run("demo", "--out", folder, "--steps", "1", "--device", "cpu")
        assert (result.exit_code, result.output.count("\n")) == (1, 1)
        assert result.output.endswith("cannot be written: it is a folder\n")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "targets").touch()
    result = run("demo", "--out", tmp_path / "plain", "--steps", "1", "--device", "cpu")
    assert result.exit_code == 1
    assert "targets: cannot be made" in result.output


def test_info_prints_what_the_library_says() -> None:
    result = run("info")
    assert result.exit_code == 0
    rows = {line[:13].strip(): line[13:] for line in result.output.splitlines()}
    info = fused_ssim.info()
    assert rows["fused-ssim"] == fused_ssim.__version__
    assert rows["library"] == str(info.library_path)
    assert rows["torch"] == torch.__version__
    assert info.cpu_isa in rows["CPU"]
    assert rows["CUDA"] == "usable" or rows["CUDA"].startswith("not usable: ")
    assert (rows["CUDA"] == "usable") == (not info.cuda_problem and torch.cuda.is_available())


def test_info_json_has_all_fields() -> None:
    report = json.loads(run("info", "--json").stdout)
    assert report["version"] == fused_ssim.__version__
    assert report["cuda_usable"] == (not report["cuda_problem"])
    for key in ("library_path", "cuda_built", "cuda_architectures", "cuda_driver_version", "devices", "cpu_isa"):
        assert key in report


def test_info_needs_no_extra() -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r})); from fused_ssim.cli import main; main(['info'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fused-ssim ")


def test_python_m_fused_ssim_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "fused_ssim", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"fused-ssim {fused_ssim.__version__}"


@pytest.mark.parametrize("command", ["compare", "demo", "info"])
def test_help_shows_examples(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"\n    fused-ssim {command}" in result.output
