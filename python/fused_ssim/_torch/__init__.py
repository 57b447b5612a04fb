# SPDX-License-Identifier: MIT
"""SSIM as an operation of torch. The only place that knows how autograd, compilation and transformations work."""
