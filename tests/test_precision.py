"""Number formats of models."""

from __future__ import annotations

from harness.cli.run import PrecisionOption
from harness.precision import PRECISIONS, dtype_of


def test_each_name_is_a_number_format() -> None:
    assert [str(dtype_of(name)) for name in PRECISIONS] == ["torch.float32", "torch.bfloat16", "torch.float16"]


def test_the_command_line_takes_each() -> None:
    assert [one.value for one in PrecisionOption] == list(PRECISIONS)
