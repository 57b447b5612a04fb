# SPDX-License-Identifier: MIT
"""`fused-ssim compare`: the data range, masks, opacity, and the words of errors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from commandline import compare, needs_posix, run, save
from oracle import ssim_map as exact_map
from PIL import Image
from test_cli_errors import fails
from test_cli_files import ssim, write

import fused_ssim
from fused_ssim.cli import scoring
from fused_ssim.cli.results import Settings
from fused_ssim.cli.scoring import load_pair, mask_of, score_files, ssim_map

RANDOM = np.random.default_rng(19)


# ---- The data range --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(92, 109), (-1, 1), (0, 255), (-1000, 3000)])
@pytest.mark.parametrize("ending", ["npy", "tif", "pfm"])
def test_floats_far_from_0_to_1_need_a_data_range(tmp_path: Path, low: float, high: float, ending: str) -> None:
    values = np.linspace(low, high, 400, dtype=np.float32).reshape(20, 20)
    if ending == "pfm":
        a = write(tmp_path / "a.pfm", b"Pf\n20 20\n-1.0\n" + values.tobytes())
    else:
        a = save(tmp_path / f"a.{ending}", values)
    message = fails(a, a)
    assert f"from {low} to {high}" in message
    assert "--data-range" in message
    assert compare(a, a, "--data-range", high - low)["ssim"] == 1.0


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32])
def test_scans_have_the_span_of_their_values(tmp_path: Path, dtype: Any) -> None:
    pair = [RANDOM.integers(10, 1000, (12, 13, 14)).astype(dtype) for _ in range(2)]
    a, b = (save(tmp_path / f"{name}.nii", values) for name, values in zip("ab", pair, strict=True))
    report = compare(a, b)
    span = float(max(v.max() for v in pair)) - float(min(v.min() for v in pair))
    assert (report["data_range"], report["data_range_source"]) == (span, "values")
    assert report["ssim"] == pytest.approx(ssim(*pair, span), abs=1e-9)


def test_scan_and_its_floating_point_version_are_compared_with_a_note(tmp_path: Path) -> None:
    values = RANDOM.integers(10, 1000, (12, 13, 14)).astype(np.int16)
    a, b = save(tmp_path / "a.nii", values), save(tmp_path / "b.nii", values.astype(np.float32))
    report = compare(a, b)
    assert report["ssim"] == 1.0
    assert "different dtypes" in report["notes"][0]


@pytest.mark.parametrize("ending", ["npy", "png", "tif"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_16_bit_files_of_fewer_bits_give_a_note(tmp_path: Path, ending: str, bits: int) -> None:
    values = RANDOM.integers(0, 2**bits, (20, 20)).astype(np.uint16)
    values[0, 0] = 2**bits - 1
    a = save(tmp_path / f"a.{ending}", values)
    report = compare(a, a)
    assert report["data_range"] == 65535
    assert f"--data-range {2**bits - 1}" in report["notes"][0]


def test_float32_and_float64_are_compared_with_a_note(tmp_path: Path) -> None:
    values = RANDOM.random((20, 20)).astype(np.float32)
    a, b = save(tmp_path / "a.npy", values), save(tmp_path / "b.npy", values.astype(np.float64))
    report = compare(a, b)
    assert (report["ssim"], report["dtype"]) == (1.0, "float32 and float64")
    assert "different dtypes" in report["notes"][0]


def test_values_with_an_offset_are_computed_in_float64(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    pair = [(20000 + rng.integers(0, 7, (64, 64))).astype(np.uint16) for _ in range(2)]
    a, b = (save(tmp_path / f"{name}.png", values) for name, values in zip("ab", pair, strict=True))
    x, y = (torch.from_numpy(values.astype(np.float64))[None, None] for values in pair)
    expected = exact_map(x, y, padding="same", data_range=6.0).mean().item()
    report = compare(a, b, "--data-range", "6")
    assert report["ssim"] == pytest.approx(expected, abs=1e-6)
    assert abs(compare(a, b, "--data-range", "6", "--precision", "float32")["ssim"] - expected) > 1e-4


# ---- What does not count ---------------------------------------------------------------------------------------------


def test_ignore_nan_leaves_values_out(tmp_path: Path) -> None:
    first, second = RANDOM.random((2, 30, 32)).astype(np.float32)
    holes = RANDOM.random((30, 32)) < 0.1
    with_holes = np.where(holes, np.nan, first)
    a, b = save(tmp_path / "a.tif", with_holes), save(tmp_path / "b.tif", second)
    assert "--ignore-nan" in fails(a, b)
    report = compare(a, b, "--ignore-nan")
    x, y = (torch.from_numpy(np.where(holes, 0, v).astype(np.float64))[None, None] for v in (first, second))
    mask = torch.from_numpy(~holes).to(torch.float64)[None, None]
    expected = fused_ssim.fused_ssim(x, y, mask=mask, mask_mode="normalized").item()
    assert report["ssim"] == pytest.approx(expected, abs=1e-9)
    difference = np.abs(first.astype(float) - second)[~holes]
    assert report["l1"] == pytest.approx(difference.mean(), abs=1e-12)
    assert report["psnr"] == pytest.approx(-10 * np.log10((difference**2).mean()), abs=1e-9)
    assert any(f"{int(holes.sum())} of 960" in note for note in report["notes"])


def test_mask_excludes_what_is_black(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    shape = colour[0].shape[:2]
    inside = np.zeros(shape, bool)
    inside[5:30, 8:40] = True
    disturbed = np.where(inside[..., None], colour[1], 255 - colour[1])
    a, b, c = (save(tmp_path / f"{n}.png", v) for n, v in zip("abc", (*colour, disturbed), strict=True))
    mask = save(tmp_path / "mask.png", inside.astype(np.uint8) * 255)
    report = compare(a, b, "--mask", mask)
    assert report["ssim"] != compare(a, b)["ssim"]
    assert report["ssim"] == compare(a, c, "--mask", mask)["ssim"]
    nan = np.where(inside[..., None], colour[0] / 255, np.nan).astype(np.float32)
    d, e = save(tmp_path / "d.npy", nan), save(tmp_path / "e.npy", (colour[1] / 255).astype(np.float32))
    assert compare(d, e, "--mask", mask)["ssim"] == pytest.approx(report["ssim"], abs=1e-6)
    wider = save(tmp_path / "wide.png", np.full(shape, 255, np.uint8))
    assert "where the mask is not 0" in fails(d, e, "--mask", wider)
    assert "mask is 0 everywhere" in fails(a, b, "--mask", save(tmp_path / "no.png", np.zeros(shape, np.uint8)))
    assert "--mask is 3 x 4" in fails(a, b, "--mask", save(tmp_path / "small.png", np.full((3, 4), 255, np.uint8)))


@pytest.mark.parametrize("colour_name", ["white", "#102030"])
@pytest.mark.parametrize("premultiplied", [False, True])
def test_background_shows_through_transparency(tmp_path: Path, colour_name: str, premultiplied: bool) -> None:
    alpha = RANDOM.integers(0, 256, (20, 22, 1), dtype=np.uint8)
    alpha[:4] = 0
    colours = RANDOM.integers(0, 256, (20, 22, 3), dtype=np.uint8)
    hidden = np.where(alpha == 0, RANDOM.integers(0, 256, colours.shape, dtype=np.uint8), colours)
    if premultiplied:
        colours = np.round(colours * (alpha / 255)).astype(np.uint8)
        kind = "assocalpha"
        hidden = colours
    else:
        kind = "unassalpha"
    a = save(tmp_path / "a.tif", np.concatenate([colours, alpha], -1), extrasamples=[kind], photometric="rgb")
    b = save(tmp_path / "b.tif", np.concatenate([hidden, alpha], -1), extrasamples=[kind], photometric="rgb")
    back = {"white": (255, 255, 255), "#102030": (16, 32, 48)}[colour_name]
    over = colours * (1.0 if premultiplied else alpha / 255) + (1 - alpha / 255) * np.array(back)
    c = save(tmp_path / "c.npy", over)
    assert compare(a, b, "--background", colour_name)["ssim"] == 1.0
    report = compare(a, c, "--background", colour_name, "--data-range", "255")
    assert report["ssim"] == pytest.approx(1.0, abs=1e-9)
    if not premultiplied:
        assert compare(a, b)["ssim"] < 1
        assert any("--background" in note for note in compare(a, b)["notes"])


def test_background_that_is_no_colour_is_wrong_usage(tmp_path: Path) -> None:
    a = save(tmp_path / "a.npy", np.zeros((20, 20)))
    assert run("compare", a, a, "--background", "plaid").exit_code == 2


# ---- Scores beside SSIM ----------------------------------------------------------------------------------------------


def test_psnr_and_l1_equal_numpy(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    difference = np.abs(colour[0].astype(float) - colour[1])
    for ending in ("png", "npy", "tif"):
        a, b = (save(tmp_path / f"{name}.{ending}", values) for name, values in zip("ab", colour, strict=True))
        report = compare(a, b)
        assert report["l1"] == pytest.approx(difference.mean() / 255, abs=1e-12)
        assert report["psnr"] == pytest.approx(10 * np.log10(255**2 / (difference**2).mean()), abs=1e-9)
    assert compare(a, a)["psnr"] == "inf"


def test_ms_ssim_equals_the_library_or_says_why_not(tmp_path: Path) -> None:
    pair = RANDOM.integers(0, 256, (2, 180, 190), dtype=np.uint8)
    a, b = (save(tmp_path / f"{name}.png", values) for name, values in zip("ab", pair, strict=True))
    x, y = (torch.from_numpy(values.astype(np.float64))[None, None] for values in pair)
    report = compare(a, b, "--ms-ssim")
    assert report["ms_ssim"] == pytest.approx(fused_ssim.ms_ssim(x, y, data_range=255).item(), abs=1e-9)
    assert compare(a, b)["ms_ssim"] is None
    small = save(tmp_path / "c.png", pair[0][:160])
    report = compare(small, small, "--ms-ssim")
    assert report["ms_ssim"] is None
    assert "too small for MS-SSIM" in report["notes"][-1]


# ---- The pixels again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kind", ["image", "volume", "masked"])
def test_pair_is_loaded_again_as_it_was_scored(
    tmp_path: Path,
    colour: tuple[np.ndarray, np.ndarray],
    volumes: tuple[np.ndarray, np.ndarray],
    kind: str,
    padding: str,
) -> None:
    ending, arrays = ("nii", volumes) if kind == "volume" else ("png", colour)
    a, b = (save(tmp_path / f"{name}.{ending}", values) for name, values in zip("ab", arrays, strict=True))
    mask = None
    if kind == "masked":
        weights = np.zeros(colour[0].shape[:2], np.uint8)
        weights[8:30, 10:40] = np.random.default_rng(4).integers(60, 256, (22, 30), dtype=np.uint8)
        mask = str(save(tmp_path / "mask.png", weights))
    settings = Settings(padding=padding, mask=mask)
    result = score_files("a", a, b, settings, mask_of(settings))
    assert result.error is None
    pair = load_pair(result, settings, mask_of(settings))
    assert (pair.data_range, pair.first.shape[1:]) == (result.data_range, result.shape)
    assert pair.black == (min(v.min() for v in volumes) if kind == "volume" else 0)
    values = ssim_map(pair, settings)
    if mask is None:
        assert values.mean() == pytest.approx(result.ssim, abs=1e-12)
    else:
        cut = 5 * (padding == "valid")
        inner = weights[cut : weights.shape[0] - cut, cut : weights.shape[1] - cut].astype(float)
        assert (values * inner).sum() / (3 * inner.sum()) == pytest.approx(result.ssim, abs=1e-12)
        assert (values[:, inner == 0] == 1).all()


# ---- Words -----------------------------------------------------------------------------------------------------------


def test_valid_on_a_short_side_names_the_files(tmp_path: Path) -> None:
    a = save(tmp_path / "a.nii", RANDOM.integers(0, 99, (20, 20, 4)).astype(np.int16))
    message = fails(a, a, "--padding", "valid")
    assert str(a) in message
    assert "window of 11" in message


def test_volumes_of_different_counts_are_not_sent_to_grey(tmp_path: Path) -> None:
    a = save(tmp_path / "a.nii", np.ones((12, 12, 12, 3), np.int16))
    b = save(tmp_path / "b.nii", np.ones((12, 12, 12), np.int16))
    message = fails(a, b)
    assert "grey" not in message
    assert "one of the 3" in message


def test_signed_white_is_zero_and_other_kinds_have_words(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 20, 3), np.uint8), photometric="cielab")
    assert "CIELAB" in fails(tmp_path / "a.tif", tmp_path / "a.tif")
    assert "empty" in fails(write(tmp_path / "b.png", b""), tmp_path / "a.tif")
    complex_values = save(tmp_path / "c.npy", np.ones((20, 20), complex))
    assert "magnitude" in fails(complex_values, complex_values)


def command(*arguments: str | bytes | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-m", "fused_ssim", "compare", *arguments],
        env=environment,
        check=False,
        stderr=subprocess.PIPE,
        **{"stdout": subprocess.PIPE, **options},
    )


@needs_posix
def test_file_name_that_is_not_utf_8(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    Image.fromarray(colour[0]).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(Path(os.fsdecode(name)))
    done = command(name, name, "--map", tmp_path / "map.png")
    assert done.returncode == 0, done.stderr
    assert b"SSIM" in done.stdout
    assert (tmp_path / "map.png").exists()
    done = command(name, tmp_path / "no.png")
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_full_output_is_one_line(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a = save(tmp_path / "a.png", colour[0])
    with Path("/dev/full").open("wb") as full:
        done = command(a, a, stdout=full)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"cannot be written" in done.stderr


def test_map_that_cannot_be_drawn_loses_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: tuple[np.ndarray, np.ndarray]
) -> None:
    a = save(tmp_path / "a.png", colour[0])
    monkeypatch.setenv("PATH", str(tmp_path))  # no LaTeX
    result = run("compare", a, a, "--map", tmp_path / "map.pgf")
    assert result.exit_code == 1
    assert "SSIM        1.000000" in result.output
    assert "Error: " in result.output
    assert "cannot be drawn" in result.output


def test_what_was_decided_about_a_mask_is_a_note(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (save(tmp_path / f"{name}.png", values) for name, values in zip("ab", colour, strict=True))
    white = np.full((*colour[0].shape[:2], 3), 255, np.uint8)
    opacity = RANDOM.integers(0, 256, colour[0].shape[:2]).astype(np.uint8)
    mask = save(tmp_path / "mask.png", np.dstack([white, opacity]))
    report = compare(a, b, "--mask", mask)
    assert any(note.startswith(f"{mask}: has transparency") for note in report["notes"])


def test_large_files_are_computed_in_float32_and_one_after_the_other(
    tmp_path: Path, colour: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    for side, values in zip(("first", "second"), colour, strict=True):
        (tmp_path / side).mkdir()
        for number in range(8):
            save(tmp_path / side / f"{number}.png", values)
    at_once, most = 0, 0
    ssim = scoring._ssim

    def watched(*arguments: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.01)
        found = ssim(*arguments)
        at_once -= 1
        return found

    monkeypatch.setattr(scoring, "_ssim", watched)
    folders = tmp_path / "first", tmp_path / "second"
    for room, words, threads in ((2**40, 0, 4), (4 * 8 * colour[0].size, 0, 1), (4 * 8 * colour[0].size - 1, 8, 1)):
        monkeypatch.setattr(scoring, "_room", lambda _, room=room: room)
        most = 0
        result = run("compare", *folders, "--json", "--workers", 4, "--device", "cpu")
        assert result.exit_code == 0, result.output
        assert result.stdout.count("computed in float32") == words
        assert most <= threads
        assert (most > 1) == (threads > 1)
