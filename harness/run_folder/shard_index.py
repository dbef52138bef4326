"""The index of a shard: what scoring reads of it, as plain arrays between the file's last page and its footer.

Readers of Parquet skip it, as they skip Parquet's own page indexes. It repeats the columns that scoring needs, with the
area of every mask and the place of its text in the file, which is not compressed. So scoring reads a few kilobytes of
each shard, and of the masks only those that it compares.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.arrays import Ints
from harness.scoring.shard_reader import ReadTexts, Shard

_MARK = b"ovvisix1"
_END = struct.Struct("<32sQ8s")
"""Behind the index: its SHA-256, its size in bytes, the mark."""
_FOOTER = struct.Struct("<I4s")
"""The end of every Parquet file: the size of the footer before it, Parquet's mark."""
TAIL_BYTES = 1 << 16
"""Bytes at the end of a file that hold footer and index of most shards."""
_HEAD = ("video_id", "height", "width", "tracks", "frames", "masks", "begin")
_PREFIX = 4
"""Parquet writes the length of a text in four bytes before it."""


def with_index(data: bytes, shard: Shard, area: Ints, data_page: int) -> bytes:
    """Return a Parquet file with the index of its tracks.

    It stays without one where its masks are not where they should be, and where an area has more than 2 ** 31 - 1
    pixels, which do not fit the index.

    ``shard`` has the tracks in memory, ``area (masks,)`` is in pixels, and ``data_page`` is where the first page of the
    column of masks begins: before it is the dictionary of their texts, in order of first use and not compressed.
    """
    lengths = shard.stop - shard.start
    begin = data_page - int(lengths.sum()) - _PREFIX * len(lengths)
    tracks = len(shard.score)
    frames = int(shard.offsets[1]) if tracks else 0
    is_large = (area > np.iinfo(np.int32).max).any()
    if is_large or (np.diff(shard.offsets) != frames).any() or not _begin_with(data, begin, lengths):
        return data
    start, stop = _places(begin, lengths)
    blocks = shard.first_of_block
    crc = [
        zlib.crc32(memoryview(data)[int(start[a]) : int(stop[b - 1])]) if b > a else 0
        for a, b in zip(blocks[:-1].tolist(), blocks[1:].tolist(), strict=True)
    ]
    head = [shard.video_id, *shard.size, tracks, frames, len(lengths), begin]
    arrays = [head, shard.category_id, shard.score, shard.area_sum, shard.area_frames, crc, shard.index, lengths, area]
    index = b"".join(
        np.asarray(array, kind).tobytes() for array, (_, kind, _) in zip(arrays, _layout(0, 0, 0), strict=True)
    )
    footer = _FOOTER.unpack_from(data, len(data) - _FOOTER.size)[0] + _FOOTER.size
    end = _END.pack(hashlib.sha256(index).digest(), len(index), _MARK)
    return data[:-footer] + index + end + data[-footer:]


def _layout(tracks: int, frames: int, masks: int) -> tuple[tuple[str, str, int], ...]:
    """The arrays of an index: name, type and number."""
    return (
        ("head", "<i8", len(_HEAD)),
        ("category_id", "<i8", tracks),
        ("score", "<f8", tracks),
        ("area_sum", "<i8", tracks),
        ("area_frames", "<i4", tracks),
        ("crc", "<u4", tracks),
        ("index", "<i4", tracks * frames),
        ("length", "<i4", masks),
        ("area", "<i4", masks),
    )


def _begin_with(data: bytes, begin: int, lengths: Ints) -> bool:
    """Whether each text of a dictionary that begins at ``begin`` has its length before it."""
    places = begin + np.concatenate([[0], np.cumsum(lengths[:-1] + _PREFIX)]) if len(lengths) else np.empty(0, np.int64)
    stated = np.frombuffer(data, np.uint8)[places[:, None] + np.arange(_PREFIX)]
    return bool((stated.copy().view("<u4")[:, 0] == lengths).all())


