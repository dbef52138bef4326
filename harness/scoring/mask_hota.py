"""Mask HOTA over the categories of a dataset, with CLEAR and IDF1: as TrackEval's class YouTubeVIS, and corrected.

The overlaps in single frames come with those of whole tracks, see `harness.scoring.overlap`, so that masks are decoded
once for both. HOTA is computed per video and category, then combined over videos and over categories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.arrays import Floats, Ints, sums_by
from harness.errors import OfficialAbortError
from harness.formats.youtube_vis import Annotations
from harness.scoring.clear import Clear, clear_of_sequences
from harness.scoring.contributions import VideoContributions
from harness.scoring.hota import ALPHAS, Hota, HotaSums, combine_rows
from harness.scoring.metrics import GROUP_NAMES, Metrics
from harness.scoring.overlap import FrameOverlaps, GroundTruthArrays, Overlaps
from harness.scoring.phrase_hota import LIMITS, PresentFrames, Sequences, hota_of_sequences
from harness.scoring.protocols import HotaProtocol, groups_by_fields
from harness.warnings import Warnings

MASK_HOTA_METRICS = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "OWTA")
CLEAR_METRICS = ("MOTA", "MOTP", "IDF1", "IDR", "IDP")
DETECTION_AVERAGED = "_det"

NO_THRESHOLD = "track of any score counts: no score threshold was given"
EMPTY_MASKS = "mask without a pixel, which counts as an object"
SAME_FOLDER = "video left out, since a later one has frames in the same folder"
SAME_NAME = "category left out, since a later one has the same name"


class HotaOutcome(NamedTuple):
    """The official and the corrected numbers, counts, and why the official tool aborts, empty where it does not.

    ``contributions`` computes those of the videos to the official numbers, ``None`` where it aborts.
    """

    metrics: Metrics
    corrected: Metrics
    counts: dict[str, int]
    aborts: str
    contributions: Callable[[], VideoContributions] | None


class EvaluatedParts(NamedTuple):
    """What the official and the corrected evaluator count: videos and categories ``(videos,)``, ``(ids,)``."""

    videos: NDArray[np.bool_]
    categories: NDArray[np.bool_]


@dataclass(frozen=True)
class ClassScores:
    """Per category: HOTA ``(categories, 19)``, counts of CLEAR and IDF1 ``(categories,)``, and the numbers of masks and
    tracks."""

    hota: Hota
    clear: Clear
    counts: dict[str, Ints]


def official_side(annotations: Annotations) -> EvaluatedParts:
    """Of several videos in one folder, and of several categories of one name, the last of the file is evaluated."""
    folders = {video.id: video.file_names[0].split("/")[0] for video in annotations.videos if len(video.file_names) > 0}
    last = {folders[i]: i for i in annotations.listed_videos if i in folders}
    names = {category.id: category.name for category in annotations.categories}
    of_name = {names[i]: i for i in annotations.listed_categories}
    return EvaluatedParts(
        np.array([v.id not in folders or last[folders[v.id]] == v.id for v in annotations.videos], np.bool_),
        np.array([of_name[c.name] == c.id for c in annotations.categories], np.bool_),
    )


def score_hota(
    chosen: HotaProtocol, truths: GroundTruthArrays, overlaps: Overlaps, warnings: Warnings, source: str
) -> HotaOutcome:
    """The numbers of mask HOTA; raises `OfficialAbortError` if the official tool aborts and ``warnings`` are strict."""
    annotations, frames = truths.annotations, overlaps.by_frame or _no_frames()
    keep = np.ones(len(overlaps.score), np.bool_)
    if chosen.score_threshold is not None:
        keep = overlaps.score >= chosen.score_threshold
    official = official_side(annotations)
    corrected = EvaluatedParts(np.ones(len(truths.video_ids), np.bool_), truths.owned)
    _warn(chosen, truths, overlaps, frames, official, warnings, source)
    aborts = _abort(truths, frames, official)
    if aborts and warnings.strict:
        raise OfficialAbortError(source, aborts)
    units = _units(truths, overlaps, frames, np.flatnonzero(keep))
    groups = groups_by_fields(annotations.categories)
    whole = _by_class(units, truths, official.videos)
    repaired = whole if official.videos.all() else _by_class(units, truths, corrected.videos)
    metrics = _summarise(whole, official.categories, truths, groups, "the annotations list no category")
    nothing = "no category has an annotated track"
    if not truths.truth.records:
        nothing = "no annotated track: the videos have no annotations"
    fixed = _summarise(repaired, corrected.categories, truths, groups, nothing)
    contributions = None if aborts else partial(_contributions, units, whole, metrics, truths, official, groups)
    if aborts:
        metrics = Metrics(dict.fromkeys(metrics.values), dict.fromkeys(metrics.values, aborts), [], {})
    counts = {
        "tracks": int(keep.sum()),
        "tracks_below_threshold": int((~keep).sum()),
        "truths": len(truths.truth.records),
        "masks": int(repaired.counts["masks"].sum()),
        "truth_masks": int(repaired.counts["truth_masks"].sum()),
        "videos": len(truths.video_ids),
        "videos_of_official": int(official.videos.sum()),
        "categories": len(truths.category_ids),
        "categories_with_truth": int(truths.owned.sum()),
    }
    return HotaOutcome(metrics, fixed, counts, aborts, contributions)


def _no_frames() -> FrameOverlaps:
    """The overlaps of no tracks."""
    nothing, start = np.empty(0, np.int64), np.zeros(1, np.int64)
    return FrameOverlaps(nothing, start, np.empty(0, np.bool_), start, np.empty(0), 0, {})


def _warn(
    chosen: HotaProtocol,
    truths: GroundTruthArrays,
    overlaps: Overlaps,
    frames: FrameOverlaps,
    official: EvaluatedParts,
    warnings: Warnings,
    source: str,
) -> None:
    annotations = truths.annotations
    if chosen.score_threshold is None and len(overlaps.score):
        warnings.tell(NO_THRESHOLD, f"{source}; choose one as score_threshold", len(overlaps.score))
    if frames.empty:
        warnings.tell(EMPTY_MASKS, f"{source}; write null where the object is absent", frames.empty)
    left_out = np.flatnonzero(~official.videos)
    if len(left_out):
        stated = annotations.stated_video(int(truths.video_ids[left_out[0]]))
        warnings.tell(SAME_FOLDER, f"{annotations.path}, video {stated}", len(left_out))
    unnamed = np.flatnonzero(~official.categories)
    if len(unnamed):
        stated = annotations.stated_category(int(truths.category_ids[unnamed[0]]))
        warnings.tell(SAME_NAME, f"{annotations.path}, category {stated}", len(unnamed))


def _abort(truths: GroundTruthArrays, frames: FrameOverlaps, official: EvaluatedParts) -> str:
    """Why the official tool aborts on these contents; empty where it does not."""
    path, begin = truths.annotations.path, "the official tool aborts: "
    if not len(truths.video_ids):
        return f"{begin}{path} lists no video"
    if not len(truths.category_ids):
        return f"{begin}{path} lists no category"
    masks = truths.masks
    short = np.flatnonzero(np.diff(masks.track) < truths.frames[truths.video])
    for row in short.tolist():
        if official.videos[truths.video[row]]:
            found, frame_count = int(masks.track[row + 1] - masks.track[row]), int(truths.frames[truths.video[row]])
            where = f"{path}, annotation {truths.truth.records[row].id}"
            return f"{begin}{where} has {found} masks for the {frame_count} frames of its video"
    repeated = _repeated_id(truths, official)
    if repeated:
        return f"{begin}{path}, annotation {repeated}"
    for video in sorted(frames.aborts):
        if official.videos[video]:
            return f"{begin}{frames.aborts[video]}"
    return ""


def _repeated_id(truths: GroundTruthArrays, official: EvaluatedParts) -> str:
    """The first annotation id that two objects of a video and category have in one frame."""
    seen: dict[tuple[int, int, int], list[int]] = {}
    for row, record in enumerate(truths.truth.records):
        seen.setdefault((int(truths.video[row]), int(truths.category[row]), record.id), []).append(row)
    for (video, category, number), rows in seen.items():
        if len(rows) < 2 or not (official.videos[video] and official.categories[category]):
            continue
        length = int(truths.frames[video])
        times = np.zeros(length, np.int64)
        for row in rows:
            mine = truths.masks.frame_mask[truths.masks.track[row] : truths.masks.track[row + 1]][:length]
            times[: len(mine)] += mine >= 0
        if (times > 1).any():
            return f"{number} occurs twice in frame {int(np.argmax(times > 1))} of one video and category"
    return ""


class _Units(NamedTuple):
    """HOTA and CLEAR of every (video, category) with truth, arrays by unit, and the tracks of the others.

    ``video`` and ``category`` are of units, ``masks``, ``truth_masks``, ``tracks`` and ``truths`` what they have.
    The same of (track) ``loose_*``: tracks of a category that has no truth in their video.
    """

    video: Ints
    category: Ints
    hota: Hota
    clear: Clear
    counts: dict[str, Ints]
    loose_video: Ints
    loose_category: Ints
    loose_masks: Ints


def _units(truths: GroundTruthArrays, overlaps: Overlaps, frames: FrameOverlaps, keep: Ints) -> _Units:
    """HOTA of every (video, category) that has truth, over the tracks ``keep``."""
    n_categories = max(len(truths.category_ids), 1)
    video, category = truths.keys // n_categories, truths.keys % n_categories
    pair = truths.pair_of(overlaps.video[keep], overlaps.category[keep])
    order = np.lexsort((overlaps.record[keep], pair))
    order = order[pair[order] >= 0]
    track, unit = keep[order], pair[order]
    there, first = _truth_frames(truths)
    sequences = Sequences(
        truths.frames[video],
        truths.first,
        truths.rows,
        _identities(truths),
        truths.local,
        np.searchsorted(unit, np.arange(len(truths.keys) + 1)),
        track,
        np.append(np.diff(truths.first), 0)[truths.pair_of(overlaps.video, overlaps.category)],
        frames.offset,
        frames.iou,
    )
    seen, found = PresentFrames(first, there), PresentFrames(frames.first, frames.there)
    scores = hota_of_sequences(sequences, seen, found, LIMITS)
    clear = clear_of_sequences(sequences, seen, found)
    of_truth = seen.count(truths.frames[truths.video])
    per_unit = np.searchsorted(truths.keys, truths.video * n_categories + truths.category)
    counts = {
        "masks": np.bincount(unit, frames.present[track], len(video)).astype(np.int64),
        "truth_masks": np.bincount(per_unit, of_truth, len(video)).astype(np.int64),
        "tracks": np.bincount(unit, minlength=len(video)),
        "truths": np.bincount(per_unit, minlength=len(video)),
    }
    loose = keep[pair < 0]
    return _Units(
        video, category, scores, clear, counts, overlaps.video[loose], overlaps.category[loose], frames.present[loose]
    )


def _truth_frames(truths: GroundTruthArrays) -> tuple[NDArray[np.bool_], Ints]:
    """The frames in which annotated tracks have a mask, even an empty one, and the offset of each track's."""
    there = truths.masks.frame_mask >= 0
    owner = np.repeat(np.arange(len(truths.video)), np.diff(truths.masks.track))
    frame = np.arange(len(there)) - truths.masks.track[owner]
    return there & (frame < truths.frames[truths.video[owner]]), truths.masks.track


