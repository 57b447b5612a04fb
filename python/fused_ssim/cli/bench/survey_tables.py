# SPDX-License-Identifier: MIT
"""A survey as tables, and what stands out in it."""

from __future__ import annotations

from fused_ssim.cli.bench.cases import INFERENCE, MODES, TRAIN, readable
from fused_ssim.cli.bench.survey_rows import STANDS_OUT
from fused_ssim.cli.bench.tables import NOTHING, Report, Table, images, is_busy, milliseconds, origin

NOISE = 1.02  # a ratio this much above its limit still keeps it
SHORT = {TRAIN: "value + gradient", INFERENCE: "value"}
OF = {2: "2D", 3: "3D"}


def dims_of(entry: Report) -> int:
    return len(entry["shape"]) - 2


def limit_of(entry: Report) -> float | None:
    """The ratio that an entry may have; of a limit in seconds, the ratio that it would be here."""
    if entry.get("limit_seconds") and "ratio" in entry:
        return float(entry["ratio"] * entry["limit_seconds"] / entry["seconds"])
    limit = entry["limit"]
    return None if limit is None else float(limit)


def is_above_limit(entry: Report) -> bool:
    limit = limit_of(entry)
    return limit is not None and "ratio" in entry and entry["ratio"] > limit * NOISE


def number(value: float) -> str:
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def ratio(entry: Report | None) -> str:
    """A ratio with half the distance of the quartiles of its rounds: `1.69 ± 0.02`; with its limit if it is above."""
    if entry is None:
        return NOTHING
    if "ratio" not in entry:
        return str(entry["status"])
    spread = (entry["ratio_high"] - entry["ratio_low"]) / 2
    text = f"{number(entry['ratio'])} \N{PLUS-MINUS SIGN} {spread:.2f}"
    limit = limit_of(entry)
    return f"{text} > {limit:.3g}" if limit is not None and is_above_limit(entry) else text


def rows_table(report: Report) -> Table:
    """Times of calls as ratios to the usual call of the same shape."""
    entries = report["results"]
    kinds = [(dims, mode) for dims in OF for mode in reversed(MODES) if _any(entries, dims, mode)]
    found = {(entry["row"], dims_of(entry), entry["mode"]): entry for entry in entries}
    rows = [
        [name, *(ratio(found.get((name, *kind))) for kind in kinds)]
        for name in dict.fromkeys(entry["row"] for entry in entries)
    ]
    columns = ["", *(f"{OF[dims]} {SHORT[mode]}" for dims, mode in kinds)]
    usual = " and ".join(readable(tuple(shape)) for shape in report["settings"]["shapes"])
    return Table(f"Time over that of the usual call of the same shape, {usual}", columns, rows)


def sizes_table(report: Report) -> Table | None:
    """Times an element as ratios to the usual shape."""
    entries = report["sizes"]
    if not entries:
        return None
    modes = [mode for mode in reversed(MODES) if any(entry["mode"] == mode for entry in entries)]
    rows = []
    for shape in dict.fromkeys(tuple(entry["shape"]) for entry in entries):
        found = {entry["mode"]: entry for entry in entries if tuple(entry["shape"]) == shape}
        times = (milliseconds(found[mode].get("seconds")) if mode in found else NOTHING for mode in modes)
        rows.append([readable(shape), *(ratio(found.get(mode)) for mode in modes), *times])
    columns = ["", *(SHORT[mode] for mode in modes), *(f"{SHORT[mode]}, ms" for mode in modes)]
    usual = " or ".join(dict.fromkeys(readable(tuple(entry["usual_shape"])) for entry in entries))
    return Table(f"Time an element over that of {usual}", columns, rows)


def memory_table(report: Report) -> Table | None:
    """Peak memory in images."""
    entries = report["memory"]
    if not entries:
        return None
    rows = []
    for entry in entries:
        limit = entry["limit"]
        used = NOTHING if entry["images"] is None else images(entry["images"])
        rows.append([readable(tuple(entry["shape"])), used, NOTHING if limit is None else f"{limit:.3g}"])
    return Table("Peak extra memory, value + gradient", ["", "images", "limit"], rows)


def stands_out(report: Report) -> list[str]:
    """What is above its limit or, without a limit, above `STANDS_OUT` times the usual; and what failed. Worst first."""
    above: list[tuple[float, str]] = []
    failed: list[str] = list(report["failures"])
    for entry in [*report["results"], *report["sizes"]]:
        name = entry.get("row") or readable(tuple(entry["shape"]))
        what = f"{name}, {OF[dims_of(entry)]} {SHORT[entry['mode']]}"
        if "ratio" not in entry:
            failed.append(f"{what}: {entry['status']}: {entry['reason']}")
            continue
        limit = limit_of(entry)
        if is_above_limit(entry) or (limit is None and entry["ratio"] > STANDS_OUT):
            text = f"{what}: {number(entry['ratio'])} times the usual"
            most = STANDS_OUT if limit is None else limit
            above.append((entry["ratio"] / most, text + ("" if limit is None else f", limit {limit:.3g}")))
    for entry in report["memory"]:
        if entry["images"] is not None and entry["limit"] is not None and entry["images"] > entry["limit"] * NOISE:
            text = f"memory of {readable(tuple(entry['shape']))}: {images(entry['images'])} images"
            above.append((entry["images"] / entry["limit"], f"{text}, limit {entry['limit']:.3g}"))
    return [text for _, text in sorted(above, key=lambda item: -item[0])] + failed


def everything(report: Report) -> tuple[list[str], list[Table], list[str]]:
    """Lines before, tables, and lines after: the whole survey in words."""
    tables = [rows_table(report), sizes_table(report), memory_table(report)]
    found = stands_out(report)
    loops = sum(entry.get("way") == "loop" for entry in [*report["results"], *report["sizes"]])
    how = "loops of calls" if loops else "replays of CUDA graphs"
    lines = [f"medians of {how}, in turns with the usual call; \N{PLUS-MINUS SIGN}: half the distance of the quartiles"]
    if loops and report["environment"]["device"] == "cuda":
        lines.append(f"{loops} calls were not captured into a CUDA graph, and the time of the host may count for them")
    if is_busy(report):
        load = report["environment"]["load_before"]
        lines.append(f"the CPU was not idle (load {load:.1f}): ratios of calls that were disturbed mean little")
    title = f"what stands out (above its limit, or above {STANDS_OUT:g} times the usual)"
    after = [f"{title}:", *(f"  {line}" for line in found)] if found else [f"{title}: nothing"]
    return [*origin(report), *lines], [table for table in tables if table is not None], after


def _any(entries: list[Report], dims: int, mode: str) -> bool:
    return any(dims_of(entry) == dims and entry["mode"] == mode for entry in entries)
