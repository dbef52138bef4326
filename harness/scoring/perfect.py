"""Changes predictions to be perfect in some aspects: classes, masks, links or presence.

``docs/ceilings.md`` defines these aspects. Overlaps of tracks and truths are computed once for each frame. After that
only the lists of masks change, so no mask is decoded again.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from harness import rle
from harness.arrays import Flags, Floats, Ints
from harness.rle import MaskTable
from harness.scoring.overlap import FrameUse, GroundTruthArrays, MaskRules, TrackBatch, overlap
from harness.scoring.presence import PRESENCE

CLASSES, MASKS, LINKS = "classes", "masks", "links"
ASPECTS = (CLASSES, MASKS, LINKS, PRESENCE)
VARIANTS: tuple[tuple[str, ...], ...] = ((), *((r,) for r in ASPECTS), *(ASPECTS[:n] for n in (2, 3, 4)))
"""The perfect aspects of each variant: none, each alone, and the first two, three and all four together."""

_ABOUT = 0.1
"""Smallest IoU at which a track, or its mask in one frame, is assigned to an object: TIDE's background threshold."""
RIGHT = 0.5
"""Smallest IoU with an object of the track's category at which the track keeps its category."""
_TIE = 1e-9
"""Added to the IoU with objects of the track's category, so that they are preferred at equal IoU."""


@dataclass
class _Scene:
    """The tracks of one video, and the truths of any category in it.

    ``rows``, ``category``, ``score`` and ``length``, all ``(tracks,)``, are the rows of the batch, and the category,
    score and length of the list of masks of each track. ``mask (tracks, frames)`` has rows of the mask table, -1 for
    none; rows of the truth's masks come after those of the tracks. ``iou (tracks, frames, truths)`` are the IoUs of
    single masks and ``tube (tracks, truths)`` those of whole tracks, both of the unchanged predictions. ``truth`` and
    ``truth_category``, both ``(truths,)``, and ``truth_mask (truths, frames)`` are the truths' rows, categories and
    masks.
    """

    rows: Ints
    category: Ints
    score: Floats
    mask: NDArray[np.int64]
    length: Ints
    iou: Floats
    tube: Floats
    truth: Ints
    truth_category: Ints
    truth_mask: Ints

    def own(self) -> Flags:
        """Return whether a truth has the track's category, ``(tracks, truths)``."""
        return np.asarray(self.category[:, None] == self.truth_category[None])

    def take(self, kept: Flags) -> _Scene:
        """Return the scene with the tracks ``kept (tracks,)`` only."""
        names = ("rows", "category", "score", "mask", "length", "iou", "tube")
        return replace(self, **{name: getattr(self, name)[kept] for name in names})


def perfected(
    truths: GroundTruthArrays, batch: TrackBatch, name: str, within_category: bool = False
) -> list[TrackBatch]:
    """Return a batch changed by each of `VARIANTS`; the first is unchanged.

    The batch must have all tracks of its videos, and the masks of all tracks. With ``within_category`` tracks are never
    assigned to objects of other categories unless classes are perfect, because each category is a separate query.
    ``name`` is the file's name in errors.
    """
    everything = np.ones(len(batch.video), np.bool_)
    used = np.zeros(len(batch.masks.start), np.bool_)
    used[batch.masks.frame_mask[batch.masks.frame_mask >= 0]] = True
    area = rle.areas(*batch.masks.arrays()[:6], used)
    batch = replace(batch, has_masks=everything, mask_area=area)
    scenes = _scenes(truths, batch, name)
    out = [batch]
    for variant in VARIANTS[1:]:
        changed = [_changed(scene, variant, within_category) for scene in scenes]
        out.append(_batch_of(truths, batch, changed))
    return out


