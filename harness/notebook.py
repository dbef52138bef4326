"""The results of `harness.api`: objects with short reprs that a notebook shows as tables and pictures."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness import plugins
from harness.errors import NamedValues, UserError, near
from harness.formats.youtube_vis import annotations_from_document, read_annotations
from harness.masks import Rle
from harness.plugin_code import convert_plugin_errors
from harness.run_folder.finished_run import FinishedRun, by_protocol
from harness.run_folder.store import PredictionStore, tabulate, tracks_of
from harness.types import Category, Dataset, LoadContext, Model, ModelPlugin, Track, Video, Vocabulary

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as Picture
    from pydantic import BaseModel

    from harness.formats.youtube_vis import Annotations
    from harness.scoring.dispatch import Result

Words = Vocabulary | Sequence[str] | Sequence[Category] | str
"""A vocabulary, or a value that `vocabulary_of` converts to one."""


def vocabulary_of(words: Words) -> Vocabulary:
    """Return a vocabulary from a vocabulary, categories, a list of names, or one string with commas.

    Names get the ids 1, 2, ... in order. Raises `UserError` for an empty list and for repeated names.
    """
    if isinstance(words, Vocabulary):
        return words
    if not isinstance(words, Iterable):
        raise UserError("words", f"is of type {type(words).__name__}", "give a list of names")
    given = words.split(",") if isinstance(words, str) else list(words)
    if given and all(isinstance(one, Category) for one in given):
        return Vocabulary(tuple(cast("Sequence[Category]", given)))
    names = [" ".join(str(one).split()) for one in given if str(one).strip()]
    if not names:
        raise UserError("words", "names nothing", 'for example "cat, skateboard"')
    repeated = next((n for i, n in enumerate(names) if n.lower() in (m.lower() for m in names[:i])), None)
    if repeated is not None:
        raise UserError("words", f'"{repeated}" is given twice', "name each category once")
    return Vocabulary(tuple(Category(i, name) for i, name in enumerate(names, 1)))


def dataset_of_words(video: Video | None, categories: tuple[Category, ...]) -> Dataset:
    """Return a dataset of a single video (or none), without truth."""
    shown = () if video is None else (video,)
    listed = [{"id": v.id, "height": v.height, "width": v.width, "length": len(v.frames)} for v in shown]
    named = [{"id": c.id, "name": c.name} for c in categories]
    name = "no video" if video is None else video.name
    read = annotations_from_document({"videos": listed, "categories": named, "annotations": None}, name)
    return Dataset("own", "words", categories, shown, "ytvis", read)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model that is ready to predict, with its settings ``config`` and the ``context`` that it was loaded in."""

    plugin: ModelPlugin
    config: BaseModel
    context: LoadContext
    network: Model

    def __repr__(self) -> str:
        where = f"on {self.context.device}, {self.context.precision}"
        return f"LoadedModel({self.plugin.name} {where}, checkpoint {self.context.checkpoint})"

    def predict(self, video: Video, vocabulary: Words) -> list[Track]:
        """Find the tracks of a video for a vocabulary (or a list of names), in the model's order.

        Raises `UserError` if the model returns anything but tracks of this video and vocabulary.
        """
        words = vocabulary_of(vocabulary)
        if not isinstance(video, Video):
            hint = "give a video of a dataset; harness.predict takes files"
            raise UserError("video", f"is of type {type(video).__name__}", hint)
        with convert_plugin_errors(f"model {self.plugin.name}", "its predict fails"):
            return list(tracks_of(tabulate(video, list(self.network.predict(video, words)), words)))


class VideoPrediction(Sequence[Track]):
    """The tracks of one video, in the model's order: a sequence of `Track`.

    ``video`` and ``vocabulary`` are the model's input, ``rate`` is in frames per second.
    """

    def __init__(self, video: Video, vocabulary: Vocabulary, tracks: Sequence[Track], rate: float) -> None:
        self.video, self.vocabulary, self.tracks, self.rate = video, vocabulary, tuple(tracks), rate

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, index: Any) -> Any:
        return self.tracks[index]

    def __repr__(self) -> str:
        return f"VideoPrediction({len(self)} tracks in {self.video.name!r}, {len(self.vocabulary.categories)} names)"

    @property
    def names(self) -> dict[int, str]:
        """Names of the categories by id."""
        return {category.id: category.name for category in self.vocabulary.categories}

    @property
    def frame(self) -> pd.DataFrame:
        """A row per track: category, score, number of frames with a mask, and masks."""
        import pandas as pd

        rows = [(self.names[t.category_id], t.score, sum(m is not None for m in t.masks), t.masks) for t in self]
        return pd.DataFrame(rows, columns=["category", "score", "frames", "masks"])

    def _repr_html_(self) -> str:
        return str(self.frame.drop(columns="masks").to_html())

    def show(self, frame: int = 0, threshold: float = 0.0) -> Picture:
        """One frame with the tracks that have a score of at least ``threshold``."""
        from PIL import Image as Pillow

        from harness.reports.overlay import draw_tracks

        tracks = [track for track in self if track.score >= threshold]
        return Pillow.fromarray(draw_tracks(self.video.frames[frame], tracks, frame, self.names))

    def write(self, out: str | Path, threshold: float = 0.2, as_frames: bool = False) -> dict[str, str]:
        """Write ``results.json`` and the overlay (an MP4, or JPEGs) into the folder ``out``; return their paths."""
        from harness.reports.prediction_files import write_prediction

        return write_prediction(Path(out), self.video, self.names, self.tracks, threshold, self.rate, as_frames)


