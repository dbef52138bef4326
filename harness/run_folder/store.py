"""PredictionStore: one Parquet shard per video, written atomically. A video is done if its shard exists."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import operator
import os
import re
import zlib
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.arrays import Ints
from harness.atomic_write import write_atomically
from harness.errors import UnreadableFileError, UserError
from harness.frame_digests import FrameDigests
from harness.input_files import SHARD_BYTES, decode_json, open_file, read_file
from harness.masks import Rle
from harness.paths import Location, ObjectPath
from harness.run_folder.shard_index import TAIL_BYTES, agree, find_index, read_index, with_index
from harness.scoring.shard_reader import Shard
from harness.types import Track, Video, Vocabulary
from harness.versions import in_words

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

SHARD_FORMAT = "harness-predictions-2"
"""Version of the shard format; it changes with the columns, their meaning, or the index (see `shard_index`)."""
_OLDER_FORMATS = ("harness-predictions-1",)
"""Versions with the same columns and without an index, which are read whole."""


@cache
def schema() -> pa.Schema:
    """The columns of a shard, one row per track in order of prediction.

    ``area_sum`` adds up the mask areas in pixels over the ``area_frames`` frames whose mask is not empty; ``masks`` has
    COCO's compressed counts per frame, null where the object is absent.
    """
    import pyarrow as pa  # here and below: scoring reads indexes of shards without it

    return pa.schema(
        [
            ("video_id", pa.int64()),
            ("category_id", pa.int64()),
            ("score", pa.float64()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("area_sum", pa.int64()),
            ("area_frames", pa.int32()),
            ("masks", pa.list_(pa.binary())),
        ]
    )


_SAMPLED, _WHOLE = "frames_sampled", "frames_whole"
"""Keys of the file's metadata that hold `FrameDigests` as JSON lists, if they are known."""
_LEAF = "masks.list.element"
_KINDS = {
    "category_id": np.int64, "score": np.float64, "area_sum": np.int64, "area_frames": np.int32, "height": np.int32,
    "width": np.int32,
}  # fmt: skip
"""Types of the columns that scoring reads, except the masks."""
_DIGITS = 64
_MARK = b"sha256="
_NO_DIGEST = b"0" * _DIGITS
_UNLIMITED = 1 << 30
_MOST_TRACKS, _MOST_BYTES = 1 << 20, 1 << 32
"""Most rows and bytes that a shard may declare, far above those of any video. A tiny file can declare any number."""
_WRONG_SUM = "its checksum does not match"
_HINT = "repeat its `harness run`, which computes this video again"
_WHEN_CHANGED = "repeat the command when nothing writes to the run folder"


class DamagedShardError(UnreadableFileError):
    """A shard is missing or damaged: its video has to be computed again."""


def store_in(folder: Location) -> PredictionStore:
    """The predictions of a run folder, or those in the folder itself; raises `UserError` if it has neither."""
    inner = folder / "predictions"
    if inner.is_dir():
        return PredictionStore(inner)
    store = PredictionStore(folder)
    if not store.done():
        raise UserError(str(folder), "has no predictions", "name a run folder, its predictions, or a results file")
    return store


