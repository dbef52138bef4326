"""What the annotations alone decide: `check_truth` says it in the words of scoring, and a run says it beforehand."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import SmallModel, make_dataset, make_run, truth_of

from harness.errors import OfficialFaultError, UserError
from harness.formats.youtube_vis import Annotations, annotations_from_document
from harness.one_video import try_video
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.store import PredictionStore
from harness.runner import execute
from harness.scoring.score import check_truth, score_store
from harness.types import Track


def document() -> dict[str, Any]:
    """Two videos with one object each, in the form of every protocol."""
    masks = {v: [{"size": list(m.size), "counts": m.counts.decode()} for m in truth_of(v)] for v in (1, 2)}
    return {
        "videos": [{"id": v, "height": 12, "width": 16, "length": 3} for v in (1, 2)],
        "categories": [
            {"id": 1, "name": "box", "partition": 0, "frequency": "f", "split": "common"},
            {"id": 2, "name": "ball", "partition": 3, "frequency": "r", "split": "uncommon"},
        ],
        "annotations": [
            {
                "id": v,
                "video_id": v,
                "category_id": 1,
                "iscrowd": 0,
                "areas": [30] * 3,
                "occlusion": ["no_occlusion"] * 3,
                "segmentations": masks[v],
            }
            for v in (1, 2)
        ],
    }


Change = Callable[[dict[str, Any]], Any]
FAULTS: dict[str, tuple[str, Change, str]] = {
    "no areas": (
        "lvvis",
        lambda d: d["annotations"][1].pop("areas"),
        'annotation 2: has no "areas"; the official lvvis',
    ),
    "no iscrowd": ("ytvis", lambda d: d["annotations"][0].pop("iscrowd"), 'annotation 1: has no "iscrowd"'),
    "no occlusion": ("ovis", lambda d: d["annotations"][1].pop("occlusion"), 'annotation 2: has no "occlusion"'),
    "odd occlusion": (
        "ovis",
        lambda d: d["annotations"][1].update(occlusion=["some", None, None]),
        'annotation 2: occlusion "some" is unknown',
    ),
    "empty occlusion": (
        "ovis",
        lambda d: d["annotations"][0].update(occlusion=[None] * 3),
        "annotation 1: has no occlusion in any frame",
    ),
    "no partition": ("lvvis", lambda d: d["categories"][0].pop("partition"), r"category 1 \(box\): has no partition"),
    "large id": ("lvvis", lambda d: d["categories"][1].update(id=7), "category 7 is novel but there are 2 categories"),
    "no frequency": ("burst", lambda d: d["categories"][0].pop("frequency"), "has no frequency or no split"),
}
"""The official tool aborts on them."""


def unreadable_mask(document: dict[str, Any]) -> None:
    """Make a mask one that is no run-length encoding."""
    document["annotations"][1]["segmentations"][0].update(counts="0")


def annotations_of(change: Change) -> Annotations:
    changed = document()
    change(changed)
    return annotations_from_document(changed, "truth.json")


@pytest.mark.parametrize("protocol", ["lvvis", "ytvis", "ovis", "burst"])
def test_sound_annotations_pass(protocol: str) -> None:
    for name in (protocol, f"{protocol}-corrected"):
        assert check_truth(name, annotations_of(lambda d: None)) == ""


@pytest.mark.parametrize("case", FAULTS)
def test_it_says_what_scoring_says(case: str, tmp_path: Path) -> None:
    protocol, change, message = FAULTS[case]
    annotations = annotations_of(change)
    told = check_truth(protocol, annotations)
    assert re.search(message, told)
    with pytest.raises(OfficialFaultError, match=message) as strict:
        check_truth(protocol, annotations, strict=True)
    assert told == f"the official {protocol} tool aborts: {strict.value}"
    score = score_store(protocol, annotations, filled_store(tmp_path))
    assert score.metrics.undefined["AP"] == told
    assert score.corrected.values["AP"] is not None


def test_what_no_tool_can_score_is_refused(tmp_path: Path) -> None:
    annotations = annotations_of(unreadable_mask)
    with pytest.raises(UserError, match="annotation 2, frame 0: ") as early:
        check_truth("ytvis", annotations)
    with pytest.raises(UserError) as late:
        score_store("ytvis", annotations, filled_store(tmp_path))
    assert str(early.value) == str(late.value)


def filled_store(folder: Path) -> PredictionStore:
    """A store with one track in each video."""
    store = PredictionStore(folder)
    for video in make_dataset(2).videos:
        store.write_video(video, [Track(video.id, 1, 0.5, truth_of(video.id))])
    return store


@pytest.mark.parametrize("case", FAULTS)
def test_a_run_has_corrected_numbers_where_the_official_tool_aborts(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    protocol, change, message = FAULTS[case]
    dataset = replace(make_dataset(2), protocol=protocol, annotations=annotations_of(change))
    outcome = execute(make_run(tmp_path, dataset=dataset))
    assert outcome.exit_code == 0
    record = FinishedRun.open(make_run(tmp_path, dataset=dataset).folder).record
    assert set(record["metrics"].values()) == {None}
    assert record["corrected"]["AP"] is not None
    assert re.search(message, record["undefined"]["metrics"]["AP"])
    assert any(re.search(f"there are no official numbers: .*{message}", text) for text in outcome.messages)
    told = [one.message for one in caplog.records if one.message.startswith("official numbers will be undefined")]
    assert len(told) == 1
    assert re.search(message, told[0])


@pytest.mark.parametrize("case", [*FAULTS, "mask"])
def test_a_strict_run_refuses_before_it_loads_anything(case: str, tmp_path: Path) -> None:
    protocol, change, message = FAULTS.get(case, ("ytvis", unreadable_mask, "annotation 2, frame 0: "))
    dataset = replace(make_dataset(2), protocol=protocol, annotations=annotations_of(change))
    model = SmallModel()
    with pytest.raises(UserError, match=message):
        execute(make_run(tmp_path, model, dataset), strict=True)
    assert model.loads == 0
    assert list(tmp_path.iterdir()) == []


def test_a_trial_on_one_video_says_that_official_numbers_will_be_undefined(tmp_path: Path) -> None:
    protocol, change, message = FAULTS["no areas"]
    dataset = replace(make_dataset(2), protocol=protocol, annotations=annotations_of(change))
    [first, *_] = try_video(make_run(tmp_path, dataset=dataset))["warnings"]
    assert re.search(f"official numbers will be undefined: .*{message}", first)


def test_only_the_videos_that_are_run_count(tmp_path: Path) -> None:
    dataset = replace(make_dataset(2), annotations=annotations_of(lambda d: d["annotations"][1].pop("areas")))
    assert execute(make_run(tmp_path, dataset=dataset, limit=1), strict=True).exit_code == 0


def test_no_truth_and_no_novel_category_are_no_fault() -> None:
    def no_novel(document: dict[str, Any]) -> None:
        document["categories"][1].update(partition=1)

    assert check_truth("lvvis", annotations_of(no_novel)) == ""
    assert check_truth("lvvis", annotations_of(lambda d: d.update(annotations=[]))) == ""
    assert check_truth("lvvis", annotations_of(lambda d: d.update(annotations=None))) == ""
    assert check_truth("ovis", annotations_of(lambda d: d["annotations"][1].pop("occlusion")), videos=[]) == ""
