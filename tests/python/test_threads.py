# SPDX-License-Identifier: MIT
"""The same bits every time, from any number of threads, after a fork."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import warnings

import pytest
import torch
from images import pair, readable

import fused_ssim

SHAPES = [(2, 3, 75, 131), (1, 2, 21, 35, 43)]
REDUCTIONS = ["mean", "sum", "image", "channel", "none"]

shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)


def run(x, y, reduction="mean", padding="same"):
    value, grads = fused_ssim.value_and_grad(x, y, padding, reduction=reduction, argnums=(0, 1))
    ssim = fused_ssim.fused_ssim3d if x.dim() == 5 else fused_ssim.fused_ssim
    return [value, *grads, ssim(x, y, padding, reduction=reduction)]


def equal(results, others):
    return all(torch.equal(result, other) for result, other in zip(results, others, strict=True))


@shapes
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_results_have_the_same_bits_in_every_run(device, shape, reduction):
    x, y = pair(shape, device=device)
    first = run(x, y, reduction)
    for _ in range(5):
        assert equal(run(x, y, reduction), first)


@shapes
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.usefixtures("restore_threads")
def test_results_have_the_same_bits_for_any_number_of_threads(shape, reduction, padding):
    x, y = pair(shape)
    torch.set_num_threads(1)
    expected = run(x, y, reduction, padding)
    for threads in (2, 3, 7):
        torch.set_num_threads(threads)
        assert equal(run(x, y, reduction, padding), expected)


@shapes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=readable)
def test_results_are_right_from_many_python_threads_at_once(device, shape, dtype):
    pairs = [pair(shape, dtype, device, seed=seed) for seed in range(4)]
    expected = [run(x, y) for x, y in pairs]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda index: run(*pairs[index % 4]), range(48)))
    for index, result in enumerate(results):
        assert equal(result, expected[index % 4])


@shapes
def test_autograd_is_right_from_many_python_threads_at_once(device, shape):
    ssim = fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim
    pairs = [pair(shape, device=device, seed=seed) for seed in range(4)]

    def gradient(index):
        x, y = pairs[index % 4]
        x = x.clone().requires_grad_()
        ssim(x, y).backward()
        return x.grad

    expected = [gradient(index) for index in range(4)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for index, grad in enumerate(pool.map(gradient, range(32))):
            assert torch.equal(grad, expected[index % 4])


def test_errors_belong_to_the_thread_that_made_them():
    x, y = pair((1, 1, 20, 20))

    def window(size):
        try:
            fused_ssim.fused_ssim(x, y, window_size=size)
        except ValueError as error:
            return str(error)
        return ""

    sizes = [2, 4, 11, 6, 35] * 20
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for size, text in zip(sizes, pool.map(window, sizes), strict=True):
            assert (f"window_size = {size}," in text) == (size != 11)


def _in_child(queue, x, y):
    queue.put([result.numpy() for result in run(x, y)])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.usefixtures("restore_threads")
def test_child_process_works_after_use_in_its_parent(method, threads):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    torch.set_num_threads(threads)
    x, y = pair((2, 3, 75, 131))
    expected = run(x, y)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue, x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process of several threads: the point
        child.start()
    try:
        results = queue.get(timeout=120)
        child.join(timeout=30)
        assert child.exitcode == 0
    finally:
        child.kill()
    assert equal([torch.from_numpy(result) for result in results], [result.cpu() for result in expected])
    assert equal(run(x, y), expected)  # and the parent still does


@pytest.mark.parametrize(
    ("prefix", "environment"),
    [("", {"OMP_NUM_THREADS": "1"}), ("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); ", {})],
    ids=["OMP_NUM_THREADS", "affinity"],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_arrays_use_no_more_threads_than_the_process_may(prefix, environment):
    # The threads of a call are there while it runs.
    program = f"""
import os, threading
{prefix}import numpy as np
import fused_ssim
assert fused_ssim.info().cpu_threads == 1
x = np.zeros((2, 3, 700, 700), np.float32)
call = threading.Thread(target=lambda: [fused_ssim.array.value(x, x) for _ in range(10)])
before = len(os.listdir("/proc/self/task"))
call.start()
most = 0
while call.is_alive():
    most = max(most, len(os.listdir("/proc/self/task")))
assert most <= before + 1, (before, most)
"""
    limits = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=limits)
    assert done.returncode == 0, done.stderr