class PredictionStore:
    """The shards ``<video id>.parquet`` of a folder, which is created with the first shard."""

    def __init__(self, folder: Location) -> None:
        self.folder = folder

    def path(self, video_id: int) -> Location:
        """The path of the shard of a video."""
        return self.folder / f"{int(video_id)}.parquet"

    def done(self) -> set[int]:
        """Ids of the videos that have a shard; raises `StoreError` if an object store does not answer."""
        return {int(p.stem) for p in self.folder.glob("*.parquet") if _is_id(p.stem)}

    def write_video(self, video: Video, tracks: Sequence[Track]) -> None:
        """Write the shard of a video atomically and flush it to the disk; an older one is replaced.

        Raises `UserError` for invalid tracks (see `tabulate`), and if the shard cannot be written.
        """
        self.write_table(video, tabulate(video, tracks))

    def write_table(self, video: Video, table: pa.Table, frames: FrameDigests | None = None) -> None:
        """Write tracks that `tabulate` has checked, with the digests of the ``frames`` that they were made from.

        Raises `UserError` if the shard cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            hint = f"run `chmod u+rwx {self.folder.parent}`"
            raise UserError(str(self.folder), f"cannot be created: {error.strerror}", hint) from error
        write_atomically(self.path(video.id), _shard(video, table, frames))

    def read_video(self, video_id: int) -> list[Track]:
        """Return the tracks of a video in order of prediction; raises `UserError` like `read_table`."""
        return list(tracks_of(self.read_table(video_id)))

    def read_table(self, video_id: int) -> pa.Table:
        """Return the shard of a video with the columns of `schema`; masks are a dictionary of distinct counts.

        Raises `DamagedShardError` for a shard that is missing, damaged, or of another video or format, and
        `UnreadableFileError` for one that the operating system does not allow to read.
        """
        return _checked(self._intact(video_id), int(video_id), str(self.path(video_id)))

    def read_shard(self, video_id: int, whole: bool = False) -> Shard:
        """Return the tracks of a video for scoring: its index, or all of a shard of an older format.

        Of a file on a disk only the index is read and verified, and later the texts of masks that are asked for; of an
        object all is read. With ``whole`` all of a file is read, too, and its checksum verified. Raises `UserError`
        like `read_table`, also when texts are asked for.
        """
        path = self.path(video_id)
        data = self._intact(video_id) if whole else None
        with _as_users_errors(path):
            found = _indexed(path) if data is None else _indexed_bytes(data, path)
        if found is None:
            data = self._intact(video_id) if data is None else data
            return shard_of_table(int(video_id), _checked(data, int(video_id), str(path)))
        if found.video_id != int(video_id):
            raise DamagedShardError(str(path), f"holds video {found.video_id}", _HINT)
        return found

    def read_frames(self, video_id: int) -> FrameDigests | None:
        """Return the digests of the frames of a video when it was run; ``None`` if its shard does not have them.

        Raises `UserError` like `read_table`.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = str(self.path(video_id))
        try:
            metadata = pq.read_metadata(pa.BufferReader(self._intact(video_id))).metadata or {}
            sampled, whole = (
                tuple(decode_json(metadata.get(key.encode(), b"[]"), list[str])) for key in (_SAMPLED, _WHOLE)
            )
        except (pa.ArrowException, OSError, ValueError, TypeError, msgspec.MsgspecError) as error:
            raise DamagedShardError(path, f"is not a shard of predictions ({error})", _HINT) from error
        return FrameDigests(sampled, whole) if sampled else None

    def _intact(self, video_id: int) -> bytes:
        """The bytes of a shard, after its checksum was verified."""
        path = self.path(video_id)
        with _as_users_errors(path):
            data = read_file(path, SHARD_BYTES)
        _check_sum(data, str(path))
        return data

    def remove_damaged(self) -> list[int]:
        """Check every shard and remove those that are damaged; return the ids of their videos.

        Raises `UserError` if one cannot be read or removed.
        """
        removed, first = [], ""
        for video in sorted(self.done()):
            try:
                self.read_table(video)
            except DamagedShardError as error:
                log.info("%s %s; it is removed", error.where, error.what)
                first = first or f"{error.where} {error.what}"
                self._remove(video)
                removed.append(video)
        if removed:
            log.warning("%s removed, first: %s", "1 shard" if len(removed) == 1 else f"{len(removed)} shards", first)
        return removed

    def _remove(self, video_id: int) -> None:
        path = self.path(video_id)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            what = f"is damaged and cannot be removed: {error.strerror or error}"
            raise UserError(str(path), what, f"run `chmod u+rw {path}`") from error


@contextmanager
def _as_users_errors(path: Location) -> Iterator[None]:
    """Raise a `UserError` in place of the errors of reading a shard."""
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedShardError(str(path), "does not exist: the video has no predictions", _HINT) from error
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise UnreadableFileError(str(path), what, f"run `chmod u+rw {path}`") from error
    except ValueError as error:
        raise DamagedShardError(str(path), f"is damaged: {error}", _HINT) from error


