#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Random calls, each timed in turns with the usual call of its shape: which arguments are slow ones?

    python benchmarks/random_calls.py --minutes 2 --json random-calls-h200.json
    python benchmarks/random_calls.py --device cpu --small
    python benchmarks/random_calls.py --from random-calls-h200.json

The calls are drawn as in tests/fuzz/differential.py: dtypes, layouts, windows, borders, masks, losses, reductions.
Shapes are from a list, and so large that launches and halos do not count; the survey has others. The usual call is
`fused_ssim(x, y)` of contiguous float32 images, with the gradient of one image where a call has any, or two.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "python"))

import cases
import click
import torch
from torch import Tensor

import fused_ssim
from fused_ssim.cli.bench.cases import INFERENCE, TRAIN, Plan, Shape, spatial_dims
from fused_ssim.cli.bench.command import show_table
from fused_ssim.cli.bench.environment import describe
from fused_ssim.cli.bench.libraries import ours, without_gradient
from fused_ssim.cli.bench.survey_rows import STANDS_OUT
from fused_ssim.cli.bench.tables import Table, percent
from fused_ssim.cli.bench.timing import Inputs, Pairs, Run, captured, in_turns, plain

LARGE: tuple[Shape, ...] = ((2, 3, 1080, 1920), (12, 3, 517, 733), (1, 1, 192, 192, 192), (2, 2, 101, 157, 163))
SMALL: tuple[Shape, ...] = ((1, 3, 180, 320), (1, 1, 40, 40, 40))
WINDOWS = (11, 21, 33)  # a call is counted with the first of these that holds its largest window
ROWS = ("contiguous", "offset", "cropped")  # layouts whose elements of a row are adjacent, in both images


def draw(choices: cases.RandomChoices, shapes: tuple[Shape, ...]) -> cases.Case:
    """A call of the fuzzer, with one of these shapes and any window."""
    case = cases.draw_case(choices)
    shape = choices.pick([shape for shape in shapes if len(shape) == len(case.shape)])
    if isinstance(case.settings["window_size"], int):
        case.settings["window_size"] = choices.pick([11, 2 * choices.integer(0, 16) + 1])
    if cases.largest_window(case) == 1:
        case.settings.pop("sample_covariance", None)
    # Expanded images are read from caches: faster, and no layout of images that somebody measures.
    layouts = tuple("contiguous" if layout == "expanded_batch" else layout for layout in case.layouts)
    # The value as often as a gradient.
    grads = choices.pick(["", case.grads])
    return replace(case, shape=shape, layouts=layouts, kind="random", grads=grads, call="function")


def prepared(case: cases.Case, device: torch.device) -> tuple[Any, Pairs]:
    """The call, and its images."""
    settings = {**case.settings, "padding": case.padding, "reduction": case.reduction, "mask_mode": case.mask_mode}
    settings["mask"] = mask_of(case, device)
    settings["data_range"] = 1.0
    if case.lambda_dssim is None:
        function = fused_ssim.fused_ssim3d if spatial_dims(case.shape) == 3 else fused_ssim.fused_ssim
    else:
        function = partial(fused_ssim.photometric_loss, lambda_dssim=case.lambda_dssim)
    value = partial(function, train=bool(case.grads), **settings)
    x, y = images_of(case, device)
    wanted = [image.requires_grad_() for name, image in zip("xy", (x, y), strict=True) if name in case.grads]
    if not case.grads:
        return without_gradient(value), Pairs([(x, y)])
    upstream = torch.rand_like(value(x, y))

    def call(x: Tensor, y: Tensor) -> Any:
        return torch.autograd.grad(value(x, y), wanted, upstream)

    return call, Pairs([(x, y)])


def images_of(case: cases.Case, device: torch.device) -> list[Tensor]:
    """Random images, made on the device: those of the fuzzer are made on the CPU, in float64."""
    images = []
    for layout, integer, scale in zip(case.layouts, case.integers, case.scales(), strict=True):
        image = torch.rand(case.shape, device=device)
        image = image.to(case.dtype) if integer is None else (image / scale).to(integer)
        images.append(cases.laid_out(image, layout, str(device)))
    return images


def mask_of(case: cases.Case, device: torch.device) -> Tensor | None:
    if case.mask_axes is None:
        return None
    sizes = case.shape[len(case.shape) - len(case.mask_axes) :]
    values = torch.rand([n if whole else 1 for n, whole in zip(sizes, case.mask_axes, strict=True)], device=device)
    return values > 0.4 if case.mask_kind == "bool" else values.to(case.arithmetic)