def _changed(scene: _Scene, variant: tuple[str, ...], within_category: bool) -> _Scene:
    """Change classes before links, which depend on them, and masks after links, which select predicted masks."""
    scene = copy.copy(scene)
    if CLASSES in variant and len(scene.truth):
        scene = _with_classes(scene)
    if (LINKS in variant or MASKS in variant) and len(scene.truth):
        follows = _follows(scene, within_category)
        if LINKS in variant:
            scene, follows = _with_links(scene, follows, within_category)
        if MASKS in variant:
            at = np.arange(follows.shape[1])
            there = np.where(follows >= 0, scene.truth_mask[follows, at], -1)
            scene = replace(scene, mask=np.where(there >= 0, there, scene.mask))
    if PRESENCE in variant:
        scene = scene.take(np.isin(scene.category, scene.truth_category))
    return scene


def _with_classes(scene: _Scene) -> _Scene:
    """Give every track the category of the object with the largest IoU, and merge tracks that become equal.

    Models predict the same list of masks with several categories, as several tracks. If some of them now have the same
    category, the tracks that had it before stay, or else those of the category with the highest score. One of them gets
    the highest score of all.
    """
    own = scene.own()
    right = np.where(own, scene.tube, 0).max(1) >= RIGHT
    best = (scene.tube + _TIE * own).argmax(1)
    moved = ~right & (scene.tube.max(1) >= _ABOUT)
    category = np.where(moved, scene.truth_category[best], scene.category)
    moved &= category != scene.category
    kept, score = np.ones(len(category), np.bool_), scene.score.copy()
    groups: dict[tuple[int, bytes], list[int]] = {}
    for t in range(len(category)):
        groups.setdefault((int(category[t]), scene.mask[t].tobytes()), []).append(t)
    for members in groups.values():
        if len(members) > 1 and moved[members].any():
            rows = np.array(members)
            stayed = rows[~moved[rows]]
            top = int(rows[np.argmax(score[rows])])
            mine = stayed if len(stayed) else rows[scene.category[rows] == scene.category[top]]
            kept[rows] = False
            kept[mine] = True
            score[mine[np.argmax(score[mine])]] = score[top]
    return replace(scene, category=category, score=score).take(kept)


def _follows(scene: _Scene, within_category: bool) -> Ints:
    """Return the truth that each mask is assigned to, ``(tracks, frames)``: that of the largest IoU, -1 for none."""
    own = scene.own()[:, None, :]
    iou = np.where(own, scene.iou, 0) if within_category else scene.iou + _TIE * own
    return np.where(iou.max(2) >= _ABOUT, iou.argmax(2), -1)


def _with_links(scene: _Scene, follows: Ints, within_category: bool) -> tuple[_Scene, Ints]:
    """Make every track follow one object, with all masks that any track has of it, and join fragments of tracks.

    Returns the scene, and the truth of each mask, ``(tracks, frames)`` as from `_follows`.
    """
    n_frames = follows.shape[1]
    on = follows[:, :, None] == np.arange(len(scene.truth))
    target = _targets(scene, on.sum(1))
    kept = _joined(scene, follows, target)
    mask, new, iou = scene.mask.copy(), follows.copy(), scene.iou
    by_category: dict[int, Ints] = {}
    shown = np.where(on, iou, -1.0)
    for t in np.flatnonzero(kept & (target >= 0)).tolist():
        key = int(scene.category[t]) if within_category else -1
        if key not in by_category:
            mine = shown if key < 0 else np.where((scene.category == key)[:, None, None], shown, -1.0)
            by_category[key] = np.where(mine.max(0) >= 0, mine.argmax(0), -1)
        g = int(target[t])
        source = by_category[key][:, g]
        source = np.where(follows[t] == g, t, source)
        mask[t] = np.where(source >= 0, scene.mask[source, np.arange(n_frames)], -1)
        new[t] = np.where(source >= 0, g, -1)
    length = np.where(target >= 0, n_frames, scene.length)
    return replace(scene, mask=mask, length=length).take(kept), new[kept]


