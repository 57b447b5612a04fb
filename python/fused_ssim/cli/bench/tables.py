# SPDX-License-Identifier: MIT
"""A run as tables: rows of text, for the terminal and for Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fused_ssim.cli.bench.cases import TRAIN, readable
from fused_ssim.cli.bench.libraries import OURS

Report = dict[str, Any]
NOTHING = "-"
TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Table:
    """A title, column names, and rows of text."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def milliseconds(seconds: float | None) -> str:
    """In ms, three digits or so."""
    if seconds is None:
        return NOTHING
    value = seconds * 1e3
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.01 else 4}f}"


def factor(value: float) -> str:
    """A ratio with the multiplication sign: 3.4, 120."""
    return (f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}") + TIMES


def percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.0f} %"


def libraries(report: Report) -> list[str]:
    """The packages with at least one entry, this one first."""
    return list(dict.fromkeys(entry["library"] for entry in report["results"]))


def find(entries: list[Report], **wanted: Any) -> Report | None:
    return next((entry for entry in entries if all(entry.get(key) == value for key, value in wanted.items())), None)


def modes(report: Report) -> list[str]:
    return list(dict.fromkeys(entry["mode"] for entry in report["results"]))


def dtypes(report: Report) -> list[str]:
    return list(dict.fromkeys(entry["dtype"] for entry in report["results"]))


def comparison(report: Report, mode: str, dtype: str) -> tuple[Table, list[str]]:
    """Times of all packages in ms, others with their factor to this one; and why cells are empty."""
    names = libraries(report)
    graphs = any("graph_seconds" in entry for entry in report["results"])
    entries = [entry for entry in report["results"] if entry["mode"] == mode and entry["dtype"] == dtype]
    names = [name for name in names if any(entry["library"] == name for entry in entries)]
    columns = ["shape", OURS, *(["CUDA graph"] if graphs else []), *(name for name in names if name != OURS)]
    rows, notes = [], []
    for shape in dict.fromkeys(tuple(entry["shape"]) for entry in entries):
        ours = find(entries, library=OURS, shape=list(shape))
        base = ours.get("seconds") if ours else None
        row = [readable(shape), milliseconds(base)]
        if graphs:
            row.append(milliseconds(ours.get("graph_seconds") if ours else None))
        for name in names:
            if name == OURS:
                continue
            entry = find(entries, library=name, shape=list(shape))
            if entry is None:
                row.append(NOTHING)
            elif "seconds" in entry:
                seconds = entry["seconds"]
                row.append(milliseconds(seconds) + (f" ({factor(seconds / base)})" if base else ""))
            else:
                row.append(entry["status"])
                notes.append(f"{name}, {readable(shape)}, {mode}: {entry['status']}: {entry['reason']}")
            if entry is not None and entry.get("agrees") is False:
                notes.append(f"{name}, {readable(shape)}: its value differs by {entry['difference']:.1e}")
        rows.append(row)
    return Table(f"{mode[0].upper()}{mode[1:]}, {dtype}: ms a call", columns, rows), notes


def memory(report: Report, mode: str = TRAIN, dtype: str = "float32") -> Table | None:
    """Peak extra memory of a call in units of one image."""
    entries = [entry for entry in report["memory"] if entry["mode"] == mode and entry["dtype"] == dtype]
    if not entries:
        return None
    names = list(dict.fromkeys(entry["library"] for entry in entries))
    rows = []
    for shape in dict.fromkeys(tuple(entry["shape"]) for entry in entries):
        row = [readable(shape)]
        for name in names:
            entry = find(entries, library=name, shape=list(shape))
            known = entry is not None and entry["images"] is not None
            row.append(images(entry["images"]) if entry is not None and known else NOTHING)
        rows.append(row)
    return Table(f"Peak extra memory, {mode}, {dtype}: in images", ["shape", *names], rows)


