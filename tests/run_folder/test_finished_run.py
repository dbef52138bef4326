"""A finished run: found by its folder or its record, read lazily, refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import make_run

from harness.errors import UserError
from harness.run_folder.finished_run import FinishedRun
from harness.runner import execute


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs"))
    execute(run)
    assert isinstance(run.folder, Path)
    return run.folder


def test_a_folder_and_its_record_are_the_same_run(folder: Path) -> None:
    one, other = FinishedRun.open(str(folder)), FinishedRun.open(folder / "metrics.json")
    assert one.folder == other.folder == folder
    assert one.id == folder.name
    assert repr(one) == f"FinishedRun({str(folder)!r})"
    assert one.label == one.record["model"]
    assert one.labelled("ours").label == "ours"


def test_files_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FinishedRun.open(folder)
    opened: list[str] = []
    before = Path.read_bytes

    def counted(self: Path) -> bytes:
        opened.append(self.name)
        return before(self)

    monkeypatch.setattr(Path, "read_bytes", counted)
    for _ in range(2):
        _ = run.record, run.content, run.environment, run.times, run.video_ids, run.categories, run.metrics
    assert len(opened) == len(set(opened))


def test_the_tables_agree_with_the_record(folder: Path) -> None:
    run = FinishedRun.open(folder)
    assert run.done == set(run.video_ids.run)
    assert run.metrics["AP"] == run.record["metrics"]["AP"]
    assert len(run.per_category) == len(run.categories)
    assert set(run.predictions["video_id"]) <= set(run.done)


def test_an_unknown_metric_is_named(folder: Path) -> None:
    metrics = FinishedRun.open(folder).metrics
    assert metrics.get("AQ") is None
    with pytest.raises(UserError, match='metric "AQ": is not a metric of this run; known: AP, '):
        _ = metrics["AQ"]


@pytest.mark.parametrize("what", ["no folder", "no record", "damaged"])
def test_what_is_no_finished_run_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    place = tmp_path / "run"
    if what != "no folder":
        place.mkdir()
    if what == "damaged":
        (place / "metrics.json").write_text("{")
    with pytest.raises(UserError) as caught:
        FinishedRun.open(place)
    assert str(caught.value).startswith(str(place))
    assert "\n" not in str(caught.value)
