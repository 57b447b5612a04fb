# SPDX-License-Identifier: MIT
"""Processes that form a torch.distributed group and run the functions of tests."""

from __future__ import annotations

import datetime as dt
import traceback
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

# A process that waits for another in vain is an error, not a hang.
LIMIT = dt.timedelta(seconds=90)


def _work(rank: int, world: int, store: str, backend: str, orders: Connection) -> None:
    torch.set_num_threads(1)
    if backend == "nccl":
        torch.cuda.set_device(rank)
    device = f"cuda:{rank}" if backend == "nccl" else "cpu"
    dist.init_process_group(backend, store=dist.FileStore(store, world), rank=rank, world_size=world, timeout=LIMIT)
    while True:
        task, arguments = orders.recv()
        try:
            task(device, *arguments)
        except BaseException:
            orders.send(traceback.format_exc())
        else:
            orders.send("")


class Processes:
    """A group of processes; starting them takes seconds, so tests share them."""

    def __init__(self, world: int, store: str, backend: str = "gloo") -> None:
        context = mp.get_context("spawn")
        self._orders = []
        self._processes = []
        for rank in range(world):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(rank, world, store, backend, theirs), daemon=True)
            process.start()
            theirs.close()
            self._orders.append(ours)
            self._processes.append(process)

    def run(self, task: Callable[..., None], *arguments: Any) -> None:
        """Runs ``task(device, *arguments)`` in all processes; an error in one of them is an error here."""
        for orders in self._orders:
            orders.send((task, arguments))
        failures = []
        for rank, orders in enumerate(self._orders):
            assert orders.poll(2 * LIMIT.total_seconds()), f"process {rank} gives no answer"
            if text := orders.recv():
                failures.append(f"process {rank}:\n{text}")
        assert not failures, "\n".join(failures)

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
