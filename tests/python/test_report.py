# SPDX-License-Identifier: MIT
"""The HTML report: what is on the page, that it holds everything, and that names of files are text. See also
test_report_browser."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import commandline
import numpy as np
import pytest
import reports
from PIL import Image

from fused_ssim.cli import report
from fused_ssim.cli.report import pictures, write_report
from fused_ssim.cli.results import PairResult, Settings
from fused_ssim.cli.scoring import load_pair, ssim_map

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text in each; complains of what is not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def rows(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == "tr" and "data-number" in attributes]

    def names(self) -> list[str]:
        return [text for place, text in self.texts if place == "button" and self.is_name(text)]

    def is_name(self, text: str) -> bool:
        return text.endswith((".png", ".npy"))

    def details(self) -> list[dict[str, object]]:
        found = [text for place, text in self.texts if place == "script" and text.startswith("{")]
        return [json.loads(text) for text in found]


def decoded(address: object) -> np.ndarray:
    assert isinstance(address, str)
    head, _, data = address.partition(",")
    assert re.fullmatch(r"data:image/(webp|png);base64", head)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.fixture
def run(tmp_path: Path) -> list[PairResult]:
    """Four pairs of images, a volume and a failure."""
    found = [reports.image_pair(tmp_path, f"{i}.png", amount, i) for i, amount in enumerate((5.0, 60.0, 0.5))]
    nasty = reports.image_pair(tmp_path, reports.NASTY, 20.0, notes=("<b>note</b>",))
    return [*found, nasty, reports.volume_pair(tmp_path), reports.failure()]


def test_page_has_all_pairs_the_worst_first(run: list[PairResult], tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "new" / "out", run, Settings()))
    scored = [result for result in run if result.ssim is not None]
    expected = sorted(scored, key=lambda result: result.ssim or 0.0)
    assert page.names() == [result.name for result in expected]
    assert [float(row["data-ssim"] or "") for row in page.rows()] == [result.ssim for result in expected]
    texts = [text for _, text in page.texts]
    assert "broken.png: cannot be read: <truncated>" in texts
    for result in scored:
        assert result.ssim is not None
        assert f"{result.ssim:.5f}" in texts
    mean = np.mean([result.ssim for result in scored if result.ssim is not None])
    assert f"{mean:.5f}" in texts


def test_page_holds_everything(run: list[PairResult], tmp_path: Path) -> None:
    path = write_report(tmp_path / "out", run, Settings())
    assert sorted(each.name for each in path.parent.iterdir()) == ["index.html"]
    page = Page(path)
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed", "base", "form", "audio", "video", "source")
        for name in ("src", "href", "srcset", "action", "background", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:"), (tag, name)
        assert tag != "script" or "src" not in attributes
    policies = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"]
    code = "".join(text for place, text in page.texts if place in ("style", "script") and not text.startswith("{"))
    assert not re.search(r"@import|url\(|https?:|fetch\(|XMLHttpRequest|innerHTML|insertAdjacentHTML|eval\(", code)


def test_names_and_notes_are_text(run: list[PairResult], tmp_path: Path) -> None:
    title = "</title><script>alert(2)</script>"
    page = Page(write_report(tmp_path / "out", run, Settings(mask="<i>.png"), title=title))
    assert reports.NASTY in page.names()
    assert ("dd", "<b>note</b>") in page.texts
    assert ("td", "<i>.png") in page.texts
    assert ("h1", title) in page.texts
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not {"b", "i"} & {tag for tag, _ in page.elements}
    assert sum(tag == "script" for tag, _ in page.elements) == 2 + len(page.rows())


def test_pictures_are_those_of_the_files(run: list[PairResult], tmp_path: Path) -> None:
    settings = Settings()
    page = Page(write_report(tmp_path / "out", run, settings))
    results = {result.name: result for result in run}
    for name, details in zip(page.names(), page.details(), strict=True):
        pair = load_pair(results[name], settings)
        assert details["lossless"] is True
        first, second, codes = (decoded(details[key])[..., :3] for key in ("first", "second", "map"))
        low = details["low"]
        assert isinstance(low, float)
        wanted = ssim_map(pair, settings).mean(0)
        if details["kind"] == "volume":
            depth, height, width = wanted.shape
            columns = codes.shape[1] // width
            assert columns * width == codes.shape[1]

            def volume(sheet: np.ndarray) -> np.ndarray:
                grey = sheet[..., 0]
                places = [(i // columns * height, i % columns * width) for i in range(depth)]  # noqa: B023
                return np.stack([grey[y : y + height, x : x + width] for y, x in places])  # noqa: B023

            first, second, codes = map(volume, (first, second, codes))
            np.testing.assert_allclose(first, 255 * pair.first[0], atol=0.51)
            np.testing.assert_allclose(second, 255 * pair.second[0], atol=0.51)
        else:
            np.testing.assert_array_equal(first, np.moveaxis(pair.first, 0, -1))
            np.testing.assert_array_equal(second, np.moveaxis(pair.second, 0, -1))
            codes = codes[..., 0]
        values = low + (codes.astype(float) - 1) / 254 * (1 - low)
        np.testing.assert_allclose(values, wanted, atol=0.51 * (1 - low) / 254)


def test_compare_writes_a_report_of_folders(run: list[PairResult], tmp_path: Path) -> None:
    result = commandline.run("compare", tmp_path / "a", tmp_path / "b", "--report", tmp_path / "out")
    assert result.exit_code == 0, result.output
    page = Page(tmp_path / "out" / "index.html")
    scores = dict(zip(page.names(), (float(row["data-ssim"] or "") for row in page.rows()), strict=True))
    assert set(scores) == {pair.name for pair in run if pair.ssim is not None}
    for pair in run:
        assert pair.ssim is None or scores[pair.name] == pytest.approx(pair.ssim, abs=1e-6)
    assert str(tmp_path / "out" / "index.html") in result.output


def test_masked_pixels_have_no_value_in_the_map(tmp_path: Path) -> None:
    result = reports.image_pair(tmp_path, "0.png", 20.0)
    mask = np.full((40, 56), 255, np.uint8)
    mask[10:20, 5:30] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    details = Page(write_report(tmp_path / "out", [result], Settings(mask=str(tmp_path / "mask.png")))).details()[0]
    np.testing.assert_array_equal(decoded(details["map"])[..., 0] == 0, mask == 0)


def test_report_that_cannot_be_written_is_an_error_before_the_work(tmp_path: Path) -> None:
    reports.image_pair(tmp_path, "0.png", 20.0)
    (tmp_path / "file").touch()
    result = commandline.run("compare", tmp_path / "a", tmp_path / "b", "--report", tmp_path / "file" / "out")
    assert result.exit_code == 1
    reason = ".+" if sys.platform == "win32" else "Not a directory"  # Windows says it in its own language
    beginning = f"Error: {tmp_path / 'file' / 'out'}: cannot be made: "
    assert re.fullmatch(f"{re.escape(beginning)}{reason}\n", result.output)


def test_border_without_values_is_marked_in_the_map(tmp_path: Path) -> None:
    result = reports.image_pair(tmp_path, "0.png", 20.0)
    details = Page(write_report(tmp_path / "out", [result], Settings(padding="valid"))).details()[0]
    codes = decoded(details["map"])[..., 0]
    inside = codes[5:-5, 5:-5]
    assert inside.min() >= 1
    assert np.count_nonzero(codes) == inside.size


def test_values_that_are_no_numbers_do_not_stop_the_page(tmp_path: Path) -> None:
    result = reports.image_pair(tmp_path, "0.png", 20.0)
    odd = [
        dataclasses.replace(result, name="nan.png", ssim=math.nan),
        dataclasses.replace(result, name="same.png", ssim=1.0, psnr=math.inf, l1=0.0),
        result,
    ]
    page = Page(write_report(tmp_path / "out", odd, Settings()))
    assert page.names() == ["nan.png", "0.png", "same.png"]
    assert page.rows()[0]["data-ssim"] == "NaN"
    assert page.rows()[-1]["data-psnr"] == "Infinity"
    assert ("td", "∞") in page.texts


def test_run_without_scores_has_a_page(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "out", [reports.failure()], Settings()))
    assert page.rows() == []
    assert ("td", "broken.png") in page.texts
    Page(write_report(tmp_path / "out", [], Settings()))


def test_file_that_is_gone_leaves_its_scores(tmp_path: Path) -> None:
    result = reports.image_pair(tmp_path, "0.png", 20.0)
    Path(result.first).unlink()
    page = Page(write_report(tmp_path / "out", [result], Settings()))
    assert page.names() == ["0.png"]
    assert page.details() == [{}]
    assert any(place == "dd" and result.first in text for place, text in page.texts)


def test_frames_of_a_film_have_a_line_and_their_own_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    random = np.random.default_rng(0)
    clean = [reports.image(i, 48, 64) for i in range(6)]
    amounts = (2.0, 40.0, 10.0, 0.0, 60.0, 20.0)
    for name, level in (("a.mkv", 0.0), ("b.mkv", 1.0)):
        with av.open(str(tmp_path / name), "w") as film:
            stream = film.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
            for picture, amount in zip(clean, amounts, strict=True):
                noise = random.normal(0, max(level * amount, 1e-9), picture.shape)
                pixels = np.clip(picture + noise, 0, 255).round().astype(np.uint8)
                film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            film.mux(stream.encode())
    monkeypatch.setattr(report, "SHOWN_FRAMES", 4)
    result = commandline.run("compare", tmp_path / "a.mkv", tmp_path / "b.mkv", "--report", tmp_path / "out")
    assert result.exit_code == 0, result.output
    page = Page(tmp_path / "out" / "index.html")
    scores = [float(row["data-ssim"] or "") for row in page.rows()]
    assert scores == sorted(scores)
    order = [int(row["data-number"] or "") for row in page.rows()]
    assert order == [4, 1, 5, 2, 0, 3]
    for number, details in zip(order, page.details(), strict=True):
        if number in order[:4]:
            np.testing.assert_array_equal(decoded(details["first"]), clean[number])
        else:
            assert details == {}
    (line,) = (attributes["points"] for tag, attributes in page.elements if tag == "polyline")
    assert line is not None
    points = [tuple(map(float, point.split(","))) for point in line.split()]
    assert [x for x, _ in points] == [0, 200, 400, 600, 800, 1000]
    assert points[4][1] == 100  # the worst
    assert points[3][1] == 0


def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(report.Failure, match=r"file[/\\]out[/\\]index\.html: cannot be written"):
        write_report(tmp_path / "file" / "out", [], Settings())


def test_pairs_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = reports.image_pair(tmp_path, "0.png", 20.0)
    monkeypatch.setattr(report, "SHOWN", 40)
    begun, done = [], []
    real = report.show
    monkeypatch.setattr(report, "show", lambda *arguments: (begun.append(1), real(*arguments))[1])
    monkeypatch.setattr(report, "default_workers", lambda: 2)
    rows = report._rows([(i, result) for i in range(45)], Settings(), done.append)
    for number, row in enumerate(rows):
        assert row.number == number
        assert len(begun) <= number + 2 * 2 + 1
        assert (row.shown is None) == (number >= 40)
    assert len(done) == 45


@pytest.mark.parametrize("count", [0, 1, 24, 25, 500, 1000])
def test_page_has_a_budget(count: int) -> None:
    levels = pictures.detail_levels(count)
    costs = {tuple(encoder): cost for encoder, cost in pictures.ENCODERS}
    sizes = [level.pixels * costs[tuple(level.encoder)] for level in levels]
    assert len(levels) == count
    assert sum(sizes) <= 1.7 * pictures.PAGE_BYTES
    assert [level.pixels for level in levels] == sorted((level.pixels for level in levels), reverse=True)


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 3), (5, 6, 7)], ids=str)
def test_shrunk_pictures_are_means_of_blocks(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).random(shape)
    axes = 2 if shape[-1] == 3 else len(shape)
    found = pictures._shrunk(array, 2, axes)
    for place in np.ndindex(*found.shape[:axes]):
        block = array[tuple(slice(2 * each, 2 * each + 2) for each in place)]
        np.testing.assert_allclose(found[place], block.mean(tuple(range(axes))))
