"""Ceilings: scenes to check by hand, the oracle's settings, and the numbers of the predictions as they are.

Tests of `harness/scoring/perfect.py`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from analysis_scenes import CAT, DOG, YAK, Box, Thing, annotated, stored

from harness.baselines.oracle import Oracle, OracleConfig
from harness.datasets.shapes import PLUGIN as SHAPES
from harness.errors import UserError
from harness.formats.youtube_vis import Annotations, read_annotations
from harness.run_folder.store import PredictionStore
from harness.scoring.ceilings import Ceilings, ceilings
from harness.scoring.perfect import VARIANTS
from harness.scoring.protocols import choose_protocol
from harness.scoring.score import Score, score_by_protocols
from harness.scoring.shard_reader import ShardReader
from harness.scoring.veval import score_veval
from harness.types import Dataset, Track, Video

VEVAL = Path(__file__).parents[1] / "data" / "veval"
NAMES = ("lvvis", "hota", "lvvis-fixed")
NOTHING_WRONG = dict.fromkeys(
    ("drop_tracks", "erode_px", "drop_frames", "switch_identity", "wrong_label", "duplicate"), 0
)
EVERYTHING_WRONG = {
    "drop_tracks": 0.1, "erode_px": 2, "drop_frames": 0.1, "switch_identity": 0.3, "wrong_label": 0.4, "duplicate": 0.2,
}  # fmt: skip
FRAMES = 10
LEFT: Box = (0, 0, 10, 10)
RIGHT: Box = (20, 0, 30, 10)
ELSEWHERE: Box = (32, 12, 38, 18)


def at(box: Box, first: int = 0, last: int = FRAMES) -> list[Box | None]:
    return [box if first <= f < last else None for f in range(FRAMES)]


PERFECT = (pytest.approx(1.0), pytest.approx(0.5))
"""Half of the four categories have truth; official HOTA is averaged over all."""
TRUTH = (Thing(CAT, at(LEFT)), Thing(DOG, at(RIGHT)))


def of_scene(folder: Path, tracks: Sequence[Thing]) -> dict[str, tuple[float | None, float | None]]:
    """AP and HOTA by what is perfect."""
    annotations = annotated(TRUTH, 1, FRAMES)
    store = stored(folder, annotations, tracks)
    found = ceilings(("lvvis", "hota"), annotations, lambda: ShardReader(store))
    return {"+".join(r.perfect): (r.metrics["lvvis"]["AP"], r.metrics["hota"]["HOTA"]) for r in found.rows}


def videos_of(dataset: Dataset) -> list[Video]:
    """Videos whose objects are all there in the first frame: so every track begins on its own, however it goes on."""
    assert dataset.truth is not None
    starts = {video.id: [t.masks[0] for t in dataset.truth.tracks_of(video.id)] for video in dataset.videos}
    return [video for video in dataset.videos if all(starts[video.id])][:12]


def oracle(dataset: Dataset, changes: dict[str, float]) -> dict[int, list[Track]]:
    assert dataset.truth is not None
    model = Oracle(OracleConfig(**{**NOTHING_WRONG, **changes}), dataset.truth, 0)  # type: ignore[arg-type]
    return {video.id: list(model.predict(video, dataset.vocabulary)) for video in videos_of(dataset)}


def kept(folder: Path, dataset: Dataset, tracks: dict[int, list[Track]]) -> PredictionStore:
    store = PredictionStore(folder)
    for video in videos_of(dataset):
        store.write_video(video, tracks[video.id])
    return store


@pytest.fixture(scope="module")
def shapes() -> Dataset:
    return SHAPES.open(Path(), "val")


def annotations_of(dataset: Dataset) -> Annotations:
    return dataset.annotations.restrict([video.id for video in videos_of(dataset)])


def of_oracle(folder: Path, dataset: Dataset, changes: dict[str, float]) -> dict[str, dict[str, float | None]]:
    store = kept(folder, dataset, oracle(dataset, changes))
    found = ceilings(("lvvis", "hota"), annotations_of(dataset), lambda: ShardReader(store))
    return {
        "+".join(r.perfect): {"AP": r.metrics["lvvis"]["AP"], "HOTA": r.metrics["hota"]["HOTA"]} for r in found.rows
    }


@pytest.mark.parametrize(
    ("respect", "changes"),
    [("classes", {"wrong_label": 0.7}), ("masks", {"erode_px": -2}), ("links", {"switch_identity": 0.5})],
)  # fmt: skip
def test_errors_of_one_respect_cost_nothing_when_it_is_perfect(
    respect: str, changes: dict[str, float], shapes: Dataset, tmp_path: Path
) -> None:
    found = of_oracle(tmp_path / "bad", shapes, changes)
    right = of_oracle(tmp_path / "right", shapes, {})[""]
    assert (right["AP"], found[respect]) == (1.0, pytest.approx(right, abs=1e-12))
    assert found[""]["AP"] < 0.95  # type: ignore[operator]
    for other in ("classes", "masks", "links"):
        assert other == respect or found[other]["AP"] < 0.99  # type: ignore[operator]


def test_masks_that_have_vanished_stay_away(shapes: Dataset, tmp_path: Path) -> None:
    """Shrunken masks become perfect, but slivers of which nothing was left are no masks that could be better."""
    found = of_oracle(tmp_path / "bad", shapes, {"erode_px": 1})
    right = of_oracle(tmp_path / "right", shapes, {})[""]
    assert found[""]["AP"] < 0.9  # type: ignore[operator]
    assert found["masks"]["AP"] == 1.0
    assert found["masks"]["HOTA"] == pytest.approx(right["HOTA"], abs=0.01)


def test_perfect_presence_gives_the_numbers_without_absent_categories(shapes: Dataset, tmp_path: Path) -> None:
    good = oracle(shapes, EVERYTHING_WRONG | {"wrong_label": 0})
    before = kept(tmp_path / "good", shapes, good)
    assert shapes.truth is not None
    ids = [category.id for category in shapes.categories]
    for video, tracks in good.items():
        there = {one.category_id for one in shapes.truth.tracks_of(video)}
        absent = next(i for i in ids if i not in there)
        tracks += [Track(video, absent, 0.9, one.masks) for one in tracks]
    after = kept(tmp_path / "more", shapes, good)
    one, other = (
        ceilings(("lvvis", "hota"), annotations_of(shapes), lambda s=store: ShardReader(s))  # type: ignore[misc]
        for store in (before, after)
    )
    row = VARIANTS.index(("presence",))
    assert other.rows[0].metrics != one.rows[0].metrics
    assert other.rows[row].metrics == one.rows[0].metrics


def scores(protocols: Iterable[str], annotations: Annotations, predictions: PredictionStore | Path) -> dict[str, Score]:
    chosen = [choose_protocol(name) for name in protocols]
    found = score_by_protocols(chosen, annotations, predictions)
    assert all(isinstance(one, Score) for one in found)
    return {c.name: one for c, one in zip(chosen, found, strict=True)}  # type: ignore[misc]


def test_files_and_stores_agree_and_nothing_perfect_is_the_score(shapes: Dataset, tmp_path: Path) -> None:
    """Whatever the order of a file's records, and though the blocks that it is read in cut videos."""
    tracks = oracle(shapes, EVERYTHING_WRONG)
    store = kept(tmp_path / "store", shapes, tracks)
    records = [
        {
            "video_id": t.video_id,
            "category_id": t.category_id,
            "score": t.score,
            "segmentations": [m and {"size": list(m.size), "counts": m.counts.decode()} for m in t.masks],
        }
        for mine in tracks.values()
        for t in mine
    ]
    places = list(range(len(records)))
    random.Random(0).shuffle(places)
    by_video = {v: sorted(p for p in places if records[p]["video_id"] == v) for v in tracks}
    mixed = [records[by_video[records[p]["video_id"]].pop(0)] for p in places]  # a video's tracks keep their order
    annotations = annotations_of(shapes)
    found: list[Ceilings] = []
    for name, chosen in (("ordered", records), ("mixed", mixed)):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(chosen))
        found.append(ceilings(NAMES, annotations, lambda f=file: f))  # type: ignore[misc]
    found.append(ceilings(NAMES, annotations, lambda: ShardReader(store)))
    assert found[0].record() == found[1].record() == found[2].record()
    for name, score in scores(NAMES, annotations, store).items():
        assert found[0].rows[0].metrics[name] == score.metrics.values
    values = [row.metrics["lvvis"]["AP"] for row in found[0].rows]
    assert values[0] <= min(values[1:])  # type: ignore[type-var]
    assert values[1] < values[5] < values[6] <= values[7]  # type: ignore[operator]


