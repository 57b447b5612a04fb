# SPDX-License-Identifier: MIT
"""PNG, JPEG, JPEG 2000, AVIF, WebP, GIF, BMP and a few more.

Pillow reads pictures of 8 bits a channel: it is everywhere, and knows palettes, opacity and orientations. It silently
cuts deeper pictures to 8 bits, so those go to imagecodecs, and so do plain PNG files, which that decodes faster. What
neither checks is checked here: the checksums of PNG, and what libjpeg finds wrong in a JPEG file.
"""

from __future__ import annotations

import importlib
import io
import zlib
from typing import TYPE_CHECKING, Any

from fused_ssim.cli.common import extra
from fused_ssim.cli.files.picture import Raw

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    from fused_ssim.cli.files.source import Source
    from fused_ssim.cli.results import Array

ORIENTATION = 274
SRGB_GAMMA = (45455).to_bytes(4, "big")  # of PNG: 1 / 2.2, in units of 0.00001
# What Pillow reads in full. Others it cuts to 8 bits or guesses at.
EIGHT_BIT_FORMATS = (
    "PNG",
    "JPEG",
    "MPO",
    "GIF",
    "BMP",
    "DIB",
    "WEBP",
    "TGA",
    "PCX",
    "QOI",
    "JPEG2000",
    "AVIF",
    "TIFF",
)


def read_pillow(source: Source) -> Raw:
    """A picture of 8 bits a channel, or of 16 bits of grey (PNG)."""
    with _open(source) as image:
        return _from_pillow(image)


def _open(source: Source) -> PillowImage:
    with extra("cli"):
        from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # the file is the user's own, however large
    try:
        opened = Image.open(io.BytesIO(source.data))
    except UnidentifiedImageError:
        raise ValueError("not an image in a format that is known here, or damaged") from None
    nameless = opened.format == "TGA" and not source.name.endswith(".tga")  # it has no signature: Pillow guesses
    if nameless or opened.format not in EIGHT_BIT_FORMATS:
        raise ValueError(f"{opened.format} files are not read here; convert it to PNG or TIFF")
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format != "MPO":
        raise ValueError(f"holds {frames} frames; a still image is expected")
    return opened


def _from_pillow(image: PillowImage) -> Raw:
    """A Pillow image as grey or RGB."""
    import numpy as np

    notes = _left_out(image)
    profile = image.info.get("icc_profile")
    alpha: Array | None = None
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        if image.mode.startswith("I"):
            raise ValueError("16-bit grey with a transparent shade is not read here; remove the transparency")
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    premultiplied = image.mode in ("La", "RGBa")
    channels: tuple[str, ...] = ()
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # the latter in old Pillow
        values = np.asarray(image).astype(np.uint16)
    elif image.mode in ("1", "L"):
        values = np.asarray(image)
    elif image.mode in ("LA", "La"):
        values = np.asarray(image.getchannel("L"))
    elif image.mode == "CMYK":
        values, channels = np.asarray(image), ("cyan", "magenta", "yellow", "black")
        notes.append("its inks are compared as they are stored, not as colours on a screen")
    elif image.mode in ("RGB", "RGBA", "RGBX"):
        values = np.asarray(image)[..., :3]
    elif image.mode in ("P", "PA", "YCbCr"):
        values = np.asarray(image.convert("RGB"))
    else:
        raise ValueError(f"pictures of kind {image.mode} are not read here; convert it to RGB or grey")
    return Raw(
        values,
        "HWC" if values.ndim == 3 else "HW",
        channels=channels,
        alpha=alpha,
        premultiplied=premultiplied,
        orientation=int(image.getexif().get(ORIENTATION, 1)),
        profile=profile if isinstance(profile, bytes) else None,
        notes=notes,
    )


def read_png(source: Source) -> Raw:
    """PNG. imagecodecs (libpng) takes 60 % of Pillow's time, and all 16 bits; palettes and the like go to Pillow."""
    data = source.data
    chunks = _png_chunks(data)
    depth, colour = chunks[b"IHDR"][8], chunks[b"IHDR"][9]  # behind width and height
    if b"acTL" in chunks:
        raise ValueError("is an animation; a still image is expected")
    deep = depth == 16 and colour != 0
    if depth < 8 or colour == 3 or b"tRNS" in chunks:
        if deep:
            raise ValueError("16-bit colour with a transparent shade is not read here; remove the transparency")
        return read_pillow(source)
    try:
        codecs = _codecs("16-bit colour PNG")
    except ValueError:
        if deep:
            raise
        return read_pillow(source)
    raw = _deep(codecs.png_decode(data), depth)
    raw.profile = chunks.get(b"iCCP")
    if raw.profile is None and b"sRGB" not in chunks and chunks.get(b"gAMA", SRGB_GAMMA) != SRGB_GAMMA:
        raw.profile = chunks[b"gAMA"]  # a curve of its own
    if b"eXIf" in chunks:
        raw.orientation = _exif_orientation(chunks[b"eXIf"])
    return raw


