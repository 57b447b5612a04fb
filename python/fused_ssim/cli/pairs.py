# SPDX-License-Identifier: MIT
"""Which files make a pair: two folders or two patterns, by their relative names, or a CSV file."""

from __future__ import annotations

import csv
import glob
import re
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
    return bool(MAGIC.search(text)) and not Path(text).exists()


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
        raise Failure(f"{shown}: holds no pairs")
    columns = [cell.strip().lower() for cell in rows[0]]
    first, second, name = 0, 1, 2
    if "first" in columns and "second" in columns:
        first, second = columns.index("first"), columns.index("second")
        name = columns.index("name") if "name" in columns else len(columns)
        rows = rows[1:]
    found = Pairs()
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        if len(row) <= max(first, second) or not row[first].strip() or not row[second].strip():
            raise Failure(f"{shown}: pair {number} is {','.join(row)!r}; two paths are expected, with a comma between")
        a, b = (str(path.parent / row[column].strip()) for column in (first, second))
        label = row[name].strip() if len(row) > name and row[name].strip() else row[first].strip()
        seen[label] = seen.get(label, 0) + 1
        found.pairs.append(FilePair(label if seen[label] == 1 else f"{label} ({seen[label]})", a, b))
    return found


def pairs_of_folders(first: str, second: str, endings: tuple[str, ...], take_all: bool = False) -> Pairs:
    """The pairs of two folders (all files below them) or patterns, by their names relative to the folder."""
    found = Pairs()
    sides = [_files(text, endings, take_all, found.notes) for text in (first, second)]
    same = sides[0].keys() & sides[1].keys()
    found.pairs = [FilePair(name, sides[0][name], sides[1][name]) for name in same]
    # The others by their name without its ending: x.png and x.jpg.
    rest = [_by_stem((name for name in side if name not in same), endings) for side in sides]
    for stem in rest[0].keys() & rest[1].keys():
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
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", name)]


def _files(text: str, endings: tuple[str, ...], take_all: bool, notes: list[str]) -> dict[str, str]:
    """Relative name -> path."""
    if is_pattern(text):
        parts = Path(text).parts
        magic = next(index for index, part in enumerate(parts) if MAGIC.search(part))
        base = Path(*parts[:magic])
        paths: Iterable[Path] = (Path(name) for name in glob.glob(text, recursive=True))  # noqa: PTH207
        take_all = True
    else:
        base = Path(text)
        paths = (
            path for path in base.rglob("*") if not any(part.startswith(".") for part in path.relative_to(base).parts)
        )
    found: dict[str, str] = {}
    left_out = 0
    for path in paths:
        if not path.is_file():
            continue
        name = path.relative_to(base).as_posix()
        if not take_all and not name.lower().endswith(endings):
            left_out += 1
        elif name.lower().endswith(".img") and path.with_suffix(".hdr").is_file():
            pass  # the pixels of the .hdr beside it
        else:
            found[name] = str(path)
    if left_out:
        notes.append(f"{text}: {left_out} files are left out, as their endings are not those of pictures")
    return found


def _by_stem(names: Iterable[str], endings: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        ending = max((end for end in endings if name.lower().endswith(end)), key=len, default="")
        found.setdefault(name[: len(name) - len(ending)], []).append(name)
    return found
