"""Whether float32 arithmetic is exact or may be TF32, whatever global switches say, within a block.

PyTorch has two sets of switches: ``allow_tf32`` and ``set_float32_matmul_precision``, and since 2.9 ``fp32_precision``.
Reading one set after the other was written is a RuntimeError in PyTorch, so a block sets both, and puts both back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch

Value = TypeVar("Value")

_LOCK = threading.Lock()
_ENTERED: list[bool] = []
"""``exact`` of the blocks that threads are in; the switches are those of the whole process."""
_OUTSIDE: list[_Switches] = []
"""The switches as they were before the first of these blocks."""


@contextmanager
def float32_policy(exact: bool) -> Iterator[None]:
    """Compute float32 convolutions and matrix products exactly, or allow TF32 where the device has it.

    With ``exact`` results on a GPU agree with those on a CPU to float32's digits; TF32 keeps three. Blocks may be
    nested, and threads may be in several at once: if one of them is exact, all are. After the last block every switch
    is as before, with two exceptions: an old one that could not be read may be readable, and where cuDNN had its
    default, TF32, this is now set and no longer follows a more general switch. ``cudnn.benchmark`` and other settings
    do not change.
    """
    with _LOCK:
        if not _ENTERED:
            _OUTSIDE.append(_Switches.now())
        _ENTERED.append(exact)
        _set_all(any(_ENTERED))
    try:
        yield
    finally:
        with _LOCK:
            _ENTERED.remove(exact)
            if _ENTERED:
                _set_all(any(_ENTERED))
            else:
                _OUTSIDE.pop().put_back()


class _Switches(NamedTuple):
    """The values of all switches."""

    conv: bool | None
    """``cudnn.allow_tf32``; ``None`` if it could not be read."""
    products: str | None
    """``float32_matmul_precision``; ``None`` if it could not be read."""
    products_allow: bool | None
    """``cuda.matmul.allow_tf32``, which can be read in some states where the one above cannot."""
    new: list[str]

    @staticmethod
    def now() -> _Switches:
        return _Switches(
            _readable(lambda: torch.backends.cudnn.allow_tf32),
            _readable(torch.get_float32_matmul_precision),
            _readable(lambda: torch.backends.cuda.matmul.allow_tf32),
            [owner.fp32_precision for owner in _new_switches()],
        )

    def put_back(self) -> None:
        # an old switch that could not be read has the state of the new one
        if self.conv is not None:
            torch.backends.cudnn.allow_tf32 = self.conv
        if self.products is not None:
            torch.set_float32_matmul_precision(self.products)
        elif self.products_allow is not None:
            torch.backends.cuda.matmul.allow_tf32 = self.products_allow
        for owner, value in zip(_new_switches(), self.new, strict=True):
            owner.fp32_precision = "none"
            if owner.fp32_precision != value:  # else the value is inherited from a more general switch
                owner.fp32_precision = value


def _set_all(exact: bool) -> None:
    torch.backends.cudnn.allow_tf32 = not exact
    torch.set_float32_matmul_precision("highest" if exact else "high")
    for owner in _new_switches():
        owner.fp32_precision = "ieee" if exact else "tf32"


def _new_switches() -> list[Any]:
    """Owners of ``fp32_precision``. ``rnn`` is among them because reading the old switch of cuDNN compares it too."""
    backends = torch.backends
    owners = [getattr(library, kind, None) for library in (backends.cudnn, backends.mkldnn) for kind in ("conv", "rnn")]
    owners += [backends.cuda.matmul, getattr(backends.mkldnn, "matmul", None)]
    return [owner for owner in owners if hasattr(owner, "fp32_precision")]


def _readable(read: Callable[[], Value]) -> Value | None:
    """The value, or None where a new switch was written, after which the old one cannot be read."""
    try:
        return read()
    except RuntimeError:
        return None
