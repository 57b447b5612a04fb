# SPDX-License-Identifier: MIT
"""Layouts, masks, masked arrays, the loss and MS-SSIM of `fused_ssim.array`: what the functions of torch give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from images import pair, readable
from tolerances import GRADIENT, MAP, VALUE

import fused_ssim

if TYPE_CHECKING:
    from collections.abc import Callable

array = fused_ssim.array
DOUBLE = torch.float64

# Name: the shape for torch, an array of the layout made of one for torch, and the way back, and `channel_axis`.
LAYOUTS: dict[str, tuple[tuple[int, ...], Callable[[Any], Any], Callable[[Any], Any], int | None]] = {
    "HW": ((1, 1, 21, 19), lambda a: a[0, 0], lambda a: a[None, None], None),
    "CHW": ((1, 3, 21, 19), lambda a: a[0], lambda a: a[None], 0),
    "HWC": ((1, 3, 21, 19), lambda a: np.moveaxis(a[0], 0, -1), lambda a: np.moveaxis(a, -1, 0)[None], -1),
    "HWC, 2": ((1, 3, 21, 19), lambda a: np.moveaxis(a[0], 0, -1), lambda a: np.moveaxis(a, -1, 0)[None], 2),
    "NCHW": ((2, 3, 21, 19), lambda a: a, lambda a: a, 1),
    "NHWC": ((2, 3, 21, 19), lambda a: np.moveaxis(a, 1, -1), lambda a: np.moveaxis(a, -1, 1), -1),
    "NHCW": ((2, 3, 21, 19), lambda a: np.moveaxis(a, 1, 2), lambda a: np.moveaxis(a, 2, 1), 2),
    "DHW": ((1, 1, 13, 12, 14), lambda a: a[0, 0], lambda a: a[None, None], None),
    "NCDHW": ((2, 2, 13, 12, 14), lambda a: a, lambda a: a, 1),
    "NDHWC": ((2, 2, 13, 12, 14), lambda a: np.moveaxis(a, 1, -1), lambda a: np.moveaxis(a, -1, 1), 4),
}
layouts = pytest.mark.parametrize("name", LAYOUTS)


def example(name: str, dtype: torch.dtype = DOUBLE) -> tuple[Any, ...]:
    """Tensors, arrays of the layout (C-contiguous), the way back, and `channel_axis`."""
    shape, there, back, channel_axis = LAYOUTS[name]
    tensors = pair(shape, dtype, seed=len(name))
    arrays = [np.ascontiguousarray(there(each.numpy())) for each in tensors]
    return (*tensors, *arrays, there, back, channel_axis)


def close(here: Any, there: torch.Tensor, tolerance: float) -> None:
    assert here.shape == tuple(there.shape)
    assert np.abs(np.asarray(here, np.float64) - there.double().numpy()).max() <= tolerance


@layouts
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=readable)
def test_layout_gives_what_torch_gives(name: str, padding: str, dtype: torch.dtype) -> None:
    x, y, a, b, _, back, axis = example(name, dtype)
    close(back(array.map(a, b, padding, channel_axis=axis)), fused_ssim.ssim_map(x, y, padding), MAP[dtype])
    value, grads = array.value_and_grad(a, b, padding, argnums=(0, 1), reduction="sum", channel_axis=axis)
    _, expected = fused_ssim.value_and_grad(x, y, padding, argnums=(0, 1), reduction="sum")
    assert abs(value - array.map(a, b, padding, channel_axis=axis).sum(dtype=np.float64)) < 1e-5 * a.size
    for grad, there in zip(grads, expected, strict=True):
        assert grad.shape == a.shape
        assert grad.dtype == a.dtype
        assert grad.flags.c_contiguous
        close(back(grad), there, GRADIENT[dtype] * float(there.abs().max()))


@layouts
def test_reductions_lack_the_axes_that_the_images_lack(name: str) -> None:
    x, y, a, b, _, _, axis = example(name)
    has_batch, has_channels = name.startswith("N"), "C" in name
    for reduction in ("mean", "image", "channel"):
        found = array.value(a, b, channel_axis=axis, reduction=reduction)
        expected = fused_ssim.value_and_grad(x, y, reduction=reduction)[0]
        kept = [size for size, kept in zip(x.shape, (has_batch, has_channels), strict=False) if kept]
        shape = {"mean": (), "image": tuple(kept[:1]) if has_batch else (), "channel": tuple(kept)}[reduction]
        assert np.shape(found) == shape
        assert np.abs(found - expected.numpy().reshape(shape)).max() <= VALUE[DOUBLE]


@layouts
def test_strided_layout_is_read_in_place(name: str) -> None:
    x, y, _, _, there, back, axis = example(name)
    views = [there(each.numpy()) for each in (x, y)]  # other strides than a contiguous array has
    assert all(np.shares_memory(view, each.numpy()) for view, each in zip(views, (x, y), strict=True))
    close(back(array.map(*views, channel_axis=axis)), fused_ssim.ssim_map(x, y), MAP[DOUBLE])
    flipped = [np.flip(view, axis=(0, -1)) for view in views]
    if axis is None or name == "CHW":
        close(back(np.flip(array.map(*flipped, channel_axis=axis), (0, -1))), fused_ssim.ssim_map(x, y), MAP[DOUBLE])


# ---- Masks -----------------------------------------------------------------------------------------------------------


@layouts
@pytest.mark.parametrize("mask_mode", ["weight", "normalized"])
@pytest.mark.parametrize("kind", ["full", "spatial", "bool"])
def test_mask_gives_what_torch_gives(name: str, mask_mode: str, kind: str) -> None:
    x, y, a, b, there, back, axis = example(name)
    generator = torch.Generator().manual_seed(3)
    shape = x.shape[2:] if kind == "spatial" else x.shape
    mask = torch.rand(shape, generator=generator, dtype=DOUBLE)
    mask = mask > 0.5 if kind == "bool" else mask
    given = mask.numpy() if kind == "spatial" else np.ascontiguousarray(there(mask.numpy()))
    arguments = {"mask_mode": mask_mode, "reduction": "mean"}
    value, grad = array.value_and_grad(a, b, mask=given, channel_axis=axis, **arguments)
    expected, expected_grad = fused_ssim.value_and_grad(x, y, mask=mask, **arguments)
    assert abs(value - float(expected)) <= VALUE[DOUBLE]
    close(back(grad), expected_grad, 10 * GRADIENT[DOUBLE] * float(expected_grad.abs().max()))
    found = array.map(a, b, "valid", mask=given, mask_mode=mask_mode, channel_axis=axis)
    close(back(found), fused_ssim.ssim_map(x, y, "valid", mask=mask, mask_mode=mask_mode), MAP[DOUBLE])


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 1, 21, 19), (3, 21, 19), (19,), (1, 19)], ids=readable)
def test_mask_broadcasts(shape: tuple[int, ...]) -> None:
    x, y, a, b, *_ = example("NCHW")
    mask = torch.rand(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    expected = fused_ssim.fused_ssim(x, y, mask=mask)
    assert abs(array.value(a, b, mask=mask.numpy()) - float(expected)) <= VALUE[DOUBLE]


X = np.random.default_rng(0).random((2, 2, 16, 17))


@pytest.mark.parametrize(
    ("mask", "channel_axis", "error", "words"),
    [
        (np.ones((2, 16, 17)), 1, ValueError, r"one of each image or of each channel; pass mask\[:, None\]"),
        (np.ones((16, 16)), 1, ValueError, r"mask.shape = \(16, 16\); expected one that broadcasts to .* \(16, 17\)"),
        (np.ones((16, 17, 1)), -1, ValueError, r"mask.shape = \(16, 17, 1\); expected"),
        (np.ones((1, 2, 2, 16, 17)), 1, ValueError, "mask.shape"),
        (np.ones((16, 17), np.float32), 1, TypeError, "mask.dtype = float32; expected bool or float64"),
        (np.ones((16, 17), np.uint8), 1, TypeError, "mask.dtype = uint8"),
        ([[1.0]], 1, TypeError, "mask is of type builtins.list"),
        (np.ma.ones((16, 17)), 1, TypeError, "mask is a masked array; expected a plain one"),
    ],
)
def test_bad_mask_is_named(mask: Any, channel_axis: int, error: type[Exception], words: str) -> None:
    images = X if channel_axis == 1 else np.moveaxis(X, 1, -1)
    with pytest.raises(error, match=words):
        array.value(images, images, mask=mask, channel_axis=channel_axis)


# ---- Masked arrays ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HW", "HWC", "NCHW", "DHW"])
def test_masked_array_is_an_image_with_a_mask(name: str) -> None:
    x, y, a, b, _, back, axis = example(name)
    random = np.random.default_rng(5)
    hidden = [random.random(a.shape) < 0.2 for _ in range(2)]
    for first, second in ((True, True), (True, False), (False, True)):
        images = []
        for image, mask, is_masked in zip((a, b), hidden, (first, second), strict=True):
            bad = image.copy()
            bad[mask] = np.nan if is_masked else bad[mask]
            images.append(np.ma.masked_array(bad, mask) if is_masked else image)
        keep = ~(hidden[0] & first | hidden[1] & second)
        value, grad = array.value_and_grad(*images, channel_axis=axis)
        mask = torch.from_numpy(np.ascontiguousarray(back(keep)))
        expected, there = fused_ssim.value_and_grad(x, y, mask=mask, mask_mode="normalized")
        assert abs(value - float(expected)) <= VALUE[DOUBLE]
        close(back(grad), there, 10 * GRADIENT[DOUBLE] * float(there.abs().max()))
        loss = array.photometric_loss(*images, channel_axis=axis)
        expected = fused_ssim.photometric_loss(x, y, mask=mask, mask_mode="normalized")
        assert abs(loss - float(expected)) <= VALUE[DOUBLE]


def test_masked_array_that_masks_nothing_is_its_data() -> None:
    plain = np.ma.masked_array(X)
    assert array.value(plain, X) == array.value(X, X)
    assert array.value_and_grad(plain, plain)[0] == 1


def test_masked_arrays_where_there_can_be_no_mask_are_errors() -> None:
    hidden = np.ma.masked_array(X, X > 0.5)
    with pytest.raises(ValueError, match="mask is given, and the images are masked arrays"):
        array.value(hidden, X, mask=np.ones((16, 17)))
    with pytest.raises(TypeError, match="no MS-SSIM under a mask"):
        array.ms_ssim(hidden, X, weights=(1.0,))


# ---- The loss, and MS-SSIM -------------------------------------------------------------------------------------------


@layouts
def test_photometric_loss_is_that_of_torch(name: str) -> None:
    x, y, a, b, _, back, axis = example(name)
    for reduction, padding in (("mean", "valid"), ("channel", "same"), ("none", "same")):
        settings = {"lambda_dssim": 0.4, "data_range": 1.5, "window_size": 7, "reduction": reduction}
        expected = fused_ssim.photometric_loss(x, y, padding=padding, **settings)
        found = array.photometric_loss(a, b, padding=padding, channel_axis=axis, **settings)
        assert np.abs(np.ravel(back(found) if reduction == "none" else found) - expected.numpy().ravel()).max() <= 1e-12
    for argnums in (0, 1, (1, 0)):
        value, grads = array.photometric_loss_and_grad(a, b, argnums=argnums, channel_axis=axis)
        leaves = [x.clone().requires_grad_(), y.clone().requires_grad_()]
        loss = fused_ssim.photometric_loss(*leaves)
        loss.backward()
        assert abs(value - float(loss.detach())) <= VALUE[DOUBLE]
        numbers = argnums if isinstance(argnums, tuple) else (argnums,)
        for number, grad in zip(numbers, grads if isinstance(argnums, tuple) else (grads,), strict=True):
            close(back(grad), leaves[number].grad, GRADIENT[DOUBLE] * float(leaves[number].grad.abs().max()))


@layouts
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_ms_ssim_is_that_of_torch(name: str, padding: str) -> None:
    x, y, a, b, _, back, axis = example(name)
    settings = {"window_size": 5, "sigma": 1.0, "weights": (0.3, 0.7), "data_range": 1.2}
    x.requires_grad_()
    loss = fused_ssim.MSSSIMLoss(padding, **settings)(x, y)
    loss.backward()
    value, grad = array.ms_ssim_and_grad(a, b, padding, channel_axis=axis, **settings)
    assert value == array.ms_ssim(a, b, padding, channel_axis=axis, **settings)
    assert abs(1 - value - float(loss.detach())) <= VALUE[DOUBLE]
    close(back(grad), -x.grad, 10 * GRADIENT[DOUBLE] * float(x.grad.abs().max()))


# ---- Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "arguments", "error", "words"),
    [
        ((16, 17), {}, ValueError, r"img1.shape = \(16, 17\) has 2 axes; expected 4, .*channel_axis=None"),
        ((3, 16, 17), {}, ValueError, r"has 3 axes; expected 4, \[N, C, H, W\], .* channel_axis=0 for \[C, H, W\]"),
        ((1, 1, 16, 17), {"channel_axis": 0}, ValueError, "channel_axis = 0; expected 1 to 3, or -1"),
        ((1, 1, 16, 17), {"channel_axis": None}, ValueError, "has 4 axes; without channels"),
        ((1, 1, 16, 17), {"channel_axis": "last"}, TypeError, "channel_axis = 'last'; expected an integer"),
        ((16, 9, 3), {"channel_axis": -1, "padding": "valid"}, ValueError, r"img1.shape\[1\] = 9 < window 11"),
        ((16, 17), {"channel_axis": None, "data_range": np.ones(1)}, ValueError, "expected one number$"),
        ((2, 1, 16, 17), {"data_range": np.ones(3)}, ValueError, r"or one for each image, \[2\]"),
    ],
)
def test_bad_layout_is_named(shape: tuple[int, ...], arguments: Any, error: type[Exception], words: str) -> None:
    image = np.zeros(shape, np.float32)
    with pytest.raises(error, match=words):
        array.value(image, image, **arguments)


def test_loss_names_its_arguments() -> None:
    with pytest.raises(ValueError, match=r"pred.shape = .* but target.shape"):
        array.photometric_loss(X, X[:, :, 1:])
    with pytest.raises(ValueError, match="lambda_dssim = 2"):
        array.photometric_loss(X, X, 2.0)
    with pytest.raises(TypeError, match="lambda_dssim = None"):
        array.photometric_loss(X, X, None)
