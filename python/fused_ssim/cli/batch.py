# SPDX-License-Identifier: MIT
"""Many pairs: read and scored in several threads, told in their order, with a progress bar.

Threads and not processes: the readers and the metric let go of Python's lock while they work, so two threads keep two
cores busy, and nothing has to be sent between processes (benchmarks/folders.py measures both). Each thread reads its
pair and scores it, in one go. No more pairs are on their way than there are threads, times a small number, so the
memory does not depend on how many pairs there are.
"""

from __future__ import annotations

import math
import os
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import torch

from fused_ssim.cli import pairs, summary
from fused_ssim.cli.common import STOPPED, Failure, extra, keep_inputs
from fused_ssim.cli.files import ENDINGS
from fused_ssim.cli.films import Films
from fused_ssim.cli.journal import CsvWriter, Journal, json_line
from fused_ssim.cli.results import PairResult
from fused_ssim.cli.scoring import Mask, mask_of, score_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fused_ssim.cli.results import Settings

Result = TypeVar("Result")

AHEAD = 2  # pairs on their way for each thread


def default_workers() -> int:
    """As many as there are processors for this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(tasks: Iterable[Callable[[], Result]], workers: int) -> Iterator[Result]:
    """The results of tasks, in their order, computed by `workers` threads; tasks are taken as they are needed."""
    with ThreadPoolExecutor(workers, thread_name_prefix="compare") as pool:
        submitted: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                submitted.append(pool.submit(task))
                if len(submitted) >= AHEAD * workers:
                    yield submitted.popleft().result()
            while submitted:
                yield submitted.popleft().result()
        finally:  # also after Ctrl-C: what has not begun does not begin
            for future in submitted:
                future.cancel()


@contextmanager
def one_thread_each(workers: int, device: str) -> Iterator[None]:
    """With several workers on the CPU, each computes in its own thread only."""
    before = torch.get_num_threads()
    if workers > 1 and device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class RunningMean:
    """The mean of what came so far."""

    def __init__(self) -> None:
        self.count, self.total, self.errors = 0, 0.0, 0

    def add(self, result: PairResult) -> None:
        """Counts one more."""
        if result.ssim is None:
            self.errors += 1
        else:
            self.count += 1
            self.total += result.ssim

    def __str__(self) -> str:
        mean = self.total / self.count if self.count else math.nan
        failed = f", {self.errors} failed" if self.errors else ""
        return f"mean SSIM {mean:.4f}{failed}" if self.count else failed.lstrip(", ")


@contextmanager
def progress(total: int | None, what: str, shown: bool) -> Iterator[Callable[[PairResult], None]]:
    """A bar on stderr with the running mean; call what it gives for every result. Nothing where no terminal is.

    rich draws it: it is here for the tables already, and lets both be written without disturbing each other.
    """
    mean = RunningMean()
    if not shown:
        yield mean.add
        return
    with extra("cli"):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[mean]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, mean="")

        def add(result: PairResult) -> None:
            mean.add(result)
            bar.update(task, advance=1, mean=str(mean))

        yield add


@dataclass(frozen=True)
class Output:
    """Where the results of a run go."""

    as_json: bool
    csv_path: Path | None
    plot_path: Path | None
    resume_path: Path | None
    worst: int


def run_files(
    a: Path, b: Path | None, settings: Settings, output: Output, workers: int
) -> tuple[list[PairResult], int]:
    """Compares all pairs of two folders, two patterns or a CSV file; gives the results and an exit status."""
    found = pairs.pairs_of_csv(a) if b is None else pairs.pairs_of_folders(str(a), str(b), ENDINGS)
    outputs = [path for path in (output.csv_path, output.plot_path, output.resume_path) if path is not None]
    keep_inputs(outputs, (Path(path) for pair in found.pairs for path in (pair.first, pair.second)))
    if not found.pairs:
        for note in found.notes:
            click.echo(f"note: {note}", err=True)
        raise Failure(
            f"no pairs: {len(found.only_first)} files are only in the first, "
            f"{len(found.only_second)} only in the second"
        )
    mask = mask_of(settings)
    journal = None if output.resume_path is None else Journal(output.resume_path, settings)

    def compute(pair: pairs.FilePair) -> PairResult:
        known = None if journal is None else journal.result_of(pair)
        return known or _scored(pair, settings, mask)

    def keep(result: PairResult) -> None:
        if journal is not None:
            journal.add(by_name[result.name], result)

    by_name = {pair.name: pair for pair in found.pairs}
    tasks = (partial(compute, pair) for pair in found.pairs)
    try:
        results, stopped = _run(tasks, len(found.pairs), "pairs", settings, output, workers, keep)
    finally:
        if journal is not None:
            journal.close()
    if stopped:
        left = f"{len(results)} of {len(found.pairs)} pairs are done"
        way = "the same command goes on from there" if journal is not None else "with --resume FILE a run can go on"
        click.echo(f"stopped: {left}; {way}", err=True)
    _show(results, found, settings, output)
    failed = any(result.error is not None for result in results) or found.only_first or found.only_second
    return results, STOPPED if stopped else int(bool(failed))


def _scored(pair: pairs.FilePair, settings: Settings, mask: Mask | None) -> PairResult:
    """The result of a pair. Whatever goes wrong is that of this pair, and the run goes on."""
    try:
        return score_files(pair.name, Path(pair.first), Path(pair.second), settings, mask)
    except Exception as error:  # a fault of this program; its kind says more than its text
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return PairResult(pair.name, pair.first, pair.second, error=reason)


def run_films(
    a: Path, b: Path | None, settings: Settings, output: Output, workers: int
) -> tuple[list[PairResult], int]:
    """Compares two films; a result for each frame, and an exit status."""
    if b is None:
        raise click.UsageError("two films are needed")
    if output.resume_path is not None:
        raise click.UsageError("--resume is for files, and these are films")
    films = Films(a, b, settings, mask_of(settings))
    results, stopped = _run(films.tasks(), None, "frames", settings, output, workers, lambda _: None)
    if not results:
        raise Failure(films.problems[0] if films.problems else "stopped before the first frame")
    found = pairs.Pairs(notes=films.notes)
    _show(results, found, settings, output, unit="frames")
    for problem in films.problems:
        click.echo(f"Error: {problem}", err=True)
    failed = any(result.error is not None for result in results) or films.problems
    return results, STOPPED if stopped else int(bool(failed))


def _run(
    tasks: Iterator[Callable[[], PairResult]],
    total: int | None,
    unit: str,
    settings: Settings,
    output: Output,
    workers: int,
    keep: Callable[[PairResult], None],
) -> tuple[list[PairResult], bool]:
    """All results, and whether Ctrl-C ended it early. Results go out as they come."""
    results: list[PairResult] = []
    table = None if output.csv_path is None else CsvWriter(output.csv_path)
    stopped = False
    try:
        with one_thread_each(workers, settings.device), progress(total, unit, _has_bar(output)) as told:
            for result in in_order(tasks, workers):
                results.append(result)
                keep(result)
                told(result)
                if table is not None:
                    table.add(result)
                if output.as_json:
                    click.echo(json_line(result))
    except KeyboardInterrupt:
        stopped = True
    finally:
        if table is not None:
            table.close()
    return results, stopped


def _has_bar(output: Output) -> bool:
    """Whether a progress bar disturbs nothing: lines of JSON may go to the same terminal."""
    return not (output.as_json and sys.stdout.isatty())


def _show(
    results: list[PairResult], found: pairs.Pairs, settings: Settings, output: Output, unit: str = "pairs"
) -> None:
    line = f"padding {settings.padding}, window {settings.window_size}, sigma {settings.sigma:g}, {settings.device}"
    summary.show(results, found, line, output.worst, unit=unit, quiet=output.as_json)
    if output.plot_path is not None and any(result.ssim is not None for result in results):
        from fused_ssim.cli.plots import save_scores

        save_scores(output.plot_path, results)
        click.echo(f"plot written to {click.format_filename(output.plot_path)}", err=True)
