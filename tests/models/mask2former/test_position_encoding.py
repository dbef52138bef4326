"""The sine encoding against golden values and against its formula, written out."""

from __future__ import annotations

import math

import clipvis_golden
import pytest

from harness.models.mask2former.position_encoding import sine_position_encoding


@pytest.mark.parametrize("size", ["1x1", "3x4", "5x7"])
def test_golden(size: str) -> None:
    height, width = map(int, size.split("x"))
    expected = clipvis_golden.tensors("a_posenc")[f"pe_{size}"]
    clipvis_golden.close(sine_position_encoding(height, width), expected, atol=1e-5)


def test_one_value_of_each_axis() -> None:
    encoding = sine_position_encoding(4, 8)
    row, column = 2 * math.pi * 3 / 4, 2 * math.pi * 5 / 8
    assert encoding[0, 0, 2, 4].item() == pytest.approx(math.sin(row), abs=1e-5)
    assert encoding[0, 3, 2, 4].item() == pytest.approx(math.cos(row / 10000 ** (2 / 128)), abs=1e-5)
    assert encoding[0, 128, 2, 4].item() == pytest.approx(math.sin(column), abs=1e-5)
