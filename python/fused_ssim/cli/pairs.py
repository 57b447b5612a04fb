# SPDX-License-Identifier: MIT
"""Which files make a pair: two folders or two patterns, by their relative names, or a CSV file."""

from __future__ import annotations

import csv
import glob
import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fused_ssim.cli.common import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class FilePair:
    """Two files to compare, and the name that both have. Small, as there may be very many."""

    name: str
    first: str
    second: str


@dataclass
class Pairs:
    """What was found."""

    pairs: list[FilePair] = field(default_factory=list)
    only_first: list[str] = field(default_factory=list)  # relative names without a partner
    only_second: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_pattern(text: str) -> bool:
    """Whether an argument is a pattern such as 'out/*.png' rather than a file's name."""
    return _split(text) is not None


def pairs_of_csv(path: Path) -> Pairs:
    """The pairs of a CSV file: two paths a line, relative to its folder, and perhaps a name.

    A first line with the columns `first` and `second` (and `name`) may be there; the columns then have any order.
    """
    shown = click.format_filename(path)
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, csv.Error) as error:
        raise Failure(f"{shown}: cannot be read: {error}") from error
    if not rows:
        raise Failure(f"{shown}: is empty; two paths a line are expected")
    columns = [cell.strip().lower() for cell in rows[0]]
    first, second, name = 0, 1, 2
    if "first" in columns and "second" in columns:
        first, second = columns.index("first"), columns.index("second")
        name = columns.index("name") if "name" in columns else len(columns)
        rows = rows[1:]
    found = Pairs()
    names: set[str] = set()
    times: dict[str, int] = {}  # so that many lines of one name take no more time each
    for number, row in enumerate(rows, 1):
        if len(row) <= max(first, second) or not row[first].strip() or not row[second].strip():
            raise Failure(f"{shown}: pair {number} is {','.join(row)!r}; two paths are expected, with a comma between")
        a, b = (str(path.parent / row[column].strip()) for column in (first, second))
        label = row[name].strip() if len(row) > name and row[name].strip() else row[first].strip()
        free, again = label, times.get(label, 1)
        while free in names:
            again += 1
            free = f"{label} ({again})"
        times[label] = again
        names.add(free)
        found.pairs.append(FilePair(free, a, b))
    if not found.pairs:
        raise Failure(f"{shown}: has a line of columns and no pairs")
    return found


def pairs_of_folders(first: str, second: str, endings: tuple[str, ...]) -> Pairs:
    """The pairs of two folders (all files below them) or patterns, by their names relative to the folder."""
    found = Pairs()
    sides = [_files(text, endings, found.notes) for text in (first, second)]
    same = sides[0].keys() & sides[1].keys()
    found.pairs = [FilePair(name, sides[0][name], sides[1][name]) for name in same]
    # The others by their name without its ending: x.png and x.jpg.
    rest = [_by_stem((name for name in side if name not in same), endings) for side in sides]
    for stem in sorted(rest[0].keys() & rest[1].keys()):
        a, b = rest[0][stem], rest[1][stem]
        if len(a) == len(b) == 1:
            found.pairs.append(FilePair(a[0], sides[0][a[0]], sides[1][b[0]]))
            del rest[0][stem], rest[1][stem]
        else:
            found.notes.append(f"{stem}: {', '.join(a)} and {', '.join(b)} cannot be told apart")
    found.pairs.sort(key=lambda pair: natural(pair.name))
    found.only_first, found.only_second = (
        sorted((name for names in side.values() for name in names), key=natural) for side in rest
    )
    return found


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts frame2 before frame10."""
    parts = re.split(r"([0-9]+)", name)  # digits stand at the odd places
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)]


def _files(text: str, endings: tuple[str, ...], notes: list[str]) -> dict[str, str]:
    """Relative name -> path, of a folder or a pattern."""
    pattern = _split(text)
    if pattern is not None:
        base, rest = pattern
        names = glob.glob(rest, root_dir=base, recursive=True)  # noqa: PTH207 # Path.glob follows no links below **
        found = {Path(name).as_posix(): str(base / name) for name in names if _is_file(base / name)}
        left_out = hidden = 0
    else:
        found, left_out, hidden = _below(Path(text), endings)
    for name in [name for name in found if name.lower().endswith(".img")]:
        if Path(found[name]).with_suffix(".hdr").is_file():
            del found[name]  # the pixels of the .hdr beside it
    if left_out:
        notes.append(f"{text}: {left_out} files are left out, as their endings are not those of pictures")
    if hidden:
        notes.append(f"{text}: {hidden} hidden files and folders, whose names begin with a dot, are left out")
    return found


def _split(text: str) -> tuple[Path, str] | None:
    """The folder before the first part that is a pattern, and the rest; None if there is none.

    A folder may be named run[1]: what is there by its name is no pattern.
    """
    parts = Path(text).parts
    base = Path()
    for place, part in enumerate(parts):
        if MAGIC.search(part) and not (base / part).exists():
            return base, str(Path(*parts[place:]))
        base /= part
    return None


def _below(base: Path, endings: tuple[str, ...]) -> tuple[dict[str, str], int, int]:
    """All pictures below a folder, and how many files are left out for their endings, and for a dot before their names.

    Links are followed, but not back into a folder that is being walked through.
    """
    found: dict[str, str] = {}
    left_out = hidden = 0
    ancestors = {str(base): {os.path.realpath(base)}}

    def refuse(error: OSError) -> None:
        shown = click.format_filename(error.filename)
        raise Failure(f"{shown}: cannot be read: {error.strerror or error}") from error

    for folder, folders, files in os.walk(base, onerror=refuse, followlinks=True):
        above = ancestors.pop(folder)
        hidden += sum(name.startswith(".") for name in folders)
        hidden += sum(name.startswith(".") and name.lower().endswith(endings) for name in files)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in list(folders):
            inner = os.path.join(folder, name)  # noqa: PTH118 # as os.walk joins them
            real = os.path.realpath(inner)
            if any(Path(each).is_relative_to(real) for each in above):
                folders.remove(name)
            else:
                ancestors[inner] = {*above, real}
        for name in files:
            path = Path(folder, name)
            if name.startswith(".") or not _is_file(path):
                continue
            if name.lower().endswith(endings):
                found[path.relative_to(base).as_posix()] = str(path)
            else:
                left_out += 1
    return found, left_out, hidden


def _is_file(path: Path) -> bool:
    """Whether this is a file to be read: no pipe, but also a link that leads nowhere, which is to be told."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _by_stem(names: Iterable[str], endings: tuple[str, ...]) -> dict[str, list[str]]:
    """Names by what is before their endings. A letter with an accent is the same letter, however it is composed."""
    found: dict[str, list[str]] = {}
    for name in names:
        ending = max((end for end in endings if name.lower().endswith(end)), key=len, default="")
        stem = name[: len(name) - len(ending)]
        found.setdefault(unicodedata.normalize("NFC", stem), []).append(name)
    return found
