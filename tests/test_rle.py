"""Run-length arithmetic against pycocotools, on any masks and in every way counts are written.

Tests of `harness/rle_lanes.py`.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from harness import rle

MASKS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1))


def encoded(mask: np.ndarray) -> bytes:
    return coco.encode(np.asfortranarray(mask))["counts"]


def listed(mask: np.ndarray) -> bytes:
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
    return json.dumps(np.diff([0, *edges, flat.size]).tolist())[1:-1].encode()


def written(mask: np.ndarray) -> list[tuple[bytes, int]]:
    """The mask's counts in every form the kernels read."""
    text = encoded(mask)
    escaped = json.dumps(text.decode())[1:-1]
    unicode = escaped.replace("\\\\", "\\u005c")
    return [
        (text, rle.COMPRESSED),
        (escaped.encode(), rle.ESCAPED),
        (unicode.encode(), rle.ESCAPED),
        (listed(mask), rle.LISTED),
    ]


def area(text: bytes, kind: int, height: int, width: int) -> int:
    data = np.frombuffer(text, np.uint8)
    one = np.zeros(1, np.int64)
    return int(
        rle.areas(data, one, one + len(text), np.array([kind], np.int8), np.array([height], np.int32),
                  np.array([width], np.int32), np.ones(1, np.bool_))[0]
    )  # fmt: skip


def runs(text: bytes, kind: int) -> tuple[np.ndarray, np.ndarray, int]:
    begin, end = np.zeros(len(text) + 1, np.int32), np.zeros(len(text) + 1, np.int32)
    n = rle.runs_of(np.frombuffer(text, np.uint8), 0, len(text), kind, begin, end, 0)
    return begin, end, n


@given(MASKS)
def test_area_and_runs_of_every_form(mask: np.ndarray) -> None:
    flat = mask.ravel(order="F")
    for text, kind in written(mask):
        assert area(text, kind, *mask.shape) == mask.sum()
        begin, end, n = runs(text, kind)
        painted = np.zeros_like(flat)
        for b, e in zip(begin[:n], end[:n], strict=True):
            painted[b:e] = 1
        np.testing.assert_array_equal(painted, flat)


@given(st.data())
def test_intersection_is_exact_and_symmetric(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    a, b = (data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 1))) for _ in range(2))
    begin_a, end_a, n = runs(encoded(a), rle.COMPRESSED)
    begin_b, end_b, m = runs(encoded(b), rle.COMPRESSED)
    forth = rle.intersection_of(begin_a, end_a, 0, n, begin_b, end_b, 0, m)
    back = rle.intersection_of(begin_b, end_b, 0, m, begin_a, end_a, 0, n)
    assert forth == back == (a & b).sum()


def test_large_counts() -> None:
    text = encoded(np.zeros((2000, 3000), np.uint8))
    assert area(text, rle.COMPRESSED, 2000, 3000) == 0
    assert area(encoded(np.ones((2000, 3000), np.uint8)), rle.COMPRESSED, 2000, 3000) == 6_000_000


@pytest.mark.parametrize(
    ("text", "kind", "fault"),
    [
        (b"", rle.COMPRESSED, rle.UNDERRUN),
        (b"zzz", rle.COMPRESSED, rle.NOT_RLE),
        (b"!!", rle.COMPRESSED, rle.NOT_RLE),
        (b"P", rle.COMPRESSED, rle.NOT_RLE),  # promises another character
        (b"Q1", rle.COMPRESSED, rle.OVERRUN),  # 33 zeros in a mask of 9 pixels
        (b"3", rle.COMPRESSED, rle.UNDERRUN),
        (b"@", rle.COMPRESSED, rle.NOT_RLE),  # a negative count
        (b"9, 1", rle.LISTED, rle.OVERRUN),
        (b"4, 4", rle.LISTED, rle.UNDERRUN),
        (b"4,, 5", rle.LISTED, rle.NOT_RLE),
        (b"4, -1, 6", rle.LISTED, rle.NOT_RLE),
        (b"99999999999999999999", rle.LISTED, rle.NOT_RLE),
        (b"4\\n", rle.ESCAPED, rle.NOT_RLE),
    ],
)
def test_faulty_counts_are_named(text: bytes, kind: int, fault: int) -> None:
    assert area(text, kind, 3, 3) == fault
    assert fault in rle.RLE_FAULTS


