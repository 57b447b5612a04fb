# SPDX-License-Identifier: MIT
"""What a metric is where torchmetrics is not installed: states of a single process, and the four methods."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class SingleProcessMetric(nn.Module):
    """The part of ``torchmetrics.Metric`` that a metric needs in a single process.

    A subclass has ``update``, which adds to the states, and ``compute``.
    """

    def __init__(self, **kwargs: Any) -> None:
        for name in kwargs:
            raise TypeError(f"{name} = {kwargs[name]!r} is an argument of torchmetrics.Metric; that needs torchmetrics")
        super().__init__()
        self._defaults: dict[str, Tensor | list[Tensor]] = {}
        self._keeps_graph = False

    def add_state(self, name: str, default: Tensor | list[Tensor], dist_reduce_fx: str | None = None) -> None:
        """A tensor that is added to, or a list of tensors that grows."""
        del dist_reduce_fx
        self._defaults[name] = default
        self._set(name, default)

    def _set(self, name: str, value: Tensor | list[Tensor]) -> None:
        if isinstance(value, Tensor):
            self.register_buffer(name, value.clone(), persistent=False)
        else:
            setattr(self, name, list(value))

    def reset(self) -> None:
        """As if no images had been seen."""
        for name, default in self._defaults.items():
            current = getattr(self, name)
            self._set(name, default.to(current.device) if isinstance(default, Tensor) else default)

    def forward(self, *images: Tensor) -> Any:
        """The result of these images alone, which are also added to those that were seen; differentiable."""
        before = {name: copy(getattr(self, name)) for name in self._defaults}
        self.reset()
        self._keeps_graph = True
        try:
            self.update(*images)
            result = self.compute()
        finally:
            self._keeps_graph = False
            for name, old in before.items():
                new = getattr(self, name)
                if isinstance(old, Tensor):
                    self._set(name, old + new.detach())
                else:
                    self._set(name, [*old, *(each.detach() for each in new)])
        return result

    def update(self, *images: Tensor) -> None:
        raise NotImplementedError

    def compute(self) -> Any:
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], *arguments: Any, **settings: Any) -> Any:
        """Lists of states move with the module."""
        super()._apply(fn, *arguments, **settings)  # type: ignore[no-untyped-call]
        for name in self._defaults:
            if isinstance(state := getattr(self, name), list):
                setattr(self, name, [fn(each) for each in state])
        return self

    def _plot(self, *_arguments: Any) -> Any:
        raise ImportError("plot needs torchmetrics: pip install 'fused-ssim[metrics]'")


def require_a_single_process() -> None:
    """An error if there are several, whose states nobody brings together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        count = torch.distributed.get_world_size()
        if count > 1:
            raise RuntimeError(
                f"a metric of {count} processes needs torchmetrics, which brings their states together: "
                "pip install 'fused-ssim[metrics]'"
            )
