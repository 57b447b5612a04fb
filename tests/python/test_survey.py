# SPDX-License-Identifier: MIT
"""`fused-ssim bench --survey`: what is measured and said. Its times are not tested."""

from __future__ import annotations

import copy
import json
import math
from contextlib import ExitStack, contextmanager
from typing import Any

import commandline
import pytest
import torch
from click.testing import CliRunner, Result

import fused_ssim
from fused_ssim.cli.bench import memory, survey, survey_figure, survey_rows, survey_tables, timing
from fused_ssim.cli.bench.cases import INFERENCE, MODES, TRAIN, Plan
from fused_ssim.cli.bench.survey_rows import ROWS, SIZES, Row, Size

CPU = torch.device("cpu")
# The least sides that MS-SSIM takes, and one call a loop.
USUAL = [(1, 2, 176, 177), (1, 1, 44, 45, 46)]
PLAN = Plan(shapes=USUAL, loop_seconds=0.0, repeats=3, case_seconds=0.0)
FEW = (Size((1, 1, 40, 40), (1, 1, 20, 20)), Size((1, 1, 16, 16, 16), (1, 1, 12, 12, 12), limit=1.5))


def bench(*arguments: object) -> Result:
    return commandline.run("bench", *arguments)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """A survey of all rows, as it comes back from a file."""
    found = survey.run(CPU, PLAN, sizes=FEW, commit="0123456789abcdef")
    loaded: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    return loaded


@pytest.fixture
def on_gpu(report: dict[str, Any]) -> dict[str, Any]:
    """The same as if a GPU had measured it: every ratio 1, with the limits of the tables."""
    changed = copy.deepcopy(report)
    changed["environment"].update(device="cuda", driver="1", cuda="13")
    rows = {row.name: row for row in ROWS}
    for entry in changed["results"]:
        entry["limit"] = rows[entry["row"]].limits.get((len(entry["shape"]) - 2, entry["mode"]))
    for entry in [*changed["results"], *changed["sizes"]]:
        entry.update(way="graph", ratio=0.8, ratio_low=0.79, ratio_high=0.81)
    changed["memory"] = [{"shape": [1, 1, 512, 512, 512], "mode": TRAIN, "bytes": 1, "images": 1.5, "limit": 1.6}]
    return changed


def entry_of(report: dict[str, Any], row: str, dims: int, mode: str) -> dict[str, Any]:
    found = [e for e in report["results"] if (e["row"], len(e["shape"]) - 2, e["mode"]) == (row, dims, mode)]
    assert len(found) == 1
    return dict(found[0])


def test_every_row_is_measured_in_every_mode(report):
    expected = {(row.name, dims, mode) for row in ROWS for dims in row.dims for mode in row.modes}
    found = [(entry["row"], len(entry["shape"]) - 2, entry["mode"]) for entry in report["results"]]
    assert len(found) == len(expected)
    assert set(found) == expected
    assert {(tuple(entry["shape"]), entry["mode"]) for entry in report["sizes"]} == {
        (size.small, mode) for size in FEW for mode in MODES
    }
    assert report["failures"] == []


def test_the_file_has_the_expected_fields(report):
    assert set(report) == {
        *("schema", "kind", "environment", "settings", "results", "sizes", "memory", "failures", "seconds")
    }
    assert (report["schema"], report["kind"]) == (1, "survey")
    assert report["environment"]["commit"] == "0123456789abcdef"
    common = {"shape", "mode", "status", "way", "usual_way", "limit", "seconds", "usual_seconds", "rounds"}
    common |= {"ratio", "ratio_low", "ratio_high"}
    for entry in report["results"]:
        assert set(entry) == {*common, "row"}
    for entry in report["sizes"]:
        assert set(entry) == {*common, "usual_shape", "limit_seconds", "ns_per_element"}
    for entry in [*report["results"], *report["sizes"]]:
        assert (entry["status"], entry["way"], entry["limit"]) == ("ok", "loop", None), entry
        assert entry["seconds"] > 0
        assert 0 < entry["ratio_low"] <= entry["ratio_high"]
        assert entry["rounds"] == 3


def test_names_are_unique_and_limits_belong_to_what_is_measured():
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert set(row.limits) <= {(dims, mode) for dims in row.dims for mode in row.modes}
    for size in SIZES:
        assert len(size.large) == len(size.small)
        assert math.prod(size.small) <= math.prod(size.large)