def _indexed(path: Location) -> Shard | None:
    """The tracks of a shard that has an index. Raises `ValueError` for one that is damaged, and `OSError`."""
    if isinstance(path, ObjectPath):
        return _indexed_bytes(read_file(path, SHARD_BYTES), path)
    assert isinstance(path, Path)
    with open_file(path, SHARD_BYTES) as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        first = max(size - TAIL_BYTES, 0)
        tail = os.pread(file.fileno(), size - first, first)
        if not first:
            return _indexed_bytes(tail, path)
        place = find_index(tail, size)
        if place is None:
            return None
        begin, end = place
        index = tail[begin - first : end - first] if begin >= first else os.pread(file.fileno(), end - begin, begin)
    return read_index(index, begin, partial(_TextsOfFile, path, status))


def _indexed_bytes(data: bytes, path: Location) -> Shard | None:
    """The tracks of the whole content of a shard that has an index. Raises `ValueError` for one that is damaged."""
    place = find_index(data[-TAIL_BYTES:], len(data))
    if place is None:
        return None
    shard = read_index(data[slice(*place)], place[0], partial(_TextsOfBytes, data, path))
    return replace(shard, memory=shard.memory + len(data))


class _TextsOfFile:
    """Reads texts of masks in a file on a disk, which had this ``status`` when its index was read."""

    def __init__(self, path: Path, status: os.stat_result, crc: list[int]) -> None:
        self.path, self.status, self.crc = path, status, crc

    def __call__(self, blocks: list[int], begin: list[int], out: list[NDArray[np.uint8]]) -> None:
        with _as_users_errors(self.path), open_file(self.path, SHARD_BYTES) as file:
            for block, at, part in zip(blocks, begin, out, strict=True):
                if os.preadv(file.fileno(), [part.data], at) < len(part) or zlib.crc32(part.data) != self.crc[block]:
                    if not _is_same(os.fstat(file.fileno()), self.status):
                        raise DamagedShardError(str(self.path), "was changed while it was scored", _WHEN_CHANGED)
                    raise ValueError(_WRONG_SUM)


def _is_same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether a file is still the one that it was, with the content of then."""
    return (one.st_ino, one.st_mtime_ns) == (other.st_ino, other.st_mtime_ns)


class _TextsOfBytes:
    """Gives texts of masks of an object that was read."""

    def __init__(self, data: bytes, path: Location, crc: list[int]) -> None:
        self.data, self.path, self.crc = np.frombuffer(data, np.uint8), path, crc

    def __call__(self, blocks: list[int], begin: list[int], out: list[NDArray[np.uint8]]) -> None:
        for block, at, part in zip(blocks, begin, out, strict=True):
            part[:] = self.data[at : at + len(part)]
            if zlib.crc32(part.data) != self.crc[block]:
                raise DamagedShardError(str(self.path), f"is damaged: {_WRONG_SUM}", _HINT)


class _TextsOfTable:
    """Gives texts of masks in memory that was verified."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data = data

    def __call__(self, blocks: list[int], begin: list[int], out: list[NDArray[np.uint8]]) -> None:
        for at, part in zip(begin, out, strict=True):
            part[:] = self.data[at : at + len(part)]


def shard_of_table(video_id: int, table: pa.Table) -> Shard:
    """The tracks of a table that was checked; its masks are a dictionary of distinct counts."""
    lists = _one(table.column("masks"))
    offsets, index, start, stop = np.zeros(1, np.int64), np.empty(0, np.int32), *([np.empty(0, np.int64)] * 2)
    data = np.empty(0, np.uint8)
    if table.num_rows:
        bounds = _numbers(lists.offsets, np.int32).astype(np.int64)
        offsets = bounds - bounds[0]
        values = lists.values[int(bounds[0]) : int(bounds[-1])]
        index = _numbers(values.indices, np.int32, absent=-1)
        if n := len(values.dictionary):
            _, place, texts = values.dictionary.buffers()
            data = np.frombuffer(texts, np.uint8) if texts is not None else data
            at = values.dictionary.offset
            places = np.frombuffer(place, np.int32)[at : at + n + 1].astype(np.int64)
            start, stop = places[:-1], places[1:]
    category_id, score, area_sum, area_frames, height, width = (
        _numbers(_one(table.column(name)), kind) for name, kind in _KINDS.items()
    )
    size = (int(height[0]), int(width[0])) if table.num_rows else (0, 0)
    return Shard(video_id, size, category_id, score, area_sum, area_frames, offsets, index, start, stop,
                 _TextsOfTable(data), table.get_total_buffer_size())  # fmt: skip


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


