# SPDX-License-Identifier: MIT
"""DICOM files, and folders that hold the slices of one series, by pydicom (extra `dicom`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fused_ssim.cli.common import extra
from fused_ssim.cli.files.picture import Raw

if TYPE_CHECKING:
    from pathlib import Path

    from fused_ssim.cli.files.source import Source
    from fused_ssim.cli.results import Array


def is_dicom(head: bytes) -> bool:
    """Whether a file has the preamble of DICOM."""
    return head[128:132] == b"DICM"


def is_series(folder: Path) -> bool:
    """Whether a folder holds DICOM files."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                if is_dicom(file.read(132)):
                    return True
    return False


def read_dicom(source: Source) -> Raw:
    """The image of a DICOM file, or its frames as a volume."""
    with extra("dicom"):
        import pydicom

    with source.stream() as file:
        dataset = pydicom.dcmread(file)
        values = _pixels(dataset)
    colours = int(dataset.SamplesPerPixel) > 1
    frames = values.ndim == (4 if colours else 3)
    scaled = _scale(dataset) != (1.0, 0.0)
    return Raw(
        values,
        axes="D" * frames + "HW" + "C" * colours,
        dtype=_stored_dtype(dataset),
        white=255.0 if int(dataset.BitsStored) == 8 and not scaled and not dataset.PixelRepresentation else None,
        scaled=scaled,
        physical=True,
        spacing=(*[_thickness(dataset)] * frames, *_pixel_spacing(dataset)),
        volume_axes="ZYX",
        notes=_notes(dataset),
    )


def read_series(folder: Path) -> Raw:
    """The slices of one series in a folder, as a volume in the order of their positions in space."""
    with extra("dicom"):
        import numpy as np
        import pydicom

    slices = []
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            if is_dicom(file.read(132)):
                slices.append((path, pydicom.dcmread(path)))
    if not slices:
        raise ValueError("a folder without DICOM files")
    series = {str(dataset.get("SeriesInstanceUID", "")) for _, dataset in slices}
    if len(series) > 1:
        raise ValueError(f"holds {len(series)} DICOM series; one is expected")
    first = slices[0][1]
    arrays, positions = [], []
    for path, dataset in slices:
        values = _pixels(dataset)
        if values.ndim != 2:
            raise ValueError(f"{path.name} is no single grey slice")
        if "ImagePositionPatient" not in dataset or "ImageOrientationPatient" not in dataset:
            raise ValueError(f"{path.name} does not say where in space its slice lies")
        directions = [float(value) for value in dataset.ImageOrientationPatient]
        if any(abs(a - float(b)) > 1e-3 for a, b in zip(directions, first.ImageOrientationPatient, strict=True)):
            raise ValueError(f"{path.name} lies in another direction than the slices before it")
        normal = np.cross(directions[:3], directions[3:])
        positions.append(float(np.dot(normal, [float(value) for value in dataset.ImagePositionPatient])))
        arrays.append(values)
    if len({values.shape for values in arrays}) > 1:
        raise ValueError("its slices have different sizes")
    order = np.argsort(positions, kind="stable")
    steps = np.diff(np.asarray(positions)[order])
    notes = _notes(*(dataset for _, dataset in slices))
    if len(steps) and float(steps.min()) <= 0:
        raise ValueError("two of its slices lie at the same place")
    if len(steps) and float(steps.max()) > 1.01 * float(steps.min()):
        notes.append(f"its slices lie {steps.min():g} to {steps.max():g} mm apart: some may be missing")
    return Raw(
        np.stack([arrays[index] for index in order]),
        axes="DHW",
        dtype=" and ".join(sorted({_stored_dtype(dataset) for _, dataset in slices})),
        scaled=any(_scale(dataset) != (1.0, 0.0) for _, dataset in slices),
        physical=True,
        spacing=(float(np.median(steps)) if len(steps) else 1.0, *_pixel_spacing(first)),
        volume_axes="ZYX",
        notes=notes,
    )


