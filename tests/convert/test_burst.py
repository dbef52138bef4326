"""BURST's own form, written for its official tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from harness.cli.main import build
from harness.convert.burst import burst_document, read_burst_tracks
from harness.convert.tracks import ConvertedVideo, ObjectTrack, TrackSet
from harness.errors import UserError
from harness.masks import Rle
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


def test_persons_are_lvis_babies() -> None:
    """BURST gives the class its own name, with the id of LVIS 0.5."""
    mask = Rle((2, 2), b"04")
    video = ConvertedVideo(1, "a", 2, 2, ("AVA/a/f0.jpg",), [ObjectTrack(1, 5, [mask], 0.5)])
    for name in ("person", "baby"):
        (one,) = burst_document(TrackSet([video], {5: name}))["sequences"]
        assert one["track_category_ids"] == {"1": 805}


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
    first = min((folder / "predictions").glob("*.parquet"), key=lambda path: int(path.stem))
    first.unlink()
    done = harness("convert", folder, "--from", "run", "--annotations", truth, "--to", "burst", "--out", out)
    assert f"warning: video of the run without predictions, left out: 1, first: {folder}, video {first.stem}" in (
        done.stderr
    )


def scored_results(golden: Path, folder: Path) -> tuple[Path, Path, list[dict[str, Any]]]:
    """A golden truth, results of its tracks with scores of their own, and those results."""
    truth, results = folder / "all_classes.json", folder / "results.json"
    named_truth(golden, folder)
    assert harness("convert", truth, "--from", "burst", "--to", "results", "--out", results).exit_code == 0
    records = json.loads(results.read_text())
    for number, record in enumerate(records):
        record["score"] = 0.1 + number / 37
    records.sort(key=lambda record: record["video_id"])
    results.write_text(json.dumps(records))
    return truth, results, records


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mask: {"size": mask["size"][::-1]}, r"frame \d+: its mask has size \[\d+, \d+\], its video \["),
        (lambda mask: {"counts": "\ud800"}, r"frame \d+: counts are not a COCO run-length encoding"),
    ],
)
def test_masks_of_results_that_do_not_fit_their_video_are_refused(
    golden: Path, tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    truth, results, records = scored_results(golden, tmp_path)
    mask = next(mask for mask in records[0]["segmentations"] if mask is not None)
    mask |= change(mask)
    results.write_text(json.dumps(records))
    options = ("--from", "vis", "--annotations", truth, "--to", "burst", "--out", tmp_path / "out.json")
    done = harness("convert", results, *options)
    assert re.search(r"record 0, " + message, str(done.exception))


def test_predictions_come_back_from_bursts_form(golden: Path, tmp_path: Path) -> None:
    truth, results, records = scored_results(golden, tmp_path)
    there, back, again = (tmp_path / f"{name}.json" for name in ("there", "back", "again"))
    files = ("--annotations", truth)
    assert harness("convert", results, "--from", "vis", *files, "--to", "burst", "--out", there).exit_code == 0
    done = harness("convert", there, "--from", "burst", *files, "--to", "results", "--out", back)
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(back.read_text()) == records  # ids of videos and categories, scores, masks
    assert harness("convert", there, "--from", "burst", "--to", "burst", "--out", again).exit_code == 0
    assert again.read_bytes() == there.read_bytes()  # numbers of tracks, ids of LVIS
    plain = tmp_path / "plain.json"
    assert harness("convert", there, "--from", "burst", "--to", "vis", "--out", plain).exit_code == 0
    document = json.loads(plain.read_text())
    names = class_table()[0] | {805: "person"}  # as BURST calls it
    assert {one["id"]: one["name"] for one in document["categories"]} == {
        number: names[number]
        for one in json.loads(there.read_text())["sequences"]
        for number in one["track_category_ids"].values()
    }
    eval_of = [
        harness("eval", "--protocol", "burst", *files, "--predictions", file, "--json").stdout
        for file in (results, back)
    ]
    assert json.loads(eval_of[0])["metrics"] == json.loads(eval_of[1])["metrics"]


def test_the_numbers_of_bursts_tasks_survive_a_conversion(golden: Path, tmp_path: Path) -> None:
    """Official predictions with a score for every mask: the track mAP averages them anyway."""
    named_truth(golden, tmp_path)
    given, back = golden / "burst_tasks" / "predictions.json", tmp_path / "back.json"
    document = json.loads(given.read_text())
    del document["categories"], document["split"]
    (tmp_path / "given.json").write_text(json.dumps(document))
    done = harness("convert", tmp_path / "given.json", "--from", "burst", "--to", "burst", "--out", back)
    assert "track whose masks have different scores, which are averaged" in done.stderr
    before, after = (score_task("burst-class-guided", tmp_path, file) for file in (tmp_path / "given.json", back))
    for name, value in before.metrics.items():
        assert after.metrics[name] == pytest.approx(value, abs=1e-12)


def sequence(**changes: Any) -> dict[str, Any]:
    mask = {"rle": "04", "score": 0.5}
    return {
        "id": 7, "dataset": "AVA", "seq_name": "a", "width": 2, "height": 2,
        "annotated_image_paths": ["f0.jpg", "f1.jpg"],
        "segmentations": [{"9": mask}, {"9": mask}], "track_category_ids": {"9": 805}, **changes,
    }  # fmt: skip


def test_what_bursts_form_loses_is_said(tmp_path: Path) -> None:
    file = tmp_path / "predictions.json"

    def read(**changes: Any) -> TrackSet:
        file.write_text(json.dumps({"sequences": [sequence(**changes)]}))
        return read_burst_tracks(file)

    (track,) = read().videos[0].tracks
    assert (track.id, track.category_id, track.score) == (9, 805, 0.5)
    found = read(segmentations=[{"9": {"rle": "04", "score": 0.5, "category_id": 13}}, {"9": {"rle": "04"}}])
    (track,) = found.videos[0].tracks
    assert (track.category_id, track.score) == (13, 0.75)
    assert [one["kind"] for one in found.warnings.record()] == [
        "track whose masks are of different categories: that of the first mask is kept",
        "track whose masks have different scores, which are averaged",
    ]
    found = read(segmentations=[{}, {}])
    assert found.videos[0].tracks[0].masks == [None, None]
    assert [one["kind"] for one in found.warnings.record()] == [
        "track without a mask, which has no score in this form: it has 1"
    ]
    truth = tmp_path / "truth.json"
    video = {"id": 3, "width": 2, "height": 2, "length": 1, "file_names": ["AVA/a/f1.jpg"]}
    document = {"videos": [video], "categories": [{"id": 1, "name": "person"}], "annotations": []}
    truth.write_text(json.dumps(document))
    both = {"segmentations": [{"9": {"rle": "04"}}, {"9": {"rle": "04", "score": 0.5}, "8": {"rle": "04"}}],
            "track_category_ids": {"9": 805, "8": 1}}  # fmt: skip
    file.write_text(json.dumps({"sequences": [sequence(**both), sequence(id=8, seq_name="b")]}))
    found = read_burst_tracks(file, truth)
    (track,) = found.videos[0].tracks
    assert (found.videos[0].id, track.category_id, track.score, len(track.masks)) == (3, 1, 0.5, 1)
    assert [(one["kind"], one["count"]) for one in found.warnings.record()] == [
        ("mask in a frame that the annotations do not have, left out", 1),
        ("sequence that the annotations do not have, left out", 1),
        ("track of a category that the annotations do not have, left out", 1),
    ]
    video["height"] = 4
    truth.write_text(json.dumps(document))
    with pytest.raises(UserError, match="has masks of 2x2, its video is 4x2; encode the masks at the video's size"):
        read_burst_tracks(file, truth)
    with pytest.raises(UserError, match="track 9: has no category; list it in track_category_ids"):
        read(track_category_ids={})
    with pytest.raises(UserError, match="track 9: category 5000 is unknown"):
        read(track_category_ids={"9": 5000})
    with pytest.raises(UserError, match=r"frame f0\.jpg, track 9: "):
        read(segmentations=[{"9": {"rle": "0"}}, {}])


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