def _targets(scene: _Scene, times: Ints) -> Ints:
    """Return the object that each track has to follow ``(tracks,)``, -1 for none.

    ``times (tracks, truths)`` are the numbers of frames in which a track follows an object. Tracks and objects of one
    category are matched so that as many objects as possible have a track, and then by the total number of frames. An
    unmatched track takes the object of its category that it follows in most frames, or else of any category.
    """
    of_own = np.where(scene.own(), times, 0)
    target = np.where(of_own.any(1), of_own.argmax(1), np.where(times.any(1), times.argmax(1), -1))
    for category in np.unique(scene.category[of_own.any(1)]).tolist():
        tracks = np.flatnonzero((scene.category == category) & of_own.any(1))
        truths = np.flatnonzero(scene.truth_category == category)
        if len(tracks) > 1 and len(truths) > 1:
            shared = of_own[np.ix_(tracks, truths)]
            one, other = linear_sum_assignment(shared + (shared > 0) * (int(shared.sum()) + 1), maximize=True)
            is_on = shared[one, other] > 0
            target[tracks[one[is_on]]] = truths[other[is_on]]
    return np.asarray(target)


def _joined(scene: _Scene, follows: Ints, target: Ints) -> Flags:
    """Return which tracks stay ``(tracks,)`` when fragments are joined.

    Fragments are tracks of one category on one object that have no frame in common.
    """
    kept = np.ones(len(target), np.bool_)
    groups: dict[tuple[int, int], list[int]] = {}
    for t in np.flatnonzero(target >= 0).tolist():
        groups.setdefault((int(scene.category[t]), int(target[t])), []).append(t)
    for members in groups.values():
        wholes: list[Flags] = []
        for t in sorted(members, key=lambda t: -scene.score[t]) if len(members) > 1 else ():
            frames = follows[t] == target[t]
            for whole in wholes:
                if not (whole & frames).any():
                    whole |= frames
                    kept[t] = False
                    break
            else:
                wholes.append(frames)
    return kept


def _scenes(truths: GroundTruthArrays, batch: TrackBatch, name: str) -> list[_Scene]:
    """Return the videos of a batch, with overlaps with the truths of any category."""
    n = len(batch.video)
    every = _of_one_category(truths)
    nowhere = FrameUse(np.zeros(n, np.int64), {})
    probe = replace(batch, category=np.zeros(n, np.int64), area_sum=None, area_frames=None, frames=nowhere)
    found = overlap(every, probe, (MaskRules(False, False),), 0.0, name)
    assert found.by_frame is not None
    table, behind = batch.masks, len(batch.masks.start)
    order = np.argsort(batch.video, kind="stable")
    starts = np.append(np.flatnonzero(np.diff(batch.video[order], prepend=-1)), n)
    union = found.union[0]
    tube = np.divide(found.intersection, union, out=np.zeros(len(union)), where=union > 0)
    out = []
    for a, b in itertools.pairwise(starts.tolist()):
        rows = order[a:b]
        video = int(batch.video[rows[0]])
        frames = int(truths.frames[video])
        pair = int(every.pair_of(np.array([video]), np.zeros(1, np.int64))[0])
        mine = every.rows[every.first[pair] : every.first[pair + 1]] if pair >= 0 else np.empty(0, np.int64)
        shape = (len(rows), frames, len(mine))
        iou = np.zeros(shape)
        if pair >= 0:
            at = found.by_frame.offset[rows][:, None] + np.arange(shape[1] * shape[2])
            iou = found.by_frame.iou[at].reshape(shape)
        at = found.offset[rows][:, None] + np.arange(len(mine))
        length = table.track[rows + 1] - table.track[rows]
        mask = _lists(table, rows, max(frames, int(length.max(initial=0))))
        truth_mask = _behind(_lists(truths.masks, mine, mask.shape[1]), behind)
        iou = _padded(iou, mask.shape[1])
        category, score = batch.category[rows], batch.score[rows]
        out.append(_Scene(rows, category, score, mask, length, iou, tube[at], mine, truths.category[mine], truth_mask))
    return out


def _of_one_category(truths: GroundTruthArrays) -> GroundTruthArrays:
    """Return the truths with one category for all, so that every track is compared with all truths of its video."""
    one = copy.copy(truths)
    one.category_ids, one.category = np.zeros(1, np.int64), np.zeros_like(truths.category)
    one.rows = np.argsort(truths.video, kind="stable")
    one.keys, first = np.unique(truths.video[one.rows], return_index=True)
    one.first = np.append(first, len(one.rows)).astype(np.int64)
    return one


