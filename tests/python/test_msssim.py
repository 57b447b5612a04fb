# SPDX-License-Identifier: MIT
"""ssim, ms_ssim, SSIM and MS_SSIM agree with pytorch-msssim over the whole space of their arguments."""

from __future__ import annotations

import inspect
import warnings

import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from tolerances import PYTORCH_MSSIM_SAME_WINDOW, VALUE

import fused_ssim

pytorch_msssim = pytest.importorskip("pytorch_msssim")

IMAGES = (2, 3, 37, 41)
VOLUMES = (2, 2, 13, 15, 18)
# Sides that are odd at every scale: 161, 81, 41, 21, 11, and with a window of 3 taps 33, 17, 9, 5, 3.
ODD_IMAGES = (1, 2, 161, 161)
ODD_VOLUMES = (1, 2, 33, 33, 33)
MIXED_IMAGES = (2, 1, 162, 199)

shapes = pytest.mark.parametrize("shape", [IMAGES, VOLUMES], ids=readable)


def images(shape, device="cpu", data_range=255):
    """Images on that device, which require gradients, and the same on the CPU."""
    ours = [(data_range * image).requires_grad_() for image in pair(shape, torch.float64, device)]
    theirs = [image.detach().cpu().requires_grad_() for image in ours]
    return ours, theirs


def agree(name, shape, device="cpu", data_range=255, warns=False, **arguments):
    """Our function and theirs give the same value and gradients in float64."""
    ours, theirs = images(shape, device, data_range)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = getattr(fused_ssim, name)(*ours, data_range=data_range, **arguments)
    assert bool(caught) == warns
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = getattr(pytorch_msssim, name)(*theirs, data_range=data_range, **arguments)
    assert value.shape == expected.shape
    assert value.dtype == torch.float64
    assert absolute_error(value, expected.detach()) <= PYTORCH_MSSIM_SAME_WINDOW
    upstream = torch.linspace(0.5, 1.5, value.numel(), dtype=torch.float64).reshape(value.shape)
    value.backward(upstream.to(device))
    expected.backward(upstream)
    for our, their in zip(ours, theirs, strict=True):
        assert relative_error(our.grad, their.grad) <= PYTORCH_MSSIM_SAME_WINDOW
    return caught


def window(taps, channels, dims, dtype=torch.float32):
    return torch.tensor(taps, dtype=dtype).expand(channels, *[1] * (dims - 2), len(taps)).clone()


@pytest.mark.parametrize("name", ["ssim", "ms_ssim", "SSIM", "MS_SSIM"])
def test_arguments_are_those_of_pytorch_msssim(name):
    ours, theirs = (
        [(p.name, p.default) for p in inspect.signature(getattr(package, name)).parameters.values()]
        for package in (fused_ssim, pytorch_msssim)
    )
    assert ours == theirs


# ---- ssim ------------------------------------------------------------------------------------------------------------


@shapes
@pytest.mark.parametrize("size_average", [True, False], ids=["mean", "images"])
@pytest.mark.parametrize("nonnegative_ssim", [False, True], ids=["any", "nonnegative"])
def test_ssim_agrees(device, shape, size_average, nonnegative_ssim):
    agree("ssim", shape, device, size_average=size_average, nonnegative_ssim=nonnegative_ssim)


@shapes
@pytest.mark.parametrize("data_range", [1, 1.0, 65535], ids=str)
@pytest.mark.parametrize("K", [(0.01, 0.03), [0.05, 0.4]], ids=str)
def test_ssim_agrees_for_constants(device, shape, data_range, K):
    agree("ssim", shape, device, data_range, K=K)


@shapes
@pytest.mark.parametrize(("win_size", "win_sigma"), [(1, 1.5), (3, 0.7), (7, 1.5), (9, 3.0), (13, 2.0)], ids=str)
def test_ssim_agrees_for_windows(device, shape, win_size, win_sigma):
    agree("ssim", shape, device, win_size=win_size, win_sigma=win_sigma)


def test_window_size_may_be_of_numpy():
    import numpy as np

    x, y = pair((1, 1, 20, 20))
    expected = fused_ssim.ssim(x, y, data_range=1, win_size=7)
    assert torch.equal(fused_ssim.ssim(x, y, data_range=1, win_size=np.int64(7)), expected)
    assert torch.equal(fused_ssim.SSIM(data_range=1, win_size=np.int64(7))(x, y), expected)


