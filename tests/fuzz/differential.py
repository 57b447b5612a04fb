# SPDX-License-Identifier: MIT
"""Random calls for so many minutes, each compared with the definition in float64, within the bound of its case.

    python tests/fuzz/differential.py --minutes 10 [--device cuda] [--seed 0] [--json FILE]

On a GPU the same call is made in float64 on the CPU, too; both results have to lie within their bounds of the oracle,
and so of one another. Without a GPU it is float32, float16 and bfloat16 on the CPU against float64. A JSON summary says
how many calls there were, and how much of its bound the worst of each kind used. Above 1 is a fault: it is printed with
what makes it again, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import torch
from cases import FLOAT_DTYPES, Case, RandomChoices, Worst, compare, describe, draw_case, run

import fused_ssim


def one_call(case: Case, device: str) -> Worst:
    x, y = case.images(device)
    mask = case.mask(device)
    worst = compare(case, x, y, mask, *run(case, x, y, mask))
    if (device == "cpu" and case.dtype == torch.float64) or not case.grads:
        return worst
    # The same images and upstream gradient in float64 on the CPU.
    double = replace(case, dtype=torch.float64)
    x, y = (image.double() if image.is_floating_point() else image for image in (x.detach().cpu(), y.detach().cpu()))
    mask = None if mask is None else mask.cpu() if mask.dtype == torch.bool else mask.cpu().double()
    found = compare(double, x, y, mask, *run(double, x, y, mask))
    if found.largest > 1:
        found.reason = f"float64 on the CPU: {found.reason}"
        return found
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=20000, help="elements of an image batch")
    parser.add_argument("--json", type=Path, help="where the summary goes, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    worst: dict[str, Worst] = {str(dtype): Worst() for dtype in FLOAT_DTYPES}
    by_kind: dict[str, float] = {}
    faults: list[dict[str, Any]] = []
    number, start = 0, time.monotonic()
    while time.monotonic() - start < 60 * arguments.minutes:
        case = draw_case(RandomChoices(arguments.seed * 1_000_000_007 + number), largest=arguments.largest)
        try:
            found = one_call(case, arguments.device)
        except Exception as error:
            found = Worst(float("inf"), float("inf"), f"{type(error).__name__}: {error}")
        number += 1
        worst[str(case.dtype)].update(found)
        by_kind[case.kind] = max(by_kind.get(case.kind, 0.0), found.largest)
        if found.largest > 1:
            faults.append({"number": number - 1, "reason": found.reason, "case": describe(case)})
            print(json.dumps(faults[-1], default=str), file=sys.stderr, flush=True)
            if len(faults) == 20:
                break
    info = fused_ssim.info()
    summary = {
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else f"cpu ({info.cpu_isa})",
        "seed": arguments.seed,
        "seconds": round(time.monotonic() - start, 1),
        "calls": number,
        "faults": len(faults),
        "of_bound": {name: {"value": round(w.value, 4), "gradient": round(w.gradient, 4)} for name, w in worst.items()},
        "of_bound_by_images": {name: round(share, 4) for name, share in sorted(by_kind.items())},
    }
    text = json.dumps(summary, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
