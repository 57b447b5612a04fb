# SPDX-License-Identifier: MIT
"""Pictures: SSIM maps, and the panels and the curve of the demonstration. Drawn by matplotlib, without a display."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from fused_ssim.cli.common import Failure, extra

with extra("cli"):
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fused_ssim.cli.recovery import MaskedFit, Recovery
    from fused_ssim.cli.results import PairResult

    Array = npt.NDArray[Any]

COLOURS = "viridis"
DPI = 150
MAX_DPI = 600
NAME_LENGTH = 24


def picture_formats() -> list[str]:
    """The file endings that can be written, without the dot."""
    return sorted(FigureCanvasAgg.get_supported_filetypes())


def save_map(
    path: Path,
    ssim_map: Array,
    *,
    score: float,
    names: tuple[str, str],
    origin: int,
    axes: str,
    spacing: Sequence[float] | None,
) -> None:
    """Draws an SSIM map, (C, H, W) or (C, D, H, W), as a heat map with a colour bar; of a volume the central slices.

    `origin` is the index of the map's first element in the picture it belongs to (padding valid crops the map).
    `axes` are those of `results.Pair`, `spacing` is the size of a voxel along each.
    """
    title = f"SSIM {score:.4f}:  " + "  and  ".join(_shorten(name) for name in names)
    panel = _Panel(title, ssim_map.mean(0, keepdims=True), is_map=True)
    space = _Space(axes, spacing or (1.0, 1.0, 1.0), origin)
    views = _views(panel.values, space)
    # The maps fill 8 x 6 inches, and every element gets a pixel of its own, within reason.
    scale = min(8.0 / sum(_widths(views)), 6.0 / sum(_heights(views)))
    dpi = min(max(DPI, math.ceil(max(view.resolution for view in views) / scale)), MAX_DPI)
    _draw(path, [panel], scale, space, ticks=True, dpi=dpi)


def save_recovery(path: Path, recovery: Recovery, spacing: Sequence[float] | None = None) -> None:
    """Draws target, start, result and the SSIM map side by side; of a volume, with axes x, y, z, the central slices."""
    panels = [
        _Panel(f"target: {recovery.name}", recovery.target.numpy()),
        _Panel(f"start: noise, SSIM {recovery.scores[0]:.4f}", recovery.start.numpy()),
        _Panel(f"after {len(recovery.scores) - 1} steps: SSIM {recovery.scores[-1]:.5f}", recovery.result.numpy()),
        _Panel("SSIM map", recovery.ssim_map.mean(0, keepdim=True).numpy(), is_map=True),
    ]
    space = _Space("XYZ", spacing or (1.0, 1.0, 1.0))
    scale = 3.2 / sum(_widths(_views(panels[0].values, space)))
    _draw(path, panels, scale, space)


def save_masked_fit(path: Path, fit: MaskedFit) -> None:
    """Draws the photograph, the start, and what the fit made of it in three ways."""
    panels = [
        _Panel("photograph with a sticker", fit.photograph.numpy()),
        _Panel("start", fit.start.numpy()),
        *(_Panel(f"{name}: error {fit.rims[name]:.3f}", picture.numpy()) for name, picture in fit.results.items()),
    ]
    _draw(path, panels, 3.2 / fit.scene.shape[2], _Space())


def save_curves(path: Path, recoveries: Sequence[Recovery]) -> None:
    """Draws the scores over the steps."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axis = figure.subplots()
    for recovery in recoveries:
        axis.plot(recovery.scores, label=f"{recovery.name}: {recovery.scores[0]:.4f} to {recovery.scores[-1]:.5f}")
    axis.set_title("Recovery from noise by gradient ascent on SSIM")
    axis.set_xlabel("step")
    axis.set_ylabel("SSIM")
    axis.set_ylim(0, 1.02)
    axis.set_xlim(0, len(recoveries[0].scores) - 1)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    _save(figure, path)


