"""Damages to the bytes of a file, at random places and with random values; each one changes something."""

from __future__ import annotations

import random


def flip(data: bytes, rng: random.Random) -> bytes:
    """Change one byte."""
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Cut off the end, or all."""
    return data[: rng.randrange(len(data))]


def overwrite(data: bytes, rng: random.Random) -> bytes:
    """Write over 64 bytes, or those that there are."""
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(min(64, len(data) - start)) + data[start + 64 :]


DAMAGES = (flip, truncate, overwrite)