@pytest.mark.parametrize("shape", [(2, 3, 20, 23), (2, 3, 12, 13, 14)])
@pytest.mark.parametrize("name", ["target is a crop", "target transposed", "both transposed", "channels-last"])
def test_layouts_change_strides_and_no_value(name: str, shape: tuple[int, ...]) -> None:
    row = next(row for row in ROWS if row.name == name)
    if len(shape) - 2 not in row.dims:
        return
    assert row.arrange is not None
    x, y = timing.Inputs(shape, "float32", INFERENCE, CPU).pairs[0]
    x2, y2 = row.arrange(x, y)
    assert torch.equal(x, x2)
    assert torch.equal(y, y2)
    assert y2.stride() != y.stride()
    assert (x2.stride() != x.stride()) == (not name.startswith("target"))


def test_rows_call_what_their_names_say():
    shape = (2, 3, 176, 181)
    x, y = timing.Inputs(shape, "float32", INFERENCE, CPU).pairs[0]
    half = torch.rand(2, 1, 176, 181) > 0.5
    expected = {
        "window 7": fused_ssim.fused_ssim(x, y, window_size=7),
        "window by axis": fused_ssim.fused_ssim(x, y, window_size=(7, 11)),
        "padding valid": fused_ssim.fused_ssim(x, y, "valid"),
        "padding reflect": fused_ssim.fused_ssim(x, y, "reflect"),
        "photometric loss": fused_ssim.photometric_loss(x, y),
        "map": fused_ssim.ssim_map(x, y),
        "MS-SSIM": fused_ssim.ms_ssim(x, y, data_range=1.0),
    }
    for name, value in expected.items():
        call = next(row for row in ROWS if row.name == name).prepare(shape, INFERENCE, CPU)
        torch.testing.assert_close(call(x, y), value, msg=name)
    masked = survey_rows.ssim(lambda _shape, _device: half, mask_mode="normalized")(shape, INFERENCE, CPU)
    torch.testing.assert_close(masked(x, y), fused_ssim.fused_ssim(x, y, mask=half, mask_mode="normalized"))
    value, gradient = next(row for row in ROWS if row.name == "map").prepare(shape, TRAIN, CPU)(x.requires_grad_(), y)
    assert value.shape == gradient.shape == torch.Size(shape)


def test_dtypes_are_those_of_the_names():
    for row in ROWS:
        pair = timing.Inputs((1, 1, 16, 16), row.dtype, INFERENCE, CPU, row.arrange).pairs[0]
        if "uint8" in row.name:
            assert pair[1].dtype == torch.uint8
            assert pair[1].max() > 200
        elif "float" in row.name and "mask" not in row.name:
            assert pair[0].dtype == pair[1].dtype == getattr(torch, row.name)
        else:
            assert pair[0].dtype == pair[1].dtype == torch.float32


def test_a_ratio_is_that_of_medians_and_sizes_count_by_element(monkeypatch):
    monkeypatch.setattr(timing, "in_turns", lambda *_: [[1.0, 2.0, 4.0], [6.0, 6.0, 7.0]])
    size = Size((1, 1, 88, 177), (1, 1, 88, 177))
    plan = Plan(shapes=USUAL[:1], modes=(INFERENCE,))
    found = survey.run(CPU, plan, rows=[Row("usual", survey_rows.ssim())], sizes=[size])
    entry = found["results"][0]
    assert (entry["seconds"], entry["usual_seconds"], entry["ratio"]) == (6.0, 2.0, 3.0)
    assert (entry["ratio_low"], entry["ratio_high"]) == (2.375, 4.5)  # the quartiles of 1.75, 3 and 6
    entry = found["sizes"][0]
    assert entry["ratio"] == 12.0  # four times fewer elements
    assert entry["ns_per_element"] == pytest.approx(6e9 / (88 * 177))


def test_what_cannot_be_measured_is_named_and_costs_nothing_else():
    def refuse(*_: Any) -> Any:
        raise ValueError("not this\nnever")

    rows = [Row("refused", refuse), Row("usual", survey_rows.ssim()), Row("fails", lambda *_: refuse)]
    found = survey.run(CPU, Plan(shapes=USUAL[:1], repeats=3, modes=(INFERENCE,)), rows=rows, sizes=())
    assert [entry["status"] for entry in found["results"]] == ["failed", "ok", "failed"]
    assert [entry.get("reason") for entry in found["results"]] == ["not this", None, "not this"]
    said = survey_tables.stands_out(found)
    assert said == ["refused, 2D value: failed: not this", "fails, 2D value: failed: not this"]
    assert survey_tables.rows_table(found).rows[0] == ["refused", "failed"]