def _identities(truths: GroundTruthArrays) -> Ints:
    """Numbers the objects of every (video, category) by ascending id; annotations of one id are one object."""
    ids = np.array([record.id for record in truths.truth.records], np.int64)
    unit = np.empty(len(ids), np.int64)
    unit[truths.rows] = np.repeat(np.arange(len(truths.keys)), np.diff(truths.first))
    order = np.lexsort((ids, unit))
    is_new = (np.diff(ids[order], prepend=0) != 0) | (np.diff(unit[order], prepend=-1) != 0)
    number = np.cumsum(is_new) - 1
    begin = np.full(len(truths.keys), len(ids), np.int64)
    np.minimum.at(begin, unit[order], number)
    out = np.empty(len(ids), np.int64)
    out[order] = number - begin[unit[order]]
    return out


def _by_class(units: _Units, truths: GroundTruthArrays, videos: NDArray[np.bool_]) -> ClassScores:
    """The scores of each category over some videos: counts add up, associations are weighted by the hits."""
    n = len(truths.category_ids)
    rows = np.flatnonzero(videos[units.video])
    category = units.category[rows]

    def total(values: Any) -> Any:
        return sums_by(category, values[rows], n)

    loose = np.flatnonzero(videos[units.loose_video])
    extra = np.bincount(units.loose_category[loose], units.loose_masks[loose], n)
    sums = HotaSums(*(total(part) for part in HotaSums.of(units.hota)))
    hota = sums._replace(fp=sums.fp + extra[:, None]).scores()
    clear = Clear(*(total(part) for part in units.clear))
    clear = clear._replace(fp=clear.fp + extra, id_fp=clear.id_fp + extra)
    counts = {key: total(values) for key, values in units.counts.items()}
    counts["masks"] = counts["masks"] + extra.astype(np.int64)
    counts["tracks"] = counts["tracks"] + np.bincount(units.loose_category[loose], minlength=n)
    return ClassScores(hota, clear, counts)


