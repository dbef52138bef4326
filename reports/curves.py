"""Precision-recall curves, and the quality of predictions per video."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.arrays import Floats
from harness.errors import UserError
from harness.run_folder.store import PredictionStore
from harness.scoring.from_store import read_shards
from harness.scoring.match import RECALL_POINTS
from harness.scoring.match_table import MatchTable, precision_over_recall
from harness.scoring.metrics import GROUP_NAMES
from harness.scoring.overlap import GroundTruthArrays, MaskRules, Overlaps, concatenate, overlap
from harness.scoring.protocols import ApProtocol, get_protocol
from harness.scoring.score import in_parallel
from harness.scoring.shard_reader import ShardReader
from harness.types import Dataset
from harness.warnings import Warnings

PANELS = {
    "IoU 0.50 to 0.95 (AP)": slice(None),
    "IoU 0.50 (AP50)": slice(0, 1),
    "IoU 0.75 (AP75)": slice(5, 6),
}
"""The IoU thresholds that a curve is averaged over; the area under it is the metric in brackets."""


@dataclass(frozen=True)
class Curve:
    """Precision at the 101 recall points, averaged over the categories of ``group`` that have truth.

    ``panel`` is one of `PANELS`; ``points`` are ``(recall, precision)``, both fractions.
    """

    group: str
    panel: str
    points: tuple[tuple[float, float], ...]


def curves(table: MatchTable) -> list[Curve]:
    """The curves of a run over all categories and over each group, one for each of `PANELS`."""
    groups = {"all": None, **{GROUP_NAMES[suffix]: rows for suffix, rows in table.groups.items() if len(rows)}}
    recall = RECALL_POINTS.tolist()
    made = []
    for group, rows in groups.items():
        precision = precision_over_recall(table, rows)
        for panel, thresholds in PANELS.items():
            points = zip(recall, precision[thresholds].mean(0).tolist(), strict=True)
            made.append(Curve(group, panel, tuple(points)))
    return made


def video_quality(dataset: Dataset, store: PredictionStore, videos: Iterable[int] | None = None) -> dict[int, float]:
    """Return the quality of each video in ``[0, 1]``: the mean IoU of its objects with their best tracks.

    Only tracks of the right category count, with any score. Videos without annotated objects are left out; ``videos``
    restricts the result to these ids. Raises `UserError` if the truth is withheld or nothing was predicted, and for a
    damaged shard.
    """
    truths = GroundTruthArrays(dataset.annotations if videos is None else dataset.annotations.restrict(videos))
    return _by_video(truths, _overlaps(get_protocol(dataset.protocol), truths, store))


def _overlaps(protocol: ApProtocol, truths: GroundTruthArrays, store: PredictionStore) -> Overlaps:
    quirks = protocol.quirks
    rules = (MaskRules(quirks.shorter_list_wins, quirks.wrong_size_vanishes),)

    def work(group: Any) -> Overlaps:
        batch = read_shards(group, truths, store.folder, Warnings(False))
        return overlap(truths, batch, rules, 0.0, str(store.folder))

    parts = list(in_parallel(work, ShardReader(store)))
    if not parts:
        raise UserError(str(store.folder), "holds no predictions", "run the model first")
    return concatenate(parts)


def _by_video(truths: GroundTruthArrays, overlaps: Overlaps) -> dict[int, float]:
    best: Floats = np.zeros(len(truths.video))
    counts = np.diff(overlaps.offset)
    track = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(track)) - np.repeat(overlaps.offset[:-1], counts)
    pair = truths.pair_of(overlaps.video[track], overlaps.category[track])
    union = overlaps.union[0]
    iou = np.divide(overlaps.intersection, union, out=np.zeros(len(union)), where=union > 0)
    np.maximum.at(best, truths.rows[truths.first[pair] + place], iou)
    total = np.bincount(truths.video, best, len(truths.video_ids))
    count = np.bincount(truths.video, minlength=len(truths.video_ids))
    return {int(truths.video_ids[v]): float(total[v] / count[v]) for v in np.flatnonzero(count)}
