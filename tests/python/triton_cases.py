# SPDX-License-Identifier: MIT
"""Calls by kernels of Triton, in its interpreter. test_triton.py runs this file in a process of its own."""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import oracle
import pytest
import torch
from images import absolute_error, hard_case, independent_pair, pair, readable, relative_error, relative_norm_error
from test_any_device import GRADIENT, VALUE, _Allocations
from tolerances import HARD_CASE

import fused_ssim
from fused_ssim._base.codes import UnsupportedDeviceError
from fused_ssim._base.settings import checked_settings
from fused_ssim._torch import devices, plain_plan, plan, triton_call
from fused_ssim._torch.plain_plan import PlainPlan

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def large_tiles(monkeypatch):
    # The interpreter runs one program after the other.
    monkeypatch.setattr(triton_call, "TILE", (32, 64, 4))
    torch.set_num_threads(1)


@pytest.fixture
def launches(monkeypatch):
    """How often images went through the kernels."""
    seen = []
    before = triton_call._Planes.statistics

    def counted(self, *args):
        seen.append(self)
        return before(self, *args)

    monkeypatch.setattr(triton_call._Planes, "statistics", counted)
    return seen


def value_and_grads(x, y, padding, **settings):
    call = fused_ssim.fused_ssim3d if x.dim() == 5 else fused_ssim.fused_ssim
    call = fused_ssim.photometric_loss if "lambda_dssim" in settings else call
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    with fused_ssim.backend("triton"):
        value = call(x, y, padding=padding, **settings)
        value.sum().backward()
    return value.detach(), x.grad, y.grad


# A single pixel, a row, less than a window, more than a tile along either axis, rows of a multiple of 16, two planes.
CASES = [
    ((1, 1, 1, 1), "same"),
    ((1, 2, 1, 30), "same"),
    ((2, 1, 35, 16), "valid"),
    ((1, 1, 48, 70), "same"),
    ((1, 1, 48, 70), "valid"),
    ((1, 1, 1, 1, 1), "same"),
    ((1, 2, 3, 7, 9), "same"),
    ((1, 1, 11, 12, 11), "valid"),
]


@pytest.mark.parametrize(("shape", "padding"), CASES, ids=readable)
def test_value_and_gradients_match_oracle(launches, shape, padding):
    x, y = independent_pair(shape)
    expected, *grads = oracle.ssim_and_grads(x, y, padding)
    value, *actual = value_and_grads(x, y, padding)
    assert launches
    assert absolute_error(value, expected) <= VALUE
    for ours, theirs in zip(actual, grads, strict=True):
        assert relative_error(ours, theirs) <= GRADIENT


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": "valid", "reduction": "sum", "window_size": 5},
        {"padding": "same", "reduction": "image", "lambda_dssim": 0.2, "window_size": 3},
        {"padding": "valid", "reduction": "channel", "lambda_dssim": 0.7, "window_size": 5},
        {"padding": "same", "window_size": 3, "sigma": 0.8, "data_range": 2.0, "K": (0.02, 0.05)},
        {"padding": "valid", "window_size": (1, 7), "sigma": 2.0},
        {"padding": "same", "taps": "uniform", "window_size": 5, "lambda_dssim": 1.0},
    ],
    ids=readable,
)
def test_every_reduction_and_window_matches_oracle(launches, settings):
    x, y = pair((2, 2, 17, 19))
    settings = {"reduction": "mean", **settings}
    expected, *grads = oracle.objective_and_grads(x, y, **settings)
    value, *actual = value_and_grads(x, y, **settings)
    assert launches
    assert relative_error(value, expected) <= VALUE
    for ours, theirs in zip(actual, grads, strict=True):
        assert relative_error(ours, theirs) <= GRADIENT


def test_windows_of_each_axis_of_a_volume(launches):
    x, y = pair((1, 1, 6, 8, 11))
    settings = {"reduction": "mean", "window_size": (5, 3, 7), "sigma": (1.0, 0.7, 2.0)}
    expected, *grads = oracle.objective_and_grads(x, y, "valid", **settings)
    value, *actual = value_and_grads(x, y, "valid", **settings)
    assert launches
    assert relative_error(value, expected) <= VALUE
    for ours, theirs in zip(actual, grads, strict=True):
        assert relative_error(ours, theirs) <= GRADIENT