def test_a_usual_call_that_fails_does_not_end_the_survey(monkeypatch):
    real = survey.ours
    monkeypatch.setattr(survey, "ours", lambda mode, dims: 1 / 0 if dims == 2 else real(mode, dims))
    plan = Plan(shapes=USUAL, loop_seconds=0.0, repeats=3, case_seconds=0.0, modes=(INFERENCE,))
    found = survey.run(CPU, plan, rows=[Row("usual", survey_rows.ssim())], sizes=())
    assert [len(entry["shape"]) for entry in found["results"]] == [5]
    assert found["failures"] == ["usual call, 1x2x176x177, inference: division by zero"]
    assert found["failures"][0] in survey_tables.stands_out(found)


def test_a_call_that_cannot_be_captured_is_timed_in_loops(monkeypatch):
    @contextmanager
    def captured(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")
        yield

    monkeypatch.setattr(timing, "captured", captured)
    monkeypatch.setattr(timing, "synchronize", lambda _device: None)
    said: list[str] = []
    surveyor = survey._Surveyor(torch.device("cuda", 0), PLAN, said.append)
    inputs = timing.Inputs((1, 1, 16, 16), "float32", INFERENCE, CPU)
    with ExitStack() as stack:
        run, way = surveyor._ready(stack, survey.ours(INFERENCE, 2), inputs)
    assert way == "loop"
    run.start(2)
    assert "not permitted" in said[0]


def test_nothing_stands_out_within_limits(on_gpu):
    assert survey_tables.stands_out(on_gpu) == []
    before, tables, after = survey_tables.everything(on_gpu)
    assert after == ["what stands out (above its limit, or above 3 times the usual): nothing"]
    assert "replays of CUDA graphs" in before[-1]
    assert len(tables) == 3


def test_what_stands_out_is_said_worst_first(on_gpu):
    changes = {("mask, bool", 2, TRAIN): 1.3, ("padding reflect", 3, INFERENCE): 3.1, ("window 33", 2, TRAIN): 3.9,
               ("window 13", 3, TRAIN): 5.0, ("mask, float", 2, TRAIN): 1.26}  # fmt: skip
    for entry in on_gpu["results"]:
        changed = changes.get((entry["row"], len(entry["shape"]) - 2, entry["mode"]))
        if changed:
            entry["ratio"] = changed
    on_gpu["memory"][0]["images"] = 4.0
    on_gpu["sizes"][0].update(seconds=20e-6, limit_seconds=10e-6)
    assert survey_tables.stands_out(on_gpu) == [
        "memory of 1x1x512³: 4.00 images, limit 1.6",
        "window 13, 3D value + gradient: 5.00 times the usual, limit 2.5",
        "1x1x20x20, 2D value + gradient: 0.80 times the usual, limit 0.4",
        "mask, bool, 2D value + gradient: 1.30 times the usual, limit 1.25",
        "padding reflect, 3D value: 3.10 times the usual",
    ]
    assert survey_tables.ratio(entry_of(on_gpu, "window 13", 3, TRAIN)) == "5.00 ± 0.01 > 2.5"
    assert survey_tables.ratio(entry_of(on_gpu, "window 33", 2, TRAIN)) == "3.90 ± 0.01"


def test_survey_is_drawn(report, on_gpu, tmp_path):
    for name, found in (("cpu", report), ("gpu", on_gpu)):
        path = survey_figure.draw_survey(found, tmp_path / "plots" / f"{name}.png")
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 30_000


def test_command_measures_draws_and_shows_again(monkeypatch, tmp_path):
    seen: dict[str, Any] = {}

    def few(where: torch.device, plan: Plan, **options: Any) -> Any:
        seen.update(where=where, plan=plan)
        return real(where, plan, rows=ROWS[:2], sizes=SIZES[7:8], **options)

    real = survey.run
    monkeypatch.setattr(survey, "run", few)
    arguments = ["--survey", "--quick", "--device", "cpu", "--shape", "1x1x32x33", "--json", tmp_path / "a.json"]
    result = bench(*arguments, "--plots", tmp_path)
    assert result.exit_code == 0, result.output
    assert seen["plan"].shapes == seen["plan"].memory_shapes == [(1, 1, 32, 33)]
    for text in ("target is a crop", "256x1x28x28", "1x1x32x33", "what stands out"):
        assert text in result.stdout
    assert (tmp_path / "survey.png").exists()
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert (found["memory"][0]["images"] is not None) == memory.RESET.exists()
    again = bench("--from", tmp_path / "a.json")
    assert again.exit_code == 0
    assert again.stdout == result.stdout


def test_a_survey_without_any_figure_is_an_error(monkeypatch, report):
    empty = {**report, "results": [], "failures": ["usual call, 1x1x32x33, inference: no memory"]}
    monkeypatch.setattr(survey, "run", lambda *_, **__: empty)
    result = bench("--survey", "--device", "cpu", "--shape", "1x1x32x33")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nothing could be measured: usual call, 1x1x32x33, inference: no memory" in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--shape", "1x1x32x32", "--shape", "1x1x64x64"], "one --shape of images and one of volumes"),
        (["--library", "MONAI"], "measures this package alone"),
        (["--dtype", "float16"], "measures this package alone"),
        (["--budget", "3"], "measures this package alone"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, text):
    result = bench("--survey", "--device", "cpu", *arguments)
    assert result.exit_code == 2
    assert text in result.output


