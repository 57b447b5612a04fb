# SPDX-License-Identifier: MIT
"""`fused-ssim compare` of many pairs: folders, patterns, tables of pairs; statistics, exit status, going on."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from commandline import compare, needs_posix, run, save
from PIL import Image

from fused_ssim.cli import batch, journal, main, report, scoring, summary
from fused_ssim.cli.results import PairResult

COUNT = 12


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of the same names; the noise of the second grows with the number."""
    rng = np.random.default_rng(5)
    sides = tmp_path / "truth", tmp_path / "renders"
    for side in sides:
        (side / "deep" / "er").mkdir(parents=True)
    for number in range(COUNT):
        truth = rng.integers(0, 256, (24, 26, 3), dtype=np.uint8)
        render = np.clip(truth + rng.normal(0, 2 + 4 * number, truth.shape), 0, 255).astype(np.uint8)
        name = f"{'deep/er/' if number % 2 else ''}frame{number}.png"
        for side, values in zip(sides, (truth, render), strict=True):
            save(side / name, values)
    return sides


def lines(*arguments: object, status: int = 0) -> list[dict[str, Any]]:
    result = run("compare", *arguments, "--json", "--device", "cpu")
    assert result.exit_code == status, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


# ---- Pairs -----------------------------------------------------------------------------------------------------------


def test_folders_are_paired_by_relative_name_and_scored_like_pairs(folders: tuple[Path, Path]) -> None:
    found = lines(*folders)
    assert [row["name"] for row in found] == [
        *(f"deep/er/frame{i}.png" for i in range(1, COUNT, 2)),
        *(f"frame{i}.png" for i in range(0, COUNT, 2)),
    ]
    for row in found:
        alone = compare(folders[0] / row["name"], folders[1] / row["name"])
        assert (row["ssim"], row["psnr"], row["l1"]) == (alone["ssim"], alone["psnr"], alone["l1"])


def test_files_of_other_endings_are_partners(folders: tuple[Path, Path]) -> None:
    Image.open(folders[1] / "frame0.png").save(folders[1] / "frame0.tif")
    (folders[1] / "frame0.png").unlink()
    assert len(lines(*folders)) == COUNT
    Image.open(folders[1] / "frame0.tif").save(folders[1] / "frame0.bmp")  # which of the two?
    result = run("compare", *folders)
    assert result.exit_code == 1
    assert "cannot be told apart" in result.output
    assert "1 are only in the first" in result.output


def test_missing_files_are_listed_on_both_sides(folders: tuple[Path, Path]) -> None:
    (folders[0] / "frame2.png").unlink()
    (folders[1] / "deep" / "er" / "frame3.png").unlink()
    (folders[1] / "notes.txt").write_text("no picture")
    result = run("compare", *folders)
    assert result.exit_code == 1
    assert f"{COUNT - 2} of {COUNT - 2} pairs compared" in result.stdout
    assert "1 are only in the first:\n  deep/er/frame3.png" in result.stderr
    assert "1 are only in the second:\n  frame2.png" in result.stderr
    assert "1 files are left out" in result.stderr


def test_patterns_are_paired_by_relative_name(folders: tuple[Path, Path]) -> None:
    assert len(lines(folders[0] / "*.png", folders[1] / "*.png")) == COUNT // 2
    found = lines(folders[0] / "**" / "frame1*.png", folders[1] / "**" / "frame1*.png")
    assert [row["name"] for row in found] == ["deep/er/frame1.png", "deep/er/frame11.png", "frame10.png"]


@pytest.mark.parametrize("header", ["", "first,second\n", "name,second,first\n"])
def test_csv_of_pairs(folders: tuple[Path, Path], header: str) -> None:
    rows = [("truth/frame0.png", "renders/frame2.png"), ("truth/frame2.png", "renders/frame2.png")]
    text = header
    for number, (first, second) in enumerate(rows):
        text += f"n{number},{second},{first}\n" if header.startswith("name") else f"{first},{second}\n"
    table = folders[0].parent / "pairs.csv"
    table.write_text(text)
    found = lines(table)
    assert found[0]["ssim"] < found[1]["ssim"]
    assert found[1]["ssim"] == compare(folders[0] / "frame2.png", folders[1] / "frame2.png")["ssim"]
    assert found[0]["name"] == ("n0" if header.startswith("name") else "truth/frame0.png")


