# SPDX-License-Identifier: MIT
"""What only CUDA has: streams, graphs, devices, images too large for 32-bit indices."""

from __future__ import annotations

import functools
import subprocess
import sys

import oracle
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from tolerances import GRADIENT, VALUE

import fused_ssim

pytestmark = pytest.mark.cuda

SHAPES = [(2, 3, 67, 131), (1, 2, 21, 35, 43)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)


def ssim_of(shape):
    return fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim


@shapes
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_work_is_enqueued_on_the_current_stream(shape, reduction):
    x, y = pair(shape)
    expected, expected_x, _ = oracle.ssim_and_grads(x, y, reduction=reduction)
    on_device = x.cuda(), y.cuda()
    for _ in range(10):
        late_x, late_y = torch.zeros_like(on_device[0]), torch.zeros_like(on_device[1])
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Whatever does not wait for this stream reads zeros, or writes before it is overwritten.
            torch.cuda._sleep(20_000_000)
            late_x.copy_(on_device[0])
            late_y.copy_(on_device[1])
            value = ssim_of(shape)(late_x.requires_grad_(), late_y, reduction=reduction)
            value.backward(torch.ones_like(value))
            result, grad = value.detach().clone(), late_x.grad.clone()
        stream.synchronize()
        assert relative_error(result, expected) <= 1e-5
        assert relative_error(grad, expected_x) <= GRADIENT[torch.float32]


@shapes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=readable)
@pytest.mark.parametrize("reduction", ["mean", "channel", "none"])
def test_forward_and_backward_can_be_captured_in_a_graph(shape, reduction, dtype):
    x, y = (image.cuda() for image in pair(shape, dtype))
    x.requires_grad_()
    # A power of two that keeps the gradients within the range of float16.
    upstream = torch.full_like(
        ssim_of(shape)(x.detach(), y, reduction=reduction), 1.0 if reduction == "none" else 4096.0
    )
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            torch.autograd.grad(ssim_of(shape)(x, y, reduction=reduction), x, upstream)
    torch.cuda.current_stream().wait_stream(stream)

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = ssim_of(shape)(x, y, reduction=reduction)
        (grad,) = torch.autograd.grad(value, x, upstream)
    for seed in (7, 8):
        new_x, new_y = pair(shape, dtype, seed=seed)
        with torch.no_grad():
            x.copy_(new_x)
            y.copy_(new_y)
        graph.replay()
        torch.cuda.synchronize()
        expected, expected_x, _ = oracle.ssim_and_grads(new_x, new_y, reduction=reduction, upstream=upstream)
        assert relative_error(value, expected) <= 1e-5
        assert relative_error(grad, expected_x) <= GRADIENT[dtype]


@shapes
def test_calls_and_replays_that_overlap_do_not_mix_up_their_sums(shape):
    """The last block of a launch computes the value from the sums that all blocks leave in the workspace."""
    images = [tuple(image.cuda() for image in pair(shape, seed=seed)) for seed in range(4)]
    values = [float(ssim_of(shape)(x, y)) for x, y in images]
    streams = [torch.cuda.Stream() for _ in images]
    graphs, replayed = [], []
    for (x, y), stream in zip(images, streams, strict=True):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            replayed.append(ssim_of(shape)(x, y))
        graphs.append(graph)
    torch.cuda.synchronize()
    called: list[list[torch.Tensor]] = [[] for _ in images]
    for _ in range(50):
        for (x, y), stream, graph, results in zip(images, streams, graphs, called, strict=True):
            with torch.cuda.stream(stream):
                graph.replay()
                results.append(ssim_of(shape)(x, y))
    torch.cuda.synchronize()
    assert [float(value) for value in replayed] == values
    for results, value in zip(called, values, strict=True):
        assert {float(result) for result in results} == {value}


@shapes
def test_nothing_synchronises_with_the_host(shape):
    x, y = (image.cuda() for image in pair(shape))
    x.requires_grad_()

    def step():
        return torch.autograd.grad(ssim_of(shape)(x, y), x)

    for _ in range(3):  # loads the code, fills the cache of the allocator
        step()
    torch.cuda.synchronize()
    torch.cuda._sleep(1_000_000_000)
    step()
    done = torch.cuda.Event()
    done.record()
    assert not done.query()
    torch.cuda.synchronize()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
