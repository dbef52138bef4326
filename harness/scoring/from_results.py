"""Records of a results file as tracks of the annotations: ids, scores, and masks of the categories that have truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from harness import rle
from harness.arrays import Ints
from harness.errors import UserError
from harness.formats import lenient, scan
from harness.formats.containers import open_records
from harness.formats.foreign import refuse_foreign_record
from harness.formats.lenient import Ids
from harness.formats.results import BLOCK_BYTES, Block, OddRecord, ResultRecord
from harness.formats.segmentations import NewMask, convert, find_masks, masks_digest, with_masks
from harness.formats.youtube_vis import decode_records
from harness.rle import MaskTable
from harness.scoring.overlap import FramesOf, FrameUse, GroundTruthArrays, Overlaps, TrackBatch, positions
from harness.warnings import Warnings

_LARGEST_SCORE = 1e300


def read_batch(
    block: Block,
    truths: GroundTruthArrays,
    path: str,
    warnings: Warnings,
    named: NDArray[np.bool_] | None = None,
    frames_of: FramesOf | None = None,
    unknown: list[UserError] | None = None,
    every_mask: bool = False,
) -> TrackBatch:
    """Turn a block's records into a `TrackBatch`; masks are found only for categories that have truth.

    With ``every_mask`` they are found for all listed categories.
    The videos that records name, of any category, are set in ``named (videos,)``. Tracks of unlisted categories are
    dropped and counted. ``frames_of`` finds the frames in which tracks of any category are. Raises `UserError` for
    unknown videos, scores that are not finite, and records of another form; where ``unknown`` is given, records of
    unknown videos are left out and those errors, one for each, go there.
    """
    try:
        video_id, category_id, score = _strict_columns(block, truths, path)
    except (UserError, OverflowError):
        video_id, category_id, score = lenient_columns(block, truths, path, warnings, unknown is not None)
    number = block.first + np.arange(len(score))
    video, known = positions(truths.video_ids, video_id)
    if not known.all():
        errors = [
            unknown_video(int(video_id[at]), truths.annotations.ids[0], f"{path}, record {number[at]}")
            for at in np.flatnonzero(~known).tolist()
        ]
        if unknown is None:
            raise errors[0]
        unknown += errors
        block = block._replace(spans=block.spans[known])
        video, category_id, score, number = video[known], category_id[known], score[known], number[known]
    if named is not None:
        named[video] = True
    if not np.isfinite(score).all():
        at = int(np.argmin(np.isfinite(score)))
        raise UserError(f"{path}, record {number[at]}", f"score is {score[at]}", "write a finite number")
    odd = (score < 0) | (score > 1)
    if odd.any():
        warnings.add("score outside [0, 1]", f"{path}, record {number[np.argmax(odd)]}", int(odd.sum()))
    category, listed = positions(truths.category_ids, category_id)
    others = None
    if frames_of is not None:
        seen = listed.copy()
        seen[listed] = truths.owned[category[listed]] | every_mask
        unseen = np.flatnonzero(~seen)
        names = [f"{path}, record {n}" for n in number[unseen]]
        others = _frames_of_others(block, unseen, video[unseen], truths, names, frames_of)
    if not listed.all():
        where = f"{path}, record {number[np.argmin(listed)]}"
        warnings.add("category not in the annotations, track dropped", where, int((~listed).sum()))
    video, category, score, number = video[listed], category[listed], score[listed], number[listed]
    spans = block.spans[listed]
    has_masks = truths.owned[category] | every_mask
    masks = masks_of(block.text, spans[has_masks], video[has_masks], truths, path, number[has_masks], warnings)
    lengths = np.diff(masks.track)
    short = np.flatnonzero(lengths != truths.lengths[video[has_masks]])
    if len(short):
        where = f"{path}, record {number[has_masks][short[0]]}"
        warnings.add("number of frames differs from the video's", where, len(short))
    use = None
    if frames_of is not None and others is not None:
        own = frames_of(masks, video[has_masks], truths, [f"{path}, record {n}" for n in number[has_masks]])
        present = np.zeros(len(listed), np.int64)
        present[unseen] = others.present
        present = present[listed]
        present[has_masks] = own.present
        use = FrameUse(present, own.aborts | others.aborts)
    return TrackBatch(
        video,
        category,
        score,
        number,
        has_masks,
        masks,
        text=spans[:, 3] - spans[:, 2],
        frames=use,
        at=block.offset + spans[:, 2],
    )


def _frames_of_others(
    block: Block, rows: Ints, video: Ints, truths: GroundTruthArrays, names: list[str], frames_of: FramesOf
) -> FrameUse:
    """In which frames the records ``rows`` are, whose categories have no truth or are not listed."""
    start, stop = block.spans[rows, 2].copy(), block.spans[rows, 3].copy()
    try:
        table = find_masks(block.text, start, stop, int(truths.lengths[video].sum()) + 16, names).table
    except UserError as error:
        return FrameUse(np.zeros(len(rows), np.int64), {int(video[0]): f"{error.where}: {error.what}"})
    return frames_of(table, video, truths, names)


def digests_in_results(path: Path, overlaps: Overlaps, tracks: Ints) -> list[bytes]:
    """Digests of the masks' text of some ``tracks`` of a results file, in its order; only they are read again."""
    found = []
    with open_records(path) as file:
        begin = file.tell() if file.seekable() else 0
        here = 0
        for at, size in zip(overlaps.at[tracks].tolist(), overlaps.text[tracks].tolist(), strict=True):
            if file.seekable():
                file.seek(begin + at)
            else:
                for start in range(here, at, BLOCK_BYTES):
                    file.read(min(BLOCK_BYTES, at - start))
            found.append(masks_digest(file.read(size)))
            here = at + size
    return found


