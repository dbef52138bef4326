"""Ceilings: the metrics that predictions would have with perfect classes, masks, links or presence.

The protocol scores tracks that `harness.scoring.perfect` has changed. Predictions are read by video, because links and
classes are chosen among the tracks of one video. ``docs/ceilings.md`` has the definitions.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.errors import UserError
from harness.formats.youtube_vis import Annotations
from harness.scoring import BURST_TASKS, HOTA, TETA_TASKS, VEVAL
from harness.scoring.dispatch import DEFAULTS, Settings
from harness.scoring.frame_use import frames_of
from harness.scoring.overlap import GroundTruthArrays, Overlaps, TrackBatch, concatenate, overlap
from harness.scoring.perfect import VARIANTS, perfected
from harness.scoring.presence import PRESENCE
from harness.scoring.protocols import AnyProtocol, ApProtocol, choose_protocol
from harness.scoring.score import LOWEST_THRESHOLD, in_parallel, mask_rules, metrics_of, rules_row, usable_protocol
from harness.warnings import Warnings

if TYPE_CHECKING:
    from harness.formats.results import Block
    from harness.scoring.dispatch import Source
    from harness.scoring.phrase_tracks import PhraseTracks
    from harness.scoring.shard_reader import ShardReader

_GROUP_BYTES = 8 << 20
"""Videos of a results file are grouped until their JSON text has this many bytes."""

Values = dict[str, float | None]


@dataclass(frozen=True)
class Ceiling:
    """The metrics by protocol, as fractions, with perfect predictions in the aspects ``perfect`` (empty: unchanged)."""

    perfect: tuple[str, ...]
    metrics: dict[str, Values]

    def record(self) -> dict[str, Any]:
        """Return the ceiling as data for JSON."""
        return {"perfect": list(self.perfect), "metrics": self.metrics}


@dataclass(frozen=True)
class Ceilings:
    """Ceilings in the order of `VARIANTS`; ``protocols`` are the records of the protocols by name."""

    protocols: dict[str, dict[str, Any]]
    rows: tuple[Ceiling, ...]

    def record(self) -> dict[str, Any]:
        """Return the ceilings as data for JSON."""
        return {"protocols": list(self.protocols.values()), "rows": [row.record() for row in self.rows]}


def has_ceilings(name: str) -> bool:
    """Whether a protocol has ceilings: AP protocols, ``hota`` and ``veval`` do."""
    return name not in TETA_TASKS and name not in BURST_TASKS


def ceilings(
    names: Sequence[str],
    annotations: Annotations,
    source: Source,
    videos: Iterable[int] | None = None,
    settings: Settings = DEFAULTS,
) -> Ceilings:
    """Return the ceilings of predictions by the protocols ``names``; those without ceilings are left out.

    ``source`` returns the path of a results file or a new reader of a prediction store. ``videos`` restricts truth and
    predictions to these ids. Tracks of unknown videos and of categories that the annotations do not list are left out.
    Where the official tool aborts on the truth, the ceilings are those of the corrected protocol, and say so.
    Raises `UserError` as scoring does, if no protocol has ceilings (see `has_ceilings`), and without predictions.
    """
    names = [name for name in names if has_ceilings(name)]
    if not names:
        raise UserError("ceilings", "do not exist for these protocols", f"name AP protocols, {HOTA} or {VEVAL}")
    annotations = annotations if videos is None else annotations.restrict(videos)
    of_tracks = [
        choose_protocol(name, settings.score_threshold, settings.tracks_per_category) for name in names if name != VEVAL
    ]
    found: dict[str, tuple[dict[str, Any], list[Values]]] = {}
    if of_tracks:
        found |= _of_tracks(of_tracks, annotations, source())
    if VEVAL in names:
        found[VEVAL] = _of_phrases(annotations, source())
    used = [found[name] for name in names]
    rows = (Ceiling(variant, {one["name"]: values[i] for one, values in used}) for i, variant in enumerate(VARIANTS))
    return Ceilings({one["name"]: one for one, _ in used}, tuple(rows))


def _of_tracks(
    protocols: Sequence[AnyProtocol], annotations: Annotations, predictions: Path | ShardReader
) -> dict[str, tuple[dict[str, Any], list[Values]]]:
    """By the name of each of ``protocols``: the record of the one that was used, and its metrics by variant."""
    truths = GroundTruthArrays(annotations)
    used = {one.name: usable_protocol(one, truths) if isinstance(one, ApProtocol) else one for one in protocols}
    rules = mask_rules(used.values())

    def work(read: _Read) -> list[Overlaps]:
        batches = perfected(truths, read.batch, read.name)
        return [overlap(truths, one, rules, LOWEST_THRESHOLD, read.name) for one in batches]

    parts = list(in_parallel(lambda group: work(_read(group, truths, predictions)), _groups(predictions, truths)))
    if not parts:
        raise UserError(_name(predictions), "holds no predictions", "give predictions of the annotated videos")
    values: dict[str, list[Values]] = {name: [] for name in used}
    for i in range(len(VARIANTS)):
        joined = concatenate([part[i] for part in parts], len(rules))
        for name, one in used.items():
            values[name].append(metrics_of(one, truths, joined, rules_row(one, rules), _name(predictions)).values)
    return {name: (one.record(), values[name]) for name, one in used.items()}


def _of_phrases(annotations: Annotations, predictions: Path | ShardReader) -> tuple[dict[str, Any], list[Values]]:
    """Return VEval's metrics. Perfect presence classifies every pair correctly: IL_MCC is 1, so cgF1 is pmF1."""
    from harness.scoring.phrase_tracks import join_tracks, read_store_tracks
    from harness.scoring.phrase_units import read_phrase_truth
    from harness.scoring.veval import score_tracks

    truth = read_phrase_truth(annotations)
    side, name = truth.side, _name(predictions)

    def work(read: _Read) -> list[PhraseTracks]:
        batches = perfected(truth.arrays, read.batch, read.name, within_category=True)
        return [read_store_tracks(one, truth.arrays, truth.steps, side, read.name) for one in batches]

    groups = _groups(predictions, truth.arrays)
    parts = list(in_parallel(lambda group: work(_read(group, truth.arrays, predictions)), groups))
    if not parts:
        raise UserError(name, "holds no predictions", "give predictions of the annotated videos")
    record, values = {}, []
    for i, variant in enumerate(VARIANTS):
        tracks = join_tracks([part[i] for part in parts])
        score = score_tracks(truth, tracks, lambda record: f"{name}, record {record}", name, Warnings(False))
        record = score.record()["protocol"]
        numbers = dict(score.metrics)
        if PRESENCE in variant:
            for key in numbers:
                if key.startswith("cgF1"):
                    numbers[key] = numbers[key.replace("cgF1", "pmF1")]
                elif key.startswith("IL_MCC") and numbers[key] is not None:
                    numbers[key] = 1.0
        values.append(numbers)
    return record, values


