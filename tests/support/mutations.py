"""Valid files with some bytes changed, and what a reader may do with them: a value or a `UserError`, within bounds.

``HARNESS_FUZZ_EXAMPLES`` is the number of inputs per reader (60 without it).
"""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from harness.errors import UserError

EXAMPLES = int(os.environ.get("HARNESS_FUZZ_EXAMPLES", "60"))
MEMORY = (2 << 30) + (os.cpu_count() or 1) * (192 << 20)
"""Bytes of address space that a reading may add; each of its threads reserves some that it does not use."""

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

_CHECKSUM = b"sha256="
_ODD = (b"", b"\0", b"\xff", b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b'"', b"\\u0000", b"99999999999999999999",
        b"4294967296", b"2147483648", b"\xff\xff\xff\x7f", b"\xff" * 8, b"\x80", b"*a", b"&a ", b"[[[[")  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """``whole`` with one to six edits: bytes replaced, removed, put in, repeated, or all behind a place cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(("flip", "replace", "replace", "odd", "odd", "repeat", "cut")))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "replace":
            data[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
        elif kind == "odd":
            data[at : at + draw(st.integers(0, 8))] = draw(st.sampled_from(_ODD))
        elif kind == "repeat":
            data[at:at] = data[at : at + draw(st.integers(0, 64))]
        elif kind == "cut":
            del data[at:]
    return bytes(data)


def sealed(shard: bytes) -> bytes:
    """A shard with the checksum that belongs to its other bytes."""
    at = shard.rfind(_CHECKSUM) + len(_CHECKSUM)
    empty = shard[:at] + b"0" * 64 + shard[at + 64 :]
    return empty[:at] + hashlib.sha256(empty).hexdigest().encode() + empty[at + 64 :]


@contextmanager
def bounded_memory(more: int = MEMORY) -> Iterator[None]:
    """Let this process take at most ``more`` bytes of address space above what it has; beyond is a `MemoryError`."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def error_text(read: Callable[[], object]) -> str:
    """What a reader says is wrong, in one line; empty where it gives a value. Any other exception goes through."""
    with bounded_memory():
        try:
            read()
        except UserError as error:
            said = str(error)
            assert said
            assert len(said) < 4000
            return said
    return ""