def test_ssim_agrees_for_windows_beyond_the_native_ones(device):
    agree("ssim", (1, 2, 45, 47), device, win_size=37, win_sigma=6.0)


def test_nonnegative_ssim_of_opposite_images_is_zero(device):
    x, _ = pair(IMAGES, torch.float64, device)
    x.requires_grad_()
    assert fused_ssim.ssim(x, 1 - x, data_range=1) < 0
    value = fused_ssim.ssim(x, 1 - x, data_range=1, nonnegative_ssim=True)
    assert value == 0
    value.backward()
    assert not x.grad.any()


@shapes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=readable)
@pytest.mark.parametrize(
    "taps", [[0.2, 0.6, 0.2], [0.25, 0.5, 0.25], [0, 0.5, 0, 0.5, 0]], ids=["three", "binomial", "holes"]
)
def test_ssim_agrees_for_own_windows(device, shape, taps, dtype):
    agree("ssim", shape, device, win=window(taps, shape[1], len(shape), dtype))


@shapes
@pytest.mark.parametrize(
    "taps", [[0.6, 0.3, 0.1], [0.3, 0.6, 0.3], [-0.1, 1.2, -0.1]], ids=["asymmetric", "of-sum-1.2", "negative"]
)
def test_ssim_agrees_for_windows_that_are_no_average(device, shape, taps):
    agree("ssim", shape, device, win=window(taps, shape[1], len(shape)))


@shapes
def test_ssim_agrees_for_a_window_of_each_channel(device, shape):
    win = window([0.25, 0.5, 0.25], shape[1], len(shape))
    win[0, ..., :] = torch.tensor([0.1, 0.8, 0.1])
    agree("ssim", shape, device, win=win)


def test_ssim_follows_a_window_that_changes():
    x, y = pair(IMAGES, torch.float64)
    win = window([0.2, 0.6, 0.2], 3, 4)
    first = fused_ssim.ssim(x, y, data_range=1, win=win)
    win.copy_(window([0.3, 0.4, 0.3], 3, 4))
    second = fused_ssim.ssim(x, y, data_range=1, win=win)
    assert (
        absolute_error(first, pytorch_msssim.ssim(x, y, data_range=1, win=window([0.2, 0.6, 0.2], 3, 4)))
        <= PYTORCH_MSSIM_SAME_WINDOW
    )
    assert absolute_error(second, pytorch_msssim.ssim(x, y, data_range=1, win=win)) <= PYTORCH_MSSIM_SAME_WINDOW


@pytest.mark.parametrize("shape", [(2, 2, 8, 30), (2, 2, 30, 7), (1, 2, 5, 20, 22), (1, 2, 20, 5, 9)], ids=readable)
def test_axes_shorter_than_the_window_are_not_filtered(device, shape):
    caught = agree("ssim", shape, device, warns=True)
    named = [axis for axis in range(2, len(shape)) if shape[axis] < 11]
    assert len(caught) == len(named)
    for warning, axis in zip(caught, named, strict=True):
        assert f"axis {axis} of X.shape = {shape} is shorter than the window of 11" in str(warning.message)
        assert warning.filename == __file__


@pytest.mark.parametrize("shape", [(2, 2, 1, 30, 31), (1, 1, 20, 30, 1), (2, 3, 20, 24, 1, 1)], ids=readable)
def test_axes_of_length_1_are_dropped(device, shape):
    agree("ssim", shape, device)


# ---- ms_ssim ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [ODD_IMAGES, MIXED_IMAGES, (1, 1, 176, 161)], ids=readable)
@pytest.mark.parametrize("size_average", [True, False], ids=["mean", "images"])
def test_ms_ssim_agrees(device, shape, size_average):
    agree("ms_ssim", shape, device, size_average=size_average)


@pytest.mark.parametrize("shape", [ODD_VOLUMES, (2, 1, 35, 34, 48)], ids=readable)
@pytest.mark.parametrize("size_average", [True, False], ids=["mean", "images"])
def test_ms_ssim_agrees_for_volumes(device, shape, size_average):
    agree("ms_ssim", shape, device, size_average=size_average, win_size=3)


