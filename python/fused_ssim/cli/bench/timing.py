# SPDX-License-Identifier: MIT
"""Clocks: CUDA events, CUDA graphs, wall time; and the two ceilings of the device."""

from __future__ import annotations

import math
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import fused_ssim
from fused_ssim.cli.bench.cases import DTYPES, TRAIN, Ceilings, Plan, Shape
from fused_ssim.cli.bench.libraries import Call, with_gradient

MOST_INPUTS = 128
CACHES = 3  # inputs that rotate fill so many times the L2 cache


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median over loops, and the fastest and slowest loop."""

    median: float
    fastest: float
    slowest: float
    calls: int  # in a loop
    loops: int


@dataclass(frozen=True)
class Run:
    """Something to be timed: `start(times)` makes so many calls, a multiple of `multiple`."""

    start: Callable[[int], object]
    multiple: int = 1


Arrange = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Pairs:
    """Pairs of images that calls take in turn."""

    def __init__(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        self.pairs = pairs
        self._next = 0

    def rotate(self, call: Call, times: int) -> None:
        """Calls `times` times, each with the next pair."""
        pairs, index = self.pairs, self._next
        count = len(pairs)
        for _ in range(times):
            call(*pairs[index])
            index = (index + 1) % count
        self._next = index


class Inputs(Pairs):
    """Pairs of images in [0, 1], a clean one and a noisy one: enough pairs that no call finds its images in the L2.

    `arrange` gives a pair another layout in memory, or another dtype.
    """

    def __init__(
        self, shape: Shape, dtype: str, mode: str, device: torch.device, arrange: Arrange | None = None
    ) -> None:
        super().__init__([])
        generator = torch.Generator(device).manual_seed(1)
        count = wanted = 1
        while len(self.pairs) < count:
            y = torch.rand(shape, generator=generator, device=device)
            x = torch.randn(shape, generator=generator, device=device).mul_(0.1).add_(y).clamp_(0, 1)
            x, y = x.to(DTYPES[dtype]), y.to(DTYPES[dtype])
            if arrange is not None:
                x, y = arrange(x, y)
            if device.type == "cuda" and not self.pairs:
                wanted = max(math.ceil(CACHES * l2_bytes(device) / (x.nbytes + y.nbytes)), 1)
                count = min(wanted, MOST_INPUTS)
            self.pairs.append((x.requires_grad_(mode == TRAIN), y))
        self.in_cache = count < wanted


def l2_bytes(device: torch.device) -> int:
    return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 64 << 20))


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def wall(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, up to its end on the device."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def plain(call: Call, inputs: Pairs) -> Run:
    """Calls one after the other, each with the next pair of inputs."""
    return Run(lambda times: inputs.rotate(call, times))


@contextmanager
def captured(call: Call, inputs: Pairs, device: torch.device) -> Iterator[Run]:
    """Replays of a CUDA graph of calls, one for each pair of inputs."""
    new_stream: Any = torch.cuda.Stream  # has no type hints
    stream = new_stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        inputs.rotate(call, 3)
    torch.cuda.current_stream(device).wait_stream(stream)
    synchronize(device)
    graph = torch.cuda.CUDAGraph()
    # Four calls at least, so that the launch of the graph itself does not count.
    calls = max(len(inputs.pairs), 4)
    with torch.cuda.graph(graph, stream=stream):
        inputs.rotate(call, calls)
    try:
        yield Run(lambda times: _repeat(graph.replay, times // calls), calls)
    finally:
        synchronize(device)
        graph.reset()


def measure(call: Call, inputs: Inputs, device: torch.device, plan: Plan) -> Timing:
    """Time of one call in a loop of calls: by CUDA events on CUDA, by the wall clock on the CPU."""
    return _loops(plain(call, inputs), device, plan)


def measure_graph(call: Call, inputs: Inputs, device: torch.device, plan: Plan) -> Timing:
    """Time of one call when a CUDA graph of calls, one for each pair of inputs, is replayed."""
    with captured(call, inputs, device) as run:
        return _loops(run, device, plan)


def in_turns(runs: Sequence[Run], device: torch.device, plan: Plan) -> list[list[float]]:
    """Seconds of one call of each, loop by loop. A round is a loop of each: what else the machine does falls on all."""
    calls = [_calls_in_loop(run, device, plan) for run in runs]
    return [list(times) for times in zip(*_rounds(runs, calls, device, plan), strict=True)]


def _repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def _loops(run: Run, device: torch.device, plan: Plan) -> Timing:
    calls = _calls_in_loop(run, device, plan)
    times = [seconds for (seconds,) in _rounds([run], [calls], device, plan)]
    return Timing(statistics.median(times), min(times), max(times), calls, len(times))


def _calls_in_loop(run: Run, device: torch.device, plan: Plan) -> int:
    """How many calls take as long as a loop should."""
    start, multiple = run.start, run.multiple
    once = wall(lambda: start(multiple), device) / multiple  # first call: compiles, loads, allocates
    if once < plan.loop_seconds:
        wall(lambda: start(multiple), device)
        once = wall(lambda: start(multiple), device) / multiple
    # For short calls the wall time of a single one is mostly waiting, so look at a loop.
    if once < plan.loop_seconds / 4:
        probe = max(round(plan.loop_seconds / 4 / once / multiple), 1) * multiple
        once = wall(lambda: start(probe), device) / probe
    return max(round(plan.loop_seconds / once / multiple), 1) * multiple


def _rounds(runs: Sequence[Run], calls: Sequence[int], device: torch.device, plan: Plan) -> Iterator[tuple[float, ...]]:
    """Seconds of one call of each, round by round."""
    for run, count in zip(runs, calls, strict=True):
        _loop(run.start, count, device)  # once more for warm-up: clocks and caches
    begin = time.perf_counter()
    done = 0
    while done < plan.repeats and (done < 3 or time.perf_counter() - begin < plan.case_seconds):
        yield tuple(_loop(run.start, count, device) / count for run, count in zip(runs, calls, strict=True))
        done += 1


def _loop(run: Callable[[int], object], calls: int, device: torch.device) -> float:
    if device.type != "cuda":
        return wall(lambda: run(calls), device)
    event: Any = torch.cuda.Event  # has no type hints
    start, end = event(enable_timing=True), event(enable_timing=True)
    torch.cuda.synchronize(device)
    start.record()
    run(calls)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3


# ---- Ceilings --------------------------------------------------------------------------------------------------------


def ceilings(device: torch.device, plan: Plan) -> Ceilings:
    """Measures a copy; the multiply-adds are the data sheet's on CUDA, a matrix product's on the CPU."""
    size = 64 << 20
    if device.type == "cuda":
        size = min(2 << 30, torch.cuda.mem_get_info(device)[0] // 8)
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    copies = _loops(Run(lambda times: _repeat(lambda: target.copy_(source), times)), device, plan)
    bandwidth = 2 * target.nbytes / copies.median
    bytes_source = f"measured: a copy of {size / 2**20:.0f} MiB, bytes read plus bytes written"
    if device.type == "cuda":
        return Ceilings(bandwidth, bytes_source, *_cuda_fmas(device))
    a = torch.rand(1024, 1024)
    products = _loops(Run(lambda times: _repeat(lambda: a @ a, times)), device, plan)
    return Ceilings(
        bandwidth, bytes_source, 1024**3 / products.median, "measured: a float32 matrix product, 1024 x 1024 x 1024"
    )


def _cuda_fmas(device: torch.device) -> tuple[float | None, str]:
    clock = query_gpu(device, "clocks.max.sm")
    properties = torch.cuda.get_device_properties(device)
    # Float32 multiply-adds an SM and clock cycle: table "Throughput of Native Arithmetic Instructions" of the CUDA C++
    # programming guide.
    lanes = 64 if (properties.major, properties.minor) in ((7, 0), (7, 2), (7, 5), (8, 0)) else 128
    try:
        hertz = float(clock) * 1e6
    except ValueError:
        return None, "unknown: nvidia-smi names no clock"
    count = properties.multi_processor_count
    return count * lanes * hertz, f"computed: {count} SMs x {lanes} float32 FMA x {hertz / 1e9:.3f} GHz (highest clock)"


def query_gpu(device: torch.device, field: str) -> str:
    """What nvidia-smi says of the device; empty if it says nothing."""
    try:
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        command = ["nvidia-smi", f"--query-gpu=uuid,{field}", "--format=csv,noheader,nounits"]
        output = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError, AttributeError):
        return ""
    rows = [[cell.strip() for cell in line.split(",", 1)] for line in output.splitlines() if "," in line]
    same = [value for name, value in rows if uuid in name]
    return same[0] if same else rows[0][1] if len(rows) == 1 else ""


# ---- Python overhead -------------------------------------------------------------------------------------------------


class NoOp(torch.autograd.Function):
    """The least that a differentiable operation with two saved tensors can do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return x.new_empty(())

    @staticmethod
    def backward(ctx: Any, *_grad_outputs: Tensor) -> tuple[Tensor, None]:
        x, _y = ctx.saved_tensors
        return torch.empty_like(x), None


def overhead(device: torch.device, plan: Plan, shape: Shape = (1, 3, 64, 64)) -> dict[str, Any]:
    """Wall time to enqueue one forward and backward, against an operation that does nothing; interleaved medians."""
    noop: Callable[..., Tensor] = NoOp.apply
    calls = {"fused-ssim": with_gradient(fused_ssim.fused_ssim), "noop": with_gradient(noop)}
    inputs = Inputs(shape, "float32", TRAIN, device)
    times: dict[str, list[float]] = {name: [] for name in calls}
    count, rounds = (200, 41) if plan.repeats > 5 else (20, 11)
    for index in range(rounds + 3):
        for name, call in calls.items():
            synchronize(device)
            start = time.perf_counter()
            inputs.rotate(call, count)
            # No waiting for the device: this measures how long Python is busy.
            if index >= 3:
                times[name].append((time.perf_counter() - start) / count)
    synchronize(device)
    ours, floor = statistics.median(times["fused-ssim"]), statistics.median(times["noop"])
    return {
        "shape": list(shape),
        "fused_ssim_seconds": ours,
        "noop_seconds": floor,
        "ratio": ours / floor,
        "rounds": rounds,
        "computation_included": device.type == "cpu",
    }