def tabulate(video: Video, tracks: Sequence[Track], vocabulary: Vocabulary | None = None) -> pa.Table:
    """Return tracks as a table with the columns of `schema`.

    Raises `UserError` for an object that is not a `Track`, a track of another video, a category id that is not an
    integer or not in the ``vocabulary`` (if one is given), a score that is not a finite real number, a wrong number of
    masks, and a mask that is not an `Rle`, has another size, or is not a valid run-length encoding.
    """
    import pyarrow as pa

    shape, frames = (video.height, video.width), len(video.frames)
    if len(tracks) > _MOST_TRACKS:
        raise UserError(f"video {video.id}", f"has {len(tracks)} tracks", f"give {_MOST_TRACKS} at most")
    allowed = None if vocabulary is None else {category.id for category in vocabulary.categories}
    # each value is read once, so that the value that was checked is the one that is stored
    read = [
        _read_track(t, video.id, shape, frames, allowed, f"video {video.id}, track {n}") for n, t in enumerate(tracks)
    ]
    known: dict[bytes, int] = {}
    rows = np.array(
        [-1 if counts is None else known.setdefault(counts, len(known)) for t in read for counts in t.counts], np.int64
    ).reshape(len(tracks), frames)
    from harness import rle  # it imports numba, which reading shards does not need

    ends = np.cumsum([0, *map(len, known)]).astype(np.int64)
    text = np.frombuffer(b"".join(known), np.uint8)
    # row -1, the absent mask, indexes the 0 at the end
    areas = np.append(_areas(text, ends[:-1], ends[1:], shape), 0)
    faulty = np.argwhere(areas[rows] < 0)
    if len(faulty):
        number, frame = faulty[0].tolist()
        what = rle.RLE_FAULTS[int(areas[rows[number, frame]])]
        raise UserError(f"video {video.id}, track {number}, frame {frame}", what, "give the mask in COCO's encoding")
    columns: list[Any] = [
        [video.id] * len(tracks),
        [t.category_id for t in read],
        [t.score for t in read],
        [video.height] * len(tracks),
        [video.width] * len(tracks),
        areas[rows].sum(axis=1),
        (areas[rows] > 0).sum(axis=1),
        [t.counts for t in read],
    ]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema(), strict=True)], schema=schema())


class _Row(NamedTuple):
    """A track in built-in Python types."""

    category_id: int
    score: float
    counts: list[bytes | None]


def _read_track(
    track: object, video_id: int, shape: tuple[int, int], frames: int, allowed: Container[int] | None, where: str
) -> _Row:
    """Check a model's track, which may be of any type with any attributes."""
    if not isinstance(track, Track):
        raise UserError(where, f"is a {type(track).__name__}", "give a harness.types.Track")
    found = as_integer(track.video_id)
    if found != video_id:
        raise UserError(where, f"is of video {track.video_id!r}", "return tracks of the given video only")
    category_id = as_integer(given := track.category_id)
    if category_id is None:
        raise UserError(where, f"category_id is {given!r}, a {type(given).__name__}", "give a category's id, an int")
    if allowed is not None and category_id not in allowed:
        raise UserError(where, f"category {category_id} is not in the vocabulary", "give the id of a category in it")
    score = as_real(stated := track.score)
    if score is None:
        raise UserError(where, f"score is {stated!r}, a {type(stated).__name__}", "give a real number")
    if not math.isfinite(score):
        raise UserError(where, f"score is {score}", "give a finite number")
    return _Row(category_id, score, _counts(track.masks, shape, frames, where))


