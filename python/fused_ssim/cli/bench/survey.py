# SPDX-License-Identifier: MIT
"""The survey: what calls and shapes besides the usual ones cost, as ratios; `fused-ssim bench --survey`."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from fused_ssim.cli.bench import memory, timing
from fused_ssim.cli.bench.cases import DTYPES, TRAIN, Plan, Shape, elements, readable, spatial_dims
from fused_ssim.cli.bench.environment import describe
from fused_ssim.cli.bench.libraries import OURS, Call, find, ours
from fused_ssim.cli.bench.survey_rows import MEMORY_FROM, MEMORY_LIMIT, ROWS, SIZES, Limits, Row, Size

SCHEMA = 1
KIND = "survey"

Result = dict[str, Any]
Progress = Callable[[str], None]


def run(
    device: torch.device,
    plan: Plan,
    *,
    rows: Sequence[Row] = ROWS,
    sizes: Sequence[Size] = SIZES,
    commit: str | None = None,
    progress: Progress = lambda _text: None,
) -> Result:
    """Measures, and returns the content of the JSON file.

    `plan.shapes` are the usual shapes. Every call is timed in turns with the usual call, as replays of CUDA graphs
    where there are any, so that neither the state of the machine nor the host counts.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    begin = time.perf_counter()
    libraries, _ = find(names=[])
    surveyor = _Surveyor(device, plan, progress)
    report: Result = {
        "schema": SCHEMA,
        "kind": KIND,
        "environment": describe(device, libraries, commit),
        "settings": dataclasses.asdict(plan),
        "results": surveyor.results,
        "sizes": surveyor.sizes,
        "memory": surveyor.memory,
        "failures": surveyor.failures,  # of usual calls, without which there are no ratios
    }
    for usual in plan.shapes:
        for mode in plan.modes:
            surveyor.around(usual, mode, rows, sizes)
    order = [row.name for row in rows]
    surveyor.results.sort(key=lambda entry: order.index(entry["row"]))
    surveyor.peaks()
    report["seconds"] = time.perf_counter() - begin
    return report


