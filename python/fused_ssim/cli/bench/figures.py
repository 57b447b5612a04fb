# SPDX-License-Identifier: MIT
"""A run as pictures: time against size, and memory. Drawn by matplotlib, without a display."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fused_ssim.cli.bench.cases import MODES, TRAIN, elements, readable
from fused_ssim.cli.bench.libraries import OURS
from fused_ssim.cli.bench.tables import TIMES, Report, images, libraries
from fused_ssim.cli.common import extra

with extra("cli"):
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

if TYPE_CHECKING:
    from pathlib import Path

DPI = 160
INK = "#333333"
DOTS = (0, (2, 1.5))
GRID = "#dddddd"
# Colours by Okabe and Ito, which people with any colour vision can tell apart; each line has a marker of its own, too.
LOOKS: dict[str, tuple[str, str]] = {
    OURS: ("#d55e00", "o"),
    "original fused-ssim": ("#0072b2", "s"),
    "fussim": ("#009e73", "D"),
    "frame-analytics": ("#e69f00", "<"),
    "pytorch-msssim": ("#56b4e9", "^"),
    "torchmetrics": ("#cc79a7", "v"),
    "MONAI": ("#8c6d1f", "P"),
    "scikit-image": ("#555555", "X"),
}
NAMES = {2: "2D images", 3: "3D volumes"}


def draw_all(report: Report, folder: Path, prefix: str = "", metadata: dict[str, str] | None = None) -> list[Path]:
    """Draws every picture that the report has figures for; `metadata` goes into the PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for mode in MODES:
        if any(entry["mode"] == mode and "seconds" in entry for entry in report["results"]):
            name = "time" if mode == TRAIN else "time-inference"
            paths.append(folder / f"{prefix}{name}.png")
            _times(report, mode).savefig(paths[-1], dpi=DPI, metadata=metadata)
    if any(entry["images"] is not None and entry["mode"] == TRAIN for entry in report["memory"]):
        paths.append(folder / f"{prefix}memory.png")
        _memory(report).savefig(paths[-1], dpi=DPI, metadata=metadata)
    return paths


def _times(report: Report, mode: str) -> Figure:
    """Time against size, one panel for images and one for volumes."""
    entries = [e for e in report["results"] if e["mode"] == mode and e["dtype"] == "float32" and "seconds" in e]
    dims = [number for number in NAMES if any(len(entry["shape"]) == number + 2 for entry in entries)]
    figure = Figure(figsize=(max(5.2 * len(dims), 6.4), 4.7), layout="constrained")
    axes = figure.subplots(1, len(dims), sharey=True, squeeze=False)[0]
    names = [name for name in libraries(report) if any(entry["library"] == name for entry in entries)]
    for axis, number in zip(axes, dims, strict=True):
        panel = [entry for entry in entries if len(entry["shape"]) == number + 2]
        for name in names:
            points = _points(panel, name)
            if points:
                ours = name == OURS
                colour, marker = LOOKS.get(name, ("#999999", "."))
                axis.plot(
                    *zip(*points, strict=True),
                    color=colour,
                    marker=marker,
                    markersize=7 if ours else 5.5,
                    linewidth=2.8 if ours else 1.5,
                    zorder=4 if ours else 3,
                )
        graphs = _points(panel, OURS, "graph_seconds")
        if graphs:
            axis.plot(
                *zip(*graphs, strict=True), color=LOOKS[OURS][0], linestyle=(0, (2, 1.5)), linewidth=1.6, zorder=4
            )
        floor = _points(panel, OURS, "floor_seconds")
        axis.plot(*zip(*floor, strict=True), color="#888888", linestyle="--", linewidth=1.2, zorder=2)
        _time_axis(axis, panel, NAMES[number])
    # For tiny images the least possible time is next to nothing; the room is for the measured times.
    shown = [entry[key] * 1e3 for entry in entries for key in ("seconds", "graph_seconds") if key in entry]
    axes[0].set_ylim(min(shown) / 2.5, max(shown) * 2)
    axes[0].set_ylabel("milliseconds a call", color=INK)
    handles = [_handle(name) for name in names]
    if any("graph_seconds" in entry for entry in entries):
        handles.insert(1, _line(f"{OURS}, CUDA graph", LOOKS[OURS][0], DOTS, 1.6))
    handles.append(_line("floor: least bytes and FMAs", "#888888", "--", 1.2))
    columns = min(len(handles), 4)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, labelcolor=INK)
    title(figure, report, f"SSIM, {mode}: time of a call (float32)")
    return figure