class OpenedRun(FinishedRun):
    """A finished run for notebooks: a `FinishedRun` with pictures of its videos."""

    dataset: Dataset | None = None

    def _repr_html_(self) -> str:
        return Table([self.record])._repr_html_()

    def show(self, video: int, frame: int | None = None, root: str | Path = "data", threshold: float = 0.0) -> Picture:
        """A frame of a video (default: the middle one): alone, with the truth, and with the run's tracks.

        ``root`` is the folder of the datasets; it is not needed if the run was made or opened with its dataset.
        """
        from PIL import Image as Pillow

        from harness.reports.overlay import side_by_side
        from harness.reports.run_data import dataset_of_run

        known = self.dataset or dataset_of_run(self, Path(root))
        found = next((one for one in known.videos if one.id == video), None)
        if found is None:
            raise UserError(f"video {video}", f"is not in {known.name} {known.split}", "give the id of a video in it")
        tracks = [track for track in self.store.read_video(video) if track.score >= threshold]
        return Pillow.fromarray(side_by_side(known, found, tracks, frame))


_HEADLINES = ("AP", "APb", "APn", "cgF1", "pHOTA", "HOTA", "TETA")


class Evaluation:
    """The scores of predictions: ``metrics`` and ``corrected`` by name, fractions, ``None`` if undefined.

    They are those of the first protocol; of several protocols ``metrics["PROTOCOL/METRIC"]`` has the others, and
    ``refused`` the reasons of those without numbers. ``undefined`` has reasons by metric, ``warnings`` the oddities of
    the input; ``scores`` are the whole results by protocol, and ``score`` is the first. Raises the first `UserError` if
    there is no result.
    """

    def __init__(self, results: Mapping[str, Result | UserError]) -> None:
        self.scores = {name: one for name, one in results.items() if not isinstance(one, UserError)}
        faults = {name: one for name, one in results.items() if isinstance(one, UserError)}
        if not self.scores:
            raise next(iter(faults.values()))
        self.refused = {name: str(fault) for name, fault in faults.items()}
        self.score = next(iter(self.scores.values()))
        self._records = {name: one.record() for name, one in self.scores.items()}
        record = self.record()
        others = by_protocol(self._records.values())
        self.metrics: NamedValues[float | None] = NamedValues(record["metrics"], others, "metric", "these scores")
        self.corrected: dict[str, float | None] = record["corrected"]
        self.undefined: dict[str, dict[str, str]] = record["undefined"]
        self.warnings: list[dict[str, Any]] = [one for each in self._records.values() for one in each["warnings"]]

    def __getitem__(self, name: str) -> float | None:
        return self.metrics[name]

    def __repr__(self) -> str:
        parts = [f"{name}: {_headline(record['metrics'])}" for name, record in self._records.items()]
        parts += [f"{name}: refused" for name in self.refused]
        if self.warnings:
            parts.append(f"{len(self.warnings)} warning{'s' if len(self.warnings) > 1 else ''}")
        return f"Evaluation({'; '.join(parts)})"

    def _repr_html_(self) -> str:
        return str(self.frame.to_html(float_format=lambda v: f"{100 * v:.2f}", na_rep="–"))

    @property
    def frame(self) -> pd.DataFrame:
        """A row per metric: the official and the corrected value; of further protocols as ``PROTOCOL/METRIC``."""
        import pandas as pd

        official, corrected = dict(self.metrics), dict(self.corrected)
        for name, record in list(self._records.items())[1:]:
            official |= {f"{name}/{key}": value for key, value in record["metrics"].items()}
            corrected |= {f"{name}/{key}": value for key, value in record["corrected"].items()}
        return pd.DataFrame({"official": official, "corrected": corrected}, dtype=float)

    @property
    def per_category(self) -> pd.DataFrame:
        """A row per category, by the first protocol (of phrases: per video and phrase): name, groups, number of
        tracks and metrics. Raises `UserError` for BURST's tasks, which have none."""
        import pandas as pd

        found = getattr(self.score, "per_category", None)
        if found is None:
            name = next(iter(self._records))
            raise UserError("per_category", f"is not available for {name}", "put an AP protocol first")
        rows = pd.DataFrame(found)
        return rows.set_index("id") if "id" in rows else rows.set_index(["video_id", "category_id"])

    def record(self, protocol: str | None = None) -> dict[str, Any]:
        """The scores of a protocol, by default the first, as data for JSON: as ``harness eval --json`` prints them."""
        if protocol is not None and protocol not in self._records:
            raise UserError(f'protocol "{protocol}"', "has no scores here", near(protocol, self._records))
        return self._records[protocol or next(iter(self._records))]


