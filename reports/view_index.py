"""The index of `harness view`: every track and every object of some runs as columns, so that any filter is a mask.

It has no masks: those of a video are read when the user opens it (`harness.reports.view_video`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.arrays import Flags, Floats, Ints
from harness.errors import UserError
from harness.plain_text import plain
from harness.reports.run_analysis import protocol_to_analyse
from harness.run_folder.finished_run import FinishedRun
from harness.scoring.analysis import HIT, IGNORED, Verdicts, analyse
from harness.scoring.error_kinds import CLAIMING, CLASSIFICATION, KINDS, MISSED
from harness.scoring.hota import EPSILON
from harness.scoring.match import RECALL_POINTS, precision_at
from harness.types import Dataset

CODES = (*KINDS, HIT, IGNORED, "unjudged")
"""The kinds of tracks; the position is the code. Tracks beyond the protocol's cap, and all without truth, are unjudged.
"""
SIZE_FILTERS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
"""Mean area in pixels over the frames in which an object is seen."""
LENGTH_FILTERS = {"short": (0.0, 1 / 3), "medium": (1 / 3, 2 / 3), "long": (2 / 3, np.inf)}
"""Share of the video's frames in which an object is seen."""
_ERRORS = tuple(KINDS.index(kind) for kind in KINDS if kind != MISSED)
_CLAIMING = tuple(KINDS.index(kind) for kind in CLAIMING)
_COLUMNS = ("category_id", "score", "area_sum", "area_frames")


@dataclass(frozen=True)
class Filters:
    """The filters; empty or ``None`` is everything. ``said`` is the category of tracks, ``category`` that of the
    object (or of the track, if it is about none)."""

    category: int | None = None
    said: int | None = None
    group: str = ""
    kind: str = ""
    low: float = 0.0
    high: float = float("inf")
    size: str = ""
    length: str = ""
    video: str = ""


@dataclass(frozen=True)
class TrackColumns:
    """The tracks of a run, by video and row, arrays ``(tracks,)``: positions of video and category, row in the shard,
    code in `CODES`, position of the annotation (-1: none), mean area, number of frames."""

    video: Ints
    row: Ints
    category: Ints
    score: Floats
    code: Ints
    truth: Ints
    area: Floats
    frames: Ints


@dataclass(frozen=True)
class TruthColumns:
    """The annotated objects, in file order, arrays ``(objects,)``; ``counts`` is false for crowds."""

    id: Ints
    video: Ints
    category: Ints
    area: Floats
    frames: Ints
    counts: Flags


@dataclass(frozen=True)
class RunColumns:
    """One run. ``done (videos,)``; ``found`` and ``missed (objects,)``: those hit, and those no track claims; ``note``
    says why nothing is judged."""

    label: str
    folder: str
    tracks: TrackColumns
    done: Flags
    found: Flags
    missed: Flags
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    note: str = ""
    costs: Mapping[int, float] = field(default_factory=dict)
    """Gain in AP50 from giving all tracks of a pair of categories the right one, by `Index.pair_keys`."""