def test_one_object_has_one_name_when_classes_are_perfect(tmp_path: Path) -> None:
    """A model gives a list of masks several names: they are no duplicates, and the best score is that of the object."""
    names = [Thing(CAT, at(LEFT), 0.2), Thing(YAK, at(LEFT), 0.9), Thing(DOG, at(LEFT), 0.8)]
    tracks = [*names, Thing(DOG, at(RIGHT), 0.7)]
    found = of_scene(tmp_path, tracks)
    assert found[""][0] == pytest.approx(0.75, abs=0.01)  # the dog on the cat ranks first
    assert found["classes"] == PERFECT


def test_a_duplicate_stays_one(tmp_path: Path) -> None:
    tracks = [Thing(CAT, at(LEFT), 0.9), Thing(CAT, at(LEFT), 0.95), Thing(DOG, at(RIGHT), 0.7)]
    found = of_scene(tmp_path, tracks)
    assert {round(hota or 0, 9) for _, hota in found.values()} == {round(found[""][1] or 0, 9)}


def test_pieces_become_one_track_when_links_are_perfect(tmp_path: Path) -> None:
    tracks = [Thing(CAT, at(LEFT, 0, 4), 0.5), Thing(CAT, at(LEFT, 4), 0.9), Thing(DOG, at(RIGHT), 0.7)]
    found = of_scene(tmp_path, tracks)
    assert found[""][0] < 0.9  # type: ignore[operator]
    assert found["links"] == PERFECT