def _headline(metrics: Mapping[str, float | None]) -> str:
    return ", ".join(f"{k} {100 * v:.1f}" for k in _HEADLINES if (v := metrics.get(k)) is not None) or "undefined"


class Table:
    """A table of runs: Markdown as ``str``, HTML in a notebook."""

    def __init__(self, records: Sequence[Mapping[str, Any]], **options: Any) -> None:
        from harness.reports.tables import comparison_table

        known = inspect.signature(comparison_table).parameters
        for name in options:
            if name not in known:
                raise UserError(f"option {name}", "is unknown", near(name, list(known)[2:]))
        if isinstance(options.get("columns"), str):
            options["columns"] = [part.strip() for part in options["columns"].split(",") if part.strip()]
        self._records, self._options = list(records), options
        self.to("csv")  # faulty options are an error here, not when a notebook shows the table

    def to(self, format: str) -> str:
        """The table as ``terminal``, ``markdown``, ``latex``, ``csv`` or ``html``."""
        from harness.reports.layouts import TABLE_FORMATS
        from harness.reports.tables import comparison_table

        if format not in TABLE_FORMATS:
            raise UserError("format", f'"{format}" is unknown', near(str(format), TABLE_FORMATS))
        return comparison_table(self._records, cast(Any, format), **self._options)

    def to_latex(self) -> str:
        """The table in LaTeX; its first lines name the packages that it needs."""
        return self.to("latex")

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return self.to("markdown")

    def to_csv(self) -> str:
        """The table as CSV, percent in full precision."""
        return self.to("csv")

    def __str__(self) -> str:
        return self.to("markdown")

    def __repr__(self) -> str:
        return self.to("terminal")

    def _repr_html_(self) -> str:
        return self.to("html")


class Metric:
    """Scores predictions incrementally, for training loops: ``update`` with tracks, ``compute``, ``reset``.

    Tracks are stored on disk, a file per video, in a temporary folder that is deleted with the object. Videos without
    an update count as videos without tracks, unless ``seen_only`` is set. ``protocol`` is as for `evaluate`.
    """

    _remove: weakref.finalize[Any, Any] | None = None
    """Removes the temporary folder; called when the object is no longer used, or when Python ends."""

    def __init__(self, protocol: str | Sequence[str], dataset: Dataset | str, seen_only: bool = False) -> None:
        dataset = dataset_of(dataset)
        self._truth, self.protocols = truth_of(dataset, protocol)
        self.dataset, self.seen_only = dataset, seen_only
        self._videos = {video.id: video for video in dataset.videos}
        self.reset()

    def __repr__(self) -> str:
        where = f"{self.dataset.name} {self.dataset.split}"
        return f"Metric({', '.join(self.protocols)} on {where}, videos seen: {len(self._seen)})"

    def reset(self) -> None:
        """Remove all tracks."""
        if self._remove is not None:
            self._remove()
        folder = tempfile.mkdtemp(prefix="harness-metric-")
        self._remove = weakref.finalize(self, _remove_folder, folder, os.getpid())
        self._store, self._seen = PredictionStore(Path(folder)), set[int]()

    def update(self, tracks: Iterable[Track], video: Video | int | None = None) -> None:
        """Add the tracks of one or more videos; a video's earlier tracks are replaced.

        Name a video without tracks by ``video``. Raises `UserError` for invalid tracks.
        """
        by_video: dict[int, list[Track]] = {}
        if video is not None:
            by_video[_video_id(video)] = []
        for track in _iterable(tracks):
            if not isinstance(track, Track):
                raise UserError("tracks", f"hold a {type(track).__name__}", "give a list of harness.types.Track")
            by_video.setdefault(track.video_id, []).append(track)
        for video_id, found in by_video.items():
            if video_id not in self._videos:
                raise UserError(
                    f"video {video_id}", f"is not in {self.dataset.name} {self.dataset.split}", "name one that is"
                )
            self._store.write_video(self._videos[video_id], found)
            self._seen.add(video_id)

    def compute(self) -> Evaluation:
        """Score the tracks so far."""
        from harness.scoring.shard_reader import ShardReader

        videos = self._seen if self.seen_only else None
        return score_by(self.protocols, self._truth, lambda: ShardReader(self._store), videos=videos)


