"""A mask and its run-length encoding: there and back, with COCO's text."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from harness.masks import Rle


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_a_mask_comes_back(mask: np.ndarray) -> None:
    rle = Rle.encode(mask)
    assert rle.size == mask.shape
    assert np.array_equal(rle.decode(), mask)
    assert int(coco.area({"size": list(rle.size), "counts": rle.counts})) == mask.sum()


def test_all_values_but_0_are_the_object() -> None:
    values = np.array([[0, 1, 2], [255, 0, 7]], np.uint8)
    assert Rle.encode(values) == Rle.encode(values > 0)


def test_its_repr_is_short() -> None:
    assert repr(Rle((480, 640), b"x" * 5000)) == "Rle(480x640, 5000 bytes)"
