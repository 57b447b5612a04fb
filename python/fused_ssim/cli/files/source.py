# SPDX-License-Identifier: MIT
"""A file to be read: its name, its first bytes, and the rest when it is wanted. Pipes are read once, as a whole."""

from __future__ import annotations

import io
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 4096


class Source:
    """One file. `path` is as the user gave it."""

    def __init__(self, path: Path) -> None:
        if path.is_char_device() or path.is_block_device():
            raise ValueError("it is a device, which may have no end")
        self.path = path
        self.name = path.name.lower()
        self.is_plain = path.is_file()  # and no pipe, so it can be opened several times

    @cached_property
    def data(self) -> bytes:
        """All of it."""
        return self.path.read_bytes()

    @cached_property
    def head(self) -> bytes:
        """The first bytes, which say what the file is."""
        if not self.is_plain or "data" in self.__dict__:
            return self.data[:HEAD]
        with self.path.open("rb") as file:
            return file.read(HEAD)

    def stream(self) -> BinaryIO:
        """The file, to be read from its beginning; close it."""
        return self.path.open("rb") if self.is_plain else io.BytesIO(self.data)
