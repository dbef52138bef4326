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


@pytest.mark.parametrize("seed", range(10))
def test_parts_that_are_equal_are_shared_within_their_group(seed: int) -> None:
    rng = random.Random(seed)
    kinds = [bytes(rng.choices(b"ab", k=rng.choice([0, 1, 5, 31, 32, 33, 100, 1000]))) for _ in range(8)]
    kinds += [kind[:-1] + b"c" for kind in kinds if kind]
    parts = rng.choices(kinds, k=rng.randrange(60))
    group = np.array([rng.randrange(3) for _ in parts], np.int64)
    ends = np.cumsum([0, *map(len, parts)])
    text = np.frombuffer(b"".join(parts) + b"x" * rng.randrange(3), np.uint8)
    shared, distinct = np.empty(len(parts), np.int64), np.empty(len(parts), np.int64)
    found = scan.share_texts(text, ends[:-1], ends[1:], group, shared, distinct)
    first: dict[tuple[int, bytes], int] = {}
    wanted = [first.setdefault(key, len(first)) for key in zip(group.tolist(), parts, strict=True)]
    assert shared.tolist() == wanted
    assert distinct[:found].tolist() == [wanted.index(j) for j in range(len(first))]


def test_records_without_their_masks() -> None:
    parts = [b'{"a": 1, "segmentations": [null, {}]}', b"{}", b'{"segmentations": 5, "b": "c"}']
    text = np.frombuffer(b"[" + b",\n".join(parts) + b"]", np.uint8)
    spans = np.zeros((4, 4), np.int64)
    key = np.frombuffer(b'segmentations"', np.uint8)
    n, _, status = scan.scan_records(text, 1, len(text), key, True, spans)
    assert (n, status) == (3, scan.DONE)
    out = np.zeros(len(text), np.uint8)
    written = out[: scan.without_masks(text, spans[:n], out)].tobytes()
    assert written == b'[{"a": 1, "segmentations": 0},{},{"segmentations": 0, "b": "c"}]'
    assert out[: scan.without_masks(text, spans[:0], out)].tobytes() == b"[]"
