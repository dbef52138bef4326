"""Tracks of a results file or a store in BURST's own form, for its official tasks.

The sequences are those that ``harness convert --to burst`` writes: ascending video ids, tracks numbered from 1 in each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from harness import rle
from harness.errors import UnreadableFileError, UserError
from harness.formats.burst import BurstMask, place_of_frames
from harness.formats.burst import Sequence as BurstSequence
from harness.formats.segmentations import mask_of
from harness.formats.youtube_vis import Annotations, VideoRecord
from harness.scoring.burst_tasks import BurstScore, score_tasks
from harness.scoring.burst_tracks import BurstTruth
from harness.scoring.overlap import GroundTruthArrays, TrackBatch, refuse_faults
from harness.scoring.shard_reader import ShardReader
from harness.warnings import Warnings

_Track = tuple[int, float, list[str | None]]
"""Category, score, and the text of the mask in each frame."""


class TrackSequences:
    """The predictions of a results file or a store as sequences; reading adds to ``warnings``.

    ``lists_empty``: a store's videos without tracks are those in which a model found nothing.
    """

    def __init__(
        self, annotations: Annotations, predictions: Path | ShardReader, truth: BurstTruth, warnings: Warnings
    ) -> None:
        self.split, self.lists_empty = truth.split, isinstance(predictions, ShardReader)
        self.path = str(predictions.folder if isinstance(predictions, ShardReader) else predictions)
        self._predictions, self._warnings, self._categories = predictions, warnings, truth.listed
        self._arrays = GroundTruthArrays(annotations)
        self._videos = annotations.videos

    def __iter__(self) -> Iterator[BurstSequence]:
        if isinstance(self._predictions, Path):
            yield from self._of_results(self._predictions)
        else:
            yield from self._of_store(self._predictions)

    def _of_results(self, path: Path) -> Iterator[BurstSequence]:
        """The records of a file are in any order, so that their masks are kept as text until all are read."""
        from harness.formats.results import read_blocks
        from harness.scoring.from_results import read_batch

        found: dict[int, list[_Track]] = {}
        for block in read_blocks(path):
            batch = read_batch(block, self._arrays, str(path), self._warnings, every_mask=True)
            for video, track in self._tracks(batch, lambda record: f"{path}, record {record}"):
                found.setdefault(video, []).append(track)
        for one in self._videos:
            yield _sequence(one, found.pop(one.id, []))

    def _of_store(self, shards: ShardReader) -> Iterator[BurstSequence]:
        from harness.scoring.from_store import place_of_record, read_shards

        videos = {video.id: video for video in self._videos}
        for group in shards:
            batch = read_shards(group, self._arrays, shards.folder, self._warnings, every_mask=True)
            found: dict[int, list[_Track]] = {}
            for video, track in self._tracks(batch, partial(place_of_record, shards.folder)):
                found.setdefault(video, []).append(track)
            for number in group.videos:
                if number in videos:
                    yield _sequence(videos[number], found.get(number, []))

    def _tracks(self, batch: TrackBatch, name_of: Callable[[int], str]) -> Iterator[tuple[int, _Track]]:
        """The video's id and the track of every record.

        Raises `UserError` for masks that are no run-length encodings, and for one of another size than its video's: in
        BURST's form the size is the sequence's.
        """
        if batch.mask_area is None:
            area = rle.areas(*batch.masks.arrays()[:6], np.ones(len(batch.masks.start), np.bool_))
            refuse_faults(area, batch.masks, [name_of(record) for record in batch.record.tolist()])
        texts: dict[int, str] = {}
        videos = self._arrays.video_ids[batch.video].tolist()
        for at, (video, category, score) in enumerate(
            zip(videos, batch.category.tolist(), batch.score.tolist(), strict=True)
        ):
            height, width = self._arrays.sizes[batch.video[at]].tolist()
            masks: list[str | None] = []
            for row in batch.masks.frame_mask[batch.masks.track[at] : batch.masks.track[at + 1]].tolist():
                if row >= 0 and row not in texts:
                    mask = mask_of(batch.masks, row)
                    if mask.size != (height, width):
                        what = f"has a mask of {mask.size[0]}x{mask.size[1]}, its video is {height}x{width}"
                        raise UserError(name_of(int(batch.record[at])), what, "encode the masks at the video's size")
                    texts[row] = mask.counts.decode("ascii")
                masks.append(texts[row] if row >= 0 else None)
            yield video, (self._categories[category], score, masks)


def _sequence(video: VideoRecord, tracks: list[_Track]) -> BurstSequence:
    dataset, name, paths = place_of_frames(video.file_names, f"video {video.name}")
    frames: list[dict[str, BurstMask]] = [{} for _ in paths]
    for number, (_, score, masks) in enumerate(tracks, 1):
        for frame, mask in zip(frames, masks, strict=False):  # a list of another length is counted where it is read
            if mask is not None:
                frame[str(number)] = BurstMask(mask, score)
    categories = {str(number): category for number, (category, _, _) in enumerate(tracks, 1)}
    return BurstSequence(video.id, dataset, name, video.width, video.height, paths, frames, categories)


def score_tracks_by_tasks(
    tasks: Sequence[str],
    annotations: Annotations,
    source: Callable[[], ShardReader | Path],
    strict: bool = False,
    videos: Iterable[int] | None = None,
) -> dict[str, BurstScore | UserError]:
    """Score tracks by BURST's own tasks, on its own files, as `harness.scoring.burst_tasks.score_tasks` does.

    ``annotations`` are those of its file of all classes; ``videos`` restricts truth and predictions to these ids.
    Raises `UnreadableFileError` where predictions cannot be read.
    """
    chosen = annotations if videos is None else annotations.restrict(videos)
    read: list[Warnings] = []

    def opened(truth: BurstTruth) -> TrackSequences:
        read[:] = [Warnings(strict)]
        return TrackSequences(chosen, source(), truth, read[0])

    outcomes = score_tasks(tasks, Path(annotations.path).parent, opened, strict, videos)
    for outcome in outcomes.values():
        if isinstance(outcome, UnreadableFileError):
            raise outcome
        if isinstance(outcome, BurstScore):
            outcome.warnings = [*read[0].record(), *outcome.warnings]
    return outcomes
