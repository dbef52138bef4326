"""The processes that train one model: those that ``torchrun`` started, or this one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from harness.engines.devices import refuse_missing_devices
from harness.errors import UserError


@dataclass(frozen=True, slots=True)
class TrainingProcesses:
    """This process: ``rank`` of ``count``, on ``device``."""

    rank: int
    count: int
    device: str

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait for all processes (a barrier)."""
        if self.count > 1:
            distributed.barrier()

    def mean(self, values: dict[str, torch.Tensor]) -> dict[str, float]:
        """Means over all processes of scalars by name; all must call it with the same names."""
        stacked = torch.stack([value.detach().float() for value in values.values()])
        if self.count > 1:
            distributed.all_reduce(stacked)
            stacked /= self.count
        return dict(zip(values, stacked.tolist(), strict=True))


@contextmanager
def joined(device: str) -> Iterator[TrainingProcesses]:
    """Join the processes that ``torchrun`` started; with CUDA each takes the GPU of its local rank."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield TrainingProcesses(0, 1, device)
        return
    if "RANK" not in os.environ:
        raise UserError("WORLD_SIZE", "is set, but RANK is not", "start several processes with torchrun")
    if device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        refuse_missing_devices([device])
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield TrainingProcesses(distributed.get_rank(), count, device)
    finally:
        distributed.destroy_process_group()
