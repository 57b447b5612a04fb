# SPDX-License-Identifier: MIT
"""One pair of files: its score, what was assumed, and the SSIM map as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import fused_ssim
from fused_ssim._base.settings import checked_settings
from fused_ssim._base.shapes import crop
from fused_ssim.cli.files.picture import describe
from fused_ssim.cli.journal import as_dict
from fused_ssim.cli.scoring import load_pair, ssim_map

if TYPE_CHECKING:
    from fused_ssim.cli.results import PairResult, Settings
    from fused_ssim.cli.scoring import Mask


def report(result: PairResult, settings: Settings, map_path: Path | None) -> dict[str, Any]:
    """A result as `--json` prints it: as in a line of many pairs, and the settings."""
    return {
        **as_dict(result),
        "padding": settings.padding,
        "window_size": settings.window_size,
        "sigma": settings.sigma,
        "device": settings.device,
        "map": None if map_path is None else str(map_path),
        "version": fused_ssim.__version__,
    }


def show(
    result: PairResult, settings: Settings, *, per_channel: bool, as_json: bool, device: str, map_path: Path | None
) -> None:
    """Prints a result: the rows on stdout, the notes on stderr."""
    if as_json:
        click.echo(json.dumps(report(result, settings, map_path), indent=2))
        return
    rows = [("SSIM", f"{result.ssim:.6f}")]
    if per_channel:
        rows += [(f"  {name}", f"{value:.6f}") for name, value in result.channels]
    if result.ms_ssim is not None:
        rows.append(("MS-SSIM", f"{result.ms_ssim:.6f}"))
    what = describe(result.kind, result.shape, result.axes, len(result.channels))
    rows += [
        ("PSNR", f"{result.psnr:.3f} dB"),
        ("L1", f"{result.l1:.6f} of the data range"),
        ("read as", f"{what}, {result.dtype}"),
        ("data range", f"{result.data_range:g} ({result.data_range_origin})"),
        ("settings", f"padding {settings.padding}, window {settings.window_size}, sigma {settings.sigma:g}"),
        ("device", device),
    ]
    for label, text in rows:
        click.echo(f"{label:<12}{text}")
    for note in result.notes:
        click.echo(f"note: {note}", err=True)


def draw_map(path: Path, result: PairResult, settings: Settings, mask: Mask | None) -> None:
    """Writes the SSIM map as a picture."""
    from fused_ssim.cli.plots import save_map

    pair = load_pair(result, settings, mask)
    values = ssim_map(pair, settings)
    taken_off = crop(checked_settings(padding=settings.padding, window_size=settings.window_size), len(result.shape))
    save_map(
        path,
        values,
        score=result.ssim or 0.0,
        names=(click.format_filename(Path(result.first).name), click.format_filename(Path(result.second).name)),
        origin=taken_off[0],
        axes=pair.axes,
        spacing=pair.spacing,
    )