def _pixels(dataset: Any) -> Array:
    """The values in their unit (the modality's rescaling applied), small ones dark."""
    import numpy as np
    from pydicom.pixels.processing import apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    if "PixelData" not in dataset and "FloatPixelData" not in dataset and "DoubleFloatPixelData" not in dataset:
        raise ValueError("a DICOM file without pixels")
    stored = pixel_array(dataset)  # YBR becomes RGB
    meaning = str(dataset.get("PhotometricInterpretation", ""))
    if meaning == "PALETTE COLOR":
        raise ValueError("DICOM with a palette is not read here; convert it to RGB")
    if meaning not in ("MONOCHROME1", "MONOCHROME2", "RGB") and not meaning.startswith("YBR"):
        raise ValueError(f"DICOM of kind {meaning or 'unknown'} is not read here")
    if meaning == "MONOCHROME1":  # small numbers are bright
        bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation)
        stored = (-1 if signed else 2**bits - 1) - stored.astype(np.int64)
    if "ModalityLUTSequence" in dataset:
        return np.asarray(apply_modality_lut(stored, dataset))
    slope, intercept = _scale(dataset)
    return np.asarray(stored) if (slope, intercept) == (1.0, 0.0) else stored * slope + intercept


def _scale(dataset: Any) -> tuple[float, float]:
    """Slope and intercept. Files with many frames have them in groups, for all frames or for each."""
    if "RescaleSlope" in dataset or "RescaleIntercept" in dataset:
        groups = [dataset]
    else:
        groups = [
            transformation
            for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
            for group in dataset.get(name, None) or []
            for transformation in group.get("PixelValueTransformationSequence", None) or []
        ]
    found = {
        (float(group.get("RescaleSlope", 1) or 1), float(group.get("RescaleIntercept", 0) or 0)) for group in groups
    }
    if len(found) > 1:
        raise ValueError("its frames are rescaled differently, which is not read here")
    return found.pop() if found else (1.0, 0.0)


def _stored_dtype(dataset: Any) -> str:
    if "PixelData" not in dataset:
        return "float32" if "FloatPixelData" in dataset else "float64"
    return f"{'int' if int(dataset.PixelRepresentation) else 'uint'}{int(dataset.BitsStored)}"


def _pixel_spacing(dataset: Any) -> tuple[float, float]:
    found = [float(value) for value in dataset.get("PixelSpacing", None) or (1, 1)]
    return (found[0], found[1]) if len(found) == 2 and min(found) > 0 else (1.0, 1.0)


def _thickness(dataset: Any) -> float:
    found = float(dataset.get("SpacingBetweenSlices", None) or dataset.get("SliceThickness", None) or 1)
    return found if found > 0 else 1.0


def _notes(*datasets: Any) -> list[str]:
    """What is said of a file, or of the slices of a series."""
    notes = []
    if any(dataset.get("PhotometricInterpretation") == "MONOCHROME1" for dataset in datasets):
        notes.append("small numbers are bright in it; its values are inverted")
    if any("ModalityLUTSequence" in dataset for dataset in datasets):
        notes.append("values are those of its table (Modality LUT)")
    scales = {_scale(dataset) for dataset in datasets if "ModalityLUTSequence" not in dataset}
    if len(scales) > 1:
        slopes, intercepts = zip(*scales, strict=True)
        notes.append(
            f"values are rescaled as each slice says: slopes {min(slopes):g} to {max(slopes):g}, intercepts "
            f"{min(intercepts):g} to {max(intercepts):g}"
        )
    elif scales and scales != {(1.0, 0.0)}:
        slope, intercept = scales.pop()
        sign = "-" if intercept < 0 else "+"
        notes.append(f"values are rescaled as it says: {slope:g} * stored {sign} {abs(intercept):g}")
    return notes
