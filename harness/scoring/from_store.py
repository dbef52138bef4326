"""Reading a prediction store for scoring: shard by shard into flat arrays; masks are shared as in the shards."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import rle
from harness.arrays import Ints
from harness.errors import UserError
from harness.formats.segmentations import masks_digest
from harness.paths import Location
from harness.rle import MaskTable
from harness.scoring.frame_use import frames_of
from harness.scoring.overlap import GroundTruthArrays, Overlaps, TrackBatch, positions
from harness.scoring.shard_reader import ShardGroup, ShardStore
from harness.warnings import Warnings

_ROW_BITS = 20
_KINDS = {
    "category_id": np.int64, "score": np.float64, "height": np.int32, "width": np.int32, "area_sum": np.int64,
    "area_frames": np.int32,
}  # fmt: skip
"""Types of the columns that scoring reads, see `harness.run_folder.store.SCHEMA`."""


def read_shards(
    group: ShardGroup,
    truths: GroundTruthArrays,
    folder: Location,
    warnings: Warnings,
    every_mask: bool = False,
    with_frames: bool = False,
) -> TrackBatch:
    """Turn some videos' shards into a `TrackBatch`. Records are numbered by video and row, see `row_of_record`.

    With ``every_mask`` it has the masks of categories without truth too; ``with_frames`` finds the frames in which
    tracks of any category are. Without ``every_mask`` masks have text only where their video has truth of the track's
    category: no others are decoded. Videos that the annotations do not have are left out. Raises `UserError` for
    categories that they do not have.
    """
    _, listed = positions(truths.video_ids, np.array(group.videos, np.int64))
    videos = [video for video, is_listed in zip(group.videos, listed, strict=True) if is_listed]
    parts = [_Shard(table) for table, is_listed in zip(group.tables, listed, strict=True) if is_listed]
    if not parts:
        parts, videos = [_Shard(group.tables[0].slice(0, 0))], [0]
    category_id = np.concatenate([p.column("category_id") for p in parts])
    category, known = positions(truths.category_ids, category_id)
    if not known.all():
        unknown = int(category_id[np.argmin(known)])
        raise UserError(str(folder), f"unknown category {unknown}", "score with the annotations of the run")
    video_ids = np.repeat(np.array(videos, np.int64), [p.rows for p in parts])
    row = np.concatenate([np.arange(p.rows) for p in parts])
    score = np.concatenate([p.column("score") for p in parts])
    odd = np.flatnonzero((score < 0) | (score > 1))
    if len(odd):
        where = place_of_record(folder, int(row[odd[0]] + (video_ids[odd[0]] << _ROW_BITS)))
        warnings.add("score outside [0, 1]", where, len(odd))
    has_masks = truths.owned[category] | every_mask
    video, record = np.searchsorted(truths.video_ids, video_ids), row + (video_ids << _ROW_BITS)
    masks = _join(parts, has_masks, has_masks & (every_mask | (truths.pair_of(video, category) >= 0)))
    use = None
    if with_frames:
        height, width = truths.sizes[video].T
        is_odd = truths.odd_sizes[video]
        is_odd |= np.concatenate([p.column("height") for p in parts]) != height
        is_odd |= np.concatenate([p.column("width") for p in parts]) != width
        every = _join(parts, np.ones(len(row), np.bool_), is_odd)  # only masks of odd sizes are looked at
        use = frames_of(every, video, truths, [place_of_record(folder, r) for r in record.tolist()])
    return TrackBatch(
        video,
        category,
        score,
        record,
        has_masks,
        masks,
        np.concatenate([p.column("area_sum") for p in parts]),
        np.concatenate([p.column("area_frames") for p in parts]),
        frames=use,
    )


def row_of_record(record: Ints) -> Ints:
    """The row in its video's shard, of records that `read_shards` has numbered."""
    return record & ((1 << _ROW_BITS) - 1)


def place_of_record(folder: Location, record: int) -> str:
    """Names the track of a record."""
    return f"{folder}, video {record >> _ROW_BITS}, track {record & ((1 << _ROW_BITS) - 1)}"


