# SPDX-License-Identifier: MIT
"""A real browser for tests: FUSEDSSIM_BROWSER, or a Chromium that is installed, or the one of Playwright.

Tests that use it are skipped where there is none, unless FUSEDSSIM_BROWSER promises one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Visit:
    """A page in the browser, what its console said and what it asked the network for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._note)
        page.set_default_timeout(20_000)

    def _note(self, request: object) -> None:
        url: str = request.url  # type: ignore[attr-defined]
        if not url.startswith(("file:", "data:", "blob:")):
            self.requests.append(url)

    def check_quiet(self) -> None:
        """No error in the console, nothing from the network."""
        assert self.complaints == []
        assert self.requests == []


@contextmanager
def browser() -> Iterator[object]:
    """The browser, which the caller asks for pages."""
    promised = os.environ.get("FUSEDSSIM_BROWSER")
    if promised:
        from playwright import sync_api
    else:
        sync_api = pytest.importorskip("playwright.sync_api")
    found = promised or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_api.sync_playwright() as driver:
        if not found and not Path(driver.chromium.executable_path).exists():
            pytest.skip("no Chromium: install it, or run playwright install chromium")
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = driver.chromium.launch(executable_path=found, args=arguments)
        try:
            yield opened
        finally:
            opened.close()


def visit(opened: object, path: Path, scheme: str = "light") -> Visit:
    """Opens a page from disk."""
    page = opened.new_page(viewport={"width": 1300, "height": 900}, color_scheme=scheme)  # type: ignore[attr-defined]
    visited = Visit(page)
    page.goto(path.resolve().as_uri())
    return visited
