# SPDX-License-Identifier: MIT
"""The checks of tensors and masks, and their errors."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._base import codes, shapes
from .._base.settings import for_dtypes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._base.settings import Settings

# The tables of dtypes in terms of torch.
DTYPES: dict[torch.dtype, codes.Dtype] = {getattr(torch, name): row for name, row in codes.DTYPES.items()}
NAMES: dict[torch.dtype, str] = {getattr(torch, name): name for name in codes.DTYPES}
MASK_DTYPES: dict[torch.dtype, int] = {getattr(torch, name): code for name, code in codes.MASK_DTYPES.items()}
ARITHMETIC: dict[torch.dtype, torch.dtype] = {dtype: getattr(torch, row.arithmetic) for dtype, row in DTYPES.items()}
# Integers, which have no gradient, are not in it.
GRADIENT: dict[torch.dtype, torch.dtype] = {
    dtype: getattr(torch, row.gradient) for dtype, row in DTYPES.items() if row.gradient is not None
}


_is_compiling = torch.compiler.is_dynamo_compiling


# ---- Tensors ---------------------------------------------------------------------------------------------------------


def plain(name: str, image: Tensor) -> Tensor:
    """``image`` as a plain tensor, whose memory holds its values: of class Tensor, dense, no pending negation."""
    check_tensor(name, image)
    if type(image) is not Tensor and type(image) is not torch.nn.Parameter and not image.is_nested:
        if is_opaque(image):
            raise TypeError(f"{name} is of type {type(image).__name__}, which owns no memory; expected a plain tensor")
        image = image.as_subclass(Tensor)
    check_layout(name, image)
    return image.resolve_neg() if image.is_neg() else image


def is_opaque(image: Tensor) -> bool:
    """Whether the tensor is of a class that answers to operations only, and has no memory to point at."""
    return type(image).__torch_dispatch__ is not Tensor.__torch_dispatch__


def check_tensor(name: str, image: object) -> None:
    if not isinstance(image, Tensor):
        raise TypeError(f"{name} is of type {type(image).__name__}; expected a torch.Tensor")


def check_layout(name: str, image: Tensor) -> None:
    if image.layout is not torch.strided or image.is_nested:
        if image.is_nested:
            raise TypeError(
                f"{name} is a nested tensor; expected a dense one: call this for each image of {name}.unbind(), or pad "
                "them to one size and pass a mask"
            )
        raise TypeError(f"{name} has the layout {image.layout}; expected a dense tensor: use {name}.to_dense()")


def arithmetic(settings: Settings, dtype1: torch.dtype, dtype2: torch.dtype) -> torch.dtype:
    """The dtype of the arithmetic for two images, and so of values, maps and masks of weights."""
    if settings.arithmetic is not None:
        return torch.float64
    first, second = ARITHMETIC[dtype1], ARITHMETIC[dtype2]
    return second if second == torch.float64 else first


def for_images(settings: Settings, img1: Tensor, img2: Tensor) -> Settings:
    """The settings for the dtypes of these images: see :func:`settings.for_dtypes`."""
    resolve = for_dtypes.__wrapped__ if _is_compiling() else for_dtypes
    return resolve(settings, NAMES[img1.dtype], NAMES[img2.dtype])


def is_integer(dtype: torch.dtype) -> bool:
    """Whether images of that dtype are integers."""
    return dtype in DTYPES and dtype not in GRADIENT


def gradient_dtype(dtype1: torch.dtype, dtype2: torch.dtype) -> torch.dtype:
    """The dtype of gradients, if there are some: those of two images of floats have one."""
    return GRADIENT.get(dtype1) or GRADIENT.get(dtype2, torch.float32)


def check_gradients(names: tuple[str, str], grads: int, dtype1: torch.dtype, dtype2: torch.dtype) -> None:
    """An error if a gradient is wanted of an image of integers."""
    for name, dtype, bit in zip(names, (dtype1, dtype2), (codes.GRAD_1, codes.GRAD_2), strict=True):
        if grads & bit and dtype not in GRADIENT:
            raise TypeError(codes.integer_gradient_message(name, dtype))


def spatial_dims_of(name: str, image: object) -> int:
    """2 for images, 3 for volumes. What is no tensor is found later."""
    return shapes.spatial_dims(name, image.shape) if isinstance(image, Tensor) else 2


def converted(image: Tensor, dtype: torch.dtype, scale: float) -> Tensor:
    """An image in the dtype of the arithmetic, times its scale; where nothing changes, the image itself."""
    image = image.to(dtype)
    return image if scale == 1 else image * scale


def empty_gradient(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Gives memory for the gradient of an image of that dtype: dense, with axes in the same order."""
    return torch.empty_like if GRADIENT[dtype] == dtype else partial(torch.empty_like, dtype=GRADIENT[dtype])


