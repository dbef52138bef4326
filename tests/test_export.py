"""Exports: the official results list and the zip for a server, whole or not at all.

Tests of `harness/cli/export.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from small_runs import HEIGHT, WIDTH, SmallModel, box, make_run

from harness.errors import UserError
from harness.export import export_results, write_results_file, write_submission
from harness.runner import execute
from harness.types import Track

BOX = box(1, 2, 3, 4)


def two_tracks(video_id: int) -> list[Track]:
    if video_id == 2:
        return []
    return [Track(video_id, 1, 0.1 + 0.2, (BOX, None, BOX)), Track(video_id, 2, 0.25, (None, box(0, 0, 1, 1), None))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run with two tracks in each video but the second."""
    run = make_run(tmp_path / "runs", SmallModel(tracks=two_tracks))
    execute(run)
    return run.folder


def test_the_results_list_has_the_official_form(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    assert export_results(folder, out) == 6
    results = json.loads(out.read_text())
    mask = {"size": [HEIGHT, WIDTH], "counts": BOX.counts.decode()}
    assert results[0] == {"video_id": 1, "category_id": 1, "score": 0.1 + 0.2, "segmentations": [mask, None, mask]}
    assert [(r["video_id"], r["category_id"]) for r in results] == [(v, c) for v in (1, 3, 4) for c in (1, 2)]


def test_counts_with_a_backslash_survive(tmp_path: Path) -> None:
    # 92, the backslash, is the character of a number that ends in 12 of 32 and has more digits to come: 44 zeros.
    chosen = box(8, 3, 2, 2)
    assert b"\\" in chosen.counts
    run = make_run(tmp_path / "runs", SmallModel(tracks=lambda v: [Track(v, 1, 0.5, (chosen,) * 3)]))
    execute(run)
    export_results(run.folder, tmp_path / "results.json")
    first = json.loads((tmp_path / "results.json").read_text())[0]
    assert first["segmentations"][0]["counts"] == chosen.counts.decode()


def test_the_zip_holds_results_json_at_its_top_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    assert write_submission(folder, tmp_path / "submit.zip") == 6
    export_results(folder, tmp_path / "results.json")
    with zipfile.ZipFile(tmp_path / "submit.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["results.json"]
        assert archive.read("results.json") == (tmp_path / "results.json").read_bytes()


def test_the_same_predictions_give_the_same_zip(folder: Path, tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        write_submission(folder, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_missing_videos_are_refused_by_number_and_name(folder: Path, tmp_path: Path) -> None:
    for video in (2, 4):
        (folder / "predictions" / f"{video}.parquet").unlink()
    for write in (export_results, write_submission):
        with pytest.raises(UserError, match="2 of 4 videos have no predictions: 2, 4"):
            write(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_limited_run_is_no_submission_but_has_results(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", limit=2)
    execute(run)
    with pytest.raises(UserError, match="2 of 4 videos have no predictions: 3, 4"):
        write_submission(run.folder, tmp_path / "out.zip")
    assert export_results(run.folder, tmp_path / "out.json") == 2


def test_a_damaged_shard_leaves_no_file_and_keeps_the_old_one(folder: Path, tmp_path: Path) -> None:
    (folder / "predictions" / "3.parquet").write_bytes(b"PAR1")
    (tmp_path / "out").write_text("before")
    for write in (export_results, write_submission):
        with pytest.raises(UserError, match=r"3\.parquet"):
            write(folder, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "runs"]


def test_no_tracks_at_all_are_an_empty_list(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", SmallModel(tracks=lambda video: []))
    execute(run)
    assert write_results_file(run.store, tmp_path / "results.json") == 0
    assert json.loads((tmp_path / "results.json").read_text()) == []


@pytest.mark.parametrize("damage", ["absent", "not json", '{"format": 1, "split": [], "run": []}'])
def test_what_is_no_run_folder_is_refused(tmp_path: Path, damage: str) -> None:
    if damage != "absent":
        (tmp_path / "videos.json").write_text(damage)
    told = {"absent": "is not a run folder", "not json": "is damaged"}.get(damage, "was written by another version")
    with pytest.raises(UserError, match=told):
        write_submission(tmp_path, tmp_path / "out.zip")


def test_the_command_writes_into_the_run_folder_by_default(folder: Path, tmp_path: Path) -> None:
    start = [sys.executable, "-c", "from harness.cli.main import main; main()", "export"]
    done = subprocess.run([*start, str(folder)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{folder / 'submission.zip'}: 6 tracks\n")
    named = [*start, str(folder), "--format", "results", "--out", "r.json"]
    done = subprocess.run(named, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "r.json: 6 tracks\n")
    done = subprocess.run([*start, "runs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("harness: runs: is not a run folder")
