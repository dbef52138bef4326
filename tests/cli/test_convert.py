"""Masks and tracks from and to the forms of other tools.

Tests of `harness/convert/fiftyone_samples.py`, `harness/convert/tracks.py` and `harness/convert/youtube_vis.py`.
"""

from __future__ import annotations

import copy
import json
import random
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dataset_copies import write_burst, write_frames
from oracle_runs import oracle_run
from track_sets import command, label_studio_images, same, shapes
from vis_documents import document

from harness.convert.coco_frames import coco_document, read_coco
from harness.convert.label_studio import read_label_studio
from harness.convert.tracks import youtube_vis_document
from harness.convert.youtube_vis import read_results, read_truth
from harness.datasets.own_data import open_own
from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.json").write_text(json.dumps(document()))
    write_frames(tmp_path / "frames")
    return tmp_path


@pytest.mark.parametrize(("form", "out"), [("coco", "frames.json"), ("masks", "masks"), ("vis", "again.json")])
def test_there_and_back(mine: Path, form: str, out: str) -> None:
    """A form that is written is read as the same tracks, by the command line."""
    there = command(mine / "mine.json", "--from", "vis", "--to", form, "--out", mine / out)
    assert (there.exit_code, there.exception) == (0, None)
    back = command(mine / out, "--from", form, "--out", mine / "back.json")
    assert (back.exit_code, back.exception) == (0, None)
    assert "2 videos, 2 tracks, 2 categories" in back.stdout
    assert same(read_truth(mine / "back.json"), read_truth(mine / "mine.json"))
    dataset = open_own(mine / "back.json", mine / "frames", "ytvis")
    assert [int(frame[0, 0, 0]) for video in dataset.videos for frame in video.read()] == [40, 41, 80, 81]


def test_the_same_input_gives_the_same_bytes(mine: Path) -> None:
    for form, out in (("coco", "c.json"), ("masks", "m"), ("mots", "t"), ("vis", "v.json"), ("results", "r.json")):
        made = []
        for number in (1, 2):
            target = mine / f"{number}{out}"
            assert command(mine / "mine.json", "--from", "vis", "--to", form, "--out", target).exit_code == 0
            files = sorted(target.rglob("*.*")) if target.is_dir() else [target]
            made.append([file.read_bytes() for file in files])
        assert made[0] == made[1]
        assert made[0]


ODD = (None, -1, 0, 1.5, "x", [], {}, True, 1e300, 2**70, [None], [[1, 2]], {"a": 1}, float("nan"))


def broken(document: Any, rng: random.Random) -> Any:
    """A document with one value in another form, or without it."""
    made = copy.deepcopy(document)
    places = list(_places(made))
    holder, key = rng.choice(places)
    if rng.random() < 0.25:
        del holder[key]
    else:
        holder[key] = rng.choice(ODD)
    return made


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    keys = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        yield document, key
        yield from _places(document[key])


def test_broken_documents_are_refused_in_words(mine: Path) -> None:
    """Whatever a file holds, it is read or refused by a `UserError`."""
    coco = coco_document(read_truth(mine / "mine.json"))
    studio = label_studio_images(tracks=True)
    rng, refused = random.Random(3), 0
    file = mine / "broken.json"
    for made, reader in ((coco, read_coco), (studio, read_label_studio)):
        for _ in range(60):
            file.write_text(json.dumps(broken(made, rng)))
            try:
                youtube_vis_document(reader(file))
            except UserError:
                refused += 1
    assert 20 < refused < 120