def _points(panel: list[Report], name: str, key: str = "seconds") -> list[tuple[float, float]]:
    found = [(elements(tuple(e["shape"])), e[key] * 1e3) for e in panel if e["library"] == name and e.get(key)]
    return sorted(found)


def _time_axis(axis: Any, panel: list[Report], title: str) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_title(title, fontsize=11, color=INK, loc="left")
    # The sizes that were measured, by name, instead of powers of ten; of neighbours that would overlap, the first.
    sizes = sorted({(elements(tuple(entry["shape"])), readable(tuple(entry["shape"]))) for entry in panel})
    apart = (sizes[-1][0] / sizes[0][0]) ** 0.08
    shown = sizes[:1]
    shown += [size for before, size in pairwise(sizes) if size[0] > apart * before[0]]
    axis.set_xticks([size for size, _ in shown], [name for _, name in shown], rotation=20, ha="right", fontsize=9)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(which="major", color=GRID, linewidth=0.8)
    axis.tick_params(colors=INK, length=3)
    axis.set_axisbelow(True)
    no_frame(axis)


def _memory(report: Report) -> Figure:
    """Bars: the peak extra memory of value + gradient, for the largest image and volume that most packages managed."""
    entries = [
        entry
        for entry in report["memory"]
        if entry["mode"] == TRAIN and entry["dtype"] == "float32" and entry["images"] is not None
    ]
    chosen = []
    for number in NAMES:
        shapes = {tuple(entry["shape"]) for entry in entries if len(entry["shape"]) == number + 2}
        if shapes:
            count = {shape: sum(tuple(entry["shape"]) == shape for entry in entries) for shape in shapes}
            chosen.append((number, max(shapes, key=lambda shape: (count[shape], elements(shape)))))
    rows = max(sum(tuple(entry["shape"]) == shape for entry in entries) for _, shape in chosen)
    figure = Figure(figsize=(max(5.2 * len(chosen), 6.4), 1.5 + 0.42 * max(rows, 2)), layout="constrained")
    axes = figure.subplots(1, len(chosen), squeeze=False)[0]
    for axis, (number, shape) in zip(axes, chosen, strict=True):
        bars = sorted(
            ((entry["images"], entry["library"]) for entry in entries if tuple(entry["shape"]) == shape), reverse=True
        )
        names = [name for _, name in bars]
        values = [value for value, _ in bars]
        drawn = axis.barh(names, values, height=0.66, color=[LOOKS.get(name, ("#999999", "."))[0] for name in names])
        axis.bar_label(drawn, labels=[images(value) + TIMES for value in values], padding=4, fontsize=9.5, color=INK)
        axis.set_xlim(0, max(max(values) * 1.14, 1.0))
        axis.set_xticks([])  # the bars carry their figures
        axis.set_title(f"{NAMES[number]}, {readable(shape)}", fontsize=11, color=INK, loc="left")
        axis.tick_params(colors=INK, length=0)
        no_frame(axis)
        for label in axis.get_yticklabels():
            label.set_fontweight("bold" if label.get_text() == OURS else "normal")
    figure.supxlabel("times the memory of one image", fontsize=9.5, color=INK)
    title(figure, report, "SSIM, value + gradient: peak memory besides the two images (float32)")
    return figure


def title(figure: Figure, report: Report, text: str) -> None:
    """The title of a picture, with the device below it."""
    where = report["environment"]
    device = where["device_name"] + ("" if where["device"] == "cuda" else f", {where['threads']} threads")
    subtitle = f"{device}, PyTorch {where['versions']['torch']}"
    figure.suptitle(f"{text}\n{subtitle}", fontsize=11.5, color=INK, x=0.01, ha="left")


def no_frame(axis: Any) -> None:
    """Takes the frame off a panel."""
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)


def _handle(name: str) -> Any:
    colour, marker = LOOKS.get(name, ("#999999", "."))
    return _line(name, colour, "-", 2.8 if name == OURS else 1.5, marker)


def _line(label: str, colour: str, style: Any, width: float, marker: str = "") -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, linestyle=style, linewidth=width, marker=marker, label=label)
