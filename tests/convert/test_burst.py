"""BURST's own form, written for its official tasks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from harness.cli.main import build
from harness.convert.burst import burst_document
from harness.convert.tracks import ConvertedVideo, TrackSet
from harness.errors import UserError
from harness.run_folder.finished_run import FinishedRun
from harness.scoring.burst_tasks import score_task
from harness.scoring.burst_tracks import class_table


def harness(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build(), [str(one) for one in arguments])


def named_truth(golden: Path, folder: Path) -> dict[str, list[dict[str, object]]]:
    """Write a golden truth with the names of LVIS 0.5; return it."""
    truth = json.loads((golden / "burst_tasks" / "gt" / "all_classes.json").read_text())
    for category in truth["categories"]:
        category["name"] = class_table()[0][category["id"]]
    (folder / "all_classes.json").write_text(json.dumps(truth))
    found: dict[str, list[dict[str, object]]] = truth
    return found


def test_results_become_predictions_of_the_official_tasks(golden: Path, tmp_path: Path) -> None:
    truth, results, out = tmp_path / "all_classes.json", tmp_path / "results.json", tmp_path / "predictions.json"
    made = named_truth(golden, tmp_path)
    assert harness("convert", truth, "--from", "burst", "--to", "results", "--out", results).exit_code == 0
    options = ("--from", "vis", "--annotations", truth, "--to", "burst", "--out", out)
    done = harness("convert", results, *options)
    assert done.exit_code == 0, done.output
    written = json.loads(out.read_text())["sequences"]
    for expected, one in zip(made["sequences"], written, strict=True):
        for key in ("id", "dataset", "seq_name", "width", "height", "annotated_image_paths"):
            assert one[key] == expected[key]
        assert sorted(one["track_category_ids"].values()) == sorted(expected["track_category_ids"].values())  # type: ignore[attr-defined]
        assert [len(frame) for frame in one["segmentations"]] == [len(frame) for frame in expected["segmentations"]]  # type: ignore[attr-defined]
        assert all(mask["score"] == 1 for frame in one["segmentations"] for mask in frame.values())
    score = score_task("burst-class-guided", tmp_path, out)
    assert score.metrics["HOTA_all"] == pytest.approx(1)
    assert score.metrics["AP_all"] == pytest.approx(1)


def test_what_is_not_bursts_is_refused() -> None:
    video = ConvertedVideo(1, "a", 4, 6, ("a/0.jpg",))
    with pytest.raises(UserError, match="frames that are not DATASET/SEQUENCE/FRAME; name BURST's own annotation file"):
        burst_document(TrackSet([video], {}))


def test_a_category_outside_lvis_is_refused(golden: Path, tmp_path: Path) -> None:
    truth, results = tmp_path / "all_classes.json", tmp_path / "results.json"
    made = named_truth(golden, tmp_path)
    assert harness("convert", truth, "--from", "burst", "--to", "results", "--out", results).exit_code == 0
    for number, category in enumerate(made["categories"]):
        category["name"] = f"gryphon {number}"
    truth.write_text(json.dumps(made))
    options = ("--from", "vis", "--annotations", truth, "--to", "burst", "--out", tmp_path / "predictions.json")
    done = harness("convert", results, *options)
    assert re.match(r"category \d+ \(gryphon \d+\): is not in LVIS 0.5; rename it in the file", str(done.exception))


def test_a_run_folder_has_the_same_tracks_in_bursts_form(golden: Path, tmp_path: Path) -> None:
    truth, results, out = tmp_path / "all_classes.json", tmp_path / "results.json", tmp_path / "predictions.json"
    named_truth(golden, tmp_path)
    assert harness("convert", truth, "--from", "burst", "--to", "results", "--out", results).exit_code == 0
    records = json.loads(results.read_text())
    for number, record in enumerate(records):
        record["score"] = 1 - number / 64
    results.write_text(json.dumps(records))
    files = ("--annotations", truth, "--predictions", results)
    made = harness("eval", "--protocol", "hota", "--name", "mine", "--runs-dir", tmp_path / "runs", *files)
    assert made.exit_code == 0, made.output
    (folder,) = (tmp_path / "runs").iterdir()
    done = harness("convert", folder, "--from", "run", "--annotations", truth, "--to", "burst", "--out", out)
    assert done.exit_code == 0, done.output
    direct = tmp_path / "direct.json"
    options = ("--from", "vis", "--annotations", truth, "--to", "burst", "--out", direct)
    assert harness("convert", results, *options).exit_code == 0
    assert json.loads(out.read_text()) == json.loads(direct.read_text())
    assert sorted(tracks_of_burst(json.loads(out.read_text()))) == sorted(tracks_of_run(folder))
    score = score_task("burst-class-guided", tmp_path, out)
    assert score.metrics["HOTA_all"] == pytest.approx(1)


def tracks_of_burst(document: dict[str, Any]) -> list[Any]:
    """Video, name of the category, score and masks (empty: none) of every track."""
    names = class_table()[0]
    return [
        (
            one["id"],
            names[category],
            max(frame[track]["score"] for frame in one["segmentations"] if track in frame),
            [frame.get(track, {"rle": ""})["rle"] for frame in one["segmentations"]],
        )
        for one in document["sequences"]
        for track, category in one["track_category_ids"].items()
    ]


def tracks_of_run(folder: Path) -> list[Any]:
    """The same of a run folder."""
    run = FinishedRun.open(folder)
    names = {row.id: row.name for row in run.categories}
    return [
        (t.video_id, names[t.category_id], t.score, ["" if m is None else m.counts.decode() for m in t.masks])
        for video in run.done
        for t in run.store.read_video(video)
    ]