class _Surveyor:
    def __init__(self, device: torch.device, plan: Plan, progress: Progress) -> None:
        self.device = device
        self.plan = plan
        self.progress = progress
        self.results: list[Result] = []
        self.sizes: list[Result] = []
        self.memory: list[Result] = []
        self.failures: list[str] = []

    def around(self, usual: Shape, mode: str, rows: Sequence[Row], sizes: Sequence[Size]) -> None:
        """Everything that is compared with the usual call of a shape."""
        dims = spatial_dims(usual)
        chosen = [row for row in rows if dims in row.dims and mode in row.modes]
        try:
            # One shape after the other, so that the usual call of each is made ready once.
            for shape in dict.fromkeys(row.shape(usual) for row in chosen):
                self.rows(shape, mode, [row for row in chosen if row.shape(usual) == shape])
            self.shapes(usual, mode, [size for size in sizes if spatial_dims(size.large) == dims])
        except Exception as error:
            self.failures.append(f"usual call, {readable(usual)}, {mode}: {_first_line(error)}")

    def rows(self, shape: Shape, mode: str, rows: Sequence[Row]) -> None:
        """Rows of one shape against the usual call of it."""
        dims = spatial_dims(shape)
        with ExitStack() as stack:
            usual, way = self._ready(stack, ours(mode, dims), timing.Inputs(shape, "float32", mode, self.device))
            for row in rows:
                entry: Result = {"row": row.name, "shape": list(shape), "mode": mode, "usual_way": way}
                entry["limit"] = self._limit(row.limits, dims, mode)
                self.results.append(entry)
                self.progress(f"{row.name}: {readable(shape)}, {mode}")
                call = partial(row.prepare, shape, mode, self.device)
                inputs = partial(timing.Inputs, shape, row.dtype, mode, self.device, row.arrange)
                self._compare(entry, usual, call, inputs)

    def shapes(self, usual_shape: Shape, mode: str, sizes: Sequence[Size]) -> None:
        """The usual call of other shapes, by element, against that of the usual shape."""
        if not sizes:
            return
        dims = spatial_dims(usual_shape)
        call = partial(ours, mode, dims)
        with ExitStack() as stack:
            usual, way = self._ready(stack, call(), timing.Inputs(usual_shape, "float32", mode, self.device))
            for size in sizes:
                on_gpu = self.device.type == "cuda"
                shape = size.large if on_gpu else size.small
                entry: Result = {"shape": list(shape), "usual_shape": list(usual_shape), "mode": mode, "usual_way": way}
                entry["limit"] = size.limit if on_gpu else None
                entry["limit_seconds"] = size.seconds.get(mode) if on_gpu else None
                self.sizes.append(entry)
                self.progress(f"{readable(shape)}, {mode}")
                inputs = partial(timing.Inputs, shape, "float32", mode, self.device)
                self._compare(entry, usual, call, inputs, elements(usual_shape) / elements(shape))
                if "seconds" in entry:
                    entry["ns_per_element"] = entry["seconds"] * 1e9 / elements(shape)

    def peaks(self) -> None:
        """Peak memory of value + gradient besides the two images."""
        if self.device.type == "cuda":
            for shape in self.plan.memory_shapes:
                self.progress(f"memory: {readable(shape)}")
                try:
                    inputs = timing.Inputs(shape, "float32", TRAIN, self.device)
                    peak = memory.cuda_peak(ours(TRAIN, spatial_dims(shape)), inputs, self.device)
                    self._add_peak({"shape": list(shape), "mode": TRAIN, "bytes": peak})
                except torch.OutOfMemoryError:
                    self._add_peak({"shape": list(shape), "mode": TRAIN, "bytes": None, "reason": "out of memory"})
                finally:
                    inputs = None  # type: ignore[assignment]
                    self._free()
        elif self.plan.memory_shapes:
            self.progress("memory")
            for entry in memory.cpu_peaks(OURS, self.plan.memory_shapes):
                if entry["mode"] == TRAIN:
                    self._add_peak(entry)

    def _add_peak(self, entry: Result) -> None:
        size = elements(tuple(entry["shape"]))
        entry["images"] = None if entry["bytes"] is None else entry["bytes"] / (size * DTYPES["float32"].itemsize)
        is_limited = self.device.type == "cuda" and len(entry["shape"]) == 5 and size >= MEMORY_FROM
        entry["limit"] = MEMORY_LIMIT if is_limited else None
        self.memory.append(entry)

    def _compare(
        self,
        entry: Result,
        usual: timing.Run,
        call: Callable[[], Call],
        inputs: Callable[[], timing.Inputs],
        scale: float = 1.0,
    ) -> None:
        """Times a call in turns with the usual one: the ratio of their medians times `scale`, and quartiles of rounds.

        A row that cannot be measured must not cost the others: it is noted with its reason.
        """
        self._free()
        entry["status"] = "ok"
        try:
            with ExitStack() as stack:
                run, entry["way"] = self._ready(stack, call(), inputs())
                of_usual, of_row = timing.in_turns([usual, run], self.device, self.plan)
        except torch.OutOfMemoryError:
            entry.update(status="failed", reason="out of memory")
        except Exception as error:
            entry.update(status="failed", reason=_first_line(error))
        else:
            ratios = sorted(row / base * scale for base, row in zip(of_usual, of_row, strict=True))
            low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
            seconds, base = statistics.median(of_row), statistics.median(of_usual)
            entry.update(seconds=seconds, usual_seconds=base, ratio=seconds / base * scale)
            entry.update(ratio_low=low, ratio_high=high, rounds=len(ratios))

    def _ready(self, stack: ExitStack, call: Call, inputs: timing.Inputs) -> tuple[timing.Run, str]:
        """A call to be timed: as a CUDA graph, or as a loop where there is none; and which of the two."""
        if self.device.type == "cuda":
            # Outside of a capture first, so that an error of the call itself is not taken for one of the capture.
            inputs.rotate(call, 1)
            timing.synchronize(self.device)
            try:
                return stack.enter_context(timing.captured(call, inputs, self.device)), "graph"
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self.progress(f"  no CUDA graph: {_first_line(error)}")
                timing.synchronize(self.device)
        return timing.plain(call, inputs), "loop"

    def _limit(self, limits: Limits, dims: int, mode: str) -> float | None:
        return limits.get((dims, mode)) if self.device.type == "cuda" else None

    def _free(self) -> None:
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
