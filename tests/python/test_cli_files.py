# SPDX-License-Identifier: MIT
"""The numbers reach the metric as the file means them, in full, or the file is refused; decisions are notes.

Each kind of fault has its smallest input and another one. Expected scores come from a direct call with the numbers
that were written.
"""

from __future__ import annotations

import gzip
import io
import os
import threading
from pathlib import Path
from typing import Any

import imagecodecs
import netpbmfile
import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from commandline import compare, needs_posix, run, save
from PIL import Image
from test_cli_errors import fails

import fused_ssim
from fused_ssim.cli.files import FORMATS, read

RANDOM = np.random.default_rng(12)


def ssim(a: Any, b: Any, data_range: float) -> float:
    """A direct call of arrays (H, W), (H, W, C) or (D, H, W) with D > 4."""
    x, y = (np.asarray(values, np.float64) for values in (a, b))
    if x.ndim == 3 and x.shape[-1] in (3, 4):
        x, y = (np.ascontiguousarray(np.moveaxis(values, -1, 0)) for values in (x, y))
    elif x.ndim == 2 or x.ndim == 3:
        x, y = x[None], y[None]
    function = fused_ssim.fused_ssim3d if x.ndim == 4 else fused_ssim.fused_ssim2d
    return function(torch.from_numpy(x)[None], torch.from_numpy(y)[None], "same", False, data_range=data_range).item()


def noisy(shape: tuple[int, ...], top: int) -> tuple[np.ndarray, np.ndarray]:
    """Two 16-bit pictures that differ by less than an 8-bit step."""
    first = RANDOM.integers(0, top - 200, shape)
    return first.astype(np.uint16), (first + RANDOM.integers(0, 200, shape)).astype(np.uint16)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# ---- More than 8 bits a channel --------------------------------------------------------------------------------------


def deep_tiff(path: Path, values: np.ndarray, orientation: int = 1, **options: Any) -> Path:
    tags = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(path, values, photometric="rgb", metadata=None, extratags=tags, **options)
    return path


DEEP: dict[str, tuple[Any, int]] = {
    "png": (lambda path, values: write(path, imagecodecs.png_encode(values)), 65535),
    "ppm": (lambda path, values: netpbmfile.imwrite(path, values, maxval=65535), 65535),
    "jp2": (lambda path, values: write(path, imagecodecs.jpeg2k_encode(values, codecformat="jp2", level=0)), 65535),
    "tif": (deep_tiff, 65535),
    "avif": (lambda path, values: write(path, imagecodecs.avif_encode(values, level=100, bitspersample=12)), 4095),
    "12.jp2": (
        lambda path, values: write(
            path, imagecodecs.jpeg2k_encode(values, codecformat="jp2", level=0, bitspersample=12)
        ),
        4095,
    ),
    "12.ppm": (lambda path, values: netpbmfile.imwrite(path, values, maxval=4095), 4095),
    "jxl": (lambda path, values: write(path, imagecodecs.jpegxl_encode(values, lossless=True)), 65535),
}


@pytest.mark.parametrize("ending", DEEP)
def test_deep_colours_are_compared_in_full(tmp_path: Path, ending: str) -> None:
    encode, top = DEEP[ending]
    pair = noisy((24, 31, 3), top)
    for name, values in zip("ab", pair, strict=True):
        encode(tmp_path / f"{name}.{ending}", values)
    report = compare(tmp_path / f"a.{ending}", tmp_path / f"b.{ending}")
    assert report["data_range"] == top
    assert report["ssim"] == pytest.approx(ssim(*pair, top), abs=1e-9)
    assert report["ssim"] < 1  # cut to 8 bits, most pixels would be equal


def test_deep_tiff_with_an_orientation_is_compared_in_full(tmp_path: Path) -> None:
    a, b = np.zeros((2, 2, 3), np.uint16), np.full((2, 2, 3), 255, np.uint16)
    report = compare(deep_tiff(tmp_path / "a.tif", a, 3), deep_tiff(tmp_path / "b.tif", b, 3))
    assert report["ssim"] == pytest.approx(0.989150, abs=5e-7)
    assert "orientation 3" in report["notes"][0]


