# SPDX-License-Identifier: MIT
"""The command `fused-ssim`: files in, scores, pictures and errors out."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner, Result
from PIL import Image
from skimage.metrics import structural_similarity

import fused_ssim
from fused_ssim.cli import main
from fused_ssim.cli.images import infer_axes, read

EXTRAS = ("PIL", "matplotlib", "nibabel", "numpy", "rich", "skimage", "tifffile")


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


def fails(*arguments: object) -> str:
    result = run("compare", *arguments)
    assert result.exit_code == 1, result.output
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1, result.output
    return result.output


def ssim(a: np.ndarray, b: np.ndarray, data_range: float, **options: Any) -> torch.Tensor:
    """A direct call, of arrays (C, ...)."""
    x, y = (torch.from_numpy(np.ascontiguousarray(array).astype(np.float64))[None] for array in (a, b))
    function = fused_ssim.fused_ssim3d if x.ndim == 5 else fused_ssim.fused_ssim2d
    return function(x, y, options.pop("padding", "same"), False, data_range=data_range, **options)


@pytest.fixture(scope="module")
def colour() -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture and a noisy version of it, (40, 56, 3) uint8."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:40, :56]
    clean = 127 + 90 * np.sin(np.stack([x / 5, y / 7, (x + y) / 9], axis=-1))
    noisy = clean + random.normal(0, 12, clean.shape)
    return clean.astype(np.uint8), np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def volumes() -> tuple[np.ndarray, np.ndarray]:
    """A volume and a noisy version of it, (18, 20, 22) int16, partly negative."""
    random = np.random.default_rng(2)
    z, y, x = np.mgrid[:18, :20, :22]
    clean = 900 * np.sin(x / 4) * np.cos(y / 5) * np.sin(z / 6)
    return clean.astype(np.int16), (clean + random.normal(0, 60, clean.shape)).astype(np.int16)


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


def channels_first(values: np.ndarray) -> np.ndarray:
    return np.moveaxis(values, -1, 0)


# ---- Values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "tif", "npy"])
def test_compare_colour_images_equals_the_library(
    tmp_path: Path, colour: tuple[np.ndarray, np.ndarray], ending: str
) -> None:
    a, b = (save(tmp_path / f"{name}.{ending}", values) for name, values in zip("ab", colour, strict=True))
    report = compare(a, b)
    expected = ssim(*map(channels_first, colour), 255.0, reduction="channel")[0]
    assert report["per_channel"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert report["score"] == pytest.approx(expected.mean().item(), abs=1e-5)
    assert 0.1 < report["score"] < 0.99
    assert set(report) == {
        "score", "per_channel", "a", "b", "kind", "shape", "channels", "dtype", "data_range", "data_range_source",
        "padding", "window_size", "sigma", "device", "map", "notes", "version",
    }  # fmt: skip
    assert report["kind"] == "image"
    assert report["shape"] == [40, 56]
    assert report["channels"] == ["red", "green", "blue"]
    assert (report["dtype"], report["data_range"], report["data_range_source"]) == ("uint8", 255.0, "dtype")
    assert (report["padding"], report["window_size"], report["sigma"]) == ("same", 11, 1.5)
    assert (report["device"], report["map"], report["notes"]) == ("cpu", None, [])
    assert report["version"] == fused_ssim.__version__


def test_compare_valid_equals_scikit_image(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (save(tmp_path / f"{name}.png", values) for name, values in zip("ab", colour, strict=True))
    expected = structural_similarity(
        *colour, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert compare(a, b, "--padding", "valid")["score"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--padding", "valid"], {"padding": "valid"}),
        (["--window-size", "7", "--sigma", "0.8"], {"window_size": 7, "sigma": 0.8}),
        (["--data-range", "300"], {"data_range": 300.0}),
    ],
    ids=["valid", "window", "data-range"],
)
def test_compare_options_reach_the_library(
    tmp_path: Path, colour: tuple[np.ndarray, np.ndarray], options: list[str], arguments: dict[str, Any]
) -> None:
    a, b = (save(tmp_path / f"{name}.png", values[..., 0]) for name, values in zip("ab", colour, strict=True))
    report = compare(a, b, *options)
    expected = ssim(*(values[None, ..., 0] for values in colour), **{"data_range": 255.0, **arguments})
    assert report["score"] == pytest.approx(expected.item(), abs=1e-5)
    assert report["data_range_source"] == ("option" if "--data-range" in options else "dtype")


@pytest.mark.parametrize(
    ("name", "dtype", "data_range"),
    [
        ("grey.png", np.uint8, 255.0),
        ("grey16.png", np.uint16, 65535.0),
        ("grey.tif", np.uint16, 65535.0),
        ("grey.tif", np.float32, 1.0),
        ("grey.npy", np.uint16, 65535.0),
        ("grey.npy", np.float16, 1.0),
        ("grey.npy", np.float64, 1.0),
        ("grey.npy", np.bool_, 1.0),
        ("grey.npy", ">u2", 65535.0),
        ("grey.npy", ">f4", 1.0),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_compare_data_range_follows_the_dtype(
    tmp_path: Path, colour: tuple[np.ndarray, np.ndarray], name: str, dtype: Any, data_range: float
) -> None:
    pair = [values[..., 0] / 255 for values in colour]
    pair = [values > 0.5 if dtype is np.bool_ else (values * data_range).astype(dtype) for values in pair]
    a, b = (save(tmp_path / f"{i}{name}", values) for i, values in enumerate(pair))
    report = compare(a, b)
    assert (report["data_range"], report["data_range_source"]) == (data_range, "dtype")
    assert report["dtype"] == np.dtype(dtype).name
    assert report["score"] == pytest.approx(ssim(*(values[None] for values in pair), data_range).item(), abs=1e-5)


def test_compare_1_bit_images_have_data_range_1(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (save(tmp_path / f"{i}.png", values[..., 0] > 127) for i, values in enumerate(colour))
    assert Image.open(a).mode == "1"
    assert compare(a, b)["data_range"] == 1.0


def test_compare_jpeg_is_read(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a = save(tmp_path / "a.png", colour[0])
    b = save(tmp_path / "b.jpg", colour[0], quality=95)
    decoded = np.asarray(Image.open(b))
    expected = ssim(channels_first(colour[0]), channels_first(decoded), 255.0).item()
    assert compare(a, b)["score"] == pytest.approx(expected, abs=1e-5)


def test_compare_turned_photograph_is_set_upright(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    a = save(tmp_path / "a.png", colour[0])
    b = save(tmp_path / "b.png", np.rot90(colour[0]).copy(), exif=exif)
    report = compare(a, b)
    assert report["score"] == 1.0
    assert "EXIF" in report["notes"][0]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_compare_transparency_is_ignored_with_a_note(
    tmp_path: Path, colour: tuple[np.ndarray, np.ndarray], mode: str
) -> None:
    picture = Image.fromarray(colour[0])
    if mode == "P":
        seen, other = picture.quantize(16), picture.quantize(16)
        plain = seen.convert("RGB")
        seen.save(tmp_path / "a.png")
        other.save(tmp_path / "b.png", transparency=0)
    else:
        plain = picture.convert(mode.rstrip("A"))
        opaque, half = plain.convert(mode), plain.convert(mode)
        half.putalpha(100)
        opaque.save(tmp_path / "a.png")
        half.save(tmp_path / "b.png")
    plain.save(tmp_path / "plain.png")
    report = compare(tmp_path / "a.png", tmp_path / "plain.png")
    assert (report["score"], report["notes"]) == (1.0, [])
    report = compare(tmp_path / "b.png", tmp_path / "plain.png")
    assert report["score"] == 1.0
    assert report["notes"] == [f"{tmp_path / 'b.png'}: has transparency, which is ignored"]


def test_compare_tiff_alpha_is_ignored_with_a_note(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    alpha = np.full((*colour[0].shape[:2], 1), 7, np.uint8)
    a = save(tmp_path / "a.tif", np.concatenate([colour[0], alpha], axis=-1), extrasamples=["unassalpha"])
    b = save(tmp_path / "b.png", colour[0])
    report = compare(a, b)
    assert report["score"] == 1.0
    assert "transparency" in report["notes"][0]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_compare_compressed_tiff_is_read(
    tmp_path: Path, colour: tuple[np.ndarray, np.ndarray], compression: str
) -> None:
    a = save(tmp_path / "a.png", colour[0])
    Image.fromarray(colour[0]).save(tmp_path / "b.tif", compression=compression)
    assert compare(a, tmp_path / "b.tif")["score"] == pytest.approx(1.0, abs=0.1 if compression == "jpeg" else 0)


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "npy"])
def test_compare_int16_volumes_equals_the_library(
    tmp_path: Path, volumes: tuple[np.ndarray, np.ndarray], ending: str
) -> None:
    a, b = (save(tmp_path / f"{name}.{ending}", values) for name, values in zip("ab", volumes, strict=True))
    report = compare(a, b)
    joint = float(max(v.max() for v in volumes)) - float(min(v.min() for v in volumes))
    assert (report["kind"], report["shape"], report["dtype"]) == ("volume", [18, 20, 22], "int16")
    assert (report["data_range"], report["data_range_source"]) == (joint, "values")
    expected = ssim(*(values[None] for values in volumes), joint).item()
    assert report["score"] == pytest.approx(expected, abs=1e-5)


def test_compare_tiff_stacks_equals_the_library(tmp_path: Path, volumes: tuple[np.ndarray, np.ndarray]) -> None:
    pair = [(values * 20 + 30000).astype(np.uint16) for values in volumes]
    a, b = (save(tmp_path / f"{name}.tif", values) for name, values in zip("ab", pair, strict=True))
    report = compare(a, b)
    assert (report["kind"], report["shape"], report["data_range"]) == ("volume", [18, 20, 22], 65535.0)
    assert report["score"] == pytest.approx(ssim(*(values[None] for values in pair), 65535.0).item(), abs=1e-5)


def test_compare_colour_tiff_stacks_have_channels(tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, 256, (12, 13, 14, 3), dtype=np.uint8)
    a = save(tmp_path / "a.tif", values, photometric="rgb")
    report = compare(a, a, "--per-channel")
    assert (report["kind"], report["shape"], report["channels"]) == ("volume", [12, 13, 14], ["red", "green", "blue"])


def test_compare_scaled_nifti_uses_the_scaled_values(tmp_path: Path, volumes: tuple[np.ndarray, np.ndarray]) -> None:
    for name, values in zip("ab", volumes, strict=True):
        image = nib.Nifti1Image(values, np.eye(4))
        image.header.set_slope_inter(0.5, 10)
        nib.save(image, tmp_path / f"{name}.nii")
    assert nib.load(tmp_path / "a.nii").get_fdata().max() == volumes[0].max() * 0.5 + 10
    report = compare(tmp_path / "a.nii", tmp_path / "b.nii")
    joint = 0.5 * (float(max(v.max() for v in volumes)) - float(min(v.min() for v in volumes)))
    assert (report["dtype"], report["data_range"]) == ("int16", joint)
    scaled = [values[None] * 0.5 + 10 for values in volumes]
    assert report["score"] == pytest.approx(ssim(*scaled, joint).item(), abs=1e-9)


def test_compare_4d_nifti_scores_each_volume(tmp_path: Path, volumes: tuple[np.ndarray, np.ndarray]) -> None:
    clean, noisy = volumes
    a = save(tmp_path / "a.nii", np.stack([clean, clean], axis=-1))
    b = save(tmp_path / "b.nii", np.stack([clean, noisy], axis=-1))
    report = compare(a, b)
    assert (report["shape"], report["channels"]) == ([18, 20, 22], ["volume 0", "volume 1"])
    assert report["per_channel"][0] == 1.0
    assert report["per_channel"][1] < 0.99


def test_compare_different_affines_give_a_note(tmp_path: Path, volumes: tuple[np.ndarray, np.ndarray]) -> None:
    a = save(tmp_path / "a.nii", volumes[0])
    nib.save(nib.Nifti1Image(volumes[0], np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "b.nii")
    assert any("affine" in note for note in compare(a, tmp_path / "b.nii")["notes"])


def test_compare_values_beyond_the_data_range_give_a_note(tmp_path: Path) -> None:
    a = save(tmp_path / "a.npy", np.linspace(-50, 400, 400, dtype=np.float32).reshape(20, 20))
    report = compare(a, a)
    assert report["data_range"] == 1.0
    assert "-50 to 400" in report["notes"][0]


# ---- What the axes mean ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kind", "axes"),
    [
        ((20, 30), None, "HW"),
        ((20, 30, 3), None, "HWC"),
        ((20, 30, 4), None, "HWC"),
        ((20, 30, 1), None, "HWC"),
        ((3, 20, 30), None, "CHW"),
        ((20, 30, 40), None, "DHW"),
        ((2, 20, 30), None, "DHW"),
        ((20, 30, 3), "volume", "DHW"),
        ((20, 30, 5), "image", "HWC"),
        ((5, 20, 30), "image", "CHW"),
        ((20, 30, 40, 3), None, "DHWC"),
        ((1, 20, 30, 40), None, "CDHW"),
        ((20, 30, 40, 7), "volume", "DHWC"),
        ((7, 20, 30, 40), "volume", "CDHW"),
    ],
)
def test_infer_axes_follows_the_rule(shape: tuple[int, ...], kind: Any, axes: str) -> None:
    assert infer_axes(Path("a.npy"), shape, kind) == axes


@pytest.mark.parametrize(
    ("shape", "kind"), [((9,), None), ((9, 9), "volume"), ((9, 9, 9, 9), None), ((9, 9, 9, 9), "image")]
)
def test_infer_axes_refuses_what_it_cannot_know(shape: tuple[int, ...], kind: Any) -> None:
    with pytest.raises(click.ClickException, match="shape"):
        infer_axes(Path("a.npy"), shape, kind)


def test_read_drops_leading_axes_of_length_1(tmp_path: Path) -> None:
    assert read(save(tmp_path / "a.npy", np.zeros((1, 3, 20, 30)))).values.shape == (3, 20, 30)
    assert read(save(tmp_path / "b.npy", np.zeros((1, 1, 16, 20, 30)))).values.shape == (1, 16, 20, 30)


def test_compare_as_volume_overrides_the_rule(tmp_path: Path) -> None:
    a = save(tmp_path / "a.npy", np.random.default_rng(4).random((20, 30, 3)))
    assert compare(a, a)["kind"] == "image"
    report = compare(a, a, "--as", "volume")
    assert (report["kind"], report["shape"]) == ("volume", [20, 30, 3])


def test_compare_as_image_overrides_a_tiff(tmp_path: Path) -> None:
    a = save(tmp_path / "a.tif", np.random.default_rng(5).random((5, 20, 30)).astype(np.float32))
    assert compare(a, a)["kind"] == "volume"
    report = compare(a, a, "--as", "image")
    assert (report["kind"], report["shape"], len(report["per_channel"])) == ("image", [20, 30], 5)


# ---- Output ----------------------------------------------------------------------------------------------------------


def test_compare_prints_score_channels_and_what_was_assumed(
    tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]
) -> None:
    a, b = (save(tmp_path / f"{name}.png", values) for name, values in zip("ab", colour, strict=True))
    report = compare(a, b)
    result = run("compare", a, b, "--per-channel", "--device", "cpu")
    assert result.exit_code == 0
    rows = {line[:12].strip(): line[12:] for line in result.output.splitlines()}
    assert float(rows["SSIM"]) == pytest.approx(report["score"], abs=1e-6)
    assert float(rows["green"]) == pytest.approx(report["per_channel"][1], abs=1e-6)
    assert rows["read as"] == "an image, 40 x 56 (H x W), 3 channels, uint8"
    assert rows["data range"] == "255 (from dtype uint8)"
    assert rows["settings"] == "padding same, window 11, sigma 1.5"
    assert rows["device"] == "cpu"
    assert "red" not in run("compare", a, b).output


def heat_map(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_compare_map_of_images_is_drawn(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray], padding: str) -> None:
    a, b = (save(tmp_path / f"{name}.png", values) for name, values in zip("ab", colour, strict=True))
    target = tmp_path / "map.png"
    assert compare(a, b, "--map", target, "--padding", padding)["map"] == str(target)
    pixels = heat_map(target)
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 700
    coloured = np.ptp(pixels, axis=-1) > 40
    assert coloured.mean() > 0.3
    assert len(np.unique(pixels[coloured], axis=0)) > 50


def test_compare_map_of_volumes_shows_three_slices(tmp_path: Path, volumes: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (save(tmp_path / f"{name}.nii.gz", values) for name, values in zip("ab", volumes, strict=True))
    target = tmp_path / "map.png"
    compare(a, b, "--map", target)
    coloured = np.ptp(heat_map(target), axis=-1) > 40
    quarter = coloured.shape[0] // 4, coloured.shape[1] // 4
    # Slices at the top left and right and the bottom left; the colour bar is at the right end.
    assert coloured[quarter[0], quarter[1]]
    assert coloured[quarter[0], int(2.6 * quarter[1])]
    assert coloured[3 * quarter[0], quarter[1]]
    assert not coloured[3 * quarter[0], int(2.6 * quarter[1])]


def test_compare_map_with_odd_file_names_is_drawn(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a = save(tmp_path / f"$x_1$ {'long ' * 20}.png", colour[0])
    assert compare(a, a, "--map", tmp_path / "map.svg")["score"] == 1.0
    assert "x_1" in (tmp_path / "map.svg").read_text() or (tmp_path / "map.svg").stat().st_size > 5000


# ---- Errors ----------------------------------------------------------------------------------------------------------


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
    assert (report["score"], report["dtype"]) == (1.0, ["uint8", "float32"])


def test_compare_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    values = np.zeros((20, 20), np.float32)
    values[3, 4] = math.nan
    assert "1 of 400 values" in fails(save(tmp_path / "a.npy", values), tmp_path / "a.npy")


def test_compare_constant_integers_need_a_data_range(tmp_path: Path) -> None:
    a = save(tmp_path / "a.npy", np.full((20, 20), 5, np.int32))
    assert "--data-range" in fails(a, a)
    assert compare(a, a, "--data-range", "10")["score"] == 1.0


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
    assert report["score"] == pytest.approx(compare(a, b)["score"], abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        ["--window-size", "4"],
        ["--window-size", "35"],
        ["--sigma", "0"],
        ["--data-range", "-1"],
        ["--padding", "reflect"],
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
    for name in ("a.png", "a.tif", "a.nii"):
        (tmp_path / name).touch()
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "fused_ssim.cli.plots", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    result = run(*arguments)
    assert result.exit_code == 1
    assert f"'{package}'" in result.output
    assert f"pip install 'fused-ssim[{extra}]'" in result.output
    assert result.output.count("\n") == 1


# ---- The other commands ----------------------------------------------------------------------------------------------


def test_demo_with_few_steps_writes_the_pictures(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    result = run("demo", "--out", out, "--steps", "3", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "3/3" in result.output
    for name in ("photograph.png", "volume.png", "curve.png"):
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


def test_demo_into_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("demo", "--out", tmp_path / "file" / "below", "--steps", "1")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


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
