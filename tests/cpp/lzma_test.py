# SPDX-License-Identifier: MIT
"""lzma_test.py <lzma_test> <folder of images>: what cmake/device_code.py packs, src/cpp/cuda/lzma.cpp unpacks."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import tempfile
from pathlib import Path

program, image_folder = map(Path, sys.argv[1:])
images = sorted(image_folder.glob("reduce.*"))  # the smallest unit, for each GPU
assert images, image_folder
root = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("device_code", root / "cmake/device_code.py")
assert spec is not None
assert spec.loader is not None
device_code = importlib.util.module_from_spec(spec)
spec.loader.exec_module(device_code)

seed = random.randrange(2**32)
print("seed", seed)
chance = random.Random(seed)
temporary = tempfile.TemporaryDirectory()  # removed when the process ends
folder = Path(temporary.name)
REFUSED = 2


def unpacked(packed: bytes, size: int) -> bytes | None:
    """What the program makes of a stream; None if it refuses it."""
    (folder / "packed").write_bytes(packed)
    status = subprocess.run([program, folder / "packed", str(size), folder / "out"], check=False).returncode
    assert status in (0, REFUSED), status  # negative: a signal
    return (folder / "out").read_bytes() if status == 0 else None


def copies(size: int, reach: int) -> bytes:
    """Bytes, most of which stand at some place before: matches of all distances and lengths."""
    data = bytearray(chance.randbytes(16))
    while len(data) < size:
        back, length = chance.randint(1, min(len(data), reach)), int(chance.paretovariate(0.6))
        for _ in range(min(length, 1000)):
            data.append(data[-back])
        if chance.random() < 0.3:
            data += chance.randbytes(chance.randint(1, 20))
    return bytes(data[:size])


cases = {
    "nothing": b"",
    "a byte": b"\xff",
    "zeros": bytes(100_000),
    "noise": chance.randbytes(10_000),
    "few values": bytes(chance.choices(range(3), k=20_000)),
    "near copies": copies(200_000, 300),
    "far copies": copies(3_000_000, 3_000_000),
    **{path.name: path.read_bytes() for path in images},
}
for name, data in cases.items():
    packed = device_code.pack_image(data)
    assert unpacked(packed, len(data)) == data, name
    assert unpacked(packed, len(data) + 1) is None, name
    assert unpacked(packed[:-1], len(data)) is None, name
    assert unpacked(packed + b"\0", len(data)) is None, name
    if data:
        assert unpacked(packed, len(data) - 1) is None, name
    print(f"{name}: {len(data)} -> {len(packed)} bytes")

# Damaged streams: refused, or other bytes; the memory beside them is not touched (under a sanitizer this is seen).
packed = device_code.pack_image(cases["near copies"])
refused = 0
for _ in range(200):
    damaged = bytearray(packed)
    damaged[chance.randrange(len(damaged))] ^= chance.randint(1, 255)
    refused += unpacked(bytes(damaged), len(cases["near copies"])) is None
print(f"{refused} of 200 damaged streams refused")
assert unpacked(b"", 0) is None
