# SPDX-License-Identifier: MIT
"""What a run over many pairs says at its end: statistics, the worst pairs, what failed, what was decided."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from fused_ssim.cli.common import extra

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from fused_ssim.cli.pairs import Pairs
    from fused_ssim.cli.results import PairResult

PERCENTILES = (5, 25, 50, 75, 95)
LISTED = 20  # how many failures or missing files are named before "and 80 more"


@dataclass(frozen=True)
class Statistics:
    """Of one score over all pairs that have it, but for infinities: the PSNR of identical pairs."""

    mean: float
    least: float
    percentiles: tuple[float, ...]  # at PERCENTILES, linear between the ranks
    most: float


def statistics(values: Sequence[float]) -> Statistics | None:
    """The statistics of finite values; None if there are none."""
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return None
    return Statistics(
        mean=math.fsum(finite) / len(finite),
        least=finite[0],
        percentiles=tuple(_percentile(finite, percent) for percent in PERCENTILES),
        most=finite[-1],
    )


def _percentile(ordered: Sequence[float], percent: float) -> float:
    """numpy's default: linear between the two nearest ranks."""
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


SCORES = (("SSIM", "ssim", 6), ("PSNR (dB)", "psnr", 3), ("L1", "l1", 6), ("MS-SSIM", "ms_ssim", 6))


def of(results: Sequence[PairResult], name: str) -> list[float]:
    """A score of all results that have it."""
    return [value for result in results if (value := getattr(result, name)) is not None]


def show(
    results: Sequence[PairResult], found: Pairs, settings_line: str, worst: int, *, unit: str, quiet: bool
) -> None:
    """Prints the tables on stdout, failures and notes on stderr; with `quiet` stdout is left alone."""
    good = [result for result in results if result.error is None]
    click.echo(f"{len(good)} of {len(results)} {unit} compared; {settings_line}", err=quiet)
    if good and not quiet:
        _print(_statistics_table(good))
        if worst and len(good) > 1:
            _print(_worst_table(good, worst))
    failures = [f"{result.name}: {result.error}" for result in results if result.error is not None]
    _list("could not be compared", failures)
    _list("are only in the first", found.only_first)
    _list("are only in the second", found.only_second)
    for note in [*found.notes, *_identical_note(good), *grouped_notes(good)]:
        click.echo(f"note: {note}", err=True)


def grouped_notes(results: Sequence[PairResult]) -> list[str]:
    """Each kind of note once, with how often it was made, and the first of its kind."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for result in results:
        for note in result.notes:
            text = note
            for path in (result.first, result.second):
                text = text.replace(click.format_filename(path), "")
            kind = re.sub(r"[0-9][0-9.]*(e[+-]?[0-9]+)?", "0", text)
            counts[kind] += 1
            first.setdefault(kind, note if note != text else f"{click.format_filename(result.name)}: {note}")
    return [
        first[kind] + (f" (and {count - 1} more of the kind)" if count > 1 else "") for kind, count in counts.items()
    ]


def worst_of(results: Sequence[PairResult], count: int) -> list[PairResult]:
    """The pairs of the lowest SSIM, the worst first."""
    return sorted((result for result in results if result.ssim is not None), key=lambda result: result.ssim or 0.0)[
        :count
    ]


def _statistics_table(results: Sequence[PairResult]) -> Table:
    """A row for each statistic, a column for each score, so that it fits a terminal of 80 columns."""
    scores = [(title, statistics(of(results, name)), digits) for title, name, digits in SCORES if of(results, name)]
    table = _table("", *(title for title, _, _ in scores))
    rows = ["mean", "min", *(f"{percent} %" if percent != 50 else "median" for percent in PERCENTILES), "max"]
    for index, row in enumerate(rows):
        cells = []
        for _, found, digits in scores:
            numbers = () if found is None else (found.mean, found.least, *found.percentiles, found.most)
            cells.append(f"{numbers[index]:.{digits}f}" if numbers else "inf")
        table.add_row(row, *cells)
    return table


def _identical_note(results: Sequence[PairResult]) -> list[str]:
    identical = sum(result.psnr == math.inf for result in results)
    return [f"{identical} identical pairs have an infinite PSNR and do not count in its statistics"] * bool(identical)


def _worst_table(results: Sequence[PairResult], count: int) -> Table:
    names = [row for row in SCORES if of(results, row[1])]
    table = _table("worst", *(title for title, _, _ in names))
    for result in worst_of(results, count):
        cells = []
        for _, name, digits in names:
            value = getattr(result, name)
            cells.append("" if value is None else f"{value:.{digits}f}")
        table.add_row(click.format_filename(result.name), *cells)
    return table


def _table(first: str, *others: str) -> Table:
    with extra("cli"):
        from rich import box
        from rich.table import Table
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _print(table: Table) -> None:
    """On a terminal as wide as it is; in a file without line breaks and colours."""
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=200)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        if line.strip():
            click.echo(line.rstrip())


def _list(what: str, names: Sequence[str]) -> None:
    if not names:
        return
    click.echo(f"{len(names)} {what}:", err=True)
    for name in names[:LISTED]:
        click.echo(f"  {click.format_filename(name)}", err=True)
    if len(names) > LISTED:
        click.echo(f"  and {len(names) - LISTED} more", err=True)
