"""Makes a run folder from a results file: its tracks become the run's predictions, under a name that the user gives.

The folder has the same files as one of ``harness run``, so every command that reads runs accepts it. No frame is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from harness import rle
from harness.errors import UserError
from harness.formats.results import Block, read_blocks
from harness.formats.youtube_vis import Annotations
from harness.masks import Rle
from harness.paths import Location
from harness.run_folder.provenance import file_digest
from harness.run_folder.results import TableMaker
from harness.runner import Run, RunOutcome, execute
from harness.scoring.dispatch import DEFAULTS, Settings
from harness.scoring.from_results import read_batch
from harness.scoring.overlap import GroundTruthArrays
from harness.types import Dataset, LoadContext, Model, Track, Video, Vocabulary
from harness.warnings import Warnings

if TYPE_CHECKING:
    from harness.scoring.dispatch import Result

MODEL = "results"
"""The model's name in the run of a results file: the real model is unknown."""
_SUMMARY = "tracks of a results file"
_LONGEST = 100


class ResultsConfig(BaseModel):
    """The identity of a results file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    results_sha256: str = Field(description="SHA-256 of the results file.")


class _Found(NamedTuple):
    """A track of the file, with one encoded mask per frame, ``None`` where the object is absent."""

    category_id: int
    score: float
    masks: tuple[Rle | None, ...]


class ResultsModel:
    """A model that returns the tracks of a results file, in the file's order."""

    def __init__(self, path: Path, annotations: Annotations) -> None:
        self._tracks = _read(path, annotations)

    def predict(self, video: Video, vocabulary: Vocabulary) -> list[Track]:
        """Return the tracks of a video; a list of masks that is shorter than the video is padded with ``None``."""
        asked, frames = {category.id for category in vocabulary.categories}, len(video.frames)
        return [
            Track(video.id, one.category_id, one.score, (*one.masks, *[None] * (frames - len(one.masks))))
            for one in self._tracks.get(video.id, ())
            if one.category_id in asked
        ]


@dataclass
class ResultsPlugin:
    """The plugin of a results file."""

    path: Path
    name: str = MODEL
    version: str = "1"
    summary: str = _SUMMARY
    Config: type[BaseModel] = ResultsConfig

    def load(self, config: Any, context: LoadContext) -> Model:
        """Read the whole file."""
        return ResultsModel(self.path, context.dataset.annotations)


def make_results_run(
    name: str,
    path: Path,
    dataset: Dataset,
    runs_dir: Location,
    protocols: tuple[str, ...] = (),
    settings: Settings = DEFAULTS,
    strict: bool = False,
    table: TableMaker | None = None,
    scores: Mapping[str, Result | UserError] | None = None,
) -> tuple[Run, RunOutcome]:
    """Write the run folder of a results file and return the run and its outcome; the same file gives the same folder.

    ``name`` is the run's name in tables. ``protocols`` score it as in `harness.runner.Run`; ``scores`` are their
    results, if they are known. Raises `UserError` for a name that is empty, too long or has control characters, and for
    invalid records: tracks of unknown videos, masks in another size than the video's, more masks than frames.
    """
    if not name.strip() or len(name) > _LONGEST or any(ord(c) < 32 for c in name):
        raise UserError("name", "is not a name", f"write 1 to {_LONGEST} printable characters")
    config = ResultsConfig(results_sha256=file_digest(path))
    run = Run(ResultsPlugin(path), config, dataset, runs_dir, protocols=protocols, scoring=settings, title=name.strip())
    return run, execute(run, strict=strict, table=table, scores=scores)


def _read(path: Path, annotations: Annotations) -> Mapping[int, list[_Found]]:
    """Return the tracks of a results file by video id; equal masks of a block share one object."""
    split = GroundTruthArrays(replace(annotations, truth=None, lists_truth=False))
    split.owned[:] = True  # as if every category had truth: the reader skips masks of the others
    found: dict[int, list[_Found]] = {}
    for block in read_blocks(path):
        for video, track in _tracks(block, split, str(path)):
            found.setdefault(video, []).append(track)
    return found


def _tracks(block: Block, split: GroundTruthArrays, path: str) -> list[tuple[int, _Found]]:
    batch = read_batch(block, split, path, Warnings(False))
    masks = batch.masks
    made: dict[int, Rle] = {}
    for row in np.unique(masks.frame_mask[masks.frame_mask >= 0]).tolist():
        counts = masks.data[masks.start[row] : masks.stop[row]].tobytes()
        if masks.kind[row] == rle.ESCAPED:
            counts = json.loads(b'"%b"' % counts).encode()
        made[row] = Rle((int(masks.height[row]), int(masks.width[row])), counts)
    videos, categories = split.video_ids[batch.video].tolist(), split.category_ids[batch.category].tolist()
    out = []
    for at, (video, category, score) in enumerate(zip(videos, categories, batch.score.tolist(), strict=True)):
        rows = masks.frame_mask[masks.track[at] : masks.track[at + 1]].tolist()
        out.append((video, _Found(category, score, tuple(None if row < 0 else made[row] for row in rows))))
    return out
