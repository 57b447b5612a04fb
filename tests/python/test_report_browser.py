# SPDX-License-Identifier: MIT
"""The HTML report in a real browser: it opens, sorts, slides, and says nothing in the console."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import reports
from browser import Visit, browser, visit
from test_cli_optional import dicom

from fused_ssim.cli.report import write_report
from fused_ssim.cli.results import Settings
from fused_ssim.cli.scoring import score_files


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of five images, a volume and a failure."""
    folder = tmp_path_factory.mktemp("small")
    pairs = [reports.image_pair(folder, f"view_{i}.png", amount, i) for i, amount in enumerate((5, 60, 0.5, 20))]
    pairs.append(reports.image_pair(folder, reports.NASTY, 10.0))
    pairs[0] = dataclasses.replace(pairs[0], psnr=math.inf)
    return write_report(folder / "out", [*pairs, reports.volume_pair(folder), reports.failure()], Settings())


def names(visited: Visit) -> list[str]:
    return visited.page.locator("#pairs tbody tr:not([hidden]) .open").all_inner_texts()


def open_pair(visited: Visit, name: str) -> None:
    visited.page.locator("#pairs .open", has_text=name).click()
    visited.page.wait_for_selector("#viewer[data-shown] .stage")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_opens_in_both_schemes(chromium: object, small: Path, scheme: str) -> None:
    visited = visit(chromium, small, scheme)
    background = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + +b, 0)"
    brightness = visited.page.evaluate(background)
    assert brightness > 600 if scheme == "light" else brightness < 150
    visited.page.click("#theme")
    assert (visited.page.evaluate(background) > 400) == (scheme == "dark")
    assert visited.page.locator("#failures td").all_inner_texts()[0] == "broken.png"
    visited.check_quiet()


def test_table_sorts_by_each_column(chromium: object, small: Path) -> None:
    visited = visit(chromium, small)
    page = visited.page
    first = names(visited)
    assert len(first) == 6
    for key in ("name", "ssim", "psnr", "l1", "size", "notes"):
        head = page.locator(f"#pairs thead button[data-key={key}]")
        for _ in range(2):
            head.click()
            direction = page.locator(f"#pairs thead th:has(button[data-key={key}])").get_attribute("aria-sort")
            if key == "name":
                found = [name for name in names(visited) if name.startswith("view")]
                assert found == sorted(found, reverse=direction == "descending")
                continue
            values = page.evaluate(
                f"[...document.querySelectorAll('#pairs tbody tr')].map((row) => '{key}' === 'size' ? "
                f"row.dataset.size.split(' ').reduce((a, b) => a * b, 1) : Number(row.dataset.{key}))"
            )
            assert values == sorted(values, reverse=direction == "descending")
    visited.check_quiet()


def test_filter_and_histogram_choose_rows(chromium: object, small: Path) -> None:
    visited = visit(chromium, small)
    page = visited.page
    page.fill("#filter", "VIEW_")
    assert sorted(names(visited)) == [f"view_{i}.png" for i in range(4)]
    page.click("#all")
    assert len(names(visited)) == 6
    page.locator(".bar:not([disabled])").first.click()
    assert "view_1.png" in names(visited)
    assert len(names(visited)) < 6
    assert page.inner_text("#count") == f"{len(names(visited))} of 6"
    visited.check_quiet()


def test_slider_moves_by_keyboard_and_pointer(chromium: object, small: Path) -> None:
    visited = visit(chromium, small)
    page = visited.page
    page.focus("#open-worst")
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[data-shown] .stage")
    clip = "getComputedStyle(document.querySelector('#compare .stage > :nth-child(2)')).clipPath"
    before = page.evaluate(clip)
    for _ in range(20):  # the slider has the focus
        page.keyboard.press("ArrowRight")
    after = page.evaluate(clip)
    assert before != after
    assert "60%" in after
    box = page.locator("#compare .stage").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20)
    page.mouse.up()
    assert abs(float(page.input_value("#split")) - 25) <= 0.5
    page.keyboard.press("Escape")
    assert not page.is_visible("#viewer")
    visited.check_quiet()


