# SPDX-License-Identifier: MIT
"""Names of Python and the numbers that the native library has for them. Each table is the only list of its names.

A code that the native library lacks is an ``ImportError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .._core import (
    BFLOAT16,
    BOOL,
    CPU,
    CUDA,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    GRAD_X,
    GRAD_Y,
    INT16,
    PADDING_REFLECT,
    PADDING_REPLICATE,
    PADDING_SAME,
    PADDING_SYMMETRIC,
    PADDING_VALID,
    REDUCTION_MEAN,
    REDUCTION_NONE,
    REDUCTION_PER_IMAGE,
    REDUCTION_PER_PLANE,
    REDUCTION_SUM,
    UINT8,
    UINT16,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# ---- Choices of the public functions ---------------------------------------------------------------------------------

PADDINGS: dict[str, int] = {
    "same": PADDING_SAME,
    "valid": PADDING_VALID,
    "reflect": PADDING_REFLECT,
    "symmetric": PADDING_SYMMETRIC,
    "replicate": PADDING_REPLICATE,
}


class Reduction(NamedTuple):
    """How a map becomes the value.

    Attributes:
        code: of the native library.
        kept: how many axes of the map remain, counted from the first; None: all of them.

    """

    code: int
    kept: int | None


REDUCTIONS: dict[str, Reduction] = {
    "mean": Reduction(REDUCTION_MEAN, 0),
    "sum": Reduction(REDUCTION_SUM, 0),
    "image": Reduction(REDUCTION_PER_IMAGE, 1),
    "channel": Reduction(REDUCTION_PER_PLANE, 2),
    "none": Reduction(REDUCTION_NONE, None),
}

MASK_MODES = ("weight", "normalized")

# What may compute a call with tensors. "auto": the native library where it has code for a device, else Triton's kernels
# where torch ships Triton, else torch itself.
BACKENDS = ("auto", "native", "torch", "triton")

# ---- Dtypes ----------------------------------------------------------------------------------------------------------


class Dtype(NamedTuple):
    """A dtype that images may have.

    Attributes:
        code: of the native library.
        arithmetic: the dtype of the arithmetic, unless the other image or the settings want more. Values, maps and
            masks have it, too.
        gradient: the dtype of the gradient of such an image; None: integers have no gradient.
        data_range: the default for images of integers.

    """

    code: int
    arithmetic: str
    gradient: str | None
    data_range: float | None = None


DTYPES: dict[str, Dtype] = {
    "float32": Dtype(FLOAT32, arithmetic="float32", gradient="float32"),
    "float64": Dtype(FLOAT64, arithmetic="float64", gradient="float64"),
    "float16": Dtype(FLOAT16, arithmetic="float32", gradient="float16"),
    "bfloat16": Dtype(BFLOAT16, arithmetic="float32", gradient="bfloat16"),
    "uint8": Dtype(UINT8, arithmetic="float32", gradient=None, data_range=255.0),
    "uint16": Dtype(UINT16, arithmetic="float32", gradient=None, data_range=65535.0),
    "int16": Dtype(INT16, arithmetic="float32", gradient=None, data_range=65535.0),
}

# What `arithmetic` may ask for, if it asks.
ARITHMETICS: dict[str, int] = {"float64": FLOAT64}


def is_integer(dtype: str) -> bool:
    """Whether images of that dtype are integers, which may be compared with images of any dtype."""
    return DTYPES[dtype].gradient is None


# Masks may be bool, or of the dtype of the arithmetic.
MASK_DTYPES: dict[str, int] = {
    "bool": BOOL,
    **{row.arithmetic: DTYPES[row.arithmetic].code for row in DTYPES.values()},
}


def integer_gradient_message(name: str, dtype: object) -> str:
    """What to say if somebody wants the gradient of an image of integers."""
    return f"{name}.dtype = {dtype}, which has no gradient; expected a gradient of the other image, or {name} as floats"


def complex_message(name: str, dtype: object, magnitude: str, parts: str) -> str:
    """What to say of complex images, which ``.float()`` would rob of their imaginary part."""
    return (
        f"{name}.dtype = {dtype}, but SSIM is defined for real images: compare magnitudes, {magnitude}, or real and "
        f"imaginary parts as channels, {parts}"
    )


def enumeration(names: Iterable[str]) -> str:
    """The names as a text lists them: ``a, b or c``."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


# ---- Devices -------------------------------------------------------------------------------------------------------

# By the name that torch has for them. How a call runs on each stands in `_torch.devices`.
DEVICES: dict[str, int] = {"cpu": CPU, "cuda": CUDA}


class UnsupportedDeviceError(ValueError, NotImplementedError):
    """Arrays are on a device for which there is no code.

    Training codes that have a slower way for such devices look for a ``NotImplementedError``.
    """


# ---- Which gradients -------------------------------------------------------------------------------------------------

GRAD_1: int = GRAD_X
GRAD_2: int = GRAD_Y


def wanted_gradients(first: bool, second: bool) -> int:
    """The set of wanted gradients as one number."""
    return (GRAD_1 if first else 0) | (GRAD_2 if second else 0)


def gradients_of_argnums(argnums: int | Sequence[int]) -> int:
    """The set of gradients that ``argnums`` of a public function asks for."""
    wanted: tuple[int, ...] = tuple(argnums) if isinstance(argnums, (tuple, list)) else (argnums,)  # type: ignore[assignment]
    if not wanted or any(type(number) is not int or number not in (0, 1) for number in wanted):
        raise ValueError(f"argnums = {argnums!r}; expected 0 for img1, 1 for img2, or a tuple of them")
    return wanted_gradients(0 in wanted, 1 in wanted)


def as_argnums_ask(argnums: int | Sequence[int], gradients: Sequence[Any]) -> Any:
    """The gradients by both images as a public function returns them: several in a tuple, or the one."""
    if isinstance(argnums, (tuple, list)):
        return tuple(gradients[number] for number in argnums)
    return gradients[argnums]  # type: ignore[index]
