"""Which kind of error a wrong track is: rules modelled on TIDE (Bolya et al., ECCV 2020), extended to video.

The rules, their order and the two thresholds are explained with pictures in ``docs/error-analysis.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from harness.arrays import Flags, Floats, Ints
from harness.scoring.class_agnostic_overlap import TrackTruthOverlaps
from harness.scoring.matched_tracks import MatchedTracks
from harness.scoring.overlap import GroundTruthArrays, Overlaps

CLASSIFICATION = "classification"
LOCALISATION = "localisation"
IDENTITY = "identity"
TEMPORAL = "temporal extent"
BOTH = "both"
DUPLICATE = "duplicate"
BACKGROUND = "background"
MISSED = "missed"
KINDS = (CLASSIFICATION, LOCALISATION, IDENTITY, TEMPORAL, BOTH, DUPLICATE, BACKGROUND, MISSED)
"""All kinds, in the order in which they are shown. `MISSED` is of truths, the others are of tracks."""
CLAIMING = (CLASSIFICATION, LOCALISATION, IDENTITY, TEMPORAL)
"""Kinds whose repair turns a track into a hit."""
CODE = {kind: code for code, kind in enumerate(KINDS)}
NO_ERROR = -1

BACKGROUND_IOU = 0.1
"""TIDE's background threshold: from this IoU over the whole video on, a track is about an object."""


@dataclass(frozen=True)
class Evidence:
    """Tracks of `MatchedTracks`, in its order, each against the truths that may be found in its video.

    Track ``i`` has the pairs ``first[i]:first[i + 1]`` of the arrays ``(pairs,)``: ``owner`` is ``i`` itself,
    ``truth`` the row of the annotations, ``own`` whether it has the track's category. IoUs: ``tube`` over the whole
    video, ``spatial`` over the frames in which both are seen, ``best_match`` as if identity switches did
    not count (see `TrackTruthOverlaps`; 0 where it never follows this truth). ``union`` is the tube's, in pixels.

    ``peers (tracks, 2)`` are begin and end of the tracks of the same video and category.
    """

    track_overlaps: TrackTruthOverlaps
    track: Ints
    first: Ints
    owner: Ints
    truth: Ints
    own: Flags
    tube: Floats
    spatial: Floats
    best_match: Floats
    intersection: Ints
    union: Ints
    peers: Ints
    truth_pixels: Ints
    """Area of each annotated track over all frames, ``(annotations,)``."""


class Kinds(NamedTuple):
    """Per track: code of its kind in `KINDS` (`NO_ERROR`: none) and the row of the truth it is about, or -1."""

    code: Ints
    truth: Ints


def collect(
    truths: GroundTruthArrays, matched: MatchedTracks, overlaps: Overlaps, track_overlaps: TrackTruthOverlaps
) -> Evidence:
    """Compute the quantities that the rules use."""
    track = matched.track
    counts = np.diff(track_overlaps.offset)[track]
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    owner = np.repeat(np.arange(len(track)), counts)
    pair = np.arange(first[-1]) + np.repeat(track_overlaps.offset[track] - first[:-1], counts)
    truth, intersection, union = (
        track_overlaps.truth[pair],
        track_overlaps.intersection[pair],
        track_overlaps.union[pair],
    )
    own = truths.category[truth] == overlaps.category[track][owner]
    group = overlaps.category[track] * len(truths.video_ids) + overlaps.video[track]
    peers = np.stack([np.searchsorted(group, group), np.searchsorted(group, group, side="right")], 1)
    masks = truths.masks
    present = masks.frame_mask >= 0
    best_match = _ratio(track_overlaps.best_match[track][owner], track_overlaps.best_match_union[pair])
    total = np.concatenate([[0], np.cumsum(np.where(present, np.append(truths.area, 0)[masks.frame_mask], 0))])
    return Evidence(
        track_overlaps,
        track,
        first,
        owner,
        truth,
        own,
        tube=_ratio(intersection, union),
        spatial=_ratio(intersection, track_overlaps.shared[pair]),
        best_match=np.where(track_overlaps.frames[pair] > 0, best_match, 0.0),
        intersection=intersection,
        union=union,
        peers=peers,
        truth_pixels=total[masks.track[1:]] - total[masks.track[:-1]],
    )