@shapes
def test_work_goes_to_the_device_of_the_images(shape):
    x, y = pair(shape)
    expected, expected_x, _ = oracle.ssim_and_grads(x, y)
    assert torch.cuda.current_device() == 0
    x, y = x.to("cuda:1").requires_grad_(), y.to("cuda:1")
    value = ssim_of(shape)(x, y)
    value.backward()
    assert value.device == x.grad.device == torch.device("cuda:1")
    assert torch.cuda.current_device() == 0
    assert absolute_error(value, expected) <= VALUE[torch.float32]
    assert relative_error(x.grad, expected_x) <= GRADIENT[torch.float32]


def test_inference_takes_next_to_no_memory():
    x, y = (image.cuda() for image in pair((4, 3, 512, 512)))
    fused_ssim.fused_ssim(x, y, train=False)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad():
        value = fused_ssim.fused_ssim(x, y)
    assert torch.cuda.max_memory_allocated() - before <= 64 * 1024
    assert value.shape == ()


# ---- More elements than 2**31 ----------------------------------------------------------------------------------------

GIB = 2**30


def needs_memory(gib: float) -> None:
    torch.cuda.empty_cache()
    if torch.cuda.mem_get_info()[0] < gib * GIB:
        pytest.skip(f"less than {gib} GiB of free GPU memory")


def mean_of_tiles(x: torch.Tensor, y: torch.Tensor, repeats: int) -> float:
    """SSIM of `repeats` x `repeats` copies of a tile, from small numbers of copies.

    The sum over the map is corners + edges * n + interior * n**2, for n >= 2 copies of tiles larger than the window.
    """
    counts = [2, 3, 4]
    sums = [float(oracle.ssim(x.repeat(1, 1, n, n), y.repeat(1, 1, n, n), reduction="sum")) for n in counts]
    powers = torch.tensor([[1.0, n, n * n] for n in counts], dtype=torch.float64)
    corners, edges, interior = torch.linalg.solve(powers, torch.tensor(sums, dtype=torch.float64)).tolist()
    return (corners + edges * repeats + interior * repeats**2) / (repeats**2 * x.shape[2] * x.shape[3])


