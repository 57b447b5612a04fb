"""`fused-ssim demo`: recovers a photograph and an MR volume from noise, by gradient ascent on SSIM."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch

import fused_ssim
from fused_ssim.cli.common import Failure, describe_device, device_option, extra, pick_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.progress import TaskID

STEPS = 100
LEARNING_RATE = 0.06


@dataclass(frozen=True)
class Recovery:
    """What one ascent began with, and what it came to. The tensors are on the CPU, without the batch axis."""

    name: str
    target: torch.Tensor
    start: torch.Tensor
    result: torch.Tensor
    ssim_map: torch.Tensor
    scores: list[float]  # before each step, and after the last
    seconds: float


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


def load_photograph() -> torch.Tensor:
    """A photograph of the cat Chelsea by Stefan van der Walt (CC0), from scikit-image: (3, 300, 451), 0 to 1."""
    with extra("demo"):
        from skimage import data
    chelsea: Callable[[], Any] = data.chelsea
    return torch.from_numpy(chelsea()).permute(2, 0, 1).float().contiguous() / 255


def load_volume() -> tuple[torch.Tensor, tuple[float, ...]]:
    """A brain by MR imaging, and the size of its voxels in mm. Part of nibabel.

    Cropped to its bounds: (1, 73, 92, 24), axes x, y, z, from 0 to 1.
    """
    with extra("demo"):
        import nibabel as nib
        import numpy as np
    path = Path(nib.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    if not path.exists():
        raise Failure(f"this installation of nibabel lacks its example {path}: pip install --force-reinstall nibabel")
    image: Any = nib.load(path)
    voxels = np.asarray(image.dataobj[..., 0], dtype=np.float32)
    margin = 2
    inside = np.argwhere(voxels > 0)
    box = tuple(
        slice(max(int(low) - margin, 0), int(high) + 1 + margin)
        for low, high in zip(inside.min(axis=0), inside.max(axis=0), strict=True)
    )
    white = np.percentile(voxels[box], 99.9)
    spacing = tuple(float(zoom) for zoom in image.header.get_zooms()[:3])
    return torch.from_numpy(np.clip(voxels[box] / white, 0, 1))[None], spacing


def ascend(
    target: torch.Tensor, steps: int, report: Callable[[int, float], None]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[float]]:
    """Noise, what it becomes on the way up the SSIM with `target` (1, C, ...), the SSIM map of that, and the scores."""
    ssim = fused_ssim.fused_ssim3d if target.ndim == 5 else fused_ssim.fused_ssim2d
    # Drawn on the CPU, so that every device starts from the same noise.
    start = torch.rand(target.shape, generator=torch.Generator().manual_seed(0)).to(target)
    picture = start.clone()
    optimizer = torch.optim.Adam([picture], lr=LEARNING_RATE, maximize=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    scores = []
    for step in range(steps):
        score, picture.grad = fused_ssim.value_and_grad(picture, target)
        optimizer.step()
        schedule.step()
        picture.clamp_(0, 1)
        scores.append(score.item())
        report(step, scores[-1])
    ssim_map = ssim(picture, target, train=False, reduction="none")
    scores.append(ssim_map.mean().item())
    report(steps, scores[-1])
    return start, picture, ssim_map, scores


def recover_all(targets: dict[str, torch.Tensor], steps: int, device: torch.device, console: Console) -> list[Recovery]:
    """Runs the ascents, with a progress bar each."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

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
