"""Which devices a run uses: those of ``--device``, one worker each or as many as ``--workers`` says."""

from __future__ import annotations

import os

from harness.errors import UserError
from harness.provenance import gpus


def chosen_devices(device: str, workers: int | None = None) -> tuple[str, ...]:
    """Return the device of each worker, in turn.

    ``device`` may name several, with commas. ``cuda`` is every GPU that this process may use; with one worker, or one
    GPU, it stays ``cuda``. Raises `UserError` where nothing is named.
    """
    named = [name.strip() for name in device.split(",") if name.strip()]
    if not named:
        raise UserError("--device", "names nothing", "name cpu, cuda, or several: cuda:0,cuda:1")
    if named == ["cuda"] and workers != 1:
        count = visible_gpus()
        named = [f"cuda:{index}" for index in range(count)] if count > 1 else named
    return tuple(named[index % len(named)] for index in range(workers or len(named)))


def visible_gpus() -> int:
    """How many GPUs CUDA would show to this process, found out without starting CUDA.

    ``CUDA_VISIBLE_DEVICES`` lists them until the first entry that is none, as CUDA reads it.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return len(gpus())
    count = 0
    for entry in listed.split(","):
        if not entry.strip() or entry.strip().startswith("-"):
            break
        count += 1
    return count
