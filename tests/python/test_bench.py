# SPDX-License-Identifier: MIT
"""The benchmark runs and writes what it promises, and the README follows its figures. Not: how fast anything is."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import commandline
import pytest
import torch
from click.testing import CliRunner, Result

import fused_ssim
from fused_ssim.cli.bench import cases, memory, tables, timing
from fused_ssim.cli.bench.libraries import find


def bench(*arguments: object) -> Result:
    return commandline.run("bench", *arguments)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A quick run on the CPU against one other package."""
    folder = tmp_path_factory.mktemp("bench")
    pytest.importorskip("pytorch_msssim")
    arguments = ["--quick", "--device", "cpu", "--library", "pytorch-msssim", "--commit", "0123456789abcdef"]
    arguments += ["--limit", "1000", "--budget", "1000"]  # everything is measured, however busy the machine is
    result = bench(*arguments, "--json", folder / "result.json", "--plots", folder / "plots")
    assert result.exit_code == 0, result.output
    return folder, result


@pytest.fixture(scope="module")
def report(quick: tuple[Path, Result]) -> dict[str, Any]:
    loaded = json.loads((quick[0] / "result.json").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def assert_finite(value: object) -> None:
    if isinstance(value, dict):
        for item in value.values():
            assert_finite(item)
    elif isinstance(value, list):
        for item in value:
            assert_finite(item)
    elif isinstance(value, float):
        assert math.isfinite(value)


def test_json_has_the_expected_keys_and_finite_numbers(report):
    assert set(report) == {
        *("schema", "environment", "missing", "settings", "ceilings", "results", "memory", "growth", "overhead"),
        "seconds",
    }
    assert_finite(report)
    where = report["environment"]
    assert {"date", "commit", "device", "device_name", "driver", "cpu", "threads", "versions"} <= set(where)
    assert where["commit"] == "0123456789abcdef"
    assert {"python", "torch", "fused-ssim", "pytorch-msssim"} <= set(where["versions"])
    assert report["ceilings"]["bytes_per_second"] > 0
    assert report["overhead"]["ratio"] > 0


def test_every_shape_and_mode_was_measured(report):
    ours = [entry for entry in report["results"] if entry["library"] == "fused-ssim"]
    expected = {
        (tuple(shape), mode) for shape in cases.default_plan(torch.device("cpu"), True).shapes for mode in cases.MODES
    }
    assert {(tuple(entry["shape"]), entry["mode"]) for entry in ours} == expected
    for entry in ours:
        assert entry["status"] == "ok"
        assert 0 < entry["fastest"] <= entry["seconds"] <= entry["slowest"]
        assert entry["share_of_copy_bandwidth"] > 0
        assert entry["least_bytes"] == (12 if entry["mode"] == cases.TRAIN else 8) * math.prod(entry["shape"])


def test_other_packages_agree_or_say_why_they_were_skipped(report):
    others = [entry for entry in report["results"] if entry["library"] != "fused-ssim"]
    assert others
    for entry in others:
        assert entry.get("agrees", True)
        assert entry["status"] == "ok" or entry["reason"]


def test_growth_covers_eight_times_the_size(report):
    assert len(report["growth"]) == 4
    for entry in report["growth"]:
        sizes = [math.prod(shape) for shape in entry["shapes"]]
        assert [size / sizes[0] for size in sizes] == [1, 2, 4, 8]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory of the CPU is measured on Linux only")
def test_memory_of_value_and_gradient_is_at_least_the_gradient(report):
    peaks = {(entry["library"], len(entry["shape"])): entry["images"] for entry in report["memory"]
             if entry["mode"] == cases.TRAIN}  # fmt: skip
    for dims in (4, 5):
        assert peaks["fused-ssim", dims] > 0.9
    # A case where nothing is wrong with the measurement is one where these two differ by far.
    assert peaks["pytorch-msssim", 4] > 3 * peaks["fused-ssim", 4]


def test_memory_is_not_measured_where_its_peak_cannot_be_reset(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "RESET", tmp_path / "clear_refs")
    entries = memory.cpu_peaks("fused-ssim", [(1, 1, 8, 8)])
    assert [entry["mode"] for entry in entries] == list(cases.MODES)
    assert all(entry["bytes"] is None and "Linux only" in entry["reason"] for entry in entries)


def test_tables_name_every_package_and_shape(quick, report):
    text = quick[1].stdout
    for entry in report["results"]:
        assert entry["library"] in text
        assert cases.readable(tuple(entry["shape"])) in text


def test_plots_are_drawn(quick):
    for name in ("time.png", "time-inference.png", "memory.png"):
        data = (quick[0] / "plots" / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) > 10_000


def test_earlier_run_is_shown_without_measuring(quick):
    result = bench("--from", quick[0] / "result.json")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].endswith("commit 0123456789abcdef")


