# SPDX-License-Identifier: MIT
"""What a call computes, checked: names and types here, numbers by the native library.

A :class:`Settings` is made once for each set of arguments and kept, so that a training step looks up one and checks
nothing twice.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

PADDINGS = ("same", "valid")
REDUCTIONS = ("mean", "sum", "image", "channel", "none")
MASK_MODES = ("weight", "normalized")

# Wang, Simoncelli and Bovik 2003: the weights of the five scales of MS-SSIM, finest first.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@dataclass(frozen=True, eq=False)  # compared by identity: a cheap key of the plan cache
class Settings:
    """What to compute.

    ``taps`` replaces the Gaussian of ``window_size`` and ``sigma``. ``lambda_dssim`` makes a photometric loss of SSIM,
    ``weights`` makes MS-SSIM of it. ``names`` are those of the images in error messages.
    """

    padding: str = "same"
    reduction: str = "mean"
    window_size: int = 11
    sigma: float = 1.5
    k1: float = 0.01
    k2: float = 0.03
    data_range: float = 1.0
    normalized: bool = False
    lambda_dssim: float | None = None
    taps: tuple[float, ...] | None = None
    weights: tuple[float, ...] | None = None
    names: tuple[str, str] = ("img1", "img2")


def is_compiling() -> bool:
    """Whether torch.compile is tracing. ``_native`` puts torch's own answer here: this module does without torch."""
    return False


def settings(
    padding: str,
    window_size: int,
    sigma: float,
    data_range: float,
    K: tuple[float, float],
    reduction: str,
    mask_mode: str = "weight",
    lambda_dssim: float | None = None,
    taps: tuple[float, ...] | None = None,
    weights: tuple[float, ...] | None = None,
    names: tuple[str, str] = ("img1", "img2"),
) -> Settings:
    """The settings of a call, from the cache if there was one like it."""
    make = _settings if is_compiling() else _kept_settings  # the compiler does not look into a cache
    try:
        return make(
            padding, window_size, sigma, data_range, K, reduction, mask_mode, lambda_dssim, taps, weights, names
        )
    except _NotPlainError:
        pass
    except TypeError as error:  # an unhashable argument, such as K as a list; anything else has a text of its own
        if "unhashable" not in str(error):
            raise
    _choice("padding", padding, PADDINGS)
    _choice("reduction", reduction, REDUCTIONS)
    _choice("mask_mode", mask_mode, MASK_MODES)
    return make(
        padding,
        _integer("window_size", window_size),
        number("sigma", sigma),
        number("data_range", data_range),
        _pair("K", K),
        reduction,
        mask_mode,
        None if lambda_dssim is None else number("lambda_dssim", lambda_dssim),
        taps,
        None if weights is None else numbers("weights", weights),
        names,
    )


class _NotPlainError(Exception):
    """An argument cannot be a key of the cache, for instance a tensor, which may change its value."""


def _settings(
    padding: str,
    window_size: int,
    sigma: float,
    data_range: float,
    K: tuple[float, float],
    reduction: str,
    mask_mode: str,
    lambda_dssim: float | None,
    taps: tuple[float, ...] | None,
    weights: tuple[float, ...] | None,
    names: tuple[str, str],
) -> Settings:
    plain = (
        type(window_size) is int
        and type(sigma) in (int, float)
        and type(data_range) in (int, float)
        and type(K) is tuple
        and all(type(k) in (int, float) for k in K)
        and (lambda_dssim is None or type(lambda_dssim) in (int, float))
        and (weights is None or (type(weights) is tuple and all(type(weight) in (int, float) for weight in weights)))
    )
    if not plain:
        raise _NotPlainError
    k1, k2 = _pair("K", K)
    if not -(2**31) <= window_size < 2**31:  # the native library sees 32 bits; torch 2.4 cannot trace bit_length()
        raise ValueError(f"window_size = {window_size}, expected an odd number from 1 to 33")
    return Settings(
        padding=_choice("padding", padding, PADDINGS),
        reduction=_choice("reduction", reduction, REDUCTIONS),
        window_size=window_size,
        sigma=float(sigma),
        k1=k1,
        k2=k2,
        data_range=float(data_range),
        normalized=_choice("mask_mode", mask_mode, MASK_MODES) == "normalized",
        lambda_dssim=None if lambda_dssim is None else float(lambda_dssim),
        taps=taps,
        weights=None if weights is None else tuple(map(float, weights)),
        names=names,
    )


_kept_settings = lru_cache(maxsize=256, typed=True)(_settings)


def _choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in choices:
        return value
    expected = ", ".join(f'"{choice}"' for choice in choices)
    error = ValueError if isinstance(value, str) else TypeError
    raise error(f"{name} = {value!r}; expected one of {expected}")


def _integer(name: str, value: object) -> int:
    if not isinstance(value, bool):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{name} = {value!r}; expected an integer")


def number(name: str, value: object) -> float:
    """``value`` as a float; an error that names it if it is no number."""
    if not isinstance(value, (bool, str)):
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, RuntimeError, OverflowError):
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


def scale_weights(weights: Iterable[Any] | None) -> tuple[float, ...]:
    """The weights of the scales of MS-SSIM, or those of the paper."""
    return SCALE_WEIGHTS if weights is None else numbers("weights", weights)


def _pair(name: str, value: Any) -> tuple[float, float]:
    try:
        first, second = value
    except (TypeError, ValueError):
        raise TypeError(f"{name} = {value!r}; expected two numbers, such as (0.01, 0.03)") from None
    return number(f"{name}[0]", first), number(f"{name}[1]", second)
