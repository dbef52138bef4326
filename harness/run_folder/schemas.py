"""The schemas of the files of a run folder, used to write and to read them. docs/run-folder.md describes the files.

Every JSON file has the key ``format``. A folder of another format is refused in one line, see `harness.versions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from harness.events import StageUse
from harness.types import LoadedWeights

FORMAT: Literal[2] = 2
"""Version of the files in a run folder. 2: predictions do not depend on the protocol or the limit of a run."""

MOST_UNUSED_NAMES = 10
"""Most names of unused tensors in a record; their count is exact."""

# A mean of ones may exceed 1 by one rounding step.
Fraction = Annotated[float, Meta(le=1 + 1e-9)]
"""A metric, at most 1. The smallest value is -1 for correlations and cgF1 and 0 for others; MOTA has no lower bound."""


def check_metrics(*groups: Mapping[str, float | None] | None) -> None:
    """Raise `ValueError` for a metric other than MOTA that is below -1."""
    for name, value in ((name, value) for group in groups for name, value in (group or {}).items()):
        if value is not None and value < -1 and not name.startswith("MOTA"):
            raise ValueError(f"{name} is {value}, expected >= -1")


class RunContent(Struct, frozen=True):
    """``config.json``: everything that a run's predictions depend on, see `harness.runner.Run.content`.

    ``digest`` is the digest of the annotations, ``vocabulary`` that of the category names.
    """

    format: Literal[2]
    model: str
    dataset: str
    split: str
    digest: str
    vocabulary: str | None = None
    model_version: str | None = None
    config: dict[str, Any] = {}
    checkpoint: str | None = None
    precision: str | None = None
    seed: int | None = None
    plugin: dict[str, str | None] | None = None
    depends_on: dict[str, Any] = {}
    variables: dict[str, str] = {}


class VideoIds(Struct, frozen=True):
    """``videos.json``: ids of all videos of the split, and of those of the run."""

    format: Literal[2]
    split: list[int]
    run: list[int]


class Times(Struct, frozen=True):
    """``timings.json``: seconds by video id; videos and seconds of each session; time and memory of stages."""

    videos: dict[str, float] = {}
    sessions: list[dict[str, float]] = []
    stages: dict[str, StageUse] = {}
    format: Literal[2] = 2


class BenchFit(Struct, frozen=True):
    """A straight line through measured points: ``fixed`` + ``per_unit`` times the value of the axis.

    ``residual`` is the largest distance of a point from the line, as a fraction of the point's value; ``r2`` the
    fraction of the variance that the line explains, ``None`` if all points have the same value.
    """

    fixed: float
    per_unit: float
    residual: float
    r2: float | None = None


class BenchPoint(Struct, frozen=True):
    """One measurement: ``value`` on the axis, ``seconds`` of the fastest pass over the video, peak memory in bytes."""

    value: int
    seconds: float
    frames_per_second: float
    memory_bytes: int


class BenchAxis(Struct, frozen=True):
    """One swept axis, ``words``, ``objects`` or ``frames``: its points, ascending, and the lines through them.

    ``time`` is in seconds per frame, along ``frames`` in seconds of the whole video; ``memory`` in bytes.
    """

    axis: str
    points: list[BenchPoint]
    time: BenchFit
    memory: BenchFit


class BenchRecord(Struct, frozen=True):
    """``bench.json``: how time and memory of a model grow, and the conditions they were measured under.

    ``base`` has the values of the axes that are not swept; ``size`` is height and width in pixels.
    """

    format: Literal[2]
    model: str
    device: str
    hardware: str
    precision: str
    size: list[int]
    threads: int
    repeats: int
    base: dict[str, int]
    axes: list[BenchAxis]
    config: dict[str, Any] = {}
    checkpoint: str | None = None
    harness: str = ""


class WeightsRecord(Struct, frozen=True):
    """How a model's weights were loaded, in numbers of tensors, see `harness.types.LoadedWeights`.

    ``unused`` counts the checkpoint's tensors that the model does not use; ``unused_names`` are the names of the first
    `MOST_UNUSED_NAMES`.
    """

    needed: int
    loaded: int
    unused: int = 0
    unused_names: list[str] = []

    @classmethod
    def of(cls, weights: LoadedWeights) -> WeightsRecord:
        """Return the record of the weights that a model loaded."""
        return cls(weights.needed, weights.loaded, len(weights.unused), list(weights.unused[:MOST_UNUSED_NAMES]))


class Weights(Struct, frozen=True):
    """``weights.json``: how the weights were loaded that made a run's predictions."""

    weights: WeightsRecord
    format: Literal[2] = 2


