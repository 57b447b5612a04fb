# SPDX-License-Identifier: MIT
"""The interfaces of other packages, for code that was written for them.

A module for each: ``fused_ssim``, ``fused_ssim_cuda`` (also there by that name alone, as fused-ssim's extension module
is), ``pytorch_msssim``, ``skimage``, ``torchmetrics``, ``monai``, ``kornia`` and ``piq``. The functions have the names,
the arguments and the defaults of that package, and agree with it. docs/migrating.md has the table of what differs. None
of the packages has to be installed; ``skimage`` needs no torch either.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["fused_ssim", "fused_ssim_cuda", "kornia", "monai", "piq", "pytorch_msssim", "skimage", "torchmetrics"]


def __getattr__(name: str) -> Any:
    # By their first use, since all but one need torch.
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