def test_csv_of_one_column_and_folder_against_file_are_errors(folders: tuple[Path, Path]) -> None:
    table = folders[0].parent / "pairs.csv"
    table.write_text("truth/frame0.png\n")
    assert "two paths are expected" in run("compare", table).output
    result = run("compare", folders[0], folders[1] / "frame0.png")
    assert result.exit_code == 2
    assert "is a folder" in result.output
    assert run("compare", folders[0]).exit_code == 2


def test_folders_without_a_common_name_are_an_error(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    (tmp_path / "empty").mkdir()
    result = run("compare", folders[0], tmp_path / "empty")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert f"{COUNT} files are only in the first" in result.output


# ---- What is told ----------------------------------------------------------------------------------------------------


def test_statistics_equal_numpy() -> None:
    values = list(np.random.default_rng(6).random(37))
    found = summary.statistics([*values, float("inf")])
    assert found is not None
    assert found.mean == pytest.approx(np.mean(values), abs=1e-12)
    assert found.percentiles == pytest.approx(np.percentile(values, summary.PERCENTILES), abs=1e-12)
    assert (found.least, found.most) == (min(values), max(values))


def test_tables_show_the_statistics_and_the_worst(folders: tuple[Path, Path]) -> None:
    found = lines(*folders)
    result = run("compare", *folders, "--worst", 3)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    by_name = {row[0]: row[1:] for row in rows if row}
    for column, (name, digits) in enumerate((("ssim", 6), ("psnr", 3), ("l1", 6))):
        scores = [row[name] for row in found]
        for label, expected in (("mean", np.mean(scores)), ("median", np.median(scores)), ("max", max(scores))):
            assert float(by_name[label][column]) == pytest.approx(expected, abs=0.6 * 10**-digits)
    assert float(rows[[row[0] for row in rows].index("25")][2]) == pytest.approx(
        np.percentile([row["ssim"] for row in found], 25), abs=1e-6
    )
    worst = rows[[row[0] for row in rows].index("worst") + 2 :]
    expected = sorted(found, key=lambda row: row["ssim"])[:3]
    assert [row[0] for row in worst] == [row["name"] for row in expected]


def test_csv_holds_every_pair(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    found = lines(*folders, "--csv", tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row["name"] for row in found]
    assert [float(row["ssim"]) for row in rows] == [row["ssim"] for row in found]


def test_unreadable_file_is_listed_and_does_not_end_the_run(folders: tuple[Path, Path]) -> None:
    path = folders[1] / "frame4.png"
    path.write_bytes(path.read_bytes()[:100])
    found = lines(*folders, status=1)
    assert len(found) == COUNT
    (bad,) = (row for row in found if row["error"])
    assert bad["name"] == "frame4.png"
    assert bad["ssim"] is None
    result = run("compare", *folders)
    assert result.exit_code == 1
    assert "1 could not be compared:\n  frame4.png: " in result.stderr
    assert f"{COUNT - 1} of {COUNT} pairs" in result.stdout


def test_fault_of_the_program_is_that_of_its_pair(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    score_files = batch.score_files

    def faulty(name: str, *arguments: Any) -> PairResult:
        if name == "frame6.png":
            raise ZeroDivisionError("a fault")
        return score_files(name, *arguments)

    monkeypatch.setattr(batch, "score_files", faulty)
    errors = [row["error"] for row in lines(*folders, status=1) if row["error"]]
    assert errors == ["ZeroDivisionError: a fault"]


def test_fail_under_looks_at_every_pair(folders: tuple[Path, Path]) -> None:
    scores = [row["ssim"] for row in lines(*folders)]
    low = min(scores)
    assert run("compare", *folders, "--fail-under", low - 1e-6).exit_code == 0
    result = run("compare", *folders, "--fail-under", low + 1e-6)
    assert result.exit_code == 2
    assert f"1 of {COUNT} below" in result.stderr
    a, b = folders[0] / "frame10.png", folders[1] / "frame10.png"
    assert run("compare", a, b, "--fail-under", 0.999).exit_code == 2
    assert run("compare", a, a, "--fail-under", 0.999).exit_code == 0


def test_notes_of_one_kind_are_told_once(tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for number in range(5):
            tifffile.imwrite(tmp_path / side / f"{number}.tif", np.full((12, 12), number, np.uint8), photometric=0)
    result = run("compare", tmp_path / "a", tmp_path / "b")
    identical, note = result.stderr.splitlines()
    assert "5 identical pairs" in identical
    assert "0 is white" in note
    assert "(and 9 more of the kind)" in note


def test_plot_is_drawn(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    assert run("compare", *folders, "--plot", tmp_path / "plot.png").exit_code == 0
    assert np.asarray(Image.open(tmp_path / "plot.png")).std() > 5
    assert run("compare", *folders, "--map", tmp_path / "map.png").exit_code == 2
    pair = folders[0] / "frame0.png", folders[1] / "frame0.png"
    assert run("compare", *pair, "--plot", tmp_path / "plot.png").exit_code == 2


# ---- Going on --------------------------------------------------------------------------------------------------------


def test_resume_computes_what_is_new_or_changed(
    tmp_path: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lines(*folders, "--resume", tmp_path / "journal")
    computed: list[str] = []
    score_files = batch.score_files

    def counting(name: str, *arguments: Any) -> PairResult:
        computed.append(name)
        return score_files(name, *arguments)

    monkeypatch.setattr(batch, "score_files", counting)
    assert lines(*folders, "--resume", tmp_path / "journal") == before
    assert computed == []
    save(folders[1] / "frame2.png", np.zeros((24, 26, 3), np.uint8))
    text = (tmp_path / "journal").read_text().splitlines(keepends=True)
    kept = [line for line in text if "frame8.png" not in line]
    (tmp_path / "journal").write_text("".join(kept) + text[-1][:40])  # a pair is missing, and a line is cut off
    after = lines(*folders, "--resume", tmp_path / "journal")
    assert sorted(computed) == ["frame2.png", "frame8.png"]
    assert [row["name"] for row in after if row not in before] == ["frame2.png"]
    computed.clear()
    assert lines(*folders, "--resume", tmp_path / "journal") == after
    assert computed == []
    result = run("compare", *folders, "--resume", tmp_path / "journal", "--sigma", "2")
    assert result.exit_code == 1
    assert "sigma 1.5 (now 2.0)" in result.output
    (tmp_path / "other").write_text("what is this")
    assert "is no journal" in run("compare", *folders, "--resume", tmp_path / "other").output


@needs_posix
def test_ctrl_c_ends_with_what_is_done_and_the_run_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
    values = rng.integers(0, 256, (700, 700, 3), dtype=np.uint8)
    save(tmp_path / "a" / "0.png", values)
    save(tmp_path / "b" / "0.png", values // 2)
    for number in range(1, 60):
        for side in ("a", "b"):
            os.link(tmp_path / side / "0.png", tmp_path / side / f"{number}.png")
    command = [sys.executable, "-m", "fused_ssim", "compare", "a", "b", "--resume", "journal", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Who runs the tests in the background of a shell has told them to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            path = tmp_path / "journal"
            if path.exists() and len(path.read_text().splitlines()) > 4:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == batch.STOPPED, err
    assert "Traceback" not in err
    assert "stopped: " in err
    assert "pairs compared" in out
    done = len((tmp_path / "journal").read_text().splitlines()) - 1
    assert 3 < done < 60
    result = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "60 of 60 pairs" in result.stdout


def test_result_survives_json() -> None:
    result = PairResult(
        "a", "x", "y", 0.5, float("inf"), 0.1, None, None, ("n",), (3, 4), "image", (("red", 0.25),), 255.0, frame=3
    )
    assert journal.from_dict(json.loads(journal.json_line(result))) == result


# ---- How it runs -----------------------------------------------------------------------------------------------------


def test_results_come_in_order_and_few_tasks_are_ahead() -> None:
    alive, most = 0, 0
    lock = threading.Lock()

    def task(number: int) -> PairResult:
        time.sleep(0.002 * (number % 3))
        return PairResult(str(number), "", "", 1.0, 1.0, 0.0, None, None, (), ())

    def tasks() -> Any:
        nonlocal alive, most
        for number in range(100):
            with lock:
                alive += 1
                most = max(most, alive)
            yield partial(task, number)

    for number, result in enumerate(batch.in_order(tasks(), 3)):
        assert result.name == str(number)
        with lock:
            alive -= 1
    assert number == 99
    assert most <= batch.AHEAD * 3 + 1


def test_scores_do_not_depend_on_the_number_of_workers(folders: tuple[Path, Path]) -> None:
    assert lines(*folders, "--workers", 1) == lines(*folders, "--workers", 4)


# ---- Found by trying to break it -------------------------------------------------------------------------------------


def test_digits_of_other_kinds_sort_as_letters(folders: tuple[Path, Path]) -> None:
    for side, name in itertools.product(folders, ("x1²2.png", "x1².png", "٣.png")):
        shutil.copy(side / "frame0.png", side / name)
    assert len(lines(*folders)) == COUNT + 3


def test_output_that_lacks_the_letters_of_a_name_shows_their_numbers(folders: tuple[Path, Path]) -> None:
    for side in folders:
        shutil.copy(side / "frame0.png", side / "д.png")
    arguments = ["compare", *map(str, folders), "--worst", str(COUNT + 1), "--device", "cpu"]
    result = CliRunner(charset="cp1252").invoke(main, arguments)
    assert (result.exit_code, result.exception) == (0, None)
    assert "\\u0434.png" in result.stdout


def test_letters_with_accents_are_the_same_however_composed(folders: tuple[Path, Path]) -> None:
    shutil.copy(folders[0] / "frame0.png", folders[0] / "nf\u00c7.png")
    shutil.copy(folders[1] / "frame0.png", folders[1] / "nfC\u0327.png")
    assert len(lines(*folders)) == COUNT + 1


@needs_posix
def test_links_are_followed_once_and_one_into_nothing_is_told(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(folders[0] / "frame0.png", tmp_path / "elsewhere" / "z.png")
    for side in folders:
        (side / "link").symlink_to(tmp_path / "elsewhere")
        (side / "loop").symlink_to(tmp_path)
        (side / "deep" / "up").symlink_to(side)
        shutil.copy(side / "frame0.png", side / "broken.png")
    (folders[0] / "broken.png").unlink()
    (folders[0] / "broken.png").symlink_to("nowhere")
    rows = lines(*folders, status=1)
    assert len(rows) == COUNT + 2
    assert [row["name"] for row in rows if row["error"]] == ["broken.png"]
    assert "link/z.png" in [row["name"] for row in rows]
    assert len(lines(folders[0] / "b*.png", folders[1] / "b*.png", status=1)) == 1


def test_folder_that_cannot_be_read_is_an_error(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    result = run("compare", *folders)
    assert (result.exit_code, result.output) == (
        1, f"Error: {folders[0] / 'deep'}: cannot be read: Permission denied\n")  # fmt: skip


def test_hidden_pictures_are_left_out_with_a_note(folders: tuple[Path, Path]) -> None:
    shutil.copy(folders[0] / "frame0.png", folders[0] / ".hidden.png")
    result = run("compare", *folders, "--device", "cpu")
    assert result.exit_code == 0
    assert (
        f"note: {folders[0]}: 1 hidden files and folders, whose names begin with a dot, are left out" in result.stderr
    )


def test_brackets_in_the_name_of_a_folder_are_no_pattern(folders: tuple[Path, Path]) -> None:
    sides = [side.rename(side.with_name(f"{side.name} [1]")) for side in folders]
    assert len(lines(*sides)) == COUNT
    assert len(lines(*(side / "*.png" for side in sides))) == COUNT // 2
    result = run("compare", *(side / "frame99.png" for side in sides))
    assert result.exit_code == 2
    assert "does not exist" in result.output


@pytest.mark.usefixtures("folders")
def test_names_of_a_table_are_unique(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    pair = "truth/frame0.png,renders/frame0.png"
    table.write_text(f"{pair},x\n{pair},x\n{pair},x (2)\n{pair},x\n", encoding="utf-8")
    rows = lines(table)
    assert [row["name"] for row in rows] == ["x", "x (2)", "x (2) (2)", "x (3)"]


def test_table_with_columns_only_is_an_error(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("first,second\n", encoding="utf-8")
    result = run("compare", table)
    assert (result.exit_code, result.output) == (1, f"Error: {table}: has a line of columns and no pairs\n")


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n", b"{}\n", b'{"settings": 3}\n', b'{"settings": null}\n', b"[]\n", b"a,b\n"]
)
def test_resume_from_what_is_no_journal_is_one_line(tmp_path: Path, folders: tuple[Path, Path], content: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    result = run("compare", *folders, "--resume", path, "--device", "cpu")
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert f"--resume {path}: " in result.output
    assert path.read_bytes() == content


def test_journal_with_foreign_lines_is_computed_again_and_does_not_grow(
    tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    path = tmp_path / "journal"
    first = lines(*folders, "--resume", path)
    whole = path.read_text(encoding="utf-8")
    assert lines(*folders, "--resume", path) == first
    assert path.read_text(encoding="utf-8") == whole  # nothing new is written for what is known
    head = whole.splitlines()[0]
    path.write_text(f'{head}\n[]\n3\n{{"stamps": 1, "result": {{"name": ["x"]}}}}\n{{"resu', encoding="utf-8")
    assert lines(*folders, "--resume", path) == first


def test_files_that_are_read_are_not_written(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("truth/frame0.png,renders/frame0.png\n", encoding="utf-8")
    picture, other = folders[0] / "frame0.png", folders[1] / "frame0.png"
    mask = save(tmp_path / "mask.png", np.full((24, 26), 255, np.uint8))
    for arguments, path in (
        ((picture, other, "--map", picture), picture),
        ((picture, other, "--mask", mask, "--map", mask), mask),
        ((*folders, "--plot", other), other),
        ((*folders, "--csv", tmp_path / "renders" / "deep" / ".." / "frame0.png"), other),
        ((table, "--csv", table), table),
    ):
        before = path.read_bytes()
        result = run("compare", *arguments, "--device", "cpu")
        assert (result.exit_code, path.read_bytes()) == (1, before)
        assert "is read, and would be overwritten" in result.output
    result = run("compare", *folders, "--csv", tmp_path / "x", "--resume", tmp_path / "x")
    assert result.exit_code == 2
    assert "--csv and --resume are the same file" in result.output


@pytest.mark.parametrize(
    ("many", "options"),
    [
        (True, ["--per-channel"]),
        (True, ["--map", "m.png"]),
        (True, ["--luma"]),
        (True, ["--worst", "3", "--json"]),
        (False, ["--csv", "c.csv"]),
        (False, ["--plot", "p.png"]),
        (False, ["--resume", "j"]),
        (False, ["--worst", "3"]),
        (False, ["--workers", "1"]),
        (False, ["--luma"]),
    ],
)
def test_option_that_would_be_ignored_is_wrong_usage(
    tmp_path: Path, folders: tuple[Path, Path], many: bool, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("compare", *(side if many else side / "frame0.png" for side in folders), *options)
    assert result.exit_code == 2
    assert f"{options[0]} is for " in result.output


@pytest.mark.parametrize("option", ["--fail-under", "--sigma", "--data-range"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_numbers_that_are_none_are_refused_before_the_work(
    folders: tuple[Path, Path], option: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "score_files", lambda *_: pytest.fail("the work has begun"))
    result = run("compare", *folders, option, value, "--device", "cpu")
    assert result.exit_code in (1, 2)
    assert value in result.output


@needs_posix
def test_full_disk_names_the_file(folders: tuple[Path, Path]) -> None:
    result = run("compare", *folders, "--csv", "/dev/full", "--device", "cpu")
    assert result.exit_code == 1
    assert "Error: /dev/full: cannot be written: No space left on device" in result.output
    result = run("compare", *folders, "--resume", "/dev/full", "--device", "cpu")  # which would be read for ever
    assert (result.exit_code, result.output) == (1, "Error: --resume /dev/full: is no plain file; name a new one\n")


def test_ctrl_c_in_the_report_leaves_nothing_half_written(
    tmp_path: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "show", interrupt)
    result = run("compare", *folders, "--report", tmp_path / "report", "--device", "cpu")
    assert result.exit_code == 130
    assert "stopped: the report is not written" in result.stderr
    assert not list((tmp_path / "report").iterdir())


def test_mask_is_read_once(tmp_path: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    mask = save(tmp_path / "mask.png", np.full((24, 26), 255, np.uint8))
    times = []
    read = scoring.read

    def counting(path: Path, *options: Any) -> Any:
        times.append(path)
        return read(path, *options)

    monkeypatch.setattr(scoring, "read", counting)
    result = run("compare", *folders, "--mask", mask, "--report", tmp_path / "report", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert times.count(mask) == 2  # once for the scores, once for the report
    assert len(times) == 2 + 4 * COUNT


def test_plot_that_cannot_be_drawn_is_one_line(
    tmp_path: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_latex(*_: object, **__: object) -> None:
        raise RuntimeError("'xelatex' not found")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", without_latex)
    result = run("compare", *folders, "--plot", tmp_path / "plot.pgf", "--device", "cpu")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == f"Error: {tmp_path / 'plot.pgf'}: cannot be drawn: 'xelatex' not found"
