# SPDX-License-Identifier: MIT
"""Films, frame by frame, by PyAV (extra `video`): the decoders of FFmpeg, without a program beside Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fused_ssim.cli.common import Failure, extra
from fused_ssim.cli.files.picture import Picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fused_ssim.cli.results import Array

ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".y4m", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv")
UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
FULL_RANGE = 2  # AVCOL_RANGE_JPEG
WITH_OPACITY = ("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya8", "ya16", "ayuv", "vuya")
STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")


def is_film(path: Path) -> bool:
    """Whether a file is a film, by its first bytes, or by its name where these do not tell."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:8] == b"ftyp":
        return head[8:12] not in STILL_BRANDS
    if head[:4] == b"RIFF":
        return head[8:12] == b"AVI "
    if head.startswith((b"\x1aE\xdf\xa3", b"YUV4MPEG2", b"FLV\1", b"OggS", b"\0\0\1\xba")):
        return True
    return path.name.lower().endswith((".ts", ".mpg", ".mpeg", ".wmv", ".mov")) and not head.startswith(b"\x89PNG")


class Frame:
    """A frame: its picture, its index, and when it is shown in seconds, if the film says so."""

    def __init__(self, picture: Picture, index: int, time: float | None) -> None:
        self.picture, self.index, self.time = picture, index, time


def frames(path: Path, luma: bool, notes: list[str]) -> Iterator[Frame]:
    """The frames of a film, one after the other; what is damaged ends in a Failure.

    The values are RGB, or with `luma` the luma plane as it is stored. What is to be said of the film as a whole is
    added to `notes` at its end.
    """
    with extra("video"):
        import av

    shown = click.format_filename(path)
    try:
        _check_boxes(path)
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise Failure(f"{shown}: cannot be read: a film without pictures")
            stream = container.streams.video[0]
            stream.thread_type = "SLICE"  # with threads for frames, a fault is now and then not reported
            stream.codec_context.options = {"err_detect": "explode"}  # an error, where a decoder would hide a fault
            count = 0
            for frame in container.decode(stream):
                if getattr(frame, "is_corrupt", False):
                    raise Failure(f"{shown}: cannot be read: frame {count} is damaged")
                yield Frame(_picture(frame, shown, luma), count, frame.time)
                count += 1
            if not count:
                raise Failure(f"{shown}: cannot be read: a film without pictures")
            if stream.frames and count < stream.frames:  # an edit list may leave frames out
                notes.append(f"{shown}: announces {stream.frames} frames, and {count} of them are shown")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise Failure(f"{shown}: cannot be read: {reason}") from error


def _check_boxes(path: Path) -> None:
    """Refuses an MP4 or MOV file that ends within one of its boxes; decoders take such an end for that of the film."""
    end, place = path.stat().st_size, 0
    with path.open("rb") as file:
        if file.read(8)[4:] != b"ftyp":
            return
        while place + 8 <= end:
            file.seek(place)
            header = file.read(16)
            size = int.from_bytes(header[:4], "big")
            if size == 1:  # 64 bits follow
                size = int.from_bytes(header[8:16], "big")
            if size == 0:  # to the end
                return
            if size < 8 or place + size > end:
                raise ValueError("the film is damaged or cut off")
            place += size


def frame_at(path: Path, index: int, luma: bool) -> Picture:
    """One frame of a film. All before it are decoded: an exact place is not to be had otherwise."""
    for frame in frames(path, luma, []):
        if frame.index == index:
            return frame.picture
    raise Failure(f"{click.format_filename(path)}: has no frame {index}")


def _picture(frame: Any, path: str, luma: bool) -> Picture:
    import numpy as np

    kind = frame.format
    bits = max(int(component.bits) for component in kind.components)
    grey = len(kind.components) == 1 and not kind.has_palette
    notes = []
    dtype, white = "", None
    names: tuple[str, ...]
    if luma and not (grey and bits < 8):
        if kind.is_rgb or kind.has_palette:
            raise Failure(f"{path}: --luma needs a film in YCbCr, this one is {kind.name}")
        values, names = _first_plane(frame, bits)[None], ("luma",)
        # Black is 0 in one range and 16 of 255 in the other, so the numbers of both cannot be compared.
        full = grey or int(frame.color_range) == FULL_RANGE or kind.name.startswith("yuvj")
        dtype, white = f"uint{bits}" + (" of full range" if full else ""), float(2**bits - 1)
    elif grey:
        values, names = frame.to_ndarray(format="gray" if bits <= 8 else "gray16le")[None], ("grey",)
    else:
        rgb = frame.to_ndarray(format="rgb24" if bits <= 8 else "rgb48le")
        values, names = np.moveaxis(rgb, -1, 0), ("red", "green", "blue")
        if not kind.is_rgb and int(frame.colorspace) == UNSPECIFIED:
            notes.append("does not name its colour matrix; that of BT.601 is taken")
    if kind.name.startswith(WITH_OPACITY):
        notes.append("has transparency, which is ignored: hidden colours are compared as they are stored")
    turn = int(getattr(frame, "rotation", 0) or 0) // 90 % 4
    if turn:
        values = np.rot90(values, turn, axes=(-2, -1))
        notes.append("turned upright, as it says")
    return Picture(
        path=path,
        kind="image",
        values=values,
        channel_names=names,
        dtype=dtype or values.dtype.name,
        white=white,
        scaled=False,
        physical=False,
        spacing=None,
        axes="HW",
        affine=None,
        profile=None,
        finite=None,
        notes=tuple(f"{path}: {note}" for note in notes),
    )


def _first_plane(frame: Any, bits: int) -> Array:
    """The luma of a frame as it is stored, without the padding of its rows."""
    import numpy as np

    plane = frame.planes[0]
    if frame.format.name.endswith("be") or frame.format.name.startswith(("yuyv", "uyvy", "yvyu", "y210", "p01", "p21")):
        raise Failure(f"--luma does not read pixels of kind {frame.format.name}")
    dtype = np.dtype(np.uint8) if bits <= 8 else np.dtype("<u2")
    rows = np.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // dtype.itemsize)
    luma: Array = rows[:, : plane.width].copy()
    return luma
