# SPDX-License-Identifier: MIT
"""The HTML report of a run: one page that holds everything, opens from disk and asks the network for nothing.

`write_report` reads each pair again, a few at a time, so memory does not grow with their number. The page has a budget:
the worst pairs get the most pixels, and beyond `SHOWN` pairs only their scores are on the page.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import fused_ssim
from fused_ssim.cli import summary
from fused_ssim.cli.batch import default_workers, in_order, one_thread_each
from fused_ssim.cli.common import Failure, extra
from fused_ssim.cli.files.picture import describe
from fused_ssim.cli.report.pictures import Level, Shown, colours, detail_levels, show, show_frames
from fused_ssim.cli.scoring import mask_of

with extra("cli"):
    import jinja2
    import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fused_ssim.cli.results import PairResult, Settings
    from fused_ssim.cli.scoring import Mask

PAGE = "index.html"
SHOWN = 1000
SHOWN_FRAMES = 100  # of a film
BINS = 40


@dataclass(frozen=True)
class Row:
    """A pair on the page."""

    number: int  # its place in the run
    result: PairResult
    shown: Shown | None  # None: there is an error, or there are too many pairs
    problem: str  # why its pictures cannot be shown

    @property
    def details(self) -> str:
        """What the viewer needs, as JSON that may stand in a script element."""
        parts = {} if self.shown is None else self.shown.details
        text = json.dumps(parts, allow_nan=False, ensure_ascii=True)
        return text.replace("<", "\\u003c").replace("&", "\\u0026")


def write_report(
    out: Path,
    results: Sequence[PairResult],
    settings: Settings,
    title: str = "fused-ssim",
    progress: Callable[[PairResult], None] | None = None,
) -> Path:
    """Writes out/index.html; the folder is made.

    Args:
        out: the folder.
        results: the pairs, in any order; the page has the worst first.
        settings: of the run.
        title: what was compared.
        progress: called with each pair that is done.

    Returns:
        The page.

    Raises:
        Failure: the page cannot be written.
    """
    ordered = sorted(enumerate(results), key=lambda item: (_rank(item[1].ssim), item[0]))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fused_ssim.cli.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, infinite=_infinite)
    environment.globals.update(describe=describe)
    scored = [result for _, result in ordered if result.ssim is not None]
    pieces = environment.get_template("page.html").generate(
        title=title,
        rows=_rows(ordered, settings, progress),
        failures=[(result.name, result.error) for result in results if result.error is not None],
        scored=len(scored),
        statistics=_statistics(scored),
        histogram=_histogram([result.ssim for result in scored if result.ssim is not None]),
        film=_film(results),
        has_ms_ssim=any(result.ms_ssim is not None for result in results),
        worst=scored[0] if scored else None,
        settings=_described(settings),
        versions={"fused-ssim": fused_ssim.__version__, **settings.versions},
        date=dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        colours=colours(),
    )
    page = out / PAGE
    unfinished = page.with_suffix(".part")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w", encoding="utf-8", errors="replace") as file:  # names of files may be no Unicode
            file.writelines(pieces)
        unfinished.replace(page)
    except OSError as error:
        raise Failure(f"{page}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return page


def _rank(score: float | None) -> float:
    """Worst first; NaN is worse than any number; what has no score comes last."""
    if score is None:
        return math.inf
    return -math.inf if math.isnan(score) else score


def _rows(
    ordered: Sequence[tuple[int, PairResult]], settings: Settings, progress: Callable[[PairResult], None] | None
) -> Iterator[Row]:
    """The pairs with a score, with their pictures, which several threads make: few at a time, in order."""
    scored = [(number, result) for number, result in ordered if result.ssim is not None]
    is_film = any(result.frame is not None for _, result in scored)
    most = SHOWN_FRAMES if is_film else SHOWN
    rest = f"this page has pictures of the {most} worst pairs"
    mask = None
    try:
        mask = mask_of(settings)
    except Failure as error:  # gone since
        most, rest = 0, error.format_message()
    levels = detail_levels(min(len(scored), most))

    def row(number: int, result: PairResult, level: Level) -> Row:
        try:
            return Row(number, result, show(result, settings, mask, level), "")
        except Failure as error:  # a file that is gone since
            return Row(number, result, None, error.format_message())

    if is_film and most:
        yield from _frames(scored[:most], settings, mask, levels, progress)
        levels = []
    tasks = (partial(row, *item, level) for item, level in zip(scored, levels, strict=False))
    workers = default_workers()
    with one_thread_each(workers, settings.device):
        for each in in_order(tasks, workers):
            yield each
            if progress is not None:
                progress(each.result)
    for number, result in scored[most:]:
        yield Row(number, result, None, rest)
        if progress is not None:
            progress(result)


def _frames(
    scored: Sequence[tuple[int, PairResult]],
    settings: Settings,
    mask: Mask | None,
    levels: Sequence[Level],
    progress: Callable[[PairResult], None] | None,
) -> Iterator[Row]:
    """Frames of two films. They are decoded in their own order, so their pictures are kept: there are not many."""
    in_order_of_frames = sorted(range(len(scored)), key=lambda place: scored[place][1].frame or 0)
    results = [scored[place][1] for place in in_order_of_frames]
    shown: dict[int, Shown] = {}
    problem = ""
    try:
        pictures = show_frames(results, settings, mask, [levels[place] for place in in_order_of_frames])
        for place, picture in zip(in_order_of_frames, pictures, strict=False):
            shown[place] = picture
            if progress is not None:
                progress(scored[place][1])
    except Failure as error:
        problem = error.format_message()
    for place, (number, result) in enumerate(scored):
        yield Row(number, result, shown.get(place), problem)


def _number(value: float | None, digits: int) -> str:
    """A number for people."""
    if value is None:
        return ""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}f}"


def _infinite(value: float | None) -> str:
    """A number as JavaScript reads it."""
    if value is None or math.isnan(value):
        return "NaN"
    return str(value).replace("inf", "Infinity")


def _statistics(scored: Sequence[PairResult]) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each score: mean, percentiles, least and greatest, as the terminal shows them."""
    found = []
    for title, name, _ in summary.SCORES:
        values = summary.statistics(summary.of(scored, name))
        if values is None:
            continue
        digits = 2 if name == "psnr" else 5
        labels = ["median" if percent == 50 else f"{percent:g} %" for percent in summary.PERCENTILES]
        percentiles = dict(zip(labels, values.percentiles, strict=True))
        figures = {"mean": values.mean, "least": values.least, **percentiles, "greatest": values.most}
        found.append((title, [(label, _number(value, digits)) for label, value in figures.items()]))
    return found


