# SPDX-License-Identifier: MIT
"""A device of torch that the native library does not know, ``torch.device("sim")``: for a process of its own.

It is a backend of torch written in Python, so dispatch by the type of the device is real. Operations run on the CPU
tensors behind. As on Apple's GPUs, there is no float64: an operation with such a result is an error.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "sim"

# How often each operation ran there.
ran: Counter[str] = Counter()

# The CPU tensor behind each storage of the device, which autograd may give to other tensors. None is ever dropped.
_behind_storage: dict[int, tuple[torch.UntypedStorage, torch.Tensor]] = {}

# Views where strides decide whether they are possible. Those of the tensors in front are not those behind.
_RESHAPES = {torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default}


def _front(result: Any) -> Any:
    """A tensor of the device for one of the CPU."""
    if not isinstance(result, torch.Tensor):
        return result
    if result.dtype == torch.float64:
        raise TypeError("the device has no float64")
    tensor = torch._C._acc.create_empty_tensor(result.shape, result.dtype)
    storage = tensor.untyped_storage()
    _behind_storage[storage._cdata] = storage, result
    return tensor


def _behind(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _behind_storage[value.untyped_storage()._cdata][1] if value.device.type == NAME else value
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _run(operation: Any, *args: Any, **kwargs: Any) -> Any:
    assert operation is not torch.ops.aten.as_strided.default, "a view that the device lacks"
    ran[operation._schema.name.removeprefix("aten::")] += 1
    cpu_args, cpu_kwargs = pytree.tree_map(_behind, (args, kwargs))
    if operation in _RESHAPES:
        return _front(cpu_args[0].reshape(cpu_args[1]))
    if operation is torch.ops.aten._copy_from.default:  # between devices; the CPU has none
        cpu_args[1].copy_(cpu_args[0])
        return args[1]
    results = operation(*cpu_args, **cpu_kwargs)
    names = [argument.name for argument in operation._schema.arguments]
    written = [
        kwargs.get(argument.name, args[index] if (index := names.index(argument.name)) < len(args) else None)
        for argument in operation._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    if written:  # in place, or into an argument: that one is the result
        for tensor in written:
            assert tensor.shape == _behind(tensor).shape, f"{operation} gave its result another shape"
        return written[0] if len(written) == 1 else tuple(written)
    return pytree.tree_map(_front, results)


_setup_privateuseone_for_python_backend(NAME)
_library = torch.library.Library("_", "IMPL")
_library.fallback(_run, "PrivateUse1")
# What torch itself would make of other operations: of results without a size, or of strides. The tensors in front keep
# their size, and do not have the strides of those behind.
_WHOLE = [
    *(
        "abs",
        "sign",
        "sum",
        "slice.Tensor",
        "select.int",
        "expand",
        "permute",
        "transpose.int",
        "squeeze",
        "squeeze.dim",
    ),
    *("squeeze.dims", "unsqueeze", "unbind.int", "unfold", "diagonal", "detach", "alias", "split.Tensor"),
]
_operations = torch.library.Library("aten", "IMPL")
for _name in _WHOLE:
    _packet, _, _overload = _name.partition(".")
    _operation = getattr(getattr(torch.ops.aten, _packet), _overload or "default")
    _operations.impl(_name, partial(_run, _operation), "PrivateUse1")


def to_device(image: torch.Tensor) -> torch.Tensor:
    """A copy on the device."""
    return _front(image.detach().clone())


def to_cpu(image: torch.Tensor) -> torch.Tensor:
    """The values of a tensor of the device."""
    return image.detach().to("cpu")