def test_default_plans_fit_the_rows():
    for device, quick in ((CPU, True), (CPU, False), (torch.device("cuda", 0), False)):
        plan = survey_rows.survey_plan(device, quick)
        assert [len(shape) for shape in plan.shapes] == [4, 5]
        assert min(plan.shapes[0][2:]) > 160  # five levels of MS-SSIM
        assert min(plan.shapes[1][2:]) > 40  # three levels


def test_performance_page_follows_the_surveys(on_gpu, tmp_path):
    readme = commandline.benchmark_script("readme.py")
    results, docs = tmp_path / "benchmarks" / "results", tmp_path / "docs"
    results.mkdir(parents=True)
    docs.mkdir()
    benchmark = commandline.BENCHMARKS / "results" / "cpu.json"
    (results / "cpu.json").write_bytes(benchmark.read_bytes())
    (results / "survey-gpu.json").write_text(json.dumps(on_gpu), encoding="utf-8")
    pages = [tmp_path / "README.md", docs / "benchmarks.md", docs / "performance.md"]
    for page in pages:
        page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n", encoding="utf-8")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(readme.main, [*arguments, "--root", str(tmp_path)])

    outdated = run("--check")
    assert outdated.exit_code == 1
    assert "performance.md" in outdated.output
    assert "benchmark-survey-gpu.png" in outdated.output
    assert run().exit_code == 0
    assert run("--check").exit_code == 0
    text = pages[2].read_text(encoding="utf-8")
    assert "old" not in text
    assert "| mask, bool | 0.80 ± 0.01 |" in text
    assert "(images/benchmark-survey-gpu.png)" in text
    assert "mask, bool" not in pages[0].read_text(encoding="utf-8") + pages[1].read_text(encoding="utf-8")
    assert (docs / "images" / "benchmark-survey-gpu.png").read_bytes().startswith(b"\x89PNG")


def test_random_calls_are_measured_and_shown_again(tmp_path):
    random_calls = commandline.benchmark_script("random_calls.py")
    path = tmp_path / "calls.json"
    arguments = ["--device", "cpu", "--small", "--minutes", "0.03", "--json", str(path)]
    measured = CliRunner().invoke(random_calls.main, arguments)
    assert measured.exit_code == 0, measured.output
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["failures"] == []
    ratios = [result["ratio"] for result in found["results"]]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] > 0
    again = CliRunner().invoke(random_calls.main, ["--from", str(path)])
    assert again.exit_code == 0, again.output
    assert again.output == measured.output
    table = random_calls.table_of(found["results"])
    assert sum(int(row[4]) for row in table.rows) == len(ratios)


@pytest.mark.cuda
def test_survey_on_cuda_replays_graphs():
    found = survey.run(torch.device("cuda", 0), PLAN, sizes=FEW)
    assert found["failures"] == []
    for entry in [*found["results"], *found["sizes"]]:
        assert (entry["status"], entry["way"], entry["usual_way"]) == ("ok", "graph", "graph"), entry