def test_predictions_of_a_run_and_of_a_results_file(mine: Path) -> None:
    run = oracle_run(mine / "runs", open_own(mine / "mine.json", mine / "frames", "lvvis"))
    assert command(run, "--from", "run", "--to", "results", "--out", mine / "results.json").exit_code == 0
    made = read_results(mine / "results.json", mine / "mine.json")
    assert [t.score for v in made.videos for t in v.tracks]
    scores = [one["score"] for one in coco_document(made)["annotations"]]
    assert scores
    result = command(mine / "results.json", "--from", "vis", "--to", "mots", "--out", mine / "mots")
    assert "name the annotation file with --annotations" in str(result.exception)
    result = command(
        mine / "results.json",
        "--from",
        "vis",
        "--annotations",
        mine / "mine.json",
        "--to",
        "mots",
        "--out",
        mine / "mots",
    )
    assert sorted(p.name for p in (mine / "mots").iterdir()) == ["classes.txt", "v1.txt", "v2.txt"]
    result = command(mine / "mine.json", "--from", "vis", "--to", "mots", "--out", mine / "mots")
    assert "already exists and is not an empty folder" in str(result.exception)


def test_bursts_own_form(tmp_path: Path) -> None:
    write_burst(tmp_path)
    file = tmp_path / "burst/annotations/val/all_classes.json"
    assert command(file, "--from", "burst", "--out", tmp_path / "vis.json").exit_code == 0
    assert shapes(read_truth(tmp_path / "vis.json")) == shapes(read_truth(file))
    assert len(read_annotations(tmp_path / "vis.json").videos) == 2


def test_fiftyone_samples(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (mine / "mine.json", "--from", "vis", "--to", "fiftyone", "--frames", mine / "frames", "--out", "seen")
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    assert "needs a package that is not installed" in str(command(*arguments).exception)
    added: dict[str, list[Any]] = {}

    class Sample(dict[str, Any]):
        def __init__(self, filepath: str) -> None:
            super().__init__(filepath=filepath)

    class Dataset:
        def __init__(self, name: str, persistent: bool) -> None:
            self.samples = added.setdefault(name, [])

        def add_samples(self, samples: list[Any], progress: bool) -> None:
            self.samples += samples

    stand_in = types.ModuleType("fiftyone")
    stand_in.__dict__.update(Sample=Sample, Dataset=Dataset, Detection=dict, Detections=dict,
                             dataset_exists=lambda name: name in added)  # fmt: skip
    monkeypatch.setitem(sys.modules, "fiftyone", stand_in)
    with monkeypatch.context() as broken:
        broken.setitem(stand_in.__dict__, "dataset_exists", lambda name: 1 / 0)
        said = str(command(*arguments).exception)
        assert said.startswith("--to fiftyone: FiftyOne cannot open its database: division by zero; name a MongoDB")
    assert command(*arguments).exit_code == 0
    assert [sample["video"] for sample in added["seen"]] == ["v1", "v1", "v2", "v2"]
    first = added["seen"][0]
    assert Path(first["filepath"]) == mine / "frames/v1/0.jpg"
    (one,) = first["ground_truth"]["detections"]
    assert (one["label"], one["index"], one["mask"].shape, bool(one["mask"].all())) == ("cat", 1, (10, 10), True)
    assert one["bounding_box"] == pytest.approx([2 / 30, 2 / 20, 10 / 30, 10 / 20])
    assert "already exists" in str(command(*arguments).exception)


def test_names_that_lead_out_of_the_folder_are_refused(mine: Path) -> None:
    made = document()
    made["videos"][0]["name"] = "../../out"
    (mine / "mine.json").write_text(json.dumps(made))
    for form in ("masks", "mots"):
        result = command(mine / "mine.json", "--from", "vis", "--to", form, "--out", mine / form)
        assert "has a name with a path outside of the folder" in str(result.exception)


def test_what_is_written_has_all_fields_that_protocols_read(mine: Path) -> None:
    made = youtube_vis_document(read_truth(mine / "mine.json"))
    assert {"id", "video_id", "category_id", "iscrowd", "segmentations", "areas", "bboxes"} <= set(
        made["annotations"][0]
    )
    assert made["annotations"][0]["areas"] == [100, 110]
    assert made["annotations"][0]["bboxes"][0] == [2, 2, 10, 10]
