"""Match tables: the matches behind AP, AP50, AP75 and AR100 of a scored run, for resampling its videos.

A table has the tracks of every category with truth by descending score, with the IoU thresholds at which each is a
hit or a miss, and where the positives are. No mask is needed to compute the numbers of any sample of the videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from harness.arrays import Floats, Ints
from harness.errors import UserError
from harness.paths import Location
from harness.scoring.average_precision import Curves, Matches
from harness.scoring.hota import EPSILON
from harness.scoring.marked_file import read_marked, write_marked
from harness.scoring.match import IOU_THRESHOLDS, RECALL_POINTS, precision_at
from harness.scoring.metrics import positions_of
from harness.scoring.overlap import GroundTruthArrays
from harness.scoring.protocols import PROTOCOLS, ApProtocol, get_protocol

MATCHES_FILE = "matches.msgpack"
"""Name of the table in a run folder."""

MATCH_TABLE_FORMAT: Literal[1] = 1
_MARK = b"harness-matches\n"
_KINDS = {
    "first": "<i8", "video": "<i4", "score": "<f8", "hits": "<u2", "misses": "<u2",
    "pair_first": "<i8", "pair_video": "<i4", "pair_positives": "<i4",
}  # fmt: skip
"""Types in the file of the arrays of `Matches`."""


@dataclass(frozen=True)
class MatchTable:
    """The matches of one run under the official protocol, over all areas and with at most 100 tracks per video.

    ``annotations`` is the digest of the annotation file; ``video_ids (videos,)`` and ``category_ids (categories,)``
    are what ``matches`` indexes, the categories being those with truth. ``groups`` maps a group's suffix (``b``,
    ``n``, ...) to its rows among the categories, as the protocol reads it. ``presence (videos, 4)`` counts words that
    are found or not, see `harness.scoring.presence.presence_by_video`; ``None`` where it is not known what is absent.
    """

    protocol: str
    version: str
    annotations: str
    video_ids: Ints
    category_ids: Ints
    category_names: tuple[str, ...]
    groups: dict[str, Ints]
    matches: Matches
    presence: Ints | None = None

    def same_tracks(self, other: MatchTable) -> bool:
        """Whether two tables over the same truth have the same tracks with the same scores, hits and misses.

        The order of tracks with equal scores does not count.
        """
        mine, others = self._tracks(), other._tracks()
        return mine.shape == others.shape and bool((mine == others).all())

    def _tracks(self) -> Floats:
        """Category, score, video, hits and misses of every track ``(5, tracks)``, sorted."""
        m = self.matches
        category = np.repeat(np.arange(len(m.first) - 1), np.diff(m.first))
        columns = np.array([category, m.score, m.video, m.hits, m.misses], np.float64)
        return np.asarray(columns[:, np.lexsort(columns)])


class _File(msgspec.Struct, frozen=True):
    """The content after the file's mark and checksum; arrays as little-endian bytes."""

    format: Literal[1]
    protocol: str
    version: str
    annotations: str
    video_ids: list[int]
    category_ids: list[int]
    category_names: list[str]
    groups: dict[str, list[int]]
    arrays: dict[str, bytes]
    presence: bytes = b""


def match_table(
    chosen: ApProtocol, truths: GroundTruthArrays, curves: Curves, groups: dict[str, tuple[int, ...]]
) -> MatchTable:
    """The table of a scored set of predictions; ``curves`` and ``groups`` are the protocol's."""
    row = np.full(len(truths.category_ids), -1, np.int64)
    row[curves.category] = np.arange(len(curves.category))
    members = {suffix: row[positions_of(chosen, suffix, ids, truths)] for suffix, ids in groups.items()}
    return MatchTable(
        chosen.name,
        chosen.version,
        truths.annotations.digest,
        truths.video_ids,
        truths.category_ids[curves.category],
        tuple(truths.annotations.categories[position].name for position in curves.category.tolist()),
        {suffix: rows[rows >= 0] for suffix, rows in members.items()},
        curves.matches,
    )


