# SPDX-License-Identifier: MIT
"""A whole run: every shape, dtype, mode and package, one after the other in one process."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable
from typing import Any

import torch

import fused_ssim
from fused_ssim.cli.bench import memory, timing
from fused_ssim.cli.bench.cases import (
    DTYPES,
    INFERENCE,
    SOURCE,
    Ceilings,
    Plan,
    Shape,
    elements,
    least_bytes,
    least_fmas,
    readable,
    spatial_dims,
)
from fused_ssim.cli.bench.environment import describe
from fused_ssim.cli.bench.libraries import OURS, Library, ours

SCHEMA = 1
AGREEMENT = 1e-3  # between the values of two packages; more is another quantity, or wrong

Result = dict[str, Any]
Progress = Callable[[str], None]


def run(
    device: torch.device,
    libraries: list[Library],
    missing: dict[str, str],
    plan: Plan,
    *,
    commit: str | None = None,
    progress: Progress = lambda _text: None,
) -> Result:
    """Measures, and returns the content of the JSON file.

    This package comes first with everything that concerns it alone, so that a run that uses up its time has it all.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    begin = time.perf_counter()
    environment = describe(device, libraries, commit)
    progress("copy bandwidth")
    ceilings = timing.ceilings(device, plan)
    runner = _Runner(device, plan, ceilings, begin, progress)
    report: Result = {
        "schema": SCHEMA,
        "environment": environment,
        "missing": missing,
        "settings": dataclasses.asdict(plan),
        "ceilings": {**dataclasses.asdict(ceilings), "counts_source": SOURCE},
        "results": runner.results,
        "memory": runner.memory,
        "growth": [],
        "overhead": None,
    }
    for library in libraries:
        if device.type not in library.devices:
            missing[library.name] = f"does not run on {device.type}"
    usable = [library for library in libraries if device.type in library.devices]
    shapes = sorted(plan.shapes, key=lambda shape: (len(shape), elements(shape)))
    # The others take turns shape by shape: should time run out, each has its small shapes.
    for group in ([library for library in usable if library.name == OURS], [lib for lib in usable if lib.name != OURS]):
        for dtype in plan.dtypes:
            for shape in shapes:
                for library in group:
                    for mode in plan.modes:
                        runner.case(library, shape, dtype, mode)
        if group and group[0].name == OURS:
            progress("Python overhead")
            report["overhead"] = timing.overhead(device, plan)
            series = [runner.growth(same, mode) for same in plan.growth for mode in plan.modes]
            report["growth"] = [entry for entry in series if entry is not None]
    if device.type == "cpu":
        for library in usable:
            runner.cpu_memory(library)
    report["seconds"] = time.perf_counter() - begin
    return report


