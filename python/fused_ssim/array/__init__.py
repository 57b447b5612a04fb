# SPDX-License-Identifier: MIT
"""SSIM, MS-SSIM and a loss, with their gradients, for arrays of NumPy, CuPy, JAX and Numba, and whatever else has
DLPack or ``__cuda_array_interface__``. torch is not imported, and need not be installed.

Arrays are read where they are: on the CPU or on a CUDA device, with any strides, without a copy. Results are arrays of
the same library on the same device; those for an unknown library are NumPy arrays on the CPU and CuPy arrays on a CUDA
device. Work on a CUDA device is enqueued on the stream that the library would use itself: CuPy's current stream, or the
stream that a Numba array is bound to. JAX shows no stream to others, so there the call waits: for its inputs, and for
its results. On the CPU a call uses the processors that the process may run on, or ``OMP_NUM_THREADS`` of them.

Images may be in any layout, which ``channel_axis`` names: batches, single images with the channels first or last, and
images and volumes without channels. A masked array of NumPy is an image with a mask: no window sees what one of the two
images masks, as with ``mask_mode="normalized"``.

These functions are not differentiable; those whose names end in ``_and_grad`` give the gradient, to use in a rule of
one's own. ``fused_ssim.jax`` has differentiable ones for JAX, which also run inside of ``jit``.
"""

from __future__ import annotations

from ._losses import ms_ssim, ms_ssim_and_grad, photometric_loss, photometric_loss_and_grad
from ._ssim import decibels, map, value, value_and_grad, value_map_and_grad  # noqa: A004 - its page says what it is

__all__ = [
    "decibels",
    "map",
    "ms_ssim",
    "ms_ssim_and_grad",
    "photometric_loss",
    "photometric_loss_and_grad",
    "value",
    "value_and_grad",
    "value_map_and_grad",
]
