"""Gaps and repetitions in predictions: videos without any, repeated tracks, tracks beyond the cap.

The official tools do not report them, and their numbers look normal. Here each is a counted warning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.arrays import Ints
from harness.scoring.average_precision import CAPS
from harness.scoring.overlap import GroundTruthArrays, Overlaps
from harness.scoring.protocols import ApProtocol
from harness.warnings import Warnings

if TYPE_CHECKING:
    from harness.scoring.burst_tracks import BurstPredictions as BurstFound
    from harness.scoring.burst_tracks import BurstTruth as BurstTruth

NO_PREDICTION = "video without any prediction"
NOTHING_FOUND = "video in which the model found nothing"
TWIN = "track repeated with the same video, category, score and masks"
BEYOND_CAP = "track beyond the best {} of its {}, not counted"

Place = Callable[[int], str]
"""Names a record by its number: file and record, or folder, video and track."""
MaskDigests = Callable[[Overlaps, Ints], list[bytes]]
"""Digests of the masks of some tracks, in the order of their records: equal for equal masks."""


def warn_of_empty_videos(
    truths: GroundTruthArrays, predicted: NDArray[np.bool_], looked_at: Collection[int], warnings: Warnings
) -> None:
    """Count the videos that are not ``predicted (videos,)``.

    ``looked_at`` are ids of videos that a model is known to have run on: finding nothing there is a result and never
    an error, even if warnings are strict.
    """
    empty = truths.video_ids[~predicted].tolist()
    path, stated = truths.annotations.path, truths.annotations.stated_video
    found_nothing = [video for video in empty if video in looked_at]
    skipped = [video for video in empty if video not in looked_at]
    if found_nothing:
        warnings.tell(NOTHING_FOUND, f"{path}, video {stated(found_nothing[0])}", len(found_nothing))
    if skipped:
        warnings.add(NO_PREDICTION, f"{path}, video {stated(skipped[0])}", len(skipped))


def warn_of_cap(
    chosen: ApProtocol, truths: GroundTruthArrays, overlaps: Overlaps, place: Place, warnings: Warnings
) -> None:
    """Count the tracks that the protocol's cap leaves out."""
    per_category, most = chosen.quirks.cap_per_category, max(CAPS)
    key = overlaps.video * len(truths.category_ids) + overlaps.category if per_category else overlaps.video
    crowded, pair = _shared(key, most)
    if not len(crowded):
        return
    order = np.lexsort((-overlaps.score[crowded], pair))
    first = np.flatnonzero(np.diff(pair[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    beyond = crowded[order[rank >= most]]
    kind = BEYOND_CAP.format(most, "video and category" if per_category else "video")
    warnings.add(kind, place(int(overlaps.record[beyond.min()])), len(beyond))


def _shared(key: Ints, most: int) -> tuple[Ints, Ints]:
    """Positions of the values that occur more than ``most`` times, ascending, and for each a number of its value."""
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=key[order[:1]] - 1))
    count = np.diff(np.append(first, len(key)))
    number = np.full(len(key), -1, np.int64)
    number[order] = np.repeat(np.where(count > most, np.arange(len(first)), -1), count)
    places = np.flatnonzero(number >= 0)
    return places, number[places]


def warn_of_twins(overlaps: Overlaps, place: Place, mask_digests: MaskDigests, warnings: Warnings) -> None:
    """Count the tracks that repeat another one.

    Tracks without a pixel do not count as repeated: models with a fixed number of tracks give several of score 0. In a
    results file areas are known only for categories with truth. Masks are compared only for tracks that agree in
    everything else.
    """
    shown = np.flatnonzero(overlaps.area_sum[0] > 0)
    places, _ = _shared(_mixed(overlaps)[shown], 1)
    if not len(places):
        return
    alike = shown[places]
    seen: set[tuple[int, int, float, bytes]] = set()
    twins = []
    for track, digest in zip(alike.tolist(), mask_digests(overlaps, alike), strict=True):
        key = (int(overlaps.video[track]), int(overlaps.category[track]), float(overlaps.score[track]), digest)
        if key in seen:
            twins.append(track)
        seen.add(key)
    if twins:
        warnings.add(TWIN, place(int(overlaps.record[twins[0]])), len(twins))


def _mixed(overlaps: Overlaps) -> Ints:
    """One number per track, the same for tracks with the same video, category, score, areas and size of their masks'
    text; other tracks may share it by chance."""
    columns = (
        overlaps.video,
        overlaps.category,
        (overlaps.score + 0.0).view(np.int64),
        overlaps.area_sum[0],
        overlaps.text,
    )
    mixed = np.zeros(len(overlaps.score), np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed.view(np.int64)


def warn_of_burst_coverage(truth: BurstTruth, found: BurstFound, exemplar: bool, warnings: Warnings) -> None:
    """The same for predictions in BURST's form; its cap on masks per image is reported where it is applied.

    A sequence listed without masks counts as one without predictions. With ``exemplar`` only sequences with annotated
    objects need predictions, and tracks, each of which is named by an exemplar, are not compared.
    """
    named = {name for _, name, masks in found.sequences if masks}
    looked_at = {name for _, name, _ in found.sequences} - named if found.lists_empty else set()
    with_truth = set(truth.video_of[truth.frame].tolist())
    empty = [
        video.name
        for at, video in enumerate(truth.videos)
        if video.name not in named and (at in with_truth or not exemplar)
    ]
    missing = [name for name in empty if name not in looked_at]
    if len(missing) < len(empty):
        first = next(name for name in empty if name in looked_at)
        warnings.tell(NOTHING_FOUND, f"{found.path}, {truth.split}-{first}", len(empty) - len(missing))
    if missing:
        warnings.add(NO_PREDICTION, f"{found.path}, {truth.split}-{missing[0]}", len(missing))
    if not exemplar and found.twins:
        warnings.add(TWIN, found.twins[0], len(found.twins))
