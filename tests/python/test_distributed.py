# SPDX-License-Identifier: MIT
"""Sharded images and volumes: values and gradients are those of the whole. Processes of their own, gloo or NCCL."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

import fused_ssim

TOLERANCE = 1e-12  # float64; sums in another order


# ---- The whole against its parts -------------------------------------------------------------------------------------


def images(shape: tuple[int, ...], device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.rand((2, *shape), generator=generator, dtype=torch.float64)
    mask = torch.rand((shape[0], 1, *shape[2:]), generator=generator, dtype=torch.float64)
    return x.to(device), (0.7 * x + 0.3 * noise).to(device), mask.to(device)


def check(device: str, shape: tuple[int, ...], dim: int, lengths: list[int], masked: str, **settings: Any) -> None:
    """One case, in every process: this process's value and gradients against those of the whole."""
    from fused_ssim.distributed import sharded_photometric_loss, sharded_ssim

    lambda_dssim = settings.pop("lambda_dssim", None)
    x, y, mask = images(shape, device)
    rank = dist.get_rank()
    begin = sum(lengths[:rank])
    x_part, y_part, mask_part = (
        image.narrow(dim, begin, lengths[rank]).clone() if image.shape[dim] > 1 else image for image in (x, y, mask)
    )
    if masked == "bool":
        mask, mask_part = mask > 0.4, mask_part > 0.4
    whole_mask, part_mask = (mask, mask_part) if masked else (None, None)
    for image in (x, y, x_part, y_part):
        image.requires_grad_()
    if lambda_dssim is None:
        function = fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim
        expected = function(x, y, mask=whole_mask, **settings)
        value = sharded_ssim(x_part, y_part, dim, mask=part_mask, **settings)
    else:
        expected = fused_ssim.photometric_loss(x, y, lambda_dssim, mask=whole_mask, **settings)
        value = sharded_photometric_loss(x_part, y_part, lambda_dssim, dim, mask=part_mask, **settings)
    expected_here = expected[begin : begin + lengths[rank]] if dim == 0 and expected.dim() else expected
    assert value.shape == expected_here.shape
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, expected_here, rtol=TOLERANCE, atol=TOLERANCE)
    expected.square().sum().backward()
    value.square().sum().backward()
    for part, image in ((x_part, x), (y_part, y)):
        reference = image.grad.narrow(dim, begin, lengths[rank])
        assert part.grad.shape == reference.shape
        scale = float(image.grad.abs().max())
        assert not reference.numel() or float((part.grad - reference).abs().max()) <= TOLERANCE * scale


VOLUME, IMAGE = (2, 2, 26, 13, 14), (3, 2, 40, 31)

