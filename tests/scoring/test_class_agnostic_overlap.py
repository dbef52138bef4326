"""Overlaps with truths of any category, frame by frame beside plain pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analysis_scenes import CAT, DOG, HEIGHT, WIDTH, YAK, Box, Thing, annotated, pixels, stored

from harness.errors import UserError
from harness.formats.youtube_vis import Annotations
from harness.run_folder.store import PredictionStore
from harness.scoring.class_agnostic_overlap import TrackTruthOverlaps, compute_overlaps, concatenate_track_overlaps
from harness.scoring.from_store import read_shards
from harness.scoring.overlap import GroundTruthArrays, MaskRules, TrackBatch
from harness.scoring.shard_reader import ShardReader
from harness.warnings import Warnings

RULES = MaskRules(True, True)
FRAMES, VIDEOS = 5, 3


def some_boxes(rng: np.random.Generator) -> list[Box | None]:
    """Boxes that cross each other, some of them empty, some frames without one."""
    out: list[Box | None] = []
    for _ in range(FRAMES):
        left, top = rng.integers(0, WIDTH // 2), rng.integers(0, HEIGHT // 2)
        right, bottom = left + rng.integers(0, WIDTH // 2), top + rng.integers(0, HEIGHT // 2)
        out.append(None if rng.random() < 0.3 else (int(left), int(top), int(right), int(bottom)))
    return out


def batches(annotations: Annotations, store: PredictionStore) -> tuple[GroundTruthArrays, TrackBatch]:
    truths = GroundTruthArrays(annotations)
    (group,) = ShardReader(store)
    return truths, read_shards(group, truths, store.folder, Warnings(False), every_mask=True)


def by_pixels(track: Thing, truths: list[Thing], main: Thing) -> dict[str, int]:
    """What `TrackTruthOverlaps` holds of one pair."""
    sums = dict.fromkeys(("intersection", "union", "shared", "frames", "best_match_union", "best_match"), 0)
    for f in range(FRAMES):
        mine, wanted = pixels(track.boxes[f]), pixels(main.boxes[f])
        sums["intersection"] += int((mine & wanted).sum())
        sums["union"] += int((mine | wanted).sum())
        if mine.any() and wanted.any():
            sums["shared"] += int((mine | wanted).sum())
        others = [pixels(t.boxes[f]) for t in truths]
        ious = [(mine & o).sum() / max((mine | o).sum(), 1) for o in others]
        best = int(np.argmax(ious))
        if ious[best] > 0:
            sums["frames"] += truths[best] is main
            sums["best_match"] += int((mine & others[best]).sum())
            sums["best_match_union"] += int((mine | others[best]).sum())
        else:
            sums["best_match_union"] += int((mine | wanted).sum())
    return sums


@pytest.mark.parametrize("seed", range(4))
def test_the_same_as_plain_pixels(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    categories = (CAT, DOG, YAK)
    # the last video has no truth
    things = [Thing(categories[i % 3], some_boxes(rng), 1.0, 1 + i % 2) for i in range(6)]
    tracks = [Thing(categories[i % 3], some_boxes(rng), 0.5, 1 + i % VIDEOS) for i in range(12)]
    tracks.append(tracks[0]._replace(category=DOG))  # identical masks under another category
    annotations = annotated(things, VIDEOS, FRAMES)
    truths, batch = batches(annotations, stored(tmp_path, annotations, tracks))
    overlaps = compute_overlaps(truths, np.arange(len(things)), batch, RULES, "store")
    in_order = sorted(tracks, key=lambda t: t.video)
    for i, track in enumerate(in_order):
        here = [t for t in things if t.video == track.video]
        pairs = range(overlaps.offset[i], overlaps.offset[i + 1])
        assert [things[row] for row in overlaps.truth[pairs.start : pairs.stop]] == here
        for pair, main in zip(pairs, here, strict=True):
            expected = by_pixels(track, here, main)
            assert overlaps.best_match[i] == expected.pop("best_match")
            assert {name: int(getattr(overlaps, name)[pair]) for name in expected} == expected
        seen = overlaps.seen[overlaps.frame[i] : overlaps.frame[i + 1]]
        assert seen.tolist() == [bool(pixels(box).any()) for box in track.boxes]


def test_only_chosen_truths_are_met(tmp_path: Path) -> None:
    everywhere: list[Box | None] = [(0, 0, 10, 10)] * FRAMES
    things = [Thing(CAT, everywhere), Thing(DOG, everywhere)]
    annotations = annotated(things, 1, FRAMES)
    truths, batch = batches(annotations, stored(tmp_path, annotations, [Thing(YAK, everywhere)]))
    assert compute_overlaps(truths, np.array([1]), batch, RULES, "store").truth.tolist() == [1]


def test_batches_are_joined_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    annotations = annotated([Thing(CAT, some_boxes(rng)), Thing(DOG, some_boxes(rng))], 1, FRAMES)
    tracks = [Thing(CAT, some_boxes(rng)) for _ in range(3)]
    truths, batch = batches(annotations, stored(tmp_path, annotations, tracks))
    overlaps = compute_overlaps(truths, np.arange(2), batch, RULES, "store")
    twice: TrackTruthOverlaps = concatenate_track_overlaps([overlaps, overlaps])
    assert twice.offset.tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert twice.frame.tolist() == list(range(0, 6 * FRAMES + 1, FRAMES))
    assert twice.union.tolist() == overlaps.union.tolist() * 2


def test_faulty_masks_are_named(tmp_path: Path) -> None:
    annotations = annotated([Thing(CAT, [(0, 0, 5, 5)] * FRAMES)], 1, FRAMES)
    truths, batch = batches(annotations, stored(tmp_path, annotations, [Thing(CAT, [(0, 0, 5, 5)] * FRAMES)]))
    masks = replace(batch.masks, data=np.full_like(batch.masks.data, ord("!")))
    with pytest.raises(UserError, match=r"store, record .*, frame 0: counts are not"):
        compute_overlaps(truths, np.arange(1), replace(batch, masks=masks), RULES, "store")
