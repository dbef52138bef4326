"""Checks a results file of any origin against a split and writes it in the official format of evaluation servers.

No truth is needed. Every record is checked as in scoring, and the masks of all categories are read; other notations
(ids as text, ``720.0`` for 720) are converted to those of the official tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness import rle
from harness.errors import UserError
from harness.export import write_tracks
from harness.formats.results import Block, read_blocks
from harness.formats.youtube_vis import Annotations
from harness.paths import Location
from harness.rle import MaskTable
from harness.scoring.coverage import warn_of_cap, warn_of_empty_videos, warn_of_twins
from harness.scoring.from_results import digests_in_results, read_batch
from harness.scoring.overlap import GroundTruthArrays, MaskRules, Overlaps, TrackBatch, concatenate, overlap
from harness.scoring.protocols import ApProtocol, get_protocol
from harness.scoring.score import in_parallel, warn_of_sizes
from harness.warnings import Warnings


@dataclass(frozen=True)
class Submission:
    """The numbers of written tracks and of videos of the split, and counted warnings as data."""

    tracks: int
    videos: int
    warnings: list[dict[str, Any]]


class _Part(NamedTuple):
    """The checked records of a block, and their lines in the official format."""

    overlaps: Overlaps
    warnings: Warnings
    lines: list[bytes]


def write_checked(
    annotations: Annotations, protocol: str, predictions: Path, out: Location, *, zipped: bool, strict: bool = False
) -> Submission:
    """Check a results file against the videos and categories of ``annotations`` and write it to ``out``.

    Tracks of other categories are left out and counted. Raises `UserError`, and writes nothing, for invalid records and
    masks, unknown videos, a file without tracks, input on which the official tool of ``protocol`` aborts, and with
    ``strict`` for every warning.
    """
    if annotations.renumbered:
        what = f"ids of {annotations.renumbered} are no 64-bit integers, which official tools expect"
        raise UserError(annotations.path, what, "name the annotation file of the server's split")
    chosen, warnings = get_protocol(protocol), Warnings(strict)
    split = GroundTruthArrays(replace(annotations, truth=None, lists_truth=False))
    split.owned[:] = True  # masks are read of every category, as if all had truth
    named = np.zeros(len(split.video_ids), np.bool_)
    parts: list[Overlaps] = []

    def lines() -> Iterator[bytes]:
        check = partial(_checked, split=split, path=predictions, strict=strict, named=named)
        for part in in_parallel(check, read_blocks(predictions)):
            parts.append(part.overlaps)
            for kind, (count, first) in part.warnings.found.items():
                warnings.add(kind, first, count)
            yield from part.lines
        _look_at_all(chosen, split, concatenate(parts), named, predictions, warnings)

    tracks = write_tracks(lines(), out, zipped=zipped)
    return Submission(tracks, len(split.video_ids), warnings.record())


def _checked(block: Block, *, split: GroundTruthArrays, path: Path, strict: bool, named: NDArray[np.bool_]) -> _Part:
    found = Warnings(strict)
    batch = read_batch(block, split, str(path), found, named)
    # no rules and no truth: this reads every mask and compares its size with the video's
    overlaps = overlap(split, batch, (MaskRules(False, False),), 0.0, str(path))
    return _Part(overlaps, found, list(_lines(split, batch)))


def _look_at_all(
    chosen: ApProtocol,
    split: GroundTruthArrays,
    overlaps: Overlaps,
    named: NDArray[np.bool_],
    path: Path,
    warnings: Warnings,
) -> None:
    """Judge the file as a whole."""
    if not len(overlaps.score):
        what = f"has no tracks of this split's categories; the official {chosen.name} tool aborts on an empty list"
        raise UserError(str(path), what, "write one record per predicted track")

    def place(record: int) -> str:
        return f"{path}, record {record}"

    short = np.flatnonzero(overlaps.frames != split.lengths[overlaps.video])
    if chosen.equal_lengths and len(short):
        first, video = int(short[0]), int(split.video_ids[overlaps.video[short[0]]])
        what = f"has {overlaps.frames[first]} frames, video {video} has {split.lengths[overlaps.video[first]]}"
        hint = f"write one mask or null per frame; the official {chosen.name} tool aborts on it"
        raise UserError(place(int(overlaps.record[first])), what, hint)
    warn_of_sizes(overlaps, place, warnings)
    warn_of_empty_videos(split, named, (), warnings)
    warn_of_cap(chosen, split, overlaps, place, warnings)
    warn_of_twins(overlaps, place, partial(digests_in_results, path), warnings)


def _lines(split: GroundTruthArrays, batch: TrackBatch) -> Iterator[bytes]:
    """Each track as JSON, its counts as they are in the file."""
    videos, categories = split.video_ids[batch.video].tolist(), split.category_ids[batch.category].tolist()
    masks = batch.masks
    for track, (video, category, score) in enumerate(zip(videos, categories, batch.score.tolist(), strict=True)):
        head = msgspec.json.encode({"video_id": video, "category_id": category, "score": score})
        rows = masks.frame_mask[masks.track[track] : masks.track[track + 1]].tolist()
        yield head[:-1] + b',"segmentations":[' + b",".join(_segmentations(masks, rows)) + b"]}"


def _segmentations(masks: MaskTable, rows: Iterable[int]) -> Iterator[bytes]:
    for row in rows:
        if row < 0:
            yield b"null"
            continue
        counts = masks.data[masks.start[row] : masks.stop[row]].tobytes()
        text = b'"%b"' % counts if masks.kind[row] == rle.ESCAPED else msgspec.json.encode(counts.decode())
        yield b'{"size":[%d,%d],"counts":%b}' % (masks.height[row], masks.width[row], text)
