# SPDX-License-Identifier: MIT
"""The benchmark behind `fused-ssim bench` and benchmarks/bench.py: time and memory beside other packages."""