class _Read(NamedTuple):
    """All tracks of some videos, and the name of their file."""

    batch: TrackBatch
    name: str


def _name(predictions: Path | ShardReader) -> str:
    return str(predictions if isinstance(predictions, Path) else predictions.folder)


def _groups(predictions: Path | ShardReader, truths: GroundTruthArrays) -> Iterable[Any]:
    return _blocks_by_video(predictions, truths) if isinstance(predictions, Path) else predictions


def _read(group: Any, truths: GroundTruthArrays, predictions: Path | ShardReader) -> _Read:
    name, unheard = _name(predictions), Warnings(False)
    if isinstance(predictions, Path):
        from harness.scoring.from_results import read_batch

        batch = read_batch(group, truths, name, unheard, None, frames_of, [], every_mask=True)
    else:
        from harness.scoring.from_store import read_shards

        batch = read_shards(group, truths, predictions.folder, unheard, every_mask=True, with_frames=True)
    return _Read(batch, name)


def _blocks_by_video(path: Path, truths: GroundTruthArrays) -> Iterator[Block]:
    """Yield the records of a file in blocks that have all records of their videos, in the file's order for each video.

    The file is read twice, the first time only to count the records of each video. Records are kept in memory until the
    last record of their video is read: few records if the file is ordered by video, all records in the worst case.
    """
    from harness.formats.results import read_blocks
    from harness.scoring.from_results import video_ids

    left: Counter[int] = Counter()
    for found in in_parallel(lambda block: video_ids(block, truths, str(path)), read_blocks(path)):
        left.update(found.tolist())
    waiting: dict[int, list[tuple[Any, Any]]] = {}
    ready: list[tuple[Any, Any]] = []
    for block in read_blocks(path):
        videos = video_ids(block, truths, str(path))
        starts = np.append(np.flatnonzero(np.diff(videos, prepend=videos[0] - 1)), len(videos)).tolist()
        for a, b in itertools.pairwise(starts):
            video, spans = int(videos[a]), block.spans[a:b]
            text = block.text[spans[0, 0] : spans[-1, 1]].copy()
            waiting.setdefault(video, []).append((text, np.where(spans > 0, spans - spans[0, 0], 0)))
            left[video] -= b - a
            if not left[video]:
                ready += waiting.pop(video)
                if sum(len(text) for text, _ in ready) >= _GROUP_BYTES:
                    yield _merged(ready)
                    ready = []
    if ready:
        yield _merged(ready)


def _merged(parts: Sequence[tuple[Any, Any]]) -> Block:
    from harness.formats.results import Block

    begin = np.cumsum([0] + [len(text) for text, _ in parts])
    spans = [s + np.where((s > 0) | (np.arange(4) < 2), b, 0) for (_, s), b in zip(parts, begin, strict=False)]
    return Block(np.concatenate([text for text, _ in parts]), np.concatenate(spans), 0)