class Index:
    """Runs on one dataset as columns; ``version`` changes with their content."""

    def __init__(self, dataset: Dataset, runs: Sequence[FinishedRun], version: str) -> None:
        self.version = version
        self.video_ids = np.array([video.id for video in dataset.videos], np.int64)
        self.video_names = [plain(video.name) for video in dataset.videos]
        self.video_frames = np.array([len(video.frames) for video in dataset.videos], np.int64)
        self.category_ids = np.array([c.id for c in dataset.categories], np.int64)
        self.category_names = [plain(c.name) for c in dataset.categories]
        self.groups = {
            group: np.array([group in c.groups for c in dataset.categories], np.bool_)
            for group in dict.fromkeys(g for c in dataset.categories for g in c.groups)
        }
        self._video_at = {int(v): i for i, v in enumerate(self.video_ids)}
        self._category_at = {int(c): i for i, c in enumerate(self.category_ids)}
        self.truths = self._truths(dataset)
        self._truth_at = {int(t): i for i, t in enumerate(self.truths.id)}
        self.runs = [self._run(dataset, run) for run in runs]

    def _truths(self, dataset: Dataset) -> TruthColumns:
        records = [] if dataset.truth is None else [
            r for r in dataset.truth.records if r.video_id in self._video_at and r.category_id in self._category_at
        ]  # fmt: skip
        area, frames = _areas(dataset, {r.id for r in records})
        return TruthColumns(
            np.array([r.id for r in records], np.int64),
            np.array([self._video_at[r.video_id] for r in records], np.int64),
            np.array([self._category_at[r.category_id] for r in records], np.int64),
            area,
            frames,
            np.array([not r.is_crowd for r in records], np.bool_),
        )

    def _run(self, dataset: Dataset, run: FinishedRun) -> RunColumns:
        done = run.done & set(self._video_at)
        parts: list[tuple[int, Any]] = []
        for one in sorted(done):
            parts.append((one, run.store.read_table(one).select(_COLUMNS)))
        columns = {
            name: np.concatenate([np.empty(0), *(t.column(name).to_numpy() for _, t in parts)]) for name in _COLUMNS
        }
        counts = [len(table) for _, table in parts]
        video = np.repeat(np.array([self._video_at[v] for v, _ in parts], np.int64), counts)
        row = np.concatenate([np.empty(0, np.int64), *(np.arange(n) for n in counts)]).astype(np.int64)
        category = np.array([self._category_at.get(int(c), -1) for c in columns["category_id"]], np.int64)
        code = np.full(len(row), CODES.index("unjudged"), np.int64)
        truth = np.full(len(row), -1, np.int64)
        note = ""
        try:
            self._assign_errors(_verdicts(dataset, run, done), video, row, code, truth)
        except UserError as error:
            note = plain(error.what)
        judged = np.zeros(len(self.video_ids), np.bool_)
        judged[[self._video_at[v] for v in done]] = True
        here = judged[self.truths.video] & self.truths.counts
        found, claimed = np.zeros((2, len(self.truths.id)), np.bool_)
        found[truth[(code == CODES.index(HIT)) & (truth >= 0)]] = True
        claimed[truth[np.isin(code, _CLAIMING) & (truth >= 0)]] = True
        frames = columns["area_frames"].astype(np.int64)
        area = columns["area_sum"] / np.maximum(frames, 1)
        tracks = TrackColumns(video, row, category, columns["score"], code, truth, area, frames)
        missed = here & ~found & ~claimed if not note else np.zeros_like(found)
        made = RunColumns(plain(run.label), str(run.folder), tracks, judged, found, missed, _metrics(run), note)
        return replace(made, costs=self._costs(made))

    def pair_keys(self, run: RunColumns, keep: Flags) -> tuple[Ints, Ints]:
        """Of the tracks in a wrong category that pass: their positions, and a number for the pair of categories."""
        tracks = run.tracks
        wrong = np.flatnonzero(keep & (tracks.code == CODES.index(CLASSIFICATION)) & (tracks.truth >= 0))
        if not len(wrong):
            return wrong, wrong
        return wrong, self.truths.category[tracks.truth[wrong]] * len(self.category_ids) + tracks.category[wrong]

    def _costs(self, run: RunColumns) -> dict[int, float]:
        wrong, key = self.pair_keys(run, np.ones(len(run.tracks.score), np.bool_))
        order = np.argsort(key, kind="stable")
        keys, first = np.unique(key[order], return_index=True)
        average = _Average50(self.truths, run) if len(keys) else None
        parts = np.split(wrong[order], first[1:])
        if average is None:
            return {}
        width = len(self.category_ids)
        return {int(k): average.gain(*divmod(int(k), width), mine) for k, mine in zip(keys, parts, strict=True)}

    def _assign_errors(self, verdicts: Verdicts, video: Ints, row: Ints, code: Ints, truth: Ints) -> None:
        """Write codes and truths of tracks, which are sorted by video and row."""
        width = int(row.max(initial=0)) + 1
        order = np.argsort(video * width + row)
        keys = (video * width + row)[order]
        judged = np.array([self._video_at[v] for v in verdicts.video_id], np.int64) * width
        judged += np.array(verdicts.track, np.int64)
        place = order[np.searchsorted(keys, judged)] if len(keys) else judged
        code[place] = [CODES.index(kind) for kind in verdicts.kind]
        truth[place] = [-1 if t is None else self._truth_at.get(t, -1) for t in verdicts.truth_id]

    def category(self, category_id: int) -> int:
        """The position of a category; raises `UserError` for an unknown id."""
        if category_id not in self._category_at:
            raise UserError(f"category {category_id}", "is not in the dataset", "name one of them")
        return self._category_at[category_id]

    def video(self, video_id: int) -> int:
        """The position of a video; raises `UserError` for an unknown id."""
        if video_id not in self._video_at:
            raise UserError(f"video {video_id}", "is not in the dataset", "name one of them")
        return self._video_at[video_id]

    def chosen(self, run: RunColumns, filters: Filters) -> Flags:
        """Which tracks of a run pass ``(tracks,)``; those of size and length are of the object, if there is one."""
        tracks, truths = run.tracks, self.truths
        about, at = tracks.truth >= 0, np.maximum(tracks.truth, 0)
        no_truth = not len(truths.id)

        def of_object(own: Any, its: Any) -> Any:
            return own if no_truth else np.where(about, its[at], own)

        category = of_object(tracks.category, truths.category)
        keep = (tracks.score >= filters.low) & (tracks.score <= filters.high)
        area, frames = of_object(tracks.area, truths.area), of_object(tracks.frames, truths.frames)
        keep &= self._passes(filters, tracks.video, category, area, frames)
        if filters.said is not None:
            keep &= tracks.category == self.category(filters.said)
        if filters.kind == MISSED:
            keep[:] = False
        elif filters.kind:
            keep &= tracks.code == CODES.index(filters.kind)
        return np.asarray(keep, np.bool_)

    def missed(self, run: RunColumns, filters: Filters) -> Flags:
        """Which missed objects of a run pass ``(objects,)``."""
        if filters.kind not in ("", MISSED) or filters.said is not None:
            return np.zeros(len(self.truths.id), np.bool_)
        truths = self.truths
        passed = self._passes(filters, truths.video, truths.category, truths.area, truths.frames)
        return np.asarray(run.missed & passed, np.bool_)

    def _passes(self, filters: Filters, video: Ints, category: Ints, area: Floats, frames: Ints) -> Flags:
        keep = np.ones(len(video), np.bool_)
        if filters.category is not None:
            keep &= category == self.category(filters.category)
        if filters.group:
            members = self.groups.get(filters.group)
            keep &= False if members is None else members[category] & (category >= 0)
        if filters.size:
            low, high = SIZE_FILTERS[filters.size]
            keep &= (area >= low) & (area < high)
        if filters.length:
            low, high = LENGTH_FILTERS[filters.length]
            share = frames / np.maximum(self.video_frames[video], 1)
            keep &= (share >= low) & (share < high)
        if filters.video:
            text = filters.video.lower()
            named = [text in name.lower() or text == str(v) for name, v in zip(self.video_names, self.video_ids,
                     strict=True)]  # fmt: skip
            keep &= np.array(named, np.bool_)[video]
        return keep

    def overview(self, chosen_runs: Sequence[int], filters: Filters) -> dict[str, Any]:
        """Counts by kind, the videos and the confusion pairs that pass, as columns."""
        n = len(self.video_ids)
        kinds, per_video, pairs = [], [], []
        for number in chosen_runs:
            run = self.runs[number]
            keep, missed = self.chosen(run, filters), self.missed(run, filters)
            code, video = run.tracks.code[keep], run.tracks.video[keep]
            counts = np.bincount(code, minlength=len(CODES))
            counts[CODES.index(MISSED)] = missed.sum()
            kinds.append(dict(zip(CODES, counts.tolist(), strict=True)))
            wrong = np.isin(code, _ERRORS)
            per_video.append({
                "hits": np.bincount(video[code == CODES.index(HIT)], minlength=n),
                "errors": np.bincount(video[wrong], minlength=n),
                "missed": np.bincount(self.truths.video[missed], minlength=n),
                "tracks": np.bincount(video, minlength=n),
            })  # fmt: skip
            pairs.append(self.confusions(run, keep))
        objects = np.bincount(self.truths.video, minlength=n)
        shown = sum((c["tracks"] + c["missed"] for c in per_video), np.zeros(n, np.int64)) > 0
        if filters == Filters():
            shown[:] = True
        at = np.flatnonzero(shown)
        return {
            "kinds": kinds,
            "videos": {
                "id": self.video_ids[at].tolist(),
                "name": [self.video_names[i] for i in at],
                "frames": self.video_frames[at].tolist(),
                "objects": objects[at].tolist(),
                "runs": [{name: values[at].tolist() for name, values in one.items()} for one in per_video],
            },
            "pairs": pairs,
        }

    def confusions(self, run: RunColumns, keep: Flags) -> list[list[Any]]:
        """Confusion pairs: id of the object's category, id of the track's, tracks, cost in AP50, frames; most
        costly first.

        The cost is AP50 after all tracks of the pair get the right category minus AP50 now, duplicates left out,
        whatever is filtered; tracks and frames are of those that pass.
        """
        wrong, key = self.pair_keys(run, keep)
        keys, place = np.unique(key, return_inverse=True)
        counts = np.bincount(place, minlength=len(keys))
        frames = np.bincount(place, run.tracks.frames[wrong], minlength=len(keys)).astype(np.int64)
        true, said = keys // len(self.category_ids), keys % len(self.category_ids)
        cost = np.array([run.costs[int(k)] for k in keys]).round(6)
        order = np.lexsort((keys, -counts, -cost))
        columns = (self.category_ids[true], self.category_ids[said], counts, cost, frames)
        return [list(row) for row in zip(*(c[order].tolist() for c in columns), strict=True)]

    def tracks_of(self, number: int, video_id: int, filters: Filters) -> list[dict[str, Any]]:
        """The tracks of a run in a video by descending score; ``passes`` says whether the filters hold for it."""
        run, at = self.runs[number], self.video(video_id)
        low, high = np.searchsorted(run.tracks.video, [at, at + 1])
        keep = self.chosen(run, filters)
        rows = [
            {
                "row": int(run.tracks.row[i]),
                "category": int(self.category_ids[run.tracks.category[i]]) if run.tracks.category[i] >= 0 else None,
                "score": round(float(run.tracks.score[i]), 4),
                "kind": CODES[run.tracks.code[i]],
                "object": int(self.truths.id[run.tracks.truth[i]]) if run.tracks.truth[i] >= 0 else None,
                "passes": bool(keep[i]),
            }
            for i in range(int(low), int(high))
        ]
        return sorted(rows, key=lambda row: (-row["score"], row["row"]))