def _png_chunks(data: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG file, the first of each type, without the pixels; all checksums are compared.

    libpng passes over the checksums of some chunks, and Pillow over those of the pixels.
    """
    found: dict[bytes, bytes] = {}
    place, view = 8, memoryview(data)
    while place + 12 <= len(data):
        length = int.from_bytes(view[place : place + 4], "big")
        end = place + 12 + length
        if end > len(data):
            break
        kind = bytes(view[place + 4 : place + 8])
        if zlib.crc32(view[place + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ValueError(f"the file is damaged: the checksum of its chunk {kind.decode('latin-1')} is wrong")
        if kind == b"IEND":
            if b"IHDR" not in found or len(found[b"IHDR"]) != 13:
                break
            return found
        if kind != b"IDAT":
            found.setdefault(kind, bytes(view[place + 8 : end - 4]))
        place = end
    raise ValueError("the file is cut off")


def _exif_orientation(data: bytes) -> int:
    from PIL import Image

    exif = Image.Exif()
    exif.load(data)
    return int(exif.get(ORIENTATION, 1))


def read_jpeg(source: Source) -> Raw:
    """JPEG. simplejpeg decodes it as Pillow does, and says what libjpeg found wrong, which Pillow does not."""
    with _open(source) as image:
        if image.mode not in ("L", "RGB"):
            return _from_pillow(image)
        with extra("cli"):
            import simplejpeg
        try:
            values = simplejpeg.decode_jpeg(source.data, colorspace="GRAY" if image.mode == "L" else "RGB")
        except ValueError as error:
            if "premature end" in str(error).lower():
                raise ValueError("the file is cut off") from error
            raw = _from_pillow(image)
            raw.notes.insert(0, f"damaged, as its decoder says: {error}")
            return raw
        raw = Raw(values[..., 0] if image.mode == "L" else values, "HW" if image.mode == "L" else "HWC")
        raw.notes += _left_out(image)
        raw.profile = image.info.get("icc_profile")
        return _oriented(raw, image)


def read_jpeg2000(source: Source) -> Raw:
    """JPEG 2000, by imagecodecs where a channel has more than 8 bits."""
    data = source.data
    start = data.find(b"\xff\x4f\xff\x51")  # the codestream: markers SOC and SIZ
    if start < 0 or len(data) < start + 43:
        raise ValueError("JPEG 2000 without a codestream")
    if not data.rstrip(b"\0").endswith(b"\xff\xd9") and data.find(b"\xff\xd9", start) < 0:
        raise ValueError("the file is cut off")
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    depths = {data[start + 42 + 3 * i] for i in range(count) if start + 42 + 3 * i < len(data)}
    if len(depths) != 1 or max(depths) & 128:
        raise ValueError("JPEG 2000 with channels of different depths, or with signed values")
    depth = depths.pop() + 1
    if depth <= 8:
        if depth < 8:
            raise ValueError(f"JPEG 2000 of {depth} bits a channel is not read here")
        return read_pillow(source)
    raw = _deep(_codecs("JPEG 2000 of more than 8 bits").jpeg2k_decode(data), depth)
    with _open(source) as image:
        raw.profile = image.info.get("icc_profile")
    return raw


def read_avif(source: Source) -> Raw:
    """AVIF, by imagecodecs where a channel has more than 8 bits."""
    # The boxes of bit depths, of colours and of opacity: version and flags, how many channels, bits of each.
    header = source.data[: source.data.find(b"mdat") % (len(source.data) + 1)]
    depth = max((max(box[5 : 5 + box[4]], default=0) for box in header.split(b"pixi")[1:] if len(box) > 4), default=0)
    if not depth:
        raise ValueError("AVIF that does not say its bit depth, or damaged")
    if depth == 8:
        return read_pillow(source)
    if depth not in (10, 12):
        raise ValueError(f"AVIF of {depth} bits a channel is not read here")
    with _open(source) as image:
        raw = _deep(_codecs("AVIF of more than 8 bits").avif_decode(source.data), depth)
        raw.profile = image.info.get("icc_profile")
        return _oriented(raw, image)


def read_jpegxl(source: Source) -> Raw:
    """JPEG XL, by imagecodecs."""
    values = _codecs("JPEG XL").jpegxl_decode(source.data)
    if values.ndim > 3:
        raise ValueError(f"holds {values.shape[0]} frames; a still image is expected")
    return _deep(values, 8 * values.dtype.itemsize)


def _codecs(what: str) -> Any:
    try:
        return importlib.import_module("imagecodecs")
    except ModuleNotFoundError:
        raise ValueError(f"{what} is read by imagecodecs: pip install imagecodecs, or convert it to TIFF") from None


def _deep(values: Array, depth: int) -> Raw:
    """An array of imagecodecs, grey or colours, with opacity or without."""
    if values.ndim not in (2, 3):
        raise ValueError(f"holds an array of shape {values.shape}; a still image is expected")
    raw = Raw(values, "HWC" if values.ndim == 3 else "HW")
    if depth < 8 * values.dtype.itemsize:
        raw.white, raw.dtype = float(2**depth - 1), f"uint{depth}"
        if values.size and int(values.max()) > raw.white:
            raise ValueError(f"holds the value {int(values.max())}, above its own maximum {raw.white:g}")
    if values.ndim == 3 and values.shape[-1] in (2, 4):
        alpha = values[..., -1]
        if raw.white is not None:
            alpha = (alpha * (2.0 ** (8 * values.dtype.itemsize) - 1) / raw.white).round().astype(values.dtype)
        raw.alpha, raw.values = alpha, values[..., :-1]
    if raw.values.ndim == 3 and raw.values.shape[-1] == 1:
        raw.values, raw.axes = raw.values[..., 0], "HW"
    return raw


def _oriented(raw: Raw, image: PillowImage) -> Raw:
    raw.orientation = int(image.getexif().get(ORIENTATION, 1))
    return raw


def _left_out(image: PillowImage) -> list[str]:
    """A note about a JPEG file of several pictures (MPO)."""
    if image.format != "MPO":
        return []
    return [f"holds {getattr(image, 'n_frames', 1)} pictures; the first is taken"]
