# SPDX-License-Identifier: MIT
"""Packages to compare with that cannot be imported as they are."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import Any


class _Hollow(type):
    """A class whose every attribute is another one like it."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Hollow(name, (), {})


def import_piq(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package piq. It imports torchvision for metrics not used here: a hollow one will do where there is none."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        for name in (
            "torchvision",
            "torchvision.models",
            "torchvision.transforms",
            "torchvision.transforms.functional",
        ):
            module = types.ModuleType(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, loader=None)
            module.__path__ = []
            module.__getattr__ = lambda attribute: _Hollow(attribute, (), {})
            monkeypatch.setitem(sys.modules, name, module)
    return pytest.importorskip("piq")