def _summarise(
    scores: ClassScores,
    chosen: NDArray[np.bool_],
    truths: GroundTruthArrays,
    groups: dict[str, tuple[int, ...]],
    nothing: str,
) -> Metrics:
    """Class-averaged and detection-averaged numbers over the ``chosen`` categories and their groups.

    ``nothing`` is the reason where there are none.
    """
    by_class = scores.hota.values()
    members = {"": chosen}
    members |= {suffix: chosen & np.isin(truths.category_ids, ids) for suffix, ids in groups.items()}
    values: dict[str, float | None] = {}
    undefined: dict[str, str] = {}
    for suffix, flags in members.items():
        rows = np.flatnonzero(flags)
        clear = Clear(*(part[rows] for part in scores.clear))
        averaged = {name: by_class[name][rows] for name in MASK_HOTA_METRICS} | clear.values()
        pooled = combine_rows(scores.hota, rows).values()
        pooled |= Clear(*(part.sum(keepdims=True) for part in clear)).values()
        for name in (*MASK_HOTA_METRICS, *CLEAR_METRICS):
            for key, array in ((f"{name}{suffix}", averaged), (f"{name}{suffix}{DETECTION_AVERAGED}", pooled)):
                values[key] = float(array[name].mean(0).mean()) if len(rows) else None
                if array is pooled and len(rows):
                    values[key] = float(array[name].mean())
                if not len(rows):
                    kind = f"no {GROUP_NAMES[suffix]} category among those that count" if suffix else nothing
                    undefined[key] = kind
    return Metrics(values, undefined, _per_category(scores, by_class, truths, groups), {})


