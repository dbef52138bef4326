"""What the annotations alone decide is refused by `check_truth` in the words of scoring, and by a run beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import SmallModel, make_dataset, make_run, truth_of

from harness.errors import OfficialFaultError, UserError
from harness.formats.youtube_vis import Annotations, annotations_from_document
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
REFUSED: dict[str, tuple[str, Change, str]] = {
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
    "mask": ("ytvis", lambda d: d["annotations"][1]["segmentations"][0].update(counts="0"), "annotation 2, frame 0: "),
}


def annotations_of(change: Change) -> Annotations:
    changed = document()
    change(changed)
    return annotations_from_document(changed, "truth.json")


@pytest.mark.parametrize("protocol", ["lvvis", "ytvis", "ovis", "burst"])
def test_sound_annotations_pass(protocol: str) -> None:
    for name in (protocol, f"{protocol}-corrected"):
        check_truth(name, annotations_of(lambda d: None))


@pytest.mark.parametrize("case", REFUSED)
def test_it_says_what_scoring_would_say(case: str, tmp_path: Path) -> None:
    protocol, change, message = REFUSED[case]
    annotations = annotations_of(change)
    with pytest.raises(UserError, match=message) as early:
        check_truth(protocol, annotations)
    store = PredictionStore(tmp_path)
    for video in make_dataset(2).videos:
        store.write_video(video, [Track(video.id, 1, 0.5, truth_of(video.id))])
    if isinstance(early.value, OfficialFaultError):
        score = score_store(protocol, annotations, store)
        assert score.metrics.undefined["AP"] == f"the official {protocol} tool aborts: {early.value}"
        assert score.corrected.values["AP"] is not None
        return
    with pytest.raises(UserError) as late:
        score_store(protocol, annotations, store)
    assert str(early.value) == str(late.value)


@pytest.mark.parametrize("case", REFUSED)
def test_a_run_refuses_before_it_loads_anything(case: str, tmp_path: Path) -> None:
    protocol, change, message = REFUSED[case]
    dataset = replace(make_dataset(2), protocol=protocol, annotations=annotations_of(change))
    model = SmallModel()
    with pytest.raises(UserError, match=message):
        execute(make_run(tmp_path, model, dataset))
    assert model.loads == 0
    assert list(tmp_path.iterdir()) == []


def test_only_the_videos_that_are_run_count(tmp_path: Path) -> None:
    dataset = replace(make_dataset(2), annotations=annotations_of(lambda d: d["annotations"][1].pop("areas")))
    assert execute(make_run(tmp_path, dataset=dataset, limit=1)).exit_code == 0


def test_no_truth_and_no_novel_category_are_nothing_to_refuse() -> None:
    check_truth("lvvis", annotations_of(lambda d: d["categories"][1].update(partition=1)))
    check_truth("lvvis", annotations_of(lambda d: d.update(annotations=[])))
    check_truth("lvvis", annotations_of(lambda d: d.update(annotations=None)))
    check_truth("ovis", annotations_of(lambda d: d["annotations"][1].pop("occlusion")), videos=[])
