# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch
from processes import Processes
from systems import NO_GLOO, gloo_is_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

# Where there is a GPU, JAX would take most of its memory from the other tests.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

NO_CUDA = "torch.cuda.is_available() is False"

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_CUDA)]),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Tests of CUDA alone carry only the marker.
    for item in items:
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason=NO_CUDA))


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    yield from _processes(2, tmp_path_factory)


@pytest.fixture(scope="session")
def three_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    yield from _processes(3, tmp_path_factory)


@pytest.fixture(scope="session")
def two_gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    if torch.cuda.device_count() < 2:
        pytest.skip("fewer than two GPUs")
    # NVLink multicast wants privileges that containers often lack.
    os.environ["NCCL_NVLS_ENABLE"] = "0"
    yield from _processes(2, tmp_path_factory, "nccl")


def _processes(world: int, folder: pytest.TempPathFactory, backend: str = "gloo") -> Iterator[Processes]:
    if not torch.distributed.is_available():
        pytest.skip("torch.distributed is not in this torch")
    if backend == "gloo" and gloo_is_missing():
        pytest.skip(NO_GLOO)
    processes = Processes(world, str(folder.mktemp("group") / "store"), backend)
    yield processes
    processes.close()


@pytest.fixture
def restore_threads() -> object:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def colour() -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture and a noisy version of it, (40, 56, 3) uint8."""
    import numpy as np

    random = np.random.default_rng(1)
    y, x = np.mgrid[:40, :56]
    clean = 127 + 90 * np.sin(np.stack([x / 5, y / 7, (x + y) / 9], axis=-1))
    noisy = clean + random.normal(0, 12, clean.shape)
    return clean.astype(np.uint8), np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def volumes() -> tuple[np.ndarray, np.ndarray]:
    """A volume and a noisy version of it, (18, 20, 22) int16, partly negative."""
    import numpy as np

    random = np.random.default_rng(2)
    z, y, x = np.mgrid[:18, :20, :22]
    clean = 900 * np.sin(x / 4) * np.cos(y / 5) * np.sin(z / 6)
    return clean.astype(np.int16), (clean + random.normal(0, 60, clean.shape)).astype(np.int16)
