# SPDX-License-Identifier: MIT
"""`fused-ssim compare`: what the user asks for becomes settings and a list of pairs; the rest is done elsewhere.

One pair of files is shown by `single`; folders, patterns, tables of pairs and films run through `batch`. All end in
results of one kind (`results.PairResult`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from fused_ssim._base.codes import PADDINGS
from fused_ssim._core import MAX_WINDOW_SIZE
from fused_ssim.cli.common import (
    BELOW,
    STOPPED,
    Failure,
    check_writable,
    device_option,
    extra,
    keep_inputs,
    make_folder,
)
from fused_ssim.cli.results import Kind, PairResult, Precision, Settings, versions

What = Literal["pair", "files", "films"]

# Options that mean something for some arguments only. Given with others they would be ignored, so that is wrong usage.
ONLY_FOR: dict[str, tuple[What, ...]] = {
    "per_channel": ("pair",),
    "map_path": ("pair",),
    "csv_path": ("files", "films"),
    "plot_path": ("files", "films"),
    "worst": ("files", "films"),
    "workers": ("files", "films"),
    "resume_path": ("files",),
    "kind": ("pair", "files"),
    "background": ("pair", "files"),
    "luma": ("films",),
}
WORDS: dict[What, str] = {"pair": "one pair of files", "files": "many pairs", "films": "films"}


def _odd(_context: click.Context, _parameter: click.Parameter, value: int) -> int:
    if value % 2 == 0:
        raise click.BadParameter(f"{value} is not odd.")
    return value


def _number(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    """Refuses NaN, which is neither above nor below any limit."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number.")
    return value


def _picture_file(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    """Refuses a picture to be drawn of unknown format before anything is computed."""
    if value is not None:
        with extra("cli"):
            from fused_ssim.cli.plots import picture_formats
        known = picture_formats()
        if value.suffix.lower().lstrip(".") not in known:
            raise click.BadParameter(f"'{value}' should end in one of {', '.join('.' + name for name in known)}.")
    return value


def _colour(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[float, float, float] | None:
    """A colour by Pillow's names: white, #ff8000, rgb(255, 128, 0)."""
    if value is None:
        return None
    with extra("cli"):
        from PIL import ImageColor
    try:
        red, green, blue = ImageColor.getrgb(value)[:3]
    except ValueError:
        raise click.BadParameter(f"'{value}' is no colour such as white, black or #ff8000.") from None
    return red / 255, green / 255, blue / 255


def _file(*names: str, text: str, **options: Any) -> Callable[[Any], Any]:
    """An option that names a file to be written."""
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.option(*names, metavar="FILE", type=kind, help=text, **options)


@click.command("compare", short_help="The SSIM of two images, volumes, films, or folders of them.")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path), required=False)
@click.option("--per-channel", is_flag=True, help="Print the score of each channel, too.")
@click.option("--ms-ssim", is_flag=True, help="Multi-scale SSIM, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; of many pairs, a line for each.")
@_file("--map", "map_path", callback=_picture_file, text="Draw the SSIM map of a pair; of a volume, three slices.")
@_file("--csv", "csv_path", text="Write a table of the results.")
@_file("--plot", "plot_path", callback=_picture_file, text="Draw the scores of all frames or pairs.")
@click.option(
    "--report",
    "report_path",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write DIR/index.html, a page to look at the pairs: slider, map, histogram.",
)
@_file("--resume", "resume_path", text="Keep results there; after Ctrl-C the same command goes on from them.")
@click.option(
    "--worst", type=click.IntRange(min=0), default=10, show_default=True, help="How many of the worst to list."
)
@click.option(
    "--fail-under",
    type=click.FloatRange(-1, 1),
    callback=_number,
    metavar="X",
    help=f"Exit status {BELOW} if the SSIM of any pair is below X.",
)
@click.option(
    "--padding",
    type=click.Choice(list(PADDINGS)),
    default="same",
    show_default=True,
    help="What windows see beyond the image. same: zeros; valid: only windows that lie inside it count (as for "
    "scikit-image); reflect, symmetric: its mirror image, with the edge once or twice; replicate: its edge.",
)
@click.option(
    "--data-range",
    metavar="L",
    type=click.FloatRange(min=0, min_open=True),
    help="Largest minus smallest possible value. [default: from the files, see above]",
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
@click.option(
    "--mask",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An image of weights: black does not count, white does.",
)
@click.option("--ignore-nan", is_flag=True, help="Leave out values that are not finite, instead of refusing them.")
@click.option("--background", metavar="COLOUR", callback=_colour, help="Lay transparent pixels over this colour.")
@click.option("--luma", is_flag=True, help="Films: compare the luma as it is stored, not RGB.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float64", "float32"]),
    default="auto",
    show_default=True,
    help="Arithmetic; auto is float64, unless the files are too large for the memory.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads that read and compare. [default: all processors]")
