# SPDX-License-Identifier: MIT
"""Agreement with packages that few test environments have: with values that they gave elsewhere, and with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import reference_values
import torch
from tolerances import LIBVMAF, LIBVMAF_DECIBELS, TENSORFLOW

import fused_ssim

# What `reference_values.py` prints, with tensorflow-cpu 2.21.0.
BY_TENSORFLOW = {
    "ssim": [0.8218947052955627, 0.8207646012306213],
    "ssim of uint8": [0.8218943476676941, 0.8207469582557678],
    "ssim, other arguments": [0.8144736289978027, 0.8133518695831299],
    "ssim_multiscale": [0.8515186309814453, 0.8465418219566345],
}
# The same, with the ffmpeg n9.0.2 of imageio-ffmpeg 0.8.1, whose libvmaf is 86da14d: SSIM, luminance, decibels.
BY_LIBVMAF = {
    "180x190": [0.926752, 0.999275, 11.352041],
    "400x501": [0.979287, 0.999867, 16.837476],
    "511x640": [0.978595, 0.999871, 16.694803],
    "700x801": [0.992599, 0.999949, 21.307242],
    "770x771": [0.99249, 0.999947, 21.243804],
}


def of_tensorflow() -> dict[str, Any]:
    """Our values for what `reference_values.by_tensorflow` computes."""
    pair = reference_values.colours()
    integers = tuple((255 * image).astype("uint8") for image in pair)
    hwc = {"channel_axis": -1, "reduction": "image"}
    value, ms_ssim = fused_ssim.array.value, fused_ssim.array.ms_ssim
    return {
        "ssim": value(*pair, "valid", **hwc),
        "ssim of uint8": value(*integers, "valid", **hwc),
        "ssim, other arguments": value(*pair, "valid", window_size=7, sigma=1.0, K=(0.02, 0.05), **hwc),
        "ssim_multiscale": ms_ssim(*pair, **hwc),
    }


@pytest.mark.parametrize("name", BY_TENSORFLOW)
def test_values_of_tensorflow_are_ours(name: str) -> None:
    assert of_tensorflow()[name] == pytest.approx(BY_TENSORFLOW[name], abs=TENSORFLOW, rel=0)


def test_tensorflow_gives_these_values() -> None:
    pytest.importorskip("tensorflow")
    found = reference_values.by_tensorflow()
    for name, values in BY_TENSORFLOW.items():
        assert found[name] == pytest.approx(values, abs=TENSORFLOW, rel=0)


@pytest.fixture(scope="module")
def recipe() -> str:
    """The code of the page for libvmaf."""
    page = Path(__file__).resolve().parents[2] / "docs" / "conventions.md"
    if not page.exists():
        pytest.skip("not in a source distribution")
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (found,) = (block for block in blocks if "def decimated" in block)
    return found


@pytest.mark.parametrize("size", reference_values.LIBVMAF_SIZES)
def test_values_of_libvmaf_are_those_of_the_recipe(recipe: str, size: tuple[int, int]) -> None:
    x, y = (torch.from_numpy(image / 255.0)[None, None] for image in reference_values.greys(size))
    names: dict[str, Any] = {"x": x, "y": y}
    exec(compile(recipe, "conventions.md", "exec"), names)
    ssim, luminance, decibels = BY_LIBVMAF["x".join(map(str, size))]
    assert abs(float(names["score"]) - ssim) < LIBVMAF
    assert abs(float(names["decibels"]) - decibels) < LIBVMAF_DECIBELS
    smaller = (names["decimated"](names[name]) for name in ("luma_x", "luma_y"))
    assert abs(float(fused_ssim.ssim_terms(*smaller, **names["window"])[0].mean()) - luminance) < LIBVMAF


def test_libvmaf_gives_these_values() -> None:
    pytest.importorskip("imageio_ffmpeg")
    found = reference_values.by_libvmaf()
    for name, values in BY_LIBVMAF.items():
        assert found[name] == pytest.approx(values, abs=LIBVMAF_DECIBELS, rel=0)