def check_images(
    names: tuple[str, str],
    spatial_dims: int,
    dtype1: torch.dtype,
    device1: torch.device,
    shape1: tuple[int, ...],
    dtype2: torch.dtype,
    device2: torch.device,
    shape2: tuple[int, ...],
) -> None:
    """An error if the images do not fit, as far as that shows without their memory: dtype, rank, shape, device."""
    name1, name2 = names
    for name, dtype in ((name1, dtype1), (name2, dtype2)):
        if dtype.is_complex:
            raise TypeError(
                codes.complex_message(name, dtype, f"{name}.abs()", f"torch.cat([{name}.real, {name}.imag], 1)")
            )
        if dtype not in DTYPES:
            raise TypeError(
                f"{name}.dtype = {dtype}; expected {codes.enumeration(codes.DTYPES)}: convert it, for instance by "
                f"{name}.float(), and pass data_range"
            )
    if dtype1 != dtype2 and not (is_integer(dtype1) or is_integer(dtype2)):
        raise TypeError(
            f"{name1}.dtype = {dtype1} but {name2}.dtype = {dtype2}; expected the same dtype, or one of integers"
        )
    for name, shape in ((name1, shape1), (name2, shape2)):
        if len(shape) != spatial_dims + 2:
            other = {4: "; use fused_ssim for images", 5: "; use fused_ssim3d for volumes"}.get(len(shape), "")
            raise ValueError(
                f"{name}.shape = {tuple(shape)} has {len(shape)} axes; expected {spatial_dims + 2}, "
                f"{shapes.AXES[spatial_dims]}{other}"
            )
    if shape1 != shape2:
        raise ValueError(
            f"{name1}.shape = {tuple(shape1)} but {name2}.shape = {tuple(shape2)}; expected the same shape"
        )
    if device1 != device2:
        raise ValueError(f"{name1}.device = {device1} but {name2}.device = {device2}; expected the same device")


# ---- Masks -----------------------------------------------------------------------------------------------------------


def view_mask(mask: object, settings: Settings, img1: Tensor, img2: Tensor) -> Tensor:
    """The mask with as many axes as the images, each as long as theirs or 1; an error if it cannot be one."""
    check_tensor("mask", mask)
    assert isinstance(mask, Tensor)
    if settings.sample_covariance and settings.normalized:
        raise ValueError(
            "sample_covariance = True with a mask that normalises, expected False: windows have no fixed number of "
            "pixels there"
        )
    expected = _arithmetic_if_known(settings, img1, img2)
    if expected is not None and mask.dtype not in (torch.bool, expected):
        dtypes = " and ".join(dict.fromkeys((str(img1.dtype), str(img2.dtype))))
        raise TypeError(f"mask.dtype = {mask.dtype}; expected bool or {expected} for images of {dtypes}")
    if mask.requires_grad:
        raise ValueError(
            "mask.requires_grad = True; expected a constant: SSIM has no gradient by its mask, detach() it"
        )
    if mask.device != img1.device:
        raise ValueError(f"mask.device = {mask.device} but the images are on {img1.device}; expected the same device")
    if mask.dim() == img1.dim() - 1 and 1 < mask.shape[0] == img1.shape[0] == img1.shape[1]:
        axes = ", ".join(shapes.AXES[img1.dim() - 2].strip("[]").split(", ")[2:])
        raise ValueError(
            f"mask.shape = {tuple(mask.shape)} for images of {tuple(img1.shape)} may be [N, {axes}] or [C, {axes}]; "
            "pass mask[:, None] for a mask of each image, mask[None] for one of each channel"
        )
    shape = (1,) * (img1.dim() - mask.dim()) + tuple(mask.shape)
    if len(shape) != img1.dim() or any(size not in (1, full) for size, full in zip(shape, img1.shape, strict=True)):
        raise ValueError(
            f"mask.shape = {tuple(mask.shape)}; expected one that broadcasts to that of the images, {tuple(img1.shape)}"
        )
    return mask if mask.dim() == img1.dim() else mask[(None,) * (img1.dim() - mask.dim())]


