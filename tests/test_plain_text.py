"""Text made safe for a terminal, a log and a cell: printable, one line, no formula; and it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.plain_text import csv_text, indented, one_line, utf8, without_guard


@given(st.text())
def test_text_is_printable_and_a_cell_comes_back(text: str) -> None:
    assert one_line(text).isprintable()
    assert all(line.isprintable() for line in indented(text).split("\n"))
    assert utf8(text) or not text
    cell = csv_text(text)
    assert cell.isprintable()
    assert cell[:1] not in ("=", "@")
    assert cell[:1] not in ("+", "-") or isinstance(float(cell), float)
    if text.isprintable():
        assert without_guard(cell) == text


@pytest.mark.parametrize("text", ["=1+1", "@x", "+49 1", "-a", "'=1", "-1-2"])
def test_formulas_get_a_guard(text: str) -> None:
    assert csv_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1", "+0.5e-3", "person", "'quoted'", ""])
def test_numbers_and_names_have_none(text: str) -> None:
    assert csv_text(text) == text