def digests_in_store(store: ShardStore, overlaps: Overlaps, tracks: Ints) -> list[bytes]:
    """Digests of the masks of some tracks, whose records ascend; their shards are read again."""
    records = overlaps.record[tracks]
    found: list[bytes] = []
    for video in np.unique(records >> _ROW_BITS).tolist():
        shard = _Shard(store.read_table(video))
        for row in row_of_record(records[records >> _ROW_BITS == video]).tolist():
            masks = shard.index[shard.offsets[row] : shard.offsets[row + 1]].tolist()
            counts = [shard.data[shard.begin[m] : shard.end[m]].tobytes() if m >= 0 else b"" for m in masks]
            found.append(masks_digest(*counts))
    return found


class _Shard:
    """One shard's columns as numpy arrays; its masks as a dictionary of distinct counts and indices into it."""

    def __init__(self, table: Any) -> None:
        self.table, self.rows = table, table.num_rows
        self.offsets = np.zeros(1, np.int64)
        self.index = np.empty(0, np.int32)
        self.data, self.begin, self.end = np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64)
        self.size = np.empty((2, 0), np.int32)
        if not self.rows:
            return
        lists = _one(table.column("masks"))
        offsets = _numbers(lists.offsets, np.int32)
        self.offsets = offsets.astype(np.int64) - offsets[0]
        values = lists.values[int(offsets[0]) : int(offsets[-1])]
        self.index = _numbers(values.indices, np.int32, absent=-1)
        dictionary = values.dictionary
        n = len(dictionary)
        if n:
            _, place, data = dictionary.buffers()
            self.data = np.frombuffer(data, np.uint8) if data is not None else self.data
            places = np.frombuffer(place, np.int32)[dictionary.offset : dictionary.offset + n + 1].astype(np.int64)
            self.begin, self.end = places[:-1], places[1:]
        height, width = self.column("height")[0], self.column("width")[0]
        self.size = np.empty((2, n), np.int32)
        self.size[0], self.size[1] = height, width

    def column(self, name: str) -> Any:
        """A column without nulls ``(rows,)``."""
        return _numbers(_one(self.table.column(name)), _KINDS[name])


def _one(column: Any) -> Any:
    """A column in one piece."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _numbers(array: Any, kind: Any, absent: int | None = None) -> Any:
    """An Arrow array's numbers without a copy, or with ``absent`` where it has nulls.

    Arrow's own ``to_numpy`` imports pandas, which takes longer than reading the shards.
    """
    if not len(array):
        return np.empty(0, kind)
    valid, data = array.buffers()
    numbers = np.frombuffer(data, kind)[array.offset : array.offset + len(array)]
    if absent is None or valid is None:
        return numbers
    bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")
    return np.where(bits[array.offset : array.offset + len(array)] > 0, numbers, numbers.dtype.type(absent))


def _join(parts: list[_Shard], has_masks: NDArray[np.bool_], with_text: NDArray[np.bool_]) -> MaskTable:
    """Join the shards' masks; tracks without ``has_masks`` are left out.

    Only the masks of tracks ``with_text`` have their text, the others none: most of a store is never decoded.
    """
    first_mask = np.cumsum([0] + [len(p.begin) for p in parts])
    first_row = np.cumsum([0] + [p.rows for p in parts])
    needed = [
        rle.used_masks(p.offsets, p.index, p.begin, p.end, with_text[a : a + p.rows])
        for p, a in zip(parts, first_row, strict=False)
    ]
    first_byte = np.cumsum([0] + [size for _, size in needed])
    data = np.empty(first_byte[-1], np.uint8)
    begin, end = np.zeros(first_mask[-1], np.int64), np.zeros(first_mask[-1], np.int64)
    for p, (chosen, _), m, b in zip(parts, needed, first_mask, first_byte, strict=False):
        rle.copy_texts(p.data, p.begin, p.end, chosen, data, b, begin[m:], end[m:])
    lengths = np.concatenate([np.diff(p.offsets) for p in parts])
    frames = np.concatenate(
        [np.where(p.index < 0, -1, p.index + np.int32(m)) for p, m in zip(parts, first_mask, strict=False)]
    ).astype(np.int32)
    size = np.concatenate([p.size for p in parts], 1)
    kind = np.full(len(begin), rle.COMPRESSED, np.int8)
    frames = frames[np.repeat(has_masks, lengths)]
    track = np.concatenate([[0], np.cumsum(lengths[has_masks])]).astype(np.int64)
    return MaskTable(data, begin, end, kind, size[0], size[1], track, frames)
