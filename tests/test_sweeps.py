"""Sweeps and ablations as lists of settings."""

from __future__ import annotations

from math import prod

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from harness.sweeps import variations


def test_nothing_asked_for_is_one_run() -> None:
    assert variations([], []) == [[]]


def test_sweeps_are_combined() -> None:
    assert variations(["a=1,2", "b=x,y"], []) == [["a=1", "b=x"], ["a=1", "b=y"], ["a=2", "b=x"], ["a=2", "b=y"]]


def test_ablations_are_made_one_at_a_time_after_the_run_without() -> None:
    assert variations([], ["a=1,2", "b=x"]) == [[], ["a=1"], ["a=2"], ["b=x"]]


def test_ablations_under_a_sweep_are_made_for_each_of_its_values() -> None:
    assert variations(["a=1,2"], ["b=x"]) == [["a=1"], ["a=1", "b=x"], ["a=2"], ["a=2", "b=x"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1e-3, null ,[1, 2],'x,y'", ["a=1e-3", "a=null", "a=[1, 2]", "a='x,y'"]),
        ("m.a = 1,{b: 2, c: 3}", ["m.a=1", "m.a={b: 2, c: 3}"]),
        ("a=b=c,d", ["a=b=c", "a=d"]),
    ],
)
def test_values_keep_their_spelling(text: str, expected: list[str]) -> None:
    assert [chosen for [chosen] in variations([text], [])] == expected


@pytest.mark.parametrize("text", ["a", "=1", " =1", "a=", "a=,", "a=[", "a=1],[2", "a={", "a='", "a=\x00"])
def test_what_is_no_list_of_values_is_one_line(text: str) -> None:
    for sweeps, ablations, option in (([text], [], "--sweep"), ([], [text], "--ablate")):
        with pytest.raises(UserError, match=option) as error:
            variations(sweeps, ablations)
        assert len(str(error.value).split("\n")) == 1


SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=3))


@given(st.lists(st.lists(SCALAR, min_size=1, max_size=3), max_size=3))
def test_every_combination_is_there_once_with_its_values(values: list[list[object]]) -> None:
    texts = [
        f"k{i}={yaml.safe_dump(several, default_flow_style=True, width=10**6).strip()[1:-1]}"
        for i, several in enumerate(values)
    ]
    made = variations(texts, [])
    assert len(made) == prod(len(several) for several in values)
    for i, several in enumerate(values):
        assert {repr(yaml.safe_load(chosen[i].partition("=")[2])) for chosen in made} == {repr(v) for v in several}


@given(st.text(max_size=30))
def test_arbitrary_text_is_settings_or_a_user_error(text: str) -> None:
    try:
        made = variations([text], [])
    except UserError:
        return
    assert all(chosen.startswith(f"{text.partition('=')[0].strip()}=") for [chosen] in made)