@pytest.mark.parametrize("data_range", [1, 65535], ids=str)
@pytest.mark.parametrize("K", [(0.01, 0.03), [0.05, 0.4]], ids=str)
def test_ms_ssim_agrees_for_constants(device, data_range, K):
    agree("ms_ssim", (1, 2, 85, 91), device, data_range, K=K, win_size=5, win_sigma=1.0)


@pytest.mark.parametrize(
    "weights",
    [[1.0], [0.5, 0.5], [0.2, 0.3, 0.5], [1, 1, 1, 1, 1], (0.0448, 0.2856, 0.3001, 0.2363, 0.1333), [0.3, 0.0, 0.7]],
    ids=str,
)
def test_ms_ssim_agrees_for_weights(device, weights):
    agree("ms_ssim", (1, 2, 85, 91), device, weights=weights, win_size=5)


def test_ms_ssim_takes_weights_as_a_tensor(device):
    x, y = pair((1, 2, 85, 91), torch.float64, device)
    expected = fused_ssim.ms_ssim(x, y, data_range=1, win_size=5, weights=[0.2, 0.3, 0.5])
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64, device=device)
    assert torch.equal(fused_ssim.ms_ssim(x, y, data_range=1, win_size=5, weights=weights), expected)


@pytest.mark.parametrize("taps", [[0.2, 0.6, 0.2], [0.6, 0.3, 0.1]], ids=["symmetric", "asymmetric"])
def test_ms_ssim_agrees_for_own_windows(device, taps):
    agree("ms_ssim", (1, 2, 33, 35), device, win=window(taps, 2, 4))


def test_ms_ssim_agrees_for_short_axes_and_more_scales_than_fit(device):
    agree("ms_ssim", (1, 1, 9, 33, 40), device, win_size=3, warns=True)
    agree("ms_ssim", (1, 1, 33, 40), device, win_size=3, weights=[1 / 7] * 7, warns=True)
    agree("ms_ssim", (1, 1, 140, 150), device, win_size=1, weights=[1 / 9] * 9)


def test_ms_ssim_of_opposite_images_is_zero_with_a_gradient_of_zero(device):
    x, _ = pair((1, 2, 40, 44), torch.float64, device)
    x.requires_grad_()
    value = fused_ssim.ms_ssim(x, 1 - x, data_range=1, win_size=3)
    assert value == 0
    value.backward()
    assert not x.grad.any()  # neither nan nor anything else


def test_ms_ssim_of_fewer_scales_takes_smaller_images(device):
    # pytorch-msssim asks for five scales' room even if there are two.
    x, y = pair((1, 1, 24, 26), torch.float64, device)
    value = fused_ssim.ms_ssim(x, y, data_range=1, weights=[0.5, 0.5])
    assert 0 < float(value) < 1


# ---- Modules ---------------------------------------------------------------------------------------------------------


def test_readme_of_pytorch_msssim_runs():
    from fused_ssim import MS_SSIM, SSIM, ms_ssim, ssim

    # As it stands there; X and Y are (N, 3, H, W) in [-1, 1].
    X, Y = (2 * image - 1 for image in pair((2, 3, 164, 170)))
    X = ((X + 1) / 2 * 255).requires_grad_()
    Y = (Y + 1) / 2 * 255
    ssim_val = ssim(X, Y, data_range=255, size_average=False)
    ms_ssim_val = ms_ssim(X, Y, data_range=255, size_average=False)
    assert ssim_val.shape == ms_ssim_val.shape == (2,)
    ssim_loss = 1 - ssim(X, Y, data_range=255, size_average=True)
    ms_ssim_loss = 1 - ms_ssim(X, Y, data_range=255, size_average=True)
    ssim_module = SSIM(data_range=255, size_average=True, channel=3)
    ms_ssim_module = MS_SSIM(data_range=255, size_average=True, channel=3)
    assert torch.equal(1 - ssim_module(X, Y), ssim_loss)
    assert torch.equal(1 - ms_ssim_module(X, Y), ms_ssim_loss)
    (ssim_loss + ms_ssim_loss).backward()
    for value, name in ((ssim_val, "ssim"), (ms_ssim_val, "ms_ssim")):
        theirs = getattr(pytorch_msssim, name)(X.detach().double(), Y.double(), size_average=False)
        assert absolute_error(value, theirs) <= 5 * VALUE[torch.float32]  # of five scales at the most


