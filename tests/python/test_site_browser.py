# SPDX-License-Identifier: MIT
"""The documentation site in a real browser, opened from disk: pages load nothing from elsewhere, and the search finds.

The site has to be built before: FUSEDSSIM_SITE names its folder. Without it this is skipped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import browser, visit

SITE = os.environ.get("FUSEDSSIM_SITE")
if not SITE:
    pytest.skip("FUSEDSSIM_SITE names no built site", allow_module_level=True)


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    with browser() as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_open_without_the_network(chromium: object, scheme: str) -> None:
    names = ("index.html", "reference/c.html", "reference/python.html", "notebooks/training.html", "gallery.html")
    for name in names:
        visited = visit(chromium, Path(SITE) / name, scheme)
        broken = visited.page.evaluate("[...document.images].filter((each) => each.naturalWidth === 0).length")
        assert broken == 0, name
        visited.check_quiet()


@pytest.mark.parametrize(
    ("words", "title"),
    [
        ("normalised convolution", "Masks"),
        ("fusedssim_workspace_size", "The C interface"),
        ("photometric_loss", "Python"),
    ],
)
def test_search_finds_from_disk(chromium: object, words: str, title: str) -> None:
    visited = visit(chromium, Path(SITE) / "benchmarks.html")
    visited.page.keyboard.press("/")
    visited.page.keyboard.type(words, delay=10)
    visited.page.wait_for_selector(".md-search-result__item h1")
    assert re.match(r"\d+ matching", visited.page.inner_text(".md-search-result__meta"))
    assert title in visited.page.locator(".md-search-result__item h1").all_inner_texts()
    visited.check_quiet()
