# SPDX-License-Identifier: MIT
"""The packages that can be measured, each behind one function of two images, with the settings of fused-ssim."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fused_ssim
from fused_ssim.cli.bench.cases import SIGMA, TRAIN, WINDOW

OURS = "fused-ssim"
ORIGINAL = "original fused-ssim"
ORIGINAL_NOTE = (
    "the fused-ssim of github.com/rahul-goel/fused-ssim has the same import name as this package, so one environment "
    "cannot hold both; install it with pip's --target and name that folder with --original"
)

Call = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class Library:
    """A package.

    Attributes:
        name: for tables and plots.
        version: of the package.
        padding: what it computes: "same" (zeros around the image), "reflect", or "valid" (only windows inside the
            image, which is less work).
        prepare: the function to call for a mode and a number of spatial axes; None if the package cannot do that.
        devices: where it runs.
        capturable: whether a CUDA graph of its calls is measured. Packages that copy their window from the host in
            each call, or launch on the default stream whatever the current one is, cannot be captured.

    """

    name: str
    version: str
    padding: str
    prepare: Callable[[str, int], Call | None]
    devices: tuple[str, ...] = ("cpu", "cuda")
    capturable: bool = False


def with_gradient(value: Callable[[Tensor, Tensor], Tensor], upstream: Tensor | None = None) -> Call:
    """The value and its gradient to the first image, as a training loop computes them; `upstream`: for a map."""

    def call(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        result = value(x, y)
        return result, torch.autograd.grad(result, x, upstream)[0]

    return call


def without_gradient(value: Callable[[Tensor, Tensor], Tensor]) -> Call:
    def call(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return value(x, y)

    return call


def find(original: Path | None = None, names: Collection[str] | None = None) -> tuple[list[Library], dict[str, str]]:
    """This package, those of `names` that are installed, and why each of the others is not measured."""
    found = [Library(OURS, fused_ssim.__version__, "same", ours, capturable=True)]
    missing: dict[str, str] = {}
    for name, builder in _BUILDERS.items():
        if names is None or name in names:
            library, reason = _try(builder)
            if library is None:
                missing[name] = reason
            else:
                found.append(library)
    if original is not None:
        library, reason = _try(lambda: _original(original))
        if library is None:
            missing[ORIGINAL] = reason
        else:
            found.append(library)
    elif names is None or ORIGINAL in names:
        missing[ORIGINAL] = ORIGINAL_NOTE
    return found, missing


def _try(builder: Callable[[], Library]) -> tuple[Library | None, str]:
    """A package, or why there is none: one that is broken here must not stop the others."""
    try:
        return builder(), ""
    except ModuleNotFoundError as error:
        return None, f"not installed ({error.name or error})"
    except Exception as error:
        return None, f"cannot be imported: {_first_line(error)}"


def ours(mode: str, dims: int) -> Call:
    """The call of this package."""
    ssim = fused_ssim.fused_ssim3d if dims == 3 else fused_ssim.fused_ssim
    if mode == TRAIN:
        return with_gradient(ssim)
    return without_gradient(lambda x, y: ssim(x, y, train=False))


def either(value: Callable[[Tensor, Tensor], Tensor], mode: str) -> Call:
    """The call of a function in a mode."""
    return with_gradient(value) if mode == TRAIN else without_gradient(value)


def _pytorch_msssim() -> Library:
    ssim: Any = importlib.import_module("pytorch_msssim").ssim

    def prepare(mode: str, _dims: int) -> Call:
        return either(lambda x, y: ssim(x, y, data_range=1.0, win_size=WINDOW, win_sigma=SIGMA), mode)

    return Library("pytorch-msssim", importlib.metadata.version("pytorch-msssim"), "valid", prepare)


def _torchmetrics() -> Library:
    module: Any = importlib.import_module("torchmetrics.functional.image")

    def prepare(mode: str, _dims: int) -> Call:
        # Its window comes from sigma: 11 taps for 1.5.
        ssim = module.structural_similarity_index_measure
        return either(lambda x, y: ssim(x, y, gaussian_kernel=True, sigma=SIGMA, data_range=1.0), mode)

    return Library("torchmetrics", importlib.metadata.version("torchmetrics"), "reflect", prepare)


def _monai() -> Library:
    module: Any = importlib.import_module("monai.losses.ssim_loss")

    def prepare(mode: str, dims: int) -> Call:
        loss = module.SSIMLoss(spatial_dims=dims, data_range=1.0, win_size=WINDOW, kernel_sigma=SIGMA)
        return either(lambda x, y: 1 - loss(x, y), mode)

    return Library("MONAI", importlib.metadata.version("monai"), "valid", prepare)


def _fussim() -> Library:
    module: Any = importlib.import_module("fussim")

    def prepare(mode: str, dims: int) -> Call | None:
        if dims != 2:
            return None
        if mode == TRAIN:
            return with_gradient(lambda x, y: module.fused_ssim(x, y))
        return without_gradient(lambda x, y: module.fused_ssim(x, y, train=False))

    return Library("fussim", importlib.metadata.version("fussim"), "same", prepare, devices=("cuda",))


def _frame_analytics() -> Library:
    module: Any = importlib.import_module("frame_analytics")

    def prepare(mode: str, dims: int) -> Call | None:
        if dims != 2:
            return None
        return either(lambda x, y: module.ssim(x, y, data_range=1.0, win_size=WINDOW, sigma=SIGMA), mode)

    return Library("frame-analytics", importlib.metadata.version("frame-analytics"), "valid", prepare)


def _scikit_image() -> Library:
    ssim: Any = importlib.import_module("skimage.metrics").structural_similarity
    options = {"gaussian_weights": True, "sigma": SIGMA, "use_sample_covariance": False, "data_range": 1.0}

    def value(x: Tensor, y: Tensor) -> float:
        pairs = zip(x.numpy(), y.numpy(), strict=True)
        return float(sum(ssim(a, b, channel_axis=0, **options) for a, b in pairs) / len(x))

    def prepare(mode: str, _dims: int) -> Call | None:
        return None if mode == TRAIN else value

    return Library("scikit-image", importlib.metadata.version("scikit-image"), "valid", prepare, devices=("cpu",))


def _original(folder: Path) -> Library:
    """The package of the same import name, from a folder, under another name; its extension has a name of its own."""
    sys.path.append(str(folder))
    spec = importlib.util.spec_from_file_location("original_fused_ssim", folder / "fused_ssim" / "__init__.py")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"no fused_ssim in {folder}")
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if hasattr(module, "info"):
        raise ImportError("that is this package, not the original")

    def prepare(mode: str, dims: int) -> Call | None:
        ssim: Any = getattr(module, "fused_ssim3d", None) if dims == 3 else module.fused_ssim
        if ssim is None:
            return None
        if mode == TRAIN:
            return with_gradient(lambda x, y: ssim(x, y))
        return without_gradient(lambda x, y: ssim(x, y, train=False))

    versions = [found.version for found in importlib.metadata.distributions(path=[str(folder)])]
    return Library(ORIGINAL, versions[0] if versions else "unknown", "same", prepare, devices=("cuda",))


_BUILDERS: dict[str, Callable[[], Library]] = {
    "pytorch-msssim": _pytorch_msssim,
    "torchmetrics": _torchmetrics,
    "MONAI": _monai,
    "fussim": _fussim,
    "frame-analytics": _frame_analytics,
    "scikit-image": _scikit_image,
}
KNOWN = [OURS, *_BUILDERS, ORIGINAL]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
