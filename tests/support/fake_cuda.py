"""Networks on a CUDA device that is not there: shapes, types and devices are real, numbers are not.

torch's fake tensors have no data, but refuse operators whose arguments are on different devices or of types that do
not go together, as CUDA would. What depends on numbers cannot be run so, matching and the choice of tracks for example.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim"}
"""Operators behind which the host knows a number of the device, or a size that depends on numbers."""

COPIES = {"_to_copy", "copy_"}
"""Operators that copy one tensor to another place, ``torch.tensor(1.0, device="cuda")`` among them."""


def put_on_fake_cuda(network: nn.Module) -> None:
    """Replace parameters and buffers by fake ones on ``cuda``; a fake tensor mode must be active."""
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(_fake(parameter), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _fake(buffer)


def _fake(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, says where the host waits for the device, and in which types products are made."""

    def __init__(self, number: int) -> None:
        """``number`` is what the host gets when it asks the device for one."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: Counter[str] = Counter()
        """Copies between host and device that are waited for, and reads, by the project's function that made them."""
        self.copies = 0
        """Copies that are not waited for, if the host's memory is pinned."""
        self.types: dict[str, set[torch.dtype]] = {}
        """Types of the first argument of each operator."""
        self.calls: dict[str, list[tuple[Any, ...]]] = {}
        """Arguments of the project's own operators."""
        self._number = number

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        namespace, name = func._schema.name.split("::")
        tensors = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, Tensor)]
        if tensors:
            self.types.setdefault(name, set()).add(tensors[0].dtype)
        if namespace == "harness":
            self.calls.setdefault(name, []).append(args)
        on_device = any(each.device.type == "cuda" for each in tensors)
        if on_device and name in READS:
            self.waits[_caller()] += 1
        if on_device and name == "_local_scalar_dense":
            return self._number
        if on_device and name.startswith("index_put") and _counts_a_mask(args[1], args[2]):
            self.waits[_caller()] += 1
        result = func(*args, **(kwargs or {}))
        if name == "_to_copy" and (kwargs or {}).get("non_blocking"):
            self.copies += on_device or result.device.type == "cuda"
            return result
        copied = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        # a tensor without dimensions may come from the host as a kernel's parameter, but not where it is copied
        is_copy = name in COPIES
        if len({each.device.type for each in [*tensors, *copied] if each.dim() or is_copy}) > 1:
            self.waits[_caller()] += 1
        return result


def _counts_a_mask(indices: Any, values: Tensor) -> bool:
    """Whether places are given by a mask and get several numbers: the device has to count the places first."""
    return values.numel() > 1 and any(each is not None and each.dtype == torch.bool for each in indices)


def _caller() -> str:
    """The project's innermost function that is being run."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        module = frame.f_globals.get("__name__", "")
        if module.startswith("harness."):
            return f"{module.removeprefix('harness.')}.{frame.f_code.co_qualname}"
    return "outside the project"
