"""What may happen to the bytes of a file, at a place and with values that chance says; never nothing."""

from __future__ import annotations

import random


def flip(data: bytes, chance: random.Random) -> bytes:
    """Change one byte."""
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ chance.randrange(1, 256)]) + data[at + 1 :]


def truncate(data: bytes, chance: random.Random) -> bytes:
    """Cut off the end, or all."""
    return data[: chance.randrange(len(data))]


def overwrite(data: bytes, chance: random.Random) -> bytes:
    """Write over 64 bytes, or those that there are."""
    start = chance.randrange(len(data))
    return data[:start] + chance.randbytes(min(64, len(data) - start)) + data[start + 64 :]


DAMAGES = (flip, truncate, overwrite)
