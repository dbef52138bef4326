"""Oddities of the input: counted by kind with the first place; the first one is an error where strict."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from harness.warnings import Warnings


def test_oddities_are_counted_and_the_first_place_is_kept() -> None:
    warnings = Warnings()
    warnings.add("twice", "b.json, record 2")
    warnings.add("twice", "b.json, record 9", 3)
    warnings.add("empty", "b.json, record 4")
    warnings.add("never", "b.json, record 5", 0)
    assert warnings.record() == [
        {"kind": "empty", "count": 1, "first": "b.json, record 4"},
        {"kind": "twice", "count": 4, "first": "b.json, record 2"},
    ]


def test_strict_refuses_oddities_and_not_notices() -> None:
    warnings = Warnings(strict=True)
    warnings.tell("notice", "b.json")
    warnings.add("none", "b.json", 0)
    with pytest.raises(UserError, match=r"^b.json, record 2: twice; correct it or turn off strict"):
        warnings.add("twice", "b.json, record 2")
    assert [one["kind"] for one in warnings.record()] == ["notice"]
