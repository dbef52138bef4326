"""CUDA devices that are pretended: tensors say that they are on one, and launches run in the PTX emulator.

For a process of its own, whose ``libcuda.so.1`` is ``driver_stand_in.cpp``. What the project and cuda-core do between
a call and the driver is real: compiling, loading, packing of arguments, streams, contexts. torch's own share is not:
functions of ``torch.cuda`` that ask the driver are replaced, and tensors lie in the host's memory.
"""

from __future__ import annotations

import ctypes
import subprocess
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, NamedTuple

import torch
from ptx_emulator import Emulator, memory_of
from torch import Tensor
from torch.overrides import TorchFunctionMode

SOURCE = Path(__file__).with_name("driver_stand_in.cpp")
CAPABILITY = (9, 0)
PROCESSORS = 132
"""Multiprocessors of each device."""

PARAMETERS = {
    "deform_attn_forward": (5, 1, 4),
    "deform_attn_backward": (6, 3, 4),
    "deform_attn_2020_forward": (5, 1, 7),
    "deform_attn_2020_backward": (6, 3, 7),
}
"""Of each entry: pointers to inputs, pointers to outputs and numbers, in this order."""

_ON_LAUNCH = ctypes.CFUNCTYPE(
    None,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.POINTER(ctypes.c_uint),
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(ctypes.c_uint64)),
)


def compile_driver(folder: Path) -> None:
    """Put ``libcuda.so.1`` into ``folder``, which is to be in ``LD_LIBRARY_PATH`` of the process that uses it."""
    command = ["g++", "-std=c++20", "-shared", "-fPIC", str(SOURCE), "-o", str(folder / "libcuda.so.1")]
    subprocess.run(command, check=True)


class Launch(NamedTuple):
    """One launch, as it arrived at the driver."""

    name: str
    grid: list[int]
    block: list[int]
    stream: int
    device: int
    """Whose context was current."""
    numbers: list[int]
    """Parameters behind the pointers: pixels, queries, heads, tiles; the algorithm of 2020 has others."""
    faults: list[str]
    """What the emulator found; pointers to no tensor of this device."""


class Machine(TorchFunctionMode):
    """Two devices. While it is entered, on any number of threads, tensors can be moved to ``cuda:0`` and ``cuda:1``."""

    def __init__(self, emulator_for: Callable[[str], Emulator]) -> None:
        """``emulator_for`` gives the emulator of an entry by its name."""
        super().__init__()
        self.launches: list[Launch] = []
        self.computes = True
        """Whether launches compute; if not, they set what they write to zero, since new memory may hold old results."""
        self.stream = 0
        """Handle of torch's current stream."""
        self.driver = ctypes.CDLL("libcuda.so.1")
        self._emulator_for = emulator_for
        self._tensors: list[weakref.ref[Tensor]] = []
        self._callback = _ON_LAUNCH(self._launch)
        self.driver.stand_in_on_launch(self._callback)
        self._replace_torch_cuda()

    def current_device(self) -> int:
        """The device whose context is current on this thread, -1 where none is."""
        return int(self.driver.stand_in_current_device())

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func == Tensor.device.__get__:  # a new object each time, so not "is"
            return _device_of(args[0])
        devices = [each for each in (*args, *(kwargs or {}).values()) if isinstance(each, torch.device)]
        devices += [_device_of(each) for each in args if isinstance(each, Tensor)]
        result = func(*map(_on_host, args), **{name: _on_host(each) for name, each in (kwargs or {}).items()})
        if isinstance(result, Tensor) and func is not Tensor.cpu and devices and devices[0].type == "cuda":
            if func is Tensor.to and result is args[0]:  # nothing to copy here, but from the host to a device there is
                result = result.clone()
            result.pretended = devices[0]
            self._tensors.append(weakref.ref(result))
        return result

    def _launch(self, name: bytes, grid: Any, block: Any, stream: int, device: int, parameters: Any) -> None:
        entry = name.decode()
        inputs, outputs, numbers = PARAMETERS[entry]
        values = [parameters[i][0] for i in range(inputs + outputs + numbers)]
        faults, memory = [], []
        for i, pointer in enumerate(values[: inputs + outputs]):
            tensor = self._at(pointer, device)
            if tensor is not None:
                memory.append(memory_of(tensor, written=i >= inputs))
                if i >= inputs and not self.computes:
                    ctypes.memset(pointer, 0, tensor.numel() * tensor.element_size())
            elif pointer:
                faults.append(f"parameter {i} points to no tensor of device {device}")
        if self.computes and not faults:
            faults = self._emulator_for(entry).run(grid[0], block[0], values, memory).faults
        self.launches.append(Launch(entry, grid[:3], block[:3], stream, device, values[inputs + outputs :], faults))

    def _at(self, pointer: int, device: int) -> Tensor | None:
        """The tensor of a device that starts at an address."""
        with torch._C.DisableTorchFunction():
            living = [tensor for each in self._tensors if (tensor := each()) is not None]
            self._tensors = [weakref.ref(each) for each in living]
            found = [each for each in living if each.data_ptr() == pointer and _device_of(each).index == device]
            return max(found, key=Tensor.numel, default=None)

    def _replace_torch_cuda(self) -> None:
        """What torch asks of the CUDA runtime, with the same effect on the driver's contexts."""
        chosen = threading.local()
        driver = self.driver

        class ChosenDevice:
            """``torch.cuda.device``: sets the device, and so its context, only where it is another one."""

            def __init__(self, device: torch.device | int) -> None:
                self.wanted = device if isinstance(device, int) else device.index

            def __enter__(self) -> None:
                self.before = getattr(chosen, "device", 0)
                self._choose(self.wanted)

            def __exit__(
                self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
            ) -> None:
                self._choose(self.before)

            def _choose(self, device: int) -> None:
                if device != getattr(chosen, "device", 0):
                    chosen.device = device
                    driver.stand_in_set_device(device)

        replaced: Any = torch.cuda
        replaced.device = ChosenDevice
        replaced.current_stream = lambda *_: SimpleNamespace(cuda_stream=self.stream)
        replaced.is_current_stream_capturing = lambda: False
        replaced.get_device_capability = lambda _: CAPABILITY
        replaced.get_device_properties = lambda _: SimpleNamespace(multi_processor_count=PROCESSORS)


def _device_of(tensor: Tensor) -> torch.device:
    """The device that a tensor says it is on."""
    device: torch.device = getattr(tensor, "pretended", torch.device("cpu"))
    return device


def _on_host(argument: Any) -> Any:
    return torch.device("cpu") if isinstance(argument, torch.device) else argument
