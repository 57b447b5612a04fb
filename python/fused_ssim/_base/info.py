# SPDX-License-Identifier: MIT
"""What this installation can do."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from .._core import __file__ as _core_file
from .._core import info as _native_info
from .._core import version as version


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


def info() -> Info:
    """What this installation can do: version, backends, devices. Loads the CUDA driver if there is one."""
    native = _native_info()
    devices = [CudaDevice(**device) for device in native.pop("cuda_devices")]
    architectures = native.pop("cuda_architectures").split()
    return Info(
        **native, torch_version=_torch_version(), cuda_architectures=tuple(architectures), devices=tuple(devices)
    )


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
