"""The number of CPU threads of a network: the last digits of its sums depend on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import UserError

VARIABLE = "OMP_NUM_THREADS"
"""The environment variable with which users set it."""


def configured_threads() -> int:
    """The value of ``OMP_NUM_THREADS``; by default 1, which works on every machine.

    It matters on a GPU too: tracks are matched on the CPU. Raises `UserError` if the variable is not a number.
    """
    value = os.environ.get(VARIABLE, "").strip() or "1"
    if not value.isdecimal() or not 0 < int(value) <= 4096:
        what = f'"{value}" is not a number of threads'
        raise UserError(f"environment variable {VARIABLE}", what, "set it to 1, or unset it")
    return int(value)


def torch_threads() -> int | None:
    """PyTorch's current number of threads; ``None`` if PyTorch is not imported."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None else None


def set_torch_threads(threads: int) -> None:
    """Set PyTorch's number of threads, if PyTorch is imported."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


@contextmanager
def use_threads(threads: int) -> Iterator[None]:
    """Set PyTorch's number of threads, for the block and afterwards, even if PyTorch is imported inside the block.

    The environment is restored afterwards: commands that a model starts later get the user's.
    """
    # PyTorch asks MKL when it is imported; MKL has its own variables, and may use fewer threads than requested
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