# shape, axis, lengths of the parts, mask, settings
CASES: dict[str, tuple[tuple[int, ...], int, list[int], str, dict[str, Any]]] = {
    "volume": (VOLUME, 2, [13, 13], "", {}),
    "volume-uneven": (VOLUME, 2, [17, 9], "", {"padding": "valid"}),
    "volume-last-axis": (VOLUME, 4, [8, 6], "", {"window_size": 5}),
    "image": (IMAGE, 2, [20, 20], "", {}),
    "image-valid-sum": (IMAGE, 3, [11, 20], "", {"padding": "valid", "reduction": "sum"}),
    "image-image": (IMAGE, 2, [23, 17], "", {"reduction": "image"}),
    "image-channel": (IMAGE, 2, [23, 17], "float", {"reduction": "channel", "padding": "valid"}),
    "image-short": (IMAGE, 2, [38, 2], "", {}),
    "image-shorter-than-the-border": (IMAGE, 2, [3, 37], "bool", {"padding": "valid"}),
    "image-empty": (IMAGE, 2, [40, 0], "", {}),
    "image-masked": (IMAGE, 2, [23, 17], "bool", {}),
    "volume-normalized": (VOLUME, 2, [11, 15], "bool", {"mask_mode": "normalized"}),
    "image-normalized-valid": (IMAGE, 2, [19, 21], "float", {"mask_mode": "normalized", "padding": "valid"}),
    "loss": (IMAGE, 2, [23, 17], "", {"lambda_dssim": 0.2}),
    "loss-valid-masked": (IMAGE, 2, [23, 17], "float", {"lambda_dssim": 0.3, "padding": "valid"}),
    "loss-volume-image": (
        VOLUME,
        3,
        [6, 7],
        "bool",
        {"lambda_dssim": 0.2, "reduction": "image", "padding": "valid", "window_size": 7},
    ),
    "image-reflect": (IMAGE, 2, [23, 17], "", {"padding": "reflect"}),
    "image-symmetric-normalized": (IMAGE, 3, [3, 28], "float", {"padding": "symmetric", "mask_mode": "normalized"}),
    "image-replicate-image": (IMAGE, 2, [38, 2], "bool", {"padding": "replicate", "reduction": "image"}),
    "volume-windows": (VOLUME, 2, [11, 15], "", {"padding": "reflect", "window_size": (9, 3, 5), "taps": "uniform"}),
    "loss-sample": (IMAGE, 2, [20, 20], "", {"lambda_dssim": 0.2, "padding": "symmetric", "sample_covariance": True}),
    "batch": (IMAGE, 0, [2, 1], "", {}),
    "batch-image": (IMAGE, 0, [2, 1], "float", {"reduction": "image"}),
    "batch-empty": (IMAGE, 0, [3, 0], "", {"padding": "valid", "lambda_dssim": 0.2}),
}
THREE: dict[str, tuple[tuple[int, ...], int, list[int], str, dict[str, Any]]] = {
    "volume": (VOLUME, 2, [9, 9, 8], "", {}),
    "short-in-the-middle": (IMAGE, 2, [19, 2, 19], "float", {"padding": "valid"}),
    "all-short": ((1, 1, 12, 20), 2, [4, 4, 4], "", {"reduction": "sum"}),
    "all-short-valid": ((1, 1, 12, 20), 2, [1, 4, 7], "bool", {"padding": "valid", "lambda_dssim": 0.2}),
    "all-short-reflect": ((1, 1, 12, 20), 2, [4, 4, 4], "", {"padding": "reflect"}),
    "mirrored-more-than-once": ((1, 1, 4, 20), 2, [1, 2, 1], "", {"padding": "symmetric", "lambda_dssim": 0.2}),
    "empty-in-the-middle": (IMAGE, 3, [16, 0, 15], "bool", {"mask_mode": "normalized"}),
    "batch": (IMAGE, 0, [1, 1, 1], "", {"reduction": "sum"}),
}


def run_all(device: str, cases: dict[str, Any]) -> None:
    for name, (shape, dim, lengths, masked, settings) in cases.items():
        print(name)  # pytest shows the last one if it fails
        check(device, shape, dim, lengths, masked, **settings)


def test_two_processes_give_value_and_gradients_of_the_whole(two_processes):
    two_processes.run(run_all, CASES)


def test_three_processes_give_value_and_gradients_of_the_whole(three_processes):
    three_processes.run(run_all, THREE)


@pytest.mark.cuda
def test_two_gpus_give_value_and_gradients_of_the_whole(two_gpus):
    two_gpus.run(run_all, CASES)


# ---- Groups, dtypes, gradients ---------------------------------------------------------------------------------------


def special_calls(device: str) -> None:
    from fused_ssim.distributed import sharded_ssim

    rank = dist.get_rank()
    x, y, _ = images(IMAGE, device)
    begin = 20 * rank
    x_part, y_part = x.narrow(2, begin, 20), y.narrow(2, begin, 20)

    # only one of the images has a gradient, dim counts from the end, memory is a view
    part = x_part.detach().requires_grad_()
    sharded_ssim(part, y_part, -2).backward()
    _, expected = fused_ssim.value_and_grad(x, y)
    torch.testing.assert_close(part.grad, expected.narrow(2, begin, 20), rtol=1e-9, atol=1e-18)

    # none has
    with torch.no_grad():
        assert not sharded_ssim(part, y_part, 2).requires_grad

    # 16 bits
    half = sharded_ssim(x_part.bfloat16(), y_part.bfloat16(), 2)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, fused_ssim.fused_ssim(x.bfloat16(), y.bfloat16()), rtol=0, atol=5e-7)

    # a target of integers, which is sent as it is
    for dtype in (torch.uint8, torch.uint16, torch.int16):
        target = (y * torch.iinfo(dtype).max).to(dtype)
        settings = {"padding": "reflect", "integer_scale": 1 / torch.iinfo(dtype).max, "data_range": 1.0}
        part = x_part.detach().requires_grad_()
        value = sharded_ssim(part, target.narrow(2, begin, 20), 2, **settings)
        value.backward()
        expected_value, expected = fused_ssim.value_and_grad(x, target, **settings)
        torch.testing.assert_close(value, expected_value, rtol=TOLERANCE, atol=TOLERANCE)
        torch.testing.assert_close(part.grad, expected.narrow(2, begin, 20), rtol=1e-9, atol=1e-18)

    # twice the same is the same to the bit
    assert torch.equal(sharded_ssim(x_part, y_part, 2), sharded_ssim(x_part, y_part, 2))

    # a group of one, which is not the first process
    alone = [dist.new_group([member]) for member in range(2)][rank]
    value = sharded_ssim(x, y, 2, alone)
    torch.testing.assert_close(value, fused_ssim.fused_ssim(x, y), rtol=TOLERANCE, atol=TOLERANCE)