def test_a_mask_on_nothing_leaves_a_track_when_links_are_perfect(tmp_path: Path) -> None:
    wandering: list[Box | None] = [LEFT if f < 6 else ELSEWHERE for f in range(FRAMES)]
    found = of_scene(tmp_path, [Thing(CAT, wandering), Thing(DOG, at(RIGHT))])
    # six of ten frames: IoU 0.6 is a hit at three thresholds of ten
    assert found["links"][0] == pytest.approx((1 + 0.3) / 2)


def test_nothing_is_invented(tmp_path: Path) -> None:
    """An object that no track is on stays missed, whatever is perfect."""
    found = of_scene(tmp_path, [Thing(CAT, at(LEFT), 0.9), Thing(DOG, at(ELSEWHERE), 0.9)])
    assert [ap for ap, _ in found.values()] == pytest.approx([0.5] * len(found))


def test_protocols_without_ceilings_and_no_predictions_are_refused(tmp_path: Path) -> None:
    annotations = annotated(TRUTH, 1, FRAMES)
    with pytest.raises(UserError, match="do not exist for these protocols"):
        ceilings(("teta",), annotations, lambda: tmp_path)
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    with pytest.raises(UserError, match="holds no predictions"):
        ceilings(("lvvis",), annotations, lambda: empty)


@pytest.mark.parametrize("case", ["iou_at_thresholds", "many_masklets"])
def test_phrases(case: str) -> None:
    annotations, predictions = read_annotations(VEVAL / case / "gt.json"), VEVAL / case / "predictions.json"
    found = {r.perfect: r.metrics["veval"] for r in ceilings(("veval",), annotations, lambda: predictions).rows}
    official = score_veval(annotations, predictions).metrics
    for name in ("cgF1", "pmF1", "IL_MCC", "pHOTA", "pAP"):
        assert found[()][name] == official[name]
    assert found[("presence",)]["pmF1"] == official["pmF1"]
    if official["cgF1"] is not None:
        assert found[("presence",)]["IL_MCC"] == 1
        assert found[("presence",)]["cgF1"] == official["pmF1"]
        assert found[("masks",)]["pmF1"] >= official["pmF1"]  # type: ignore[operator]