def _contributions(
    units: _Units,
    whole: ClassScores,
    metrics: Metrics,
    truths: GroundTruthArrays,
    official: EvaluatedParts,
    groups: dict[str, tuple[int, ...]],
) -> VideoContributions:
    """What each video contributes to the error of the official numbers of HOTA's family.

    Averages over classes are those of `LeftOut`. What is pooled over detections is a plain jackknife over the videos
    with truth: a video contributes the fall of the number without it.
    """
    from harness.scoring.jackknife import LeftOut  # it imports scipy, which average precision does not need

    videos, sums = len(truths.video_ids), HotaSums.of(whole.hota)
    category, video, has_truth, parts = _entries(units, videos, official.videos)
    full, without = _means(sums.scores()), _means(HotaSums(*(total[category] for total in sums)).minus(parts).scores())
    counted = np.isin(category, category[has_truth])
    left_out = LeftOut(
        videos, full, official.categories, category[counted], video[counted], has_truth[counted],
        (full[:, category] - without)[:, counted], MASK_HOTA_METRICS,
    )  # fmt: skip
    names: list[str] = []
    with_truth: list[int] = []
    added: list[Floats] = []
    for suffix, ids in {"": tuple(truths.category_ids.tolist()), **groups}.items():
        chosen = official.categories & np.isin(truths.category_ids, ids)
        inside = chosen[category]
        n = len(np.unique(video[inside & has_truth]))
        pooled = sums.over(np.flatnonzero(chosen))
        of_videos = HotaSums(*(sums_by(video[inside], part[inside], videos) for part in parts))
        fall = _means(pooled.scores())[:, None] - _means(HotaSums(*(t[None] for t in pooled)).minus(of_videos).scores())
        for name, one in zip(MASK_HOTA_METRICS, fall * np.sqrt(max(n - 1, 0) / max(n, 1)), strict=True):
            names += [f"{name}{suffix}", f"{name}{suffix}{DETECTION_AVERAGED}"]
            with_truth += [n, n]
            added += [left_out.contributions(name, np.flatnonzero(chosen)), one]
    values = [np.nan if (value := metrics.values[name]) is None else value for name in names]
    return VideoContributions(
        truths.annotations.digest, truths.video_ids, tuple(names), np.array(values), np.array(with_truth),
        np.array(added).reshape(len(names), videos),
    )  # fmt: skip


