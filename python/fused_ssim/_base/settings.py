# SPDX-License-Identifier: MIT
"""What a call computes: :class:`Settings`, checked once and kept.

:class:`Settings` is the only list of the settings. Everything that passes them on is derived from its fields: the
checks, the arguments of the operators in ``_torch.operators``, and :func:`native_settings`. So a new setting is a field
here, with its check and its line in the docstring, and a property of the native class of the same name.

Names and types are checked here. Ranges of numbers are checked by the native library.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .._core import FLOAT32, MAX_WINDOW_SIZE
from .._core import Settings as NativeSettings
from .arguments import (
    choice,
    each_axis,
    expected_size,
    flag,
    integer_scales,
    number,
    numbers,
    optional,
    pair,
    sigma_of_axis,
    size_of_axis,
)
from .codes import ARITHMETICS, BACKENDS, DTYPES, MASK_MODES, PADDINGS, REDUCTIONS, is_integer

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


def scale_weights(weights: Iterable[Any] | None) -> tuple[float, ...]:
    """The weights of the scales of MS-SSIM, or those of the paper."""
    checked = SCALE_WEIGHTS if weights is None else numbers("weights", weights)
    if not checked:
        raise ValueError("weights is empty; expected a weight for each scale")
    return checked


# ---- The settings ----------------------------------------------------------------------------------------------------


def _trusted(_name: str, value: Any) -> Any:
    """The check of a value that only this package sets."""
    return value


def _by(check: Callable[[str, Any], Any], native: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """Metadata of a field: its check, and how its value becomes the native one. Most values stay as they are."""
    return {"check": check, "native": native}


@dataclass(frozen=True, eq=False)  # compared by identity: a cheap key of the plan cache
class Settings:
    """What to compute.

    Attributes:
        padding: how the border of the images is treated: a key of ``PADDINGS``.
        reduction: how the map becomes the value: a key of ``REDUCTIONS``.
        window_size: taps of the window: one number for all spatial axes, or one for each.
        sigma: standard deviation of the Gaussian window, in pixels: one number, or one for each axis.
        k1: the constant of the luminance term, as a share of ``data_range``.
        k2: the constant of the contrast term, as a share of ``data_range``.
        data_range: the largest value that a pixel can have minus the smallest; None: that of the dtypes.
        normalized: whether a mask also weighs the pixels of each window.
        lambda_dssim: the share of SSIM in a photometric loss; None: no loss, but SSIM.
        taps: the windows themselves, instead of Gaussians: as many numbers for each as ``window_size`` says, window
            after window.
        sample_covariance: whether variances and the covariance are multiplied by n / (n - 1).
        arithmetic: the dtype of the arithmetic: a key of ``ARITHMETICS``; None: as the images want it.
        integer_scale: what 1 stands for in either image, if it is one of integers.
        float32_window: whether :data:`FLOAT32_WINDOW` stands for the Gaussian that it rounds, if the arithmetic is
            float32. The native library does not know this one.
        weights: of the scales of MS-SSIM, finest first; None: SSIM.
        backend: what computes it: one of ``BACKENDS``. The native library does not know this one.
        names: of the two images, in error messages.

    """

    padding: str = field(default="same", metadata=_by(choice(PADDINGS), PADDINGS.__getitem__))
    reduction: str = field(default="mean", metadata=_by(choice(REDUCTIONS), lambda name: REDUCTIONS[name].code))
    window_size: tuple[int, ...] = field(default=(11,), metadata=_by(each_axis(size_of_axis)))
    sigma: tuple[float, ...] = field(default=(1.5,), metadata=_by(each_axis(sigma_of_axis)))
    k1: float = field(default=0.01, metadata=_by(number))
    k2: float = field(default=0.03, metadata=_by(number))
    data_range: float | None = field(default=None, metadata=_by(optional(number)))
    normalized: bool = field(default=False, metadata=_by(_trusted))
    lambda_dssim: float | None = field(default=None, metadata=_by(number))
    taps: tuple[float, ...] | None = field(default=None, metadata=_by(_trusted))
    sample_covariance: bool = field(default=False, metadata=_by(flag, int))
    arithmetic: str | None = field(
        default=None, metadata=_by(optional(choice(ARITHMETICS)), lambda name: ARITHMETICS.get(name, FLOAT32))
    )
    integer_scale: tuple[float, float] = field(default=(1.0, 1.0), metadata=_by(integer_scales))
    float32_window: bool = field(default=False, metadata=_by(_trusted))
    weights: tuple[float, ...] | None = field(default=None, metadata=_by(optional(numbers)))
    backend: str = field(default="auto", metadata=_by(choice(BACKENDS)))
    names: tuple[str, str] = field(default=("img1", "img2"), metadata=_by(_trusted))


_CHECKS: dict[str, Callable[[str, Any], Any]] = {each.name: each.metadata["check"] for each in fields(Settings)}


def _constants(name: str, value: Any) -> dict[str, Any]:
    k1, k2 = pair(name, value)
    return {"k1": k1, "k2": k2}


def _mask_mode(name: str, value: Any) -> dict[str, Any]:
    return {"normalized": choice(MASK_MODES)(name, value) == "normalized"}


# Arguments that are not fields of the same name. `known_taps` are taps of `window_size` that need no check, as modules
# of this package have them: a compiler cannot look into all of those.
_OTHER_ARGUMENTS: dict[str, Callable[[str, Any], dict[str, Any]]] = {
    "K": _constants,
    "mask_mode": _mask_mode,
    "known_taps": lambda _name, value: {"taps": value},
}


def checked_settings(**arguments: Any) -> Settings:
    """The settings for arguments of a public function; those that are not given have their defaults."""
    return Settings(**_checked_values(**arguments))


def _checked_values(*, taps: Any = None, **arguments: Any) -> dict[str, Any]:
    """The fields of the settings."""
    values: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in _OTHER_ARGUMENTS:
            values.update(_OTHER_ARGUMENTS[name](name, value))
        else:
            values[name] = _CHECKS[name](name, value)
    if taps is not None:
        values.update(_own_windows(taps, values.get("window_size", Settings.window_size)))
    return values


UNIFORM = "uniform"


def _own_windows(taps: Any, window_size: tuple[int, ...]) -> dict[str, Any]:
    """``taps`` and ``window_size`` of the settings, for windows that are not Gaussian."""
    if isinstance(taps, str):
        choice((UNIFORM,))("taps", taps)
        windows = [(1 / max(size, 1),) * size for size in window_size]
    elif not hasattr(taps, "__len__"):
        raise TypeError(f'taps = {taps!r}; expected "{UNIFORM}", a list of numbers, or one for each spatial axis')
    elif len(taps) and hasattr(taps[0], "__len__"):
        if len(taps) not in (2, 3):
            raise ValueError(f"taps has {len(taps)} windows; expected one for each of two or three spatial axes")
        windows = [numbers(f"taps[{axis}]", each) for axis, each in enumerate(taps)]
    else:
        windows = [numbers("taps", taps)]
    sizes = tuple(len(window) for window in windows)
    if sizes != window_size and window_size != Settings.window_size:
        raise ValueError(f"taps has windows of {sizes} numbers, but window_size = {window_size}; expected the same")
    for size in sizes:
        if not (size % 2 and size <= MAX_WINDOW_SIZE):
            what = f"window_size = {size}" if isinstance(taps, str) else f"taps has a window of {size} numbers"
            raise ValueError(f"{what}, {expected_size(size)}")
    return {"taps": tuple(tap for window in windows for tap in window), "window_size": sizes}


@lru_cache(maxsize=256)
def for_dtypes(settings: Settings, dtype1: str, dtype2: str) -> Settings:
    """The settings for images of these dtypes: with a data range, and scales of integers only.

    Without change, this is the same object.
    """
    scales = tuple(
        scale if is_integer(dtype) else 1.0
        for scale, dtype in zip(settings.integer_scale, (dtype1, dtype2), strict=True)
    )
    changes: dict[str, Any] = {} if scales == settings.integer_scale else {"integer_scale": scales}
    if settings.data_range is None:
        changes["data_range"] = _default_range(settings, dtype1, dtype2)
    if (
        settings.float32_window
        and arithmetic_of(settings, dtype1, dtype2) == "float32"
        and (settings.window_size, settings.sigma, settings.taps) == ((11,), (1.5,), None)
    ):
        changes["taps"] = FLOAT32_WINDOW
    return replace(settings, **changes) if changes else settings


def arithmetic_of(settings: Settings, dtype1: str, dtype2: str) -> str:
    """The dtype of the arithmetic, and so of values and maps."""
    wanted = {settings.arithmetic, DTYPES[dtype1].arithmetic, DTYPES[dtype2].arithmetic}
    return "float64" if "float64" in wanted else "float32"


def _default_range(settings: Settings, dtype1: str, dtype2: str) -> float:
    """1 for floats; for integers that of their dtype, in what they stand for."""
    found = []
    for dtype, scale in zip((dtype1, dtype2), settings.integer_scale, strict=True):
        known = DTYPES[dtype].data_range
        if known is not None:
            found.append(known * scale)
    if not found:
        return 1.0
    if not math.isclose(found[0], found[-1], rel_tol=1e-9):
        name1, name2 = settings.names
        raise ValueError(
            f"data_range is missing: it would be {found[0]:g} for {name1} of {dtype1}, and {found[1]:g} for {name2} of "
            f"{dtype2} (integer_scale = {settings.integer_scale})"
        )
    return found[0]


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


# What all public functions of one pair of images take, in the order in which they hand it on.
COMMON_SETTINGS = (
    "padding",
    "window_size",
    "sigma",
    "taps",
    "sample_covariance",
    "data_range",
    "integer_scale",
    "K",
    "arithmetic",
    "reduction",
    "mask_mode",
)


def ordered_settings(
    settings_of: Callable[..., Settings], is_compiling: Callable[[], bool], *names: str, **others: Any
) -> Callable[..., Settings]:
    """A ``settings_of`` for arguments of these names without the names, which takes less time; and for some others."""

    @lru_cache(maxsize=256, typed=True)
    def kept(*values: Any) -> Settings:
        return _checked_if_plain(**others, **dict(zip(names, values, strict=True)))

    def settings(*values: Any) -> Settings:
        if not is_compiling():
            try:
                return kept(*values)
            except (_NotPlainError, TypeError):
                pass  # as settings_of finds, too
        return settings_of(**others, **dict(zip(names, values, strict=True)))

    return settings


class _NotPlainError(Exception):
    """An argument cannot be a key of the cache, for instance a tensor, which may change its value."""


_PLAIN = {bool, int, float, str, type(None)}


def _checked_if_plain(**arguments: Any) -> Settings:
    for value in arguments.values():
        parts = value if type(value) is tuple else (value,)
        if not all(type(part) in _PLAIN for part in parts):
            raise _NotPlainError
    return checked_settings(**arguments)


_kept = lru_cache(maxsize=256, typed=True)(_checked_if_plain)


@lru_cache(maxsize=256, typed=True)
def _kept_values(**values: Any) -> Settings:
    return Settings(**values)


@lru_cache(maxsize=256)
def with_backend(settings: Settings, backend: str) -> Settings:
    """The same settings for another backend; the same object every time, since they are compared by identity."""
    return replace(settings, backend=backend)


# Settings that the native library does not know.
NOT_NATIVE = ("backend", "float32_window")


def native_settings(settings: Settings) -> NativeSettings:
    """The settings as the native library takes them; they are those of :func:`for_dtypes`."""
    result = NativeSettings()
    for each in fields(Settings):
        if each.name in NOT_NATIVE:
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
    "str | None": "str?",
    "float | None": "float?",
    "tuple[int, ...]": "int[]",
    "tuple[float, ...]": "float[]",
    "tuple[float, float]": "float[]",
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
