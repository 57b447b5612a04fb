# SPDX-License-Identifier: MIT
"""The benchmark behind `fused-ssim bench` and benchmarks/bench.py: time and memory, side by side with other packages."""
