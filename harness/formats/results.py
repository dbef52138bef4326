"""Results files (a list of predicted tracks), read in blocks: masks stay text, and only those that score are found.

Memory follows the block, not the file: an LV-VIS results file of 450 MB is read within a few blocks of 8 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.arrays import Ints
from harness.errors import UserError
from harness.formats import scan
from harness.formats.containers import open_records
from harness.formats.foreign import PER_TRACK, foreign_results
from harness.formats.segmentations import SEGMENTATIONS
from harness.input_files import refuse_null_bytes

BLOCK_BYTES = 8 << 20
FIRST_TEXT = 1 << 16
"""A file with only white space in this many first bytes is refused."""


class ResultRecord(msgspec.Struct):
    """One predicted track without its masks."""

    video_id: int
    category_id: int
    score: float
    segmentations: Any


class OddRecord(msgspec.Struct):
    """A predicted track whose values may have any form."""

    video_id: Any
    category_id: Any
    score: Any
    segmentations: Any


class Block(NamedTuple):
    """Some records of a results file: the text, and spans ``(n, 4)`` as `scan.scan_records` gives them.

    ``first`` is the number of the first record, ``offset`` where the text begins in that of the whole file.
    """

    text: NDArray[np.uint8]
    spans: Ints
    first: int
    offset: int = 0


def read_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yield the records of a results file, block by block. Raises `UserError` if it is not a JSON list of objects."""
    hint = "write the file again as a JSON list of tracks"
    file = open_records(path)
    first, kept, fresh, offset = 0, np.empty(0, np.uint8), True, 0
    with file:
        while True:
            text = np.empty(len(kept) + block_bytes, np.uint8)
            text[: len(kept)] = kept
            read = file.readinto(text[len(kept) :].data)
            stop = len(kept) + read
            begin = 0
            if fresh and not first:
                begin = _open_bracket(text[:stop], path)
            spans = np.empty((max(stop // 64, 16), 4), np.int64)
            n, place, status = scan.scan_records(text, begin, stop, SEGMENTATIONS, fresh, spans)
            if n:
                yield Block(text, spans[:n], first, offset)
                fresh = False
            first += n
            if status == scan.MALFORMED:
                refuse_null_bytes(text[place : place + 1].tobytes(), path)
                if not first and text[place] == 91:
                    raise UserError(str(path), "is a list of lists, one per video or frame", PER_TRACK)
                raise UserError(f"{path}, record {first}", "is not a JSON object", hint)
            if status == scan.DONE:
                rest = text[place:stop].tobytes() + file.read(1 << 16)
                if rest.strip():
                    raise UserError(str(path), "has text after the list", hint)
                return
            if not n:  # a record is longer than what was read: no text, or the file ends in it
                refuse_null_bytes(text[:stop].tobytes(), path)
            if not read:
                size = path.stat().st_size
                raise UserError(f"{path}, record {first}", f"the file ends inside it ({size} bytes)", hint)
            if fresh and not n:
                # nothing complete yet: keep everything, including the bracket
                kept = text[:stop]
                fresh, block_bytes = True, block_bytes * 2
                continue
            kept, offset = text[place:stop], offset + int(place)
            if not n:
                block_bytes *= 2


def _open_bracket(text: NDArray[np.uint8], path: Path) -> int:
    solid = np.flatnonzero(text[:FIRST_TEXT] > 32)
    if not len(solid) or text[solid[0]] != 91:
        if not len(solid):
            raise UserError(str(path), "is empty", "write a JSON list of tracks")
        raise foreign_results(path)
    return int(solid[0]) + 1
