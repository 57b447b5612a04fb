# SPDX-License-Identifier: MIT
"""What all processes must agree on before they compute: a call that does not fit is an error in every process."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from .._base import codes, shapes
from .._base.checked import check_numbers
from .._base.settings import setting_names
from .._torch import checks

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

    from .._base.settings import Settings


def agree(
    img1: Tensor,
    img2: Tensor,
    mask: Tensor | None,
    ranges: Tensor | None,
    dim: int | None,
    group: ProcessGroup | None,
    settings: Settings | Exception,
) -> tuple[list[int], int, Tensor | None, Tensor | None, bool]:
    """The lengths of all parts, the axis, the mask, the data ranges, and whether the mask is spread like the images.

    Or an error in every process, also if this one has no settings but the error that they gave.
    """
    problem: Exception | None = None
    facts: dict[str, int] = {}
    try:
        if isinstance(settings, Exception):
            raise settings
        dim, mask = _check(img1, img2, mask, dim, settings)
        ranges = None if ranges is None else checks.view_ranges(ranges, settings, img1, img2)
        _check_values(mask, ranges)
        facts = _facts(img1, img2, mask, ranges, dim, settings)
    except (TypeError, ValueError) as error:
        problem = error
    # What follows is the same in every process.
    ours = [int(problem is None), *facts.values()]
    row = torch.tensor(ours + [0] * (_FACTS - len(ours)), dtype=torch.int64, device=_device_of(group))
    table = [torch.empty_like(row) for _ in range(dist.get_world_size(group))]
    dist.all_gather(table, row, group=group)
    rows = [each.tolist() for each in torch.stack(table).cpu()]
    if problem is not None:
        raise problem
    for rank, other in enumerate(rows):
        if not other[0]:
            raise ValueError(f"the arguments of rank {rank} of the group are in error: it says how")
        for name, value, other_value in zip(facts, ours[1:], other[1:], strict=False):
            unknown = name == _MASK_FORM and 0 in (value, other_value)
            if value != other_value and name != "length" and not unknown:
                raise ValueError(
                    f"{name} differs between the processes: {_shown(name, value)} here, on rank "
                    f"{dist.get_rank(group)} of the group, but {_shown(name, other_value)} on rank {rank}; expected "
                    "the same"
                )
    assert not isinstance(settings, Exception)
    columns = {name: [other[1 + index] for other in rows] for index, name in enumerate(facts)}
    assert dim is not None
    _check_whole(sum(columns["length"]), dim, img1.dim() - 2, settings)
    is_spread = mask is not None and 1 not in columns[_MASK_FORM]
    return columns["length"], dim, mask, ranges, is_spread


_FACTS = 48
_MASK_FORM = "what the mask is along dim: 1 for one layer that stands for all, 2 for as many as the images"


def _check(
    img1: Tensor, img2: Tensor, mask: Tensor | None, dim: int | None, settings: Settings
) -> tuple[int, Tensor | None]:
    names = settings.names
    for name, image in zip(names, (img1, img2), strict=True):
        checks.check_tensor(name, image)
    spatial_dims = checks.spatial_dims_of(names[0], img1)
    checks.check_images(names, spatial_dims, img1.dtype, img1.device, img1.shape, img2.dtype, img2.device, img2.shape)
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"dim = {dim!r}; expected an integer, the axis that is spread over the processes")
    axis = dim + img1.dim() if dim < 0 else dim
    if axis != 0 and not 2 <= axis < img1.dim():
        raise ValueError(f"dim = {dim}; expected 0, the batch, or a spatial axis of {names[0]}, 2 to {img1.dim() - 1}")
    shapes.check_windows(settings, spatial_dims)
    shapes.check_fits(names[0], img1.shape, settings, skipped=axis)
    check_numbers(settings, checks.NAMES[img1.dtype], checks.NAMES[img2.dtype])
    return axis, None if mask is None else checks.view_mask(mask, settings, img1, img2)


def _check_values(mask: Tensor | None, ranges: Tensor | None) -> None:
    """The checks that the native library makes on the CPU only after processes have begun to wait for each other."""
    if ranges is not None and ranges.is_cpu and not bool(((ranges > 0) & ranges.isfinite()).all()):
        raise ValueError(f"data_range = {ranges.tolist()}, expected positive numbers")
    if mask is not None and mask.is_cpu and not bool(((mask >= 0) & mask.isfinite()).all()):
        raise ValueError("mask has a weight that is negative or not finite")


def _facts(
    img1: Tensor, img2: Tensor, mask: Tensor | None, ranges: Tensor | None, dim: int, settings: Settings
) -> dict[str, int]:
    """Facts that must be the same in every process, except the length."""
    names = settings.names
    recorded = torch.is_grad_enabled()
    # Where there is one layer, both forms look the same.
    form = 0 if mask is None or img1.shape[dim] == 1 else 1 if mask.shape[dim] == 1 else 2
    shape = [0 if axis == dim else size for axis, size in enumerate(img1.shape)]
    return {
        "length": img1.shape[dim],
        "dim": dim,
        f"{names[0]}.dim()": img1.dim(),
        **{f"{names[0]}.shape[{axis}]": size for axis, size in enumerate(shape)},
        f"{names[0]}.dtype": _DTYPES.index(img1.dtype),
        f"{names[1]}.dtype": _DTYPES.index(img2.dtype),
        f"{names[0]}.requires_grad": int(recorded and img1.requires_grad),
        f"{names[1]}.requires_grad": int(recorded and img2.requires_grad),
        "mask": 0 if mask is None else 1 + _DTYPES.index(mask.dtype),
        _MASK_FORM: form,
        "whether data_range is a tensor": int(ranges is not None),
        **{_PUBLIC_NAMES.get(name, name): _encoded(getattr(settings, name)) for name in setting_names()},
    }


# Settings by the names that callers know.
_PUBLIC_NAMES = {"k1": "K[0]", "k2": "K[1]", "normalized": 'mask_mode = "normalized"'}


def _encoded(value: object) -> int:
    """A setting as 64 bits: floats by their own, so that the others can print them; text and lists by a checksum."""
    if isinstance(value, tuple) and len(value) == 1:  # one number for all axes
        (value,) = value
    if isinstance(value, float):
        return int(struct.unpack("q", struct.pack("d", value))[0])
    return int(value) if isinstance(value, int) else zlib.crc32(repr(value).encode())


def _shown(name: str, code: int) -> str:
    """A fact that was sent as a number, for an error message."""
    if name.endswith(".dtype"):
        return str(_DTYPES[code])
    if name in _FLOATS and not 0 < code < 2**32:  # that is a checksum
        return repr(struct.unpack("d", struct.pack("q", code))[0])
    for word in _WORDS:
        if code == zlib.crc32(repr(word).encode()):
            return repr(word)
    return "another list" if name in _LISTS else str(code)


_FLOATS = ("sigma", "K[0]", "K[1]", "data_range", "lambda_dssim")
_LISTS = ("sigma", "taps", "weights", "integer_scale")
_WORDS = (*codes.PADDINGS, *codes.REDUCTIONS, *codes.ARITHMETICS, None)


# A dtype as a number: its place in this list.
_DTYPES = list({**checks.DTYPES, **checks.MASK_DTYPES})


def _check_whole(length: int, dim: int, spatial_dims: int, settings: Settings) -> None:
    if length == 0:
        raise ValueError(f"{settings.names[0]} is empty along axis {dim} in all processes")
    if dim >= 2 and shapes.is_cropped(settings):
        window = shapes.window_sizes(settings, spatial_dims)[dim - 2]
        if length < window:
            raise ValueError(
                f"{settings.names[0]} has {length} layers along axis {dim} in all processes < window {window} "
                f"(padding {settings.padding})"
            )


def _device_of(group: ProcessGroup | None) -> torch.device:
    """A device whose tensors the group can send."""
    if "gloo" in str(dist.get_backend(group)):
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())
