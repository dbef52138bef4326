"""Whether float32 arithmetic on a GPU is exact or may be TF32, whatever global switches say, within a block.

PyTorch has two sets of switches: ``allow_tf32`` and ``set_float32_matmul_precision``, and since 2.9 ``fp32_precision``.
Reading one set after the other was written is a RuntimeError in PyTorch, so a block sets both, and puts both back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

Value = TypeVar("Value")


@contextmanager
def float32_policy(exact: bool) -> Iterator[None]:
    """Compute float32 convolutions and matrix products exactly, or allow TF32 where the GPU has it.

    With ``exact`` results on a GPU agree with those on a CPU to float32's digits; TF32 keeps three. After the
    block every switch is as before (an old one that could not be read may be readable). ``cudnn.benchmark`` and other
    settings do not change.
    """
    new, backends = _new_switches(), torch.backends
    before = [getattr(owner, name) for owner, name in new]
    conv = _readable(lambda: backends.cudnn.allow_tf32)
    products = _readable(torch.get_float32_matmul_precision)
    try:
        backends.cudnn.allow_tf32 = not exact
        torch.set_float32_matmul_precision("highest" if exact else "high")
        for owner, name in new:
            setattr(owner, name, "ieee" if exact else "tf32")
        yield
    finally:
        # an old switch that could not be read has the state of the new one
        if conv is not None:
            backends.cudnn.allow_tf32 = conv
        if products is not None:
            torch.set_float32_matmul_precision(products)
        for (owner, name), value in zip(new, before, strict=True):
            _put_back(owner, name, value)


def _new_switches() -> list[tuple[Any, str]]:
    """``rnn`` is among them because reading the old switch of cuDNN compares it too."""
    cudnn = torch.backends.cudnn
    owners = [torch.backends.cuda.matmul, *(getattr(cudnn, kind) for kind in ("conv", "rnn") if hasattr(cudnn, kind))]
    return [(owner, "fp32_precision") for owner in owners if hasattr(owner, "fp32_precision")]


def _readable(read: Callable[[], Value]) -> Value | None:
    """The value, or None where a new switch was written, after which the old one cannot be read."""
    try:
        return read()
    except RuntimeError:
        return None


def _put_back(owner: Any, name: str, value: str) -> None:
    """Set the switch, or clear it where the value is inherited from a more general switch."""
    setattr(owner, name, "none")
    if getattr(owner, name) != value:
        setattr(owner, name, value)
