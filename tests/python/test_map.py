# SPDX-License-Identifier: MIT
"""docs/architecture.md is a map of all source files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("include", "src", "python")


def source_files() -> list[Path]:
    suffixes = {".h", ".hpp", ".cpp", ".cu", ".py", ".pyi"}
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in suffixes)


def words_of_the_tree() -> set[str]:
    """The names of files in the section "The tree"; `error.{h,cpp}` stands for two."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text.split("## The tree\n")[1].split("\n## ")[0]
    words: set[str] = set()
    for word in re.findall(r"[\w./]+(?:\{[\w,]+\})?", tree):
        stem, brace, endings = word.partition("{")
        names = [stem + ending for ending in endings.rstrip("}").split(",")] if brace else [word]
        words.update(name.rpartition("/")[2] for name in names)
    return words


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="not in a source distribution")
def test_every_source_file_is_on_the_map() -> None:
    named = words_of_the_tree()
    trivial = {"__init__.py"}  # those of folders that have a line
    missing = [str(path.relative_to(ROOT)) for path in source_files() if path.name not in named | trivial]
    assert not missing, f"docs/architecture.md, 'The tree', has no line for {missing}"