class _Average50:
    """AP50 of a run from its matches, with single pairs of categories corrected."""

    def __init__(self, truths: TruthColumns, run: RunColumns) -> None:
        self._truth, self._score, self._found = run.tracks.truth, run.tracks.score, run.found
        here = truths.counts & run.done[truths.video]
        self._positives = np.bincount(truths.category[here], minlength=int(run.tracks.category.max(initial=0)) + 1)
        self._categories = max(int((self._positives > 0).sum()), 1)
        self._order = np.lexsort((np.arange(len(self._score)), -self._score, run.tracks.category))
        self._first = np.searchsorted(run.tracks.category[self._order], np.arange(len(self._positives) + 1))
        self._hit = run.tracks.code == CODES.index(HIT)
        self._miss = np.isin(run.tracks.code, _ERRORS)
        self._now: dict[int, float] = {}

    def gain(self, true: int, said: int, wrong: Ints) -> float:
        """Gain in AP50 from giving ``wrong`` tracks the category ``true`` in place of ``said``."""
        open_ = wrong[~self._found[self._truth[wrong]]]
        open_ = open_[np.argsort(-self._score[open_], kind="stable")]
        added = open_[np.unique(self._truth[open_], return_index=True)[1]]
        before = self._ap_now(true) + self._ap_now(said)
        return (self._ap(true, None, added) + self._ap(said, wrong, None) - before) / self._categories

    def _ap_now(self, category: int) -> float:
        if category not in self._now:
            self._now[category] = self._ap(category, None, None)
        return self._now[category]

    def _ap(self, category: int, without: Ints | None, added: Ints | None) -> float:
        positives = int(self._positives[category])
        if not positives:
            return 0.0
        mine = self._order[self._first[category] : self._first[category + 1]]
        hit, miss, score = self._hit[mine], self._miss[mine], self._score[mine]
        if without is not None:
            miss = miss & ~np.isin(mine, without)
        if added is not None and len(added):
            score = np.append(score, self._score[added])
            order = np.argsort(-score, kind="stable")
            score = score[order]
            hit, miss = np.append(hit, np.ones(len(added), np.bool_)), np.append(miss, np.zeros(len(added), np.bool_))
            hit, miss = hit[order], miss[order]
        precision = np.zeros(len(RECALL_POINTS))
        precision_at(hit, miss, score, positives, RECALL_POINTS, EPSILON, False, precision, np.empty(0))
        return float(precision.mean())


