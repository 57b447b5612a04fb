# SPDX-License-Identifier: MIT
"""`fused-ssim` and input that it cannot take: an error of one line, and the exit status."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from commandline import compare, run, save
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path


def fails(*arguments: object) -> str:
    result = run("compare", *arguments)
    assert result.exit_code == 1, result.output
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1, result.output
    return result.output


def test_compare_grey_against_colour_names_both(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = save(tmp_path / "a.png", colour[0]), save(tmp_path / "b.png", colour[0][..., 0])
    message = fails(a, b)
    for part in (str(a), "3 channels", str(b), "1 channel", "40 x 56"):
        assert part in message


def test_compare_different_sizes_names_both(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    message = fails(save(tmp_path / "a.png", colour[0]), save(tmp_path / "b.png", colour[0].swapaxes(0, 1).copy()))
    assert "40 x 56" in message
    assert "56 x 40" in message
    assert "turned" in message


def test_compare_image_against_volume_names_both(tmp_path: Path, volumes: tuple[np.ndarray, np.ndarray]) -> None:
    message = fails(save(tmp_path / "a.npy", volumes[0]), save(tmp_path / "b.npy", volumes[0][0]))
    assert "a volume" in message
    assert "an image" in message


def test_compare_different_dtypes_need_a_data_range(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a = save(tmp_path / "a.npy", colour[0])
    b = save(tmp_path / "b.npy", colour[0].astype(np.float32))
    message = fails(a, b)
    assert "uint8" in message
    assert "float32" in message
    report = compare(a, b, "--data-range", "255")
    assert (report["ssim"], report["dtype"]) == (1.0, "uint8 and float32")


def test_compare_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    values = np.zeros((20, 20), np.float32)
    values[3, 4] = math.nan
    assert "1 of 400 values" in fails(save(tmp_path / "a.npy", values), tmp_path / "a.npy")


def test_compare_constant_integers_need_a_data_range(tmp_path: Path) -> None:
    a = save(tmp_path / "a.npy", np.full((20, 20), 5, np.int32))
    assert "--data-range" in fails(a, a)
    assert compare(a, a, "--data-range", "10")["ssim"] == 1.0


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.nii", "a.nii.gz", "a.tif", "a.txt"])
def test_compare_damaged_file_is_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"neither this nor that" * 40)
    message = fails(path, path)
    assert str(path) in message


def test_compare_truncated_png_is_one_line(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    path = save(tmp_path / "a.png", colour[1])
    path.write_bytes(path.read_bytes()[:2000])
    assert "cannot be read" in fails(path, path)


@pytest.mark.parametrize("values", [np.zeros((9, 9), complex), np.array([["a"]]), np.zeros((0, 9)), np.array({})])
def test_compare_arrays_that_are_not_pictures_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    path = tmp_path / "a.npy"
    np.save(path, values, allow_pickle=True)
    assert str(path) in fails(path, path)


def test_compare_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("L", (20, 20), shade) for shade in (0, 100, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert "3 frames" in fails(tmp_path / "a.gif", tmp_path / "a.gif")


def test_compare_16_bit_colour_png_is_never_cut_to_8_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow cannot write such a file: signature, header (2 x 1 pixels, 16 bits, RGB), pixels, end.
    path = tmp_path / "a.png"
    path.write_bytes(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d49484452000000020000000110020000002bd0349e0000001549444154789c63"
            "6060646266616563e7e0e4e20600012b00432c23f2df0000000049454e44ae426082"
        )
    )
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert "pip install imagecodecs" in fails(path, path)


def test_compare_valid_below_the_window_is_one_line(tmp_path: Path) -> None:
    a = save(tmp_path / "a.npy", np.random.default_rng(6).random((8, 30)))
    message = fails(a, a, "--padding", "valid")
    assert "8" in message
    assert "11" in message


def test_compare_map_in_a_missing_folder_is_one_line(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a = save(tmp_path / "a.png", colour[0])
    assert "cannot be written" in fails(a, a, "--map", tmp_path / "no" / "map.png")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA can be used")
def test_compare_on_cuda_without_cuda_is_one_line(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a = save(tmp_path / "a.png", colour[0])
    assert "CUDA cannot be used" in fails(a, a, "--device", "cuda")


@pytest.mark.cuda
def test_compare_on_cuda_agrees_with_the_cpu(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (save(tmp_path / f"{name}.png", values) for name, values in zip("ab", colour, strict=True))
    result = run("compare", a, b, "--json", "--device", "cuda")
    report = json.loads(result.stdout)
    assert report["device"] == "cuda:0"
    assert report["ssim"] == pytest.approx(compare(a, b)["ssim"], abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        ["--window-size", "4"],
        ["--window-size", "35"],
        ["--sigma", "0"],
        ["--data-range", "-1"],
        ["--padding", "mirror"],
        ["--map", "map.xyz"],
        ["--device", "tpu"],
    ],
    ids=lambda options: options[0] + "=" + options[1],
)
def test_compare_wrong_usage_exits_with_2(
    tmp_path: Path, colour: tuple[np.ndarray, np.ndarray], options: list[str]
) -> None:
    a = save(tmp_path / "a.png", colour[0])
    assert run("compare", a, a, *options).exit_code == 2


def test_compare_missing_file_exits_with_2(tmp_path: Path) -> None:
    result = run("compare", tmp_path / "a.png", tmp_path / "b.png")
    assert result.exit_code == 2
    assert "does not exist" in result.output


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("PIL", "cli", ["compare", "a.png", "a.png"]),
        ("tifffile", "cli", ["compare", "a.tif", "a.tif"]),
        ("nibabel", "cli", ["compare", "a.nii", "a.nii"]),
        ("numpy", "cli", ["compare", "a.png", "a.png"]),
        ("matplotlib", "cli", ["compare", "a.png", "a.png", "--map", "map.png"]),
        ("rich", "demo", ["demo"]),
        ("skimage", "demo", ["demo"]),
    ],
)
def test_missing_package_is_named_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("P", (20, 20)).save(tmp_path / "a.png")
    save(tmp_path / "a.tif", np.zeros((20, 20), np.uint8))
    save(tmp_path / "a.nii", np.zeros((20, 20, 20), np.uint8))
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "fused_ssim.cli.plots", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    result = run(*arguments)
    assert result.exit_code == 1
    assert f"'{package}'" in result.output
    assert f"pip install 'fused-ssim[{extra}]'" in result.output
    assert result.output.count("\n") == 1
