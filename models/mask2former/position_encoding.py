"""Sine position encoding of a feature map, normalised to one turn per axis (DETR, section 3.2; no padding mask)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import Lock, local
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

_TEMPERATURE = 10000.0
_EPSILON = 1e-6


SIZES_KEPT = 8
"""Sizes of maps whose encodings are kept: those of two sizes of frames, and two more."""

Function = TypeVar("Function", bound=Callable[..., Any])

_noting = local()


@contextmanager
def tensors_in_use() -> Iterator[list[Tensor]]:
    """Note which kept tensors this thread gets in the block: a CUDA graph reads them after they are no longer kept."""
    noted: list[Tensor] = []
    _noting.tensors = noted
    try:
        yield noted
    finally:
        _noting.tensors = None


def kept_by_size(function: Function) -> Function:
    """Have a function of sizes and a device return the tensors that it made for them before; do not write to these.

    Every window of a video has the same sizes. Nothing is kept of tensors without numbers, nor while a compiler traces.
    """
    kept: dict[tuple[Any, ...], Any] = {}
    lock = Lock()

    @wraps(function)
    def call(*sizes: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*sizes)
        with lock:
            if sizes not in kept:
                with torch.inference_mode(False), torch.no_grad():  # training may use them too
                    made = function(*sizes)
                if type(made) is not Tensor:
                    return made
                kept[sizes] = made
            kept[sizes] = found = kept.pop(sizes)  # the last one used goes last
            if len(kept) > SIZES_KEPT:
                kept.pop(next(iter(kept)))
        if (noted := getattr(_noting, "tensors", None)) is not None:
            noted.append(found)
        return found

    return cast(Function, call)


@kept_by_size
def sine_position_encoding(
    height: int, width: int, features_per_axis: int = 128, device: torch.device | str | None = None
) -> Tensor:
    """Encode each position of a map; returns float32 ``(1, 2 * features_per_axis, height, width)``.

    The first half of the channels encodes rows, the second half columns. Row ``i`` of ``1..height`` is the angle
    ``2 pi i / height``; feature ``k`` divides it by ``10000 ** (2 floor(k / 2) / features_per_axis)`` and takes the
    sine where ``k`` is even and the cosine where it is odd.
    """
    rows = _axis(height, features_per_axis, device)  # (H, F)
    columns = _axis(width, features_per_axis, device)  # (W, F)
    grid = torch.cat(
        (rows[:, None, :].expand(height, width, -1), columns[None, :, :].expand(height, width, -1)), dim=-1
    )
    return grid.permute(2, 0, 1)[None].contiguous()


def _axis(size: int, features: int, device: torch.device | str | None) -> Tensor:
    """Encode the positions ``1..size`` of one axis, ``(size, features)``."""
    angle = torch.arange(1, size + 1, dtype=torch.float32, device=device) / (size + _EPSILON) * (2 * math.pi)
    index = torch.arange(features, dtype=torch.float32, device=device)
    period = _TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode="floor") / features)
    phase = angle[:, None] / period
    return torch.where(index.long() % 2 == 0, phase.sin(), phase.cos())
