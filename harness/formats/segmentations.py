"""Masks inside JSON text, as a `MaskTable`: found by a scan, decoded only where they are scored."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness import rle
from harness.arrays import Ints
from harness.errors import UserError
from harness.formats import scan
from harness.input_files import decode_json
from harness.masks import Rle
from harness.rle import MaskTable

SEGMENTATIONS = np.frombuffer(b'segmentations"', np.uint8)

T = TypeVar("T")


class ParsedMasks(NamedTuple):
    """Masks found in text; ``other`` lists the rows of ``table.frame_mask`` that are not run-length encodings."""

    table: MaskTable
    other: Ints


def masks_digest(*masks: bytes) -> bytes:
    """A digest of masks as text; the same text split elsewhere has another digest."""
    found = blake2b(digest_size=16)
    for text in masks:
        found.update(b"%d:" % len(text))
        found.update(text)
    return found.digest()


def find_masks(text: NDArray[np.uint8], start: Ints, stop: Ints, frames_hint: int, names: Sequence[str]) -> ParsedMasks:
    """Find the masks of the tracks whose ``segmentations`` values are ``text[start[t]:stop[t]]``.

    ``frames_hint`` is the expected number of frames in all; ``names[t]`` names track ``t`` in errors. Raises
    `UserError` where a value is not a list of masks.
    """
    # no more masks than fit the text, whatever number of frames is claimed
    room = max(min(frames_hint, int((stop - start).sum()) // 2), 1024)
    track = np.zeros(len(start) + 1, np.int64)
    while True:
        begin, end = np.zeros(room, np.int64), np.zeros(room, np.int64)
        kind, size = np.zeros(room, np.int8), np.zeros((2, room), np.int32)
        status, where = scan.scan_masks(text, start, stop, track, begin, end, kind, size[0], size[1])
        if status == scan.FULL:
            room *= 2
            continue
        if status == scan.MALFORMED:
            raise UserError(names[where], "segmentations is not a list of masks", "write one RLE or null per frame")
        n = int(track[-1])
        table = MaskTable(
            text, begin[:n], end[:n], kind[:n], size[0, :n], size[1, :n], track,
            np.where(kind[:n] == scan.ABSENT, -1, np.arange(n)).astype(np.int32),
        )  # fmt: skip
        return ParsedMasks(table, np.flatnonzero(kind[:n] == scan.OTHER))


class NewMask(NamedTuple):
    """A mask that replaces another: its row in the table, size, and counts as ``kind`` says; see `rle`."""

    row: int
    height: int
    width: int
    kind: int
    counts: bytes


def with_masks(table: MaskTable, new: Sequence[NewMask]) -> MaskTable:
    """The table with other masks in some rows."""
    if not new:
        return table
    rows = [mask.row for mask in new]
    ends = len(table.data) + np.cumsum([0] + [len(mask.counts) for mask in new])
    columns = table.start.copy(), table.stop.copy(), table.kind.copy(), table.height.copy(), table.width.copy()
    start, stop, kind, height, width = columns
    start[rows], stop[rows] = ends[:-1], ends[1:]
    kind[rows], height[rows] = [mask.kind for mask in new], [mask.height for mask in new]
    width[rows] = [mask.width for mask in new]
    data = np.concatenate([table.data, np.frombuffer(b"".join(mask.counts for mask in new), np.uint8)])
    return MaskTable(data, start, stop, kind, height, width, table.track, table.frame_mask)


def mask_of(table: MaskTable, mask: int) -> Rle:
    """Return mask ``mask`` of a table as an `Rle`."""
    text = table.data[table.start[mask] : table.stop[mask]].tobytes()
    size = int(table.height[mask]), int(table.width[mask])
    kind = table.kind[mask]
    if kind == rle.LISTED:
        from pycocotools import mask as coco

        counts = msgspec.json.decode(b"[" + text + b"]")
        return Rle(size, coco.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"])
    if kind == rle.ESCAPED:
        text = msgspec.json.decode(b'"' + text + b'"').encode("ascii")
    return Rle(size, text)


def decode_record(raw: bytes | msgspec.Raw, kind: type[T], name: str) -> T:
    """Decode JSON into ``kind``; faults become a `UserError` that names the file ``name`` and the place in it."""
    try:
        return decode_json(raw, kind)
    except msgspec.ValidationError as error:
        raise _refusal(error, name) from error
    except msgspec.DecodeError as error:
        raise UserError(name, f"malformed or truncated JSON ({error})", "write the file again") from error


def convert(value: Any, kind: type[T], name: str) -> T:
    """Check a value of plain Python types like `decode_record` checks JSON."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _refusal(error, name) from error


def _refusal(error: msgspec.ValidationError, name: str) -> UserError:
    message, _, place = str(error).partition(" - at `")
    where = f"{name}, {place.rstrip('`').lstrip('$.')}" if place else name
    return UserError(where, message[:1].lower() + message[1:], "correct the file")
