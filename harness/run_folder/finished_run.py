"""FinishedRun: everything that a run folder holds, read on first use, each file once.

Files of a run folder are untrusted: each is checked against its schema and the folder's checksums, and their text is
never assumed to be safe HTML.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.comparability import comparability_of
from harness.errors import NamedValues, UserError
from harness.input_files import decode_json
from harness.paths import Location, location
from harness.plain_text import without_guard
from harness.run_folder.checksums import CheckedFiles
from harness.run_folder.layout import BENCH, PREDICTIONS, content_digest
from harness.run_folder.schemas import (
    FORMAT,
    BenchRecord,
    CategoryRow,
    Failure,
    Failures,
    RunContent,
    RunEnvironment,
    RunRecord,
    Times,
    VideoIds,
    Weights,
    WeightsRecord,
    protocol_key,
)
from harness.run_folder.store import PredictionStore
from harness.scoring.match_table import MATCHES_FILE as MATCHES
from harness.scoring.match_table import MatchTable, read_table
from harness.scoring.presence import presence_metrics
from harness.versions import other_version

if TYPE_CHECKING:
    import pandas as pd

RECORD = "metrics.json"
_HINT = "repeat its `harness run`"


class FinishedRun:
    """A run folder. ``id`` is the folder's name, by which reports refer to it; ``label`` is its display name.

    Reading is lazy: properties raise `UserError` for files that are absent, damaged, or of another format.
    """

    def __init__(self, folder: Location, label: str = "", record: str = RECORD) -> None:
        self.folder = folder
        self._label, self._record_name = label, record
        self._files = CheckedFiles(folder)

    @classmethod
    def open(cls, place: Location | str) -> FinishedRun:
        """Open a run folder, or the ``metrics.json`` in it; a path, ``s3://`` or ``gs://``.

        Raises `UserError` if there is no finished run, or its record is damaged or of another format.
        """
        found = _find(location(place) if isinstance(place, str) else place)
        run = cls(found.parent, record=found.name)
        run.checked("record")
        return run

    def __repr__(self) -> str:
        return f"FinishedRun({str(self.folder)!r})"

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def label(self) -> str:
        """The display name: by default what the user calls the run, else the model's name."""
        return self._label or str(self.record.get("name") or self.record["model"])

    def labelled(self, label: str) -> FinishedRun:
        """Set the display name and return this run."""
        self._label = label
        return self

    @cached_property
    def record(self) -> dict[str, Any]:
        """``metrics.json``, see `RunRecord`."""
        return self._checked(self._record_name, RunRecord, "the record of a run")

    @cached_property
    def config(self) -> dict[str, Any]:
        """``config.json``, see `RunContent`; empty if it is absent."""
        if not (self.folder / "config.json").exists():
            return {}
        return self._checked("config.json", RunContent, "the configuration of a run")

    @cached_property
    def content(self) -> RunContent:
        """``config.json``: what the predictions depend on."""
        if not self.config:
            raise UserError(str(self.folder), "is not a run folder: it has no config.json", _NAME_ONE)
        return msgspec.convert(self.config, RunContent)

    @cached_property
    def environment(self) -> RunEnvironment:
        """``environment.json``; without values if it is absent."""
        return self._files.read_json("environment.json", RunEnvironment) or RunEnvironment()

    @cached_property
    def times(self) -> Times:
        """``timings.json``; empty if it is absent."""
        return self._files.read_json("timings.json", Times) or Times()

    @cached_property
    def bench(self) -> BenchRecord | None:
        """``bench.json``: how time and memory of the model grow; ``None`` if they were not measured."""
        return self._files.read_json(BENCH, BenchRecord)

    @cached_property
    def video_ids(self) -> VideoIds:
        """``videos.json``: ids of the videos of the split, and of those of the run."""
        ids = self._files.read_json("videos.json", VideoIds)
        if ids is None:
            raise UserError(str(self.folder), "is not a run folder: it has no videos.json", _NAME_ONE)
        return ids

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """``failures.json``: the videos that failed in the last session."""
        found = self._files.read_json("failures.json", Failures)
        return () if found is None else tuple(found.failed)

    @cached_property
    def loaded_weights(self) -> WeightsRecord | None:
        """``weights.json``: how the model's weights were loaded; ``None`` if it is absent."""
        found = self._files.read_json("weights.json", Weights)
        return None if found is None else found.weights

    @cached_property
    def categories(self) -> tuple[CategoryRow, ...]:
        """``per_category.csv``; empty if it is absent."""
        data = self._files.read("per_category.csv")
        if data is None:
            return ()
        try:
            rows = [
                {key: without_guard(value) for key, value in row.items() if key is not None and value}
                for row in csv.DictReader(io.StringIO(data.decode()))
            ]
            return tuple(msgspec.convert(rows, list[CategoryRow], strict=False))
        except (UnicodeDecodeError, csv.Error, msgspec.MsgspecError) as error:
            where = str(self.folder / "per_category.csv")
            raise UserError(where, f"is damaged: {error}", _HINT) from error

    @cached_property
    def matches(self) -> MatchTable | None:
        """The match table of the run's own protocol; it is a cache, so ``None`` if it is absent or damaged."""
        with suppress(UserError):
            return read_table(self.folder / MATCHES)
        return None

    @property
    def store(self) -> PredictionStore:
        """The run's predictions, one shard per video."""
        return PredictionStore(self.folder / PREDICTIONS)

    @cached_property
    def done(self) -> frozenset[int]:
        """Ids of the run's videos that have predictions."""
        return frozenset(self.store.done() & set(self.video_ids.run))

    @property
    def scored_videos(self) -> frozenset[int] | None:
        """Ids of the videos that the numbers cover, ``None`` for the whole split.

        Raises `UserError` if there are not predictions of as many.
        """
        scored, done = self.record["videos"]["done"], len(self.done)
        if scored != done:
            what = f"has predictions of {done} videos, but its numbers cover {scored}"
            raise UserError(str(self.folder), what, f"{_HINT}, which scores it again")
        whole = self.record["complete"] and self.record["limit"] is None
        return None if whole else self.done

    def checked(self, *names: str) -> FinishedRun:
        """Read the properties ``names``, by default all small files, and return this run.

        Raises `UserError` for a file that is absent, damaged, or of another format.
        """
        for name in names or ("record", "config", "environment", "times", "categories"):
            getattr(self, name)
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the content of ``config.json``."""
        return content_digest(self.config)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the run is not comparable with published numbers; empty if it is, or if that is unknown."""
        return comparability_of(self.record).reasons

    @cached_property
    def metrics(self) -> RunMetrics:
        """The official metrics by name, see `RunMetrics`; empty if there are none."""
        return RunMetrics(self.record)

    @cached_property
    def per_category(self) -> pd.DataFrame:
        """A row per category: id, name, groups, AP, AP50, AP75, AR100 (fractions), numbers of truths and tracks."""
        import pandas as pd

        rows = [msgspec.to_builtins(row) for row in self.categories]
        return pd.DataFrame(rows, columns=list(CategoryRow.__struct_fields__)).set_index("id")

    @cached_property
    def per_video(self) -> pd.DataFrame:
        """A row per video of the run: ``done``, ``error``, ``tracks`` (their number) and ``seconds``.

        If the run was scored, also the counts at an IoU of 0.5: ``truths``, ``hits`` and ``false_positives``.
        """
        import pandas as pd

        failed = {one.video_id: one.error for one in self.failures}
        rows = {
            video: {
                "done": video in self.done,
                "error": failed.get(video, ""),
                "tracks": len(self.store.read_table(video)) if video in self.done else 0,
                "seconds": self.times.videos.get(str(video)),
            }
            for video in self.video_ids.run
        }
        frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("video_id")
        return frame if self.matches is None else frame.join(_matched(self.matches))

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """A row per track: video_id, category_id, category, score, and ``masks``, one `Rle` or ``None`` per frame.

        ``Rle.decode()`` gives the pixels of a mask. All tracks are held in memory, with encoded masks.
        """
        import pandas as pd

        names = {row.id: row.name for row in self.categories}
        rows = [
            (t.video_id, t.category_id, names.get(t.category_id), t.score, t.masks)
            for video in sorted(self.done)
            for t in self.store.read_video(video)
        ]
        return pd.DataFrame(rows, columns=["video_id", "category_id", "category", "score", "masks"])

    @property
    def data(self) -> tuple[str, str, str | None]:
        """Dataset, split and digest of the annotations: two runs can be compared if these are equal."""
        return self.record["dataset"], self.record["split"], self.config.get("digest")

    def _checked(self, name: str, kind: type[msgspec.Struct], what: str) -> dict[str, Any]:
        """Return a JSON file that matches its schema, with the defaults of the schema."""
        data = self._files.read(name)
        if data is None:
            raise UserError(str(self.folder), f"is not a run folder: it has no {name}", _NAME_ONE)
        try:
            found = decode_json(data)
            known = msgspec.to_builtins(msgspec.convert(found, kind))
        except msgspec.MsgspecError as error:
            wrong = other_version(data, (FORMAT,)) or f"is not {what}: {error}"
            raise UserError(str(self.folder / name), wrong, _HINT) from error
        return {**known, **found} if kind is RunRecord else dict(found)