def _places(begin: int, lengths: Ints) -> tuple[Ints, Ints]:
    """Where each text of a dictionary begins and ends in the file."""
    stop = begin + np.cumsum(lengths.astype(np.int64) + _PREFIX)
    return stop - lengths, stop


def find_index(tail: bytes, size: int) -> tuple[int, int] | None:
    """Where the index of a file of this ``size`` begins and ends, from its last bytes.

    ``None`` where it has none, or where the footer alone is longer than those bytes.
    """
    if len(tail) < _FOOTER.size:
        return None
    footer, mark = _FOOTER.unpack_from(tail, len(tail) - _FOOTER.size)
    at = len(tail) - _FOOTER.size - footer - _END.size
    if mark != b"PAR1" or at < 0:
        return None
    _, length, mark = _END.unpack_from(tail, at)
    end = size - _FOOTER.size - footer
    return (end - _END.size - length, end) if mark == _MARK and length <= end - _END.size else None


def read_index(index: bytes, at: int, texts: Callable[[list[int]], ReadTexts]) -> Shard:
    """The tracks of an index, given with the bytes behind it, that begins ``at`` this place of its file.

    ``texts`` makes what reads the texts of masks, from the CRC-32 of every block. Raises `ValueError` for an index that
    is damaged, or that does not fit the file: kernels check no bounds.
    """
    digest, length, _ = _END.unpack_from(index, len(index) - _END.size)
    if hashlib.sha256(memoryview(index)[:length]).digest() != digest:
        raise ValueError("its checksum does not match")
    head = dict(zip(_HEAD, np.frombuffer(index, "<i8", len(_HEAD)).tolist(), strict=True))
    shape = head["tracks"], head["frames"], head["masks"]
    if min(shape) < 0 or sum(np.dtype(kind).itemsize * number for _, kind, number in _layout(*shape)) != length:
        raise ValueError("the sizes of its arrays do not match")
    arrays: dict[str, Any] = {}
    place = 0
    for name, kind, number in _layout(*shape):
        arrays[name] = np.frombuffer(index, kind, number, place)
        place += arrays[name].nbytes
    start, stop = _places(head["begin"], arrays["length"])
    size = head["height"], head["width"]
    is_sound = (
        0 <= head["begin"] <= at  # the sums of what follows stay far below 2 ** 63 then
        and (not len(stop) or (arrays["length"].min() >= 0 and stop[-1] <= at and arrays["area"].min() >= 0))
        and (not len(arrays["index"]) or -1 <= arrays["index"].min() <= arrays["index"].max() < head["masks"])
        and all(0 <= side < 1 << 31 for side in size)
    )
    if not is_sound:
        raise ValueError("its places are outside the file")
    return Shard(
        head["video_id"],
        size,
        arrays["category_id"],
        arrays["score"],
        arrays["area_sum"],
        arrays["area_frames"],
        np.arange(head["tracks"] + 1) * head["frames"],
        arrays["index"],
        start,
        stop,
        texts(arrays["crc"].tolist()),
        len(index),
        arrays["area"].astype(np.int64),
    )


def agree(indexed: Shard, whole: Shard, data_page: int) -> bool:
    """Whether the index of a shard says what its columns say; arguments as for `with_index`."""
    names = ("category_id", "score", "area_sum", "area_frames", "offsets", "index")
    lengths = whole.stop - whole.start
    is_same = all(np.array_equal(getattr(indexed, name), getattr(whole, name)) for name in names)
    if not is_same or indexed.area is None or not np.array_equal(indexed.stop - indexed.start, lengths):
        return False
    areas = np.append(indexed.area, 0)[whole.index]
    total = np.append(0, np.cumsum(areas))[whole.offsets]
    ends = int(indexed.stop[-1]) == data_page if len(lengths) else True
    return (
        (indexed.video_id, indexed.size) == (whole.video_id, whole.size)
        and ends
        and np.array_equal(np.diff(total), whole.area_sum)
    )
