# SPDX-License-Identifier: MIT
"""How much faster the functions of `fused_ssim.compat` are than those whose names they have, on the CPU.

    python benchmarks/compat.py                # runs all, in turns, and prints medians
    python benchmarks/compat.py --rounds 20

Needs scikit-image and torchmetrics. Every call of one package is followed by one of the other, so that both see the
same machine. Times of the clock are those of a busy machine if it is one: then look at the times of the processors.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import skimage
import torch
import torchmetrics
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

import fused_ssim
from fused_ssim.compat import skimage as our_skimage
from fused_ssim.compat import torchmetrics as our_torchmetrics

if TYPE_CHECKING:
    from collections.abc import Callable


def images() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A 3x1080x1920 image with structure of all sizes, and a noisy copy, as uint8."""
    noise = np.random.default_rng(0)
    image = np.full((3, 1080, 1920), 128.0)
    for size in (8, 40, 120):
        coarse = noise.normal(0, 25, (3, 1080 // size, 1920 // size))
        image += coarse.repeat(size, 1).repeat(size, 2)
    copy = image + noise.normal(0, 10, image.shape)
    return tuple(each.clip(0, 255).astype(np.uint8) for each in (image, copy))  # type: ignore[return-value]


def calls() -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """By name: the call of the package, and ours."""
    planes = images()
    interleaved = [np.ascontiguousarray(np.moveaxis(each, 0, -1)) for each in planes]
    doubles = [each.astype(np.float64) for each in planes]
    floats = [torch.from_numpy(each)[None] / 255 for each in planes]

    def both(theirs: Callable[..., Any], ours: Callable[..., Any], pair: Any, **arguments: Any) -> Any:
        return lambda: theirs(*pair, **arguments), lambda: ours(*pair, **arguments)

    scikit = structural_similarity, our_skimage.structural_similarity
    metrics = structural_similarity_index_measure, our_torchmetrics.structural_similarity_index_measure
    return {
        "scikit-image, uint8 CHW": both(*scikit, planes, channel_axis=0),
        "scikit-image, uint8 HWC": both(*scikit, interleaved, channel_axis=-1),
        "scikit-image, uint8 CHW, full and gradient": both(*scikit, planes, channel_axis=0, full=True, gradient=True),
        "scikit-image, float64 CHW": both(*scikit, doubles, channel_axis=0, data_range=255),
        "scikit-image, uint8 CHW, as Wang et al.": both(
            *scikit, planes, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        ),
        "torchmetrics, float32": both(*metrics, floats, data_range=1.0),
    }


def times(pair: tuple[Callable[[], Any], Callable[[], Any]], rounds: int) -> tuple[float, float]:
    """The median of each, in seconds."""
    found: tuple[list[float], list[float]] = ([], [])
    for call in pair:
        call()
    for _ in range(rounds):
        for call, kept in zip(pair, found, strict=True):
            start = time.perf_counter()
            call()
            kept.append(time.perf_counter() - start)
    return statistics.median(found[0]), statistics.median(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description="fused_ssim.compat against scikit-image and torchmetrics")
    parser.add_argument("--rounds", type=int, default=7, help="calls of each function")
    parser.add_argument("--only", default="", help="part of the names of what to run")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    processors = len(os.sched_getaffinity(0))
    print(f"3x1080x1920, {processors} processors, median of {arguments.rounds} calls in turns; fused_ssim")
    print(f"{fused_ssim.__version__}, scikit-image {skimage.__version__}, torchmetrics {torchmetrics.__version__}")
    for name, pair in calls().items():
        if arguments.only in name:
            theirs, ours = times(pair, arguments.rounds)
            print(f"{name:44} {theirs * 1e3:8.1f} ms {ours * 1e3:8.1f} ms {theirs / ours:6.1f} times")


if __name__ == "__main__":
    main()
