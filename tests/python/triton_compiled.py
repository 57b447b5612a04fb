# SPDX-License-Identifier: MIT
"""Compiles the kernels of Triton for a GPU that need not be here. test_triton.py runs this file.

    python triton_compiled.py hip gfx942 64

Prints for each kernel its name, the bytes of its code, and how many registers it spills to memory.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from triton import compile as compile_kernel
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fused_ssim._torch import triton_call
from fused_ssim._torch import triton_kernels as kernels

ROWS, COLUMNS, WARPS = triton_call.TILE
# The largest form of each kernel.
FLAGS: dict[str, Any] = {
    "GRADS": 3,
    "ABSOLUTE": True,
    "GAINS": True,
    "EXCHANGE": True,
    "MOMENTS": True,
    "SAMPLES": 1024,
    "ROWS": ROWS,
    "COLUMNS": COLUMNS,
}
FLOATS = {"mass", "rest", "c1x2", "c2x2", "gain", "pixel_gain"}


def kind_of(name: str) -> str:
    if name in FLAGS:
        return "constexpr"
    if name.endswith("_ptr"):
        return "*fp32"
    return "fp32" if name in FLOATS else "i32"


def main(backend: str, arch: str, threads: str) -> None:
    target = GPUTarget(backend, arch, int(threads))
    for kernel in (kernels.sample_pivots, kernels.first, kernels.spread, kernels.statistics, kernels.gradient):
        names = kernel.arg_names
        source = ASTSource(
            fn=kernel,
            signature={name: kind_of(name) for name in names},
            constexprs={(names.index(name),): value for name, value in FLAGS.items() if name in names},
            # What Triton finds out in a call: of what it knows to be a multiple of 16 loads are wide.
            attrs={
                (names.index(name),): [["tt.divisibility", 16]] for name in names if name.endswith(("_ptr", "pitch"))
            },
        )
        code = compile_kernel(source, target=target, options={"num_warps": WARPS}).asm["amdgcn"]
        print(kernel.__name__, len(code), *re.findall(r"[sv]gpr_spill_count:\s*(\d+)", code))


if __name__ == "__main__":
    main(*sys.argv[1:])