def save_scores(path: Path, results: Sequence[PairResult]) -> None:
    """Draws the SSIM of all frames over time, or of all pairs over their number; the worst is marked."""
    scored = [(number, result) for number, result in enumerate(results) if result.ssim is not None]
    by_time = all(result.time is not None for _, result in scored)
    places = [float(result.time or 0) if by_time else float(number) for number, result in scored]
    values = [float(result.ssim or 0) for _, result in scored]
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.plot(places, values, linewidth=1.0, marker="." if len(values) < 50 else None)
    low = min(range(len(values)), key=values.__getitem__)
    axis.plot([places[low]], [values[low]], "o", color="tab:red")
    axis.annotate(f"{_shorten(scored[low][1].name)}: {values[low]:.4f}", (places[low], values[low]), (6, 6),
                  textcoords="offset points", parse_math=False)  # fmt: skip
    axis.set_xlabel("seconds" if by_time else "pair")
    axis.set_ylabel("SSIM")
    axis.set_title(f"mean SSIM {sum(values) / len(values):.4f}")
    axis.grid(alpha=0.3)
    _save(figure, path)


@dataclass(frozen=True)
class _Space:
    """The axes of a volume, the size of a voxel along each, and the index of its first element along all."""

    axes: str = "DHW"
    spacing: Sequence[float] = (1.0, 1.0, 1.0)
    origin: int = 0


@dataclass(frozen=True)
class _Panel:
    """An image or volume, (C, H, W) or (C, D, H, W), under a title."""

    title: str
    values: Array
    is_map: bool = False


@dataclass(frozen=True)
class _View:
    """A panel's image, or one slice of its volume, in a row and a column of the panel."""

    values: Array  # (H, W) or (H, W, 3)
    row: int
    column: int
    pixel: tuple[float, float]  # width and height of an element
    axes: tuple[str, str]  # names of the axes across and up or down
    title: str
    upwards: bool  # the first row is at the bottom

    @property
    def width(self) -> float:
        return float(self.values.shape[1] * self.pixel[0])

    @property
    def height(self) -> float:
        return float(self.values.shape[0] * self.pixel[1])

    @property
    def resolution(self) -> float:
        """Elements for a unit of length."""
        return 1.0 / min(self.pixel)


def _views(values: Array, space: _Space) -> list[_View]:
    """The image itself, or the slices through the centre of a volume, placed so that neighbours share an axis."""
    if values.ndim == 3:
        image = np.moveaxis(values, 0, -1) if len(values) == 3 else values[0]
        return [_View(image, 0, 0, (1.0, 1.0), ("x", "y"), "", upwards=False)]
    names, sizes = space.axes.lower(), space.spacing
    x, y, z = (0, 1, 2) if space.axes == "XYZ" else (2, 1, 0)
    # y is up in NIfTI and down in DICOM; z is up in both, and down in a stack of slices.
    up = {"XYZ": (y, z), "ZYX": (z,)}.get(space.axes, ())
    views = []
    for row, column, across, down, cut in ((0, 0, x, y, z), (0, 1, z, y, x), (1, 0, x, z, y)):
        middle = values.shape[1 + cut] // 2
        piece = values[0].take(middle, axis=cut)
        if across < down:  # so that the rows run along `down`
            piece = piece.T
        pixel, axes = (sizes[across], sizes[down]), (names[across], names[down])
        title = f"{names[cut]} = {middle + space.origin}"
        views.append(_View(piece, row, column, pixel, axes, title, upwards=down in up))
    return views


def _widths(views: Sequence[_View]) -> list[float]:
    return [view.width for view in views if view.row == 0]


def _heights(views: Sequence[_View]) -> list[float]:
    return [view.height for view in views if view.column == 0]


