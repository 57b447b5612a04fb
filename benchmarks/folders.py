#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `fused-ssim compare DIR DIR` costs beyond reading the files, and its memory: python benchmarks/folders.py

    python benchmarks/folders.py --pairs 1000           # 800 x 800 PNG: time against the same reader alone
    python benchmarks/folders.py --memory 10000         # small PNG: the peak memory of a tenth and of all

The readers alone decode the same files to arrays with the same number of workers: Pillow, in threads and in processes,
and what the command reads with. All ways take turns, in parts of the pairs, so that what else the machine does falls on
all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median

import numpy as np
import skimage.data
from PIL import Image

from fused_ssim.cli import batch, pairs
from fused_ssim.cli.files import ENDINGS, read
from fused_ssim.cli.results import Settings
from fused_ssim.cli.scoring import score_files

DIFFERENT = 20  # files that differ; the others are copies of them under other names


def make_pairs(folder: Path, count: int, side: int) -> tuple[Path, Path]:
    """Photographs, and the same with a little noise: PNG, RGB, 8 bits."""
    rng = np.random.default_rng(0)
    sources = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()]
    sides = [folder / "truth", folder / "renders"]
    for path in sides:
        path.mkdir(parents=True)
    for number in range(count):
        names = [path / f"{number:05}.png" for path in sides]
        if number >= DIFFERENT:
            for name, path in zip(names, sides, strict=True):
                os.link(path / f"{number % DIFFERENT:05}.png", name)
            continue
        source = Image.fromarray(sources[number % len(sources)])
        edge = int(min(source.size) * rng.uniform(0.6, 1.0))
        truth = np.asarray(source.crop((0, 0, edge, edge)).resize((side, side), Image.Resampling.LANCZOS))
        render = np.clip(truth + rng.normal(0, 3, truth.shape), 0, 255).astype(np.uint8)
        for name, values in zip(names, (truth, render), strict=True):
            Image.fromarray(values).save(name)
    return sides[0], sides[1]


def decode(pair: pairs.FilePair) -> int:
    """Pillow alone: both files to arrays."""
    total = 0
    for path in (pair.first, pair.second):
        with Image.open(path) as image:
            total += int(np.asarray(image)[0, 0, 0])
    return total


def decode_as_compare_does(pair: pairs.FilePair) -> int:
    """The command's own reader, which takes libpng for PNG."""
    return sum(int(read(Path(path)).values[0, 0, 0]) for path in (pair.first, pair.second))


def compare(settings: Settings, workers: int, found: list[pairs.FilePair]) -> None:
    """The command's own way."""
    tasks = (lambda pair=pair: score_files(pair.name, Path(pair.first), Path(pair.second), settings) for pair in found)
    with batch.one_thread_each(workers, settings.device):
        results = list(batch.in_order(tasks, workers))
    assert all(result.error is None for result in results), results[0]


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of processors in this process: the latter says more on a busy machine."""
    start, worked = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - worked


def measure_time(count: int, side: int, parts: int, workers: int) -> dict[str, object]:
    """Seconds for all pairs by each way, and the ratio of comparing to reading: medians over the parts."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = make_pairs(Path(folder), count, side)
        found = pairs.pairs_of_folders(str(first), str(second), ENDINGS).pairs
        assert len(found) == count
        megabytes = sum(path.stat().st_size for path in first.iterdir()) / count / 1e6
        times: dict[str, list[float]] = {}
        work: dict[str, float] = {}
        with ThreadPoolExecutor(workers) as threads, ProcessPoolExecutor(workers) as processes:
            ways: dict[str, Callable[[list[pairs.FilePair]], object]] = {
                "Pillow, threads": lambda part: list(threads.map(decode, part)),
                "Pillow, processes": lambda part: list(processes.map(decode, part, chunksize=5)),
                "own reader, threads": lambda part: list(threads.map(decode_as_compare_does, part)),
                "compare, float64": lambda part: compare(Settings(precision="float64"), workers, part),
                "compare, float32": lambda part: compare(Settings(precision="float32"), workers, part),
            }
            for way in ways.values():
                way(found[: 2 * workers])
            for index in range(parts):
                part = found[index::parts]
                for name, way in ways.items():
                    clock, worked = timed(lambda way=way, part=part: way(part))
                    times.setdefault(name, []).append(clock)
                    work[name] = work.get(name, 0.0) + worked
    del work["Pillow, processes"]  # done elsewhere
    ratios = {
        f"ratio to {base}": {
            name: round(median(b / a for a, b in zip(times[base], seconds, strict=True)), 3)
            for name, seconds in times.items()
        }
        for base in ("Pillow, threads", "own reader, threads")
    }
    return {
        "pairs": count,
        "side": side,
        "megabytes a file": round(megabytes, 2),
        "workers": workers,
        "seconds": {name: round(sum(seconds), 2) for name, seconds in times.items()},
        "processor milliseconds a pair": {name: round(1e3 * worked / count, 1) for name, worked in work.items()},
        **ratios,
    }


PEAK = """
import resource, sys
from fused_ssim.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=sys.stderr)
"""


def measure_memory(count: int) -> dict[str, object]:
    """The peak memory in MiB of a run over a tenth of the pairs, and over all."""
    found: dict[str, float] = {}
    for number in (count // 10, count):
        with tempfile.TemporaryDirectory() as folder:
            first, second = make_pairs(Path(folder), number, 64)
            command = [sys.executable, "-c", PEAK, "compare", str(first), str(second), "--device", "cpu"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[str(number)] = round(float(done.stderr.split()[-1]), 1)
    return {"peak MiB": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--side", type=int, default=800)
    parser.add_argument("--parts", type=int, default=20)
    parser.add_argument("--workers", type=int, default=batch.default_workers())
    parser.add_argument("--memory", type=int, metavar="PAIRS", help="measure memory instead of time")
    arguments = parser.parse_args()
    with redirect_stdout(sys.stderr):
        if arguments.memory:
            report = measure_memory(arguments.memory)
        else:
            report = measure_time(arguments.pairs, arguments.side, arguments.parts, arguments.workers)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
