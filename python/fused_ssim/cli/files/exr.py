# SPDX-License-Identifier: MIT
"""OpenEXR, by the project's own bindings (extra `exr`)."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fused_ssim.cli.common import extra
from fused_ssim.cli.files.picture import Raw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fused_ssim.cli.files.source import Source

_silence = threading.Lock()


def read_exr(source: Source) -> Raw:
    """The image of an EXR file: its channels RGB, RGBA or Y, or all if there is only one kind."""
    with extra("exr"):
        import OpenEXR

    with _silent(), source.stream() as stream:
        file = OpenEXR.File(stream)
        if not file.parts:
            raise ValueError("the file is damaged or cut off")
        channels = {name: channel.pixels for name, channel in file.parts[0].channels.items()}
        header = file.parts[0].header
        parts = len(file.parts)
    if any(pixels is None for pixels in channels.values()):
        raise ValueError("the file is damaged or cut off")
    name = next((name for name in ("RGB", "RGBA", "Y") if name in channels), None)
    if name is None:
        if len(channels) != 1:
            raise ValueError(f"holds the channels {', '.join(channels)}, and none is the picture (RGB, RGBA or Y)")
        name = next(iter(channels))
    values = channels[name]
    notes = []
    if parts > 1:
        notes.append(f"holds {parts} parts; the first is taken")
    left_out = [other for other in channels if other != name]
    if left_out:
        notes.append(f"its channels {', '.join(left_out)} are left out")
    if str(header.get("dataWindow")) != str(header.get("displayWindow")):
        notes.append("its data window is not its display window; the data window is compared")
    raw = Raw(values, "HWC" if values.ndim == 3 else "HW", notes=notes)
    if name == "RGBA":
        raw.values, raw.alpha, raw.premultiplied = values[..., :3], values[..., 3], True
    return raw


class _NotHere:
    """A text stream that passes on what other threads write, and drops what this one does."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self.thread else int(self.stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def _silent() -> Iterator[None]:
    """OpenEXR prints what it finds wrong, and tells its caller less. Its prints go nowhere.

    It prints through `sys.stdout`, where results of other files may be on their way at the same time, and from C to
    stderr, where at most a step of the progress bar is lost.
    """
    with _silence, open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        before = sys.stdout
        sys.stdout = _NotHere(before)
        copy = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(copy, 2)
            os.close(copy)
            sys.stdout = before
