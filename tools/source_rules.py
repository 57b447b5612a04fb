#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two rules for every source file that the linters do not check: python tools/source_rules.py

- It has an SPDX head: `SPDX-License-Identifier: MIT` in one of its first two lines.
- No line is longer than 120 columns. clang-format breaks code but not comments (ReflowComments is Never), and nothing
  formats CMake files and shell scripts. As in ruff, a comment for a linter at the end of a Python line is not counted.

Files are those that git tracks, and those that it would track. Prints what is wrong; exit code 1 if anything is.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("*.c", "*.cpp", "*.h", "*.hpp", "*.cu", "*.py", "*.pyi", "*.cmake", "*CMakeLists.txt", "*.sh", ".ci/run")
HEAD = "SPDX-License-Identifier: MIT"
COLUMNS = 120
PRAGMA = re.compile(r"\s*#\s*(?:type: ignore|noqa|pragma:|pyright:|mypy:).*$")


def problems(name: str, text: str) -> list[str]:
    """What is wrong with a file of that name and text."""
    lines = text.splitlines()
    found = []
    if not any(line.rstrip("*/ ").endswith(HEAD) for line in lines[:2]):
        found.append(f"{name}:1: no SPDX head; expected a comment '{HEAD}' in the first two lines")
    for number, line in enumerate(lines, 1):
        counted = PRAGMA.sub("", line) if name.endswith((".py", ".pyi")) else line
        if len(counted) > COLUMNS:
            found.append(f"{name}:{number}: {len(counted)} columns, expected at most {COLUMNS}")
    return found


def main() -> None:
    """Checks all files."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *SOURCES]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    files = sorted({name for name in names if name and (ROOT / name).is_file()})
    found = [problem for name in files for problem in problems(name, (ROOT / name).read_text(encoding="utf-8"))]
    if found:
        print(*found, sep="\n")
        sys.exit(f"{len(found)} lines break the rules of tools/source_rules.py")
    print(f"{len(files)} source files have an SPDX head and keep {COLUMNS} columns")


if __name__ == "__main__":
    main()