@settings(max_examples=300)
@given(st.binary(max_size=40), st.sampled_from([rle.COMPRESSED, rle.ESCAPED, rle.LISTED]))
def test_any_bytes_give_an_area_within_the_mask_or_a_fault(text: bytes, kind: int) -> None:
    found = area(text, kind, 7, 5)
    assert found in rle.RLE_FAULTS or 0 <= found <= 35


@pytest.mark.parametrize("seed", range(20))
def test_areas_are_those_of_decoding_sound_or_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(30):
        height, width = rng.integers(1, 40), rng.integers(1, 200)
        mask = rng.random((height, width)) < rng.random()
        counts = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        kind = rle.COMPRESSED
        if rng.random() < 0.5:
            counts, kind = json.dumps(counts.decode())[1:-1].encode(), rle.ESCAPED
        if rng.random() < 0.3:
            damaged = bytearray(counts)
            damaged[rng.integers(len(counts))] = rng.integers(30, 130)
            counts = bytes(damaged)
        data, none = np.frombuffer(counts, np.uint8), np.empty(0, np.int32)
        columns = (
            np.array([v], t) for v, t in ((0, int), (len(data), int), (kind, np.int8), (height, int), (width, int))
        )
        [area] = rle.areas(data, *columns, np.ones(1, np.bool_))
        assert area == rle.decode_rles(data, 0, len(data), kind, height * width, none, none, 0, False)[0]


@pytest.mark.parametrize("seed", range(6))
def test_areas_of_many_masks_are_those_of_decoding_each(seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts, kinds, sizes = [], [], []
    for _ in range(int(rng.integers(1, 150))):
        shape = rng.integers(0, 60, 2) if rng.random() < 0.9 else np.array([1 << 14, 1 << 14])
        flat = np.repeat(rng.integers(0, 2, 400), rng.integers(1, 40, 400))[: shape.prod()]
        mask = np.zeros(shape.prod() if shape.prod() < 4000 else 1, np.uint8)
        mask[: len(flat)] = flat[: len(mask)]
        mask = mask.reshape(shape, order="F") if shape.prod() < 4000 else mask.reshape(1, 1)
        text, kind = written(mask)[rng.integers(4)] if mask.size else (b"", rle.COMPRESSED)
        if rng.random() < 0.3 and text:
            damaged = bytearray(text)
            damaged[rng.integers(len(text))] = rng.choice([*range(30, 130), *b"\\\\oOP0"])
            text = bytes(damaged)
        texts.append(text + rng.choice([b"", b"\\", b"P"]))
        kinds.append(kind)
        sizes.append(shape)
    texts += [encoded(np.ones((3000, 4000), np.uint8)), b"oooooo0", b"ooooo0", b"P" * 9000]
    kinds += [rle.COMPRESSED] * 4
    sizes += [np.array([3000, 4000])] * 4
    data, ends = np.frombuffer(b"".join(texts), np.uint8), np.cumsum([0, *map(len, texts)])
    height, width = np.array(sizes, np.int32).T
    wanted = rng.random(len(texts)) < 0.9
    found = rle.areas(data, ends[:-1], ends[1:], np.array(kinds, np.int8), height, width, wanted)
    none = np.empty(0, np.int32)
    for m, area in enumerate(found.tolist()):
        pixels = int(height[m]) * int(width[m])
        each = rle.decode_rles(data, ends[m], ends[m + 1], kinds[m], pixels, none, none, 0, False)[0]
        assert area == (each if wanted[m] else 0)
