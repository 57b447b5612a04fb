# SPDX-License-Identifier: MIT
"""Damaged files: a score or an error of one line, and never a wrong score without a note.

A file is cut off, has bits flipped, or has the ending of another format. It is compared with the whole one. If a score
comes without a note, then another reader of the same bytes must give the pixels that it belongs to: one that looks at
the place of the pixels and nothing else, or another package.
"""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import imagecodecs
import nibabel as nib
import numpy as np
import pytest
import tifffile
from commandline import run
from PIL import Image
from test_cli_files import ssim

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (24, 28)
GREY = np.random.default_rng(77).integers(0, 256, SHAPE, dtype=np.uint8)
# Smooth, so that lossy formats keep it.
SMOOTH = (128 + 100 * np.sin(np.arange(SHAPE[0])[:, None] / 5) * np.cos(np.arange(SHAPE[1])[None] / 6)).astype(np.uint8)
DEEP = np.random.default_rng(78).integers(0, 65536, SHAPE, dtype=np.uint16)
STACK = np.random.default_rng(79).integers(0, 256, (6, 20, 22), dtype=np.uint8)


def pillow(values: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="minisblack", **options)
    return buffer.getvalue()


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def nifti(values: np.ndarray) -> bytes:
    data: bytes = nib.Nifti1Image(values, np.eye(4)).to_bytes()
    return data


def at(offset: int, values: np.ndarray, order: str = "C") -> Callable[[bytes], np.ndarray]:
    """Reads the pixels at their place in the whole file; a file that is too short for them raises."""
    return lambda data: np.frombuffer(data, values.dtype, values.size, offset).reshape(values.shape, order=order)


def by_pillow(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    image.load()
    return np.asarray(image)


PGM = b"P5\n28 24\n65535\n" + DEEP.astype(">u2").tobytes()
BMP = pillow(GREY, "BMP")
PLAIN_TIFF = tiff(GREY)
STACK_TIFF = tiff(STACK)

# name -> the file, and another way to its pixels
FORMATS: dict[str, tuple[bytes, Callable[[bytes], np.ndarray]]] = {
    "png": (pillow(GREY, "PNG"), by_pillow),
    "jpg": (pillow(SMOOTH, "JPEG", quality=90), imagecodecs.jpeg8_decode),
    "webp": (pillow(np.stack([SMOOTH] * 3, -1), "WEBP", lossless=True), imagecodecs.webp_decode),
    "jp2": (
        imagecodecs.jpeg2k_encode(SMOOTH, level=0, codecformat="jp2"),
        lambda data: imagecodecs.jpeg2k_decode(data),
    ),
    "bmp": (BMP, lambda data: at(len(BMP) - GREY.size, GREY)(data)[::-1]),
    "pgm": (PGM, at(len(PGM) - 2 * DEEP.size, DEEP.astype(">u2"))),
    "npy": (npy(DEEP), at(128, DEEP)),
    "nii": (nifti(STACK), at(352, STACK, "F")),
    "nii.gz": (gzip.compress(nifti(STACK)), lambda data: at(352, STACK, "F")(gzip.decompress(data))),
    "tif": (PLAIN_TIFF, at(PLAIN_TIFF.index(GREY.tobytes()), GREY)),
    "stack.tif": (STACK_TIFF, at(STACK_TIFF.index(STACK.tobytes()), STACK)),
    "deflate.tif": (tiff(GREY, compression="deflate"), by_pillow),
}
TOP = {"pgm": 65535, "npy": 65535}


def judge(a: Path, b: Path, name: str, data: bytes) -> str:
    """Compares, and says how it ended; fails if that is a traceback, several lines, or a wrong score without a note."""
    result = run("compare", a, b, "--json", "--device", "cpu")  # raises what is no error of the command
    if result.exit_code != 0:
        lines = result.stderr.splitlines()
        assert result.exit_code == 1, result.output
        assert len(lines) == 1, result.output
        assert lines[0].startswith("Error: ")
        assert not result.stdout
        return "refused"
    report = json.loads(result.stdout)
    if report["notes"]:
        return "noted"
    whole, other = FORMATS[name]
    pixels, original = other(data), other(whole)
    top = TOP.get(name, 255)
    expected = ssim(original, pixels, top)
    if report["data_range_source"] == "values":
        expected = ssim(original, pixels, report["data_range"])
    assert report["ssim"] == pytest.approx(expected, abs=1e-9)
    return "scored"


@pytest.mark.parametrize("name", FORMATS)
def test_file_that_is_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    whole, _ = FORMATS[name]
    a, b = tmp_path / f"a.{name}", tmp_path / f"b.{name}"
    a.write_bytes(whole)
    rng = np.random.default_rng(1)
    cuts = {len(whole) - 1, len(whole) - 2, len(whole) // 2, 3, *(int(cut) for cut in rng.integers(1, len(whole), 6))}
    for cut in cuts:
        b.write_bytes(whole[:cut])
        judge(a, b, name, whole[:cut])
    b.write_bytes(whole[: len(whole) * 2 // 3])
    assert judge(a, b, name, b.read_bytes()) == "refused"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("where", ["head", "anywhere"])
def test_file_with_flipped_bits_is_never_wrong_in_silence(tmp_path: Path, name: str, where: str) -> None:
    whole, _ = FORMATS[name]
    a, b = tmp_path / f"a.{name}", tmp_path / f"b.{name}"
    a.write_bytes(whole)
    rng = np.random.default_rng(2)
    for _ in range(10):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(0, min(400, len(data)) if where == "head" else len(data)))] ^= 1 << int(
                rng.integers(8)
            )
        b.write_bytes(bytes(data))
        judge(a, b, name, bytes(data))


@pytest.mark.parametrize("name", FORMATS)
def test_file_with_another_ending_is_read_as_what_it_is(tmp_path: Path, name: str) -> None:
    whole, _ = FORMATS[name]
    a = tmp_path / f"a.{name}"
    a.write_bytes(whole)
    for ending in ("png", "jpg", "tif", "npy", "nii.gz", "exr", "pgm", "dcm", "txt", ""):
        b = tmp_path / f"b.{ending}"
        b.write_bytes(whole)
        result = run("compare", a, b, "--json", "--device", "cpu")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["ssim"] == 1.0


@pytest.mark.parametrize(
    "ending", ["png", "jpg", "tif", "npy", "nii", "nii.gz", "exr", "pgm", "dcm", "avif", "jxl", "hdr"]
)
def test_noise_of_any_ending_is_refused(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / f"a.{ending}"
    for size in (1, 30, 3000):
        path.write_bytes(rng.integers(0, 256, size, dtype=np.uint8).tobytes())
        assert judge(path, path, "png", b"") == "refused"
