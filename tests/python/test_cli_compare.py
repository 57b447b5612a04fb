# SPDX-License-Identifier: MIT
"""`fused-ssim compare`: files in, the scores of the library and pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import nibabel as nib
import numpy as np
import pytest
import torch
from commandline import compare, heat_map, run, save
from PIL import Image
from skimage.metrics import structural_similarity

import fused_ssim
from fused_ssim.cli.files import read
from fused_ssim.cli.files.arrays import infer_axes


def ssim(a: np.ndarray, b: np.ndarray, data_range: float, **options: Any) -> torch.Tensor:
    """A direct call, of arrays (C, ...)."""
    x, y = (torch.from_numpy(np.ascontiguousarray(array).astype(np.float64))[None] for array in (a, b))
    function = fused_ssim.fused_ssim3d if x.ndim == 5 else fused_ssim.fused_ssim2d
    return function(x, y, options.pop("padding", "same"), False, data_range=data_range, **options)


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
    assert [*report["channels"].values()] == pytest.approx(expected.tolist(), abs=1e-5)
    assert report["ssim"] == pytest.approx(expected.mean().item(), abs=1e-5)
    assert 0.1 < report["ssim"] < 0.99
    assert set(report) == {
        "name", "first", "second", "ssim", "psnr", "l1", "ms_ssim", "error", "notes", "shape", "kind", "channels",
        "data_range", "data_range_origin", "data_range_source", "axes", "dtype", "frame", "time",
        "padding", "window_size", "sigma", "device", "map", "version",
    }  # fmt: skip
    assert report["kind"] == "image"
    assert report["shape"] == [40, 56]
    assert [*report["channels"]] == ["red", "green", "blue"]
    assert (report["dtype"], report["data_range"], report["data_range_source"]) == ("uint8", 255.0, "dtype")
    assert (report["padding"], report["window_size"], report["sigma"]) == ("same", 11, 1.5)
    assert (report["device"], report["map"], report["notes"]) == ("cpu", None, [])
    assert report["version"] == fused_ssim.__version__


def test_compare_valid_equals_scikit_image(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (save(tmp_path / f"{name}.png", values) for name, values in zip("ab", colour, strict=True))
    expected = structural_similarity(
        *colour, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert compare(a, b, "--padding", "valid")["ssim"] == pytest.approx(expected, abs=1e-5)


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
    assert report["ssim"] == pytest.approx(expected.item(), abs=1e-5)
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
    assert report["ssim"] == pytest.approx(ssim(*(values[None] for values in pair), data_range).item(), abs=1e-5)


def test_compare_1_bit_images_have_data_range_1(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (save(tmp_path / f"{i}.png", values[..., 0] > 127) for i, values in enumerate(colour))
    assert Image.open(a).mode == "1"
    assert compare(a, b)["data_range"] == 1.0


def test_compare_jpeg_is_read(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a = save(tmp_path / "a.png", colour[0])
    b = save(tmp_path / "b.jpg", colour[0], quality=95)
    decoded = np.asarray(Image.open(b))
    expected = ssim(channels_first(colour[0]), channels_first(decoded), 255.0).item()
    assert compare(a, b)["ssim"] == pytest.approx(expected, abs=1e-5)


def test_compare_turned_photograph_is_set_upright(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    a = save(tmp_path / "a.png", colour[0])
    b = save(tmp_path / "b.png", np.rot90(colour[0]).copy(), exif=exif)
    report = compare(a, b)
    assert report["ssim"] == 1.0
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
    assert (report["ssim"], report["notes"]) == (1.0, [])
    report = compare(tmp_path / "b.png", tmp_path / "plain.png")
    assert report["ssim"] == 1.0
    (note,) = report["notes"]
    assert note.startswith(f"{tmp_path / 'b.png'}: has transparency")
    assert "ignored" in note


def test_compare_tiff_alpha_is_ignored_with_a_note(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    alpha = np.full((*colour[0].shape[:2], 1), 7, np.uint8)
    a = save(tmp_path / "a.tif", np.concatenate([colour[0], alpha], axis=-1), extrasamples=["unassalpha"])
    b = save(tmp_path / "b.png", colour[0])
    report = compare(a, b)
    assert report["ssim"] == 1.0
    assert "transparency" in report["notes"][0]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_compare_compressed_tiff_is_read(
    tmp_path: Path, colour: tuple[np.ndarray, np.ndarray], compression: str
) -> None:
    a = save(tmp_path / "a.png", colour[0])
    Image.fromarray(colour[0]).save(tmp_path / "b.tif", compression=compression)
    assert compare(a, tmp_path / "b.tif")["ssim"] == pytest.approx(1.0, abs=0.1 if compression == "jpeg" else 0)


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
    assert report["ssim"] == pytest.approx(expected, abs=1e-5)


def test_compare_tiff_stacks_equals_the_library(tmp_path: Path, volumes: tuple[np.ndarray, np.ndarray]) -> None:
    pair = [(values * 20 + 30000).astype(np.uint16) for values in volumes]
    a, b = (save(tmp_path / f"{name}.tif", values) for name, values in zip("ab", pair, strict=True))
    report = compare(a, b)
    assert (report["kind"], report["shape"], report["data_range"]) == ("volume", [18, 20, 22], 65535.0)
    assert report["ssim"] == pytest.approx(ssim(*(values[None] for values in pair), 65535.0).item(), abs=1e-5)


def test_compare_colour_tiff_stacks_have_channels(tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, 256, (12, 13, 14, 3), dtype=np.uint8)
    a = save(tmp_path / "a.tif", values, photometric="rgb")
    report = compare(a, a, "--per-channel")
    assert (report["kind"], report["shape"], [*report["channels"]]) == (
        "volume",
        [12, 13, 14],
        ["red", "green", "blue"],
    )


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
    assert report["ssim"] == pytest.approx(ssim(*scaled, joint).item(), abs=1e-9)


def test_compare_4d_nifti_scores_each_volume(tmp_path: Path, volumes: tuple[np.ndarray, np.ndarray]) -> None:
    clean, noisy = volumes
    a = save(tmp_path / "a.nii", np.stack([clean, clean], axis=-1))
    b = save(tmp_path / "b.nii", np.stack([clean, noisy], axis=-1))
    report = compare(a, b)
    assert (report["shape"], [*report["channels"]]) == ([18, 20, 22], ["volume 0", "volume 1"])
    assert report["channels"]["volume 0"] == 1.0
    assert report["channels"]["volume 1"] < 0.99


def test_compare_different_affines_give_a_note(tmp_path: Path, volumes: tuple[np.ndarray, np.ndarray]) -> None:
    a = save(tmp_path / "a.nii", volumes[0])
    nib.save(nib.Nifti1Image(volumes[0], np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "b.nii")
    assert any("affine" in note for note in compare(a, tmp_path / "b.nii")["notes"])


def test_compare_values_beyond_the_data_range_give_a_note(tmp_path: Path) -> None:
    a = save(tmp_path / "a.npy", np.linspace(-0.2, 1.3, 400, dtype=np.float32).reshape(20, 20))
    report = compare(a, a)
    assert report["data_range"] == 1.0
    assert "-0.2 to 1.3" in report["notes"][0]


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
    assert (report["kind"], report["shape"], len(report["channels"])) == ("image", [20, 30], 5)


# ---- Output ----------------------------------------------------------------------------------------------------------


def test_compare_prints_score_channels_and_what_was_assumed(
    tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]
) -> None:
    a, b = (save(tmp_path / f"{name}.png", values) for name, values in zip("ab", colour, strict=True))
    report = compare(a, b)
    result = run("compare", a, b, "--per-channel", "--device", "cpu")
    assert result.exit_code == 0
    rows = {line[:12].strip(): line[12:] for line in result.output.splitlines()}
    assert float(rows["SSIM"]) == pytest.approx(report["ssim"], abs=1e-6)
    assert float(rows["green"]) == pytest.approx([*report["channels"].values()][1], abs=1e-6)
    assert rows["read as"] == "an image, 40 x 56 (H x W), 3 channels, uint8"
    assert rows["data range"] == "255 (from dtype uint8)"
    assert rows["settings"] == "padding same, window 11, sigma 1.5"
    assert rows["device"] == "cpu"
    assert "red" not in run("compare", a, b).output


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
    assert compare(a, a, "--map", tmp_path / "map.svg")["ssim"] == 1.0
    assert "x_1" in (tmp_path / "map.svg").read_text() or (tmp_path / "map.svg").stat().st_size > 5000
