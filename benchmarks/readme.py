# SPDX-License-Identifier: MIT
"""Writes the figures of benchmarks/results/*.json into docs/benchmarks.md, with pictures; a few into README.md.

Those of surveys (`bench --survey`) go into docs/performance.md.

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

from fused_ssim.cli.bench import survey_tables, tables
from fused_ssim.cli.bench.cases import INFERENCE, TRAIN, readable
from fused_ssim.cli.bench.libraries import OURS
from fused_ssim.cli.bench.survey import KIND

BEGIN = "<!-- benchmark:begin -->"
END = "<!-- benchmark:end -->"
ROOT = Path(__file__).resolve().parent.parent
PICTURES = Path("docs") / "images"
# The shapes that the README shows, of those that were measured; all of them if none of these was.
SHORT = ("1x3x256x256", "1x3x1080x1920", "1x1x64³", "2x3x96³")

Report = dict[str, Any]
Found = list[tuple[Path, Report, str]]  # results with their digests


class OutOfDateError(click.ClickException):
    """Something has to be done by hand, or the script has to be run."""


def load(results: Path) -> tuple[Found, Found]:
    """The results and the surveys, those of GPUs first."""
    found, surveys = [], []
    for path in sorted(results.glob("*.json")):
        data = path.read_bytes()
        report = json.loads(data)
        if report.get("schema") != 1 or not report.get("results"):
            raise OutOfDateError(f"{path} is not a result of benchmarks/bench.py")
        of_kind = surveys if report.get("kind") == KIND else found
        of_kind.append((path, report, hashlib.sha256(data).hexdigest()))
    if not found:
        raise OutOfDateError(f"no results in {results}: run benchmarks/bench.py --json {results}/<device>.json")
    for group in (found, surveys):
        group.sort(key=lambda item: item[1]["environment"]["device"] != "cuda")
    return found, surveys


def block(results: str, parts: list[list[str]]) -> str:
    """What stands between the marks."""
    head = [BEGIN, f"<!-- written by benchmarks/readme.py from {results}/*.json; do not edit -->", ""]
    return "\n".join([*head, *(line for part in parts for line in part), END])


def device_of(report: Report) -> str:
    where = report["environment"]
    more = f" (driver {where['driver']})" if where["device"] == "cuda" else f", {where['threads']} threads"
    return where["device_name"] + more


def heading(report: Report) -> tuple[str, str]:
    """The device, and a line that says what the tables show."""
    others = others_of(report)
    legend = f"milliseconds a call, float32{f'; in brackets, times as long as {OURS}' if others else ''}"
    return device_of(report), f"PyTorch {report['environment']['versions']['torch']}: {legend}."


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
        lines += [f"![Time of value + gradient against size, {device}](images/{name_of(stem, report)})", ""]
    lines += [*facts(report), ""]
    measured = ", ".join(f"{name} {where['versions'][name]}" for name in others_of(report))
    commit = f", commit {where['commit'][:10]}" if where["commit"] else ""
    lines += [f"Measured {where['date'][:10]}{commit}" + (f", against {measured}." if measured else "."), ""]
    return lines


def survey(stem: str, report: Report) -> list[str]:
    """One device: what other arguments, layouts and shapes cost."""
    where, device = report["environment"], device_of(report)
    lines = [
        f"### {device}",
        "",
        f"![What calls cost besides the usual one, {device}](images/{name_of(stem, report)})",
        "",
    ]
    table = survey_tables.rows_table(report)
    lines += [f"{table.title}:", "", *markdown(table, "call", bold=False), ""]
    sizes = survey_tables.sizes_table(report)
    if sizes is not None:
        lines += [f"{sizes.title}:", "", *markdown(sizes, "shape", bold=False), ""]
    peaks = [entry for entry in report["memory"] if entry["images"] is not None]
    if peaks:
        texts = (f"{tables.images(entry['images'])} for {readable(tuple(entry['shape']))}" for entry in peaks)
        lines += [f"Peak memory of value + gradient besides the two images, in images: {', '.join(texts)}.", ""]
    commit = f", commit {where['commit'][:10]}" if where["commit"] else ""
    return [*lines, f"Measured {where['date'][:10]}{commit}, PyTorch {where['versions']['torch']}.", ""]


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


def markdown(table: tables.Table, title: str, bold: bool = True) -> list[str]:
    """A Markdown table; this package's column in bold. Columns without a figure, of skipped packages, are left out."""
    kept = [i for i in range(1, len(table.columns)) if any(row[i][:1].isdigit() for row in table.rows)]
    rows = [[row[0], *(f"**{row[i]}**" if i == 1 and bold else row[i] for i in kept)] for row in table.rows]
    return [
        f"| {title} | {' | '.join(table.columns[i] for i in kept)} |",
        "|---" + "|---:" * len(kept) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def name_of(stem: str, report: Report) -> str:
    return f"benchmark-{stem}.png" if report.get("kind") == KIND else f"benchmark-{stem}-time.png"


def has_pictures(report: Report) -> bool:
    return report.get("kind") == KIND or any(
        entry["mode"] == TRAIN and "seconds" in entry for entry in report["results"]
    )


def replaced(text: str, new: str, path: Path) -> str:
    """The page with a new part between the marks."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise OutOfDateError(f"{path} must hold the lines {BEGIN} and {END}, once each and in this order")
    return text[: text.index(BEGIN)] + new + text[text.index(END) + len(END) :]


def draw(picture: Path, stem: str, report: Report, digest: str) -> None:
    from fused_ssim.cli.bench.figures import draw_all
    from fused_ssim.cli.bench.survey_figure import draw_survey

    picture.parent.mkdir(parents=True, exist_ok=True)
    if report.get("kind") == KIND:
        draw_survey(report, picture, {"Source": digest})
        return
    with TemporaryDirectory() as folder:
        draw_all(report, Path(folder), f"benchmark-{stem}-", {"Source": digest})
        shutil.copy(Path(folder) / picture.name, picture)


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 if something is out of date.")
@click.option("--root", type=click.Path(file_okay=False, exists=True, path_type=Path), default=ROOT, hidden=True)
def main(check: bool, root: Path) -> None:
    """Write the figures of benchmarks/results/*.json into docs/benchmarks.md, docs/performance.md and README.md."""
    results = Path("benchmarks") / "results"
    found, surveys = load(root / results)
    pages = {
        root / "README.md": [summary(report) for _, report, _ in found],
        root / "docs" / "benchmarks.md": [section(path.stem, report) for path, report, _ in found],
    }
    if surveys:
        pages[root / "docs" / "performance.md"] = [survey(path.stem, report) for path, report, _ in surveys]
    updated: dict[Path, str] = {}
    for page, parts in pages.items():
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        new = replaced(text, block(results.as_posix(), parts), page)
        if new != text:
            updated[page] = new
    stale = [str(page) for page in updated]
    for path, report, digest in [*found, *surveys]:
        picture = root / PICTURES / name_of(path.stem, report)
        if has_pictures(report) and not (picture.exists() and digest.encode() in picture.read_bytes()):
            stale.append(str(picture))
            if not check:
                draw(picture, path.stem, report, digest)
    if check:
        if stale:
            raise OutOfDateError(f"out of date: {', '.join(stale)}; run benchmarks/readme.py")
        return
    for page, new in updated.items():
        page.write_text(new, encoding="utf-8")
    click.echo(f"written: {', '.join(stale)}" if stale else "everything is up to date")


if __name__ == "__main__":
    main()
