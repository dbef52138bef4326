"""Errors of users: one line with place, fault and hint; long texts shortened; near names suggested."""

from __future__ import annotations

import pickle

import pytest

from harness.errors import NamedValues, UserError, near, shortened


def test_an_error_is_place_fault_and_hint() -> None:
    assert str(UserError("a.json, record 3", "has no score", "add it")) == "a.json, record 3: has no score; add it"
    assert str(UserError("a.json", "is empty")) == "a.json: is empty"


def test_an_error_comes_back_from_a_worker_process() -> None:
    error = UserError("a.json", "is empty", "name another file")
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), back.where, back.what, back.hint) == (UserError, error.where, error.what, error.hint)


@pytest.mark.parametrize("length", [0, 99, 100])
def test_short_text_stays(length: int) -> None:
    assert shortened("x" * length, 100) == "x" * length


def test_long_text_keeps_its_ends_and_counts_what_is_left_out() -> None:
    text = "a" * 25 + "b" * 1000 + "c" * 75
    assert shortened(text, 100) == f"{'a' * 25} ... (1000 characters left out) ... {'c' * 75}"


def test_the_nearest_name_is_suggested() -> None:
    assert near("lvviz", ["ovis", "lvvis"]) == 'did you mean "lvvis"? known: lvvis, ovis'
    assert near("kitchen", ["ovis", "lvvis"]) == "known: lvvis, ovis"
    assert near("ovis", []) == "known: none"


def test_a_name_that_is_missing_lists_the_names_of_its_protocol_or_the_protocols() -> None:
    values = NamedValues({"AP": 0.5}, {"lvvis/AP": 0.5, "hota/HOTA": 0.4, "hota/DetA": 0.3}, "metric", "this run")
    assert (values["AP"], values["hota/HOTA"]) == (0.5, 0.4)
    known = {"AQ": "AP", "hota/xxxx": "hota/DetA, hota/HOTA", "teta/TETA": "hota/..., lvvis/..."}
    for name, names in known.items():
        with pytest.raises(
            UserError, match=rf'^metric "{name}": is not a metric of this run; (did you .* )?known: {names}$'
        ):
            values[name]
    with pytest.raises(UserError, match=r"known: AP$"):
        NamedValues({"AP": 0.5}, {}, "metric", "this comparison")["hota/HOTA"]
