# SPDX-License-Identifier: MIT
"""Code written for fused-ssim and fused-ssim3D runs unchanged."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import oracle
import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from tolerances import GRADIENT, MAP, VALUE

import fused_ssim
import fused_ssim3d

C1, C2 = 0.01**2, 0.03**2


def test_allowed_padding_is_that_of_fused_ssim():
    assert fused_ssim.allowed_padding == ["same", "valid"]


@pytest.mark.parametrize("name", ["fused_ssim", "fused_ssim2d", "fused_ssim3d"])
def test_arguments_are_those_of_fused_ssim(name):
    parameters = inspect.signature(getattr(fused_ssim, name)).parameters
    positional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in positional] == ["img1", "img2", "padding", "train"]
    assert [p.default for p in positional[2:]] == ["same", True]


def test_positional_arguments_work(device):
    x, y = pair((1, 3, 30, 32), device=device)
    value = fused_ssim.fused_ssim(x, y, "valid", False)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert absolute_error(value, oracle.ssim(x, y, "valid")) <= VALUE[torch.float32]


@pytest.mark.parametrize("name", ["fused_ssim", "fused_ssim2d", "fused_ssim3d", "FusedSSIMMap", "allowed_padding"])
def test_fused_ssim3d_re_exports(name):
    assert getattr(fused_ssim3d, name) is getattr(fused_ssim, name)


class MapOfATrainer(torch.autograd.Function):
    """How codes use the extension module of fused-ssim."""

    @staticmethod
    def forward(ctx, forward, backward, x, y):
        values, *partial = forward(C1, C2, x, y, True)
        ctx.save_for_backward(x.detach(), y, *partial)
        ctx.backward = backward
        return values

    @staticmethod
    def backward(ctx, upstream):
        x, y, *partial = ctx.saved_tensors
        return None, None, ctx.backward(C1, C2, x, y, upstream, *partial), None


@pytest.mark.parametrize("shape", [(2, 3, 21, 34), (1, 2, 11, 13, 18)], ids=readable)
def test_extension_module_of_fused_ssim_gives_map_and_gradient(device, shape):
    import fused_ssim_cuda

    functions = {
        4: (fused_ssim_cuda.fusedssim, fused_ssim_cuda.fusedssim_backward),
        5: (fused_ssim_cuda.fusedssim3d, fused_ssim_cuda.fusedssim_backward3d),
    }[len(shape)]
    x, y = pair(shape, device=device)
    expected, expected_x, _ = oracle.ssim_and_grads(x, y)
    values = MapOfATrainer.apply(*functions, x.requires_grad_(), y)
    values.mean().backward()
    assert values.shape == shape
    assert absolute_error(values.mean(), expected) <= VALUE[torch.float32]
    assert relative_error(x.grad, expected_x) <= GRADIENT[torch.float32]
    assert torch.equal(functions[0](C1, C2, x, y, False)[0], values)
    assert list(inspect.signature(functions[0]).parameters) == ["C1", "C2", "img1", "img2", "train"]
    assert len(inspect.signature(functions[1]).parameters) == 8


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", [(2, 3, 21, 34), (1, 2, 11, 13, 18)], ids=readable)
def test_map_matches_oracle_and_is_differentiable(device, shape, padding):
    x, y = pair(shape, device=device)
    expected = oracle.ssim(x, y, padding, reduction="none")
    upstream = torch.rand(expected.shape, generator=torch.Generator().manual_seed(5))
    _, expected_x, expected_y = oracle.ssim_and_grads(x, y, padding, reduction="none", upstream=upstream)
    dims = len(shape) - 2
    values = fused_ssim.FusedSSIMMap.apply(C1, C2, x.requires_grad_(), y.requires_grad_(), padding, True, dims)
    assert absolute_error(values, expected) <= MAP[torch.float32]
    values.backward(upstream.to(device))
    assert relative_error(x.grad, expected_x) <= GRADIENT[torch.float32]
    assert relative_error(y.grad, expected_y) <= GRADIENT[torch.float32]


def test_map_as_training_codes_call_it(device):
    # As in Gaussian splatting trainers: FusedSSIMMap.apply(C1, C2, img1, img2, padding, train) and a mean of one's own.
    x, y = pair((1, 3, 40, 50), device=device)
    expected, expected_x, _ = oracle.ssim_and_grads(x, y)
    values = fused_ssim.FusedSSIMMap.apply(C1, C2, x.requires_grad_(), y, "same", True)
    values.mean().backward()
    assert absolute_error(values.mean(), expected) <= VALUE[torch.float32]
    assert relative_error(x.grad, expected_x) <= GRADIENT[torch.float32]
    assert fused_ssim.FusedSSIMMap.apply(C1, C2, x, y, "valid").shape == (1, 3, 30, 40)


def test_map_follows_its_constants(device):
    x, y = pair((1, 3, 40, 50), device=device)
    values = fused_ssim.FusedSSIMMap.apply(0.02, 0.05, x, y)
    expected = oracle.ssim(x, y, reduction="none", K=(0.02**0.5, 0.05**0.5))
    assert absolute_error(values, expected) <= MAP[torch.float32]


def test_map_with_train_false_has_no_backward(device):
    x, y = pair((1, 3, 40, 50), device=device)
    values = fused_ssim.FusedSSIMMap.apply(C1, C2, x.requires_grad_(), y, "same", False)
    with pytest.raises(RuntimeError, match="train=True"):
        values.mean().backward()


def test_readme_of_fused_ssim3d_runs_for_volumes():
    from fused_ssim3d import fused_ssim3d

    # As it stands there, but for .cuda().
    gt_image = torch.rand(2, 3, 96, 96, 96)
    pred_image = torch.nn.Parameter(torch.rand_like(gt_image))
    ssim_value = fused_ssim3d(pred_image, gt_image)
    ssim_value.backward()
    assert pred_image.grad.shape == gt_image.shape
    with torch.no_grad():
        assert absolute_error(fused_ssim3d(pred_image, gt_image, train=False), ssim_value.double()) <= 5e-7
        assert float(fused_ssim3d(pred_image, gt_image, padding="valid")) < 1


def test_readme_of_fused_ssim3d_runs_for_images():
    from fused_ssim3d import fused_ssim2d

    gt_image = torch.rand(2, 3, 1080, 1920)
    pred_image = torch.nn.Parameter(torch.rand_like(gt_image))
    ssim_value = fused_ssim2d(pred_image, gt_image)
    ssim_value.backward()
    assert pred_image.grad.shape == gt_image.shape
    with torch.no_grad():
        assert absolute_error(fused_ssim2d(pred_image, gt_image, train=False), ssim_value.double()) <= 5e-7


def test_info_describes_the_installation():
    info = fused_ssim.info()
    assert info.version == fused_ssim.__version__
    assert "fusedssim" in info.library_path
    assert info.torch_version == torch.__version__
    assert info.cpu_isa
    assert info.cpu_threads >= 1
    assert info.cuda_built == bool(info.cuda_architectures)
    if info.cuda_problem:
        assert len(info.cuda_problem) > 10
    else:
        assert any(device.usable for device in info.devices)
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.version = "1"


@pytest.mark.cuda
def test_info_names_the_devices_of_torch():
    devices = fused_ssim.info().devices
    assert len(devices) == torch.cuda.device_count()
    for device in devices:
        properties = torch.cuda.get_device_properties(device.index)
        assert device.name == properties.name
        assert device.compute_capability == 10 * properties.major + properties.minor
        assert device.multiprocessors == properties.multi_processor_count
        assert device.usable


def test_import_loads_nothing_but_torch():
    code = """
import sys, torch
before = set(sys.modules)
import fused_ssim
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) <= {"fused_ssim"}


@pytest.mark.parametrize("name", ["fusedssim", "fusedssim_backward", "fusedssim3d", "fusedssim_backward3d"])
def test_functions_of_the_extension_are_also_in_compat(name):
    import fused_ssim_cuda

    assert getattr(fused_ssim.compat.fused_ssim, name) is getattr(fused_ssim_cuda, name)
