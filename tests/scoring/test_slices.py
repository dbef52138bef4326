"""Slices: which truths and tracks are in which, and the numbers of `metrics.json` where both have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from analysis_scenes import CAT, DOG, YAK, Box, NoFrames, Thing, annotated, stored
from pycocotools import mask as coco

from harness.formats.youtube_vis import annotations_from_document
from harness.masks import Rle
from harness.run_folder.store import PredictionStore
from harness.scoring.analysis import Analysis, analyse
from harness.scoring.score import score_store
from harness.types import Track, Video

BOX: Box = (0, 0, 10, 10)
FRAMES = 12


def still(frames: int = FRAMES, box: Box = BOX) -> list[Box | None]:
    return [box] * frames + [None] * (FRAMES - frames)


def fast() -> list[Box | None]:
    """A box that leaves nothing in common with the frame before."""
    return [(10 * (f % 2), 0, 10 * (f % 2) + 10, 10) for f in range(FRAMES)]


def analysed(folder: Path, truth: list[Thing], tracks: list[Thing], protocol: str = "lvvis") -> Analysis:
    annotations = annotated(truth, max(t.video for t in truth), FRAMES)
    return analyse(protocol, annotations, stored(folder, annotations, tracks))


def numbers(found: Analysis, name: str) -> dict[str, tuple[int, float | None]]:
    """Truths and AP50 of every slice that has truths; each slice names its truths."""
    assert {s.name: len(found.slices[name].members[s.name]) for s in found.slices[name].slices} == {
        s.name: s.truths for s in found.slices[name].slices
    }
    assert "members" not in found.record()["slices"][name]
    return {s.name: (s.truths, s.ap50) for s in found.slices[name].slices if s.truths}


@pytest.fixture
def ordinary(tmp_path: Path) -> Analysis:
    # video 1: one still cat, found; video 2: a fast cat and a dog of two frames, only the dog is found
    truth = [Thing(CAT, still()), Thing(CAT, fast(), video=2), Thing(DOG, still(2, (20, 0, 30, 10)), video=2)]
    tracks = [
        Thing(CAT, still(), 0.9),
        Thing(CAT, still(2, (20, 0, 30, 10)), 0.8, 2),
        Thing(DOG, still(2, (20, 0, 30, 10)), 0.7, 2),
    ]
    return analysed(tmp_path, truth, tracks)


def test_objects_of_the_video(ordinary: Analysis) -> None:
    one = pytest.approx(1)
    # of videos with 2 objects: the cat AP 0, the dog AP 1
    assert numbers(ordinary, "objects") == {"1 object": (1, one), "2 to 4 objects": (2, pytest.approx(0.5))}


def test_motion_of_the_object(ordinary: Analysis) -> None:
    assert numbers(ordinary, "motion") == {"slow": (2, pytest.approx(1)), "fast": (1, 0)}


def test_length_of_the_track(ordinary: Analysis) -> None:
    assert numbers(ordinary, "track length") == {"short": (1, pytest.approx(1)), "long": (2, pytest.approx(51 / 101))}


def test_frequency_of_the_category(ordinary: Analysis) -> None:
    expected = {"1 track": (1, pytest.approx(1)), "2 to 5 tracks": (2, pytest.approx(51 / 101))}
    assert numbers(ordinary, "category frequency") == expected


def test_base_and_novel(tmp_path: Path) -> None:
    found = analysed(tmp_path, [Thing(CAT, still()), Thing(YAK, still(12, (20, 0, 30, 10)))], [Thing(CAT, still())])
    assert numbers(found, "groups") == {"base": (1, pytest.approx(1)), "novel": (1, 0)}
    assert found.calibration.keys() == {"all", "base", "novel"}
    assert (found.calibration["base"].tracks, found.calibration["novel"].tracks) == (1, 0)


def test_an_object_seen_in_one_frame_has_no_motion(tmp_path: Path) -> None:
    found = analysed(tmp_path, [Thing(CAT, still(1))], [Thing(CAT, still(1))])
    assert found.slices["motion"].outside == 1
    assert numbers(found, "motion") == {}


def test_occlusion_where_it_is_annotated(tmp_path: Path) -> None:
    truth = [Thing(CAT, still())]
    annotations = annotated(truth, 1, FRAMES, occlusion=["severe_occlusion"] * FRAMES)
    found = analyse("ovis", annotations, stored(tmp_path, annotations, truth))
    assert "density" not in found.slices
    assert numbers(found, "occlusion") == {"heavy occlusion": (1, pytest.approx(1))}
    assert "groups" not in found.slices


def test_areas_and_lengths_are_those_of_metrics_json(tmp_path: Path) -> None:
    truth = [Thing(CAT, still()), Thing(CAT, fast(), video=2), Thing(DOG, still(2, (20, 0, 30, 10)), video=2)]
    annotations = annotated(truth, 2, FRAMES)
    store = stored(tmp_path, annotations, [t._replace(score=0.5) for t in truth[1:]])
    found, scored = analyse("lvvis", annotations, store), score_store("lvvis", annotations, store).metrics.slices
    for name, key in (("area", "area"), ("track length", "track_length")):
        told = {s.name: {"AP": s.ap, "AR": s.recall, "truths": s.truths} for s in found.slices[name].slices}
        assert told == scored[key]


def test_burst_has_real_areas_and_its_own_frequencies(tmp_path: Path) -> None:
    # its official tool takes every area for 0: all objects would be small
    counts = [0, 300 * 200, 300 * 100]
    category = {"id": 1, "name": "cat", "frequency": "f", "split": "common"}
    document = {
        "videos": [{"id": 1, "height": 300, "width": 300, "length": 1, "file_names": ["1.jpg"]}],
        "categories": [category, {"id": 2, "name": "yak", "frequency": "r", "split": "uncommon"}],
        "annotations": [
            {"id": 1, "video_id": 1, "category_id": 1, "segmentations": [{"size": [300, 300], "counts": counts}]}
        ],
    }
    annotations = annotations_from_document(document, "burst")
    store = PredictionStore(tmp_path)
    compressed = coco.frPyObjects({"size": [300, 300], "counts": counts}, 300, 300)["counts"]
    store.write_video(Video(1, "1", 300, 300, NoFrames(1)), [Track(1, 1, 0.9, (Rle((300, 300), compressed),))])
    analysis = analyse("burst", annotations, store)
    assert numbers(analysis, "area") == {"medium": (1, pytest.approx(1))}
    assert numbers(analysis, "category frequency") == {"frequent": (1, pytest.approx(1))}
    assert numbers(analysis, "groups") == {"base": (1, pytest.approx(1)), "common": (1, pytest.approx(1))}