def test_groups_dtypes_and_single_gradients(two_processes):
    two_processes.run(special_calls)


# ---- Errors ----------------------------------------------------------------------------------------------------------


def errors(device: str) -> None:
    from fused_ssim.distributed import sharded_ssim

    rank = dist.get_rank()
    x = torch.zeros(1, 1, 20, 24, device=device)

    def fails(exception: type[Exception], text: str, *arguments: Any, **settings: Any) -> None:
        with pytest.raises(exception, match=text):
            sharded_ssim(*arguments, **settings)

    other = torch.zeros(1, 1, 20, 24 + rank, device=device)
    fails(ValueError, r"img1\.shape\[3\] differs between the processes: 2[45] here", other, other, 2)
    typed = x.double() if rank else x
    fails(ValueError, r"img1\.dtype differs between the processes", typed, typed, 2)
    fails(ValueError, r"img2\.requires_grad differs", x, x.clone().requires_grad_(rank == 1), 2)
    fails(
        ValueError,
        f"window_size differs between the processes: {11 - 2 * rank} here",
        x,
        x,
        2,
        window_size=11 - 2 * rank,
    )
    fails(
        ValueError, r"data_range differs between .*: \d\.5 here, .* but \d\.5 on rank", x, x, 2, data_range=rank + 0.5
    )
    fails(ValueError, r"padding differs between .*: '(same|valid)' here", x, x, 2, padding=("same", "valid")[rank])
    fails(ValueError, "dim differs between the processes", x, x, 2 + rank)
    fails(ValueError, "mask differs between the processes", x, x, 2, mask=x if rank else None)
    # an error of one process is one of all
    mine = r"img2\.shape = \(1, 1, 20, 23\)" if rank else "the arguments of rank 1 of the group are in error"
    fails(ValueError, mine, x, x[..., :-1] if rank else x, 2)
    fails((TypeError, ValueError), "img1 is of type list" if rank else "rank 1", [0.0] if rank else x, x, 2)
    # so is a bad setting, which the others would wait for
    one = "rank 1 of the group are in error"
    fails(ValueError, "padding = 'mirror'" if rank else one, x, x, 2, padding="mirror" if rank else "same")
    fails((TypeError, ValueError), "sigma = 'a'" if rank else one, x, x, 2, sigma="a" if rank else 1.5)
    fails(ValueError, "sigma = -1" if rank else one, x, x, 2, sigma=-1 if rank else 1.5)
    fails(ValueError, "window_size = 10" if rank else one, x, x, 2, window_size=11 - rank)
    fails(ValueError, "data_range = 1e" if rank else one, x, x, 2, data_range=1e30 if rank else 1)
    negative = torch.ones_like(x)
    negative[..., 3] = -1.0 if rank else 1.0
    fails(ValueError, "negative or not finite" if rank else one, x, x, 2, mask=negative)
    fails(ValueError, "expected positive" if rank else one, x, x, 2, data_range=torch.tensor(1.0 - rank))
    # of the whole
    fails(
        ValueError, "8 layers along axis 2 in all processes < window 11", x[:, :, :4], x[:, :, :4], 2, padding="valid"
    )
    fails(ValueError, r"img1\.shape\[3\] = 7 < window 11", x[..., :7], x[..., :7], 2, padding="valid")
    fails(ValueError, "dim = 1; expected 0, the batch, or a spatial axis", x, x, 1)
    fails(TypeError, "dim = None", x, x)
    fails(ValueError, "reduction = 'none'", x, x, 2, reduction="none")
    # and afterwards all is well
    assert float(sharded_ssim(x, x, 2)) == 1


