"""The sine encoding against golden values and against its formula, written out."""

from __future__ import annotations

import math

import clipvis_golden
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.models.mask2former.position_encoding import SIZES_KEPT, kept_by_size, sine_position_encoding


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


def test_a_size_that_was_met_before_is_not_computed_again() -> None:
    made: list[tuple[int, int]] = []

    @kept_by_size
    def encode(height: int, width: int, features: int, device: torch.device) -> torch.Tensor:
        made.append((height, width))
        return torch.zeros(features, height, width, device=device)

    cpu = torch.device("cpu")
    first = encode(3, 4, 2, cpu)
    assert encode(3, 4, 2, cpu) is first
    for height in range(1, SIZES_KEPT):
        encode(height, 9, 2, cpu)
    assert encode(3, 4, 2, cpu) is first
    for height in range(1, SIZES_KEPT + 1):
        encode(height, 8, 2, cpu)
    assert encode(3, 4, 2, cpu) is not first
    assert made.count((3, 4)) == 2


def test_encodings_made_in_inference_serve_training() -> None:
    with torch.inference_mode():
        encoding = sine_position_encoding(2, 11, 4, torch.device("cpu"))
    weight = torch.ones(1, requires_grad=True)
    (encoding * weight).sum().backward()
    assert weight.grad is not None
    assert sine_position_encoding(2, 11, 4, torch.device("cpu")) is encoding


def test_encodings_without_numbers_are_not_kept() -> None:
    for _ in range(2):
        with FakeTensorMode():
            assert sine_position_encoding(2, 13, 4, torch.device("cuda")).device.type == "cuda"
