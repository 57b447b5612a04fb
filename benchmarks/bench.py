# SPDX-License-Identifier: MIT
"""The benchmark as a script. It is `fused-ssim bench` under another name: see `python benchmarks/bench.py --help`."""

from __future__ import annotations

from fused_ssim.cli.bench.command import bench_command

if __name__ == "__main__":
    bench_command(prog_name="benchmarks/bench.py")