class ResultColumns(NamedTuple):
    """Columns of some records, each ``(records,)``: the ids as integers of the annotations, and the scores."""

    video_id: Ints
    category_id: Ints
    score: NDArray[np.float64]


def _strict_columns(block: Block, truths: GroundTruthArrays, path: str) -> ResultColumns:
    """Columns of records whose fields are all as specified, for annotations whose ids are too."""
    if truths.annotations.renumbered:
        raise OverflowError
    records = decode_records(block.text.data, block.spans, list[ResultRecord], path)
    return ResultColumns(
        np.array([r.video_id for r in records], np.int64),
        np.array([r.category_id for r in records], np.int64),
        np.array([r.score for r in records], np.float64),
    )


def video_ids(block: Block, truths: GroundTruthArrays, path: str) -> Ints:
    """The videos of a block's records by the ids of the annotations; all that are not there have one number."""
    try:
        return _strict_columns(block, truths, path).video_id
    except (UserError, OverflowError):
        return lenient_columns(block, truths, path, Warnings(False), True).video_id


def lenient_columns(
    block: Block, truths: GroundTruthArrays, path: str, warnings: Warnings, any_video: bool = False
) -> ResultColumns:
    """Columns of records read leniently; such values are counted.

    A category that the annotations do not have is `lenient.NO_ID`, and so is a video, with ``any_video``. Raises
    `UserError` that names the record.
    """
    videos, categories = truths.annotations.ids
    n = len(block.spans)
    columns = ResultColumns(np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.float64))
    for at, (start, stop, mask_start, mask_stop) in enumerate(block.spans.tolist()):
        where = f"{path}, record {block.first + at}"
        if mask_stop:
            text = block.text[start:mask_start].tobytes() + b"0" + block.text[mask_stop:stop].tobytes()
        else:
            text = block.text[start:stop].tobytes()
        record = lenient.loads(text, where)
        refuse_foreign_record(record, where)
        checked = convert(record, OddRecord, where)
        columns.score[at] = finite_score(checked.score, where, warnings)
        video, form = videos.find(checked.video_id, where, "video_id")
        if video is None and not any_video:
            raise unknown_video(checked.video_id, videos, where)
        category, other = categories.find(checked.category_id, where, "category_id")
        columns.video_id[at] = lenient.NO_ID if video is None else video
        columns.category_id[at] = lenient.NO_ID if category is None else category
        for one in (form, other):
            if one:
                warnings.add(f"id is {one}", where)
    return columns


