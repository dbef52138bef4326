"""BURST's own tasks on tracks in YouTube-VIS form: the numbers of the same predictions in BURST's form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.mask import encode
from typer.testing import CliRunner, Result

import harness
from harness.cli.main import build
from harness.convert.burst import burst_document, read_burst_tracks
from harness.convert.tracks import json_text, results_list
from harness.convert.youtube_vis import read_predictions, read_results
from harness.errors import UserError
from harness.formats.youtube_vis import annotations_from_document, read_annotations
from harness.masks import Rle
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.store import PredictionStore
from harness.scoring import BURST_TASKS
from harness.scoring.burst_from_tracks import score_tracks_by_tasks
from harness.scoring.burst_tasks import BurstScore, score_tasks
from harness.scoring.burst_tracks import class_table
from harness.scoring.dispatch import check_truth_for, further_protocols, score_all, undefined_record
from harness.scoring.shard_reader import ShardReader
from harness.types import Track, Video

GUIDED, EXEMPLAR, OPEN_WORLD = BURST_TASKS
FILES = ("all", "common", "uncommon")


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build(), [str(one) for one in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A golden truth with the names of LVIS 0.5, and its predictions as ``results.json`` and ``burst.json``.

    Scores differ from mask to mask in the golden predictions, and are one number for a track in both files here.
    """
    folder = tmp_path_factory.mktemp("burst")
    golden = Path(__file__).parents[1] / "data" / "protocols" / "burst_tasks"
    for group in FILES:
        truth = json.loads((golden / "gt" / f"{group}_classes.json").read_text())
        for category in truth["categories"]:
            category["name"] = class_table()[0][category["id"]]
        (folder / f"{group}_classes.json").write_text(json.dumps(truth))
    given = json.loads((golden / "predictions.json").read_text())
    del given["categories"]
    listed = {category["id"] for category in json.loads((folder / "all_classes.json").read_text())["categories"]}
    for sequence in given["sequences"]:  # YouTube-VIS form has the categories of the annotations only
        for track in [track for track, category in sequence["track_category_ids"].items() if category not in listed]:
            del sequence["track_category_ids"][track]
            for frame in sequence["segmentations"]:
                frame.pop(track, None)
    (folder / "given.json").write_text(json.dumps(given))
    tracks = read_burst_tracks(folder / "given.json", folder / "all_classes.json")
    (folder / "results.json").write_bytes(json_text(results_list(tracks)))
    (folder / "burst.json").write_bytes(
        json_text(burst_document(read_results(folder / "results.json", folder / "all_classes.json")))
    )
    return folder


def stored(data: Path, folder: Path) -> PredictionStore:
    """The results as a store."""
    run = harness.run_of_results(
        "mine",
        data / "results.json",
        annotations=data / "all_classes.json",
        protocol=["burst", GUIDED, OPEN_WORLD],
        runs_dir=folder,
    )
    return run.store


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for task, outcome in found.items():
        assert isinstance(outcome, BurstScore)
        assert outcome.record()["metrics"] == expected[task].record()["metrics"]
        assert outcome.record()["corrected"] == expected[task].record()["corrected"]
        assert outcome.record()["undefined"] == expected[task].record()["undefined"]


def test_the_numbers_are_those_of_the_converted_file(data: Path, tmp_path: Path) -> None:
    truth = read_annotations(data / "all_classes.json")
    expected = score_tasks([GUIDED, OPEN_WORLD], data, data / "burst.json")
    assert 0.1 < expected[GUIDED].record()["metrics"]["HOTA_all"] < 0.9
    tracks = sum(len(one["track_category_ids"]) for one in json.loads((data / "burst.json").read_text())["sequences"])
    counts = expected[GUIDED].record()["counts"]
    assert counts["tracks"] == tracks
    assert counts["videos"] == len(truth.videos)
    assert 0 < counts["truths"] <= len(truth.truth.records)  # type: ignore[union-attr]
    shuffled = json.loads((data / "results.json").read_text())
    order = np.random.default_rng(3).permutation(len(shuffled))
    records = sorted((shuffled[i] for i in order.tolist()), key=lambda one: one["category_id"] % 3)
    (tmp_path / "shuffled.json").write_text(json.dumps(records))
    same(score_tracks_by_tasks([GUIDED, OPEN_WORLD], truth, lambda: data / "results.json"), expected)
    store = stored(data, tmp_path)
    same(score_tracks_by_tasks([GUIDED, OPEN_WORLD], truth, lambda: ShardReader(store)), expected)
    mixed = tmp_path / "mixed.json"
    mixed.write_bytes(json_text(burst_document(read_results(tmp_path / "shuffled.json", data / "all_classes.json"))))
    same(
        score_tracks_by_tasks([GUIDED, OPEN_WORLD], truth, lambda: tmp_path / "shuffled.json"),
        score_tasks([GUIDED, OPEN_WORLD], data, mixed),
    )