def _remove_folder(folder: str, process: int) -> None:
    """Remove a folder in the process that made it, not in one that was forked from it, as data loaders are."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _video_id(video: Any) -> int:
    if isinstance(video, (Video, int)):
        return video if isinstance(video, int) else video.id
    raise UserError("video", f"is of type {type(video).__name__}", "give a video of the dataset, or its id")


def _iterable(given: Any) -> Iterable[Any]:
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        what = f"are a {type(given).__name__}"
        raise UserError("predictions", what, "give a file, a run, tracks, a list of records, or a DataFrame")
    return given


def dataset_of(dataset: Any) -> Dataset:
    """The dataset, or the one of a name; raises `UserError` for anything else."""
    if isinstance(dataset, str):
        return plugins.opened(dataset, Path("data"))
    if not isinstance(dataset, Dataset):
        raise UserError(
            "dataset", f"is of type {type(dataset).__name__}", "give a name, or what harness.load_dataset opened"
        )
    return dataset


def score_by(
    protocols: Sequence[str],
    truth: Annotations,
    source: Callable[[], Any],
    strict: bool = False,
    videos: Iterable[int] | None = None,
) -> Evaluation:
    """Score what ``source`` gives by protocols; raises the `UserError` of the first one if all refuse."""
    from harness.scoring.dispatch import score_all

    return Evaluation(score_all(protocols, truth, source, strict, videos))


def truth_of(
    dataset: Dataset | str | Path, protocol: str | Sequence[str] | None
) -> tuple[Annotations, tuple[str, ...]]:
    """The truth of a dataset, a name or an annotation file, and the protocols that ``protocol`` names.

    A text without a folder and without a suffix is a name unless there is such a file.
    """
    from harness.scoring.dispatch import protocols_for

    if isinstance(dataset, (str, Path)) and not _is_name(dataset):
        if protocol is None:
            raise UserError("protocol", "is needed with an annotation file", "name one of lvvis, ytvis, ovis, burst")
        read = read_annotations(Path(dataset))
        return read, protocols_for(protocol, None, read)
    dataset = dataset_of(dataset)
    if dataset.truth is None:
        hint = f"submit the predictions to {dataset.server}" if dataset.server else "score on a split that has it"
        raise UserError(f"{dataset.name} {dataset.split}", "has no public truth", hint)
    own = dataset.protocol
    return dataset.annotations, protocols_for(own if protocol is None else protocol, own, dataset.annotations)


def _is_name(dataset: str | Path) -> bool:
    return (
        isinstance(dataset, str)
        and Path(dataset).name == dataset
        and not Path(dataset).suffix
        and not Path(dataset).exists()
    )


@contextmanager
def results_file(predictions: Any) -> Iterator[Path]:
    """Write predictions in memory to a temporary results file."""
    rows = predictions.to_dict("records") if hasattr(predictions, "to_dict") else _iterable(predictions)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions"
        with path.open("w", encoding="utf-8") as file:
            for number, row in enumerate(rows):
                file.write("[\n" if not number else ",\n")
                json.dump(_record(row), file, default=_plain)
            file.write("\n]" if file.tell() else "[]")
        try:
            yield path
        except UserError as error:  # the user knows of no file
            error.where = error.where.replace(str(path), "predictions")
            error.hint = error.hint.replace("correct the file", "correct the record")
            raise


def _record(row: Any) -> Any:
    if isinstance(row, Track):
        track = {"video_id": row.video_id, "category_id": row.category_id, "score": row.score}
        return {**track, "segmentations": _segmentations(row.masks)}
    if isinstance(row, Mapping):
        found = dict(row)
        masks = found.pop("masks", None) if "segmentations" not in found else None  # a row of `OpenedRun.predictions`
        return found if masks is None else {**found, "segmentations": _segmentations(masks)}
    raise UserError(
        "predictions", f"hold a {type(row).__name__}", "give tracks, or dicts with the keys of a results file"
    )


def _segmentations(masks: Iterable[Rle | None]) -> list[Any]:
    return [m and {"size": list(m.size), "counts": m.counts.decode("ascii")} for m in masks]


def _plain(value: Any) -> Any:
    """Convert values that JSON does not have: counts as bytes, and numbers and arrays of numpy."""
    if isinstance(value, bytes):
        return value.decode("ascii")
    for name in ("tolist", "item"):
        if hasattr(value, name):
            return getattr(value, name)()
    raise UserError("predictions", f"hold a {type(value).__name__}", "give the keys of a results file")