def _ratio(part: Ints, whole: Ints) -> Floats:
    out = np.zeros(len(part))
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def kinds_at(evidence: Evidence, wrong: Flags, iou_threshold: float) -> Kinds:
    """The kind of every ``wrong (tracks,)`` track at an IoU threshold; later rules here take precedence."""
    own, tube, spatial = evidence.own, evidence.tube, evidence.spatial
    hits = tube >= min(iou_threshold, 1 - 1e-10)  # as match_tracks compares
    spatial_hits = spatial >= iou_threshold
    about = (tube >= BACKGROUND_IOU) | spatial_hits
    code = np.where(wrong, CODE[BACKGROUND], NO_ERROR)
    truth = np.full(len(wrong), -1, np.int64)

    def rule(pairs: Flags, kind: str | Ints) -> None:
        """Assign a kind to tracks with these pairs, and the truth of the pair with the largest IoU."""
        best = _best_pairs(evidence, pairs & wrong[evidence.owner])
        owner = evidence.owner[best]
        code[owner] = CODE[kind] if isinstance(kind, str) else kind[best]
        truth[owner] = evidence.truth[best]

    rule(~own & about, BOTH)
    rule(~own & hits, CLASSIFICATION)
    mine = own & about & wrong[evidence.owner]
    of_pair = np.where(spatial_hits, CODE[TEMPORAL], CODE[LOCALISATION])
    of_pair[mine & spatial_hits & _fragments(evidence, mine & spatial_hits, iou_threshold)] = CODE[IDENTITY]
    of_pair[evidence.best_match >= iou_threshold] = CODE[IDENTITY]
    rule(mine, of_pair)
    rule(own & hits, DUPLICATE)
    return Kinds(code, truth)


def _best_pairs(evidence: Evidence, pairs: Flags) -> Ints:
    """Of each track that has any of ``pairs``, the one with the largest tube IoU; the first of equals."""
    chosen = np.flatnonzero(pairs)
    order = chosen[np.lexsort((chosen, -evidence.tube[chosen], evidence.owner[chosen]))]
    return order[np.flatnonzero(np.diff(evidence.owner[order], prepend=-1))]


def _fragments(evidence: Evidence, pairs: Flags, iou_threshold: float) -> Flags:
    """Which of ``pairs`` are pieces of a broken track: joined with other pieces they reach the threshold."""
    out = np.zeros(len(pairs), np.bool_)
    _join(
        np.flatnonzero(pairs), evidence.owner, evidence.first, evidence.truth, evidence.peers, evidence.track,
        evidence.spatial, evidence.intersection, evidence.union, evidence.truth_pixels, evidence.track_overlaps.frame,
        evidence.track_overlaps.seen, iou_threshold, out,
    )  # fmt: skip
    return out


@numba.njit(cache=True, nogil=True)
def _join(pairs, owner, first, truth, peers, track, spatial, intersection, union, truth_pixels, frame, seen,
          threshold, out):  # fmt: skip
    """Join to each pair's track, by descending score, those of its video and category that are right on the same
    truth and are seen in none of the frames in which it, and those joined before, are seen."""
    for pair in pairs:
        i = owner[pair]
        place = pair - first[i]  # all tracks of a video are compared with the same truths in the same order
        taken = seen[frame[track[i]] : frame[track[i] + 1]].copy()
        common, joint = intersection[pair], union[pair]
        for j in range(peers[i, 0], peers[i, 1]):
            other = first[j] + place
            if j == i or spatial[other] < threshold:
                continue
            frames = seen[frame[track[j]] : frame[track[j] + 1]]
            if len(frames) != len(taken) or (frames & taken).any():
                continue
            taken |= frames
            common += intersection[other]
            joint += union[other] - truth_pixels[truth[pair]]
            out[pair] = out[pair] or common >= threshold * joint
