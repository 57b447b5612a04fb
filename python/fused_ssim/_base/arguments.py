# SPDX-License-Identifier: MIT
"""Checks of arguments: from what a caller passes to a value of a plain type, or an error that names the argument."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

from .._core import MAX_WINDOW_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


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


def each_axis(check: Callable[[str, Any], Any]) -> Callable[[str, Any], tuple[Any, ...]]:
    """The check of one number for all spatial axes, or of one for each of two or three; the result is a tuple."""

    def check_each(name: str, value: Any) -> tuple[Any, ...]:
        if type(value) is tuple and len(value) == 1:
            return (check(name, value[0]),)
        is_one = isinstance(value, (int, float)) or getattr(value, "ndim", 0) == 0  # ndim: of arrays and tensors
        if is_one and not isinstance(value, (tuple, list)):
            return (check(name, value),)
        if len(value) not in (2, 3):
            raise ValueError(f"{name} = {value!r}; expected one number, or one for each of two or three spatial axes")
        return tuple(check(f"{name}[{axis}]", each) for axis, each in enumerate(value))

    return check_each


def size_of_axis(name: str, value: object) -> int:
    """``value`` as the size of a window, for :func:`each_axis`."""
    size = integer(name, value)
    # The native library takes 32 bits. It checks single numbers; axes it counts in another way. torch 2.4 cannot trace
    # bit_length().
    if not -(2**31) <= size < 2**31 or ("[" in name and not (0 < size <= MAX_WINDOW_SIZE and size % 2)):
        raise ValueError(f"{name} = {size}, {expected_size(size)}")
    return size


def expected_size(size: int) -> str:
    """What is expected instead of a window of this size, in the words of the native library."""
    reason = "" if size % 2 else ": a window has an element in its middle"
    return f"expected an odd number from 1 to {MAX_WINDOW_SIZE}{reason}"


def sigma_of_axis(name: str, value: object) -> float:
    """``value`` as the sigma of a window, for :func:`each_axis`."""
    sigma = number(name, value)
    if "[" in name and not 0 < sigma < math.inf:
        raise ValueError(f"{name} = {sigma:g}, expected a positive number")
    return sigma


def pair(name: str, value: Any, example: str = "(0.01, 0.03)") -> tuple[float, float]:
    """``value``, two numbers, as a tuple."""
    try:
        first, second = value
    except (TypeError, ValueError):
        raise TypeError(f"{name} = {value!r}; expected two numbers, such as {example}") from None
    return number(f"{name}[0]", first), number(f"{name}[1]", second)


def flag(name: str, value: object) -> bool:
    """``value`` as a bool; an error that names it if it is none."""
    if isinstance(value, bool):
        return value
    raise TypeError(f"{name} = {value!r}; expected True or False")


def integer_scales(name: str, value: Any) -> tuple[float, float]:
    """``value``, a positive number for both images or one for each, as a tuple."""
    scales = pair(name, value, "(1, 1 / 255)") if isinstance(value, (tuple, list)) else (number(name, value),) * 2
    for index, scale in enumerate(scales):
        if not 0 < scale < math.inf:
            which = f"{name}[{index}]" if isinstance(value, (tuple, list)) else name
            raise ValueError(f"{which} = {scale:g}, expected a positive number")
    return scales