def images(value: float) -> str:
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def ceilings(report: Report) -> Table:
    """The share of both ceilings that this package reaches, in its fastest way of being called."""
    rows = []
    for entry in report["results"]:
        if entry["library"] == OURS and "seconds" in entry:
            best = min(entry["seconds"], entry.get("graph_seconds", entry["seconds"]))
            rows.append(
                [
                    readable(tuple(entry["shape"])),
                    entry["dtype"],
                    entry["mode"],
                    milliseconds(best),
                    milliseconds(entry["floor_seconds"]),
                    percent(entry["share_of_copy_bandwidth"]),
                    percent(entry["share_of_fma_rate"]),
                    f"{entry['ns_per_element']:.4g}",
                ]
            )
    columns = ["shape", "dtype", "mode", "best ms", "floor ms", "of copy rate", "of FMA rate", "ns/element"]
    return Table(f"{OURS} against the ceilings of the device", columns, rows)


def growth(report: Report) -> Table | None:
    """Time per element over size."""
    if not report["growth"]:
        return None
    rows = [
        [
            readable(tuple(entry["shapes"][0])),
            entry["mode"],
            *(f"{cost:.4g}" for cost in entry["ns_per_element"]),
            percent(entry["largest_deviation"]),
        ]
        for entry in report["growth"]
    ]
    columns = ["from", "mode", *(f"{size}{TIMES}" for size in (1, 2, 4, 8)), "deviation"]
    return Table(f"{OURS}, ns an element as the size grows", columns, rows)


def overhead(report: Report) -> str:
    """One line on the cost of Python."""
    entry = report["overhead"]
    computed = ", the computation included" if entry["computation_included"] else ""
    return (
        f"Python, forward + backward of {readable(tuple(entry['shape']))}{computed}: "
        f"{entry['fused_ssim_seconds'] * 1e6:.1f} us; a no-op autograd.Function with two saved tensors "
        f"{entry['noop_seconds'] * 1e6:.1f} us; ratio {entry['ratio']:.2f}"
    )


def origin(report: Report) -> list[str]:
    """The date, the device and the versions, line by line."""
    where = report["environment"]
    device = where["device_name"]
    if where["device"] == "cuda":
        device += f", driver {where['driver'] or 'unknown'}, CUDA {where['cuda']}; host: {where['cpu']}"
    else:
        device += f", {where['threads']} threads"
    return [
        f"{where['date']}, commit {where['commit'] or 'unknown'}",
        device,
        ", ".join(f"{name} {version}" for name, version in where["versions"].items()),
    ]


def heading(report: Report) -> list[str]:
    """Where the figures come from, and the ceilings of the device, line by line."""
    limits = report["ceilings"]
    rate = limits["fmas_per_second"]
    return [
        *origin(report),
        f"copy {limits['bytes_per_second'] / 1e9:,.0f} GB/s ({limits['bytes_source']})",
        f"FMA {'unknown' if rate is None else f'{rate / 1e12:.3g} T/s'} ({limits['fmas_source']})",
    ]


def is_busy(report: Report) -> bool:
    """Whether others were at work on the CPU that was measured."""
    where = report["environment"]
    return where["device"] == "cpu" and (where["load_before"] or 0) > 0.3


def everything(report: Report) -> tuple[list[str], list[Table], list[str]]:
    """Lines before, tables, and lines after: the whole report in words."""
    tables = [ceilings(report)]
    table = growth(report)
    if table:
        tables.append(table)
    table = memory(report)
    if table:
        tables.append(table)
    notes = []
    for dtype in dtypes(report):
        for mode in modes(report):
            table, more = comparison(report, mode, dtype)
            tables.append(table)
            notes += more
    notes += [f"{name}: {reason}" for name, reason in report["missing"].items()]
    # Who computes what: leaving the border out is less work.
    paddings: dict[str, list[str]] = {}
    for entry in report["results"]:
        names = paddings.setdefault(entry["padding"], [])
        if entry["library"] not in names:
            names.append(entry["library"])
    notes.append("padding: " + "; ".join(f"{padding}: {', '.join(names)}" for padding, names in paddings.items()))
    if is_busy(report):
        load = report["environment"]["load_before"]
        notes.append(f"the CPU was not idle (load {load:.1f}): packages whose threads spin suffer most")
    return heading(report), tables, [*([overhead(report)] if report["overhead"] else []), *notes]