class Measurement:
    """The usual calls, made ready once, and what the others took."""

    def __init__(self, device: torch.device, shapes: tuple[Shape, ...], stack: ExitStack) -> None:
        self.device = device
        self.plan = Plan(shapes=[], loop_seconds=0.001, repeats=5, case_seconds=0.1)
        self.usual: dict[tuple[Shape, str], Run] = {}
        for shape in shapes:
            for mode in (TRAIN, INFERENCE):
                call = ours(mode, spatial_dims(shape))
                self.usual[shape, mode] = self.ready(stack, call, Inputs(shape, "float32", mode, device))

    def ready(self, stack: ExitStack, call: Any, pairs: Pairs) -> Run:
        if self.device.type != "cuda":
            return plain(call, pairs)
        return stack.enter_context(captured(call, pairs, self.device))

    def ratio(self, case: cases.Case) -> float:
        mode = TRAIN if case.grads else INFERENCE
        with ExitStack() as stack:
            run = self.ready(stack, *prepared(case, self.device))
            usual, times = in_turns([self.usual[case.shape, mode], run], self.device, self.plan)
        return statistics.median(times) / statistics.median(usual)


def kind_of(case: dict[str, Any]) -> tuple[str, ...]:
    """What a call is counted as."""
    size = case["settings"]["window_size"]
    window = next(most for most in WINDOWS if (max(size) if isinstance(size, list | tuple) else size) <= most)
    arithmetic = "float64" if case["dtype"] == "torch.float64" else "float32"
    normalized = ", normalised" if case["mask_axes"] is not None and case["mask_mode"] == "normalized" else ""
    layouts = "rows" if all(layout in ROWS for layout in case["layouts"]) else "other"
    return f"{len(case['shape']) - 2}D", arithmetic + normalized, f"to {window} taps", layouts


def table_of(results: list[dict[str, Any]]) -> Table:
    by_kind: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for result in results:
        by_kind[kind_of(result["case"])].append(result["ratio"])
    rows = []
    for kind in sorted(by_kind, key=lambda kind: (kind[0], kind[1], int(kind[2].split()[1]), kind[3] != "rows")):
        ratios = sorted(by_kind[kind])
        figures = (statistics.median(ratios), ratios[math.ceil(0.9 * len(ratios)) - 1], ratios[-1])
        above = sum(ratio > STANDS_OUT for ratio in ratios) / len(ratios)
        rows.append([*kind, str(len(ratios)), *(f"{figure:.2f}" for figure in figures), percent(above)])
    columns = ["", "arithmetic", "window", "layout", "calls", "median", "9 of 10", "most", f"above {STANDS_OUT:g}"]
    return Table("Times of the usual call of the same shape", columns, rows)


@click.command(help=__doc__.splitlines()[0])
@click.option("--minutes", default=1.0)
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu")
@click.option("--seed", default=0)
@click.option("--small", is_flag=True, help="Shapes for a CPU.")
@click.option("--commit", help="What is measured.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Where all calls go.")
@click.option("--from", "earlier", type=click.Path(exists=True, path_type=Path), help="Shows an earlier run.")
def main(
    minutes: float, device: str, seed: int, small: bool, commit: str | None, path: Path | None, earlier: Path | None
) -> None:
    if earlier:
        show_table(table_of(json.loads(earlier.read_text(encoding="utf-8"))["results"]))
        return
    where = torch.device(device)
    shapes = SMALL if small else LARGE
    results: list[dict[str, Any]] = []
    failures: list[str] = []
    start, number = time.monotonic(), 0
    with ExitStack() as stack:
        measurement = Measurement(where, shapes, stack)
        while time.monotonic() - start < 60 * minutes:
            case = draw(cases.RandomChoices(seed * 1_000_000_007 + number), shapes)
            number += 1
            try:
                ratio = measurement.ratio(case)
            except Exception as error:
                failures.append(f"{error}: {cases.describe(case)}")
                continue
            results.append({"ratio": ratio, "case": cases.describe(case)})
            if number % 100 == 0:
                gc.collect()
    results.sort(key=lambda result: -result["ratio"])
    show_table(table_of(results))
    for failure in failures[:5]:
        click.echo(failure)
    if path:
        report = {"environment": describe(where, [], commit), "seed": seed, "failures": failures, "results": results}
        path.write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
