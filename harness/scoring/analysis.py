"""The analysis of one run: errors by kind, slices of the truth, calibration of scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from harness.arrays import Floats, Ints
from harness.errors import UserError
from harness.formats.youtube_vis import Annotations
from harness.scoring import class_agnostic_overlap
from harness.scoring.calibration import Calibration, calibration
from harness.scoring.class_agnostic_overlap import TrackTruthOverlaps, compute_overlaps
from harness.scoring.error_kinds import KINDS, collect
from harness.scoring.errors_breakdown import Breakdown, ErrorAssignment, break_down
from harness.scoring.from_store import read_shards, row_of_record
from harness.scoring.matched_tracks import MatchedTracks, matched_tracks
from harness.scoring.metrics import GROUP_NAMES
from harness.scoring.overlap import GroundTruthArrays, MaskRules, Overlaps, concatenate, overlap
from harness.scoring.protocols import ApProtocol, get_protocol
from harness.scoring.score import LOWEST_THRESHOLD, in_parallel, select, usable_protocol
from harness.scoring.shard_reader import ShardGroup, ShardReader, ShardStore
from harness.scoring.slices import Slicing, slice_truth
from harness.scoring.track_shape import consistency
from harness.warnings import Warnings

HIT, IGNORED = "hit", "ignored"


@dataclass(frozen=True)
class Verdicts:
    """The outcome of every scored track at IoU 0.5, by ascending video id and row: one entry per track in each field.

    ``track`` is the row in the video's shard. ``kind`` is one of `errors_breakdown.KINDS`, ``"hit"``, or
    ``"ignored"``. ``truth_id`` is the annotation that the track matches or that its error concerns, ``None`` for
    background. ``category_id`` and ``score`` are those of the track.
    """

    video_id: tuple[int, ...]
    track: tuple[int, ...]
    kind: tuple[str, ...]
    truth_id: tuple[int | None, ...]
    category_id: tuple[int, ...]
    score: tuple[float, ...]

    def of_video(self, video_id: int) -> dict[int, tuple[str, int | None]]:
        """Return kind and truth id by row of the video's shard; tracks beyond the protocol's limit are missing."""
        rows = [i for i, v in enumerate(self.video_id) if v == video_id]
        return {self.track[i]: (self.kind[i], self.truth_id[i]) for i in rows}


@dataclass(frozen=True)
class Analysis:
    """The analysis of a run: errors, slices and calibration.

    ``slices`` are by name: ``area``, ``track length``, ``objects``, ``motion``, ``occlusion`` (if it is annotated) or
    else ``density``, ``category frequency``, ``groups`` (if there are any). ``calibration`` is by group of categories:
    ``all``, ``base``, ``novel``, ...
    """

    protocol: str
    protocol_version: str
    errors: Breakdown
    slices: dict[str, Slicing]
    calibration: dict[str, Calibration]
    verdicts: Verdicts

    def record(self) -> dict[str, Any]:
        """Return the analysis as data for JSON, without the outcomes of single tracks and the members of slices."""
        slices = {name: replace(one, members={}) for name, one in self.slices.items()}
        data = asdict(replace(self, slices=slices))
        del data["verdicts"]
        for one in data["slices"].values():
            del one["members"]
        return data


def analyse(
    protocol: str | ApProtocol, annotations: Annotations, store: ShardStore, videos: Iterable[int] | None = None
) -> Analysis:
    """Analyse the predictions in a store; ``videos`` restricts truth and predictions to these ids.

    Where the official tool aborts on the truth, it is analysed by the corrected protocol, and the analysis says so.
    Raises `UserError` as `harness.scoring.score.score_store` does.
    """
    truths = GroundTruthArrays(annotations if videos is None else annotations.restrict(videos))
    chosen = usable_protocol(get_protocol(protocol), truths)
    selection = select(chosen, truths)
    overlaps, track_overlaps, motion = _read(chosen, truths, np.unique(selection.row[~selection.ignored]), store)
    matched = matched_tracks(truths, selection, overlaps, 0, chosen.quirks, chosen.ranges[0])
    evidence = collect(truths, matched, overlaps, track_overlaps)
    breakdown, assignment = break_down(truths, matched, overlaps, evidence, chosen.quirks)
    return Analysis(
        chosen.name,
        chosen.version,
        breakdown,
        slice_truth(chosen, truths, overlaps, motion),
        _calibrations(chosen, truths, matched, overlaps),
        _verdicts(truths, matched, overlaps, assignment),
    )


def _read(
    chosen: ApProtocol, truths: GroundTruthArrays, rows: Ints, store: ShardStore
) -> tuple[Overlaps, TrackTruthOverlaps, Floats]:
    """Return the overlaps of tracks with truth of their category, as scored; their overlaps with the truths ``rows`` of
    any category; and the `consistency` of the tracks ``(tracks,)``."""
    rules = MaskRules(chosen.quirks.shorter_list_wins, chosen.quirks.wrong_size_vanishes)
    shards = ShardReader(store)
    folder = str(shards.folder)

    def work(group: ShardGroup) -> tuple[Overlaps, TrackTruthOverlaps, Floats]:
        batch = read_shards(group, truths, shards.folder, Warnings(False), every_mask=True)
        of_any = compute_overlaps(truths, rows, batch, rules, folder)
        return overlap(truths, batch, (rules,), LOWEST_THRESHOLD, folder), of_any, consistency(batch.masks)

    parts = list(in_parallel(work, shards))
    if not parts:
        raise UserError(folder, "holds no predictions", "run again")
    overlaps, track_overlaps, motion = zip(*parts, strict=True)
    return (
        concatenate(overlaps),
        class_agnostic_overlap.concatenate_track_overlaps(track_overlaps),
        np.concatenate(motion),
    )


def _calibrations(
    chosen: ApProtocol, truths: GroundTruthArrays, matched: MatchedTracks, overlaps: Overlaps
) -> dict[str, Calibration]:
    """Return the calibration of all tracks that count, and of those in each group of categories."""
    hit, counts = matched.hit[0], matched.hit[0] | matched.miss[0]
    score, category = overlaps.score[matched.track], truths.category_ids[overlaps.category[matched.track]]
    out = {"all": calibration(score[counts], hit[counts])}
    for suffix, ids in chosen.groups(truths.annotations.categories).items():
        mine = counts & np.isin(category, np.array(ids, np.int64))
        out[GROUP_NAMES[suffix]] = calibration(score[mine], hit[mine])
    return out


def _verdicts(
    truths: GroundTruthArrays, matched: MatchedTracks, overlaps: Overlaps, assignment: ErrorAssignment
) -> Verdicts:
    record = overlaps.record[matched.track]
    names = (*KINDS, HIT, IGNORED)
    taken = matched.taken[0]
    code = np.where(assignment.kinds.code >= 0, assignment.kinds.code, names.index(IGNORED))
    code = np.where(matched.hit[0], names.index(HIT), code)
    row = np.where(assignment.kinds.code >= 0, assignment.kinds.truth, matched.row[taken] if len(matched.row) else -1)
    order = np.argsort(record, kind="stable")
    ids = [r.id for r in truths.truth.records]
    return Verdicts(
        tuple(truths.video_ids[overlaps.video[matched.track[order]]].tolist()),
        tuple(row_of_record(record[order]).tolist()),
        tuple(names[c] for c in code[order].tolist()),
        tuple(ids[r] if r >= 0 else None for r in row[order].tolist()),
        tuple(truths.category_ids[overlaps.category[matched.track[order]]].tolist()),
        tuple(overlaps.score[matched.track[order]].tolist()),
    )
