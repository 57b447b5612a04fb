# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
import torch

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


@pytest.fixture
def restore_threads() -> object:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
