# SPDX-License-Identifier: MIT
"""Bad input is an error that names the argument, its value and what was expected."""

from __future__ import annotations

import re

import pytest
import torch
from images import pair

import fused_ssim
import fused_ssim._core as core
from fused_ssim import FusedSSIMMap, fused_ssim3d, value_and_grad
from fused_ssim._torch import plan

IMAGE = (2, 3, 20, 24)
VOLUME = (2, 3, 12, 14, 16)


def image(shape=IMAGE, dtype=torch.float32, device="cpu"):
    return torch.zeros(shape, dtype=dtype, device=device)


def nested(layout):
    return torch.nested.nested_tensor([image(IMAGE[1:]), image((3, 25, 24))], layout=layout)


def freed():
    x = image()
    x.untyped_storage().resize_(0)
    return x


def meta(**arguments):
    return call(image(device="meta"), image(device="meta"), **arguments)


def call(x, y, **arguments):
    return lambda: fused_ssim.fused_ssim(x, y, **arguments)


def call_3d(x, y, **arguments):
    return lambda: fused_ssim3d(x, y, **arguments)


def setting(**arguments):
    return call(image(), image(), **arguments)


# The call, the exception, and parts of its text.
CASES = {
    # rank
    "rank-3": (call(image(IMAGE[1:]), image(IMAGE[1:])), ValueError, ["img1.shape = (3, 20, 24)", "expected 4"]),
    "rank-2-of-second": (call(image(), image(IMAGE[2:])), ValueError, ["img2.shape = (20, 24)", "expected 4"]),
    "rank-5-in-2d": (call(image(VOLUME), image(VOLUME)), ValueError, ["img1.shape = (2, 3, 12", "fused_ssim3d"]),
    "rank-4-in-3d": (
        call_3d(image(), image()),
        ValueError,
        ["img1.shape = (2, 3, 20", "expected 5", "use fused_ssim "],
    ),
    "rank-6-in-3d": (call_3d(image((1,) * 6), image((1,) * 6)), ValueError, ["6 axes", "expected 5"]),
    "rank-3-value-and-grad": (
        lambda: value_and_grad(image((3, 20, 24)), image((3, 20, 24))),
        ValueError,
        ["expected 4"],
    ),
    "rank-2-value-and-grad": (
        lambda: value_and_grad(image((20, 24)), image((20, 24))),
        ValueError,
        ["img1.shape = (20, 24)", "4, [N, C, H, W], or 5"],
    ),
    # beyond the range of the arithmetic
    "data-range-1e-30": (setting(data_range=1e-30), ValueError, ["data_range = 1e-30", "float32"]),
    "data-range-1e30": (setting(data_range=1e30), ValueError, ["data_range = 1e+30", "float32"]),
    # shape
    "shape": (
        call(image(), image((2, 3, 20, 25))),
        ValueError,
        ["img1.shape = (2, 3, 20, 24)", "img2.shape = (2, 3, 20, 25)", "same shape"],
    ),
    "shape-that-would-broadcast": (call(image(), image((1, 3, 20, 24))), ValueError, ["img2.shape = (1, 3, 20, 24)"]),
    "empty-batch": (
        call(image((0, 3, 20, 24)), image((0, 3, 20, 24))),
        ValueError,
        ["img1.shape[0] = 0", "at least 1"],
    ),
    "empty-channels": (call(image((2, 0, 20, 24)), image((2, 0, 20, 24))), ValueError, ["img1.shape[1] = 0"]),
    "empty-row": (call(image((2, 3, 20, 0)), image((2, 3, 20, 0))), ValueError, ["img1.shape[3] = 0", "at least 1"]),
    "empty-volume": (call_3d(image((1, 1, 0, 4, 4)), image((1, 1, 0, 4, 4))), ValueError, ["img1.shape[2] = 0"]),
    "valid-height-10": (
        call(image((1, 1, 10, 40)), image((1, 1, 10, 40)), padding="valid"),
        ValueError,
        ["img1.shape[2] = 10", "window 11", "valid"],
    ),
    "valid-width-1": (
        call(image((1, 1, 40, 1)), image((1, 1, 40, 1)), padding="valid"),
        ValueError,
        ["img1.shape[3] = 1", "window 11"],
    ),
    "valid-depth-10": (
        call_3d(image((1, 1, 10, 12, 12)), image((1, 1, 10, 12, 12)), padding="valid"),
        ValueError,
        ["img1.shape[2] = 10", "window 11"],
    ),
    "valid-window-21": (
        call(image(), image(), padding="valid", window_size=21),
        ValueError,
        ["img1.shape[2] = 20", "window 21"],
    ),
    # dtype
    "int32": (
        call(image(dtype=torch.int32), image(dtype=torch.int32)),
        TypeError,
        ["img1.dtype = torch.int32", "float32", "img1.float()", "data_range"],
    ),
    "int64-of-second": (call(image(), image(dtype=torch.int64)), TypeError, ["img2.dtype = torch.int64", "float32"]),
    "bool": (call(image(dtype=torch.bool), image(dtype=torch.bool)), TypeError, ["img1.dtype = torch.bool"]),
    "complex64": (
        call(image(dtype=torch.complex64), image(dtype=torch.complex64)),
        TypeError,
        ["img1.dtype = torch.complex64"],
    ),
    "complex-says-what-to-do": (
        call(image(dtype=torch.complex64), image(dtype=torch.complex64)),
        TypeError,
        ["img1.abs()", "torch.cat([img1.real, img1.imag], 1)"],
    ),
    "nested": (call(nested(torch.strided), image()), TypeError, ["img1 is a nested tensor", "img1.unbind()"]),
    "jagged": (call(nested(torch.jagged), nested(torch.jagged)), TypeError, ["img1 is a nested tensor", "unbind()"]),
    "jagged-of-second": (call(image(), nested(torch.jagged)), TypeError, ["img2 is a nested tensor"]),
    "freed": (call(freed(), image()), ValueError, ["img1 has no memory", "storage"]),
    "freed-second": (
        lambda: value_and_grad(image(), freed()),
        ValueError,
        ["img2 has no memory"],
    ),
    "float8": (
        call(image().to(torch.float8_e4m3fn), image().to(torch.float8_e4m3fn)),
        TypeError,
        ["img1.dtype = torch.float8_e4m3fn"],
    ),
    "dtypes-differ": (
        call(image(), image(dtype=torch.float64)),
        TypeError,
        ["img1.dtype = torch.float32", "img2.dtype = torch.float64", "same dtype"],
    ),
    "dtypes-differ-half": (
        call(image(dtype=torch.float16), image(dtype=torch.bfloat16)),
        TypeError,
        ["img1.dtype = torch.float16", "img2.dtype = torch.bfloat16"],
    ),
    # other than dense tensors
    "list": (call([[1.0]], image()), TypeError, ["img1", "list", "torch.Tensor"]),
    "none": (call(image(), None), TypeError, ["img2", "NoneType", "torch.Tensor"]),
    "numpy": (call(image().numpy(), image()), TypeError, ["img1", "ndarray", "torch.Tensor"]),
    "sparse": (call(image().to_sparse(), image()), TypeError, ["img1", "sparse_coo", "to_dense()"]),
    "sparse-second": (call(image(), image().to_sparse()), TypeError, ["img2", "sparse_coo", "to_dense()"]),
    "meta-second": (call(image(), image(device="meta")), ValueError, ["img2.device = meta", "same device"]),
    # names
    "padding": (setting(padding="mirror"), ValueError, ["padding = 'mirror'", '"same"', '"valid"']),
    "padding-none": (setting(padding=None), TypeError, ["padding = None", '"same"']),
    "padding-list": (setting(padding=["same"]), TypeError, ["padding = ['same']", '"same"']),
    "reduction": (setting(reduction="average"), ValueError, ["reduction = 'average'", '"mean"', '"channel"', '"none"']),
    "reduction-none": (setting(reduction=None), TypeError, ["reduction = None", '"none"']),
    # numbers
    "window-even": (setting(window_size=10), ValueError, ["window_size = 10", "odd", "33"]),
    "window-0": (setting(window_size=0), ValueError, ["window_size = 0", "odd"]),
    "window-negative": (setting(window_size=-11), ValueError, ["window_size = -11", "odd"]),
    "window-35": (setting(window_size=35), ValueError, ["window_size = 35", "33"]),
    "window-float": (setting(window_size=11.0), TypeError, ["window_size = 11.0", "integer"]),
    "window-bool": (setting(window_size=True), TypeError, ["window_size = True", "integer"]),
    "window-huge": (setting(window_size=2**40 + 1), ValueError, ["window_size = 1099511627777", "33"]),
    "sigma-0": (setting(sigma=0.0), ValueError, ["sigma = 0", "positive"]),
    "sigma-negative": (setting(sigma=-1.5), ValueError, ["sigma = -1.5", "positive"]),
    "sigma-nan": (setting(sigma=float("nan")), ValueError, ["sigma = nan", "positive"]),
    "sigma-infinite": (setting(sigma=float("inf")), ValueError, ["sigma = inf", "positive"]),
    "sigma-text": (setting(sigma="1.5"), TypeError, ["sigma = '1.5'", "number"]),
    "sigma-integer-beyond-float64": (setting(sigma=10**400), ValueError, ["sigma", "float64"]),
    "meta-window": (meta(window_size=10), ValueError, ["window_size = 10", "odd"]),
    "meta-sigma": (meta(sigma=-1.5), ValueError, ["sigma = -1.5", "positive"]),
    "meta-data-range": (meta(data_range=1e30), ValueError, ["data_range = 1e+30", "float32"]),
    "meta-lambda": (
        lambda: fused_ssim.photometric_loss(image(device="meta"), image(device="meta"), 2.0),
        ValueError,
        ["lambda_dssim = 2"],
    ),
    # losses, when they are made
    "loss-window": (lambda: fused_ssim.SSIMLoss(window_size=10), ValueError, ["window_size = 10", "odd"]),
    "loss-sigma": (lambda: fused_ssim.PhotometricLoss(sigma=-1), ValueError, ["sigma = -1", "positive"]),
    "loss-K": (lambda: fused_ssim.MSSSIMLoss(K=(0.01, -1)), ValueError, ["K[1] = -1", ">= 0"]),
    "loss-lambda-2": (lambda: fused_ssim.PhotometricLoss(2), ValueError, ["lambda_dssim = 2"]),
    "loss-lambda-none": (lambda: fused_ssim.PhotometricLoss(None), TypeError, ["lambda_dssim = None", "number"]),
    "lambda-none": (
        lambda: fused_ssim.photometric_loss(image(), image(), None),
        TypeError,
        ["lambda_dssim = None", "number"],
    ),
    "loss-weights-empty": (lambda: fused_ssim.MSSSIMLoss(weights=[]), ValueError, ["weights is empty"]),
    "loss-weights-9": (lambda: fused_ssim.MSSSIMLoss(weights=[0.1] * 9), ValueError, ["9 weights", "at most 8"]),
    "ms-ssim-weights-empty": (
        lambda: fused_ssim.ms_ssim(image(), image(), weights=[]),
        ValueError,
        ["weights is empty"],
    ),
    # masks
    "mask-of-images-or-channels": (
        call(image((3, 3, 20, 24)), image((3, 3, 20, 24)), mask=image((3, 20, 24))),
        ValueError,
        ["mask.shape = (3, 20, 24)", "[N, H, W] or [C, H, W]", "mask[:, None]", "mask[None]"],
    ),
    "mask-of-volumes-or-channels": (
        call_3d(image((2, 2, 12, 14, 16)), image((2, 2, 12, 14, 16)), mask=image((2, 12, 14, 16), torch.bool)),
        ValueError,
        ["[N, D, H, W] or [C, D, H, W]", "mask[:, None]", "mask[None]"],
    ),
    "data-range-0": (setting(data_range=0), ValueError, ["data_range = 0", "positive"]),
    "data-range-negative": (setting(data_range=-255), ValueError, ["data_range = -255", "positive"]),
    "data-range-nan": (setting(data_range=float("nan")), ValueError, ["data_range = nan"]),
    "data-range-text": (setting(data_range="1"), TypeError, ["data_range = '1'", "number"]),
    "data-range-of-two-integers": (
        call(image(dtype=torch.uint8), image(dtype=torch.uint16)),
        ValueError,
        ["data_range is missing", "255 for img1 of uint8", "65535 for img2 of uint16"],
    ),
    "window-of-other-axes": (
        setting(window_size=(3, 5, 7)),
        ValueError,
        ["window_size has 3 values", "one for each of the axes H, W"],
    ),
    "sigma-of-other-axes": (setting(sigma=(1.0, 2.0, 3.0)), ValueError, ["sigma has 3 values", "H, W"]),
    "window-of-one-axis": (setting(window_size=(3, 4)), ValueError, ["window_size[1] = 4", "odd"]),
    "window-of-four-axes": (
        setting(window_size=(3, 3, 3, 3)),
        ValueError,
        ["window_size = (3, 3, 3, 3)", "two or three"],
    ),
    "sigma-of-one-axis": (setting(sigma=(1.0, 0.0)), ValueError, ["sigma[1] = 0", "positive"]),
    "taps-word": (setting(taps="box"), ValueError, ["taps = 'box'", '"uniform"']),
    "taps-even": (setting(taps=[0.5, 0.5]), ValueError, ["taps has a window of 2 numbers", "odd"]),
    "taps-sum": (setting(taps=[0.5, 0.5, 0.5]), ValueError, ["sum of taps is 1.5", "1"]),
    "taps-not-symmetric": (setting(taps=[0.2, 0.3, 0.5]), ValueError, ["taps[0] = 0.2", "symmetric"]),
    "taps-and-window": (
        setting(taps=[0.2, 0.6, 0.2], window_size=5),
        ValueError,
        ["taps has windows of (3,) numbers", "window_size = (5,)"],
    ),
    "sample-covariance-text": (setting(sample_covariance=1), TypeError, ["sample_covariance = 1", "True or False"]),
    "sample-covariance-of-a-pixel": (
        setting(sample_covariance=True, window_size=1),
        ValueError,
        ["sample_covariance = ", "window of one"],
    ),
    "sample-covariance-and-mask": (
        setting(sample_covariance=True, mask=torch.ones(20, 20), mask_mode="normalized"),
        ValueError,
        ["sample_covariance = True", "mask that normalises"],
    ),
    "arithmetic": (setting(arithmetic="float16"), ValueError, ["arithmetic = 'float16'", '"float64"']),
    "integer-scale": (setting(integer_scale=0), ValueError, ["integer_scale = 0", "positive"]),
    "integer-scale-of-second": (setting(integer_scale=(1, -1)), ValueError, ["integer_scale[1] = -1", "positive"]),
    "K-negative": (setting(K=(-0.01, 0.03)), ValueError, ["K[0] = -0.01", ">= 0"]),
    "K-second-nan": (setting(K=(0.01, float("nan"))), ValueError, ["K[1] = nan", ">= 0"]),
    "K-one": (setting(K=(0.01,)), TypeError, ["K = (0.01,)", "two numbers"]),
    "K-number": (setting(K=0.01), TypeError, ["K = 0.01", "two numbers"]),
    "K-text": (setting(K=(0.01, "0.03")), TypeError, ["K[1] = '0.03'", "number"]),
    # the other functions
    "argnums-2": (lambda: value_and_grad(image(), image(), argnums=2), ValueError, ["argnums = 2", "0", "1"]),
    "argnums-empty": (lambda: value_and_grad(image(), image(), argnums=()), ValueError, ["argnums = ()"]),
    "argnums-bool": (lambda: value_and_grad(image(), image(), argnums=True), ValueError, ["argnums = True"]),
    "argnums-float": (lambda: value_and_grad(image(), image(), argnums=1.0), ValueError, ["argnums = 1.0", "0", "1"]),
    "argnums-text": (lambda: value_and_grad(image(), image(), argnums="0"), ValueError, ["argnums = '0'"]),
    "map-C1": (lambda: FusedSSIMMap.apply(-1e-4, 9e-4, image(), image()), ValueError, ["C1 = -0.0001", "at least 0"]),
    "map-C2": (
        lambda: FusedSSIMMap.apply(1e-4, float("nan"), image(), image()),
        ValueError,
        ["C2 = nan", "at least 0"],
    ),
    "map-dims": (
        lambda: FusedSSIMMap.apply(1e-4, 9e-4, image(), image(), spatial_dims=1),
        ValueError,
        ["spatial_dims = 1", "2 or 3"],
    ),
    "map-rank": (
        lambda: FusedSSIMMap.apply(1e-4, 9e-4, image(), image(), spatial_dims=3),
        ValueError,
        ["img1.shape", "expected 5"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_an_error_that_says_what_is_wrong(name):
    do, exception, expected = CASES[name]
    with pytest.raises(exception) as caught:
        do()
    text = str(caught.value)
    for part in expected:
        assert part in text
    # The names of the C interface mean nothing here.
    assert not re.search(r"\b(x|y|params|k1|k2)\b", text)


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_an_error_every_time(name):
    # The second call finds the caches as the first one left them.
    do, exception, _ = CASES[name]
    for _ in range(3):
        with pytest.raises(exception):
            do()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_bad_input_is_an_error_when_gradients_are_required(first, second):
    x, y = image().requires_grad_(first), image((2, 3, 20, 25)).requires_grad_(second)
    with pytest.raises(ValueError, match=re.escape("img2.shape = (2, 3, 20, 25)")):
        fused_ssim.fused_ssim(x, y)


def test_device_without_code_is_also_a_not_implemented_error(monkeypatch):
    # Some trainers look for it, and then take a slower way. No such device is needed to see it.
    monkeypatch.delitem(plan.DEVICES, "cpu")
    plan._plan.cache_clear()
    for exception in (ValueError, NotImplementedError):
        text = r'img1\.device = cpu, and the backend is "native"; expected a tensor on cuda, or the backend "auto"'
        with fused_ssim.backend("native"), pytest.raises(exception, match=text):
            fused_ssim.fused_ssim(image(), image())


def test_cuda_that_cannot_be_used_is_also_a_not_implemented_error():
    if not fused_ssim.info().cuda_problem:
        pytest.skip("CUDA can be used")
    layout = core.Layout(dtype=core.FLOAT32, shape=(1, 1, 8, 8), stride=(64, 64, 8, 1))
    value = core.Layout(dtype=core.FLOAT32, shape=(), stride=())
    images = core.Images(x=layout, y=layout, grad_x=layout, grad_y=layout, out=value, mask=None, data_ranges=None)
    x, y, out, workspace = 0x10000, 0x20000, 0x30000, 0x40000  # nobody looks there: the driver is asked for first
    with pytest.raises(NotImplementedError):
        core.Plan(device=core.CUDA, device_index=0, settings=core.Settings(), images=images, grads=0).forward(
            0, workspace, x, y, 0, 0, out, 0
        )


def test_masks_that_can_be_read_in_one_way_only_are_taken():
    x, y = pair((3, 3, 20, 24))
    each_image = torch.rand(3, 20, 24)
    value = fused_ssim.fused_ssim(x, y, mask=each_image[:, None], reduction="channel")
    assert value.shape == (3, 3)
    fused_ssim.fused_ssim(x, y, mask=each_image[None])
    fused_ssim.fused_ssim(x[:2], y[:2], mask=each_image)  # [C, H, W]: there are not three images
    fused_ssim.fused_ssim(x[:1, :1], y[:1, :1], mask=each_image[:1])


def test_good_input_works_after_bad_input():
    x, y = pair(IMAGE)
    expected = fused_ssim.fused_ssim(x, y)
    with pytest.raises(ValueError, match="window_size"):
        fused_ssim.fused_ssim(x, y, window_size=4)
    assert torch.equal(fused_ssim.fused_ssim(x, y), expected)


@pytest.mark.cuda
def test_images_on_different_devices_are_an_error():
    for x, y in ((image(), image(device="cuda")), (image(device="cuda"), image())):
        with pytest.raises(ValueError, match=r"img1\.device = .* but img2\.device = .*same device") as caught:
            fused_ssim.fused_ssim(x, y)
        assert "cpu" in str(caught.value)
        assert "cuda:0" in str(caught.value)
