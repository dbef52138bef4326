"""Results files (a list of predicted tracks), read in blocks: masks stay text, and only those that score are found.

Memory follows the block, not the file: an LV-VIS results file of 450 MB is read within a few blocks of 16 MB.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness import rle
from harness.errors import UserError, near
from harness.formats import scan
from harness.formats.segmentations import SEGMENTATIONS, find_masks, masks_digest
from harness.formats.youtube_vis import decode_records
from harness.rle import Ints, MaskTable
from harness.scoring.overlap import TrackBatch, Truths, positions
from harness.warnings import Warnings

BLOCK_BYTES = 16 << 20


class ResultRecord(msgspec.Struct):
    """One predicted track without its masks."""

    video_id: int
    category_id: int
    score: float
    segmentations: Any


class Block(NamedTuple):
    """Some records of a results file: the text, and spans ``(n, 4)`` as `scan.scan_records` gives them."""

    text: NDArray[np.uint8]
    spans: Ints
    first: int


def read_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yield the records of a results file, block by block. Raises `UserError` if it is no JSON list of objects."""
    mend = "write the file again as a JSON list of tracks"
    try:
        size = path.stat().st_size
        file = path.open("rb")
    except OSError as error:
        raise UserError(str(path), error.strerror or "cannot be read", "check the path") from error
    first, kept, fresh = 0, np.empty(0, np.uint8), True
    with file:
        while True:
            text = np.empty(len(kept) + block_bytes, np.uint8)
            text[: len(kept)] = kept
            read = file.readinto(text[len(kept) :].data)
            stop = len(kept) + read
            begin = 0
            if fresh and not first:
                begin = _open_bracket(text[:stop], str(path))
            spans = np.empty((max(stop // 64, 16), 4), np.int64)
            n, place, status = scan.scan_records(text, begin, stop, SEGMENTATIONS, fresh, spans)
            if n:
                yield Block(text, spans[:n], first)
                fresh = False
            first += n
            if status == scan.MALFORMED:
                raise UserError(f"{path}, record {first}", "is not a JSON object", mend)
            if status == scan.DONE:
                rest = text[place:stop].tobytes() + file.read(1 << 16)
                if rest.strip():
                    raise UserError(str(path), "has text behind the list", mend)
                return
            if not read:
                raise UserError(f"{path}, record {first}", f"the file ends inside it ({size} bytes)", mend)
            if fresh and not n:
                # nothing complete yet: keep all that was read, the bracket too
                kept = text[:stop]
                fresh, block_bytes = True, block_bytes * 2
                continue
            kept = text[place:stop]
            if not n:
                block_bytes *= 2


def _open_bracket(text: NDArray[np.uint8], path: str) -> int:
    solid = np.flatnonzero(text > 32)
    if not len(solid) or text[solid[0]] != 91:
        what = "is empty" if not len(solid) else "is not a list"
        raise UserError(path, what, "a results file is a JSON list of tracks")
    return int(solid[0]) + 1


def read_batch(
    block: Block, truths: Truths, path: str, warnings: Warnings, named: NDArray[np.bool_] | None = None
) -> TrackBatch:
    """Turn a block's records into a `TrackBatch`; masks are found only for categories that have truth.

    The videos that records name, of whatever category, are set in ``named (videos,)``. Tracks of foreign categories are
    dropped and counted. Raises `UserError` for unknown videos, scores that are not
    finite, and records of another form.
    """
    raw = block.text.data
    records = _records(block, raw, path)
    video_id = np.array([r.video_id for r in records], np.int64)
    category_id = np.array([r.category_id for r in records], np.int64)
    score = np.array([r.score for r in records], np.float64)
    number = block.first + np.arange(len(records))
    video, known = positions(truths.video_ids, video_id)
    if not known.all():
        at = int(np.argmin(known))
        known_ids = near(str(video_id[at]), map(str, truths.video_ids.tolist()[:20]))
        raise UserError(f"{path}, record {number[at]}", f"unknown video {video_id[at]}", f"some {known_ids}")
    if named is not None:
        named[video] = True
    if not np.isfinite(score).all():
        at = int(np.argmin(np.isfinite(score)))
        raise UserError(f"{path}, record {number[at]}", f"score is {score[at]}", "write a finite number")
    odd = (score < 0) | (score > 1)
    if odd.any():
        warnings.add("score outside [0, 1]", f"{path}, record {number[np.argmax(odd)]}", int(odd.sum()))
    category, listed = positions(truths.category_ids, category_id)
    if not listed.all():
        where = f"{path}, record {number[np.argmin(listed)]}"
        warnings.add("category not in the annotations, track dropped", where, int((~listed).sum()))
    video, category, score, number = video[listed], category[listed], score[listed], number[listed]
    spans = block.spans[listed]
    has_masks = truths.owned[category]
    masks = _masks(block.text, spans[has_masks], video[has_masks], truths, path, number[has_masks])
    lengths = np.diff(masks.track)
    short = np.flatnonzero(lengths != truths.lengths[video[has_masks]])
    if len(short):
        where = f"{path}, record {number[has_masks][short[0]]}"
        warnings.add("number of frames differs from the video's", where, len(short))
    return TrackBatch(video, category, score, number, has_masks, masks, text=spans[:, 3] - spans[:, 2])


def mask_digests(path: Path, records: Ints) -> list[bytes]:
    """Digests of the masks' text of some records of a results file, whose numbers ascend; the file is read again."""
    found = []
    for block in read_blocks(path):
        inside = records[(records >= block.first) & (records < block.first + len(block.spans))]
        for start, stop in block.spans[inside - block.first, 2:].tolist():
            found.append(masks_digest(block.text[start:stop].tobytes()))
        if len(found) == len(records):
            break
    return found


def _records(block: Block, raw: memoryview, path: str) -> list[ResultRecord]:
    try:
        return decode_records(raw, block.spans, list[ResultRecord], path)  # type: ignore[no-any-return]
    except UserError:
        for i in range(len(block.spans)):  # once more, one by one, to name the record
            where = f"{path}, record {block.first + i}"
            start, stop = block.spans[i, :2].tolist()
            try:
                value = json.loads(bytes(raw[start:stop]))
            except ValueError as error:
                raise UserError(where, f"malformed JSON ({error})", "write the file again") from error
            score = value.get("score")
            if isinstance(score, float) and not math.isfinite(score):
                raise UserError(where, f"score is {score}", "write a finite number") from None
            decode_records(raw, block.spans[i : i + 1], list[ResultRecord], where)
        raise


def _masks(text: NDArray[np.uint8], spans: Ints, video: Ints, truths: Truths, path: str, number: Ints) -> MaskTable:
    """Find the masks of tracks; tracks that repeat another's masks share them."""
    names = [f"{path}, record {n}" for n in number]
    shared, distinct = _share(text, spans, video)
    chosen = spans[distinct]
    found = find_masks(
        text, chosen[:, 2].copy(), chosen[:, 3].copy(), int(truths.lengths[video[distinct]].sum()) + 16,
        [names[i] for i in distinct.tolist()],
    )  # fmt: skip
    table = found.table
    bad = np.flatnonzero((table.kind == rle.LISTED) | (table.kind == scan.OTHER))
    if len(bad):
        track = int(np.searchsorted(table.track, bad[0], side="right")) - 1
        where = f"{names[int(distinct[track])]}, frame {int(bad[0]) - int(table.track[track])}"
        raise UserError(where, "mask is not a compressed RLE", 'write {"size": [h, w], "counts": "..."} or null')
    lengths = np.diff(table.track)[shared]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - table.track[:-1][shared], lengths)
    return MaskTable(table.data, table.start, table.stop, table.kind, table.height, table.width, offsets,
                     table.frame_mask[rows])  # fmt: skip


def _share(text: NDArray[np.uint8], spans: Ints, video: Ints) -> tuple[Ints, Ints]:
    """For each track the index of the first with the same masks text in its video, and those first tracks' numbers."""
    first: dict[tuple[int, int, bytes], list[int]] = {}
    shared = np.empty(len(spans), np.int64)
    distinct: list[int] = []
    for i, (start, stop) in enumerate(spans[:, 2:].tolist()):
        middle = (start + stop) // 2
        key = (int(video[i]), stop - start, text[middle : middle + 48].tobytes())
        for j in first.setdefault(key, []):
            other = int(spans[distinct[j], 2])
            if np.array_equal(text[start:stop], text[other : other + stop - start]):
                shared[i] = j
                break
        else:
            first[key].append(len(distinct))
            shared[i] = len(distinct)
            distinct.append(i)
    return shared, np.array(distinct, np.int64)