@pytest.mark.parametrize("name", ["SSIM", "MS_SSIM"])
def test_modules_agree_with_the_functions(name):
    arguments = {"data_range": 1, "size_average": False, "win_size": 5, "win_sigma": 1.0, "K": (0.02, 0.05)}
    x, y = pair((2, 2, 70, 75), torch.float64)
    module = getattr(fused_ssim, name)(channel=2, spatial_dims=2, **arguments)
    assert torch.equal(module(x, y), getattr(fused_ssim, name.lower())(x, y, **arguments))
    assert not module.state_dict()
    text = repr(module)
    assert text.startswith(name)
    for setting, value in arguments.items():
        assert f"{setting}={value}" in text


# ---- Errors ----------------------------------------------------------------------------------------------------------


def image(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


ERRORS = {
    "shapes": (
        lambda f: f(image(1, 1, 40, 40), image(1, 1, 40, 41)),
        ValueError,
        ["X.shape = (1, 1, 40, 40)", "Y.shape"],
    ),
    "rank-3": (lambda f: f(image(3, 40, 40), image(3, 40, 40)), ValueError, ["X.shape = (3, 40, 40)", "4"]),
    "even": (lambda f: f(image(1, 1, 40, 40), image(1, 1, 40, 40), win_size=10), ValueError, ["win_size = 10", "odd"]),
    "even-win": (
        lambda f: f(image(1, 1, 40, 40), image(1, 1, 40, 40), win=torch.ones(1, 1, 1, 4) / 4),
        ValueError,
        ["win_size = 4", "odd"],
    ),
    "win-of-other-channels": (
        lambda f: f(image(1, 2, 40, 40), image(1, 2, 40, 40), win=torch.ones(3, 1, 1, 3) / 3),
        ValueError,
        ["win.shape = (3, 1, 1, 3)", "(2, 1, 1, win_size)"],
    ),
    "win-that-requires-grad": (
        lambda f: f(image(1, 1, 40, 40), image(1, 1, 40, 40), win=torch.ones(1, 1, 1, 3, requires_grad=True)),
        ValueError,
        ["win.requires_grad", "detach()"],
    ),
    "dtypes": (
        lambda f: f(image(1, 1, 200, 200), image(1, 1, 200, 200, dtype=torch.float64)),
        TypeError,
        ["X.dtype = torch.float32", "Y.dtype = torch.float64"],
    ),
    "int32": (
        lambda f: f(image(1, 1, 200, 200, dtype=torch.int32), image(1, 1, 200, 200, dtype=torch.int32)),
        TypeError,
        ["X.dtype = torch.int32", "X.float()"],
    ),
    "list": (lambda f: f([[0.0]], image(1, 1, 40, 40)), TypeError, ["X is of type list"]),
    "data-range": (
        lambda f: f(image(1, 1, 200, 200), image(1, 1, 200, 200), data_range=0),
        ValueError,
        ["data_range = 0", "positive"],
    ),
}


@pytest.mark.parametrize("name", ["ssim", "ms_ssim"])
@pytest.mark.parametrize("case", ERRORS)
def test_bad_input_is_an_error_that_says_what_is_wrong(name, case):
    do, exception, parts = ERRORS[case]
    with pytest.raises(exception) as caught:
        do(getattr(fused_ssim, name))
    for part in parts:
        assert part in str(caught.value)


def test_ms_ssim_of_a_small_image_is_an_error():
    with pytest.raises(ValueError, match=r"X.shape = \(1, 1, 160, 200\) has a side of 160; expected more than 160"):
        fused_ssim.ms_ssim(image(1, 1, 160, 200), image(1, 1, 160, 200))
    with pytest.raises(ValueError, match="weights is empty"):
        fused_ssim.ms_ssim(image(1, 1, 200, 200), image(1, 1, 200, 200), weights=[])


@pytest.mark.parametrize("name", ["SSIM", "MS_SSIM"])
def test_module_with_an_even_window_is_an_error(name):
    with pytest.raises(ValueError, match="win_size = 8"):
        getattr(fused_ssim, name)(win_size=8)