def finite_score(value: Any, where: str, warnings: Warnings) -> float:
    """A value as a score. Raises `UserError` for other values."""
    if isinstance(value, bool):
        warnings.add(f"score is {lenient.TRUTH_VALUE}", where)
        return float(value)
    if isinstance(value, (int, float)) and abs(value) < _LARGEST_SCORE:
        return value
    shown = str(value) if isinstance(value, (int, float)) else json.dumps(value)
    raise UserError(where, f"score is {shown[:40]}", "write a finite number")


def unknown_video(video: Any, known: Ids, where: str) -> UserError:
    """The error for a record ``where`` of a video that the annotations do not have."""
    return UserError(
        where, f"unknown video {video if isinstance(video, int) else json.dumps(video)}", known.near(video)
    )


def masks_of(
    text: NDArray[np.uint8],
    spans: Ints,
    video: Ints,
    truths: GroundTruthArrays,
    path: str,
    number: Ints,
    warnings: Warnings,
) -> MaskTable:
    """Find the masks of tracks; tracks with equal masks share them."""
    shared, distinct = _share(text, spans, video)
    chosen, names = spans[distinct], _Names(path, number[distinct])
    frames = int(truths.lengths[video[distinct]].sum()) + 16
    found = find_masks(text, chosen[:, 2].copy(), chosen[:, 3].copy(), frames, names)
    table = _with_read_sizes(found.table, found.other, names, warnings)
    bad = np.flatnonzero((table.kind == rle.LISTED) | (table.kind == scan.OTHER))
    if len(bad):
        track = int(np.searchsorted(table.track, bad[0], side="right")) - 1
        where = f"{names[track]}, frame {int(bad[0]) - int(table.track[track])}"
        raise UserError(where, "mask is not a compressed RLE", 'write {"size": [h, w], "counts": "..."} or null')
    lengths = np.diff(table.track)[shared]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - table.track[:-1][shared], lengths)
    return MaskTable(table.data, table.start, table.stop, table.kind, table.height, table.width, offsets,
                     table.frame_mask[rows])  # fmt: skip


def _with_read_sizes(table: MaskTable, other: Ints, names: Sequence[str], warnings: Warnings) -> MaskTable:
    """The table, including masks whose sizes are written in another way; these are counted."""
    new = []
    owners = np.searchsorted(table.track, other, side="right") - 1
    for row, owner in zip(other.tolist(), owners.tolist(), strict=True):
        where = f"{names[owner]}, frame {row - int(table.track[owner])}"
        mask = lenient.mask_entry(lenient.loads(table.data[table.start[row] : table.stop[row]].tobytes(), where))
        if mask is None:
            break  # a fault: it is reported later
        new.append(NewMask(row, mask.height, mask.width, mask.kind, mask.counts))
        warnings.add(f"size of a mask is {mask.form}", where)
    return with_masks(table, new)


def _share(text: NDArray[np.uint8], spans: Ints, video: Ints) -> tuple[Ints, Ints]:
    """For each track the index of the first with the same masks text in its video, and those first tracks' numbers."""
    shared, distinct = np.empty(len(spans), np.int64), np.empty(len(spans), np.int64)
    found = scan.share_texts(text, spans[:, 2].copy(), spans[:, 3].copy(), video, shared, distinct)
    return shared, distinct[:found]


class _Names(Sequence[str]):
    """Names of records of a file in errors, each made when it is read."""

    def __init__(self, path: str, number: Ints) -> None:
        self.path, self.number = path, number

    def __len__(self) -> int:
        return len(self.number)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> _Names: ...
    def __getitem__(self, at: int | slice) -> str | _Names:
        if isinstance(at, slice):
            return _Names(self.path, self.number[at])
        return f"{self.path}, record {self.number[at]}"