def _arithmetic_if_known(settings: Settings, img1: Tensor, img2: Tensor) -> torch.dtype | None:
    """The dtype of the arithmetic; None for images of other dtypes, which are refused later."""
    if img1.dtype not in DTYPES or getattr(img2, "dtype", None) not in DTYPES:
        return None
    return arithmetic(settings, img1.dtype, img2.dtype)


# ---- Data ranges -----------------------------------------------------------------------------------------------------


def split_range(data_range: Any, image: object = None) -> tuple[Any, Tensor | None]:
    """A data range as the setting and the tensor that is to be read instead of it, if it is one.

    Of a number that changes from call to call the compiler makes a variable of the graph. That cannot be a setting, but
    it can be a tensor, on the device of ``image``.
    """
    if data_range is None or (type(data_range) is float and not _is_compiling()):
        return data_range, None
    if isinstance(data_range, Tensor):
        return 1.0, data_range
    if _is_compiling() and isinstance(image, Tensor) and _is_variable(data_range):
        return 1.0, torch.full((), data_range, dtype=ARITHMETIC.get(image.dtype, torch.float32), device=image.device)
    return data_range, None


def _is_variable(value: object) -> bool:
    """Whether a number is a variable of the graph that is being compiled; torch before 2.8 does not say."""
    if not isinstance(value, (int, float)):
        return False
    from torch.fx.experimental import symbolic_shapes  # loaded already by the compiler

    has_static_value = getattr(symbolic_shapes, "has_static_value", None)
    return has_static_value is not None and not has_static_value(value)


def view_ranges(ranges: Tensor, settings: Settings, img1: Tensor, img2: Tensor) -> Tensor:
    """The data range of all images, without axes, or of each, [N]; of the dtype of the arithmetic, where they are."""
    if ranges.requires_grad:
        raise ValueError(
            "data_range.requires_grad = True; expected a constant: SSIM has no gradient by its data range, detach() it"
        )
    if ranges.is_complex() or ranges.dtype == torch.bool:
        raise TypeError(f"data_range.dtype = {ranges.dtype}; expected a real number")
    if ranges.dim() and ranges.numel() == 1:
        ranges = ranges.reshape(())
    if ranges.dim() and tuple(ranges.shape) != tuple(img1.shape[:1]):
        raise ValueError(
            f"data_range.shape = {tuple(ranges.shape)} for images of {tuple(img1.shape)}; expected one number, or one "
            f"for each image, {list(img1.shape[:1])}"
        )
    if ranges.device != img1.device and ranges.dim():
        raise ValueError(
            f"data_range.device = {ranges.device} but the images are on {img1.device}; expected the same device"
        )
    # The dtype first: some devices have no float64.
    dtype = _arithmetic_if_known(settings, img1, img2) or ranges.dtype
    return ranges.to(dtype).to(img1.device, non_blocking=True)


# ---- Autocast --------------------------------------------------------------------------------------------------------


def is_promoted(device: torch.device, dtype1: torch.dtype, dtype2: torch.dtype) -> bool:
    """Whether autocast, which lets networks give other dtypes than targets have, wants the two brought to one.

    Integers stay what they are.
    """
    if dtype1 == dtype2 or dtype1 not in GRADIENT or dtype2 not in GRADIENT:
        return False
    return has_autocast(device.type)


def has_autocast(device_type: str) -> bool:
    """Whether autocast is on for devices of that type."""
    try:  # torch 2.11 cannot compile the question whether there is autocast for a device
        return torch.is_autocast_enabled(device_type)
    except RuntimeError:
        return False
