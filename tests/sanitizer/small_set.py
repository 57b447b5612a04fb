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
SHAPES += [(90, 1, 28, 28)]  # side by side in a sheet
SHAPES += [(1, 2, 38, 250), (2, 1, 14, 18, 36)]  # elements in pairs, levels of MS-SSIM in one pass
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
WINDOWS = [11, 33]
FLOAT32_WINDOWS = [7, 17, 21]  # as well


def masked_calls(shape: tuple[int, ...], window_size: int) -> int:
    """What float32 has kernels of its own for: masks, with and without |x - y|, for the value and one gradient."""
    x, y = (torch.rand(shape, device="cuda") for _ in range(2))
    weights = torch.rand(shape[0], 1, *shape[2:], device="cuda")
    weights[weights < 0.3] = 0
    weights[(..., *[0] * (len(shape) - 2))] = 1
    calls = 0
    for mask, mode, lambda_dssim, grad in itertools.product(
        (weights, weights > 0), ("weight", "normalized"), (1.0, 0.3), (False, True)
    ):
        a = x.clone().requires_grad_(grad)
        out = fused_ssim.photometric_loss(a, y, lambda_dssim, window_size=window_size, mask=mask, mask_mode=mode)
        if grad:
            out.backward()
            assert a.grad.isfinite().all()
        assert out.isfinite()
        calls += 1
    return calls


def rarer_calls(shape: tuple[int, ...], dtype: torch.dtype, window_size: int) -> int:
    """Losses, masks and MS-SSIM."""
    x, y = (torch.rand(shape, device="cuda").to(dtype) for _ in range(2))
    mask = torch.rand(shape[0], 1, *shape[2:], device="cuda") > 0.3
    mask[(..., *[0] * (len(shape) - 2))] = True
    weights = mask.to(torch.float64 if dtype == torch.float64 else torch.float32)
    outs = []
    for masked, mode in ((None, "weight"), (mask, "weight"), (weights, "normalized")):
        for reduction in ("mean", "none"):
            a, b = x.clone().requires_grad_(), y.clone().requires_grad_(reduction == "mean")
            settings = {"window_size": window_size, "reduction": reduction, "mask": masked, "mask_mode": mode}
            outs.append(fused_ssim.photometric_loss(a, b, 0.3, **settings))
            torch.autograd.backward(outs[-1], torch.rand_like(outs[-1]))
            assert a.grad.isfinite().all()
    if min(shape[2:]) >= 2:
        a = x.clone().requires_grad_()
        loss = fused_ssim.MSSSIMLoss(weights=(0.5, 0.5), padding="same", window_size=window_size)
        outs += [loss(x, y), loss(a, y)]
        outs[-1].backward()
        assert a.grad.isfinite().all()
    assert all(out.isfinite().all() for out in outs)
    return len(outs)


def main() -> None:
    torch.manual_seed(0)
    calls = 0
    few = "--few" in sys.argv[1:]
    shapes = SHAPES[-2:] if few else SHAPES
    dtypes = DTYPES[:2] if few else DTYPES
    cases = [*itertools.product(shapes, dtypes, WINDOWS), *itertools.product(shapes, DTYPES[:1], FLOAT32_WINDOWS)]
    for shape, dtype, window_size in cases:
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
        calls += rarer_calls(shape, dtype, window_size)
        if dtype == torch.float32:
            calls += masked_calls(shape, window_size)
    torch.cuda.synchronize()
    print(f"{calls} calls, all results finite")


if __name__ == "__main__":
    main()
