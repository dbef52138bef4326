"""What a run's predictions give beyond its metrics: precision over recall, and how well each video was done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.scoring.from_store import Shards, read_shards
from harness.scoring.match import RECALL_POINTS
from harness.scoring.metrics import GROUP_NAMES
from harness.scoring.overlap import Floats, MaskRules, Overlaps, Truths, concatenate, overlap
from harness.scoring.protocols import Protocol, named
from harness.scoring.score import curves_of, in_parallel
from harness.store import PredictionStore
from harness.types import Dataset
from harness.warnings import Warnings

MEAN = "mean"
"""The curve averaged over the IoU thresholds 0.50 to 0.95: its mean is AP."""
_THRESHOLDS = {MEAN: slice(None), "0.50": slice(0, 1), "0.75": slice(5, 6)}


@dataclass(frozen=True)
class Curve:
    """Precision at the 101 recall points, averaged over the categories of ``group`` that have truth."""

    group: str
    threshold: str
    precision: tuple[float, ...]

    def points(self) -> list[tuple[float, float]]:
        """``(recall, precision)``, both fractions."""
        return list(zip(RECALL_POINTS.tolist(), self.precision, strict=True))


@dataclass(frozen=True)
class Quality:
    """What a store's predictions are worth: curves by group and threshold, and ``by_video`` in ``[0, 1]``.

    A video's quality is the mean, over its annotated objects, of the IoU with the best track of the right category.
    Videos without annotated objects have none.
    """

    curves: tuple[Curve, ...]
    by_video: dict[int, float]


def quality(dataset: Dataset, store: PredictionStore, videos: Iterable[int] | None = None) -> Quality:
    """Measure a store against the truth of ``dataset``, over ``videos`` only if they are given.

    Raises `UserError` where the truth is withheld, for a damaged shard, and where nothing was predicted.
    """
    protocol = named(dataset.protocol)
    truths = Truths(dataset.annotations if videos is None else dataset.annotations.restrict(videos))
    overlaps = _overlaps(protocol, truths, store)
    curves = curves_of(protocol, truths, overlaps, 0, by_length=False)
    everything = next(i for i, bounds in enumerate(curves.ranges) if bounds.name == "all")
    precision = curves.precision[:, :, :, everything, -1]
    defined = curves.positives[:, everything] > 0
    ids = truths.category_ids[curves.category]
    members = {"all": defined}
    for suffix, group in protocol.groups(truths.annotations.categories).items():
        members[GROUP_NAMES[suffix]] = defined & np.isin(ids, group)
    made = [
        Curve(group, name, tuple(precision[chosen][:, :, rows].mean((0, 2)).tolist()))
        for group, rows in members.items()
        for name, chosen in _THRESHOLDS.items()
        if rows.any()
    ]
    return Quality(tuple(made), _by_video(truths, overlaps))


def _overlaps(protocol: Protocol, truths: Truths, store: PredictionStore) -> Overlaps:
    quirks = protocol.quirks
    rules = (MaskRules(quirks.shorter_list_wins, quirks.wrong_size_vanishes),)

    def work(group: Any) -> Overlaps:
        batch = read_shards(group, truths, store.folder, Warnings(False))
        return overlap(truths, batch, rules, 0.0, str(store.folder))

    parts = list(in_parallel(work, Shards(store)))
    if not parts:
        raise UserError(str(store.folder), "holds no predictions", "run the model first")
    return concatenate(parts)


def _by_video(truths: Truths, overlaps: Overlaps) -> dict[int, float]:
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
