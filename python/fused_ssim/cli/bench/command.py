# SPDX-License-Identifier: MIT
"""`fused-ssim bench`: time and memory, next to the other packages that are installed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fused_ssim._base import codes
from fused_ssim.cli.common import Failure, check_writable, device_option

if TYPE_CHECKING:
    from fused_ssim.cli.bench.tables import Table

WIDTH = 150  # of tables that go to a file or a pipe


def _shape(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[int, ...]]:
    shapes = []
    for value in values:
        sizes = value.lower().split("x")
        if len(sizes) not in (4, 5) or not all(size.isdecimal() and int(size) > 0 for size in sizes):
            raise click.BadParameter(f"'{value}' is not a shape such as 1x3x1080x1920 or 1x1x96x96x96.")
        shape = tuple(map(int, sizes))
        if min(shape[2:]) < 11:
            raise click.BadParameter(f"'{value}' has a side shorter than 11, the window; other packages refuse it.")
        shapes.append(shape)
    return shapes


@click.command("bench", short_help="Measure time and memory, next to other packages.")
@device_option
@click.option("--quick", is_flag=True, help="Small shapes and few repeats: does it run, not how fast.")
@click.option(
    "--survey", is_flag=True, help="What other arguments, layouts and shapes cost, as ratios to the usual call."
)
@click.option("--shape", "shapes", multiple=True, callback=_shape, metavar="NxCxHxW", help="Measure this; repeatable.")
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=click.Choice(list(codes.DTYPES)),
    default=["float32"],
    show_default=True,
    help="Repeatable.",
)
@click.option(
    "--library", "names", multiple=True, metavar="NAME", help="Only this package beside fused-ssim; repeatable."
)
@click.option(
    "--original",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder with the original fused-ssim, which has the same import name: made by "
    "`pip install --no-deps --target DIR git+https://github.com/rahul-goel/fused-ssim`.",
)
@click.option("--limit", type=click.FloatRange(min=0), metavar="SECONDS", help="Skip calls that take longer.")
@click.option("--budget", type=click.FloatRange(min=0), metavar="SECONDS", help="Then skip other packages.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write JSON."
)
@click.option("--plots", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Draw plots there.")
@click.option("--commit", help="The commit to note, where git cannot say it.")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Measure nothing: show the JSON of an earlier run.",
)
def bench_command(
    device: str,
    quick: bool,
    survey: bool,
    shapes: list[tuple[int, ...]],
    dtypes: tuple[str, ...],
    names: tuple[str, ...],
    original: Path | None,
    limit: float | None,
    budget: float | None,
    json_path: Path | None,
    plots: Path | None,
    commit: str | None,
    source: Path | None,
) -> None:
    """Time and memory of SSIM, next to the other packages that are installed.

    pytorch-msssim, torchmetrics, MONAI, fussim, frame-analytics and scikit-image are measured in the same process if
    they can be imported; the original fused-ssim with --original. Each call is timed with its gradient
    (torch.autograd.grad) and without: by CUDA events over loops of calls and by the replay of a CUDA graph, or by the
    wall clock on the CPU. Medians; the images rotate, so that none are in the L2 cache.

    --survey measures this package alone: strides, dtypes, windows, paddings, masks, losses and shapes next to the usual
    call, and says which of them stand out. --shape gives it another usual shape of images, or of volumes.

    \b
    Examples:
      fused-ssim bench --quick
      fused-ssim bench --json result.json --plots plots
      fused-ssim bench --shape 1x3x2160x3840 --dtype float16 --library pytorch-msssim
      fused-ssim bench --survey --json survey.json --plots plots
    """
    if plots is not None:
        import fused_ssim.cli.bench.figures  # noqa: F401  # says what is missing before anything is measured
    if json_path is not None:
        try:
            json_path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failure(f"{json_path}: cannot be written: {error.strerror or error}") from error
        check_writable(json_path)
    if source is not None:
        report = _earlier(source)
    elif survey:
        if names or original is not None or limit is not None or budget is not None or dtypes != ("float32",):
            raise click.UsageError(
                "--survey measures this package alone; only --device, --quick and --shape choose what"
            )
        report = _survey(device, quick, shapes, commit)
    else:
        report = _measure(device, quick, shapes, dtypes, names, original, limit, budget, commit)
    if json_path is not None:
        json_path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if plots is not None:
        for path in _draw(report, plots):
            click.echo(f"drawn: {path}", err=True)
    _show(report)


def _earlier(source: Path) -> dict[str, Any]:
    """The report of an earlier run."""
    try:
        report = json.loads(source.read_text(encoding="utf-8"))
        if not isinstance(report, dict) or not {"schema", "environment", "results"} <= report.keys():
            raise ValueError("its fields are others")
    except (OSError, ValueError) as error:
        raise Failure(f"{source}: is no report of fused-ssim bench --json: {error}") from error
    return report


def _measure(
    device: str,
    quick: bool,
    shapes: list[tuple[int, ...]],
    dtypes: tuple[str, ...],
    names: tuple[str, ...],
    original: Path | None,
    limit: float | None,
    budget: float | None,
    commit: str | None,
) -> dict[str, Any]:
    import torch

    from fused_ssim.cli.bench.cases import default_plan
    from fused_ssim.cli.bench.libraries import KNOWN, find
    from fused_ssim.cli.bench.run import run
    from fused_ssim.cli.devices import describe_device, pick_device

    where = pick_device(device)
    plan = dataclasses.replace(default_plan(where, quick), dtypes=list(dtypes))
    if shapes:
        plan = dataclasses.replace(plan, shapes=shapes, growth=[], memory_shapes=shapes)
    if limit is not None:
        plan = dataclasses.replace(plan, limit=limit)
    if budget is not None:
        plan = dataclasses.replace(plan, budget=budget)
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        raise Failure(f"no package '{unknown[0]}'; known are {', '.join(KNOWN)}")
    libraries, missing = find(original, names or KNOWN)
    click.echo(f"measuring on {describe_device(where)}", err=True)
    try:
        return run(
            where, libraries, missing, plan, commit=commit, progress=lambda text: click.echo(f"  {text}", err=True)
        )
    except torch.OutOfMemoryError as error:
        raise Failure(f"out of memory: {str(error).splitlines()[0]}") from error


def _survey(device: str, quick: bool, shapes: list[tuple[int, ...]], commit: str | None) -> dict[str, Any]:
    from fused_ssim.cli.bench.survey import run
    from fused_ssim.cli.bench.survey_rows import survey_plan
    from fused_ssim.cli.devices import describe_device, pick_device

    if len({len(shape) for shape in shapes}) < len(shapes):
        raise click.UsageError("--survey takes one --shape of images and one of volumes")
    where = pick_device(device)
    plan = survey_plan(where, quick)
    if shapes:
        plan = dataclasses.replace(plan, shapes=shapes, memory_shapes=shapes)
    click.echo(f"measuring on {describe_device(where)}", err=True)
    report = run(where, plan, commit=commit, progress=lambda text: click.echo(f"  {text}", err=True))
    if not any("ratio" in entry for entry in report["results"]):
        raise Failure(f"nothing could be measured: {'; '.join(report['failures'])}")
    return report


def _draw(report: dict[str, Any], folder: Path) -> list[Path]:
    if report.get("kind") == "survey":
        from fused_ssim.cli.bench.survey_figure import draw_survey

        return [draw_survey(report, folder / "survey.png")]
    from fused_ssim.cli.bench.figures import draw_all

    return draw_all(report, folder)


def _show(report: dict[str, Any]) -> None:
    is_survey = report.get("kind") == "survey"
    if is_survey:
        from fused_ssim.cli.bench.survey_tables import everything
    else:
        from fused_ssim.cli.bench.tables import everything

    before, tables, after = everything(report)
    # What one looks for comes last: of a comparison the tables, of a survey what stands out.
    first, last = (before, ["", *after]) if is_survey else ([*before, *(f"note: {line}" for line in after)], [])
    for line in first:
        click.echo(line)
    for table in tables:
        click.echo()
        show_table(table)
    for line in last:
        click.echo(line)


def show_table(table: Table) -> None:
    """With rich if there is one, and as plain columns otherwise."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
    except ModuleNotFoundError:
        rows = [table.columns, *table.rows]
        widths = [max(len(row[index]) for row in rows) for index in range(len(table.columns))]
        click.echo(table.title)
        for row in rows:
            cells = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
            click.echo("  ".join([f"{row[0]:<{widths[0]}}", *cells]).rstrip())
        return
    drawn = RichTable(title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(table.columns):
        drawn.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(drawn)
