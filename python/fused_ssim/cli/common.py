# SPDX-License-Identifier: MIT
"""What the commands share: errors, optional packages, the option --device. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from fused_ssim._base.codes import DEVICES

Command = TypeVar("Command", bound=Callable[..., Any])


BELOW, STOPPED = 2, 130  # exit statuses: below --fail-under, after Ctrl-C; 1 is an error


class Failure(click.ClickException):
    """An error that the user can understand and mend: one line on stderr, exit code 1."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports of packages of the extra `name`: a missing one becomes a line that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "fused_ssim":
            raise
        missing = error.name.partition(".")[0]
        raise Failure(
            f"this needs the Python package '{missing}', which is not installed: pip install 'fused-ssim[{name}]'"
        ) from error


def device_option(command: Command) -> Command:
    """The option --device of a command."""
    return click.option(
        "--device",
        type=click.Choice(["auto", *DEVICES]),
        default="auto",
        show_default=True,
        help="Where to compute; auto takes CUDA if it can be used.",
    )(command)


def check_writable(path: Path) -> None:
    """Refuses a file that cannot be written, before the work whose result it is for."""
    shown = click.format_filename(path)
    if path.is_dir():
        raise Failure(f"{shown}: cannot be written: it is a folder")
    if not path.parent.is_dir():
        raise Failure(f"{shown}: cannot be written: there is no folder {click.format_filename(path.parent)}")
    target = path if path.exists() else path.parent
    if not os.access(target, os.W_OK):
        raise Failure(f"{shown}: cannot be written: no permission")


def make_folder(path: Path) -> None:
    """Makes a folder for results, with those above it; one that is there is left as it is."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{click.format_filename(path)}: cannot be made: {error.strerror or error}") from error


def keep_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuses to write a file that is read."""
    existing = {path.resolve(): path for path in outputs if path.exists()}
    if not existing:
        return
    for path in inputs:
        if path.resolve() in existing:
            raise Failure(f"{click.format_filename(path)}: is read, and would be overwritten with results")
