# SPDX-License-Identifier: MIT
"""Results as text: a dictionary for JSON, lines of CSV, and the journal from which a run that was stopped goes on.

The journal (--resume FILE) has a line of settings and a line for each pair. A result of it counts if the settings are
the same and neither file has changed since: their sizes and times stand in the line.
"""

from __future__ import annotations

import csv
import json
import math
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fused_ssim.cli.common import Failure
from fused_ssim.cli.results import PairResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fused_ssim.cli.pairs import FilePair
    from fused_ssim.cli.results import Settings

CSV_COLUMNS = (
    "name", "first", "second", "ssim", "psnr", "l1", "ms_ssim", "error", "kind", "shape", "dtype", "data_range",
    "frame", "time", "notes",
)  # fmt: skip


def as_dict(result: PairResult) -> dict[str, Any]:
    """A result for JSON, which has no infinity: the PSNR of identical files is the text "inf"."""
    found = {field.name: getattr(result, field.name) for field in fields(result)}
    found["channels"] = dict(result.channels)
    if result.psnr == math.inf:
        found["psnr"] = "inf"
    return found


def from_dict(values: dict[str, Any]) -> PairResult:
    """The result that `as_dict` wrote."""
    values = {field.name: values[field.name] for field in fields(PairResult)}
    values["psnr"] = math.inf if values["psnr"] == "inf" else values["psnr"]
    values["channels"] = tuple(values["channels"].items())
    return PairResult(**{**values, "notes": tuple(values["notes"]), "shape": tuple(values["shape"])})


def json_line(result: PairResult) -> str:
    """A result as one line of JSON."""
    return json.dumps(as_dict(result))


class CsvWriter:
    """Writes a table of results, line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = _open(path, "w")
        self.writer = csv.writer(self.file)
        self.writer.writerow(CSV_COLUMNS)

    def add(self, result: PairResult) -> None:
        """Adds a line."""
        cells = as_dict(result)
        cells["shape"] = "x".join(map(str, result.shape))
        cells["notes"] = "; ".join(result.notes)
        with _writing(self.path):
            self.writer.writerow(["" if cells[column] is None else cells[column] for column in CSV_COLUMNS])

    def close(self) -> None:
        """Writes what is left."""
        with _writing(self.path):
            self.file.close()


class Journal:
    """The results so far, in a file that a later run reads."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.known: dict[str, tuple[list[int], PairResult]] = {}
        if path.exists() and not path.is_file():
            raise Failure(f"--resume {click.format_filename(path)}: is no plain file; name a new one")
        header = _header(settings)
        text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
        if text:
            self._read(header, text.splitlines())
        self.file = _open(path, "a")
        if not text:
            self._write(header)
        elif not text.endswith("\n"):
            self.file.write("\n")  # the run before was stopped in the middle of a line

    def _read(self, header: dict[str, Any], lines: list[str]) -> None:
        shown = click.format_filename(self.path)
        try:
            found = dict(json.loads(lines[0])["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise Failure(f"--resume {shown}: is no journal of fused-ssim compare; name a new file") from error
        different = [name for name, value in header["settings"].items() if found.get(name) != value]
        if different:
            was = ", ".join(f"{name} {found.get(name)!r} (now {header['settings'][name]!r})" for name in different)
            raise Failure(f"--resume {shown}: was written with other settings: {was}; name a new file")
        for line in lines[1:]:
            # Of a line that was cut off the pair is computed again.
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                values = json.loads(line)
                self.known[values["result"]["name"]] = (values["stamps"], from_dict(values["result"]))

    def result_of(self, pair: FilePair) -> PairResult | None:
        """The result of a pair, if it is known and has not changed. Errors are tried again."""
        stamps, result = self.known.get(pair.name, ([], None))
        if result is None or result.error is not None or (result.first, result.second) != (pair.first, pair.second):
            return None
        return result if stamps == _stamps(pair) else None

    def add(self, pair: FilePair, result: PairResult) -> None:
        """Adds a line, which is on its way to the disk at once; nothing for a result that is from here."""
        _, known = self.known.get(pair.name, ([], None))
        if result is not known:
            self._write({"stamps": _stamps(pair), "result": as_dict(result)})

    def _write(self, values: dict[str, Any]) -> None:
        with _writing(self.path):
            self.file.write(json.dumps(values) + "\n")
            self.file.flush()

    def close(self) -> None:
        """Closes the file."""
        with _writing(self.path):
            self.file.close()


def _header(settings: Settings) -> dict[str, Any]:
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    values["versions"] = dict(settings.versions)
    if settings.mask is not None:
        values["mask"] = [settings.mask, *_stamp(Path(settings.mask))]
    header: dict[str, Any] = json.loads(json.dumps({"settings": values}))  # as it will be read
    return header


def _stamps(pair: FilePair) -> list[int]:
    return [number for path in (pair.first, pair.second) for number in _stamp(Path(path))]


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat() if path.exists() else None
    return (-1, -1) if status is None else (status.st_size, status.st_mtime_ns)


def _open(path: Path, mode: str) -> Any:
    with _writing(path):
        return path.open(mode, newline="", encoding="utf-8", errors="surrogateescape")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What goes wrong while a file is written, as one line that names it."""
    try:
        yield
    except OSError as error:
        raise Failure(f"{click.format_filename(path)}: cannot be written: {error.strerror or error}") from error