def _counts(masks: object, shape: tuple[int, int], frames: int, where: str) -> list[bytes | None]:
    if not isinstance(masks, (tuple, list)):
        raise UserError(where, f"masks is a {type(masks).__name__}", "give a tuple with one entry per frame")
    if len(masks) != frames:
        what = f"{len(masks)} masks for {frames} frames"
        raise UserError(where, what, "give one mask per frame, None where the object is absent")
    counts: list[bytes | None] = []
    for frame, mask in enumerate(masks):
        if mask is None:
            counts.append(None)
            continue
        if not isinstance(mask, Rle):
            raise UserError(f"{where}, frame {frame}", f"mask is a {type(mask).__name__}", "give a harness.masks.Rle")
        size, text = mask
        if not isinstance(size, (tuple, list)) or tuple(size) != shape:
            stated = "x".join(map(str, size)) if isinstance(size, (tuple, list)) else repr(size)
            what = f"mask is {stated}, the video {shape[0]}x{shape[1]}"
            raise UserError(f"{where}, frame {frame}", what, "give masks in the size of the video")
        if not isinstance(text, bytes):
            what = f"counts of the mask are a {type(text).__name__}"
            raise UserError(f"{where}, frame {frame}", what, "give bytes, as pycocotools' encode does")
        counts.append(bytes(text))
    return counts


def as_integer(value: Any) -> int | None:
    """Return an integer of any type (Python, numpy, torch; 1.0 is 1) as an ``int``; ``None`` for anything else."""
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, (float, np.floating)):
        return int(value) if value == np.floor(value) and math.isfinite(value) else None
    try:
        return operator.index(value)
    except Exception:  # a plugin's type may raise any exception
        return None


def as_real(value: Any) -> float | None:
    """Return a real number of any type, finite or not, as a ``float``; ``None`` for anything else."""
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)) or np.iscomplexobj(value):
            return None
        return float(value)
    except Exception:  # as above; and integers may be too large
        return None


def _areas(text: NDArray[np.uint8], start: Ints, stop: Ints, shape: tuple[int, int]) -> Any:
    """Areas in pixels ``(masks,)``, or a code of `rle.RLE_FAULTS` for an invalid mask; each is a part of ``text``."""
    from harness import rle  # it imports numba, which reading shards does not need

    n = len(start)
    height, width = (np.full(n, side, np.int32) for side in shape)
    kind = np.full(n, rle.COMPRESSED, np.int8)
    return rle.areas(rle.read_only(text), start, stop, kind, height, width, np.ones(n, np.bool_))


def tracks_of(table: pa.Table) -> Iterator[Track]:
    """Yield the tracks of a shard's table."""
    for row in table.to_pylist():
        size = row["height"], row["width"]
        masks = tuple(None if counts is None else Rle(size, counts) for counts in row["masks"])
        yield Track(row["video_id"], row["category_id"], row["score"], masks)


