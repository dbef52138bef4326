"""SA-Co/VEval and phrase data of one's own: which files, which terms, and which phrase is asked of which video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dataset_copies import FRAMES, HEIGHT, WIDTH, write_frames
from vis_documents import box

from harness.datasets.discovery import survey
from harness.datasets.saco_veval import PLUGIN
from harness.datasets.youtube_vis_format import open_custom
from harness.errors import UserError

DOMAINS = {
    "sav": ("saco_sav/JPEGImages_24fps", "CC BY-NC 4.0"),
    "yt1b": ("saco_yt1b/JPEGImages_6fps", "CC BY-NC 4.0"),
    "smartglasses": ("saco_sg/JPEGImages_6fps", "CC BY 4.0"),
}


def document() -> dict[str, Any]:
    """Two videos; of ten phrases three are asked of the first one, of which one is there, and one of the second."""
    masks = [box(HEIGHT, WIDTH, 2, 2, 12, 12 + f) for f in range(FRAMES)]
    found = {"segmentations": masks, "bboxes": [[2, 2, 10 + f, 10] for f in range(FRAMES)], "areas": [100, 110]}
    return {
        "videos": [
            {"id": v, "video_name": f"v{v}", "height": HEIGHT, "width": WIDTH, "length": FRAMES,
             "file_names": [f"v{v}/{f}.jpg" for f in range(FRAMES)]}
            for v in (1, 2)
        ],
        "categories": [{"id": i, "name": f"phrase {i}"} for i in range(10)],
        "annotations": [{"id": 7, "video_id": 1, "category_id": 5, "iscrowd": 0, "noun_phrase": "phrase 5", **found}],
        "video_np_pairs": [
            {"id": i, "video_id": v, "category_id": c, "noun_phrase": f"phrase {c}", "num_masklets": int(c == 5)}
            for i, (v, c) in enumerate([(1, 5), (1, 2), (1, 8), (2, 8), (1, 2)])
        ],
    }  # fmt: skip


def write_domain(root: Path, domain: str, file: str = "saco_veval_{}_val.json") -> None:
    annotation = root / "saco_veval/annotation"
    annotation.mkdir(parents=True, exist_ok=True)
    (annotation / file.format(domain)).write_text(json.dumps(document()))
    write_frames(root / "saco_veval/media" / DOMAINS[domain][0])


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_opens_and_says_its_terms(domain: str, tmp_path: Path) -> None:
    write_domain(tmp_path, domain)
    dataset = PLUGIN.open(tmp_path, f"{domain}-val")
    assert (dataset.protocol, dataset.videos[0].name) == ("veval", "v1")
    assert dataset.differences is None  # no count that somebody states
    assert [int(image[0, 0, 0]) for image in dataset.videos[1].read()] == [80, 81]
    taken = [one.recognised for one in survey(tmp_path, [PLUGIN])]
    assert [(t.dataset, t.split) for t in taken if t] == [("saco-veval", f"{domain}-val")]
    report = PLUGIN.check(tmp_path, f"{domain}-val").splits[0]
    assert report.complete
    assert f"terms of use: {DOMAINS[domain][1]}" in report.notes
    assert DOMAINS[domain][1] in PLUGIN.summary


def test_each_phrase_is_asked_by_itself_absent_ones_too(tmp_path: Path) -> None:
    write_domain(tmp_path, "sav")
    dataset = PLUGIN.open(tmp_path, "sav-val")
    assert [c.name for c in dataset.categories] == ["phrase 2", "phrase 5", "phrase 8"]  # of ten that the file lists
    asked = {v.id: [[c.id for c in one.categories] for one in dataset.vocabularies(v.id)] for v in dataset.videos}
    assert asked == {1: [[2], [5], [8]], 2: [[8]]}


def test_youtube_videos_that_are_gone_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_domain(tmp_path, "yt1b", "saco_veval_{}_val_updated.json")
    PLUGIN.open(tmp_path, "yt1b-val")
    assert "without videos that are gone" in caplog.text


def test_a_missing_copy_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"saco_veval/annotation/saco_veval_smartglasses_test\.json"):
        PLUGIN.open(tmp_path, "smartglasses-test")


def test_data_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps(document()))
    write_frames(tmp_path / "frames")
    dataset = open_custom(tmp_path / "own.json", tmp_path / "frames", "veval")
    assert [len(dataset.vocabularies(v.id)) for v in dataset.videos] == [3, 1]


def test_a_phrase_without_words_is_refused(tmp_path: Path) -> None:
    changed = document()
    changed["video_np_pairs"][1]["category_id"] = 77
    (tmp_path / "own.json").write_text(json.dumps(changed))
    write_frames(tmp_path / "frames")
    with pytest.raises(UserError, match=r"video_np_pairs\[1\]: unknown category 77; add it to categories"):
        open_custom(tmp_path / "own.json", tmp_path / "frames", "veval")