def test_some_videos_are_scored_alone(data: Path, tmp_path: Path) -> None:
    truth = read_annotations(data / "all_classes.json")
    chosen = [video.id for video in truth.videos[:3]]
    alone = tmp_path / "alone"
    alone.mkdir()
    for group in FILES:
        document = json.loads((data / f"{group}_classes.json").read_text())
        document["sequences"] = [one for one in document["sequences"] if one["id"] in chosen]
        (alone / f"{group}_classes.json").write_text(json.dumps(document))
    predictions = json.loads((data / "burst.json").read_text())
    predictions["sequences"] = [one for one in predictions["sequences"] if one["id"] in chosen]
    (alone / "burst.json").write_text(json.dumps(predictions))
    expected = score_tasks([GUIDED, OPEN_WORLD], alone, alone / "burst.json")
    store = stored(data, tmp_path)
    found = score_tracks_by_tasks([GUIDED, OPEN_WORLD], truth, lambda: ShardReader(store, chosen), videos=chosen)
    same(found, expected)
    assert not any(one["kind"] == "video without any prediction" for one in found[GUIDED].record()["warnings"])  # type: ignore[union-attr]


def test_a_run_has_them_and_its_record_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = score_tasks([GUIDED, OPEN_WORLD], data, data / "burst.json")
    files = ("--annotations", data, "--predictions", data / "results.json")
    names = ",".join(["burst", GUIDED, OPEN_WORLD])
    told = command("eval", "--protocol", names, *files, "--name", "mine", "--record", "direct.json", "--json")
    assert told.exit_code == 0, told.output
    printed = {one["protocol"]["name"]: one for one in json.loads(told.stdout)["protocols"]}
    run = FinishedRun.open(Path(told.stderr.strip().splitlines()[-1]))
    for task, score in expected.items():
        assert printed[task]["metrics"] == score.record()["metrics"]
        for name, value in score.record()["metrics"].items():
            assert run.metrics[f"{task}/{name}"] == value
    assert command("record", run.folder, "--out", "run.json").exit_code == 0
    for record, predictions in (("run.json", run.folder), ("direct.json", data / "results.json")):
        recorded = json.loads(Path(record).read_text())
        assert [one["protocol"]["name"] for one in recorded["protocols"]] == ["burst", GUIDED, OPEN_WORLD]
        checked = command("verify", record, "--predictions", predictions, "--annotations", data)
        assert checked.exit_code == 0, checked.output
    other = command("verify", "run.json", "--predictions", data / "burst.json", "--annotations", data)
    assert "is in BURST's own form; the record is of tracks, scored by burst, too; name the run folder" in str(
        other.exception
    )
    changed = json.loads(Path("run.json").read_text())
    changed["protocols"][1]["metrics"]["HOTA_all"] += 1e-6
    Path("run.json").write_text(json.dumps(changed))
    tampered = command("verify", "run.json", "--predictions", run.folder, "--annotations", data, "--json")
    assert tampered.exit_code == 1
    assert [one["what"] for one in json.loads(tampered.stdout)["metrics"]] == ["burst-class-guided/HOTA_all"]
    assert ",HOTA," in command("table", run.folder, "--format", "csv").stdout.splitlines()[0] + ","


def test_all_means_what_the_files_allow(data: Path, tmp_path: Path) -> None:
    truth = read_annotations(data / "all_classes.json")
    assert further_protocols(truth) == (GUIDED, OPEN_WORLD)
    alone = tmp_path / "all_classes.json"
    shutil.copy(data / "all_classes.json", alone)
    assert further_protocols(read_annotations(alone)) == (GUIDED,)
    renamed = tmp_path / "train.json"
    shutil.copy(data / "all_classes.json", renamed)
    assert further_protocols(read_annotations(renamed)) == ()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (EXEMPLAR, "protocol burst-exemplar-guided: needs tracks that are named by exemplars"),
        (GUIDED, "truth: is not the file of BURST that burst-class-guided reads; name the all_classes.json of BURST"),
    ],
)
def test_tasks_that_tracks_cannot_have_are_refused(task: str, message: str, data: Path) -> None:
    document = {"videos": [], "categories": [], "annotations": []}
    truth = annotations_from_document(document, "truth")
    with pytest.raises(UserError) as early:
        check_truth_for([task], truth)
    assert str(early.value).startswith(message)
    assert str(score_all([task], truth, lambda: data / "results.json")[task]) == str(early.value)


