# SPDX-License-Identifier: MIT
"""Writes the figures of benchmarks/results/*.json into docs/benchmarks.md, with pictures; a few into README.md.

    python benchmarks/readme.py            # writes the parts between the marks, and docs/images/benchmark-*.png
    python benchmarks/readme.py --check    # only says whether they are up to date: exit code 1 if not

Nothing between the marks is typed by hand. A picture carries the digest of the JSON file that it was drawn from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from fused_ssim.cli.bench import tables
from fused_ssim.cli.bench.cases import INFERENCE, TRAIN, readable
from fused_ssim.cli.bench.libraries import OURS

BEGIN = "<!-- benchmark:begin -->"
END = "<!-- benchmark:end -->"
ROOT = Path(__file__).resolve().parent.parent
PICTURES = Path("docs") / "images"
# The shapes that the README shows, of those that were measured; all of them if none of these was.
SHORT = ("1x3x256x256", "1x3x1080x1920", "1x1x64³", "2x3x96³")

Report = dict[str, Any]


class OutOfDateError(click.ClickException):
    """Something has to be done by hand, or the script has to be run."""


def load(results: Path) -> list[tuple[Path, Report, str]]:
    """The results with their digests, those of GPUs first."""
    found = []
    for path in sorted(results.glob("*.json")):
        data = path.read_bytes()
        report = json.loads(data)
        if report.get("schema") != 1 or not report.get("results"):
            raise OutOfDateError(f"{path} is not a result of benchmarks/bench.py")
        found.append((path, report, hashlib.sha256(data).hexdigest()))
    if not found:
        raise OutOfDateError(f"no results in {results}: run benchmarks/bench.py --json {results}/<device>.json")
    return sorted(found, key=lambda item: item[1]["environment"]["device"] != "cuda")


def block(found: list[tuple[Path, Report, str]], results: str, short: bool) -> str:
    """The part between the marks: of README.md (short), or of docs/benchmarks.md."""
    parts = [BEGIN, f"<!-- written by benchmarks/readme.py from {results}/*.json; do not edit -->", ""]
    for path, report, _ in found:
        parts += summary(report) if short else section(path.stem, report)
    return "\n".join([*parts, END])


def heading(report: Report) -> tuple[str, str]:
    """The device, and a line that says what the tables show."""
    where = report["environment"]
    others = others_of(report)
    legend = f"milliseconds a call, float32{f'; in brackets, times as long as {OURS}' if others else ''}"
    device = where["device_name"]
    device += f" (driver {where['driver']})" if where["device"] == "cuda" else f", {where['threads']} threads"
    return device, f"PyTorch {where['versions']['torch']}: {legend}."


def others_of(report: Report) -> list[str]:
    """The other libraries that were measured."""
    measured = {entry["library"] for entry in report["results"] if "seconds" in entry}
    return [name for name in tables.libraries(report) if name != OURS and name in measured]


def summary(report: Report) -> list[str]:
    """One device: value + gradient of a few shapes."""
    device, legend = heading(report)
    table, _ = tables.comparison(report, TRAIN, "float32")
    if not table.rows:
        return []
    rows = [row for row in table.rows if row[0] in SHORT] or table.rows
    return [f"**{device}**, {legend}", "", *markdown(dataclasses.replace(table, rows=rows), "Value + gradient"), ""]


def section(stem: str, report: Report) -> list[str]:
    """One device: everything."""
    where = report["environment"]
    device, legend = heading(report)
    lines = [f"## {device}", "", legend, ""]
    for mode, title in ((TRAIN, "Value + gradient"), (INFERENCE, "Inference")):
        table, _ = tables.comparison(report, mode, "float32")
        if table.rows:
            lines += [*markdown(table, title), ""]
    if has_pictures(report):
        lines += [f"![Time of value + gradient against size, {device}](images/{name_of(stem)})", ""]
    lines += [*facts(report), ""]
    measured = ", ".join(f"{name} {where['versions'][name]}" for name in others_of(report))
    commit = f", commit {where['commit'][:10]}" if where["commit"] else ""
    lines += [f"Measured {where['date'][:10]}{commit}" + (f", against {measured}." if measured else "."), ""]
    return lines


def facts(report: Report) -> list[str]:
    """What the tables do not show: memory, growth, Python, ceilings; one bullet each."""
    lines = []
    used: dict[str, dict[int, float]] = {}
    for entry in report["memory"]:
        if entry["mode"] == TRAIN and entry["dtype"] == "float32" and entry["images"] is not None:
            used.setdefault(entry["library"], {})[len(entry["shape"]) - 2] = entry["images"]  # of the largest
    if OURS in used:
        texts = [
            f"{name} " + ", ".join(f"{tables.images(value)} in {dims}D" for dims, value in sorted(values.items()))
            for name, values in used.items()
        ]
        lines.append(f"- Peak memory of value + gradient besides the two images, in images: {'; '.join(texts)}.")
    if report["growth"]:
        worst = max(entry["largest_deviation"] for entry in report["growth"])
        lines.append(
            f"- Time grows with size: per element it changes by at most {100 * worst:.0f} % up to 8 times the size."
        )
    overhead = report["overhead"]
    if overhead and not overhead["computation_included"]:
        lines.append(
            f"- Python: forward + backward of {readable(tuple(overhead['shape']))} keeps it busy for "
            f"{overhead['fused_ssim_seconds'] * 1e6:.0f} µs, {overhead['ratio']:.2f} times a no-op `autograd.Function`."
        )
    entries = [entry for entry in report["results"] if entry["library"] == OURS and entry.get("share_of_fma_rate")]
    if entries:
        best = max(entries, key=lambda entry: float(entry["share_of_fma_rate"]))
        lines.append(
            f"- Of the device's float32 multiply-adds, {OURS} puts up to {tables.percent(best['share_of_fma_rate'])} "
            f"into its filters alone ({readable(tuple(best['shape']))}, {best['mode']})."
        )
    return lines


def markdown(table: tables.Table, title: str) -> list[str]:
    """A Markdown table; this package's column in bold. Columns without a figure, of skipped packages, are left out."""
    kept = [i for i in range(1, len(table.columns)) if any(row[i][:1].isdigit() for row in table.rows)]
    rows = [[row[0], *(f"**{row[i]}**" if i == 1 else row[i] for i in kept)] for row in table.rows]
    return [
        f"| {title} | {' | '.join(table.columns[i] for i in kept)} |",
        "|---" + "|---:" * len(kept) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def name_of(stem: str) -> str:
    return f"benchmark-{stem}-time.png"


def has_pictures(report: Report) -> bool:
    return any(entry["mode"] == TRAIN and "seconds" in entry for entry in report["results"])


def replaced(text: str, new: str, path: Path) -> str:
    """The page with a new part between the marks."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise OutOfDateError(f"{path} must hold the lines {BEGIN} and {END}, once each and in this order")
    return text[: text.index(BEGIN)] + new + text[text.index(END) + len(END) :]


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 if something is out of date.")
@click.option("--root", type=click.Path(file_okay=False, exists=True, path_type=Path), default=ROOT, hidden=True)
def main(check: bool, root: Path) -> None:
    """Write the figures of benchmarks/results/*.json into docs/benchmarks.md and README.md."""
    results = Path("benchmarks") / "results"
    found = load(root / results)
    updated: dict[Path, str] = {}
    for page, short in ((root / "README.md", True), (root / "docs" / "benchmarks.md", False)):
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        new = replaced(text, block(found, results.as_posix(), short), page)
        if new != text:
            updated[page] = new
    stale = [str(page) for page in updated]
    for path, report, digest in found:
        picture = root / PICTURES / name_of(path.stem)
        if has_pictures(report) and not (picture.exists() and digest.encode() in picture.read_bytes()):
            stale.append(str(picture))
            if not check:
                from fused_ssim.cli.bench.figures import draw_all

                picture.parent.mkdir(parents=True, exist_ok=True)
                with TemporaryDirectory() as folder:
                    draw_all(report, Path(folder), f"benchmark-{path.stem}-", {"Source": digest})
                    shutil.copy(Path(folder) / picture.name, picture)
    if check:
        if stale:
            raise OutOfDateError(f"out of date: {', '.join(stale)}; run benchmarks/readme.py")
        return
    for page, new in updated.items():
        page.write_text(new, encoding="utf-8")
    click.echo(f"written: {', '.join(stale)}" if stale else "everything is up to date")


if __name__ == "__main__":
    main()
