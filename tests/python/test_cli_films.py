# SPDX-License-Identifier: MIT
"""`fused-ssim compare a.mp4 b.mp4`: frame by frame, luma or RGB, and films that are damaged."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import run, save
from PIL import Image

import fused_ssim
from fused_ssim.cli.films import Films
from fused_ssim.cli.results import Settings
from fused_ssim.cli.scoring import load_pair, ssim_map

av = pytest.importorskip("av")

FRAMES, HEIGHT, WIDTH = 25, 48, 64


def frames(seed: int, noise: float) -> list[np.ndarray]:
    """A pattern that moves, with noise from frame 10 on: RGB, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    found = []
    for number in range(FRAMES):
        base = np.stack([128 + 90 * np.sin((x + 2 * number) / 7 + c) * np.cos(y / (5 + c)) for c in range(3)], axis=-1)
        strength = noise * (2 if number == 17 else 1) * (number >= 10)
        found.append(np.clip(base + strength * rng.normal(0, 10, base.shape), 0, 255).astype(np.uint8))
    return found


def film(path: Path, pictures: list[np.ndarray], codec: str, pixels: str, rate: int = 25, **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        stream.time_base = Fraction(1, rate)
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)))
        container.mux(stream.encode())
    return path


def lines(*arguments: object, status: int = 0) -> list[dict[str, Any]]:
    result = run("compare", *arguments, "--json", "--device", "cpu")
    assert result.exit_code == status, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def score(a: np.ndarray, b: np.ndarray, data_range: float = 255.0) -> float:
    """Of arrays (H, W) or (H, W, C)."""
    x, y = (torch.from_numpy(np.atleast_3d(v).astype(np.float64)).permute(2, 0, 1)[None].contiguous() for v in (a, b))
    return fused_ssim.fused_ssim(x, y, train=False, data_range=data_range).item()


@pytest.mark.parametrize(("codec", "pixels", "ending"), [("ffv1", "bgr0", "mkv"), ("libx264rgb", "rgb24", "mp4")])
def test_lossless_film_is_scored_frame_by_frame(tmp_path: Path, codec: str, pixels: str, ending: str) -> None:
    first, second = frames(1, 0), frames(1, 1)
    a, b = (
        film(tmp_path / f"{name}.{ending}", pictures, codec, pixels, **({"crf": "0"} if codec != "ffv1" else {}))
        for name, pictures in (("a", first), ("b", second))
    )
    found = lines(a, b)
    assert [row["frame"] for row in found] == list(range(FRAMES))
    assert [row["time"] for row in found] == pytest.approx([number / 25 for number in range(FRAMES)], abs=1e-3)
    expected = [score(x, y) for x, y in zip(first, second, strict=True)]
    assert [row["ssim"] for row in found] == pytest.approx(expected, abs=1e-9)
    assert expected[0] == 1.0
    assert min(range(FRAMES), key=expected.__getitem__) == 17


@pytest.mark.parametrize(("pixels", "bits"), [("yuv420p", 8), ("yuv420p10le", 10), ("gray", 8)])
def test_luma_is_compared_as_it_is_stored(tmp_path: Path, pixels: str, bits: int) -> None:
    paths = [film(tmp_path / f"{i}.mkv", frames(2, i), "ffv1", pixels) for i in range(2)]
    planes = []
    for path in paths:
        with av.open(str(path)) as container:
            planes.append([frame.reformat(format=pixels).to_ndarray()[:HEIGHT] for frame in container.decode(video=0)])
    found = lines(*paths, "--luma")
    top = 2**bits - 1
    assert {row["data_range"] for row in found} == {top}
    assert [row["ssim"] for row in found] == pytest.approx([score(x, y, top) for x, y in zip(*planes, strict=True)])


def test_deep_film_is_compared_in_more_than_8_bits(tmp_path: Path) -> None:
    paths = [film(tmp_path / f"{i}.mkv", frames(2, i), "ffv1", "yuv444p10le") for i in range(2)]
    found = lines(*paths)
    assert found[-1]["data_range"] == 65535
    assert found[-1]["ssim"] < 1


def test_films_show_statistics_worst_frames_and_a_plot(tmp_path: Path) -> None:
    a, b = (film(tmp_path / f"{i}.mp4", frames(3, i), "libx264", "yuv420p") for i in range(2))
    result = run("compare", a, b, "--worst", 2, "--plot", tmp_path / "plot.png", "--csv", tmp_path / "scores.csv")
    assert result.exit_code == 0, result.output
    assert f"{FRAMES} of {FRAMES} frames" in result.stdout
    worst = result.stdout.splitlines()[-2:]
    assert worst[0].startswith("frame 17 (0.680 s)")
    assert "BT.601" in result.stderr
    assert np.asarray(Image.open(tmp_path / "plot.png")).std() > 5
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == FRAMES + 1


def test_film_with_fewer_frames_is_an_error_after_the_scores(tmp_path: Path) -> None:
    a = film(tmp_path / "a.mkv", frames(4, 0), "ffv1", "bgr0")
    b = film(tmp_path / "b.mkv", frames(4, 0)[:20], "ffv1", "bgr0")
    result = run("compare", a, b)
    assert result.exit_code == 1
    assert "20 of 20 frames" in result.stdout
    assert "only the first 20 are compared" in result.stderr