class RunMetrics(NamedValues[float | None]):
    """The official metrics of a run's own protocol: fractions, ``None`` if undefined.

    The metrics of any protocol that scored the run have the key ``PROTOCOL/METRIC``, as in ``metrics["hota/HOTA"]``;
    with a score threshold ``metrics["hota@0.5/HOTA"]`` is the same number. ``metrics["presence@0.5/IL_FPR"]`` is the
    false positive rate on phrases that are annotated as absent (docs/phrases.md).
    """

    def __init__(self, record: dict[str, Any]) -> None:
        others = by_protocol(record["protocols"]) | presence_metrics(record)
        super().__init__(record["metrics"] or {}, others, "metric", "this run")


def by_protocol(records: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the metrics of several protocols' records by ``PROTOCOL/METRIC``.

    With a score threshold they are also under ``PROTOCOL@THRESHOLD/METRIC``.
    """
    return {
        f"{protocol}/{key}": value
        for one in records
        for protocol in (one["protocol"]["name"], protocol_key(one["protocol"]))
        for key, value in one["metrics"].items()
    }


def _matched(table: MatchTable) -> pd.DataFrame:
    """Per video: the numbers of annotated objects, and of tracks with and without a match at an IoU of 0.5."""
    import numpy as np
    import pandas as pd

    m, videos = table.matches, len(table.video_ids)
    columns = {
        "truths": np.bincount(m.pair_video, m.pair_positives, videos),
        "hits": np.bincount(m.video, m.hits & 1, videos),
        "false_positives": np.bincount(m.video, m.misses & 1, videos),
    }
    return pd.DataFrame({name: values.astype(int) for name, values in columns.items()}, index=table.video_ids)


_NAME_ONE = "name a folder that harness run wrote"


def _find(run: Location) -> Location:
    if run.is_file() and run.suffix == ".json":
        return run
    hint = "name a run folder, or the metrics.json in it"
    if not run.is_dir():
        raise UserError(str(run), "is not a run folder" if run.exists() else "does not exist", hint)
    path = run / RECORD
    if path.exists():
        return path
    if (run / "config.json").exists():
        raise UserError(
            str(run), "has no metrics.json: the run was not finished", "repeat its `harness run` to finish it"
        )
    if isinstance(run, Path) and next(run.glob("*/metrics.json"), None) is not None:
        hint = f"name the run folders in it, for example {run / '*'}"
    raise UserError(str(run), "is not a run folder: it has no metrics.json", hint)
