"""A GPU's instructions without a GPU: PTX as C++ of this machine, every access of every thread checked.

A compiled `Emulator` runs a kernel as the PTX says it, thread by thread in random order, and reports what a GPU might
let pass or answer with garbage:

- loads and stores outside the tensors, misaligned ones, stores to inputs, loads from outputs, bytes of an output that
  two threads store;
- shared memory read before it is written, and two threads' accesses to a word, one of them a store, with no barrier
  between them;
- threads of a warp that meet at different synchronisations, masks that leave threads out, shuffles with threads that
  have ended, barriers that not all threads reach, endless loops, division by zero.

It does not know a GPU's caches, timing, or limits on registers, and what ``ptxas`` makes of the PTX is not looked at.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ptx_translator import translate
from torch import Tensor

SOURCES = Path(__file__).parent
FLAGS = ["-std=c++20", "-fPIC", "-fwrapv", "-ffp-contract=off", "-fno-strict-aliasing", f"-I{SOURCES}"]
"""Integers wrap around and products are not fused with sums, as in PTX."""

TEXT_BYTES = 8192
"""Room for the description of faults."""


class Report(NamedTuple):
    """What a launch did wrong, and how it added."""

    faults: list[str]
    """One line each, the first twenty; empty where all went well."""
    atomics: int
    """Atomic additions, a vector's as one."""


class Memory(NamedTuple):
    """A tensor's bytes that a kernel may touch."""

    begin: int
    end: int
    written: bool
    """Whether the kernel writes there, and then does not read."""


class Kernel(ctypes.Structure):
    """An entry as ``ptx_runtime.h`` describes it."""

    _fields_ = (
        ("parameters", ctypes.c_uint32),
        ("shared_bytes", ctypes.c_uint32),
        ("lane_bytes", ctypes.c_uint32),
        ("run", ctypes.c_void_p),
    )


def missing() -> str | None:
    """Why nothing can be emulated on this machine, or None."""
    return None if shutil.which("g++") else "g++ is not installed"


class Emulator:
    """An entry of a PTX module, compiled for this machine. Its launches must not overlap in time."""

    def __init__(self, ptx: str, name: str, folder: Path) -> None:
        """Translate and compile the entry ``name``; what ``folder`` holds already is not compiled again."""
        self._library = ctypes.CDLL(str(_compiled(translate(ptx, name), folder)))
        self._kernel = Kernel.in_dll(self._library, name)

    def run(
        self,
        blocks: int,
        threads: int,
        parameters: Sequence[int],
        memory: Sequence[Memory],
        seed: int = 0,
    ) -> Report:
        """Launch with 64-bit ``parameters``; ``seed`` decides the order of blocks and threads."""
        if len(parameters) != self._kernel.parameters:
            raise ValueError(f"the kernel has {self._kernel.parameters} parameters, got {len(parameters)}")
        if threads % 32:
            raise ValueError(f"whole warps are emulated, got {threads} threads")
        numbers = [number for each in memory for number in each]
        text, atomics = ctypes.create_string_buffer(TEXT_BYTES), ctypes.c_uint64()
        count = self._library.emulate(
            ctypes.byref(self._kernel),
            ctypes.c_uint32(blocks),
            ctypes.c_uint32(threads),
            (ctypes.c_uint64 * len(parameters))(*parameters),
            (ctypes.c_uint64 * len(numbers))(*numbers),
            ctypes.c_uint32(len(memory)),
            ctypes.c_uint32(seed),
            text,
            ctypes.c_uint32(TEXT_BYTES),
            ctypes.byref(atomics),
        )
        faults = text.value.decode().splitlines()
        assert bool(count) == bool(faults)
        return Report(faults, atomics.value)


def memory_of(tensor: Tensor, written: bool = False) -> Memory:
    """The bytes of a dense tensor."""
    return Memory(tensor.data_ptr(), tensor.data_ptr() + tensor.numel() * tensor.element_size(), written)


def _compiled(source: str, folder: Path) -> Path:
    """The library made of translated PTX, in ``folder``."""
    library = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        runtime = folder / "ptx_runtime.o"
        if not runtime.exists():
            _compile("-O2", "-c", str(SOURCES / "ptx_runtime.cpp"), "-o", str(runtime))
        code = library.with_suffix(".cpp")
        code.write_text(source)
        _compile("-O1", "-w", "-shared", str(code), str(runtime), "-o", str(library))
    return library


def _compile(*arguments: str) -> None:
    subprocess.run(["g++", *FLAGS, *arguments], check=True)