def test_map_has_the_colours_of_its_scale(chromium: object, small: Path) -> None:
    visited = visit(chromium, small)
    page = visited.page
    open_pair(visited, "view_1.png")
    colour = (
        "[...document.querySelector('#overlay canvas').getContext('2d').getImageData(0, 0, 56, 40).data].slice(0, 4)"
    )
    own = page.evaluate(colour)
    assert own[3] == 255
    page.check("#fixed")
    assert page.inner_text("#scale-low") == "0"
    page.locator("#overlay .stage").hover(position={"x": 30, "y": 30})
    assert page.inner_text("#under-pointer").startswith("SSIM 0.")
    page.focus("#opacity")
    page.keyboard.press("m")
    assert page.input_value("#opacity") == "0"
    visited.check_quiet()


def test_next_and_previous_follow_the_table(chromium: object, small: Path) -> None:
    visited = visit(chromium, small)
    page = visited.page
    listed = names(visited)
    page.click("#open-worst")
    shown = []
    for _ in listed:
        page.wait_for_selector("#viewer .stage")
        shown.append(page.inner_text("#viewer-name"))
        page.keyboard.press("n")
    assert shown == listed
    page.keyboard.press("p")
    assert page.inner_text("#viewer-name") == listed[-2]
    visited.check_quiet()


def test_volume_has_three_planes_with_slices(chromium: object, small: Path) -> None:
    visited = visit(chromium, small)
    page = visited.page
    open_pair(visited, "volume.npy")
    assert page.locator("#compare .stage").count() == 3
    assert page.locator("#overlay .stage").count() == 3
    sliders = page.locator("#slices input")
    assert [sliders.nth(i).get_attribute("max") for i in range(3)] == ["11", "15", "19"]
    # It opens where the map is least: inside of the block that differs.
    depth, column, row = (int(sliders.nth(i).input_value()) for i in range(3))
    assert 2 <= depth < 6
    assert 3 <= column < 8
    assert 11 <= row < 17
    pixels = "document.querySelector('#compare canvas').toDataURL()"
    before = page.evaluate(pixels)
    sliders.nth(0).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(pixels) != before
    assert page.locator("#slices .value").first.inner_text() == f"d = {depth + 1}"
    visited.check_quiet()


def test_dicom_volume_has_x_across_and_z_up(chromium: object, tmp_path: Path) -> None:
    """Its axes are z, y, x: the first plane is a slice as it is stored, the third has the last slice at its top."""
    values = np.zeros((12, 14, 20), np.uint16)
    values[-2:] = 900
    other = values.copy()
    other[3, 5, 7] = 450
    files = [dicom(tmp_path / f"{name}.dcm", each) for name, each in (("a", values), ("b", other))]
    result = score_files("scan.dcm", *files, Settings())
    visited = visit(chromium, write_report(tmp_path / "out", [result], Settings()))
    open_pair(visited, "scan.dcm")
    page = visited.page
    labels = page.locator("#slices .value").all_inner_texts()
    assert [label[:4] for label in labels] == ["z = ", "x = ", "y = "]
    assert "a volume, 12 x 14 x 20 (Z x Y x X), 1 channel" in page.inner_text("#about")
    canvas = page.locator("#compare .stage").nth(2).locator("canvas").first
    column = "e => [...e.getContext('2d').getImageData(0, 0, 1, e.height).data].filter((_, i) => i % 4 === 0)"
    assert canvas.evaluate(column) == [255, 255, *[0] * 10]
    visited.check_quiet()


def test_name_with_markup_does_nothing(chromium: object, small: Path) -> None:
    visited = visit(chromium, small)
    dialogs = []
    visited.page.on("dialog", lambda dialog: (dialogs.append(dialog), dialog.dismiss()))
    open_pair(visited, reports.NASTY)
    assert visited.page.inner_text("#viewer-name") == reports.NASTY
    assert dialogs == []
    visited.check_quiet()


def test_500_pairs_stay_quick(chromium: object, tmp_path: Path) -> None:
    pair = reports.image_pair(tmp_path, "0.png", 20.0)
    pairs = [dataclasses.replace(pair, name=f"view_{i:03d}.png", ssim=0.5 + i / 1000) for i in range(500)]
    path = write_report(tmp_path / "out", pairs, Settings())
    started = time.perf_counter()
    visited = visit(chromium, path)
    assert len(names(visited)) == 500
    opened = time.perf_counter() - started
    sorting = visited.page.evaluate(
        "(() => { const start = performance.now(); document.querySelector('#pairs thead button').click();"
        "document.body.offsetHeight; return performance.now() - start; })()"
    )
    assert opened < 10  # less than 1 s on an idle machine
    assert sorting < 1000  # ms
    visited.check_quiet()