@device_option
@click.pass_context
def compare_command(
    context: click.Context,
    a: Path,
    b: Path | None,
    per_channel: bool,
    ms_ssim: bool,
    as_json: bool,
    map_path: Path | None,
    csv_path: Path | None,
    plot_path: Path | None,
    report_path: Path | None,
    resume_path: Path | None,
    worst: int,
    fail_under: float | None,
    padding: str,
    data_range: float | None,
    window_size: int,
    sigma: float,
    kind: Kind | None,
    mask: Path | None,
    ignore_nan: bool,
    background: tuple[float, float, float] | None,
    luma: bool,
    precision: Precision,
    workers: int | None,
    device: str,
) -> None:
    """The SSIM, PSNR and L1 of A and B: two images, volumes or films, two folders, or a table of pairs.

    Images: PNG, JPEG, TIFF, NPY, EXR, Netpbm, JPEG 2000, AVIF and more. Volumes: NIfTI, TIFF stack, NPY, DICOM. Colours
    are scored one by one and averaged. The volumes of a 4D NIfTI file are scored like channels. Values are compared as
    the file means them, in full; whatever was decided on the way is printed as a note.

    Folders (and patterns such as 'out/*.png') are compared by relative names. A CSV file as the only argument has two
    paths a line. Films (fused-ssim[video]) are compared frame by frame.

    The data range is 255 for uint8, 65535 for uint16, what the format says for other depths, and 1 for floating-point
    values. For scans and other integers it spans the smallest to the largest value of both files.

    An NPY array with 3 axes is an image if its last axis, or else its first, has length 1, 3 or 4 (the channels), and
    a volume otherwise; axes of length 1 are dropped. --as decides otherwise: as an image, the shorter of the last and
    the first axis holds the channels.

    Exit status: 0; 1 if a file could not be compared or has no partner; 2 below --fail-under, or for wrong usage; 130
    after Ctrl-C.

    \b
    Examples:
      fused-ssim compare reference.png render.png --map map.png
      fused-ssim compare scan.nii.gz denoised.nii.gz --data-range 4095
      fused-ssim compare truth/ renders/ --report report/
      fused-ssim compare truth/ renders/ --csv scores.csv --fail-under 0.9
      fused-ssim compare 'truth/*.png' 'renders/*.png' --json > scores.jsonl
      fused-ssim compare original.mp4 encoded.mp4 --luma --plot ssim.png
    """
    with extra("cli"):
        import numpy  # noqa: F401, ICN001
    from fused_ssim.cli.devices import describe_device, pick_device
    from fused_ssim.cli.files.complaints import hearing

    what = _what(a, b, kind)
    _check_options(context, what, as_json)
    outputs = {"--map": map_path, "--csv": csv_path, "--plot": plot_path, "--resume": resume_path}
    _check_outputs({name: path for name, path in outputs.items() if path is not None}, [a, b, mask])
    where = pick_device(device)
    settings = Settings(
        padding=padding,
        window_size=window_size,
        sigma=sigma,
        data_range=data_range,
        kind=kind,
        background=background,
        ignore_nan=ignore_nan,
        mask=None if mask is None else str(mask),
        ms_ssim=ms_ssim,
        precision=precision,
        luma=luma,
        device=str(where),
        versions=versions(),
    )
    _check_numbers(settings)
    _check_report(report_path)
    with hearing():
        if what == "pair" and b is not None:
            results, status = _one(a, b, settings, per_channel, as_json, describe_device(where), map_path), 0
        else:
            from fused_ssim.cli import batch

            output = batch.Output(as_json, csv_path, plot_path, resume_path, worst)
            run = batch.run_films if what == "films" else batch.run_files
            results, status = run(a, b, settings, output, workers or batch.default_workers())
        if report_path is not None and status != STOPPED:
            title = f"{a} and {b}" if b is not None else str(a)
            status = _write_report(report_path, results, settings, title, as_json) or status
    if fail_under is not None and status != STOPPED and _is_below(results, fail_under):
        status = BELOW
    context.exit(status)


def _check_options(context: click.Context, what: What, as_json: bool) -> None:
    """Refuses options that mean nothing for these arguments."""
    for parameter in context.command.params:
        name = str(parameter.name)
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        fitting = ONLY_FOR.get(name, (what,))
        if what not in fitting:
            words = " or ".join(WORDS[each] for each in fitting)
            raise click.UsageError(f"{parameter.opts[0]} is for {words}, and here is {WORDS[what]}")
        if name == "worst" and as_json:
            raise click.UsageError("--worst is for the table of the worst, which --json leaves out")


