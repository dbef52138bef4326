"""Which categories are known to be absent from which videos: by lists, by pairs, by everything, or unknown."""

from __future__ import annotations

from typing import Any

import pytest

from harness.formats.absence import Absence, absence_of, source_numbers


def known(number: Any) -> int | None:
    return number if number in (1, 2, 3) else None


def test_lists_of_videos_count_and_doubtful_ones_are_taken_out() -> None:
    found = absence_of(None, [(10, [1, 2, 99], [2]), (11, None, [3])], None, known)
    assert found == Absence(False, frozenset({(10, 1)}), frozenset({(10, 2), (11, 3)}))


def test_pairs_that_are_asked_are_listed() -> None:
    assert absence_of(None, [], [(10, 1)], known) == Absence(False, frozenset({(10, 1)}))


def test_an_exhaustive_file_says_it_of_all() -> None:
    assert absence_of(True, [(10, [], [3])], None, known) == Absence(True, frozenset(), frozenset({(10, 3)}))


@pytest.mark.parametrize("exhaustive", [None, False, "yes", 1])
@pytest.mark.parametrize("listed", [None, [], "12", {"1": 2}, [None, {}, 99]])
def test_a_file_that_says_nothing_gives_nothing(exhaustive: Any, listed: Any) -> None:
    assert absence_of(exhaustive, [(10, listed, None)], None, known) is None


def test_numbers_of_a_converted_file() -> None:
    assert source_numbers([{"id": 805}, {"name": "no id"}, {"id": 7}]) == {805: 1, 7: 3}
    assert source_numbers({"805": 1}) is None
