# SPDX-License-Identifier: MIT
#
# The interface of the native module (src/cpp/python), for type checkers.
from collections.abc import Sequence
from typing import Any, Final

CPU: Final[int]
CUDA: Final[int]
FLOAT32: Final[int]
FLOAT64: Final[int]
FLOAT16: Final[int]
BFLOAT16: Final[int]
BOOL: Final[int]
UINT8: Final[int]
UINT16: Final[int]
INT16: Final[int]
PADDING_SAME: Final[int]
PADDING_VALID: Final[int]
PADDING_REFLECT: Final[int]
PADDING_SYMMETRIC: Final[int]
PADDING_REPLICATE: Final[int]
REDUCTION_MEAN: Final[int]
REDUCTION_SUM: Final[int]
REDUCTION_PER_IMAGE: Final[int]
REDUCTION_PER_PLANE: Final[int]
REDUCTION_NONE: Final[int]
GRAD_X: Final[int]
GRAD_Y: Final[int]
MAX_WINDOW_SIZE: Final[int]
MAX_LEVELS: Final[int]
# Capsules of functions, by operation and device: XLA_HANDLERS["forward"]["cpu"].
XLA_HANDLERS: Final[dict[str, dict[str, object]]]

def version() -> str: ...
def info() -> dict[str, Any]: ...

# Its properties are the fields of _base.settings.Settings, which sets them one by one; a test compares the two.
class Settings: ...

# The layout of one array; strides in elements.
class Layout:
    def __init__(self, *, dtype: int, shape: Sequence[int], stride: Sequence[int]) -> None: ...

# The layouts of the arrays that a call reads and writes.
class Images:
    def __init__(
        self,
        *,
        x: Layout,
        y: Layout,
        grad_x: Layout,
        grad_y: Layout,
        out: Layout,
        mask: Layout | None,
        data_ranges: Layout | None,
    ) -> None: ...

# One kind of call. `where` is how its device runs a call: the number of threads on the CPU, the stream elsewhere.
# Pointers are addresses, 0 for none.
class Plan:
    def __init__(self, *, device: int, device_index: int, settings: Settings, images: Images, grads: int) -> None: ...
    @property
    def saved_bytes(self) -> int: ...
    @property
    def forward_workspace(self) -> int: ...
    @property
    def value_and_grad_workspace(self) -> int: ...
    @property
    def backward_workspace(self) -> int: ...
    @property
    def saved_backward_workspace(self) -> int: ...
    def forward(
        self, where: int, workspace: int, x: int, y: int, mask: int, data_ranges: int, out: int, saved: int, /
    ) -> None: ...
    def value_and_grad(
        self,
        where: int,
        workspace: int,
        x: int,
        y: int,
        mask: int,
        data_ranges: int,
        out: int,
        grad_x: int,
        grad_y: int,
        grad_scale: float,
        variance_grad_scale: float,
        /,
    ) -> None: ...
    def backward(
        self,
        where: int,
        workspace: int,
        x: int,
        y: int,
        mask: int,
        data_ranges: int,
        saved: int,
        grad_out: int,
        grad_out_stride: Sequence[int],
        grad_x: int,
        grad_y: int,
        /,
    ) -> None: ...
    def scale(
        self,
        where: int,
        factor: float,
        grad_out: int,
        grad_out_stride: Sequence[int],
        grad_x: int,
        grad_y: int,
        /,
    ) -> None: ...
