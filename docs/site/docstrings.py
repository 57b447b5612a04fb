# SPDX-License-Identifier: MIT
"""For mkdocstrings: the markup of docstrings (references, code, literal blocks) as Markdown, as docs/api.py does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from griffe import Extension, Object

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from api import text


class MarkdownDocstrings(Extension):
    """Rewrites each docstring when its object has been read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """`obj` is a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = text(obj.docstring.value)
