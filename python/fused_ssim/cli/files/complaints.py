# SPDX-License-Identifier: MIT
"""What reading packages say on the way, by `warnings` or `logging`, as notes of the file they are about.

Both ways are one for the whole process, while files are read in several threads. So there is one place that listens for
all, `hearing()` around a run, and hands every message to the thread it was said in, `complaints()` around a file.
"""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGGERS = ("tifffile", "nibabel", "nibabel.global", "pydicom", "PIL", "libav", "netpbmfile")

_heard = threading.local()


class Complaints(list[str]):
    """The messages about one file; those of logging level ERROR are in `errors`, too."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []


@contextmanager
def complaints() -> Iterator[Complaints]:
    """Collects what is said in this thread."""
    before, found = getattr(_heard, "messages", None), Complaints()
    _heard.messages = found
    try:
        yield found
    finally:
        _heard.messages = before


def _add(message: str, error: bool = False) -> None:
    messages: Complaints | None = getattr(_heard, "messages", None)
    line = " ".join(message.split())
    if messages is None or line in messages:
        return
    messages.append(line)
    if error:
        messages.errors.append(line)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _add(record.getMessage(), record.levelno >= logging.ERROR)


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    _add(str(message))


@contextmanager
def hearing() -> Iterator[None]:
    """Listens to all threads."""
    handler = _Handler(logging.WARNING)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.propagate, list(logger.handlers)) for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.showwarning = _show
        for logger in loggers:
            logger.handlers = [handler]
            logger.propagate = False
        try:
            yield
        finally:
            for logger, (propagate, handlers) in zip(loggers, before, strict=True):
                logger.propagate, logger.handlers = propagate, handlers
