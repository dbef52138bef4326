"""How many threads a network computes with on the processor: its sums depend on it, in their last digits."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import UserError

VARIABLE = "OMP_NUM_THREADS"
"""Where users say it."""


def configured_threads() -> int:
    """One, the number that every worker of every engine on every machine can have; or what ``OMP_NUM_THREADS`` says.

    On a GPU it matters too: tracks are matched on the processor. Raises `UserError` where the variable is no number.
    """
    said = os.environ.get(VARIABLE, "").strip() or "1"
    if not said.isdecimal() or not 0 < int(said) <= 4096:
        what = f'"{said}" is no number of threads'
        raise UserError(f"environment variable {VARIABLE}", what, "set it to 1, or unset it")
    return int(said)


def torch_threads() -> int | None:
    """The number of threads that PyTorch has now; ``None`` where it is not in use."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None else None


def set_torch_threads(threads: int) -> None:
    """Tell PyTorch, where it is in use."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


@contextmanager
def use_threads(threads: int) -> Iterator[None]:
    """Give PyTorch so many threads, now and afterwards, whether it is in use already or is imported meanwhile.

    The environment is as before afterwards: commands that a model starts then get the user's.
    """
    # PyTorch asks MKL when it is imported, and MKL has variables of its own, and takes fewer threads than it is told to
    read = {VARIABLE: str(threads), "MKL_NUM_THREADS": str(threads), "MKL_DYNAMIC": "FALSE"}
    before = {name: os.environ.get(name) for name in read}
    os.environ.update(read)
    set_torch_threads(threads)
    try:
        yield
    finally:
        set_torch_threads(threads)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
