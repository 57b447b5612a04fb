# SPDX-License-Identifier: MIT
"""What a call computes: :class:`Settings`, checked once and kept.

:class:`Settings` is the only list of the settings. Everything that passes them on is derived from its fields: the
checks, the arguments of the operators in ``_torch.operators``, and :func:`native_settings`. So a new setting is a field
here, with its check and its line in the docstring, and a property of the native class of the same name.

Names and types are checked here. Ranges of numbers are checked by the native library.
"""

from __future__ import annotations

import math
import operator
import struct
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .._core import MAX_WINDOW_SIZE
from .._core import Settings as NativeSettings
from .codes import BACKENDS, MASK_MODES, PADDINGS, REDUCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# Wang, Simoncelli and Bovik 2003: the weights of the five scales of MS-SSIM, finest first.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# A constant K so large that its term is 1 to the last digit, and SSIM is the other term alone, for images up to some
# thousand data ranges. With data ranges up to 10**7 its square is within the range of float32.
INFINITE_K = 1e10


def rounded_to_float32(value: float) -> float:
    """The nearest float32; infinite beyond their range."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


# The window of 11 taps and sigma 1.5, first half and centre, as fused-ssim and fused-ssim3D have it: rounded to float32
# before and after the division by its sum. Now its sum is 1 - 3.1e-8, which moves SSIM by 2e-7. Functions that replace
# those packages use it for images whose arithmetic is float32; what has no such predecessor uses the Gaussian itself.
_FLOAT32_HALF = (
    0.001028380123898387,
    0.0075987582094967365,
    0.036000773310661316,
    0.10936068743467331,
    0.21300552785396576,
    0.26601171493530273,
)
FLOAT32_WINDOW = tuple(rounded_to_float32(tap) for tap in (*_FLOAT32_HALF, *_FLOAT32_HALF[-2::-1]))


# ---- Checks: from an argument to a value of plain type, or an error that names the argument --------------------------


def choice(choices: Iterable[str]) -> Callable[[str, object], str]:
    """The check of an argument that is one of these words."""

    def check(name: str, value: object) -> str:
        if isinstance(value, str) and value in choices:
            return value
        expected = ", ".join(f'"{word}"' for word in choices)
        error = ValueError if isinstance(value, str) else TypeError
        raise error(f"{name} = {value!r}; expected one of {expected}")

    return check


def integer(name: str, value: object) -> int:
    """``value`` as an int; an error that names it if it is no integer."""
    if type(value) is int:
        return value
    if not isinstance(value, bool):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{name} = {value!r}; expected an integer")


def number(name: str, value: object) -> float:
    """``value`` as a float; an error that names it if it is no number."""
    if type(value) is float:
        return value
    if not isinstance(value, (bool, str)):
        try:
            return float(value)  # type: ignore[arg-type]
        except OverflowError:
            raise ValueError(f"{name} is an integer beyond the range of float64") from None
        except (TypeError, ValueError, RuntimeError):
            pass
    raise TypeError(f"{name} = {value!r}; expected a number")


def numbers(name: str, values: Iterable[Any]) -> tuple[float, ...]:
    """``values``, a list or a tensor of one axis, as a tuple of floats."""
    try:
        return tuple(number(f"{name}[{index}]", value) for index, value in enumerate(values))
    except TypeError as error:
        if str(error).startswith(f"{name}["):
            raise
    raise TypeError(f"{name} = {values!r}; expected a list of numbers")


def optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """A check that also takes None."""
    return lambda name, value: None if value is None else check(name, value)


def scale_weights(weights: Iterable[Any] | None) -> tuple[float, ...]:
    """The weights of the scales of MS-SSIM, or those of the paper."""
    checked = SCALE_WEIGHTS if weights is None else numbers("weights", weights)
    if not checked:
        raise ValueError("weights is empty; expected a weight for each scale")
    return checked


def _window_size(name: str, value: object) -> int:
    size = integer(name, value)
    if not -(2**31) <= size < 2**31:  # the native library takes 32 bits; torch 2.4 cannot trace bit_length()
        raise ValueError(f"{name} = {size}, expected an odd number from 1 to {MAX_WINDOW_SIZE}")
    return size


def _pair(name: str, value: Any) -> tuple[float, float]:
    try:
        first, second = value
    except (TypeError, ValueError):
        raise TypeError(f"{name} = {value!r}; expected two numbers, such as (0.01, 0.03)") from None
    return number(f"{name}[0]", first), number(f"{name}[1]", second)


def _trusted(_name: str, value: Any) -> Any:
    """The check of a value that only this package sets."""
    return value


# ---- The settings ----------------------------------------------------------------------------------------------------


def _by(check: Callable[[str, Any], Any], native: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """Metadata of a field: its check, and how its value becomes the native one. Most values stay as they are."""
    return {"check": check, "native": native}


@dataclass(frozen=True, eq=False)  # compared by identity: a cheap key of the plan cache
class Settings:
    """What to compute.

    Attributes:
        padding: how the border of the images is treated: a key of ``PADDINGS``.
        reduction: how the map becomes the value: a key of ``REDUCTIONS``.
        window_size: taps of the window along each axis.
        sigma: standard deviation of the Gaussian window, in pixels.
        k1: the constant of the luminance term, as a share of ``data_range``.
        k2: the constant of the contrast term, as a share of ``data_range``.
        data_range: the largest value that a pixel can have minus the smallest.
        normalized: whether a mask also weighs the pixels of each window.
        lambda_dssim: the share of SSIM in a photometric loss; None: no loss, but SSIM.
        taps: the window itself, instead of the Gaussian of ``window_size`` and ``sigma``.
        weights: of the scales of MS-SSIM, finest first; None: SSIM.
        backend: what computes it: one of ``BACKENDS``. The native library does not know this one.
        names: of the two images, in error messages.

    """

    padding: str = field(default="same", metadata=_by(choice(PADDINGS), PADDINGS.__getitem__))
    reduction: str = field(default="mean", metadata=_by(choice(REDUCTIONS), lambda name: REDUCTIONS[name].code))
    window_size: int = field(default=11, metadata=_by(_window_size))
    sigma: float = field(default=1.5, metadata=_by(number))
    k1: float = field(default=0.01, metadata=_by(number))
    k2: float = field(default=0.03, metadata=_by(number))
    data_range: float = field(default=1.0, metadata=_by(number))
    normalized: bool = field(default=False, metadata=_by(_trusted))
    lambda_dssim: float | None = field(default=None, metadata=_by(number))
    taps: tuple[float, ...] | None = field(default=None, metadata=_by(_trusted))
    weights: tuple[float, ...] | None = field(default=None, metadata=_by(optional(numbers)))
    backend: str = field(default="auto", metadata=_by(choice(BACKENDS)))
    names: tuple[str, str] = field(default=("img1", "img2"), metadata=_by(_trusted))


_CHECKS: dict[str, Callable[[str, Any], Any]] = {each.name: each.metadata["check"] for each in fields(Settings)}


def _constants(name: str, value: Any) -> dict[str, Any]:
    k1, k2 = _pair(name, value)
    return {"k1": k1, "k2": k2}


def _mask_mode(name: str, value: Any) -> dict[str, Any]:
    return {"normalized": choice(MASK_MODES)(name, value) == "normalized"}


# Arguments of public functions that are not fields of the same name.
_OTHER_ARGUMENTS: dict[str, Callable[[str, Any], dict[str, Any]]] = {"K": _constants, "mask_mode": _mask_mode}


def checked_settings(**arguments: Any) -> Settings:
    """The settings for arguments of a public function; those that are not given have their defaults."""
    return Settings(**_checked_values(**arguments))


def _checked_values(*, float32_window: bool = False, **arguments: Any) -> dict[str, Any]:
    """The fields of the settings. ``float32_window``: :data:`FLOAT32_WINDOW` instead of the Gaussian that it rounds."""
    values: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in _OTHER_ARGUMENTS:
            values.update(_OTHER_ARGUMENTS[name](name, value))
        else:
            values[name] = _CHECKS[name](name, value)
    if float32_window and values["window_size"] == 11 and values["sigma"] == 1.5:
        values["taps"] = FLOAT32_WINDOW
    return values


def settings_factory(is_compiling: Callable[[], bool]) -> Callable[..., Settings]:
    """:func:`checked_settings` with a cache, so that a training step looks up one object and checks nothing twice.

    ``is_compiling`` says whether torch.compile is tracing, which does not look into a cache.
    """

    def settings_of(**arguments: Any) -> Settings:
        if is_compiling():
            return checked_settings(**arguments)
        try:
            return _kept(**arguments)
        except _NotPlainError:
            pass
        except TypeError as error:  # an unhashable argument, such as K as a list; anything else has a text of its own
            if "unhashable" not in str(error):
                raise
        return _kept_values(**_checked_values(**arguments))  # which are plain

    return settings_of


class _NotPlainError(Exception):
    """An argument cannot be a key of the cache, for instance a tensor, which may change its value."""


_PLAIN = {bool, int, float, str, type(None)}


@lru_cache(maxsize=256, typed=True)
def _kept(**arguments: Any) -> Settings:
    for value in arguments.values():
        parts = value if type(value) is tuple else (value,)
        if not all(type(part) in _PLAIN for part in parts):
            raise _NotPlainError
    return checked_settings(**arguments)


@lru_cache(maxsize=256, typed=True)
def _kept_values(**values: Any) -> Settings:
    return Settings(**values)


@lru_cache(maxsize=256)
def with_backend(settings: Settings, backend: str) -> Settings:
    """The same settings for another backend; the same object every time, since they are compared by identity."""
    return replace(settings, backend=backend)


def native_settings(settings: Settings) -> NativeSettings:
    """The settings as the native library takes them."""
    result = NativeSettings()
    for each in fields(Settings):
        if each.name == "backend":
            continue
        value, convert = getattr(settings, each.name), each.metadata["native"]
        setattr(result, each.name, value if convert is None else convert(value))
    return result


# ---- The settings as a row of arguments, for the operators of torch --------------------------------------------------

# All but the names of the images, which differ between functions that compute the same.
_PACKED = tuple(each for each in fields(Settings) if each.name != "names")
_PACKED_NAMES = tuple(each.name for each in _PACKED)

_SCHEMA_TYPES: Mapping[Any, str] = {
    "str": "str",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "float | None": "float?",
    "tuple[float, ...] | None": "float[]?",
}

# In the language of torch.library. Without defaults: the dispatcher would leave out arguments equal to theirs.
SCHEMA = ", ".join(f"{_SCHEMA_TYPES[each.type]} {each.name}" for each in _PACKED)


def setting_names() -> tuple[str, ...]:
    """The names of the settings, as :func:`pack` has them."""
    return _PACKED_NAMES


def pack(settings: Settings) -> list[Any]:
    """The settings as arguments in the order of ``SCHEMA``."""
    return [getattr(settings, name) for name in _PACKED_NAMES]


def unpack(values: Iterable[Any]) -> Settings:
    """The settings that :func:`pack` made these arguments of."""
    return _unpacked(*(tuple(value) if isinstance(value, list) else value for value in values))


@lru_cache(maxsize=256)
def _unpacked(*values: Any) -> Settings:
    return Settings(**dict(zip(_PACKED_NAMES, values, strict=True)))
