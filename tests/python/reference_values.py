# SPDX-License-Identifier: MIT
"""SSIM of packages that few test environments have: `test_reference_values.py` holds what this prints.

python tests/python/reference_values.py tensorflow    # needs tensorflow-cpu
python tests/python/reference_values.py libvmaf       # needs imageio-ffmpeg, whose ffmpeg has libvmaf
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

# Beside some that are not made smaller, libvmaf makes these smaller by 2, 2, 3 and 3; some have odd sides.
LIBVMAF_SIZES = [(180, 190), (400, 501), (511, 640), (700, 801), (770, 771)]


def colours() -> tuple[np.ndarray, np.ndarray]:
    """Two batches of images in [0, 1], [N, H, W, C] in float64, whose sides can be halved four times."""
    random = np.random.default_rng(0)
    y = random.random((2, 176, 192, 3))
    return np.clip(y + 0.2 * random.standard_normal(y.shape), 0, 1), y


def greys(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two images of uint8, [H, W], one a noisy copy of the other."""
    random = np.random.default_rng(0)
    coarse = random.random((size[0] // 4 + 1, size[1] // 4 + 1))
    y = 255 * np.kron(coarse, np.ones((4, 4)))[: size[0], : size[1]]
    return np.clip(y + 20 * random.standard_normal(size), 0, 255).astype(np.uint8), y.astype(np.uint8)


def by_tensorflow() -> dict[str, list[float]]:
    """What tf.image gives for each image of :func:`colours`. It computes in float32, whatever the images are."""
    import tensorflow as tf

    x, y = (image.astype(np.float32) for image in colours())
    x8, y8 = ((255 * image).astype(np.uint8) for image in colours())
    found = {
        "ssim": tf.image.ssim(x, y, max_val=1.0),
        "ssim of uint8": tf.image.ssim(x8, y8, max_val=255),
        "ssim, other arguments": tf.image.ssim(x, y, 1.0, filter_size=7, filter_sigma=1.0, k1=0.02, k2=0.05),
        "ssim_multiscale": tf.image.ssim_multiscale(x, y, max_val=1.0),
    }
    return {name: [float(value) for value in values.numpy()] for name, values in found.items()}


def by_libvmaf() -> dict[str, list[float]]:
    """What float_ssim of libvmaf gives for each size of :func:`greys`: SSIM, luminance, and SSIM in decibels."""
    found = {}
    for size in LIBVMAF_SIZES:
        plain, decibels = _float_ssim(size, "enable_lcs=true"), _float_ssim(size, "enable_db=true")
        found["x".join(map(str, size))] = [plain["float_ssim"], plain["float_ssim_l"], decibels["float_ssim"]]
    return found


def _float_ssim(size: tuple[int, int], option: str) -> dict[str, Any]:
    import imageio_ffmpeg

    height, width = size
    with tempfile.TemporaryDirectory() as folder:
        inputs = []
        for name, image in zip(("distorted", "reference"), greys(size), strict=True):
            # Planes of luma, and of chroma, which float_ssim does not look at.
            chroma = np.full(2 * ((height + 1) // 2) * ((width + 1) // 2), 128, np.uint8)
            path = Path(folder, f"{name}.yuv")
            path.write_bytes(image.tobytes() + chroma.tobytes())
            inputs += ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-i", str(path)]
        log = Path(folder, "log.json")
        measure = rf"libvmaf=feature=name=float_ssim\\:{option}:log_fmt=json:log_path={log}"
        ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error"]
        subprocess.run([*ffmpeg, *inputs, "-lavfi", measure, "-f", "null", "-"], check=True)
        metrics: dict[str, Any] = json.loads(log.read_text(encoding="utf-8"))["frames"][0]["metrics"]
        return metrics


if __name__ == "__main__":
    print(json.dumps({"tensorflow": by_tensorflow, "libvmaf": by_libvmaf}[sys.argv[1]](), indent=4))