@pytest.mark.parametrize("argnums", [0, 1, (0, 1)])
def test_each_set_of_gradients(launches, argnums):
    x, y = pair((1, 1, 20, 21))
    _, *expected = oracle.ssim_and_grads(x, y)
    with fused_ssim.backend("triton"):
        _, grads = fused_ssim.value_and_grad(x, y, argnums=argnums)
    assert launches
    grads, wanted = ((grads,), (argnums,)) if isinstance(argnums, int) else (grads, argnums)
    for grad, number in zip(grads, wanted, strict=True):
        assert relative_error(grad, expected[number]) <= GRADIENT


@pytest.mark.parametrize("name", ["flat-bright", "flat-shifted", "smooth"])
def test_bright_flat_images_keep_their_digits(name):
    x, y = (image[..., :64, :64].contiguous() for image in hard_case(name))
    expected, *grads = oracle.ssim_and_grads(x, y)
    value, *actual = value_and_grads(x, y, "same", lambda_dssim=1.0)  # with the Gaussian itself
    assert absolute_error(1 - value, expected) <= HARD_CASE[name][0] + 1e-7
    for ours, theirs in zip(actual, grads, strict=True):
        assert relative_norm_error(-ours, theirs) <= {"smooth": 1e-5, "flat-shifted": 2e-5}.get(name, 1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 24, 40), (1, 1, 5, 9, 8)], ids=readable)
def test_images_far_from_zero_keep_their_digits(shape):
    generator = torch.Generator().manual_seed(0)
    x = 20000 + 6 * torch.rand(shape, generator=generator)
    y = 20000 + 6 * torch.rand(shape, generator=generator)
    expected, *grads = oracle.ssim_and_grads(x, y, "valid", data_range=6.0, window_size=5)
    value, *actual = value_and_grads(x, y, "valid", lambda_dssim=1.0, data_range=6.0, window_size=5)
    assert absolute_error(1 - value, expected) <= VALUE
    for ours, theirs in zip(actual, grads, strict=True):
        assert relative_error(-ours, theirs) <= GRADIENT


def test_equal_images_are_one():
    x, _ = pair((1, 2, 20, 33))
    with fused_ssim.backend("triton"):
        assert fused_ssim.fused_ssim(x, x) == 1
        assert fused_ssim.photometric_loss(x, x, 0.2) == 0


def test_nan_reaches_the_value_of_its_plane_alone():
    x, y = pair((1, 2, 14, 15))
    x[0, 0, 7, 7] = float("nan")
    with fused_ssim.backend("triton"):
        value = fused_ssim.fused_ssim(x, y, reduction="channel")[0]
        assert value[0].isnan()
        assert absolute_error(value[1], oracle.ssim(x[:, 1:], y[:, 1:])) <= VALUE


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8])
def test_images_of_few_bits(launches, dtype):
    x, y = pair((1, 2, 18, 21))
    x, y = ((255 * x).to(dtype), (255 * y).to(dtype)) if dtype == torch.uint8 else (x.to(dtype), y.to(dtype))
    data_range = 255.0 if dtype == torch.uint8 else 1.0
    expected, grad, _ = oracle.ssim_and_grads(x.float(), y.float(), data_range=data_range)
    image = x.clone().requires_grad_(dtype != torch.uint8)
    with fused_ssim.backend("triton"):
        value = fused_ssim.fused_ssim(image, y)
    assert launches
    assert value.dtype == torch.float32
    assert absolute_error(value, expected) <= VALUE
    if image.requires_grad:
        (1000 * value).backward()
        assert image.grad.dtype == dtype
        assert relative_error(image.grad / 1000, grad) <= 2 * torch.finfo(dtype).eps


def test_views_and_channels_last(launches):
    wide = torch.rand(2, 3, 15, 40, generator=torch.Generator().manual_seed(0))
    x, y = wide[..., :20], wide.to(memory_format=torch.channels_last)[..., 20:]
    expected, *grads = oracle.ssim_and_grads(x, y, window_size=5)
    value, *actual = value_and_grads(x, y, "same", window_size=5)
    assert launches
    assert absolute_error(value, expected) <= VALUE
    for ours, theirs in zip(actual, grads, strict=True):
        assert relative_error(ours, theirs) <= GRADIENT


def test_planes_in_several_blocks(launches, monkeypatch):
    monkeypatch.setitem(plain_plan._AT_A_TIME, "cpu", 600)
    plan._plan.cache_clear()
    x, y = pair((3, 2, 15, 17))
    settings = {"reduction": "image", "lambda_dssim": 0.2, "window_size": 3}
    expected, *grads = oracle.objective_and_grads(x, y, "same", **settings)
    value, *actual = value_and_grads(x, y, "same", **settings)
    plan._plan.cache_clear()
    assert len(launches) == 3
    assert relative_error(value, expected) <= VALUE
    for ours, theirs in zip(actual, grads, strict=True):
        assert relative_error(ours, theirs) <= GRADIENT