def test_deep_ppm_of_one_pixel(tmp_path: Path) -> None:
    a = write(tmp_path / "a.ppm", b"P6 1 1 65535\n" + bytes(6))
    b = write(tmp_path / "b.ppm", b"P6 1 1 65535\n" + b"\0\x7f" * 3)
    assert compare(a, b)["ssim"] == pytest.approx(0.999538, abs=5e-7)


def test_deep_cmyk_tiff_is_compared_in_full_with_a_note(tmp_path: Path) -> None:
    pair = noisy((20, 22, 4), 65535)
    for name, values in zip("ab", pair, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="separated")
    report = compare(tmp_path / "a.tif", tmp_path / "b.tif")
    assert [*report["channels"]] == ["cyan", "magenta", "yellow", "black"]
    assert report["ssim"] == pytest.approx(ssim(*pair, 65535), abs=1e-9)
    assert any("inks" in note for note in report["notes"])


def test_formats_that_pillow_cuts_are_refused(tmp_path: Path) -> None:
    header = bytes.fromhex("01da0002" + "0003" + "0002" + "0002" + "0003") + bytes(500)  # SGI, 2 bytes a channel
    path = write(tmp_path / "a.sgi", header + bytes(24))
    assert "convert it" in fails(path, path)


def test_16_bit_grey_with_opacity_keeps_its_bits(tmp_path: Path) -> None:
    pair = noisy((20, 22), 65535)
    for name, values in zip("ab", pair, strict=True):
        opaque = np.stack([values, np.full_like(values, 65535)], axis=-1)
        write(tmp_path / f"{name}.png", imagecodecs.png_encode(opaque))
    report = compare(tmp_path / "a.png", tmp_path / "b.png")
    assert report["ssim"] == pytest.approx(ssim(*pair, 65535), abs=1e-9)
    assert report["notes"] == []


def test_12_bit_grey_tiff_has_its_own_range(tmp_path: Path) -> None:
    pair = [values >> 4 for values in noisy((20, 22), 65535)]
    for name, values in zip("ab", pair, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, bitspersample=12, compression="none")
    report = compare(tmp_path / "a.tif", tmp_path / "b.tif")
    assert (report["dtype"], report["data_range"], report["data_range_source"]) == ("uint12", 4095, "format")
    assert report["ssim"] == pytest.approx(ssim(*pair, 4095), abs=1e-9)


# ---- What is white ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.bool_])
@pytest.mark.parametrize("pages", [1, 7])
def test_white_is_zero_is_inverted(tmp_path: Path, dtype: Any, pages: int) -> None:
    values = RANDOM.integers(0, 2 if dtype is np.bool_ else 200, (pages, 16, 15)).astype(dtype)
    inverted: np.ndarray = (1 - values).astype(dtype) if dtype is np.float32 else ~values
    if dtype is np.float32:
        values, inverted = values / 200, 1 - values / 200
    a, b = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(a, values.astype(dtype), photometric="minisblack")
    tifffile.imwrite(b, inverted.astype(dtype), photometric="miniswhite")
    report = compare(a, b, "--data-range", "200")
    assert report["ssim"] == pytest.approx(1.0, abs=1e-6)
    assert report["kind"] == ("image" if pages == 1 else "volume")
    assert dtype is np.bool_ or any("0 is white" in note for note in report["notes"])


def test_white_is_zero_of_two_pixels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[65535, 0]], np.uint16), photometric="miniswhite")
    tifffile.imwrite(tmp_path / "b.tif", np.array([[0, 65535]], np.uint16), photometric="minisblack")
    assert compare(tmp_path / "a.tif", tmp_path / "b.tif")["ssim"] == 1.0


def test_1_is_black_in_pbm(tmp_path: Path) -> None:
    bits = RANDOM.random((16, 16)) > 0.5
    a = write(tmp_path / "a.pbm", b"P1 16 16\n" + b" ".join(b"01"[bit : bit + 1] for bit in bits.ravel().astype(int)))
    Image.fromarray(~bits).save(tmp_path / "b.png")
    assert compare(a, tmp_path / "b.png")["ssim"] == 1.0


def test_pfm_is_stored_from_the_bottom(tmp_path: Path) -> None:
    values = RANDOM.random((15, 16)).astype(np.float32)
    a = write(tmp_path / "a.pfm", b"Pf\n16 15\n-1.0\n" + values[::-1].astype("<f4").tobytes())
    assert compare(a, save(tmp_path / "b.tif", values))["ssim"] == 1.0


