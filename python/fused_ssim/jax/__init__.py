# SPDX-License-Identifier: MIT
"""SSIM, MS-SSIM and a loss for JAX: under ``jit``, ``grad``, ``value_and_grad`` and ``vmap``, on the CPU and on CUDA.

A call becomes one operation of the compiled program, which XLA runs by its foreign function interface: no Python runs
then, nothing leaves the device, and nothing is waited for. Where a gradient is wanted, the same operation computes it
with the value. ``vmap`` makes one call of many.

There is reverse mode only, and once: second derivatives are a ``NotImplementedError``, forward mode is an error of JAX.
Arrays that are sharded over devices are gathered first. Devices other than the CPU and CUDA are an error.

It needs JAX 0.6 or later: ``pip install "fused-ssim[jax]"``, and for CUDA ``pip install "jax[cuda12]"`` or
``"jax[cuda13]"``. torch is not imported.
"""

from __future__ import annotations

try:
    import jax as _jax
except ImportError as error:
    raise ImportError(
        'fused_ssim.jax needs JAX: pip install "fused-ssim[jax]", and for CUDA "jax[cuda12]" or "jax[cuda13]"'
    ) from error
if _jax.__version_info__ < (0, 6):
    raise ImportError(f"fused_ssim.jax needs JAX 0.6 or later, but {_jax.__version__} is installed")

from ._functions import ms_ssim, photometric_loss, ssim

__all__ = ["ms_ssim", "photometric_loss", "ssim"]
