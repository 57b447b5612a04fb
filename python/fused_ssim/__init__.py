# SPDX-License-Identifier: MIT
"""Structural similarity (SSIM) and its gradient, fused: 2D and 3D, CPU and CUDA, for torch.

``fused_ssim.array`` does the same for arrays of NumPy, CuPy, JAX and Numba, without torch. ``fused_ssim.jax`` does it
inside programs of JAX. Further modules are ``fused_ssim.metrics``, ``fused_ssim.distributed``, and
``fused_ssim.compat``, the interfaces of other packages.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._base.backends import backend
from ._base.info import CudaDevice, Info, Route, info
from ._base.info import version as _version

# torch is imported by the first use of a name that needs it, so that `fused_ssim.array` never loads it. Where it is
# loaded already, nothing is put off.
if TYPE_CHECKING or sys.modules.get("torch"):
    from .compat.fused_ssim import FusedSSIMMap, allowed_padding
    from .compat.pytorch_msssim import MS_SSIM, SSIM, ms_ssim, ssim
    from .functional import fused_ssim, fused_ssim2d, fused_ssim3d, photometric_loss, ssim_db, ssim_map
    from .gradients import value_and_grad, value_map_and_grad
    from .losses import MSSSIMLoss, PhotometricLoss, SSIMLoss
    from .terms import SSIMTerms, ssim_terms

# The modules that hold those names.
_NEED_TORCH = ("functional", "gradients", "losses", "terms", "compat.fused_ssim", "compat.pytorch_msssim")

# The modules that are there after `import fused_ssim`, imported by their first use.
_MODULES = ("array", "compat", "distributed", "functional", "jax", "losses", "metrics")

__version__ = _version()

__all__ = [
    "MS_SSIM",
    "SSIM",
    "CudaDevice",
    "FusedSSIMMap",
    "Info",
    "MSSSIMLoss",
    "PhotometricLoss",
    "Route",
    "SSIMLoss",
    "SSIMTerms",
    "allowed_padding",
    "backend",
    "fused_ssim",
    "fused_ssim2d",
    "fused_ssim3d",
    "info",
    "ms_ssim",
    "photometric_loss",
    "ssim",
    "ssim_db",
    "ssim_map",
    "ssim_terms",
    "value_and_grad",
    "value_map_and_grad",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in __all__:
        for home in _NEED_TORCH:
            module = import_module(f".{home}", __name__)
            if name in module.__all__:
                globals()[name] = getattr(module, name)
                return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
