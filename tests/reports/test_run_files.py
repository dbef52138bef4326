"""Labels of runs: names, then the settings that tell runs apart, and never a digest.

Tests of `reports/settings.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from run_folders import make_record, make_run

from harness.reports.run_files import read_runs


def labels(tmp_path: Path, *records: dict[str, Any]) -> list[str]:
    folders = [make_run(tmp_path, record, f"run-0123abc{number}") for number, record in enumerate(records)]
    return [run.label for run in read_runs(folders)]


def run(name: str | None = None, **more: Any) -> dict[str, Any]:
    return {**make_record("a", AP=0.5), "name": name, **more}


def test_the_name_that_the_user_gave_is_the_label(tmp_path: Path) -> None:
    assert labels(tmp_path, run("mine"), run(), run("mine, large")) == ["mine", "a", "mine, large"]


def test_a_variant_that_the_card_knows_is_part_of_the_label(tmp_path: Path) -> None:
    assert labels(tmp_path, run(backbone="R50", trained_on="LVIS"), run(), run("mine", backbone="R50")) == [
        "a, R50, LVIS",
        "a",
        "mine",
    ]


def test_few_settings_are_all_shown(tmp_path: Path) -> None:
    found = labels(tmp_path, run(config={"x": 1, "y": 2, "z": 0}), run(config={"x": 2, "y": 3, "z": 0}))
    assert found == ["a x=1, y=2", "a x=2, y=3"]


def test_of_many_settings_those_that_tell_the_runs_apart_are_shown(tmp_path: Path) -> None:
    configs = [{"x": 0, "y": 0.2, "z": 1, "w": 7}, {"x": 0, "y": 0, "z": 0, "w": 7}, {"x": 2, "y": 0, "z": 0, "w": 8}]
    assert labels(tmp_path, *(run(config=config) for config in configs)) == ["a x=0, y=0.2", "a x=0, y=0", "a x=2, y=0"]


def test_checkpoints_are_told_apart_by_their_files(tmp_path: Path) -> None:
    found = labels(tmp_path, run(weights="r50.pth"), run(weights="convnext.pth"))
    assert found == ["a weights=r50.pth", "a weights=convnext.pth"]


def test_runs_that_differ_in_nothing_known_are_numbered(tmp_path: Path) -> None:
    assert labels(tmp_path, run(), run(), run("b")) == ["a (1)", "a (2)", "b"]
    several = [run("b", seed=seed) for seed in (0, 1, 1)]
    assert labels(tmp_path / "seeds", *several) == ["b seed=0", "b seed=1 (1)", "b seed=1 (2)"]
