# SPDX-License-Identifier: MIT
"""`fused-ssim demo`: recovers a photograph and an MR volume from noise, by gradient ascent on SSIM."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fused_ssim.cli.common import Failure, device_option, extra

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.progress import TaskID

    from fused_ssim.cli.recovery import Recovery

STEPS = 100


@click.command("demo", short_help="Recover a photograph and an MR volume from noise.")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("fused-ssim-demo"),
    show_default=True,
    help="Folder for the pictures.",
)
@device_option
@click.option("--steps", type=click.IntRange(min=1), default=STEPS, hidden=True)
def demo_command(out: Path, device: str, steps: int) -> None:
    """Recover a photograph and an MR volume from noise, by gradient ascent on SSIM.

    The photograph comes with scikit-image, the volume with nibabel: nothing is downloaded. Each pixel starts as
    uniform noise and follows the gradient of the SSIM with the target. Prints the scores and writes three pictures.

    \b
    Examples:
      fused-ssim demo
      fused-ssim demo --out /tmp/demo --device cuda
    """
    with extra("demo"):
        from rich.console import Console

        from fused_ssim.cli.plots import save_curves, save_recovery
    from fused_ssim.cli.devices import describe_device, pick_device
    from fused_ssim.cli.recovery import load_photograph, load_volume

    console = Console()
    where = pick_device(device)
    volume, spacing = load_volume()
    targets = {"photograph": load_photograph(), "MR volume": volume}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{out}: cannot be made: {error.strerror or error}") from error

    console.print(
        f"Recovering {len(targets)} pictures from noise by gradient ascent on SSIM, on {describe_device(where)}",
        highlight=False,
    )
    recoveries = recover_all(targets, steps, where, console)
    print_table(recoveries, where, console)

    files = [out / "photograph.png", out / "volume.png", out / "curve.png"]
    save_recovery(files[0], recoveries[0])
    save_recovery(files[1], recoveries[1], spacing)
    save_curves(files[2], recoveries)
    for file in files:
        console.print(f"wrote {file}", highlight=False, soft_wrap=True)


def recover_all(targets: dict[str, torch.Tensor], steps: int, device: torch.device, console: Console) -> list[Recovery]:
    """Runs the ascents, with a progress bar each."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from fused_ssim.cli.recovery import Recovery, ascend

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("SSIM {task.fields[score]:.5f}"),
        TimeElapsedColumn(),
    )
    recoveries = []
    with Progress(*columns, console=console) as progress:
        tasks = {name: progress.add_task(name, total=steps, start=False, score=math.nan) for name in targets}
        for name, target in targets.items():
            task = tasks[name]
            progress.start_task(task)

            def report(step: int, score: float, task: TaskID = task) -> None:
                progress.update(task, completed=step, score=score)

            batch = target[None].to(device)
            begin = time.perf_counter()
            start, result, ssim_map, scores = ascend(batch, steps, report)
            seconds = time.perf_counter() - begin
            recoveries.append(
                Recovery(name, target, start[0].cpu(), result[0].cpu(), ssim_map[0].cpu(), scores, seconds)
            )
    return recoveries


def print_table(recoveries: list[Recovery], device: torch.device, console: Console) -> None:
    """Start and final score, steps, time and device of each recovery."""
    from rich.table import Table

    table = Table(title="Recovery from noise", title_justify="left")
    for heading in ("target", "size"):
        table.add_column(heading, no_wrap=True)
    for heading in ("start SSIM", "final SSIM", "steps", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("device", no_wrap=True)
    for recovery in recoveries:
        table.add_row(
            recovery.name,
            "x".join(str(side) for side in recovery.target.shape),
            f"{recovery.scores[0]:.5f}",
            f"{recovery.scores[-1]:.5f}",
            str(len(recovery.scores) - 1),
            f"{recovery.seconds:.1f}",
            str(device),
        )
    console.print(table)