def _verdicts(dataset: Dataset, run: FinishedRun, done: set[int] | frozenset[int]) -> Verdicts:
    if dataset.truth is None:
        raise UserError(dataset.name, "the truth of this split is withheld")
    if not done:
        raise UserError(dataset.name, "no video has predictions yet")
    chosen = protocol_to_analyse(run, dataset)
    return analyse(chosen, dataset.annotations, run.store, sorted(done)).verdicts


def _areas(dataset: Dataset, wanted: set[int]) -> tuple[Floats, Ints]:
    """Mean area and number of frames of the annotated objects with these ids, in file order."""
    from harness.scoring.overlap import GroundTruthArrays

    if dataset.truth is None:
        return np.empty(0), np.empty(0, np.int64)
    arrays = GroundTruthArrays(dataset.annotations)
    masks = arrays.masks
    present = masks.frame_mask >= 0
    areas = np.where(present, np.append(arrays.area, 0)[masks.frame_mask], 0)
    total, seen = (np.concatenate([[0], np.cumsum(values)]) for values in (areas, areas > 0))
    total, seen = total[masks.track[1:]] - total[masks.track[:-1]], seen[masks.track[1:]] - seen[masks.track[:-1]]
    mine = np.array([record.id in wanted for record in dataset.truth.records], np.bool_)
    return (total / np.maximum(seen, 1))[mine], seen[mine].astype(np.int64)


def _metrics(run: FinishedRun) -> dict[str, float | None]:
    try:
        return {key: run.metrics.get(key) for key in ("AP", "AP50", "APb", "APn")}
    except UserError:
        return {}