def test_bad_input_is_an_error_in_every_process(two_processes):
    two_processes.run(errors)


# ---- DTensor ---------------------------------------------------------------------------------------------------------


def dtensors(device: str) -> None:
    from torch.distributed.device_mesh import init_device_mesh

    try:
        from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
    except ImportError:  # torch 2.4
        from torch.distributed._tensor import DTensor, Replicate, Shard, distribute_tensor
        from torch.distributed.tensor import parallel  # noqa: F401 - loads the module that has no DTensor yet

    from fused_ssim.distributed import sharded_photometric_loss, sharded_ssim

    mesh = init_device_mesh(torch.device(device).type, (2,))
    x, y, mask = images(IMAGE, device)
    expected, expected_grad = fused_ssim.value_and_grad(x, y)
    for placement in (Shard(0), Shard(2), Shard(3), Replicate()):
        a, b = (distribute_tensor(image, mesh, [placement]) for image in (x, y))
        a.requires_grad_()
        value = sharded_ssim(a, b)
        torch.testing.assert_close(value, expected, rtol=TOLERANCE, atol=TOLERANCE)
        value.backward()
        assert isinstance(a.grad, DTensor)
        torch.testing.assert_close(a.grad.full_tensor(), expected_grad, rtol=1e-9, atol=1e-18)
    expected = fused_ssim.photometric_loss(x, y, mask=mask)
    a, b, m = (distribute_tensor(image, mesh, [Shard(0)]) for image in (x, y, mask))
    torch.testing.assert_close(sharded_photometric_loss(a, b, mask=m), expected, rtol=TOLERANCE, atol=TOLERANCE)
    with pytest.raises(ValueError, match=r"img1 is placed as"):
        sharded_ssim(distribute_tensor(x, mesh, [Shard(0)]), distribute_tensor(y, mesh, [Shard(2)]))
    with pytest.raises(ValueError, match=r"dim = 1; expected 0"):
        sharded_ssim(distribute_tensor(x, mesh, [Shard(1)]), distribute_tensor(y, mesh, [Shard(1)]))
    with pytest.raises(ValueError, match=r"dim = 2, group = None; expected neither with DTensors"):
        sharded_ssim(a, b, 2)
    with pytest.raises(TypeError, match=r"img1 is of type DTensor but img2 of type Tensor"):
        sharded_ssim(distribute_tensor(x, mesh, [Shard(0)]), y)


def test_dtensors_give_value_and_gradient_of_the_whole(two_processes):
    two_processes.run(dtensors)


# ---- Losses in data-parallel training --------------------------------------------------------------------------------


class Scaled(torch.nn.Module):
    """A network of one parameter, with its loss inside, as DataParallel wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.9, dtype=torch.float64))
        self.loss = fused_ssim.PhotometricLoss()

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.loss(self.scale * x, y)


def data_parallel_step(device: str) -> None:
    x, y, _ = images((2, 2, 20, 24), device)
    reference = Scaled().to(device)
    reference(x, y).backward()
    module = torch.nn.parallel.DistributedDataParallel(Scaled().to(device))
    rank = dist.get_rank()
    module(x[rank : rank + 1], y[rank : rank + 1]).backward()
    torch.testing.assert_close(module.module.scale.grad, reference.scale.grad, rtol=1e-10, atol=0)


def test_distributed_data_parallel_gives_the_gradient_of_the_batch(two_processes):
    two_processes.run(data_parallel_step)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_data_parallel_gives_the_gradient_of_the_batch():
    x, y, _ = images((2, 2, 20, 24), "cuda:0")
    reference = Scaled().to("cuda:0")
    reference(x, y).backward()
    module = torch.nn.DataParallel(Scaled().to("cuda:0"), [0, 1])
    module(x, y).mean().backward()
    torch.testing.assert_close(module.module.scale.grad, reference.scale.grad, rtol=1e-10, atol=0)
