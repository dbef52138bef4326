"""Strings are skipped many bytes at a time; where they end does not depend on where the text lies in memory."""

from __future__ import annotations

import random

import numpy as np
import pytest

from harness.formats import scan


def end_of_string(text: bytes, begin: int, stop: int) -> int:
    """Byte by byte: the place behind the closing quote, or ``stop + 1``."""
    while begin < stop:
        character = text[begin]
        begin += 1
        if character == ord('"'):
            return begin
        if character == ord("\\"):
            begin += 1
    return stop + 1


@pytest.mark.parametrize("seed", range(50))
def test_the_end_of_a_string(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(40):
        raw = bytes(
            rng.choices(b'ab\x00\xff\xa2\xdc\xa3!#"\\', [30, 30, 3, 3, 3, 3, 3, 3, 3, 1, 1], k=rng.randrange(150))
        )
        text = np.frombuffer(raw, np.uint8)[rng.randrange(9) :]
        stop = rng.randrange(len(text) + 1)
        begin = rng.randrange(stop + 1)
        assert scan._skip_string(text, begin, stop) == end_of_string(text.tobytes(), begin, stop)
