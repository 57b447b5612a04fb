# SPDX-License-Identifier: MIT
"""The examples run, and show what they claim."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from systems import NO_GLOO, gloo_is_missing

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_training_loop_learns(device):
    before, after = load("training_loop").train(60, device, size=40)
    assert after > before + 0.05


def test_masked_fit_leaves_the_hole_alone():
    change = load("masked_fit").main(60)
    assert change["normalized"] == 0
    assert change["weight"] > 0.01
    assert change["no mask"] > 0.3


def test_jax_fit_finds_the_picture():
    pytest.importorskip("jax", minversion="0.6")
    before, after = load("jax_fit").main(60)
    assert after > before + 0.3


def test_folder_metric_gives_the_mean_of_the_images(tmp_path, capsys):
    pytest.importorskip("torchmetrics")
    metrics = pytest.importorskip("skimage.metrics")
    random = np.random.default_rng(0)
    scores = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        clean = random.integers(0, 255, (40 + number, 50, 3), dtype=np.uint8)
        noisy = np.clip(clean + random.normal(0, 20, clean.shape), 0, 255).astype(np.uint8)
        Image.fromarray(clean).save(tmp_path / "a" / f"{number}.png")
        Image.fromarray(noisy).save(tmp_path / "b" / f"{number}.png")
        scores.append(
            metrics.structural_similarity(
                np.pad(clean, ((10, 10), (10, 10), (0, 0))),  # zeros, as padding "same" has
                np.pad(noisy, ((10, 10), (10, 10), (0, 0))),
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=255,
                channel_axis=-1,
                full=True,
            )[1][10:-10, 10:-10].mean()
        )
    mean = load("folder_metric").main(tmp_path / "a", tmp_path / "b")
    assert abs(mean - np.mean(scores)) <= 1e-6
    assert "0.png" in capsys.readouterr().out


@pytest.mark.skipif(gloo_is_missing(), reason=NO_GLOO)
def test_sharded_volume_agrees_with_the_whole():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, str(EXAMPLES / "sharded_volume.py")]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    for rank, output in enumerate(outputs):
        assert f"rank {rank} of 2" in output


def test_fit_with_one_call_has_the_losses_of_separate_terms(device):
    torch.manual_seed(0)
    assert load("splatting_step").main(200, 40, 56, device, rounds=4) <= 1e-5