@pytest.mark.large
def test_image_of_more_than_two_to_the_31_elements():
    needs_memory(30)
    tile_x, tile_y = pair((1, 1, 64, 64), torch.float16)
    repeats = 725
    x = tile_x.cuda().repeat(1, 1, repeats, repeats)
    y = tile_y.cuda().repeat(1, 1, repeats, repeats)
    assert x.numel() > 2**31
    value, grad = fused_ssim.value_and_grad(x, y, reduction="sum")
    mean = fused_ssim.fused_ssim(x, y)
    expected = mean_of_tiles(tile_x, tile_y, repeats)
    assert abs(float(mean) - expected) <= VALUE[torch.float16]
    assert abs(float(value) / x.numel() - expected) <= VALUE[torch.float16]

    # A crop has the values of the whole image, except within a radius of the cut. 46341 * 46400 is beyond 2**31.
    size = x.shape[2]
    for row in (0, size // 2, 46320 - 32, size - 64):
        for column in (0, 30000, size - 64):
            crop = (..., slice(row, row + 64), slice(column, column + 64))
            _, expected_grad, _ = oracle.ssim_and_grads(x[crop], y[crop], reduction="sum")
            inside = (
                ...,
                slice(0 if row == 0 else 10, 64 if row == size - 64 else 54),
                slice(0 if column == 0 else 10, 64 if column == size - 64 else 54),
            )
            assert relative_error(grad[crop][inside], expected_grad[inside]) <= GRADIENT[torch.float16]


@pytest.mark.large
def test_strides_that_reach_beyond_two_to_the_31_elements():
    needs_memory(10)
    memory = torch.empty(2**31 + 2**27, dtype=torch.float16, device="cuda")
    x, y = pair((1, 1, 33, 40), torch.float16)
    image = memory.as_strided(x.shape, (0, 0, 2**26, 1))
    image.copy_(x)
    assert torch.equal(fused_ssim.fused_ssim(image, y.cuda()), fused_ssim.fused_ssim(x.cuda(), y.cuda()))
    value, grad = fused_ssim.value_and_grad(image, y.cuda(), reduction="sum")
    _, expected, _ = oracle.ssim_and_grads(x, y, reduction="sum")
    assert value.shape == ()
    assert relative_error(grad, expected) <= GRADIENT[torch.float16]


@pytest.mark.large
def test_volume_of_more_than_two_to_the_31_elements():
    needs_memory(60)
    tile_x, tile_y = pair((1, 1, 50, 50, 50), torch.float16)
    x = tile_x.cuda().repeat(1, 1, 26, 26, 26)
    y = tile_y.cuda().repeat(1, 1, 26, 26, 26)
    assert x.numel() > 2**31
    x.requires_grad_()
    value = fused_ssim.fused_ssim3d(x, y, reduction="sum")
    value.backward()
    size = x.shape[2]
    for corner in ((0, 0, 0), (size - 50, size - 50, size - 50), (size - 50, 0, size - 50), (1240, 620, 0)):
        crop = (..., *(slice(start, start + 50) for start in corner))
        _, expected_grad, _ = oracle.ssim_and_grads(x[crop], y[crop], reduction="sum")
        inside = (
            ...,
            *(slice(0 if start == 0 else 10, 50 if start == size - 50 else 40) for start in corner),
        )
        assert relative_error(x.grad[crop][inside], expected_grad[inside]) <= GRADIENT[torch.float16]
    # Almost all of the volume is interior, which repeats the tile.
    periodic = oracle.ssim(tile_x.repeat(1, 1, 3, 3, 3), tile_y.repeat(1, 1, 3, 3, 3), reduction="none")
    interior = float(periodic[..., 50:100, 50:100, 50:100].mean())
    assert abs(float(value.detach()) / x.numel() - interior) <= 6 * 5 / size


COLD_CAPTURE = """
import torch
import fused_ssim

x, y = (torch.rand(1, 3, 64, 80, device="cuda") for _ in range(2))
torch.cuda.synchronize()
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    value, grad = fused_ssim.value_and_grad(x, y)
graph.replay()
expected, expected_grad = fused_ssim.value_and_grad(x, y)
assert torch.equal(value, expected) and torch.equal(grad, expected_grad)
"""


def test_first_call_of_a_process_can_be_captured_in_a_graph():
    # Loading the kernels must not disturb the capture.
    subprocess.run([sys.executable, "-c", COLD_CAPTURE], check=True)


@functools.cache  # a copy from the CPU cannot be captured
def mask_on(device):
    return torch.rand((67, 131), generator=torch.Generator().manual_seed(3)).to(device)


CAPTURED = {
    "loss": lambda x, y: fused_ssim.photometric_loss(x, y),
    "masked": lambda x, y: fused_ssim.fused_ssim(x, y, mask=mask_on(x.device)),
    "normalized": lambda x, y: fused_ssim.photometric_loss(x, y, mask=mask_on(x.device) > 0.4, mask_mode="normalized"),
    "ms": lambda x, y: fused_ssim.MSSSIMLoss("same", weights=(0.2, 0.5, 0.3))(x, y),
    "ssim": lambda x, y: fused_ssim.ssim(x, y, data_range=1, size_average=False).mean(),
}


@pytest.mark.parametrize("name", CAPTURED)
def test_losses_masks_and_scales_can_be_captured_in_a_graph(name):
    # Against the same call on the CPU, which other tests compare with the definition.
    x, y = (image.cuda() for image in pair(SHAPES[0]))
    x.requires_grad_()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.autograd.grad(CAPTURED[name](x, y), x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = CAPTURED[name](x, y)
        (grad,) = torch.autograd.grad(value, x)
    new_x, new_y = pair(SHAPES[0], seed=7)
    with torch.no_grad():
        x.copy_(new_x)
        y.copy_(new_y)
    graph.replay()
    torch.cuda.synchronize()
    new_x.requires_grad_()
    expected = CAPTURED[name](new_x, new_y)
    (expected_grad,) = torch.autograd.grad(expected, new_x)
    assert relative_error(value, expected.detach().double()) <= 1e-5
    assert relative_error(grad, expected_grad.double()) <= 3 * GRADIENT[torch.float32]
