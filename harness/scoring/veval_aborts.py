"""When SA-Co's evaluators abort, each by itself, and how corrected numbers avoid it.

Every function gives the reasons for some input, as `AbortsByKind`: the official numbers are undefined for the first
of them; corrected ones are computed after the repairs, which are named in the warnings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.arrays import Flags, Ints
from harness.scoring.phrase_hota import PresentFrames
from harness.scoring.phrase_overlap import HAS_MASK, HAS_OTHER_SIZE, HAS_PIXELS, UNEQUAL
from harness.scoring.phrase_tracks import NOTHING_ODD, RECORD_FAULTS, RECORDS_SHOWN, PhraseTracks
from harness.scoring.phrase_units import ChosenTruths, PhraseInput, PhraseTruth

NOTHING_PREDICTED = "nothing is predicted, the formulas still hold"
NOTHING_ANNOTATED = "nothing is annotated, the formulas still hold"
OF_MASKS = "boxes and areas are those of the masks"
NO_BOX = "two tracks without a box have an IoU of 0, and annotated ones without any box are left out"
OTHER_SIZES = "masks of another size than the annotated ones count as absent"
SHORT = "frames that a list leaves out at its end count as absent"
SAME_ID = "each annotation of a repeated id stands for itself"
UNREAD = "fields that annotations lack are not needed"
TAGS = "tags are not read"


@dataclass(frozen=True)
class Abort:
    """Why an evaluator aborts, and how often and where first the corrected numbers repair that."""

    reason: str
    count: int
    first: str


AbortsByKind = dict[str, Abort]
"""By repair."""


def aborts_of_loading(given: PhraseInput) -> AbortsByKind:
    """Why the evaluators of cgF1 and of phrase AP abort while they read predictions."""
    tracks = given.tracks
    if not len(tracks.score):
        return {NOTHING_PREDICTED: Abort("there are no predictions (IndexError)", 1, "")}
    without, first_has = ~tracks.boxed, bool(tracks.boxed[0] and tracks.box_length[0] > 0)
    if first_has and not without.any():
        return {}
    if first_has:
        reason = f"{given.where(without)} has no bboxes, though the first record has (KeyError)"
    elif not tracks.no_null.all():
        reason = f"no bboxes, and {given.where(~tracks.no_null)} has a frame without a mask (TypeError)"
    else:
        return {}
    return {OF_MASKS: Abort(reason, max(int(without.sum()), 1), given.where(without))}


def aborts_of_boxes(given: PhraseInput, counted: Flags) -> AbortsByKind:
    """Why the same evaluators abort while they compare the boxes of ``counted (tracks,)`` ones."""
    truth, tracks, found = given.truth, given.tracks, AbortsByKind()
    has_phrase = np.diff(given.chosen.first) > 0
    used = counted & has_phrase[given.units.of_track]
    compared = np.zeros(len(truth.ids), np.bool_)
    has_tracks = np.bincount(given.units.of_track[used], minlength=len(given.units)) > 0
    compared[given.chosen.row] = has_tracks[given.units.of_truth[given.chosen.row]]
    unboxed = compared & ~truth.boxed
    if unboxed.any():
        where = given.where_truth(unboxed)
        found[OF_MASKS] = Abort(f"{where} has no bboxes (KeyError)", int(unboxed.sum()), where)
    uneven = _uneven_units(given, used, compared)
    short = used & uneven[given.units.of_track]
    if short.any():
        where, count = given.where(short), int(short.sum())
        found[SHORT] = Abort(f"{where} is of a pair with lists of bboxes of several lengths (ValueError)", count, where)
    empty = used & (_nothing_in_common(given) > 0)
    if empty.any():
        reason = f"{given.where(empty)} and an annotated track have no box at all (AssertionError)"
        found[NO_BOX] = Abort(reason, int(empty.sum()), given.where(empty))
    negative = used & tracks.negative
    if negative.any():
        reason = f"{given.where(negative)} has a box of negative area (AssertionError)"
        found[NO_BOX] = Abort(reason, int(negative.sum()), given.where(negative))
    return found


def _uneven_units(given: PhraseInput, used: Flags, compared: Flags) -> Flags:
    """Which units have lists of boxes that fit no array: of one length on each side, equal or 1 on one of them."""
    sides = []
    for unit, length in (
        (given.units.of_track[used], given.tracks.box_length[used]),
        (given.units.of_truth[compared], np.diff(given.truth.boxes.first)[compared]),
    ):
        least, most = np.full(len(given.units), np.iinfo(np.int64).max), np.full(len(given.units), -1, np.int64)
        np.minimum.at(least, unit, length)
        np.maximum.at(most, unit, length)
        sides.append((least, most))
    (least_d, most_d), (least_g, most_g) = sides
    both = (most_d >= 0) & (most_g >= 0)
    even = (least_d == most_d) & (least_g == most_g) & ((most_d == most_g) | (most_d == 1) | (most_g == 1))
    uneven: Flags = both & ~even
    return uneven


def _nothing_in_common(given: PhraseInput) -> Ints:
    """With how many truths of its pair each track shares that neither has a box, of those that count."""
    overlaps, truth = given.tracks.overlaps, given.truth
    n = len(given.tracks.score)
    owner = np.repeat(np.arange(n), np.diff(overlaps.offset))
    empty = overlaps.box_union <= 0
    chosen = np.zeros(len(truth.ids), np.bool_)
    chosen[given.chosen.row] = True
    order = truth.arrays.rows  # truths by pair, then in file order, as overlaps have them
    first = truth.arrays.first[given.pair_of_track[owner]] if len(owner) else owner
    at = np.arange(len(owner)) - overlaps.offset[owner]
    counts = empty & chosen[order[first + at]] if len(owner) else empty
    return np.bincount(owner[counts], minlength=n)


def truths_with_boxes(given: PhraseInput) -> ChosenTruths:
    """The chosen truths that have a box of some area."""
    boxes = given.truth.boxes
    owner = np.repeat(np.arange(len(given.truth.ids)), np.diff(boxes.first))
    area = np.bincount(owner, boxes.xywh[:, 2] * boxes.xywh[:, 3], len(given.truth.ids))
    keep = (area > 0)[given.chosen.row]
    first = np.concatenate([[0], np.cumsum(keep)])[given.chosen.first]
    return ChosenTruths(given.chosen.row[keep], first)


def aborts_of_missing_fields(truth: PhraseTruth, fields: tuple[str, ...]) -> AbortsByKind:
    """Why an evaluator aborts that needs these fields in every annotation."""
    for name in fields:
        if name in truth.missing:
            where = truth.missing[name]
            return {UNREAD: Abort(f"{where} has no {name} (KeyError)", 1, where)}
    return {}


def aborts_of_hota(given: PhraseInput, kept: Flags) -> AbortsByKind:
    """Why the evaluator of phrase HOTA aborts; ``kept (tracks,)`` are the tracks that it counts."""
    truth, tracks, found = given.truth, given.tracks, AbortsByKind()
    odd = kept & (tracks.fault != NOTHING_ODD)
    if odd.any():
        where = given.where(odd)
        reason = f"{where} {RECORD_FAULTS[int(tracks.fault[np.argmax(odd)])]}"
        found[OF_MASKS] = Abort(reason, int(odd.sum()), where)
    if truth.challenging:
        found[TAGS if len(truth.ids) else NOTHING_ANNOTATED] = Abort(truth.challenging, 1, truth.path)
    found |= aborts_of_missing_fields(truth, ("iscrowd", "bboxes" if given.box else "areas"))
    used = np.zeros(len(truth.steps), np.bool_)
    used[tracks.video[kept]] = used[truth.arrays.video] = True
    if (used & truth.no_files).any():
        video = truth.arrays.annotations.videos[int(np.argmax(used & truth.no_files))]
        where = f"{truth.path}, video {truth.arrays.annotations.stated_video(video.id)}"
        found[UNREAD] = Abort(f"{where} has no file_names (IndexError)", 1, where)
    short = kept & (np.diff(tracks.overlaps.frame_offset) < truth.steps[tracks.video])
    if short.any():
        where = given.where(short)
        found[SHORT] = Abort(f"{where} has fewer frames than its video (IndexError)", int(short.sum()), where)
    length = np.diff(truth.boxes.first if given.box else truth.arrays.masks.track)
    brief = length < truth.steps[truth.arrays.video]
    if brief.any() and SHORT not in found:
        where = given.where_truth(brief)
        found[SHORT] = Abort(f"{where} has fewer frames than its video (IndexError)", int(brief.sum()), where)
    twice = _twice_at_once(given)
    if twice:
        found[SAME_ID] = Abort(f"{twice} shares its id with another of the same frame (TrackEvalException)", 1, twice)
    if not given.box:
        unequal = _unequal(given, kept)
        if unequal.any():
            reason = f"{given.where(unequal)} has a mask of another size over an annotated one (AssertionError)"
            found[OTHER_SIZES] = Abort(reason, int(unequal.sum()), given.where(unequal))
    return found


def _unequal(given: PhraseInput, kept: Flags) -> Flags:
    """Which kept tracks are there in a frame in which a mask of another size overlaps theirs."""
    overlaps, n = given.tracks.overlaps, len(given.tracks.score)
    at = np.flatnonzero(overlaps.similarity == UNEQUAL)
    owner = np.searchsorted(overlaps.step_offset, at, side="right") - 1
    frame = (at - overlaps.step_offset[owner]) // np.maximum(np.diff(overlaps.offset)[owner], 1)
    shown = overlaps.frames[overlaps.frame_offset[owner] + frame] & RECORDS_SHOWN > 0
    return kept & (np.bincount(owner[shown], minlength=n) > 0)


def _twice_at_once(given: PhraseInput) -> str:
    """The first annotation that shares its id, its pair and a frame with another; empty if there is none."""
    truth, there = given.truth, frames_of_truths(given.truth, given.box)
    key = list(zip(given.units.of_truth.tolist(), truth.ids.tolist(), strict=True))
    seen: dict[tuple[int, int], list[int]] = {}
    for row, one in enumerate(key):
        seen.setdefault(one, []).append(row)
    for rows in seen.values():
        if len(rows) > 1:
            length = max(int(there.first[r + 1] - there.first[r]) for r in rows)
            count = np.zeros(length, np.int64)
            for row in rows:
                mine = there.there[there.first[row] : there.first[row + 1]]
                count[: len(mine)] += mine
            if (count > 1).any():
                return f"{truth.path}, annotation {truth.ids[rows[1]]}"
    return ""


def frames_of_tracks(tracks: PhraseTracks, box: bool, found: AbortsByKind) -> PresentFrames:
    """In which frames tracks are there for HOTA, after the repairs of what was ``found``."""
    bits, first = tracks.overlaps.frames, tracks.overlaps.frame_offset
    shown = (bits & RECORDS_SHOWN > 0) & (box | (bits & HAS_MASK > 0))
    if OF_MASKS in found:
        odd = np.repeat(tracks.fault != NOTHING_ODD, np.diff(first))
        shown = np.where(odd, bits & HAS_PIXELS > 0, shown)
    if OTHER_SIZES in found:
        shown &= bits & HAS_OTHER_SIZE == 0
    return PresentFrames(first, shown)


def frames_of_truths(truth: PhraseTruth, box: bool) -> PresentFrames:
    """In which frames annotated tracks are there for HOTA: where a mask is listed, even an empty one, or a box."""
    if box:
        return PresentFrames(truth.boxes.first, truth.boxes.there)
    return PresentFrames(truth.arrays.masks.track, truth.arrays.masks.frame_mask >= 0)


def identities(truth: PhraseTruth, of_truth: Ints, apart: bool) -> Ints:
    """Numbers of annotated objects ``(truths,)`` within their unit by ascending id, from 0; annotations of one id are
    one object, unless they are kept ``apart``."""
    order = np.lexsort((np.arange(len(of_truth)), truth.ids, of_truth))
    unit, ids = of_truth[order], truth.ids[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (unit[1:] != unit[:-1]) | (ids[1:] != ids[:-1]) | apart
    first = np.flatnonzero(np.diff(unit, prepend=-1))
    number = np.cumsum(new) - 1
    number -= np.repeat(number[first], np.diff(np.append(first, len(order))))
    out = np.empty(len(order), np.int64)
    out[order] = number
    return out
