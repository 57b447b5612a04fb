# SPDX-License-Identifier: MIT
"""What this installation can do."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._core import __file__ as _core_file
from .._core import info as _native_info
from .._core import version as version
from .backends import current, triton_problem
from .codes import DEVICES


@dataclass(frozen=True)
class CudaDevice:
    """A CUDA device that the driver shows.

    Attributes:
        index: its ordinal, as in ``torch.device("cuda", index)``.
        name: for instance ``"NVIDIA GeForce RTX 4090"``.
        compute_capability: 90 for 9.0.
        multiprocessors: how many it has.
        memory_bytes: its memory.
        usable: whether this library has code for it.

    """

    index: int
    name: str
    compute_capability: int
    multiprocessors: int
    memory_bytes: int
    usable: bool


@dataclass(frozen=True)
class Route:
    """What computes calls with tensors on a kind of device.

    Attributes:
        device: the type that torch has for it, as in ``torch.device("mps").type``.
        backend: ``"native"``: the native library; ``"torch"``: plain operations of torch; ``"triton"``: kernels of
            Triton, and plain operations for what they lack.
        reason: why, and what to do if that is not what was wanted.

    """

    device: str
    backend: str
    reason: str


@dataclass(frozen=True)
class Info:
    """What this installation can do.

    Attributes:
        version: of the native library.
        library_path: the file that is loaded.
        torch_version: of the torch in use; empty if there is none.
        cuda_built: whether the library has CUDA code.
        cuda_architectures: for instance ``("sm_80", "sm_90", "compute_120")``; ``compute_*`` serves newer GPUs.
        cuda_compiler: what compiled that code.
        cuda_problem: why CUDA cannot be used and what to do about it; empty if it can be used.
        cuda_driver_version: the CUDA version of the driver, 12080 for 12.8; 0 without a driver.
        devices: the CUDA devices that the driver shows.
        cpu_isa: the instruction set in use on the CPU.
        backend: the setting that holds here: see ``fused_ssim.backend``.
        routes: what computes on which kind of device under that setting: the CPU, CUDA, and those that torch has here.
            The last one, ``"other"``, is about all the rest. They are known once torch is imported.
        cpu_threads: the threads that the library uses on its own, as for ``fused_ssim.array``: those that the process
            may run on, or ``OMP_NUM_THREADS``. Calls with tensors of torch use ``torch.get_num_threads()``.

    """

    version: str
    library_path: str
    torch_version: str
    cuda_built: bool
    cuda_architectures: tuple[str, ...]
    cuda_compiler: str
    cuda_problem: str
    cuda_driver_version: int
    devices: tuple[CudaDevice, ...]
    cpu_isa: str
    cpu_threads: int
    backend: str
    routes: tuple[Route, ...]


def info() -> Info:
    """What this installation can do: version, backends, devices. Loads the CUDA driver if there is one."""
    native = _native_info()
    devices = [CudaDevice(**device) for device in native.pop("cuda_devices")]
    architectures = native.pop("cuda_architectures").split()
    return Info(
        **native,
        torch_version=_torch_version(),
        cuda_architectures=tuple(architectures),
        devices=tuple(devices),
        backend=current(),
        routes=_routes(current(), native["cuda_problem"]),
    )


def _routes(setting: str, cuda_problem: str) -> tuple[Route, ...]:
    torch = sys.modules.get("torch")
    is_rocm = bool(torch and torch.version.hip)
    kinds = {kind: _kernels_of(kind, cuda_problem, is_rocm) for kind in (*DEVICES, *_accelerators(), "other")}
    return tuple(_route(kind, setting, *known) for kind, known in kinds.items())


def _kernels_of(kind: str, cuda_problem: str, is_rocm: bool) -> tuple[bool, str]:
    """Whether the native library has code for a kind of device, and what is to be said of it."""
    if kind == "cuda" and is_rocm:
        return False, "torch for ROCm calls AMD's GPUs so; the native library has no code for them"
    if kind == "cuda" and cuda_problem:
        return True, f'not usable: {cuda_problem}; fused_ssim.backend("torch") computes without the native library'
    if kind in DEVICES:
        return True, "the native library has code for it"
    return False, "the native library has no code for it"


_LACKING = "what Triton's kernels lack, plain operations of torch compute"
_FIRST_USE = "they also take over, with a warning, if the kernels fail at their first use"


def _route(kind: str, setting: str, has_kernels: bool, what: str) -> Route:
    if setting == "torch":
        return Route(kind, "torch", 'asked for: the backend is "torch"')
    no_triton = triton_problem(kind)
    if setting == "triton" and no_triton:
        return Route(kind, "triton", f'an error: the backend is "triton", and {no_triton}')
    if setting == "triton":
        return Route(kind, "triton", f'asked for: the backend is "triton"; {_LACKING}')
    if setting == "native" and not has_kernels:
        return Route(kind, "native", f'an error: the backend is "native", and {what}')
    if has_kernels:
        return Route(kind, "native", what)
    if no_triton:
        return Route(kind, "torch", what)
    return Route(kind, "triton", f"{what}; {_LACKING}; {_FIRST_USE}")


def _accelerators() -> list[str]:
    """Kinds of devices besides the CPU and CUDA that torch can use here; none before torch is imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    found = [kind for kind in ("mps", "xpu") if _is_available(torch, kind)]
    other = torch._C._get_privateuse1_backend_name()
    return [*found, other] if _is_available(torch, other) else found


def _is_available(torch: Any, kind: str) -> bool:
    module = getattr(torch, kind, None)
    is_available = getattr(module, "is_available", None)
    return bool(is_available and is_available())


def _torch_version() -> str:
    """The version of torch, without importing it."""
    if "torch" in sys.modules:
        return str(getattr(sys.modules["torch"], "__version__", ""))  # None stands for a torch that must not be used
    # Here, since these two take longer to import than all of fused_ssim.
    import importlib.metadata
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        return ""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""


def install_dir() -> Path:
    """The folder with the C library: its ``include``, ``lib`` and ``lib/cmake``."""
    # From the extension module's place and not the package's: in an editable install the two differ.
    return Path(_core_file).parent
