# SPDX-License-Identifier: MIT
"""A jitted value and gradient of `fused_ssim.jax` beside the call of the C interface, and beside others for JAX.

    python benchmarks/jax_bench.py                          # 1x3x1080x1920 on JAX's default device
    python benchmarks/jax_bench.py --shape 1x3x256x256 --rounds 30 --json jax.json

Needs JAX. dm_pix is measured if it is installed; besides, the same in plain jax.numpy. Loops of calls run in turns, and
each loop is waited for at its end only, as in training. What is printed are medians over the rounds. The inputs rotate
through several pairs, which together are larger than the caches of GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import fused_ssim
import fused_ssim.jax
from fused_ssim._base.codes import GRAD_1
from fused_ssim._base.settings import checked_settings
from fused_ssim.array._libraries import Device, _synchronize
from fused_ssim.array._plans import layout_of, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import dm_pix
except ImportError:
    dm_pix = None


def c_call(pairs: list[tuple[Any, Any]]) -> Callable[[int], Any]:
    """`fusedssim_value_and_grad` on the default stream; what it writes to is allocated once."""
    x = pairs[0][0]
    (device,) = x.devices()
    where = Device("cpu", 0) if device.platform == "cpu" else Device("cuda", device.local_hardware_id)
    settings = checked_settings()
    layout = layout_of(settings, x.shape, 1)
    plan = plan_of(settings, GRAD_1, x.dtype.name, where, layout, layout.strides, layout.strides, None, None)
    out = jnp.zeros((), "float32", device=device)
    gradient = jnp.zeros_like(x)
    workspace = jnp.zeros(max(plan.value_and_grad_workspace, 1), "uint8", device=device)
    out, gradient, workspace = jax.block_until_ready((out, gradient, workspace))
    fixed = [array.unsafe_buffer_pointer() for array in (workspace, out, gradient)]
    images = [(a.unsafe_buffer_pointer(), b.unsafe_buffer_pointer()) for a, b in pairs]

    def loop(calls: int) -> Any:
        for call in range(calls):
            first, second = images[call % len(images)]
            plan.value_and_grad(0, fixed[0], first, second, 0, 0, fixed[1], fixed[2], 0, 1.0)
        if where.kind == "cuda":
            _synchronize(0, where.index)
        return float(out), gradient

    return loop


def jitted(function: Callable[..., Any], pairs: list[tuple[Any, Any]]) -> Callable[[int], Any]:
    """A value and gradient of a function of JAX, compiled; only the last call of a loop is waited for."""
    compiled = jax.jit(jax.value_and_grad(function))

    def loop(calls: int) -> Any:
        result = None
        for call in range(calls):
            result = compiled(*pairs[call % len(pairs)])
        return jax.block_until_ready(result)

    return loop


def plain_ssim(x: Any, y: Any) -> Any:
    """SSIM with zeros beyond the border, in operations of jax.numpy: two depthwise convolutions of five images."""
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    taps = jnp.asarray(taps / taps.sum(), x.dtype)
    channels = x.shape[1]
    stack = jnp.concatenate([x, y, x * x, y * y, x * y], 1)
    for size in ((11, 1), (1, 11)):
        window = jnp.broadcast_to(taps.reshape(size), (5 * channels, 1, *size))
        stack = jax.lax.conv_general_dilated(
            stack, window, (1, 1), "SAME", feature_group_count=5 * channels, precision=jax.lax.Precision.HIGHEST
        )
    mean_x, mean_y, square_x, square_y, product = jnp.split(stack, 5, 1)
    var_x, var_y, cov = square_x - mean_x**2, square_y - mean_y**2, product - mean_x * mean_y
    top = (2 * mean_x * mean_y + 1e-4) * (2 * cov + 9e-4)
    return (top / ((mean_x**2 + mean_y**2 + 1e-4) * (var_x + var_y + 9e-4))).mean()


def pix_ssim(x: Any, y: Any) -> Any:
    """That of dm_pix, on images with the channels last, without the windows that cross the border."""
    return dm_pix.ssim(x, y).mean()


def measure(loops: dict[str, tuple[Callable[[int], Any], int]], rounds: int) -> dict[str, list[float]]:
    """Microseconds per call, by name, of every round."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, (loop, calls) in loops.items():
            start = time.perf_counter()
            loop(calls)
            times[name].append((time.perf_counter() - start) / calls * 1e6)
    return times


def calls_for(loop: Callable[[int], Any], seconds: float) -> int:
    """How many calls a loop of about that time has."""
    loop(2)  # compiles
    calls = 2
    while True:
        start = time.perf_counter()
        loop(calls)
        took = time.perf_counter() - start
        if took > seconds / 4 or calls >= 4096:
            return max(1, min(4096, round(calls * seconds / max(took, 1e-9))))
        calls *= 2


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="1x3x1080x1920")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.05, help="of one loop")
    parser.add_argument("--json", help="a file for the figures")
    arguments = parser.parse_args()
    shape = tuple(int(size) for size in arguments.shape.split("x"))

    device = jax.devices()[0]
    noise = np.random.default_rng(0)
    pairs, last = [], []
    for _ in range(max(1, min(16, (2**28 if device.platform != "cpu" else 2**20) // (8 * int(np.prod(shape)))))):
        x = noise.random(shape, np.float32)
        y = (0.7 * x + 0.3 * noise.random(shape, np.float32)).astype(np.float32)
        pairs.append((jax.device_put(x, device), jax.device_put(y, device)))
        last.append(tuple(jax.device_put(np.moveaxis(each, 1, -1).copy(), device) for each in (x, y)))

    loops = {
        "C interface": c_call(pairs),
        "fused_ssim.jax": jitted(fused_ssim.jax.ssim, pairs),
        "fused_ssim.jax, channels last": jitted(lambda a, b: fused_ssim.jax.ssim(a, b, channel_axis=-1), last),
    }
    if len(shape) == 4:  # the others have no volumes
        loops["jax.numpy"] = jitted(plain_ssim, pairs)
        if dm_pix is not None:
            loops["dm_pix"] = jitted(pix_ssim, last)

    value, gradient = loops["C interface"](1)
    for name in ("fused_ssim.jax", "jax.numpy"):
        if name not in loops:
            continue
        other, other_gradient = loops[name](1)
        worst = float(abs(other_gradient - gradient).max() / abs(gradient).max())
        print(
            f"{name}: value differs by {abs(float(other) - value):.1e}, gradient by {worst:.1e} of the largest element"
        )

    timed = {name: (loop, calls_for(loop, arguments.seconds)) for name, loop in loops.items()}
    times = measure(timed, arguments.rounds)
    base = statistics.median(times["C interface"])
    print(f"\n{device.device_kind}, jax {jax.__version__}, {arguments.shape} float32, {arguments.rounds} rounds")
    print(f"{'value and gradient':32} {'median us':>10} {'fastest':>10} {'slowest':>10} {'of C':>7} {'calls':>6}")
    for name, each in times.items():
        median = statistics.median(each)
        row = f"{name:32} {median:10.1f} {min(each):10.1f} {max(each):10.1f} {median / base:7.2f} {timed[name][1]:6}"
        print(row)
    if arguments.json:
        figures = {
            "device": device.device_kind,
            "jax": jax.__version__,
            "fused_ssim": fused_ssim.__version__,
            "shape": arguments.shape,
            "cpus": os.cpu_count(),
            "microseconds": times,
        }
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
