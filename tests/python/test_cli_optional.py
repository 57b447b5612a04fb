# SPDX-License-Identifier: MIT
"""`fused-ssim compare` of DICOM and EXR files, which packages outside of the extra `cli` read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import compare, run, save
from test_cli_errors import fails
from test_cli_files import ssim, write

from fused_ssim.cli.plots import _Space, _views
from fused_ssim.cli.results import Settings
from fused_ssim.cli.scoring import load_pair, score_files

RANDOM = np.random.default_rng(31)


def dicom(path: Path, values: np.ndarray, **tags: Any) -> Path:
    """Writes a grey slice or frames as DICOM, uncompressed."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
    if values.ndim == 3:
        dataset.NumberOfFrames = len(values)
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = 8 * values.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelSpacing = [0.5, 0.7]
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = values.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_dicom_is_rescaled_as_it_says(tmp_path: Path) -> None:
    pair = RANDOM.integers(0, 2000, (2, 30, 32)).astype(np.int16)
    a, b = (
        dicom(tmp_path / f"{i}.dcm", values, RescaleSlope="2", RescaleIntercept="-1024")
        for i, values in enumerate(pair)
    )
    report = compare(a, b)
    scaled = pair * 2.0 - 1024
    span = scaled.max() - scaled.min()
    assert (report["data_range"], report["data_range_source"]) == (span, "values")
    assert report["ssim"] == pytest.approx(ssim(*scaled, span), abs=1e-9)
    assert any("2 * stored - 1024" in note for note in report["notes"])


@pytest.mark.parametrize("slopes", [[3], [3] * 5, [3, 4, 3, 3, 3]])
def test_dicom_frames_are_rescaled_by_their_groups(tmp_path: Path, slopes: list[float]) -> None:
    pydicom = pytest.importorskip("pydicom")

    def group(slope: float) -> Any:
        inner, outer = pydicom.Dataset(), pydicom.Dataset()
        inner.RescaleSlope, inner.RescaleIntercept = slope, 7
        outer.PixelValueTransformationSequence = [inner]
        return outer

    values = RANDOM.integers(0, 900, (5, 14, 15)).astype(np.uint16)
    name = "SharedFunctionalGroupsSequence" if len(slopes) == 1 else "PerFrameFunctionalGroupsSequence"
    a = dicom(tmp_path / "a.dcm", values, **{name: [group(slope) for slope in slopes]})
    if len(set(slopes)) > 1:
        assert "rescaled differently" in fails(a, a)
    else:
        b = save(tmp_path / "b.npy", values * 3.0 + 7)
        assert compare(a, b, "--data-range", 2700)["ssim"] == 1.0


