"""Which truth every track takes at every IoU threshold, by the rules that `average_precision.evaluate` counts by."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from harness.arrays import Flags, Ints
from harness.scoring.average_precision import CAPS, Range, TruthSelection, rank_tracks
from harness.scoring.match import IOU_THRESHOLDS, match_tracks
from harness.scoring.overlap import GroundTruthArrays, Overlaps
from harness.scoring.quirks import Quirks


@dataclass(frozen=True)
class MatchedTracks:
    """The tracks within the cap, by (category, video, descending score), and the truths by (category, video).

    ``track (tracks,)`` are rows of the overlaps; ``row (truths,)`` rows of the annotations, of which the ``positive``
    ones count. ``taken (IoU thresholds, tracks)`` is the position in ``row`` of the truth that a track takes, or
    -1; ``hit`` and ``miss`` tell how it counts: as neither where it takes an ignored truth. Tracks of a category
    without truth are not misses but ``free (tracks,)``.
    """

    track: Ints
    free: Flags
    row: Ints
    positive: Flags
    taken: NDArray[np.int32]
    hit: Flags
    miss: Flags


def matched_tracks(
    truths: GroundTruthArrays, selection: TruthSelection, overlaps: Overlaps, rules: int, quirks: Quirks, bounds: Range
) -> MatchedTracks:
    """Match in the range ``bounds``, which leaves out no track; ``rules`` is the row of ``overlaps`` to use."""
    n_videos = len(truths.video_ids)
    entry = np.lexsort((np.arange(len(selection.row)), truths.video[selection.row], truths.category[selection.row]))
    row = selection.row[entry]
    iou = np.zeros(len(overlaps.intersection))
    np.divide(overlaps.intersection, overlaps.union[rules], out=iou, where=overlaps.union[rules] > 0)
    track, rank = rank_tracks(overlaps, iou, np.arange(len(overlaps.score)), quirks)
    track = track[rank < max(CAPS)]
    free = np.bincount(truths.category[row], minlength=len(truths.category_ids))[overlaps.category[track]] == 0
    track_key = overlaps.category[track] * n_videos + overlaps.video[track]
    truth_key = truths.category[row] * n_videos + truths.video[row]
    keys = np.unique(truth_key)
    shape = (len(IOU_THRESHOLDS), len(track))
    taken, hit, miss = np.full(shape, -1, np.int32), np.zeros(shape, np.bool_), np.tile(~free, (shape[0], 1))
    value = selection.quantities[bounds.quantity][entry]
    ignored = selection.ignored[entry] | (value < bounds.low) | (value > bounds.high)
    _match_pairs(
        np.searchsorted(track_key, keys), np.searchsorted(track_key, keys, side="right"),
        np.append(np.searchsorted(truth_key, keys), len(row)), overlaps.offset[track], iou, truths.local[row],
        ignored, selection.reusable[entry], selection.unseen[entry], IOU_THRESHOLDS, taken, hit, miss,
    )  # fmt: skip
    return MatchedTracks(track, free, row, ~ignored, taken, hit, miss)


@numba.njit(cache=True, nogil=True)
def _match_pairs(tracks_from, tracks_to, pair_truths, iou_offset, iou, local, ignored, reusable, unseen, thresholds,
                 taken, hit, miss):  # fmt: skip
    for p in range(len(tracks_from)):
        d0, d1, g0, g1 = tracks_from[p], tracks_to[p], pair_truths[p], pair_truths[p + 1]
        ious = np.zeros((d1 - d0, g1 - g0))
        for d in range(d0, d1):
            for g in range(g0, g1):
                ious[d - d0, g - g0] = iou[iou_offset[d] + local[g]]
        track_match = np.empty((len(thresholds), d1 - d0), np.int64)
        truth_match = np.empty((len(thresholds), g1 - g0), np.int64)
        match_tracks(ious, ignored[g0:g1], reusable[g0:g1], thresholds, track_match, truth_match)
        for t in range(len(thresholds)):
            for d in range(d0, d1):
                g = track_match[t, d - d0]
                if g < 0:
                    continue
                taken[t, d] = g0 + g
                hit[t, d] = not ignored[g0 + g] and not unseen[g0 + g]
                miss[t, d] = not ignored[g0 + g] and unseen[g0 + g]