def test_without_time_other_packages_are_left_out_with_the_reason(tmp_path):
    pytest.importorskip("pytorch_msssim")
    arguments = ["--quick", "--device", "cpu", "--library", "pytorch-msssim", "--shape", "1x1x32x32", "--budget", "0"]
    result = bench(*arguments, "--json", tmp_path / "result.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    for kind in ("results", "memory"):
        others = [entry for entry in found[kind] if entry["library"] == "pytorch-msssim"]
        assert others
        assert {entry["reason"] for entry in others} == {"the run had used its 0 s"}


def test_unknown_package_is_refused():
    result = bench("--quick", "--device", "cpu", "--library", "nothing")
    assert result.exit_code == 1
    assert "no package 'nothing'" in result.output


@pytest.mark.parametrize("shape", ["3x64x64", "1x3x0x64", "1x3xax64", "1x3x8x64"])
def test_impossible_shape_is_refused(shape):
    result = bench("--shape", shape)
    assert result.exit_code == 2
    assert shape in result.output


def test_original_package_that_is_not_there_is_explained(tmp_path):
    _, missing = find(tmp_path, [])
    assert tmp_path.name in missing["original fused-ssim"]
    assert "--original" in find(names=["original fused-ssim"])[1]["original fused-ssim"]


@pytest.mark.parametrize("name", ["pytorch-msssim", "MONAI", "frame-analytics"])
def test_other_packages_compute_the_same(name: str) -> None:
    libraries, missing = find(names=[name])
    if name in missing:
        pytest.skip(missing[name])
    library = libraries[1]
    calls = [library.prepare(mode, 2) for mode in cases.MODES]
    assert all(calls)
    x, y = timing.Inputs((2, 3, 40, 45), "float32", cases.TRAIN, torch.device("cpu")).pairs[0]
    value, gradient = calls[0](x, y)
    expected = fused_ssim.fused_ssim(x, y, library.padding)
    assert float(value.detach()) == pytest.approx(expected.item(), abs=1e-5)
    assert float(calls[1](x, y)) == pytest.approx(expected.item(), abs=1e-5)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, x)[0], rtol=1e-3, atol=1e-8)


def test_counts_are_those_of_the_documentation():
    shape2d, shape3d = (1, 1, 10, 10), (1, 1, 10, 10, 10)
    assert cases.least_fmas(shape2d, cases.TRAIN) == 154 * 100
    assert cases.least_fmas(shape3d, cases.TRAIN) == 231 * 1000
    assert cases.least_fmas(shape2d, cases.INFERENCE) == 88 * 100
    assert cases.least_bytes(shape2d, "float16", cases.INFERENCE) == 4 * 100
    limits = cases.Ceilings(1e9, "", 1e12, "")
    assert limits.floor(shape2d, "float32", cases.TRAIN) == pytest.approx(1200 / 1e9)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.00012345, "0.123"), (0.0034567, "3.46"), (0.0345, "34.5"), (1.2345, "1,234")]
)
def test_milliseconds_have_three_digits(seconds, text):
    assert tables.milliseconds(seconds) == text


def test_readme_follows_the_results(quick, tmp_path):
    readme = commandline.benchmark_script("readme.py")
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    data = (quick[0] / "result.json").read_text(encoding="utf-8")
    (results / "here.json").write_text(data, encoding="utf-8")
    readme_page, page = tmp_path / "README.md", tmp_path / "docs" / "benchmarks.md"
    page.parent.mkdir()

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(readme.main, [*arguments, "--root", str(tmp_path)])

    readme_page.write_text("# Title\n\nno marks\n", encoding="utf-8")
    page.write_text(f"# Title\n\nbefore\n{readme.BEGIN}\nold\n{readme.END}\nafter\n", encoding="utf-8")
    assert run().exit_code == 1
    readme_page.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    assert run("--check").exit_code == 1
    assert "old" in page.read_text(encoding="utf-8")

    assert run().exit_code == 0
    text = page.read_text(encoding="utf-8")
    for written in (text, readme_page.read_text(encoding="utf-8")):
        assert written.startswith("# Title\n\nbefore\n<!-- benchmark:begin -->\n")
        assert written.endswith("<!-- benchmark:end -->\nafter\n")
        assert "old" not in written
        assert "| 1x3x64x64 | **" in written
    assert "| Inference |" in text
    for picture in (line.rpartition("(")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")):
        assert (page.parent / picture).exists()
    assert run("--check").exit_code == 0
    assert run().exit_code == 0
    assert page.read_text(encoding="utf-8") == text  # nothing moves the second time

    # Another run of the benchmark: the table and the picture are out of date.
    other = json.loads(data)
    other["results"][0]["seconds"] *= 3
    (results / "here.json").write_text(json.dumps(other), encoding="utf-8")
    outdated = run("--check")
    assert outdated.exit_code == 1
    assert "README.md" in outdated.output
    assert "benchmarks.md" in outdated.output
    assert "benchmark-here-time.png" in outdated.output


@pytest.mark.cuda
@pytest.mark.parametrize("mode", cases.MODES)
def test_graph_and_event_times_on_cuda(mode):
    device, plan = torch.device("cuda", 0), cases.default_plan(torch.device("cuda", 0), True)
    library = find(names=[])[0][0]
    inputs = timing.Inputs((1, 3, 64, 64), "float32", mode, device)
    call = library.prepare(mode, 2)
    assert call is not None
    assert 0 < timing.measure(call, inputs, device, plan).median < 1
    assert 0 < timing.measure_graph(call, inputs, device, plan).median < 1


@pytest.mark.parametrize("content", ["no JSON", "[1]", "{}", "\xff"])
def test_bench_from_a_file_that_is_no_report_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="latin-1")
    result = bench("--from", path)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "is no report of fused-ssim bench" in result.output


def test_bench_that_cannot_write_its_report_says_so_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("fused_ssim.cli.bench.command._measure", lambda *_: pytest.fail("measured before the check"))
    for target in (tmp_path / "file" / "a.json", tmp_path):
        result = bench("--json", target)
        assert result.exit_code in (1, 2)
        assert "Error: " in result.output