def _lists(table: MaskTable, rows: Ints, frames: int) -> NDArray[np.int64]:
    """Return the masks of some tracks as rows of the table, ``(tracks, frames)``, -1 where there is none."""
    at = table.track[rows][:, None] + np.arange(frames)
    inside = at < table.track[rows + 1][:, None]
    return np.where(inside, np.append(table.frame_mask, -1)[np.where(inside, at, -1)], -1).astype(np.int64)


def _behind(masks: Ints, first: int) -> Ints:
    return np.where(masks >= 0, masks + first, -1)


def _padded(iou: Floats, frames: int) -> Floats:
    """Pad ``iou`` with zeros to ``frames`` frames: frames after the end of the video have no truth."""
    return np.pad(iou, ((0, 0), (0, frames - iou.shape[1]), (0, 0)))


def _batch_of(truths: GroundTruthArrays, batch: TrackBatch, scenes: list[_Scene]) -> TrackBatch:
    """Return the tracks of all scenes as a batch, in the order of the original batch."""
    rows = np.concatenate([np.empty(0, np.int64), *(scene.rows for scene in scenes)])
    order = np.argsort(rows, kind="stable")
    length = np.concatenate([np.empty(0, np.int64), *(scene.length for scene in scenes)])
    lists = [scene.mask[i, : scene.length[i]] for scene in scenes for i in range(len(scene.rows))]
    frame_mask = np.concatenate([np.empty(0, np.int64), *(lists[i] for i in order.tolist())])
    track = np.concatenate([[0], np.cumsum(length[order])]).astype(np.int64)
    masks, area = _with_truth(batch, truths, frame_mask, track)
    rows = rows[order]
    video = batch.video[rows]
    owner = np.repeat(np.arange(len(rows)), np.diff(track))
    inside = (masks.frame_mask >= 0) & (np.arange(len(owner)) - track[owner] < truths.frames[video[owner]])
    use = None
    if batch.frames is not None:
        use = FrameUse(np.bincount(owner[inside], minlength=len(rows)), batch.frames.aborts)
    return TrackBatch(
        video,
        np.concatenate([np.empty(0, np.int64), *(scene.category for scene in scenes)])[order],
        np.concatenate([np.empty(0), *(scene.score for scene in scenes)])[order],
        batch.record[rows],
        np.ones(len(rows), np.bool_),
        masks,
        frames=use,
        mask_area=area,
    )


def _with_truth(batch: TrackBatch, truths: GroundTruthArrays, frame_mask: Ints, track: Ints) -> tuple[MaskTable, Ints]:
    """Return a mask table with the lists ``frame_mask``, and the areas of its masks.

    Rows beyond the batch's table are masks of the truth; those in use are copied into the table.
    """
    table, truth, area = batch.masks, truths.masks, batch.mask_area
    assert area is not None
    behind = len(table.start)
    used = np.unique(frame_mask[frame_mask >= behind])
    new = np.where(frame_mask >= behind, behind + np.searchsorted(used, frame_mask), frame_mask)
    if not len(used):
        return replace(table, track=track, frame_mask=new.astype(np.int32)), area
    used = used - behind
    sizes = truth.stop[used] - truth.start[used]
    stop = np.cumsum(sizes) + len(table.data)
    data = [truth.data[a:b] for a, b in zip(truth.start[used].tolist(), truth.stop[used].tolist(), strict=True)]
    joined = MaskTable(
        np.concatenate([table.data, *data]),
        np.concatenate([table.start, stop - sizes]),
        np.concatenate([table.stop, stop]),
        np.concatenate([table.kind, truth.kind[used]]),
        np.concatenate([table.height, truth.height[used]]),
        np.concatenate([table.width, truth.width[used]]),
        track,
        new.astype(np.int32),
    )
    return joined, np.concatenate([area, truths.area[used]])
