# SPDX-License-Identifier: MIT
"""docs/architecture.md is a map of all source files, and of no others."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("include", "src", "python")
SUFFIXES = (".h", ".hpp", ".cpp", ".cu", ".py", ".pyi")


def names_of_source_files() -> Counter[str]:
    """How many files there are of each name. An `__init__.py` needs no line: its folder has one."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    return Counter(path.name for path in paths if path.name != "__init__.py")


def names_on_the_map() -> Counter[str]:
    """How often the section "The tree" names a file; `error.{h,cpp}` stands for two."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("## The tree\n")[1].split("\n## ")[0]
    tree = "\n".join(line for line in section.splitlines() if line.startswith("    "))
    found: Counter[str] = Counter()
    for word in re.findall(r"[\w./]+(?:\{[\w,]+\})?", tree):
        stem, brace, endings = word.rstrip(".").partition("{")
        names = [stem + ending for ending in endings.rstrip("}").split(",")] if brace else [stem]
        found.update(name.rpartition("/")[2] for name in names if name.endswith(SUFFIXES))
    del found["__init__.py"]
    return found


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="not in a source distribution")
def test_map_names_every_source_file_and_no_other() -> None:
    files, named = names_of_source_files(), names_on_the_map()
    assert not files - named, "docs/architecture.md, 'The tree', has no line for these files (of that name)"
    assert not set(named) - set(files), "docs/architecture.md, 'The tree', names files that are not there"
