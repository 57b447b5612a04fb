# SPDX-License-Identifier: MIT
"""A small set of calls that reaches every kernel, to be run under compute-sanitizer on a machine with a GPU:

    for tool in memcheck racecheck synccheck; do
        compute-sanitizer --tool $tool --error-exitcode 1 python tests/sanitizer/small_set.py
    done

racecheck is slow: `small_set.py --few` makes fewer calls. The sizes are odd and cross the borders of blocks; buffers
are exact, so that memcheck sees a step beyond them.
"""

from __future__ import annotations

import itertools
import sys

import torch

import fused_ssim

SHAPES = [(1, 2, 37, 251), (2, 1, 300, 41), (1, 1, 1, 1), (1, 2, 13, 19, 35), (1, 1, 40, 33, 31), (1, 1, 1, 1, 3)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
WINDOWS = [11, 33]


def main() -> None:
    torch.manual_seed(0)
    calls = 0
    few = "--few" in sys.argv[1:]
    shapes = [SHAPES[0], SHAPES[3]] if few else SHAPES
    for shape, dtype, window_size in itertools.product(shapes, DTYPES[:2] if few else DTYPES, WINDOWS):
        function = fused_ssim.fused_ssim3d if len(shape) == 5 else fused_ssim.fused_ssim2d
        for padding, reduction in (("same", "mean"), ("valid", "none"), ("same", "channel")):
            if padding == "valid" and min(shape[2:]) < window_size:
                continue
            for wanted in ((False, False), (True, False), (True, True)):
                images = [torch.rand(shape, device="cuda").to(dtype).requires_grad_(grad) for grad in wanted]
                out = function(*images, padding, window_size=window_size, reduction=reduction)
                if any(wanted):
                    torch.autograd.backward(out, torch.rand_like(out))
                assert out.isfinite().all()
                assert all(image.grad is None or image.grad.isfinite().all() for image in images)
                calls += 1
    torch.cuda.synchronize()
    print(f"{calls} calls, all results finite")


if __name__ == "__main__":
    main()
