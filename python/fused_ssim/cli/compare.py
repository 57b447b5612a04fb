# SPDX-License-Identifier: MIT
"""`fused-ssim compare`: the SSIM of two files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import fused_ssim
from fused_ssim._base.codes import PADDINGS
from fused_ssim._base.settings import checked_settings
from fused_ssim._base.shapes import crop
from fused_ssim._core import MAX_WINDOW_SIZE
from fused_ssim.cli.common import Failure, device_option, extra
from fused_ssim.cli.images import Kind, read


def _odd(_context: click.Context, _parameter: click.Parameter, value: int) -> int:
    if value % 2 == 0:
        raise click.BadParameter(f"{value} is not odd.")
    return value


def _picture_format(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    """Refuses a --map file of unknown format before anything is computed."""
    if value is not None:
        with extra("cli"):
            from fused_ssim.cli.plots import picture_formats
        known = picture_formats()
        if value.suffix.lower().lstrip(".") not in known:
            raise click.BadParameter(f"'{value}' should end in one of {', '.join('.' + name for name in known)}.")
    return value


@click.command("compare", short_help="The SSIM of two images or two volumes.")
@click.argument("a", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--per-channel", is_flag=True, help="Print the score of each channel, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--map",
    "map_path",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_picture_format,
    help="Draw the SSIM map as a heat map; of a volume, the three central slices.",
)
@click.option(
    "--padding",
    type=click.Choice(list(PADDINGS)),
    default="same",
    show_default=True,
    help="same: zeros around the image; valid: only windows that lie inside it (as scikit-image does).",
)
@click.option(
    "--data-range",
    metavar="L",
    type=click.FloatRange(min=0, min_open=True),
    help="Largest minus smallest possible value. [default: from the dtype, see above]",
)
@click.option(
    "--window-size",
    type=click.IntRange(1, MAX_WINDOW_SIZE),
    default=11,
    show_default=True,
    callback=_odd,
    help="Odd size of the Gaussian window.",
)
@click.option(
    "--sigma",
    type=click.FloatRange(min=0, min_open=True),
    default=1.5,
    show_default=True,
    help="Standard deviation of the Gaussian window.",
)
@click.option("--as", "kind", type=click.Choice(["image", "volume"]), help="How to read files that leave it open.")
@device_option
def compare_command(
    a: Path,
    b: Path,
    per_channel: bool,
    as_json: bool,
    map_path: Path | None,
    padding: str,
    data_range: float | None,
    window_size: int,
    sigma: float,
    kind: Kind | None,
    device: str,
) -> None:
    """The SSIM of two images or two volumes, A and B.

    Images: PNG, JPEG, TIFF, NPY, and what else Pillow reads. Volumes: NIfTI, TIFF stack, NPY. Colours are scored one
    by one and averaged; transparency is ignored. The volumes of a 4D NIfTI file are scored like channels.

    The data range is 255 for uint8, 65535 for uint16, and 1 for floating-point values. For other integers, and for
    NIfTI files with other values, it spans the smallest to the largest value of both files. The output says which.

    An NPY array with 3 axes is an image if its last axis, or else its first, has length 1, 3 or 4 (the channels), and
    a volume otherwise; leading axes of length 1 are dropped. --as decides otherwise: as an image, the shorter of the
    last and the first axis holds the channels.

    \b
    Examples:
      fused-ssim compare reference.png render.png
      fused-ssim compare reference.png render.png --per-channel --map map.png
      fused-ssim compare scan.nii.gz denoised.nii.gz --data-range 4095
      fused-ssim compare stack1.npy stack2.npy --as volume --padding valid --json
    """
    import torch

    from fused_ssim.cli.devices import describe_device, pick_device
    from fused_ssim.cli.scoring import affine_notes, check_pair, choose_data_range

    first, second = read(a, kind), read(b, kind)
    check_pair(first, second, data_range)
    notes = [*first.notes, *second.notes]
    data_range, source, origin = choose_data_range(first, second, data_range, notes)
    notes += affine_notes(first, second)

    where = pick_device(device)
    ssim = fused_ssim.fused_ssim3d if first.kind == "volume" else fused_ssim.fused_ssim2d
    options: dict[str, Any] = {"window_size": window_size, "sigma": sigma, "data_range": data_range}
    try:
        dtype = torch.promote_types(*(torch.from_numpy(picture.values).dtype for picture in (first, second)))
        x, y = (torch.from_numpy(picture.values)[None].to(where, dtype) for picture in (first, second))
        with torch.no_grad():
            score = float(ssim(x, y, padding, train=False, **options))
            channels = ssim(x, y, padding, train=False, reduction="channel", **options)[0].tolist()
            if map_path is not None:
                values = ssim(x, y, padding, train=False, reduction="none", **options)[0].cpu().numpy()
    except (ValueError, RuntimeError) as error:
        raise Failure(str(error).splitlines()[0]) from error

    if map_path is not None:
        from fused_ssim.cli.plots import save_map

        taken_off = crop(checked_settings(padding=padding, window_size=window_size), len(first.shape))
        try:
            save_map(
                map_path,
                values,
                score=score,
                names=(a.name, b.name),
                origin=taken_off[0],
                spacing=first.spacing,
            )
        except OSError as error:
            raise Failure(f"{map_path}: cannot be written: {error.strerror or error}") from error

    if as_json:
        report = {
            "score": score,
            "per_channel": channels,
            "a": str(a),
            "b": str(b),
            "kind": first.kind,
            "shape": list(first.shape),
            "channels": list(first.channel_names),
            "dtype": first.dtype if first.dtype == second.dtype else [first.dtype, second.dtype],
            "data_range": data_range,
            "data_range_source": source,
            "padding": padding,
            "window_size": window_size,
            "sigma": sigma,
            "device": str(where),
            "map": None if map_path is None else str(map_path),
            "notes": notes,
            "version": fused_ssim.__version__,
        }
        click.echo(json.dumps(report, indent=2))
        return

    rows = [("SSIM", f"{score:.6f}")]
    if per_channel:
        rows += [(f"  {name}", f"{value:.6f}") for name, value in zip(first.channel_names, channels, strict=True)]
    dtype_text = first.dtype if first.dtype == second.dtype else f"{first.dtype} and {second.dtype}"
    rows += [
        ("read as", f"{first.description}, {dtype_text}"),
        ("data range", f"{data_range:g} ({origin})"),
        ("settings", f"padding {padding}, window {window_size}, sigma {sigma:g}"),
        ("device", describe_device(where)),
    ]
    if map_path is not None:
        rows.append(("map", f"written to {map_path}"))
    for label, text in rows:
        click.echo(f"{label:<12}{text}")
    for note in notes:
        click.echo(f"note: {note}", err=True)
