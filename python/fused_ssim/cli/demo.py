# SPDX-License-Identifier: MIT
"""`fused-ssim demo`: recovers a photograph and a volume from noise, fits a portrait under a mask, and reports on it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fused_ssim.cli.common import check_writable, device_option, extra, make_folder

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.progress import TaskID

    from fused_ssim.cli.recovery import MaskedFit, Recovery

STEPS = 100
PICTURES = ("photograph.png", "volume.png", "curve.png", "masked.png")
FOLDERS = ("targets", "results", "report")


@click.command("demo", short_help="Recover pictures by the gradient of SSIM.")
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
    uniform noise and follows the gradient of the SSIM with the target. Then a portrait is fitted to a photograph of it
    that a sticker covers in part, without a mask and with both kinds.

    Prints the scores and writes four pictures, the files themselves (targets/ and results/), and report/index.html, the
    page that `fused-ssim compare targets results --report report` makes of them.

    \b
    Examples:
      fused-ssim demo
      fused-ssim demo --out /tmp/demo --device cuda
    """
    with extra("demo"):
        from rich.console import Console

        from fused_ssim.cli.plots import save_curves, save_masked_fit, save_recovery
    from fused_ssim.cli.devices import describe_device, pick_device
    from fused_ssim.cli.recovery import load_photograph, load_portrait, load_volume

    console = Console()
    where = pick_device(device)
    files = [out / name for name in PICTURES]
    for folder in (out, *(out / name for name in FOLDERS)):
        make_folder(folder)
    for file in (*files, *(out / name / "photograph.png" for name in FOLDERS)):
        check_writable(file)
    volume, spacing = load_volume()
    targets = {"photograph": load_photograph(), "MR volume": volume}

    console.print(
        f"Recovering {len(targets)} pictures from noise by gradient ascent on SSIM, on {describe_device(where)}",
        highlight=False,
    )
    recoveries = recover_all(targets, steps, where, console)
    fit = fit_under_mask(load_portrait(), steps, where, console)
    print_table(recoveries, where, console)
    errors = ", ".join(f"{name} {error:.4f}" for name, error in fit.rims.items())
    console.print(f"Mean error at the sticker of the portrait: {errors}", highlight=False)

    save_recovery(files[0], recoveries[0])
    save_recovery(files[1], recoveries[1], spacing)
    save_curves(files[2], recoveries)
    save_masked_fit(files[3], fit)
    files.append(report_on(out, recoveries, fit, spacing, where))
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


def fit_under_mask(scene: torch.Tensor, steps: int, device: torch.device, console: Console) -> MaskedFit:
    """Runs the fits of the portrait, with a progress bar."""
    from rich.progress import track

    from fused_ssim.cli.recovery import fit_masked

    ticks = iter(track(range(3 * steps), "portrait  ", console=console))
    next(ticks)
    return fit_masked(scene, steps, device, lambda _: next(ticks, None))


def report_on(
    out: Path, recoveries: list[Recovery], fit: MaskedFit, spacing: tuple[float, ...], device: torch.device
) -> Path:
    """Writes targets and results as files, compares them as the command does, and makes the page of it."""
    import nibabel as nib
    import numpy as np
    from PIL import Image

    from fused_ssim.cli.report import write_report
    from fused_ssim.cli.results import Settings, versions
    from fused_ssim.cli.scoring import score_files

    photograph, volume = recoveries
    pictures = {"photograph.png": (photograph.target, photograph.result)}
    for name, result in fit.results.items():
        pictures[f"portrait, {name}.png"] = (fit.scene, result)
    for name, pair in pictures.items():
        for side, picture in zip(("targets", "results"), pair, strict=True):
            pixels = (255 * picture).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(out / side / name)
    nifti: Any = nib.Nifti1Image
    for side, voxels in (("targets", volume.target), ("results", volume.result)):
        nib.save(nifti(voxels[0].numpy(), np.diag([*spacing, 1.0])), out / side / "MR volume.nii.gz")

    settings = Settings(device=str(device), versions=versions())
    names = [*pictures, "MR volume.nii.gz"]
    results = [score_files(name, out / "targets" / name, out / "results" / name, settings) for name in names]
    return write_report(out / "report", results, settings, "fused-ssim demo: targets and results")


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
