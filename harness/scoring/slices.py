"""AP and recall over slices of the truth: by kind of object, video and category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.arrays import Floats, Ints
from harness.scoring.average_precision import Range, TruthSelection, compute_average_precision
from harness.scoring.metrics import GROUP_NAMES, Cells, Number, positions_of
from harness.scoring.overlap import GroundTruthArrays, Overlaps
from harness.scoring.protocols import AREAS, LENGTHS, ApProtocol
from harness.scoring.score import select
from harness.scoring.track_shape import UNKNOWN, boxes, consistency

OBJECT_COUNTS = (
    Range("1 object", "objects", 1, 1),
    Range("2 to 4 objects", "objects", 2, 4),
    Range("5 or more", "objects", 5, 1e10),
)
MOTION = (
    Range("slow", "motion", 0.9, 1),
    Range("medium motion", "motion", 0.7, 0.9),
    Range("fast", "motion", 0, 0.7),
)
"""Bounds of slow, medium and fast objects on ImageNet VID (Zhu et al., ICCV 2017)."""
DENSITY = (
    Range("apart", "density", 0, 0.25, bounds_tracks=False),
    Range("near others", "density", 0.25, 0.5, bounds_tracks=False),
    Range("among others", "density", 0.5, 1, bounds_tracks=False),
)
FREQUENCIES = {"f": "frequent", "c": "common", "r": "rare"}
TRACK_COUNTS = {"1 track": (1, 1), "2 to 5 tracks": (2, 5), "6 tracks or more": (6, 1 << 62)}

DESCRIPTIONS = {
    "area": "mean area of an object in square pixels: bounds at 128² and 256²",
    "track length": "frames in which an object is seen: to 3, 3 to 10, from 10, as BURST has them",
    "objects": "annotated objects in the video",
    "motion": "mean IoU of an object's masks in neighbouring frames: bounds at 0.9 and 0.7",
    "occlusion": "as annotated, mean of the more occluded half of the frames: bounds at 0.25 and 0.5; every false"
    " positive counts in each slice",
    "density": "in place of occlusion, which is not annotated: share of an object's box that another one's box covers,"
    " mean over frames: bounds at 0.25 and 0.5; every false positive counts in each slice",
    "groups": "groups of categories, as the protocol has them",
}
"""The definition of each quantity."""

_ALL = AREAS[0]


@dataclass(frozen=True)
class Slice:
    """One slice with its number of ``truths``; ``ap``, ``ap50`` and ``recall`` (AR100) are fractions, ``None`` without
    truths."""

    name: str
    truths: int
    ap: float | None
    ap50: float | None
    recall: float | None


@dataclass(frozen=True)
class Slicing:
    """The truth divided by one quantity.

    ``about`` defines the quantity. ``outside`` counts the truths without a value, which are in no slice. ``members``
    are the annotation ids of each slice by the slice's name.
    """

    name: str
    about: str
    slices: tuple[Slice, ...]
    outside: int
    members: dict[str, tuple[int, ...]] = field(default_factory=dict)


def slice_truth(
    chosen: ApProtocol, truths: GroundTruthArrays, overlaps: Overlaps, motion: Floats
) -> dict[str, Slicing]:
    """Return the slices by name of the quantity; ``motion (tracks,)`` is the tracks' `consistency`.

    Slices by area use the real areas, even if the protocol sets all of them to 0.
    """
    chosen = replace(chosen, quirks=replace(chosen.quirks, areas_are_zero=False))
    selection = select(chosen, truths)
    objects = np.bincount(truths.video[selection.row[~selection.ignored]], minlength=len(truths.video_ids))
    of_truths: dict[str, Floats] = {
        "objects": objects[truths.video[selection.row]].astype(np.float64),
        "motion": consistency(truths.masks)[selection.row],
    }
    occlusions = tuple(r for r in chosen.ranges if r.quantity == "occlusion")
    if not occlusions:
        of_truths["density"] = density(truths)[selection.row]
    selection = replace(selection, quantities=selection.quantities | of_truths)
    parts = (AREAS[1:], LENGTHS, OBJECT_COUNTS, MOTION, occlusions or DENSITY)
    of_tracks = {"objects": objects[overlaps.video].astype(np.float64), "motion": motion}
    curves = compute_average_precision(
        truths, selection, overlaps, 0, chosen.quirks, (_ALL, *(r for part in parts for r in part)),
        equal_lengths=chosen.equal_lengths, of_tracks=of_tracks,
    )  # fmt: skip
    cells = Cells(chosen, truths, curves, overlaps)
    unmoved = int((~selection.ignored & (of_truths["motion"] == UNKNOWN)).sum())
    members = _Members(truths, selection)
    slicings = [
        *(_by_range(cells, part, unmoved if part is MOTION else 0, members) for part in parts),
        _by_frequency(cells, truths, members),
        _by_group(cells, chosen, truths, members),
    ]
    return {slicing.name: slicing for slicing in slicings if slicing.slices}


class _Members:
    """The annotations that count, to find those in a slice."""

    def __init__(self, truths: GroundTruthArrays, selection: TruthSelection) -> None:
        self._category, self._quantities = truths.category[selection.row], selection.quantities
        self._counts = ~selection.ignored
        self._ids = np.array([one.id for one in truths.truth.records], np.int64)[selection.row]

    def within(self, bounds: Range) -> tuple[int, ...]:
        keep = self._counts.copy()
        for part in (bounds, bounds.within):
            if part is not None:
                keep &= ~part.excludes(self._quantities[part.quantity])
        return tuple(self._ids[keep].tolist())

    def of_categories(self, positions: Ints) -> tuple[int, ...]:
        return tuple(self._ids[self._counts & np.isin(self._category, positions)].tolist())


def density(truths: GroundTruthArrays) -> Floats:
    """Return how much of each annotated track's box another track's box covers, ``(annotations,)`` in ``[0, 1]``.

    In each frame in which the track is visible, this is the largest fraction that a single other track of the video
    covers; the result is the mean over these frames.
    """
    box, masks = boxes(truths.masks), truths.masks
    out = np.zeros(len(truths.video))
    for rows in _by_video(truths.video):
        frames = int(np.diff(masks.track)[rows].max(initial=0))
        here = np.zeros((len(rows), frames, 4), np.int64)
        for i, row in enumerate(rows.tolist()):
            mine = box[masks.track[row] : masks.track[row + 1]]
            here[i, : len(mine)] = mine
        area = (here[..., 2:] - here[..., :2]).prod(-1)
        low = np.maximum(here[:, None, :, :2], here[None, :, :, :2])
        high = np.minimum(here[:, None, :, 2:], here[None, :, :, 2:])
        common = np.clip(high - low, 0, None).prod(-1)
        common[np.arange(len(rows)), np.arange(len(rows))] = 0
        covered = common.max(1) / np.maximum(area, 1)
        out[rows] = covered.sum(1) / np.maximum((area > 0).sum(1), 1)
    return out


def _by_video(video: Ints) -> list[Ints]:
    order = np.argsort(video, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(video[order])) + 1) if len(order) else []


def _numbers(cells: Cells, range_name: str, positions: Ints | None) -> tuple[float | None, float | None, float | None]:
    """Return AP, AP50 and AR100."""
    return (
        cells.mean(Number("AP", True, None, range_name, 100), positions),
        cells.mean(Number("AP50", True, 0, range_name, 100), positions),
        cells.mean(Number("AR100", False, None, range_name, 100), positions),
    )


def _by_range(cells: Cells, ranges: Sequence[Range], outside: int, members: _Members) -> Slicing:
    slices = []
    for bounds in ranges:
        truths = int(cells.curves.positives[:, cells.range[bounds.name]].sum())
        slices.append(Slice(bounds.name, truths, *_numbers(cells, bounds.name, None)))
    name = "track length" if ranges is LENGTHS else ranges[0].quantity
    return Slicing(name, DESCRIPTIONS[name], tuple(slices), outside, {one.name: members.within(one) for one in ranges})


def _of_categories(cells: Cells, name: str, positions: Ints) -> Slice:
    rows = cells.defined(_ALL.name, positions)
    truths = int(cells.curves.positives[rows, cells.range[_ALL.name]].sum())
    return Slice(name, truths, *_numbers(cells, _ALL.name, positions))


def _by_frequency(cells: Cells, truths: GroundTruthArrays, members: _Members) -> Slicing:
    categories = truths.annotations.categories
    if any(c.frequency for c in categories):
        about = "categories by the frequency that the annotations give them"
        found = {
            name: np.array([i for i, c in enumerate(categories) if c.frequency == letter], np.int64)
            for letter, name in FREQUENCIES.items()
        }
    else:
        about = "categories by the number of their annotated tracks in this split"
        row, per_row = cells.row, cells.curves.positives[:, cells.range[_ALL.name]]
        count = np.where(row >= 0, per_row[row] if len(per_row) else 0, 0)
        found = {name: np.flatnonzero((count >= a) & (count <= b)) for name, (a, b) in TRACK_COUNTS.items()}
    slices = tuple(_of_categories(cells, name, positions) for name, positions in found.items())
    inside = {name: members.of_categories(positions) for name, positions in found.items()}
    return Slicing("category frequency", about, slices, 0, inside)


def _by_group(cells: Cells, chosen: ApProtocol, truths: GroundTruthArrays, members: _Members) -> Slicing:
    groups = chosen.groups(truths.annotations.categories)
    found = {GROUP_NAMES[suffix]: positions_of(chosen, suffix, ids, truths) for suffix, ids in groups.items()}
    slices = tuple(_of_categories(cells, name, positions) for name, positions in found.items())
    inside = {name: members.of_categories(positions) for name, positions in found.items()}
    return Slicing("groups", DESCRIPTIONS["groups"], slices, 0, inside)
