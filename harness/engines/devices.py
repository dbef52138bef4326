"""The devices of a run: those of ``--device``, with one worker each or ``--workers`` in total."""

from __future__ import annotations

import os
from collections.abc import Iterable

from harness.errors import UserError
from harness.run_folder.provenance import gpus


def chosen_devices(device: str, workers: int | None = None) -> tuple[str, ...]:
    """Return the device of each worker; devices are assigned in turn.

    ``device`` may name several, separated by commas. ``cuda`` is every GPU that this process may use; with one worker,
    or one GPU, it stays ``cuda``. Raises `UserError` if nothing is named.
    """
    named = [name.strip() for name in device.split(",") if name.strip()]
    if not named:
        raise UserError("device", "names nothing", "name cpu, cuda, or several: cuda:0,cuda:1")
    if named == ["cuda"] and workers != 1:
        count = visible_gpus()
        named = [f"cuda:{index}" for index in range(count)] if count > 1 else named
    return tuple(named[index % len(named)] for index in range(workers or len(named)))


def default_device() -> str:
    """``cuda`` if there is a GPU that PyTorch can use, else ``cpu``. PyTorch is imported only if there is a GPU."""
    if not gpus():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def refuse_missing_devices(devices: Iterable[str]) -> None:
    """Raise `UserError` for the first device that PyTorch does not know, or that this process does not have.

    PyTorch is imported only if a device other than ``cpu`` is named.
    """
    for name in devices:
        if name == "cpu":
            continue
        kind, colon, index = name.partition(":")
        count = _count(kind)
        if count is None or (colon and not index.isdecimal()):
            raise UserError(f"device {name}", "is not a device", "name cpu, cuda, or one GPU: cuda:0")
        if not count:
            hint = "name cpu, or see `harness doctor`"
            raise UserError(f"device {name}", f"PyTorch finds no {kind} device here", hint)
        if colon and int(index) >= count:
            known = f"{kind}:0" if count == 1 else f"{kind}:0 to {kind}:{count - 1}"
            raise UserError(f"device {name}", f"PyTorch finds {count} of these devices here", f"name {known}")


def _count(kind: str) -> int | None:
    """The number of devices of a kind that PyTorch can use in this process; ``None`` for a kind that it does not know.

    If PyTorch is built without CUDA, the GPUs of the machine count: a command that ``external`` runs in its own
    environment may use them.
    """
    import torch

    if kind == "cuda" and not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return visible_gpus()
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        return int(torch.get_device_module(torch.device(kind)).device_count())
    except (RuntimeError, AttributeError):  # not the name of a device, or a device without a module, such as meta
        return None


def visible_gpus() -> int:
    """The number of GPUs that CUDA shows to this process, found without initialising CUDA.

    As in CUDA, ``CUDA_VISIBLE_DEVICES`` counts up to its first invalid entry.
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


def choose_gpu(device: str) -> int | None:
    """Make a GPU that is named with its number the current one, for code that names none; other devices do nothing.

    Returns the number of the GPU that was the current one, for `put_gpu_back`. Raises as `refuse_missing_devices`.
    """
    refuse_missing_devices([device])
    if not device.startswith("cuda:"):
        return None
    import torch

    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return None  # the GPU is for a command in another environment

    before = torch.cuda.current_device()
    torch.cuda.set_device(device)
    return before


def put_gpu_back(before: int | None) -> None:
    """Make the GPU the current one that was it before `choose_gpu`."""
    if before is not None:
        import torch

        torch.cuda.set_device(before)
