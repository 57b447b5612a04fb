# SPDX-License-Identifier: MIT
#
# The interface of the native module (src/cpp/python/module.cpp), for type checkers.
from collections.abc import Sequence
from typing import Any, Final

CPU: Final[int]
CUDA: Final[int]
FLOAT32: Final[int]
FLOAT64: Final[int]
FLOAT16: Final[int]
BFLOAT16: Final[int]
BOOL: Final[int]
PADDING_SAME: Final[int]
PADDING_VALID: Final[int]
REDUCTION_MEAN: Final[int]
REDUCTION_SUM: Final[int]
REDUCTION_PER_IMAGE: Final[int]
REDUCTION_PER_PLANE: Final[int]
REDUCTION_NONE: Final[int]
MASK_WEIGHT: Final[int]
MASK_NORMALIZED: Final[int]
GRAD_X: Final[int]
GRAD_Y: Final[int]
MAX_WINDOW_SIZE: Final[int]
MAX_LEVELS: Final[int]

def version() -> str: ...
def info() -> dict[str, Any]: ...

class Plan:
    def __init__(
        self,
        device: int,
        device_index: int,
        padding: int,
        reduction: int,
        window_size: int,
        sigma: float,
        k1: float,
        k2: float,
        data_range: float,
        grads: int,
        dtype: int,
        shape: Sequence[int],
        stride1: Sequence[int],
        stride2: Sequence[int],
        grad_stride1: Sequence[int],
        grad_stride2: Sequence[int],
        out_shape: Sequence[int],
        taps: Sequence[float],
        lambda_dssim: float | None,
        scale_weights: Sequence[float],
        mask_mode: int,
        mask_dtype: int | None,
        mask_shape: Sequence[int],
        mask_stride: Sequence[int],
        name1: str,
        name2: str,
    ) -> None: ...
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
        self, threads: int, stream: int, workspace: int, x: int, y: int, mask: int, out: int, saved: int, /
    ) -> None: ...
    def value_and_grad(
        self,
        threads: int,
        stream: int,
        workspace: int,
        x: int,
        y: int,
        mask: int,
        out: int,
        grad_x: int,
        grad_y: int,
        grad_scale: float,
        /,
    ) -> None: ...
    def backward(
        self,
        threads: int,
        stream: int,
        workspace: int,
        x: int,
        y: int,
        mask: int,
        saved: int,
        grad_out: int,
        grad_out_stride: Sequence[int],
        grad_x: int,
        grad_y: int,
        /,
    ) -> None: ...
    def scale(
        self,
        threads: int,
        stream: int,
        factor: float,
        grad_out: int,
        grad_out_stride: Sequence[int],
        grad_x: int,
        grad_y: int,
        /,
    ) -> None: ...
