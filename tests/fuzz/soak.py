# SPDX-License-Identifier: MIT
"""Mixed calls for so many minutes: memory must not grow, and a call that is made again must give the same bits.

    python tests/fuzz/soak.py --minutes 60 [--device cuda] [--json FILE]

A fixed set of calls (values, gradients, masks, losses, MS-SSIM, errors, arrays, several threads) is made round after
round in changing order; the results of the first round are those of all. Resident memory of the process, and on a GPU
what torch has allocated and what the driver says is in use, are sampled each round. After a warm-up of a tenth of the
time, none may grow by more than `--slack` MiB. A JSON summary is printed; the exit status is 1 if a bit changed or
memory grew.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import torch
from cases import RandomChoices, draw_case, run

import fused_ssim
import fused_ssim.array

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20


def resident() -> int:
    """Bytes of the process that are in memory."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


def make_calls(device: str, count: int) -> list[Callable[[], list[torch.Tensor]]]:
    calls: list[Callable[[], list[torch.Tensor]]] = []
    for seed in range(count):
        case = draw_case(RandomChoices(seed), largest=40000)
        x, y = case.images(device)
        mask = case.mask(device)

        def usual(case=case, x=x, y=y, mask=mask) -> list[torch.Tensor]:  # type: ignore[no-untyped-def]
            value, grads, _ = run(case, x, y, mask)
            return [value, *grads.values()]

        calls.append(usual)
    for size in (64, 200):
        x, y = (torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(i)).to(device) for i in range(2))

        def scales(x: torch.Tensor = x, y: torch.Tensor = y) -> list[torch.Tensor]:
            image = x.clone().requires_grad_()
            value = fused_ssim.MSSSIMLoss("same")(image, y)
            value.backward()
            assert image.grad is not None
            return [value.detach(), image.grad]

        def wrong(x: torch.Tensor = x, y: torch.Tensor = y) -> list[torch.Tensor]:
            for arguments in ({"window_size": 10}, {"sigma": -1.0}, {"reduction": "median"}):
                with contextlib.suppress(ValueError):
                    fused_ssim.fused_ssim(x, y, **arguments)  # type: ignore[arg-type]
            return []

        def changing_settings(x: torch.Tensor = x, y: torch.Tensor = y) -> list[torch.Tensor]:
            # More settings than any cache keeps.
            ranges = [1 + 0.001 * random.random() for _ in range(20)]
            for data_range in ranges:
                fused_ssim.fused_ssim(x, y, data_range=data_range)
            return []

        def arrays(x: torch.Tensor = x, y: torch.Tensor = y) -> list[torch.Tensor]:
            value, grad = fused_ssim.array.value_and_grad(x.cpu().numpy(), y.cpu().numpy())
            return [torch.as_tensor(value), torch.from_numpy(grad)]

        def in_threads(x: torch.Tensor = x, y: torch.Tensor = y) -> list[torch.Tensor]:
            results: list[torch.Tensor | None] = [None] * 4

            def one(number: int) -> None:
                results[number] = fused_ssim.ssim_map(x, y)

            threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return [result for result in results if result is not None]

        calls += [scales, wrong, changing_settings, arrays, in_threads]
    return calls


def digest(results: list[torch.Tensor]) -> str:
    sha = hashlib.sha256()
    for result in results:
        sha.update(result.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--calls", type=int, default=60, help="generated calls in a round")
    parser.add_argument("--slack", type=float, default=8.0, help="MiB that memory may grow by after the warm-up")
    parser.add_argument("--json", type=Path, help="where the summary goes, too")
    arguments = parser.parse_args()
    on_gpu = arguments.device == "cuda"
    random.seed(0)
    calls = make_calls(arguments.device, arguments.calls)
    expected = [digest(call()) for call in calls]

    samples: list[dict[str, float]] = []
    made, changed, order = 0, [], list(range(len(calls)))
    start = time.monotonic()
    seconds = 60 * arguments.minutes
    while time.monotonic() - start < seconds or len(samples) < 4:
        random.shuffle(order)
        for number in order:
            made += 1
            if digest(calls[number]()) != expected[number]:
                changed.append(number)
        sample = {"seconds": time.monotonic() - start, "rss": resident() / MIB}
        if on_gpu:
            torch.cuda.synchronize()
            free, total = torch.cuda.mem_get_info()
            sample["allocated"] = torch.cuda.memory_allocated() / MIB
            sample["device"] = (total - free) / MIB
        samples.append(sample)
        if len(changed) > 20:
            break
    # From the end of the warm-up, the first and the last quarter: a single sample may catch a peak.
    rest = [s for s in samples if s["seconds"] >= seconds / 10] or samples
    quarter = max(1, len(rest) // 4)
    first, last = rest[:quarter], rest[-quarter:]
    growth = {key: min(s[key] for s in last) - min(s[key] for s in first) for key in rest[0] if key != "seconds"}
    is_flat = all(value <= arguments.slack for value in growth.values())
    summary = {
        "device": torch.cuda.get_device_name() if on_gpu else f"cpu ({fused_ssim.info().cpu_isa})",
        "seconds": round(time.monotonic() - start, 1),
        "rounds": len(samples),
        "calls": made,
        "results_that_changed": sorted(set(changed)),
        "growth_mib": {key: round(value, 2) for key, value in growth.items()},
        "memory_is_flat": is_flat,
        "last_sample": {key: round(value, 1) for key, value in samples[-1].items()},
    }
    text = json.dumps(summary, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    return 0 if is_flat and not changed else 1


if __name__ == "__main__":
    sys.exit(main())