class _Runner:
    def __init__(self, device: torch.device, plan: Plan, ceilings: Ceilings, begin: float, progress: Progress) -> None:
        self.device = device
        self.plan = plan
        self.ceilings = ceilings
        self.begin = begin
        self.progress = progress
        self.results: list[Result] = []
        self.memory: list[Result] = []

    def case(self, library: Library, shape: Shape, dtype: str, mode: str) -> None:
        """Time and memory of a package for a shape, a dtype and a mode, or why there is none."""
        call = library.prepare(mode, spatial_dims(shape))
        if call is None:
            return
        entry: Result = {
            "library": library.name,
            "shape": list(shape),
            "dtype": dtype,
            "mode": mode,
            "padding": library.padding,
            "status": "ok",
            "floor_seconds": self.ceilings.floor(shape, dtype, mode),
        }
        self.results.append(entry)
        reason = self._reason_to_skip(library, shape, dtype, mode)
        if reason:
            entry.update(status="skipped", reason=reason)
            return
        self.progress(f"{library.name}: {readable(shape)} {dtype}, {mode}")
        try:
            inputs = timing.Inputs(shape, dtype, mode, self.device)
            entry.update(input_pairs=len(inputs.pairs), inputs_in_cache=inputs.in_cache)
            entry.update(self._agreement(library, shape, mode, inputs))
            first = timing.wall(lambda: inputs.rotate(call, 1), self.device)
            if library.name != OURS and first > self.plan.limit:
                first = timing.wall(lambda: inputs.rotate(call, 1), self.device)
                if first > self.plan.limit:
                    entry.update(status="skipped", reason=f"a call took {first:.1f} s", single_call_seconds=first)
                    return
            if self.device.type == "cuda":
                peak = memory.cuda_peak(call, inputs, self.device)
                self._add_memory(library, shape, dtype, mode, peak)
            took = timing.measure(call, inputs, self.device, self.plan)
            entry.update(
                seconds=took.median, fastest=took.fastest, slowest=took.slowest, calls=took.calls, loops=took.loops
            )
            if library.capturable and self.device.type == "cuda":
                entry["graph_seconds"] = timing.measure_graph(call, inputs, self.device, self.plan).median
            best = min(took.median, entry.get("graph_seconds", took.median))
            of_bytes, of_fmas = self.ceilings.shares(shape, dtype, mode, best)
            entry.update(
                ns_per_element=took.median * 1e9 / elements(shape),
                least_bytes=least_bytes(shape, dtype, mode),
                least_fmas=least_fmas(shape, mode),
                share_of_copy_bandwidth=of_bytes,
                share_of_fma_rate=of_fmas,
            )
        except torch.OutOfMemoryError:
            entry.update(status="skipped", reason="out of memory")
        except Exception as error:
            if library.name == OURS:
                raise
            entry.update(status="failed", reason=(str(error).splitlines() or [type(error).__name__])[0])
        finally:
            inputs = None  # type: ignore[assignment]
            self._free()

    def growth(self, shapes: list[Shape], mode: str) -> Result | None:
        """Time per element of this package at 1, 2, 4 and 8 times the size; None if one does not fit into memory."""
        costs = []
        for shape in shapes:
            self.progress(f"growth: {readable(shape)}, {mode}")
            call = ours(mode, spatial_dims(shape))
            try:
                inputs = timing.Inputs(shape, "float32", mode, self.device)
                costs.append(timing.measure(call, inputs, self.device, self.plan).median * 1e9 / elements(shape))
            except torch.OutOfMemoryError:
                return None
            finally:
                inputs = None  # type: ignore[assignment]
                self._free()
        return {
            "mode": mode,
            "shapes": [list(shape) for shape in shapes],
            "ns_per_element": costs,
            "largest_deviation": max(abs(cost / costs[0] - 1) for cost in costs),
        }

    def cpu_memory(self, library: Library) -> None:
        """Peak memory on the CPU, in another process."""
        if self._over_budget(library):
            entries = memory.not_measured(self.plan.memory_shapes, self._budget_is_used())
        else:
            self.progress(f"{library.name}: memory")
            entries = memory.cpu_peaks(library.name, self.plan.memory_shapes)
        for entry in entries:
            shape = tuple(entry["shape"])
            if entry["bytes"] is not None:
                self._add_memory(library, shape, "float32", entry["mode"], entry["bytes"])
            else:
                self.memory.append({"library": library.name, "dtype": "float32", **entry, "images": None})

    def _agreement(self, library: Library, shape: Shape, mode: str, inputs: timing.Inputs) -> Result:
        """How far the package's value is from this one's on the first pair of images."""
        if mode != INFERENCE or library.name == OURS or library.padding == "reflect":
            return {}
        call = library.prepare(mode, spatial_dims(shape))
        assert call is not None
        x, y = inputs.pairs[0]
        ssim = fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim
        difference = abs(float(call(x, y)) - float(ssim(x, y, library.padding, False)))
        return {"difference": difference, "agrees": difference < AGREEMENT}

    def _add_memory(self, library: Library, shape: Shape, dtype: str, mode: str, peak: int) -> None:
        self.memory.append(
            {
                "library": library.name,
                "shape": list(shape),
                "dtype": dtype,
                "mode": mode,
                "bytes": peak,
                "images": peak / (elements(shape) * DTYPES[dtype].itemsize),
            }
        )

    def _reason_to_skip(self, library: Library, shape: Shape, dtype: str, mode: str) -> str:
        """Why a call is not worth trying, judged by the time of smaller ones."""
        if library.name == OURS:
            return ""
        if self._over_budget(library):
            return self._budget_is_used()

        def smaller(entries: list[Result]) -> list[Result]:
            return [
                entry
                for entry in entries
                if (entry["library"], entry["dtype"], entry["mode"]) == (library.name, dtype, mode)
                and len(entry["shape"]) == len(shape)
            ]

        earlier = smaller(self.results)[:-1]
        times = [(elements(tuple(e["shape"])), e.get("seconds", e.get("single_call_seconds"))) for e in earlier]
        known = [(size, seconds) for size, seconds in times if seconds is not None]
        if known:
            size, seconds = max(known)
            expected = seconds * elements(shape) / size
            if expected > self.plan.limit:
                return f"a call would take about {expected:.1f} s"
        elif earlier:
            return str(earlier[-1].get("reason", ""))
        used = [entry["images"] for entry in smaller(self.memory) if entry["images"]]
        if used and self.device.type == "cuda":
            expected = (used[-1] + 2) * elements(shape) * DTYPES[dtype].itemsize
            if expected > torch.cuda.mem_get_info(self.device)[0] * 0.95:
                return f"would need about {expected / 2**30:.0f} GiB"
        return ""

    def _over_budget(self, library: Library) -> bool:
        return library.name != OURS and time.perf_counter() - self.begin > self.plan.budget

    def _budget_is_used(self) -> str:
        return f"the run had used its {self.plan.budget:.0f} s"

    def _free(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