def test_the_open_world_needs_its_other_files(data: Path, tmp_path: Path) -> None:
    shutil.copy(data / "all_classes.json", tmp_path / "all_classes.json")
    with pytest.raises(UserError, match=r"common_classes\.json: does not exist; burst-open-world reads it; copy it"):
        check_truth_for([OPEN_WORLD], read_annotations(tmp_path / "all_classes.json"))


def test_a_video_without_tracks_is_no_fault_of_a_run(data: Path, tmp_path: Path) -> None:
    truth = read_annotations(data / "all_classes.json")
    store = PredictionStore(tmp_path / "predictions")
    for video in harness.load_dataset(annotations=data / "all_classes.json", frames=tmp_path, protocol="burst").videos:
        store.write_video(video, [])
    score = score_tracks_by_tasks([GUIDED], truth, lambda: ShardReader(store), strict=True)[GUIDED]
    assert [one["kind"] for one in score.record()["warnings"]] == ["video in which the model found nothing"]  # type: ignore[union-attr]
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    refused = score_tracks_by_tasks([GUIDED], truth, lambda: empty, strict=True)[GUIDED]
    assert "video without any prediction" in str(refused)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [49, 41]}, "record 0: has a mask of 49x41, its video is 41x49; encode the masks at the video's size"),
        ({"counts": "\u00e9"}, "record 0, frame 0: counts are not a COCO run-length encoding"),
        ({"counts": "\ud800"}, "record 0, frame 0: counts are not a COCO run-length encoding"),
        ({"counts": "!!"}, "record 0, frame 0: counts are not a COCO run-length encoding"),
    ],
)
def test_masks_that_do_not_fit_their_video_are_refused(
    data: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """In BURST's form a mask has no size of its own: with that of its video it would be another mask."""
    records = json.loads((data / "results.json").read_text())
    records[0]["segmentations"][0] |= change
    (tmp_path / "odd.json").write_text(json.dumps(records))
    truth = read_annotations(data / "all_classes.json")
    found = score_tracks_by_tasks([GUIDED], truth, lambda: tmp_path / "odd.json")[GUIDED]
    assert message in str(found)


def test_a_store_of_frames_of_another_size_is_refused(data: Path, tmp_path: Path) -> None:
    truth = read_annotations(data / "all_classes.json")
    first, store = truth.videos[0], PredictionStore(tmp_path / "predictions")
    shown = Video(first.id, "", first.width, first.height, range(first.length))  # type: ignore[arg-type]
    full = Rle((first.width, first.height), encode(np.ones((first.width, first.height), np.uint8, order="F"))["counts"])
    store.write_video(shown, [Track(first.id, truth.categories[0].id, 0.5, (full,) * first.length)])
    found = score_tracks_by_tasks([GUIDED], truth, lambda: ShardReader(store), videos=[first.id])[GUIDED]
    assert f"video {first.id}, track 0: has a mask of 49x41, its video is 41x49" in str(found)
    with pytest.raises(UserError, match=r"parquet: has masks of 49x41, its video is 41x49; name the annotations of"):
        read_predictions(store, truth)


def test_python_scores_by_the_tasks_too(data: Path) -> None:
    found = harness.evaluate(data / "results.json", data / "all_classes.json", protocol=f"{GUIDED},burst")
    expected = score_tasks([GUIDED], data, data / "burst.json")[GUIDED].record()
    assert found[f"{GUIDED}/HOTA_all"] == expected["metrics"]["HOTA_all"]
    with pytest.raises(UserError, match="per_category: is not available for burst-class-guided; put an AP protocol"):
        found.per_category  # noqa: B018


def test_names_without_numbers() -> None:
    record = undefined_record(OPEN_WORLD, "nothing")
    assert list(record["metrics"])[:2] == ["OWTA_all", "DetRe_all"]
    assert undefined_record(GUIDED, "nothing")["protocol"] == {"name": GUIDED, "version": "2"}