def test_dicom_whose_small_numbers_are_bright_is_inverted(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 4096, (30, 32)).astype(np.uint16)
    a = dicom(tmp_path / "a.dcm", values, BitsStored=12, HighBit=11)
    b = dicom(tmp_path / "b.dcm", 4095 - values, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")
    report = compare(a, b)
    assert report["ssim"] == 1.0
    assert any("inverted" in note for note in report["notes"])


def test_dicom_frames_are_a_volume_and_one_is_an_image(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 255, (12, 14, 15), dtype=np.uint8)
    a = dicom(tmp_path / "a.dcm", values)
    report = compare(a, save(tmp_path / "b.tif", values))
    assert (report["kind"], report["ssim"], report["data_range"]) == ("volume", 1.0, 255)
    b = dicom(tmp_path / "c.dcm", values[:1])
    assert compare(b, save(tmp_path / "d.png", values[0]))["kind"] == "image"


def series(folder: Path, values: np.ndarray, order: np.ndarray, **tags: Any) -> Path:
    """A folder of slices, in files whose names say nothing about their places."""
    folder.mkdir()
    for name, index in enumerate(order):
        dicom(
            folder / f"{name:03}",
            values[index],
            ImagePositionPatient=[0, 0, 2.5 * int(index)],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            SeriesInstanceUID="1.2.3",
            **tags,
        )
    return folder


def test_dicom_series_is_a_volume_in_the_order_of_space(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 900, (12, 14, 15)).astype(np.uint16)
    a = series(tmp_path / "a", values, RANDOM.permutation(12))
    b = series(tmp_path / "b", values, RANDOM.permutation(12))
    report = compare(a, b, "--as", "volume")
    assert (report["kind"], report["shape"], report["ssim"]) == ("volume", [12, 14, 15], 1.0)
    (a / "000").unlink()
    assert "11 x 14" in fails(a, b, "--as", "volume")


def test_dicom_series_with_a_slice_missing_gives_a_note(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 900, (12, 14, 15)).astype(np.uint16)
    a = series(tmp_path / "a", values, np.array([0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]))
    notes = compare(a, a, "--as", "volume")["notes"]
    assert any("some may be missing" in note for note in notes)


def test_dicom_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", RANDOM.integers(0, 900, (30, 32)).astype(np.uint16))
    data = path.read_bytes()
    for kept in (0.2, 0.6, 0.99):
        message = fails(write(tmp_path / "b.dcm", data[: int(kept * len(data))]), path)
        assert "b.dcm" in message


def exr(path: Path, channels: dict[str, np.ndarray], **header: Any) -> Path:
    openexr = pytest.importorskip("OpenEXR")
    base = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    with openexr.File({**base, **header}, channels) as file:
        file.write(str(path))
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_exr_is_read_in_full(tmp_path: Path, dtype: Any) -> None:
    pair = RANDOM.random((2, 24, 26, 3)).astype(dtype)
    a, b = (exr(tmp_path / f"{i}.exr", {"RGB": values}) for i, values in enumerate(pair))
    report = compare(a, b)
    assert (report["data_range"], report["dtype"]) == (1, np.dtype(dtype).name)
    assert report["ssim"] == pytest.approx(ssim(*pair, 1), abs=1e-9)


def test_exr_says_what_it_leaves_out(tmp_path: Path) -> None:
    colours = RANDOM.random((24, 26, 4)).astype(np.float32)
    depth = RANDOM.random((24, 26)).astype(np.float32)
    a = exr(tmp_path / "a.exr", {"RGBA": colours, "Z": depth})
    notes = compare(a, a)["notes"]
    assert any("Z" in note for note in notes)
    assert any("transparency" in note for note in notes)
    b = exr(tmp_path / "b.exr", {"Z": depth})
    assert compare(b, b)["ssim"] == 1.0
    c = exr(tmp_path / "c.exr", {"Z": depth, "N": depth})
    assert "none is the picture" in fails(c, c)


def test_exr_with_bright_lights_needs_a_data_range(tmp_path: Path) -> None:
    a = exr(tmp_path / "a.exr", {"RGB": (30 * RANDOM.random((24, 26, 3))).astype(np.float32)})
    assert "--data-range" in fails(a, a)
    assert compare(a, a, "--data-range", 30)["ssim"] == 1.0


def test_exr_that_is_damaged_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a = exr(tmp_path / "a.exr", {"RGB": RANDOM.random((24, 26, 3)).astype(np.float32)})
    data = a.read_bytes()
    for cut in (len(data) - 5, len(data) // 2, 20):
        assert "cannot be read" in fails(write(tmp_path / "b.exr", data[:cut]), a)
    for place in range(40, len(data), 61):
        flipped = bytearray(data)
        flipped[place] ^= 16
        write(tmp_path / "b.exr", bytes(flipped))
        assert run("compare", a, tmp_path / "b.exr", "--data-range", 1).exit_code in (0, 1)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(("package", "extra"), [("pydicom", "dicom"), ("OpenEXR", "exr")])
def test_missing_optional_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    head = bytes(128) + b"DICM" if package == "pydicom" else b"\x76\x2f\x31\x01"
    path = write(tmp_path / "a", head + bytes(100))
    monkeypatch.setitem(sys.modules, package, None)
    assert f"pip install 'fused-ssim[{extra}]'" in fails(path, path)


def test_dicom_series_against_a_file_and_its_axes(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 900, (12, 14, 15)).astype(np.uint16)
    a = series(tmp_path / "a", values, np.arange(12)[::-1])
    b = dicom(tmp_path / "b.dcm", values)
    result = run("compare", a, b, "--as", "volume", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "12 x 14 x 15 (Z x Y x X)" in result.output
    assert "SSIM        1.000000" in result.output


def test_dicom_slices_with_slopes_of_their_own_are_told(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 900, (12, 14, 15)).astype(np.uint16)
    folder = tmp_path / "a"
    folder.mkdir()
    for index, each in enumerate(values):
        place = {"ImagePositionPatient": [0, 0, index], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        slope = {"RescaleSlope": 1 + index / 2, "RescaleIntercept": -index}
        dicom(folder / f"{index:03}", each, SeriesInstanceUID="1.2.3", **place, **slope)
    scaled = np.stack([each * (1 + index / 2) - index for index, each in enumerate(values)])
    b = save(tmp_path / "b.npy", scaled)
    report = compare(folder, b, "--as", "volume", "--data-range", "900")
    assert report["ssim"] == 1.0
    assert any("slopes 1 to 6.5, intercepts -11 to 0" in note for note in report["notes"])


def test_planes_of_a_dicom_volume_are_those_of_its_axes(tmp_path: Path) -> None:
    """The map of a scan in the order z, y, x is drawn with x across in its first plane."""
    values = RANDOM.integers(0, 900, (12, 14, 15)).astype(np.uint16)
    pair = load_pair(score_files("a", *[dicom(tmp_path / "a.dcm", values)] * 2, Settings()), Settings())
    views = _views(pair.first, _Space(pair.axes, pair.spacing or ()))
    assert [view.axes for view in views] == [("x", "y"), ("z", "y"), ("x", "z")]
    assert [view.values.shape for view in views] == [(14, 15), (14, 12), (12, 15)]
    assert [view.upwards for view in views] == [False, False, True]
    assert views[0].pixel == (0.7, 0.5)
    np.testing.assert_array_equal(views[0].values, values[6])