def _shard(video: Video, table: pa.Table, frames: FrameDigests | None) -> bytes:
    """The bytes of a shard: no statistics and no Arrow schema, identical masks stored once, an index, and a checksum.

    The checksum covers the whole file, with zeros in its own place, so that any damaged byte is detected. Nothing is
    compressed: scoring reads masks where they are in the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = {
        "format": SHARD_FORMAT,
        "video_id": str(video.id),
        "frames": str(len(video.frames)),
        **({_SAMPLED: json.dumps(frames.sampled)} if frames is not None else {}),
        **({_WHOLE: json.dumps(frames.whole)} if frames is not None and frames.whole else {}),
        "checksum": (_MARK + _NO_DIGEST).decode(),
    }
    table = _with_dictionary(table)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="none",
        use_dictionary=[_LEAF],
        dictionary_pagesize_limit=_UNLIMITED,
        write_statistics=False,
        store_schema=False,
    ) as writer:
        writer.write_table(table, row_group_size=max(len(table), 1))
        writer.add_key_value_metadata(metadata)
    data = sink.getvalue().to_pybytes()
    if len(table):
        data = _with_index(data, shard_of_table(video.id, table))
    at = data.rfind(_MARK) + len(_MARK)
    return bytes(data[:at] + hashlib.sha256(data).hexdigest().encode() + data[at + _DIGITS :])


def _with_dictionary(table: pa.Table) -> pa.Table:
    """The table with its masks as a dictionary of distinct counts, in order of first use."""
    import pyarrow as pa

    at = table.schema.get_field_index("masks")
    lists = _one(table.column(at))
    values = lists.values if pa.types.is_dictionary(lists.type.value_type) else lists.values.dictionary_encode()
    return table.set_column(at, "masks", pa.ListArray.from_arrays(lists.offsets, values))


def _with_index(data: bytes, shard: Shard) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = np.empty(int((shard.stop - shard.start).sum()), np.uint8)
    first = int(shard.start[0]) if len(shard.start) else 0
    shard.read([0], [first], [text])
    area = _areas(text, shard.start - first, shard.stop - first, shard.size)
    column = pq.read_metadata(pa.BufferReader(data)).row_group(0).column(len(schema()) - 1)
    return with_index(data, shard, area, column.data_page_offset)


def _check_sum(data: bytes, path: str) -> None:
    at = data.rfind(_MARK) + len(_MARK)
    if at < len(_MARK):
        raise DamagedShardError(path, "is truncated or not a shard of predictions", _HINT)
    digest = hashlib.sha256(memoryview(data)[:at])
    digest.update(_NO_DIGEST)
    digest.update(memoryview(data)[at + _DIGITS :])
    if digest.hexdigest().encode() != data[at : at + _DIGITS]:
        raise DamagedShardError(path, f"is damaged: {_WRONG_SUM}", _HINT)


def _checked(data: bytes, video_id: int, path: str) -> pa.Table:
    """The table of a shard whose checksum was verified."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=[_LEAF])
        metadata = file.metadata.metadata or {}
        written = metadata.get(b"format", b"").decode(errors="replace")
        is_read = written in (SHARD_FORMAT, *_OLDER_FORMATS)
        if not is_read or not _has_columns(file.schema_arrow):
            is_ours = not is_read and re.fullmatch(r"harness-predictions-\d+", written)
            what = in_words(written, SHARD_FORMAT) if is_ours else "is not a shard of predictions: it has other columns"
            raise DamagedShardError(path, what, _HINT)
        if metadata.get(b"video_id") != str(video_id).encode():
            other = metadata.get(b"video_id", b"?").decode(errors="replace")
            raise DamagedShardError(path, f"holds video {other}", _HINT)
        _refuse_claims(file.metadata, path)
        # one thread: scoring reads shards on all cores already
        table = file.read(use_threads=False)
        table.validate(full=True)  # offsets and indices are within bounds: kernels do not check them
        if any(table.column(name).null_count for name in schema().names):
            raise DamagedShardError(path, "has tracks that lack a value", _HINT)
        place = find_index(data[-TAIL_BYTES:], len(data))
        if place is not None:
            index = read_index(data[slice(*place)], place[0], partial(_TextsOfBytes, data, Path(path)))
            page = file.metadata.row_group(0).column(len(schema()) - 1).data_page_offset
            if not agree(index, shard_of_table(video_id, table), page):
                raise DamagedShardError(path, "has an index that differs from its columns", _HINT)
        return table
    except MemoryError as error:  # Arrow's too, which is also an ArrowException: the shard may be intact
        hint = "read it on a machine with more memory"
        raise UnreadableFileError(path, "needs more memory than is available", hint) from error
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DamagedShardError(path, f"is not a shard of predictions ({error})", _HINT) from error


def _has_columns(found: Any) -> bool:
    """Whether the columns are those of `schema`, with the masks as a dictionary."""
    import pyarrow as pa

    if found.names != schema().names or not pa.types.is_list(found.field("masks").type):
        return False
    plain = all(found.field(f.name).type == f.type for f in schema() if f.name != "masks")
    return plain and found.field("masks").type.value_type == pa.dictionary(pa.int32(), pa.binary())


def _refuse_claims(metadata: Any, path: str) -> None:
    """Refuse a shard that declares more rows or bytes than the tracks of any video have."""
    # not column by column: pyarrow aborts the process if a damaged footer lacks a column's entry
    sizes = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    for value, limit in ((metadata.num_rows, _MOST_TRACKS), (sizes, _MOST_BYTES)):
        if not 0 <= value <= limit:
            raise DamagedShardError(path, f"declares more than a shard holds ({value}, at most {limit})", _HINT)


def _is_id(stem: str) -> bool:
    return stem.removeprefix("-").isdecimal() and str(int(stem)) == stem