@pytest.mark.parametrize("scale", [257, 256])
def test_palette_tiff_becomes_colours(tmp_path: Path, scale: int) -> None:
    index = RANDOM.integers(0, 256, (18, 19), dtype=np.uint8)
    palette = RANDOM.integers(0, 256, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", index, photometric="palette", colormap=palette * scale)
    Image.fromarray(palette.T.astype(np.uint8)[index]).save(tmp_path / "b.png")
    assert compare(tmp_path / "a.tif", tmp_path / "b.png")["ssim"] == 1.0


# ---- Slices are images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 12, 1), (1, 12, 12), (12, 1, 12), (12, 12, 1, 1)])
def test_nifti_of_one_slice_is_an_image(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pair = [RANDOM.integers(0, 900, (12, 12)).astype(np.int16) for _ in range(2)]
    a, b = (save(tmp_path / f"{name}.nii", values.reshape(shape)) for name, values in zip("ab", pair, strict=True))
    report = compare(a, b, "--data-range", "900")
    assert (report["kind"], report["shape"]) == ("image", [12, 12])
    assert report["ssim"] == pytest.approx(ssim(*pair, 900), abs=1e-9)


def test_nifti_film_of_slices_is_an_image_with_channels(tmp_path: Path) -> None:
    pair = [RANDOM.integers(0, 900, (12, 14, 1, 5)).astype(np.int16) for _ in range(2)]
    a, b = (save(tmp_path / f"{name}.nii", values) for name, values in zip("ab", pair, strict=True))
    report = compare(a, b, "--data-range", "900")
    assert (report["kind"], report["shape"], len(report["channels"])) == ("image", [12, 14], 5)
    expected = [ssim(pair[0][:, :, 0, i], pair[1][:, :, 0, i], 900) for i in range(5)]
    assert [*report["channels"].values()] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("ending", "shape"), [("npy", (1, 12, 14)), ("npy", (12, 1, 14)), ("tif", (1, 12, 14)), ("tif", (12, 1, 14))]
)
def test_other_stacks_of_one_slice_are_images(tmp_path: Path, ending: str, shape: tuple[int, ...]) -> None:
    values = RANDOM.random((12, 14))
    stack = values.reshape(shape)
    a = save(tmp_path / f"a.{ending}", stack)
    report = compare(a, save(tmp_path / "b.npy", values))
    assert (report["kind"], report["shape"], report["ssim"]) == ("image", [12, 14], 1.0)


def test_as_image_takes_the_slices_of_a_scan_for_channels(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 900, (12, 14, 6)).astype(np.int16)
    a = save(tmp_path / "a.nii", values)
    report = compare(a, a, "--as", "image")
    assert (report["kind"], report["shape"], len(report["channels"])) == ("image", [12, 14], 6)


# ---- Files that are cut off ------------------------------------------------------------------------------------------


def test_tiff_stack_without_its_last_directory_is_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(RANDOM.integers(0, 255, (20, 22), dtype=np.uint8)) for _ in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    data = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        directories = [page.offset for page in file.pages]
    cuts = [directories[1], directories[1] - 4, directories[1] + 3, directories[2], directories[2] + 5]
    for cut in cuts:
        message = fails(write(tmp_path / "b.tif", data[:cut]), tmp_path / "a.tif")
        assert "b.tif: cannot be read" in message


@pytest.mark.parametrize("compression", ["none", "deflate"])
@pytest.mark.parametrize("kept", [0.3, 0.8, 0.97])
def test_tiff_stack_without_its_end_is_refused(tmp_path: Path, compression: str, kept: float) -> None:
    stack = RANDOM.integers(0, 255, (6, 20, 22), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, compression=compression, photometric="minisblack")
    data = (tmp_path / "a.tif").read_bytes()
    assert "cannot be read" in fails(write(tmp_path / "b.tif", data[: int(kept * len(data))]), tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.npy", "a.pgm", "a.jpg", "a.jp2", "a.bmp", "a.webp"])
def test_other_files_without_their_end_are_refused(tmp_path: Path, name: str) -> None:
    values = RANDOM.integers(0, 255, (40, 41), dtype=np.uint8)
    if name.endswith((".nii", ".nii.gz")):
        values = values[..., None].repeat(3, axis=-1)
    path = save(tmp_path / name, values)
    path.write_bytes(path.read_bytes()[:-9])
    assert "cannot be read" in fails(path, path)


def test_gzip_checksum_is_looked_at(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", RANDOM.integers(0, 255, (10, 11, 12), dtype=np.uint8))
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(bytes(data))
    assert "CRC" in fails(path, path)


# ---- 16-bit Netpbm is like 16-bit PNG --------------------------------------------------------------------------------


def test_pgm_of_16_bits_has_their_range(tmp_path: Path) -> None:
    a, b = (np.array([[0, top]], np.uint16) for top in (1000, 2000))
    report = compare(*(netpbm(tmp_path / f"{i}.pgm", values) for i, values in enumerate((a, b))))
    assert (report["data_range"], report["ssim"]) == (65535, pytest.approx(0.9767, abs=5e-5))
    assert report["ssim"] == compare(save(tmp_path / "a.png", a), save(tmp_path / "b.png", b))["ssim"]
    assert report["ssim"] == compare(tmp_path / "0.pgm", tmp_path / "b.png")["ssim"]


def netpbm(path: Path, values: np.ndarray) -> Path:
    netpbmfile.imwrite(path, values, maxval=65535)
    return path


def test_pgm_with_a_maximum_of_its_own(tmp_path: Path) -> None:
    a = write(tmp_path / "a.pgm", b"P2 2 1 1000\n0 1000\n")
    b = write(tmp_path / "b.pgm", b"P2 2 1 1000\n0 900\n")
    report = compare(a, b)
    assert (report["data_range"], report["data_range_source"]) == (1000, "format")
    assert report["ssim"] == pytest.approx(ssim([[0, 1000]], [[0, 900]], 1000), abs=1e-9)
    assert "above its own maximum" in fails(write(tmp_path / "c.pgm", b"P2 2 1 1000\n0 1001\n"), a)


# ---- Orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "deep.tif", "stack.tif"])
def test_every_orientation_is_followed_with_a_note(tmp_path: Path, orientation: int, kind: str) -> None:
    upright = RANDOM.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    if kind == "jpg":
        upright = np.kron(np.arange(0, 240, 40, dtype=np.uint8).reshape(2, 3), np.ones((8, 8), np.uint8))[..., None]
        upright = upright.repeat(3, -1)  # flat blocks of 8 x 8, which JPEG keeps
    exif = Image.Exif()
    exif[274] = orientation
    # Pillow's own rule, backwards: the stored picture that is turned into this one.
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = np.asarray(Image.fromarray(upright).transpose(Image.Transpose(back[orientation])))
    a, b = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    if kind in ("png", "jpg"):
        options: dict[str, Any] = {"quality": 100, "subsampling": 0} if kind == "jpg" else {}
        Image.fromarray(upright).save(a, **options)
        Image.fromarray(stored).save(b, exif=exif, **options)
    else:
        scale = np.uint16(257) if kind == "deep.tif" else np.uint8(1)
        for path, values, number in ((a, upright, 1), (b, stored, orientation)):
            pages = np.stack([values * scale] * 5) if kind == "stack.tif" else values * scale
            deep_tiff(path, pages, number)
    report = compare(a, b)
    assert report["ssim"] == 1.0
    assert any(f"orientation {orientation}" in note for note in report["notes"])
    assert report["shape"][-2:] == [16, 24]


# ---- Headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [np.nan, np.inf])
def test_map_with_an_impossible_voxel_is_drawn(
    tmp_path: Path, volumes: tuple[np.ndarray, np.ndarray], size: float
) -> None:
    for name, values in zip("ab", volumes, strict=True):
        image = nib.Nifti1Image(values, np.eye(4))
        image.header["pixdim"][1] = size
        image.header["qform_code"] = image.header["sform_code"] = 0
        image.to_filename(tmp_path / f"{name}.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[80:84] = np.float32(size).tobytes()  # pixdim[1]; nibabel may have mended it
    (tmp_path / "a.nii").write_bytes(bytes(data))
    report = compare(tmp_path / "a.nii", tmp_path / "b.nii", "--map", tmp_path / "map.png")
    assert any("sizes of voxels" in note for note in report["notes"])
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_nifti_of_colours_has_channels(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 256, (12, 13, 14, 3), dtype=np.uint8)
    colours = np.zeros(values.shape[:3], [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for index, name in enumerate("RGB"):
        colours[name] = values[..., index]
    report = compare(save(tmp_path / "a.nii", colours), save(tmp_path / "b.nii", colours))
    assert (report["shape"], [*report["channels"]]) == ([12, 13, 14], ["red", "green", "blue"])
    assert np.array_equal(np.moveaxis(read(tmp_path / "a.nii").values, 0, -1), values)


def test_names_decide_nothing(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    a = save(tmp_path / "a.png", colour[0])
    b = write(tmp_path / "b.npy", a.read_bytes())
    report = compare(a, b)
    assert report["ssim"] == 1.0
    assert "is named .npy, but it is PNG" in report["notes"][0]


@needs_posix
def test_pipe_is_read(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    for name in ("a.png", "a.tif", "a.npy"):
        a = save(tmp_path / name, colour[0])
        pipe = tmp_path / f"pipe-{name}"
        os.mkfifo(pipe)
        writer = threading.Thread(target=lambda a=a, pipe=pipe: pipe.write_bytes(a.read_bytes()))
        writer.start()
        report = compare(a, pipe)
        writer.join()
        assert report["ssim"] == 1.0


def test_different_profiles_give_a_note(tmp_path: Path, colour: tuple[np.ndarray, np.ndarray]) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    a, b = save(tmp_path / "a.png", colour[0]), save(tmp_path / "b.png", colour[0], icc_profile=profile)
    assert "profiles" in compare(a, b)["notes"][0]


DOCS = Path(__file__).parents[2] / "docs" / "compare.md"


@pytest.mark.skipif(not DOCS.exists(), reason="not in a source distribution")
def test_docs_name_every_format_of_the_table() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for row in FORMATS:
        assert row.name.removeprefix("gzipped ") in text, row.name


def test_read_gives_what_was_stored(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    picture = read(save(tmp_path / "a.png", values))
    assert np.array_equal(np.moveaxis(picture.values, 0, -1), values)


def test_output_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    a = save(tmp_path / "a.npy", RANDOM.random((20, 20)))
    folders = tmp_path, tmp_path
    for files, option, name in (((a, a), "--map", "map.png"), (folders, "--csv", "a.csv"), (folders, "--resume", "j")):
        result = run("compare", *files, option, tmp_path / "no" / name)
        assert (result.exit_code, result.output.count("\n")) == (1, 1)
        assert "cannot be written" in result.output


def test_nifti_colours_with_opacity_say_so(tmp_path: Path) -> None:
    """Their opacity is not dropped in silence; flat colours are an image with channels."""
    kinds = [(name, "u1") for name in "RGBA"]
    values = np.zeros((12, 13, 14), kinds)
    for name in "RGBA":
        values[name] = RANDOM.integers(0, 256, values.shape)
    a = save(tmp_path / "a.nii", values)
    report = compare(a, a)
    assert report["kind"] == "volume"
    assert any("transparency" in note for note in report["notes"])
    rgb = RANDOM.integers(0, 256, (12, 13, 3), dtype=np.uint8)
    flat = save(tmp_path / "b.nii", rgb.view(kinds[:3])[..., 0])
    report = compare(flat, save(tmp_path / "c.png", rgb))
    assert (report["kind"], report["ssim"], [*report["channels"]]) == ("image", 1.0, ["red", "green", "blue"])


@pytest.mark.parametrize("kind", ["AnalyzeImage", "Spm99AnalyzeImage", "Spm2AnalyzeImage", "Nifti1Pair"])
@pytest.mark.parametrize("ending", ["hdr", "img"])
def test_pairs_of_header_and_pixels_are_read_by_either_name(tmp_path: Path, kind: str, ending: str) -> None:
    values = RANDOM.integers(0, 900, (12, 13, 14)).astype(np.int16)
    nib.save(getattr(nib, kind)(values, np.eye(4)), tmp_path / "a.img")
    report = compare(tmp_path / f"a.{ending}", save(tmp_path / "b.nii", values))
    assert (report["kind"], report["ssim"]) == ("volume", 1.0)


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_nifti_with_more_than_its_header_says_gives_a_note(tmp_path: Path, ending: str) -> None:
    values = RANDOM.integers(0, 900, (12, 13, 14)).astype(np.int16)
    data = nib.Nifti1Image(values, np.eye(4)).to_bytes() + bytes(2 * 12 * 13)
    path = tmp_path / f"a.{ending}"
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    assert compare(path, path)["notes"] == [f"{path}: 312 bytes follow after its values, which are not read"]


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_integers_that_float64_does_not_hold_are_refused(tmp_path: Path, dtype: Any) -> None:
    """2^60 to 2^60 + 255: all one number in float64."""
    values = RANDOM.integers(0, 256, (20, 20)).astype(dtype) + dtype(2**60)
    a, b = save(tmp_path / "a.npy", values), save(tmp_path / "b.npy", values[::-1])
    result = run("compare", a, b, "--device", "cpu")
    assert result.exit_code == 1
    assert "beyond 2^53" in result.output
    small = values - dtype(2**60)
    report = compare(save(tmp_path / "c.npy", small), save(tmp_path / "d.npy", small[::-1]))
    assert report["ssim"] == pytest.approx(ssim(small, small[::-1], report["data_range"]), abs=1e-9)


def test_bands_of_a_grey_tiff_are_all_compared(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 256, (20, 22, 6), dtype=np.uint8)
    other = values.copy()
    other[..., 5] = 255 - other[..., 5]
    a, b = (
        save(tmp_path / f"{name}.tif", each, photometric="minisblack", planarconfig="contig")
        for name, each in (("a", values), ("b", other))
    )
    report = compare(a, b)
    assert (report["kind"], len(report["channels"]), report["notes"]) == ("image", 6, [])
    assert [*report["channels"].values()][:5] == [1.0] * 5
    assert [*report["channels"].values()][5] == pytest.approx(ssim(values[..., 5], other[..., 5], 255), abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_no_data_of_a_map_is_no_value(tmp_path: Path, dtype: Any) -> None:
    """The tag of GDAL: -9999 is a hole, as NaN is in other formats."""
    values = RANDOM.integers(0, 2, (30, 31)).astype(dtype)
    holes = values.copy()
    holes[3:9, 4:12] = -9999
    tags = {"photometric": "minisblack", "extratags": [(42113, "s", 0, "-9999", True)]}
    a, b = save(tmp_path / "a.tif", holes, **tags), save(tmp_path / "b.tif", values, **tags)
    result = run("compare", a, b, "--device", "cpu")
    assert result.exit_code == 1
    assert "48 of 930 values are not finite" in result.output
    report = compare(a, b, "--ignore-nan")
    assert (report["ssim"], report["data_range"]) == (1.0, 1)
    assert any("-9999 means that there is no data" in note for note in report["notes"])


def test_values_beyond_all_bounds_are_one_line(tmp_path: Path) -> None:
    values = RANDOM.random((20, 20))
    for scale in (1e160, 1e200, 1e308):
        a = save(tmp_path / "a.npy", values * scale)
        b = save(tmp_path / "b.npy", -values * scale)
        result = run("compare", a, b, "--data-range", "1", "--device", "cpu")
        assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output


@needs_posix
def test_device_without_an_end_is_refused(tmp_path: Path) -> None:
    a = save(tmp_path / "a.png", RANDOM.integers(0, 256, (20, 20), dtype=np.uint8))
    for first, second in (("/dev/zero", a), (a, "/dev/zero")):
        result = run("compare", first, second, "--device", "cpu")
        assert (result.exit_code, result.output) == (
            1, "Error: /dev/zero: cannot be read: it is a device, which may have no end\n")  # fmt: skip


def test_no_data_that_cannot_be_applied_is_a_note(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 256, (20, 20), dtype=np.uint8)
    for photometric, text in (("miniswhite", "7"), ("minisblack", "none")):
        tags = {"photometric": photometric, "extratags": [(42113, "s", 0, text, True)]}
        a = save(tmp_path / f"{photometric}.tif", values, **tags)
        assert f"{a}: its value for missing data, {text}, is ignored" in compare(a, a)["notes"]