class Failure(Struct, frozen=True):
    """A video that failed, with the reason in one line.

    ``bad_input``: the input has to change before another attempt can succeed. ``attempts``: how often the video was
    tried.
    """

    video_id: int
    error: str
    bad_input: bool = False
    attempts: int = 1
    traceback: str = ""


class Failures(Struct, frozen=True):
    """``failures.json``: the videos that failed."""

    failed: list[Failure]
    format: Literal[2] = 2


class Cpu(Struct, frozen=True):
    """The processor."""

    model: str | None = None
    count: int | None = None


class RunEnvironment(Struct, frozen=True):
    """``environment.json``: software, hardware and inputs of a run; ``time`` is its start in UTC (ISO 8601).

    ``data`` are the paths from which its data was opened, see `harness.types.Dataset`.
    """

    harness: str | None = None
    python: str | None = None
    platform: str | None = None
    cpu: Cpu = Cpu()
    memory_bytes: int | None = None
    gpus: list[str] = []
    device: str | None = None
    threads: int | None = None
    git_commit: str | None = None
    git_changed: bool | None = None
    working_directory_commit: str | None = None
    plugin_commit: str | None = None
    plugin_changed: bool | None = None
    time: str | None = None
    packages: dict[str, str] = {}
    inputs: dict[str, str | None] = {}
    data: dict[str, str] = {}


class CategoryRow(Struct, frozen=True):
    """One line of ``per_category.csv``; metrics are fractions, ``None`` if the category has no truth."""

    id: int
    name: str
    groups: str = ""
    AP: float | None = None
    AP50: float | None = None
    AP75: float | None = None
    AR100: float | None = None
    truths: int = 0
    tracks: int = 0


class ProtocolRecord(Struct, frozen=True):
    """The scoring protocol, its version and settings; see `harness.scoring.dispatch.Settings`."""

    name: str
    version: str | int
    score_threshold: float | None = None
    tracks_per_category: int | None = None


class VideosRecord(Struct, frozen=True):
    """The number of videos of the run, the number with predictions, and the failed ones."""

    total: int
    done: int
    failed: list[dict[str, Any]]


class ScoreRecord(Struct, frozen=True):
    """The metrics of one protocol: fractions, ``None`` if undefined, with the reason in ``undefined``."""

    protocol: ProtocolRecord
    metrics: dict[str, Fraction | None]
    corrected: dict[str, Fraction | None] = {}
    undefined: dict[str, dict[str, str]] = {}
    warnings: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    slices: dict[str, Any] = {}

    def __post_init__(self) -> None:
        check_metrics(self.metrics, self.corrected)


def protocol_key(protocol: Mapping[str, Any]) -> str:
    """Return a protocol's name with the score threshold that its metrics depend on: ``hota@0.5``."""
    threshold = protocol.get("score_threshold")
    return str(protocol["name"]) if threshold is None else f"{protocol['name']}@{threshold:g}"


class RunRecord(Struct, frozen=True):
    """``metrics.json``: the results of a run.

    ``protocols`` has the metrics of every protocol that scored the predictions. Those of the first, the run's own
    protocol, are also at the top level. There are none if only a server has the truth. ``limit``: the run was
    restricted to so many videos, the first of the split; ``None`` for the whole split. ``config``, ``precision`` and
    ``seed`` are the run's settings, ``name`` is the user's name for it, and ``weights`` the file name of its
    checkpoint. ``backbone`` and ``trained_on`` are its network and its training data, from the model card or the
    checkpoint. ``comparable`` and ``not_comparable`` say whether it may be compared with published numbers (see
    `harness.comparability`). ``loaded_weights`` says how the model's weights were loaded, ``None`` if the model does
    not report it.
    """

    format: Literal[2]
    model: str
    dataset: str
    split: str
    folder: str
    complete: bool
    protocol: ProtocolRecord | None
    metrics: dict[str, Fraction | None] | None
    corrected: dict[str, Fraction | None] | None
    videos: VideosRecord
    protocols: list[ScoreRecord]
    limit: int | None = None
    config: dict[str, Any] = {}
    precision: str | None = None
    seed: int | None = None
    name: str | None = None
    weights: str | None = None
    backbone: str | None = None
    trained_on: str | None = None
    undefined: dict[str, dict[str, str]] = {}
    warnings: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    slices: dict[str, Any] = {}
    comparable: bool | None = None
    not_comparable: list[str] = []
    loaded_weights: WeightsRecord | None = None

    def __post_init__(self) -> None:
        check_metrics(self.metrics, self.corrected)
