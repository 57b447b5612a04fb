#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What Python costs around the kernels: calls for tiny images beside operations that do nothing.

    python benchmarks/host.py                    # on the CPU, images of 11 x 11
    python benchmarks/host.py --device cuda --side 64

All calls take turns, so that what else the machine does falls on all of them. The lowest tenth of the loops is shown
beside the median: on a busy machine, it says more.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import click
import torch

import fused_ssim
from fused_ssim import array
from fused_ssim.cli.bench.cases import TRAIN, Plan
from fused_ssim.cli.bench.command import show_table
from fused_ssim.cli.bench.tables import Table
from fused_ssim.cli.bench.timing import Inputs, NoOp, Run, in_turns


def calls(side: int, device: torch.device) -> dict[str, Callable[[], Any]]:
    """By name: functions of one channel of so many rows and columns."""
    (x, y) = Inputs((1, 1, side, side), "float32", TRAIN, device).pairs[0]
    # Two levels of MS-SSIM want twice the window and more.
    larger, other = Inputs((1, 1, side + 13, side + 13), "float32", TRAIN, device).pairs[0]
    constant, weights, grad = x.detach(), (0.5, 0.5), torch.autograd.grad
    photometric, ssim_loss = fused_ssim.PhotometricLoss(), fused_ssim.SSIMLoss()
    ms_loss = fused_ssim.MSSSIMLoss(weights=weights)
    noop: Callable[..., torch.Tensor] = NoOp.apply
    found: dict[str, Callable[[], Any]] = {
        "nothing, forward": lambda: noop(x, y),
        "nothing, forward + backward": lambda: grad(noop(x, y), x),
        "fused_ssim, forward for backward": lambda: fused_ssim.fused_ssim(x, y),
        "fused_ssim, forward + backward": lambda: grad(fused_ssim.fused_ssim(x, y), x),
        "fused_ssim, value": lambda: fused_ssim.fused_ssim(constant, y),
        "value_and_grad": lambda: fused_ssim.value_and_grad(constant, y),
        "photometric_loss, forward + backward": lambda: grad(fused_ssim.photometric_loss(x, y), x),
        "PhotometricLoss, forward + backward": lambda: grad(photometric(x, y), x),
        "SSIMLoss, forward + backward": lambda: grad(ssim_loss(x, y), x),
        "ms_ssim, forward + backward": lambda: grad(
            fused_ssim.ms_ssim(larger, other, data_range=1.0, weights=weights), larger
        ),
        "MSSSIMLoss, forward + backward": lambda: grad(ms_loss(larger, other), larger),
    }
    if device.type == "cpu":
        first, second = constant.numpy(), y.numpy()
        found["array.value"] = lambda: array.value(first, second)
        found["array.value_and_grad"] = lambda: array.value_and_grad(first, second)
    return found


def repeated(call: Callable[[], Any]) -> Run:
    """Loops of a few calls: short enough that most are not disturbed, long enough that the caches know the call."""

    def start(times: int) -> None:
        for _ in range(times):
            call()

    return Run(start, multiple=20)


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--side", type=click.IntRange(min=11), default=11, show_default=True, help="Rows and columns.")
@click.option("--rounds", type=click.IntRange(min=3), default=400, show_default=True, help="Loops of each call.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of PyTorch.")
def main(device: str, side: int, rounds: int, threads: int) -> None:
    """What Python costs around the kernels."""
    torch.set_num_threads(threads)
    where = torch.device(device)
    named = calls(side, where)
    plan = Plan(shapes=[], loop_seconds=0.0, repeats=rounds, case_seconds=float("inf"))
    times = in_turns([repeated(call) for call in named.values()], where, plan)
    rows = []
    for name, seconds in zip(named, times, strict=True):
        lowest = statistics.quantiles(seconds, n=10)[0]
        rows.append([name, f"{lowest * 1e6:.2f}", f"{statistics.median(seconds) * 1e6:.2f}"])
    show_table(Table(f"us a call, 1x1x{side}x{side} float32, {device}", ["", "lowest tenth", "median"], rows))


if __name__ == "__main__":
    main()