def precision_over_recall(table: MatchTable, rows: Ints | None = None) -> Floats:
    """Precision at the 101 recall points, averaged over the categories with positives ``(IoU thresholds, points)``.

    Only over the categories at ``rows`` if they are given.
    """
    quirks, m = get_protocol(table.protocol).quirks, table.matches
    epsilon = EPSILON if quirks.epsilon_in_precision else 0.0
    total = np.zeros((len(IOU_THRESHOLDS), len(RECALL_POINTS)))
    categories = 0
    for k in range(len(table.category_ids)) if rows is None else rows.tolist():
        positives = int(m.pair_positives[m.pair_first[k] : m.pair_first[k + 1]].sum())
        if not positives:
            continue
        categories += 1
        tracks = slice(m.first[k], m.first[k + 1])
        for t in range(len(IOU_THRESHOLDS)):
            hit, miss = (bits[tracks] >> t & 1 for bits in (m.hits, m.misses))
            precision, no_scores = np.zeros(len(RECALL_POINTS)), np.empty(0)
            precision_at(
                hit.astype(bool), miss.astype(bool), m.score[tracks], positives, RECALL_POINTS, epsilon,
                not quirks.ties_by_file_order, precision, no_scores,
            )  # fmt: skip
            total[t] += precision
    return total / max(categories, 1)


def write_table(path: Location, table: MatchTable) -> None:
    """Write a table, the same bytes for the same table; raises `UserError` where the disk refuses."""
    arrays = {name: getattr(table.matches, name).astype(kind).tobytes() for name, kind in _KINDS.items()}
    content = _File(
        MATCH_TABLE_FORMAT,
        table.protocol,
        table.version,
        table.annotations,
        table.video_ids.tolist(),
        table.category_ids.tolist(),
        list(table.category_names),
        {suffix: rows.tolist() for suffix, rows in table.groups.items()},
        arrays,
        b"" if table.presence is None else table.presence.astype("<i8").tobytes(),
    )
    write_marked(path, _MARK, content)


def read_table(path: Location) -> MatchTable:
    """Read a table; raises `UserError` if it is missing, damaged, of another format or inconsistent."""
    hint = "delete it: it is made again from the predictions"
    content = read_marked(path, _MARK, _File, "a match table", hint)
    try:
        return _table_of(content)
    except (ValueError, OverflowError) as error:
        raise UserError(str(path), f"is not a match table ({error})", hint) from error


def _table_of(content: _File) -> MatchTable:
    """Raises `ValueError` for arrays that do not fit each other: kernels do not check bounds."""
    if content.arrays.keys() != _KINDS.keys():
        raise ValueError(f"holds {', '.join(content.arrays)}")
    arrays: dict[str, Any] = {name: np.frombuffer(content.arrays[name], kind) for name, kind in _KINDS.items()}
    for name, kind in _KINDS.items():
        arrays[name] = arrays[name].astype(np.float64 if kind == "<f8" else np.int64)
    videos, categories = len(content.video_ids), len(content.category_ids)
    matches = Matches(**arrays)
    groups = {suffix: np.array(rows, np.int64) for suffix, rows in content.groups.items()}
    tracks, pairs = len(matches.video), len(matches.pair_video)
    sound = (
        content.protocol in PROTOCOLS
        and len(content.category_names) == categories
        and {len(matches.score), len(matches.hits), len(matches.misses)} == {tracks}
        and len(matches.pair_positives) == pairs
        and _are_bounds(matches.first, categories, tracks)
        and _are_bounds(matches.pair_first, categories, pairs)
        and _are_within(matches.video, videos)
        and _are_within(matches.pair_video, videos)
        and _are_within(matches.hits, 1 << len(IOU_THRESHOLDS))
        and _are_within(matches.misses, 1 << len(IOU_THRESHOLDS))
        and _are_within(matches.pair_positives, 1 << 31)
        and bool(np.isfinite(matches.score).all())
        and all(_are_within(rows, categories) for rows in groups.values())
    )
    if not sound:
        raise ValueError("its arrays do not fit each other, or its protocol is unknown")
    presence = np.frombuffer(content.presence, "<i8").astype(np.int64)
    if len(presence) not in (0, 4 * videos) or bool((presence < 0).any()):
        raise ValueError("its counts of words do not fit its videos")
    return MatchTable(
        content.protocol,
        content.version,
        content.annotations,
        np.array(content.video_ids, np.int64),
        np.array(content.category_ids, np.int64),
        tuple(content.category_names),
        groups,
        matches,
        presence.reshape(videos, 4) if content.presence else None,
    )


def _are_bounds(bounds: Ints, parts: int, total: int) -> bool:
    return len(bounds) == parts + 1 and bounds[0] == 0 and bounds[-1] == total and bool((np.diff(bounds) >= 0).all())


def _are_within(values: Ints, end: int) -> bool:
    return not len(values) or bool(values.min() >= 0 and values.max() < end)