def _entries(units: _Units, videos: int, chosen: NDArray[np.bool_]) -> tuple[Ints, Ints, NDArray[np.bool_], HotaSums]:
    """Every category and video with truth or tracks: category, video, whether it has truth, and what it adds.

    Only of the ``chosen`` of ``videos``; ordered by category.
    """
    rows, loose = np.flatnonzero(chosen[units.video]), np.flatnonzero(chosen[units.loose_video])
    of_truth = units.category[rows] * videos + units.video[rows]
    of_tracks = units.loose_category[loose] * videos + units.loose_video[loose]
    places, at = np.unique(np.append(of_truth, of_tracks), return_inverse=True)
    with_truth, without = at[: len(rows)], at[len(rows) :]
    has_truth = np.zeros(len(places), np.bool_)
    has_truth[with_truth] = True
    parts = HotaSums(*(np.zeros((len(places), len(ALPHAS))) for _ in HotaSums._fields))
    for mine, theirs in zip(parts, HotaSums.of(units.hota), strict=True):
        mine[with_truth] = theirs[rows]
    parts.fp[:] += np.bincount(without, units.loose_masks[loose], len(places))[:, None]
    return places // max(videos, 1), places % max(videos, 1), has_truth, parts


def _means(scores: Hota) -> Floats:
    """The means over the thresholds of `MASK_HOTA_METRICS` ``(metrics, ...)``."""
    by_name = scores.values()
    return np.array([by_name[name].mean(-1) for name in MASK_HOTA_METRICS])


def _per_category(
    scores: ClassScores, by_class: dict[str, Floats], truths: GroundTruthArrays, groups: dict[str, tuple[int, ...]]
) -> list[dict[str, Any]]:
    """One row per category; without truth its numbers are ``None``."""
    means = {name: by_class[name].mean(1) for name in MASK_HOTA_METRICS} | scores.clear.values()
    members = {GROUP_NAMES[suffix]: frozenset(ids) for suffix, ids in groups.items()}
    rows = []
    for position, category in enumerate(truths.annotations.categories):
        has_truth = scores.counts["truths"][position] > 0
        row: dict[str, Any] = {
            "id": truths.annotations.stated_category(category.id),
            "name": category.name,
            "groups": " ".join(name for name, ids in members.items() if category.id in ids),
        }
        row |= {name: float(mean[position]) if has_truth else None for name, mean in means.items()}
        row |= {key: int(scores.counts[key][position]) for key in ("truths", "tracks", "truth_masks", "masks")}
        rows.append(row)
    return rows
