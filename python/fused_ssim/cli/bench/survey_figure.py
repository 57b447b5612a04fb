# SPDX-License-Identifier: MIT
"""A survey as a picture: a bar for each row, as long as its ratio. Drawn by matplotlib, without a display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fused_ssim.cli.bench.cases import INFERENCE, TRAIN, readable
from fused_ssim.cli.bench.figures import DPI, GRID, INK, NAMES, no_frame, title
from fused_ssim.cli.bench.survey_tables import SHORT, dims_of, is_above_limit, limit_of, number
from fused_ssim.cli.bench.tables import Report
from fused_ssim.cli.common import extra

with extra("cli"):
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = {INFERENCE: "#56b4e9", TRAIN: "#0072b2"}
ABOVE = "#d55e00"
SHORTEST, LONGEST = 0.5, 4.0  # of the axis, at least
Group = list[tuple[str, dict[str, Report]]]  # a name, and its entries by mode


def draw_survey(report: Report, path: Path, metadata: dict[str, str] | None = None) -> Path:
    """Draws arguments above and shapes below, images on the left and volumes on the right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dims = [count for count in NAMES if any(dims_of(entry) == count for entry in report["results"])]
    kinds = [kind for kind in ("results", "sizes") if report[kind]]
    groups = {(kind, count): _groups(report[kind], count) for kind in kinds for count in dims}
    heights = [max(1, *(len(groups[kind, count]) for count in dims)) for kind in kinds]
    size = max(5.4 * len(dims), 6.4), 1.6 + 0.7 * len(kinds) + 0.25 * sum(heights)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(kinds), len(dims), squeeze=False, height_ratios=heights)
    entries = [entry for kind in kinds for entry in report[kind] if "ratio" in entry]
    longest = max([LONGEST, *(entry["ratio"] for entry in entries), *filter(None, map(limit_of, entries))])
    shortest = min([SHORTEST, *(entry["ratio"] for entry in entries)])
    for line, kind, height in zip(axes, kinds, heights, strict=True):
        for axis, count in zip(line, dims, strict=True):
            _bars(axis, groups[kind, count], height)
            axis.set_xscale("log")
            axis.set_xlim(shortest / 1.05, longest * 1.5)
            axis.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
            axis.xaxis.set_minor_locator(NullLocator())
            usual = readable(next(tuple(shape) for shape in report["settings"]["shapes"] if len(shape) == count + 2))
            text = f"the usual call, {usual}" if kind == "results" else f"an element of {usual}"
            axis.set_title(f"{NAMES[count]}; 1 is {text}", fontsize=10.5, color=INK, loc="left")
    handles: list[Any] = [Patch(color=COLOURS[mode], label=SHORT[mode]) for mode in (INFERENCE, TRAIN)]
    if any(limit_of(entry) is not None for entry in entries):
        handles += [Patch(color=ABOVE, label="above its limit"), _limit_handle()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9, labelcolor=INK)
    title(figure, report, "SSIM: what arguments, layouts and shapes cost, as times of the usual call")
    figure.savefig(path, dpi=DPI, metadata=metadata)
    return path


def _groups(entries: list[Report], dims: int) -> Group:
    found: dict[str, dict[str, Report]] = {}
    for entry in entries:
        if dims_of(entry) == dims and "ratio" in entry:
            name = entry.get("row") or readable(tuple(entry["shape"]))
            found.setdefault(name, {})[entry["mode"]] = entry
    return list(found.items())


def _bars(axis: Any, groups: Group, rows: int) -> None:
    """Two bars a row, their figures behind them, and a mark at the limit. There is room for so many rows."""
    height = 0.4
    for place, (_name, by_mode) in enumerate(groups):
        for mode, entry in by_mode.items():
            at = place + (height / 2 if mode == TRAIN else -height / 2) * (len(by_mode) > 1)
            value, limit = entry["ratio"], limit_of(entry)
            # From 1 on, to the right or to the left: the axis is logarithmic.
            colour = ABOVE if is_above_limit(entry) else COLOURS[mode]
            axis.barh(
                at, value - 1, height, left=1, color=colour, alpha=0.6 if mode == INFERENCE and colour == ABOVE else 1
            )
            # A figure stands behind its bar, and behind a mark that would cross it.
            end = max(value, 1)
            behind = limit if limit is not None and end <= limit < 1.4 * end else end
            axis.text(behind * 1.04, at, number(value), va="center", fontsize=6.5, color=INK)
            if limit is not None:
                axis.plot([limit, limit], [at - height / 2, at + height / 2], color=INK, linewidth=1.6)
    axis.axvline(1, color=INK, linewidth=0.8)
    axis.set_yticks(range(len(groups)), [name for name, _ in groups], fontsize=8.5)
    axis.set_ylim(rows - 0.4, -0.6)
    axis.tick_params(colors=INK, length=0)
    axis.grid(which="major", axis="x", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    no_frame(axis)


def _limit_handle() -> Any:
    return Line2D([], [], color=INK, marker="|", markersize=9, markeredgewidth=1.6, linestyle="none", label="limit")