def test_films_of_different_rates_give_a_note(tmp_path: Path) -> None:
    a = film(tmp_path / "a.mkv", frames(4, 0), "ffv1", "bgr0")
    b = film(tmp_path / "b.mkv", frames(4, 0), "ffv1", "bgr0", rate=30)
    assert "at different times" in run("compare", a, b).stderr


@pytest.mark.parametrize("fault", ["cut", "flipped"])
@pytest.mark.parametrize(("codec", "pixels", "ending"), [("ffv1", "bgr0", "mkv"), ("libx264", "yuv420p", "mp4")])
def test_damaged_film_is_an_error(tmp_path: Path, fault: str, codec: str, pixels: str, ending: str) -> None:
    a = film(tmp_path / f"a.{ending}", frames(5, 1), codec, pixels)
    data = bytearray(a.read_bytes())
    if fault == "cut":
        data = data[: len(data) * 2 // 3]
    else:
        for place in range(len(data) // 3, len(data) // 2, 97):
            data[place] ^= 0x55
    b = tmp_path / f"b.{ending}"
    b.write_bytes(bytes(data))
    result = run("compare", a, b)
    assert result.exit_code == 1, result.output
    assert "b." + ending in result.stderr
    assert "Error: " in result.stderr


def test_film_that_is_cut_off_behind_its_index_is_an_error(tmp_path: Path) -> None:
    a = film(tmp_path / "a.mp4", frames(5, 1), "libx264", "yuv420p")
    with av.open(str(a)) as source, av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = (tmp_path / "b.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert run("compare", a, tmp_path / "b.mp4").exit_code == 0
    (tmp_path / "b.mp4").write_bytes(data[:-40])
    for first in (a, tmp_path / "b.mp4"):
        result = run("compare", first, tmp_path / "b.mp4")
        assert result.exit_code == 1
        assert "b.mp4: cannot be read: the film is damaged or cut off" in result.stderr


def test_film_against_image_is_an_error(tmp_path: Path) -> None:
    a = film(tmp_path / "a.mkv", frames(6, 0)[:3], "ffv1", "bgr0")
    result = run("compare", a, save(tmp_path / "b.png", frames(6, 0)[0]))
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "is a film" in result.output


def test_frame_is_loaded_again_as_it_was_scored(tmp_path: Path) -> None:
    paths = [film(tmp_path / f"{i}.mkv", frames(7, i)[:6] + frames(7, i)[17:19], "ffv1", "yuv420p") for i in range(2)]
    for luma in (False, True):
        settings = Settings(luma=luma)
        films = Films(*paths, settings)
        results = [task() for task in films.tasks()]
        pair = load_pair(results[7], settings)
        assert len(pair.channel_names) == (1 if luma else 3)
        assert ssim_map(pair, settings).mean() == pytest.approx(results[7].ssim, abs=1e-12)
        assert results[7].ssim != results[6].ssim


def test_films_that_do_not_match_are_one_line(tmp_path: Path) -> None:
    pictures = frames(1, 0)[:5]
    a = film(tmp_path / "a.mkv", pictures, "ffv1", "bgr0")
    b = film(tmp_path / "b.mkv", [picture[:-8] for picture in pictures], "ffv1", "bgr0")
    mask = save(tmp_path / "mask.png", np.ones((HEIGHT, WIDTH - 1), bool))
    for arguments, words in (
        ((a, b), "the files do not match"),
        ((a, a, "--mask", mask), "--mask is 48 x 63 with 1 channel"),
    ):
        result = run("compare", *arguments, "--device", "cpu")
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert result.output.count("\n") == 1
        assert words in result.output


def test_luma_of_another_range_is_refused(tmp_path: Path) -> None:
    pictures = frames(1, 0)[:3]
    a = film(tmp_path / "a.mkv", pictures, "ffv1", "yuv420p")
    b = film(tmp_path / "b.mkv", pictures, "mjpeg", "yuvj420p")
    c = film(tmp_path / "c.mkv", pictures, "ffv1", "gray")
    for other in (b, c):
        result = run("compare", a, other, "--luma", "--device", "cpu")
        assert result.exit_code == 1
        assert "is uint8 of full range" in result.output
        assert result.output.count("\n") == 1


def test_deep_grey_film_has_the_range_of_its_bits(tmp_path: Path) -> None:
    a = film(tmp_path / "a.mkv", frames(1, 0)[:2], "ffv1", "gray10le")
    b = film(tmp_path / "b.mkv", frames(1, 3)[:2], "ffv1", "gray10le")
    assert {row["data_range"] for row in lines(a, b, "--luma")} == {1023}
    assert {row["data_range"] for row in lines(a, b)} == {65535}


def test_opacity_of_a_film_is_a_note(tmp_path: Path) -> None:
    a = film(tmp_path / "a.mkv", frames(1, 0)[:2], "ffv1", "yuva420p")
    assert all(any("transparency" in note for note in row["notes"]) for row in lines(a, a))


@pytest.mark.parametrize("options", [["--as", "volume"], ["--background", "white"]])
def test_option_that_films_would_ignore_is_wrong_usage(tmp_path: Path, options: list[str]) -> None:
    a = film(tmp_path / "a.mkv", frames(1, 0)[:2], "ffv1", "bgr0")
    result = run("compare", a, a, *options)
    assert result.exit_code == 2
    assert f"{options[0]} is for one pair of files or many pairs, and here is films" in result.output
