"""Reading a prediction store for scoring: shard by shard into flat arrays; masks are shared as in the shards."""

from __future__ import annotations

import itertools

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
from harness.scoring.shard_reader import NO_TRACKS, Shard, ShardGroup, ShardStore
from harness.warnings import Warnings

_ROW_BITS = 20


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
    parts = [shard for shard, is_listed in zip(group.shards, listed, strict=True) if is_listed]
    if not parts:
        parts, videos = [NO_TRACKS], [0]
    category_id = np.concatenate([p.category_id for p in parts])
    category, known = positions(truths.category_ids, category_id)
    if not known.all():
        unknown = int(category_id[np.argmin(known)])
        raise UserError(str(folder), f"unknown category {unknown}", "score with the annotations of the run")
    rows = [len(p.score) for p in parts]
    video_ids = np.repeat(np.array(videos, np.int64), rows)
    row = np.concatenate([np.arange(n) for n in rows])
    score = np.concatenate([p.score for p in parts])
    odd = np.flatnonzero((score < 0) | (score > 1))
    if len(odd):
        where = place_of_record(folder, int(row[odd[0]] + (video_ids[odd[0]] << _ROW_BITS)))
        warnings.add("score outside [0, 1]", where, len(odd))
    has_masks = truths.owned[category] | every_mask
    video, record = np.searchsorted(truths.video_ids, video_ids), row + (video_ids << _ROW_BITS)
    masks = _join(parts, has_masks, has_masks & (every_mask | (truths.pair_of(video, category) >= 0)))
    areas = [p.area for p in parts if p.area is not None]
    use = None
    if with_frames:
        height, width = truths.sizes[video].T
        is_odd = truths.odd_sizes[video]
        is_odd |= np.repeat([p.size[0] for p in parts], rows) != height
        is_odd |= np.repeat([p.size[1] for p in parts], rows) != width
        every = _join(parts, np.ones(len(row), np.bool_), is_odd)  # only masks of odd sizes are looked at
        use = frames_of(every, video, truths, [place_of_record(folder, r) for r in record.tolist()])
    return TrackBatch(
        video,
        category,
        score,
        record,
        has_masks,
        masks,
        np.concatenate([p.area_sum for p in parts]),
        np.concatenate([p.area_frames for p in parts]),
        frames=use,
        mask_area=np.concatenate(areas) if len(areas) == len(parts) else None,
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
        shard = store.read_shard(video)
        rows = row_of_record(records[records >> _ROW_BITS == video])
        wanted = np.zeros(len(shard.score), np.bool_)
        wanted[rows] = True
        table = _join([shard], wanted, wanted)
        for track in np.searchsorted(np.flatnonzero(wanted), rows).tolist():
            masks = table.frame_mask[table.track[track] : table.track[track + 1]].tolist()
            counts = [table.data[table.start[m] : table.stop[m]].tobytes() if m >= 0 else b"" for m in masks]
            found.append(masks_digest(*counts))
    return found


def _join(parts: list[Shard], has_masks: NDArray[np.bool_], with_text: NDArray[np.bool_]) -> MaskTable:
    """Join the shards' masks; tracks without ``has_masks`` are left out.

    Only the masks of tracks ``with_text`` have their text, the others none: most of a store is never read.
    """
    first_mask = np.cumsum([0] + [len(p.start) for p in parts])
    first_row = np.cumsum([0] + [len(p.score) for p in parts])
    needed = [p.blocks_of(with_text[a : a + len(p.score)]) for p, a in zip(parts, first_row, strict=False)]
    first_byte = np.cumsum([0] + [blocks.at[-1] for blocks in needed])
    data = np.empty(first_byte[-1], np.uint8)
    begin, end = np.zeros(first_mask[-1], np.int64), np.zeros(first_mask[-1], np.int64)
    for p, blocks, m, b in zip(parts, needed, first_mask, first_byte, strict=False):
        if len(blocks.block):
            places = (b + blocks.at).tolist()
            rooms = [data[start:stop] for start, stop in itertools.pairwise(places)]
            p.read(blocks.block.tolist(), blocks.begin.tolist(), rooms)
            begin[m + blocks.masks], end[m + blocks.masks] = b + blocks.start, b + blocks.stop
    lengths = np.concatenate([np.diff(p.offsets) for p in parts])
    frames = np.concatenate(
        [np.where(p.index < 0, -1, p.index + np.int32(m)) for p, m in zip(parts, first_mask, strict=False)]
    ).astype(np.int32)
    size = np.repeat(np.array([p.size for p in parts], np.int32).reshape(-1, 2), np.diff(first_mask), 0).T.copy()
    kind = np.full(len(begin), rle.COMPRESSED, np.int8)
    frames = frames[np.repeat(has_masks, lengths)]
    track = np.concatenate([[0], np.cumsum(lengths[has_masks])]).astype(np.int64)
    return MaskTable(data, begin, end, kind, size[0], size[1], track, frames)
