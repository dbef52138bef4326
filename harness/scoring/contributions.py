"""What each video contributes to the sampling error of metrics whose run folders have no match table (mask HOTA).

The contributions are those of `harness.scoring.jackknife`: the sum of their squared deviations from their mean is the
variance of the metric, and two runs are compared by the differences of their contributions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from harness.arrays import Floats, Ints
from harness.errors import UserError
from harness.paths import Location
from harness.scoring.marked_file import read_marked, write_marked

CONTRIBUTIONS_FILE = "contributions.msgpack"
"""Name of the file in a run folder."""

_MARK = b"harness-contributions\n"


@dataclass(frozen=True)
class VideoContributions:
    """The metrics of one run by one protocol, and what each video contributes to their error.

    ``annotations`` is the digest of the annotation file; ``video_ids (videos,)`` ascend. The others are by the metrics
    ``names``: the official ``values (metrics,)`` as fractions, ``with_truth (metrics,)``, the number of videos with
    truth of the metric's categories, and ``contributions (metrics, videos)``.
    """

    annotations: str
    video_ids: Ints
    names: tuple[str, ...]
    values: Floats
    with_truth: Ints
    contributions: Floats


class _File(msgspec.Struct, frozen=True):
    """The content after the file's mark and checksum; ``contributions`` are little-endian 64-bit floats by metric."""

    format: Literal[1]
    annotations: str
    video_ids: list[int]
    names: list[str]
    values: list[float]
    with_truth: list[int]
    contributions: bytes


def write_contributions(path: Location, found: VideoContributions) -> None:
    """Write contributions, the same bytes for the same ones; raises `UserError` where the disk refuses."""
    content = _File(
        1,
        found.annotations,
        found.video_ids.tolist(),
        list(found.names),
        found.values.tolist(),
        found.with_truth.tolist(),
        found.contributions.astype("<f8").tobytes(),
    )
    write_marked(path, _MARK, content)


def read_contributions(path: Location) -> VideoContributions:
    """Read contributions; raises `UserError` if they are missing, damaged, of another format or inconsistent."""
    hint = "repeat its `harness run`, which writes it"
    content = read_marked(path, _MARK, _File, "a file of contributions", hint)
    metrics, videos = len(content.names), len(content.video_ids)
    try:
        ids = np.array(content.video_ids, np.int64)
        added = np.frombuffer(content.contributions, "<f8").astype(np.float64).reshape(metrics, videos)
        sound = (
            len(content.values) == len(content.with_truth) == metrics == len(set(content.names))
            and all(0 <= count <= videos for count in content.with_truth)
            and bool(np.isfinite(added).all())
        )
    except (ValueError, OverflowError):
        sound = False
    if not sound:
        raise UserError(str(path), "is not a file of contributions (its parts do not fit each other)", hint)
    return VideoContributions(
        content.annotations,
        ids,
        tuple(content.names),
        np.array(content.values, np.float64),
        np.array(content.with_truth, np.int64),
        added,
    )
