"""The answer in sentences, told from the better run's side whichever run is the reference."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_folders import make_record, make_run

from harness.reports.comparison import CategoryDifference, Comparison, Difference, Interval, Measured, Pair
from harness.reports.summary import Summary, p_value, summary
from harness.run_folder.finished_run import FinishedRun


def difference(value: float, p: float | None) -> Difference:
    return Difference(value, value - 0.02, value + 0.03, 0.01, p, 0.04, 54, p)


def category(name: str, value: float, q: float | None, share: float) -> CategoryDifference:
    return CategoryDifference(1, name, (), 9, 0.5, 0.5 + value, difference(value, q), q, share)


def judged(tmp_path: Path, value: float, p: float | None) -> Summary:
    """The summary on two runs, ``b`` minus ``a`` being ``value``."""
    runs = tuple(
        Measured(name, f"runs/{name}", name, {"AP": Interval(0.5 + change, 0.4, 0.6, 0.05)})
        for name, change in (("a", 0.0), ("b", value))
    )
    metrics = {"AP": difference(value, p), "APn": difference(-value, 0.5)}
    categories = (category("cat", 3 * value, 0.01, value), category("dog", -value, None, -value / 3))
    pair = Pair("a", "b", metrics, False, categories, ())
    files = [FinishedRun.open(make_run(tmp_path, make_record(name, AP=0.5), name)) for name in "ab"]
    return summary(files, Comparison("d", "val", "lvvis", "1", "x", 9, runs, (pair,), (pair,)), "", {})


def test_the_run_is_better(tmp_path: Path) -> None:
    found = judged(tmp_path, 0.1, 0.002)
    assert found.answer == (
        "b is better than a: 60.0 against 50.0 AP, +10.0 points. The difference is significant (p = 0.002)."
    )
    assert found.grounds == (
        "The 95 % interval of the difference is +8.0 to +13.0 points of AP."
        " Videos like these would reliably show a difference of 4.0 points or more.",
        "Where: novel categories −10.0 (not significant, p = 0.500).",
        "b is ahead in 1 of 2 categories and behind in 1."
        " In enough videos for a test: 1; significant, corrected for their number: 1.",
        "Most of it comes from cat +30 (points of their AP).",
    )


def test_the_reference_is_better(tmp_path: Path) -> None:
    found = judged(tmp_path, -0.1, 0.0004)
    assert found.answer.startswith("a is better than b: 50.0 against 40.0 AP, +10.0 points. ")
    assert found.answer.endswith("significant (p < 0.001).")
    assert found.grounds[0].startswith("The 95 % interval of the difference is +7.0 to +12.0 points")
    assert found.grounds[2].startswith("a is ahead in 1 of 2 categories and behind in 1.")
    assert found.grounds[3] == "Most of it comes from cat +30 (points of their AP)."


def test_chance_is_called_chance(tmp_path: Path) -> None:
    assert judged(tmp_path, 0.01, 0.4).answer == (
        "b and a do not differ significantly: 51.0 against 50.0 AP, +1.0 points may be chance (p = 0.400)."
    )


@pytest.mark.parametrize(("value", "text"), [(None, "p unknown"), (0.0009, "p < 0.001"), (1.0, "p = 1.000")])
def test_p_values_in_words(value: float | None, text: str) -> None:
    assert p_value(value) == text
