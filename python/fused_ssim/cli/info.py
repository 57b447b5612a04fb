# SPDX-License-Identifier: MIT
"""`fused-ssim info`: what is installed here and what it can use. Works without torch."""

from __future__ import annotations

import dataclasses
import json

import click

import fused_ssim


@click.command("info", short_help="What is installed, and whether CUDA can be used.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info_command(as_json: bool) -> None:
    """Say what is installed: version, backends, devices, and whether CUDA can be used.

    \b
    Examples:
      fused-ssim info
      fused-ssim info --json
    """
    what = fused_ssim.info()
    problem, threads = what.cuda_problem, what.cpu_threads
    if what.torch_version:
        import torch

        from fused_ssim.cli.devices import cuda_problem

        problem, threads = cuda_problem(), torch.get_num_threads()  # what calls from torch use
        what = fused_ssim.info()  # which knows the devices of torch once that is there
    if as_json:
        report = {**dataclasses.asdict(what), "cuda_problem": problem, "cuda_usable": not problem}
        click.echo(json.dumps(report, indent=2))
        return

    rows = [
        ("fused-ssim", what.version),
        ("library", str(what.library_path)),
        ("backends", "CPU, CUDA" if what.cuda_built else "CPU (built without CUDA)"),
        ("CPU", f"instruction set {what.cpu_isa}, {threads} thread{'s' * (threads != 1)}"),
    ]
    if what.cuda_built:
        rows.append(("CUDA code", f"{' '.join(what.cuda_architectures)} (compiled by {what.cuda_compiler})"))
    version = what.cuda_driver_version
    rows.append(("CUDA driver", f"CUDA {version // 1000}.{version % 1000 // 10}" if version else "none found"))
    for index, device in enumerate(what.devices):
        major, minor = divmod(device.compute_capability, 10)
        rows.append(
            (
                f"GPU {index}",
                f"{device.name}, compute capability {major}.{minor}, {device.memory_bytes / 2**30:.1f} GiB"
                + ("" if device.usable else " (no code for it in this build)"),
            )
        )
    rows.append(("torch", what.torch_version or "not installed"))
    rows.append(("CUDA", f"not usable: {problem}" if problem else "usable"))
    rows.append(("backend", what.backend))
    rows += [(f"  {route.device}", f"{route.backend}: {route.reason}") for route in what.routes]
    for label, text in rows:
        click.echo(f"{label:<13}{text}")