def _draw(
    path: Path,
    panels: Sequence[_Panel],
    scale: float,
    space: _Space,
    *,
    ticks: bool = False,
    dpi: int = DPI,
) -> None:
    """Draws panels of equal size in a row, `scale` inches for a unit of length, and the colour bar of the SSIM map.

    All is placed by hand, in inches: the panels keep their proportions and the colour bar is as high as they are.
    """
    views, origin = _views(panels[0].values, space), space.origin
    gap = (0.75, 0.95) if ticks else (0.06, 0.06)  # between the slices of a volume: room for ticks, labels and titles
    widths = [width * scale for width in _widths(views)]
    heights = [height * scale for height in _heights(views)]
    panel_width = sum(widths) + gap[0] * (len(widths) - 1)
    panel_height = sum(heights) + gap[1] * (len(heights) - 1)
    left, right, below, between = (0.75, 1.35, 0.6, 0.0) if ticks else (0.12, 1.1, 0.12, 0.2)
    above = 0.75 if ticks and len(views) > 1 else 0.4
    narrow = max(0.0, (6.0 if ticks else 0.0) - (left + panel_width + right)) / 2  # the title needs some width
    left, right = left + narrow, right + narrow
    width = left + panel_width * len(panels) + between * (len(panels) - 1) + right
    height = above + max(panel_height, 1.0) + below
    top = height - above

    low = min((_round_below(float(panel.values.min())) for panel in panels if panel.is_map), default=0.0)
    figure = Figure(figsize=(width, height))

    def place(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        return x / width, y / height, w / width, h / height

    for number, panel in enumerate(panels):
        start = left + (panel_width + between) * number
        shades: dict[str, Any] = {"cmap": COLOURS, "vmin": low} if panel.is_map else {"cmap": "gray", "vmin": 0.0}
        middle = (start + panel_width / 2) / width if len(panels) > 1 else 0.5
        figure.text(middle, 1 - 0.2 / height, panel.title, ha="center", va="center", size=12, parse_math=False)
        for view in _views(panel.values, space):
            x = start + sum(widths[: view.column]) + gap[0] * view.column
            y = top - sum(heights[: view.row + 1]) - gap[1] * view.row
            axis = figure.add_axes(place(x, y, widths[view.column], heights[view.row]))
            rows, columns = view.values.shape[:2]
            first, last = (origin - 0.5, origin + rows - 0.5) if view.upwards else (origin + rows - 0.5, origin - 0.5)
            image = axis.imshow(
                view.values,
                origin="lower" if view.upwards else "upper",
                extent=(origin - 0.5, origin + columns - 0.5, first, last),
                aspect="auto",
                vmax=1.0,
                **shades,
            )
            if ticks:
                axis.locator_params(integer=True, min_n_ticks=2)
                axis.set_xlabel(view.axes[0])
                axis.set_ylabel(view.axes[1])
                axis.set_title(view.title, size=10)
            else:
                axis.set_xticks([])
                axis.set_yticks([])
        if panel.is_map:
            bar_height = max(panel_height, 1.0)
            bar = figure.add_axes(place(start + panel_width + 0.15, top - bar_height, 0.17, bar_height))
            # One digit more than the range of the scale needs, and no offset, which would hide the numbers themselves.
            # (1 - 0.999 is a little less than 0.001, hence the factor.)
            digits = max(1, 1 - math.floor(math.log10((1.0 - low) * 1.001)))
            figure.colorbar(image, cax=bar, format=f"%.{digits}f", label="SSIM" if ticks else "")
    _save(figure, path, dpi)


def _save(figure: Figure, path: Path, dpi: int = DPI) -> None:
    """Writes a figure; whatever goes wrong is one line."""
    shown = click.format_filename(path)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*missing from font", category=UserWarning)  # in a file's name
            figure.savefig(path, dpi=dpi)
    except OSError as error:
        raise Failure(f"{shown}: cannot be written: {error.strerror or error}") from error
    except Exception as error:  # the writers of matplotlib need programs and raise whatever: LaTeX for .pgf
        raise Failure(f"{shown}: cannot be drawn: {str(error).strip().splitlines()[0]}") from error


def _round_below(value: float) -> float:
    """The lower end of the colour scale, one digit below the smallest value: the better the match, the closer to 1."""
    for digits in range(1, 6):
        if 1.0 - value > 10.0**-digits:
            return max(math.floor(value * 10.0**digits) / 10.0**digits, -1.0)
    return 1.0 - 1e-5


def _shorten(name: str) -> str:
    """A file's name, cut in the middle if it is long."""
    half = NAME_LENGTH // 2
    return name if len(name) <= NAME_LENGTH else f"{name[: half - 2]}...{name[-half + 1 :]}"