def _histogram(scores: Sequence[float]) -> dict[str, Any] | None:
    """The bars of the histogram of SSIM."""
    finite = [score for score in scores if math.isfinite(score)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    if high - low < 1e-6:
        low, high = low - 0.005, high + 0.005
    counts, edges = np.histogram(finite, bins=min(BINS, max(5, len(finite))), range=(low, high))
    most = int(counts.max())
    bars = [
        {"count": int(count), "low": float(a), "high": float(b), "height": int(count) / most}
        for count, a, b in zip(counts, edges[:-1], edges[1:], strict=True)
    ]
    return {"bars": bars, "low": low, "high": high, "most": most}


def _film(results: Sequence[PairResult]) -> str:
    """The line of SSIM over the frames, as points of 1000 x 100; empty if these are no frames."""
    frames = sorted((r.frame, r.ssim) for r in results if r.frame is not None and r.ssim is not None)
    if len(frames) < 2:
        return ""
    first, last = frames[0][0], frames[-1][0]
    low = min(score for _, score in frames)
    height = 100 / max(1 - low, 1e-9)
    return " ".join(f"{1000 * (i - first) / (last - first):.1f},{height * (1 - score):.1f}" for i, score in frames)


def _described(settings: Settings) -> dict[str, str]:
    """The settings for people."""
    found = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name == "versions":
            continue
        if value is None:
            value = "from the files" if field.name in ("data_range", "kind") else "none"
        if isinstance(value, bool):
            value = "yes" if value else "no"
        found[field.name.replace("_", " ")] = str(value)
    return found