def _check_outputs(outputs: dict[str, Path], inputs: list[Path | None]) -> None:
    """Refuses files that cannot be written, that are written twice, or that would destroy what is read."""
    for path in outputs.values():
        check_writable(path)
    places: dict[Path, str] = {}
    for name, path in outputs.items():
        other = places.setdefault(path.resolve(), name)
        if other != name:
            raise click.UsageError(f"{other} and {name} are the same file, {click.format_filename(path)}")
    keep_inputs(outputs.values(), (path for path in inputs if path is not None))


def _check_report(folder: Path | None) -> None:
    """Makes the folder of the report, and refuses one that cannot be written."""
    if folder is not None:
        make_folder(folder)
        check_writable(folder / "index.html")


def _check_numbers(settings: Settings) -> None:
    """Refuses numbers that the library does not take, before any file is read."""
    from fused_ssim._base.checked import check_numbers
    from fused_ssim._base.settings import checked_settings

    given = {} if settings.data_range is None else {"data_range": settings.data_range}
    try:
        numbers = checked_settings(window_size=settings.window_size, sigma=settings.sigma, **given)
        check_numbers(numbers, "float64" if settings.precision == "auto" else settings.precision)
    except ValueError as error:
        raise Failure(str(error)) from error


def _is_below(results: list[PairResult], limit: float) -> bool:
    """Whether the SSIM of any pair is below the limit, which is said."""
    below = [result.ssim for result in results if result.ssim is not None and result.ssim < limit]
    if below:
        click.echo(f"{len(below)} of {len(results)} below {limit:g}; the lowest SSIM is {min(below):.6f}", err=True)
    return bool(below)


def _write_report(out: Path, results: list[PairResult], settings: Settings, title: str, quiet: bool) -> int:
    """The page of the results, with a progress bar of its own: all pairs are read again. Gives an exit status."""
    from fused_ssim.cli import batch, report

    try:
        with batch.progress(sum(result.ssim is not None for result in results), "report", not quiet) as told:
            page = report.write_report(out, results, settings, title, told)
    except KeyboardInterrupt:
        click.echo("stopped: the report is not written", err=True)
        return STOPPED
    click.echo(f"report: {click.format_filename(page)}", err=quiet)
    return 0


def _what(a: Path, b: Path | None, kind: Kind | None) -> What:
    """Whether the arguments are one pair of files, films, or many pairs of files."""
    from fused_ssim.cli.files.dicom import is_series
    from fused_ssim.cli.files.films import is_film
    from fused_ssim.cli.pairs import is_pattern

    if is_pattern(str(a)) or (b is not None and is_pattern(str(b))):
        if b is None:
            raise click.UsageError("two patterns are needed, quoted: 'truth/*.png' 'renders/*.png'")
        return "files"
    for path in (a, b):
        if path is not None and not path.exists():
            raise click.UsageError(f"'{click.format_filename(path)}' does not exist.")
    if b is None:
        if a.suffix.lower() != ".csv":
            raise click.UsageError("one argument should be a CSV file of pairs; otherwise give A and B")
        return "files"
    shown = [click.format_filename(path) for path in (a, b)]
    try:
        if a.is_dir() or b.is_dir():
            if kind == "volume" and all(path.is_file() or is_series(path) for path in (a, b)):
                return "pair"
            if a.is_dir() != b.is_dir():
                folder, file = shown if a.is_dir() else shown[::-1]
                raise click.UsageError(f"'{folder}' is a folder, and '{file}' is not")
            return "files"
        films = [is_film(path) for path in (a, b)]
    except OSError as error:
        raise Failure(f"{click.format_filename(error.filename)}: cannot be read: {error.strerror or error}") from error
    if films[0] != films[1]:
        words = [f"{name} is {'a film' if film else 'no film'}" for name, film in zip(shown, films, strict=True)]
        raise Failure(", ".join(words))
    return "films" if films[0] else "pair"


def _one(
    a: Path, b: Path, settings: Settings, per_channel: bool, as_json: bool, device: str, map_path: Path | None
) -> list[PairResult]:
    """One pair: its result is printed before a map is drawn."""
    from fused_ssim.cli import single
    from fused_ssim.cli.scoring import mask_of, score_files

    mask = mask_of(settings)
    result = score_files(a.name, a, b, settings, mask)
    if result.error is not None:
        raise Failure(result.error)
    single.show(result, settings, per_channel=per_channel, as_json=as_json, device=device, map_path=map_path)
    if map_path is not None:
        single.draw_map(map_path, result, settings, mask)
        if not as_json:
            click.echo(f"{'map':<12}written to {click.format_filename(map_path)}")
    return [result]