def test_upstream_gradients_of_each_plane(launches):
    x, y = pair((2, 2, 13, 14))
    settings = checked_settings(padding="same", reduction="channel", lambda_dssim=0.2)
    made = PlainPlan(settings, 3, x.dtype, y.dtype, CPU, x.shape, x.stride(), y.stride(), None, None, True)
    upstream = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    actual = made.backward(x, y, None, None, None, upstream)
    assert launches
    _, *grads = oracle.objective_and_grads(x, y, "same", reduction="channel", lambda_dssim=0.2)
    for ours, theirs in zip(actual, grads, strict=True):
        assert relative_error(ours, theirs * upstream[..., None, None]) <= GRADIENT


@pytest.mark.parametrize("grads", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1, 700, 750), (1, 1, 72, 80, 90)], ids=readable)
def test_memory_is_at_most_eight_images(monkeypatch, shape, grads):
    x, y = pair(shape)
    settings = checked_settings(padding="same")
    made = PlainPlan(settings, grads, x.dtype, y.dtype, CPU, x.shape, x.stride(), y.stride(), None, None, True)
    assert made.by_triton
    # The interpreter keeps what kernels were given.
    monkeypatch.setattr(triton_call._Planes, "_run", lambda *_args, **_constants: None)
    with _Allocations() as allocations:
        allocations.ignore(x, y)
        made.value_and_grad(x, y, None, None)
    assert 5 * x.nbytes < allocations.most <= 8.1 * x.nbytes


@pytest.mark.parametrize(
    "settings",
    [
        {"reduction": "none"},
        {"padding": "reflect"},
        {"arithmetic": "float64"},
        {"mask": torch.ones(1, 1, 14, 15)},
        {"data_range": torch.tensor(1.0)},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_the_kernels_lack_is_computed_all_the_same(launches, settings):
    x, y = pair((1, 1, 14, 15))
    with fused_ssim.backend("triton"):
        value = fused_ssim.fused_ssim(x, y, **settings)
    assert not launches
    with fused_ssim.backend("native"):
        torch.testing.assert_close(value, fused_ssim.fused_ssim(x, y, **settings), rtol=0, atol=1e-5)


# ---- The choice ------------------------------------------------------------------------------------------------------


def test_first_use_compares_with_plain_operations(monkeypatch):
    triton_call.works.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert triton_call.works(CPU, 2)
    triton_call.works.cache_clear()
    monkeypatch.setattr(triton_call, "_lacking", lambda _mass: 0.1)
    with pytest.warns(UserWarning, match="cannot be used on cpu.*: results differ from those of plain operations by"):
        assert not triton_call.works(CPU, 2)
    monkeypatch.setattr(triton_call, "_padded", lambda _size: "no number")
    with pytest.warns(UserWarning, match="TypeError"):
        assert not triton_call.works(CPU, 3)
    triton_call.works.cache_clear()


def test_devices_of_torch_with_triton_have_it(monkeypatch):
    assert devices.backend_of("cpu", "auto") == "native"
    assert devices.backend_of("xpu", "auto") == "triton"
    assert devices.backend_of("mps", "auto") == "torch"
    assert devices.backend_of("xpu", "torch") == "torch"
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert devices.backend_of("cuda", "auto") == "triton"
    routes = {route.device: route for route in fused_ssim.info().routes}
    assert routes["cuda"].backend == "triton"
    assert routes["other"].backend == "torch"


def test_kernels_are_launched_on_the_device_of_the_images(monkeypatch):
    entered = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: entered.append(device) or nullcontext())
    with triton_call._current(torch.device("cuda", 1)), triton_call._current(CPU):
        assert entered == [torch.device("cuda", 1)]


def test_a_device_without_triton_is_an_error(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    plan._plan.cache_clear()
    x, y = pair((1, 1, 14, 15))
    with fused_ssim.backend("triton"):
        with pytest.raises(
            UnsupportedDeviceError, match=r'img1\.device = cpu, and the backend is "triton", but Triton'
        ):
            fused_ssim.fused_ssim(x, y)
        routes = {route.device: route for route in fused_ssim.info().routes}
    assert routes["cpu"].reason.startswith("an error")
    plan._plan.cache_clear()
