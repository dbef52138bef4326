"""Records of results that others can verify: numbers, what they were computed from as digests, and the environment.

A record is a small JSON file. ``sha256`` is the digest of its other content, so that a changed record is noticed; it is
no signature, as anybody can compute it. docs/verifying.md describes the file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import yaml
from msgspec import Struct

from harness import __version__, plugins
from harness.atomic_write import write_json
from harness.errors import UnreadableFileError, UserError
from harness.formats.burst import BURST_BLOCK_BYTES, SequenceReader
from harness.formats.containers import open_json
from harness.formats.results import read_blocks
from harness.formats.segmentations import mask_of
from harness.input_files import RECORD_BYTES, decode_json, read_file
from harness.paths import Location, local_copy
from harness.plugin_code import convert_plugin_errors
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.layout import PREDICTIONS, content_digest
from harness.run_folder.provenance import environment
from harness.run_folder.schemas import BenchRecord, Fraction, ProtocolRecord, protocol_key
from harness.run_folder.store import PredictionStore
from harness.scoring import BURST_TASKS, HOTA
from harness.scoring.burst_tasks import annotation_files, score_tasks
from harness.scoring.dispatch import PROTOCOL_NAMES, Settings, score_all
from harness.scoring.from_results import read_batch
from harness.scoring.overlap import GroundTruthArrays
from harness.scoring.shard_reader import ShardReader
from harness.versions import other_version
from harness.warnings import Warnings

if TYPE_CHECKING:
    from harness.formats.youtube_vis import Annotations

RECORD_FORMAT: Literal[1] = 1
"""Version of the file; it changes with the fields or their meaning."""
RECORD_TOLERANCE = 1e-12
"""Numbers that differ by no more are equal."""
_PACKAGES = (
    "torch", "torchvision", "numpy", "numba", "scipy", "pyarrow", "pycocotools", "pillow", "av", "open_clip_torch",
    "timm", "transformers", "safetensors", "msgspec",
)  # fmt: skip
"""Packages whose versions a record has: those that decide on numbers."""
_HINT = "use a record that `harness record` or `harness eval --record` wrote"
_PATH = re.compile(r"(?:^|[\s=:'\",\[(])(?:/|~|\.\.[/\\]|[A-Za-z]:[/\\]|\\\\)")
"""An absolute path of a machine."""


class RecordedModel(Struct, frozen=True):
    """The model of a run: what its predictions depend on, see `RunContent`, and its model card."""

    name: str
    version: str | None = None
    checkpoint: str | None = None
    config: dict[str, Any] = {}
    precision: str | None = None
    seed: int | None = None
    vocabulary: str | None = None
    plugin: dict[str, str | None] | None = None
    depends_on: dict[str, Any] = {}
    variables: dict[str, str] = {}
    card: dict[str, Any] = {}


class RecordedData(Struct, frozen=True):
    """The data: ``digest`` is that of the annotations, ``scored`` the ids of the videos if not all were scored."""

    digest: str
    videos: int
    name: str | None = None
    split: str | None = None
    scored: list[int] | None = None


class RecordedTracks(Struct, frozen=True):
    """The predictions: their digest, see `digest_of_tracks`, and the numbers of tracks and of videos with tracks."""

    digest: str
    tracks: int
    videos: int


class RecordedScores(Struct, frozen=True):
    """The numbers of one protocol: fractions, ``None`` if undefined. ``warnings`` counts those of each kind."""

    protocol: ProtocolRecord
    metrics: dict[str, Fraction | None]
    corrected: dict[str, Fraction | None] = {}
    warnings: dict[str, int] = {}


class SignedRecord(Struct, frozen=True):
    """A record. ``model`` and ``complete`` are ``None`` for predictions that were not made by a run.

    ``cost`` is the run's ``bench.json``, if time and memory were measured.
    """

    format: Literal[1]
    sha256: str
    harness: str
    dataset: RecordedData
    predictions: RecordedTracks
    protocols: list[RecordedScores]
    environment: dict[str, Any]
    model: RecordedModel | None = None
    complete: bool | None = None
    comparable: bool | None = None
    not_comparable: list[str] = []
    cost: BenchRecord | None = None


def record_of_run(run: FinishedRun, private: bool = False) -> dict[str, Any]:
    """The content of the record of a finished run, for `write_record`.

    Paths, user names and the list of all packages are in it only if ``private``. Raises `UserError` for a run without
    numbers, and for predictions that are missing or damaged.
    """
    record, content = run.record, run.content
    scored = [
        one
        for one in record["protocols"]
        if any(value is not None for side in ("metrics", "corrected") for value in one[side].values())
    ]
    if not scored:
        raise UserError(str(run.folder), "has no numbers to record", "score it on a split whose truth is public")
    model = {
        "name": content.model,
        "version": content.model_version,
        **{key: getattr(content, key) for key in ("checkpoint", "config", "precision", "seed", "vocabulary")},
        **{key: getattr(content, key) for key in ("plugin", "depends_on", "variables")},
    }
    videos = run.scored_videos
    data = {
        "name": content.dataset,
        "split": content.split,
        "digest": content.digest,
        "videos": len(run.video_ids.split),
        "scored": None if videos is None else sorted(videos),
    }
    made_with = msgspec.to_builtins(run.environment)
    whole = {
        "model": (model if private else _public(model)) | {"card": _card(content.model)},
        "dataset": data if private else _public(data),
        "predictions": digest_of_store(run.store, videos),
        "protocols": [recorded_scores(one) for one in scored],
        "environment": made_with if private else public_environment(made_with),
        "complete": record["complete"],
        "comparable": record.get("comparable"),
        "not_comparable": [without_paths(reason) for reason in record["not_comparable"]],
    }
    if run.bench is not None:
        cost = msgspec.to_builtins(run.bench)
        whole["cost"] = cost if private else _public(cost)
    return whole


def record_of_scores(
    scores: Iterable[Mapping[str, Any]],
    truth: Annotations,
    predictions: Path | PredictionStore,
    dataset: str | None = None,
    split: str | None = None,
) -> dict[str, Any]:
    """The content of a record of predictions that no run made, for `write_record`; ``scores`` by protocol.

    The environment is that of this process. ``dataset`` and ``split`` are names, where the data has some. Raises
    `UserError` for predictions that cannot be read.
    """
    data = {"name": dataset, "split": split, "digest": truth.digest, "videos": len(truth.videos), "scored": None}
    return {
        "model": None,
        "dataset": data,
        "predictions": digest_of_predictions(predictions, truth),
        "protocols": [recorded_scores(one) for one in scores],
        "environment": public_environment(environment()),
        "complete": None,
    }


def record_of_burst(
    scores: Iterable[Mapping[str, Any]],
    annotations: Path,
    predictions: Path,
    dataset: str | None = None,
    split: str | None = None,
) -> dict[str, Any]:
    """The same for BURST's own tasks: ``annotations`` is the folder of its files, ``predictions`` are in its form."""
    protocols = [recorded_scores(one) for one in scores]
    names = [one["protocol"]["name"] for one in protocols]
    return {
        "model": None,
        "dataset": {"name": dataset, "split": split, "scored": None, **_burst_truth(names, annotations)},
        "predictions": digest_of_burst(predictions),
        "protocols": protocols,
        "environment": public_environment(environment()),
        "complete": None,
    }


def _burst_truth(tasks: Iterable[str], folder: Path) -> dict[str, Any]:
    """The digest of the annotation files that the tasks read, one after the other, and the number of sequences."""
    digest = hashlib.sha256()
    files = annotation_files(tasks, folder)
    for path in files:
        with open_json(path) as file:
            while data := file.read(BURST_BLOCK_BYTES):
                digest.update(data)
    return {"digest": digest.hexdigest(), "videos": sum(1 for _ in SequenceReader(files[0]))}


def digest_of_burst(path: Path) -> dict[str, Any]:
    """The predictions of a file in BURST's own form, whatever its spaces; raises `UserError` for a faulty one.

    The digest of a sequence is SHA-256 of it as JSON without spaces, with all fields of
    `harness.formats.burst.Sequence` in their order; that of all is SHA-256 of those in the order of the file.
    """
    digest, tracks, videos = hashlib.sha256(), 0, 0
    for sequence in SequenceReader(path, "any"):
        digest.update(hashlib.sha256(msgspec.json.encode(sequence)).digest())
        found = {track for frame in sequence.segmentations for track in frame}
        tracks += len(found)
        videos += bool(found)
    return {"digest": digest.hexdigest(), "tracks": tracks, "videos": videos}


def write_record(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write a record of this content and return it; raises `UserError` if the file cannot be written."""
    record = signed(content)
    if path.exists() and not path.is_file():
        raise UserError(str(path), "is not a file", "name another file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(str(path.parent), f"is no folder ({error.strerror})", "name another file") from error
    write_json(path, record)
    return record


def signed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A record of this content: checked, with the format, the version of the harness, and the digest of it all."""
    whole = {"format": RECORD_FORMAT, "harness": __version__, **content}
    msgspec.convert({**whole, "sha256": ""}, SignedRecord)
    whole = decode_json(msgspec.json.encode(whole))
    return {"format": whole.pop("format"), "sha256": content_digest({"format": RECORD_FORMAT, **whole}), **whole}


def recorded_scores(score: Mapping[str, Any]) -> dict[str, Any]:
    """What a record keeps of the scores by one protocol: what is verified, and no texts on files."""
    kept = {key: score[key] for key in ("protocol", "metrics", "corrected")}
    return {**kept, "warnings": {one["kind"]: one["count"] for one in score["warnings"]}}


def _card(model: str) -> dict[str, Any]:
    """The model card; empty for a model that is not installed or has none."""
    try:
        plugin = plugins.model(model)
        with convert_plugin_errors(f"model {model}", "its card fails"):
            found: dict[str, Any] = dict(getattr(plugin, "card", None) or {})
    except UserError:
        return {}
    return found


def public_environment(whole: Mapping[str, Any]) -> dict[str, Any]:
    """An environment (``environment.json``) without paths and without packages that do not decide on numbers."""
    left_out = ("data", "working_directory_commit", "packages")
    packages = {str(name).lower(): version for name, version in (whole.get("packages") or {}).items()}
    kept = {name: packages[name] for name in _PACKAGES if name in packages}
    found = {key: value for key, value in whole.items() if key not in left_out}
    return {**_public(found), "packages": kept}


def _public(value: Any) -> Any:
    """The value without paths and user names: of a path the last part stays, other texts with one are left out."""
    if isinstance(value, Mapping):
        return {without_paths(str(key)): _public(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_public(inner) for inner in value]
    return without_paths(value) if isinstance(value, str) else value


def without_paths(text: str) -> str:
    """A text that names no place on this machine: of a path the last part stays, a sentence with one is left out."""
    home = str(Path.home())
    if not _PATH.search(text) and not (len(home) > 1 and home in text) and not _names_user(text):
        return text
    last = re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    plain = not re.search(r"\s", text) and not _names_user(last)
    return last if plain else "(left out: names a path)"


def _names_user(text: str) -> bool:
    try:
        user = getuser()
    except (OSError, KeyError, ImportError):
        return False
    return user != "root" and re.search(rf"\b{re.escape(user)}\b", text) is not None


@contextmanager
def opened_predictions(place: Location) -> Iterator[Path | PredictionStore]:
    """Yield a results file, or the store of a run folder or of predictions; raises `UserError` if there is neither."""
    if place.is_dir():
        inner = place / PREDICTIONS
        store = PredictionStore(inner if inner.is_dir() else place)
        if not store.done() and not inner.is_dir():
            raise UserError(str(place), "holds no predictions", "name a results file or a run folder")
        yield store
        return
    if not place.exists():
        raise UserError(str(place), "does not exist", "name a results file or a run folder")
    with local_copy(place) as file:
        yield file


def digest_of_predictions(
    predictions: Path | PredictionStore, annotations: Annotations, videos: Iterable[int] | None = None
) -> dict[str, Any]:
    """The predictions of a results file, or those of a store for ``videos``; see `digest_of_tracks`."""
    if isinstance(predictions, Path):
        return digest_of_results(predictions, annotations)
    return digest_of_store(predictions, videos)


def digest_of_store(store: PredictionStore, videos: Iterable[int] | None = None) -> dict[str, Any]:
    """The predictions of a store, of some videos or all; see `digest_of_tracks`."""

    def tracks() -> Iterator[tuple[int, bytes]]:
        for video in sorted(store.done() & set(videos) if videos is not None else store.done()):
            for row in store.read_table(video).to_pylist():
                size = b"%dx%d:" % (row["height"], row["width"])
                masks = (None if counts is None else size + counts for counts in row["masks"])
                yield video, _track_digest(video, row["category_id"], row["score"], masks)

    return digest_of_tracks(tracks())


def digest_of_results(path: Path, annotations: Annotations) -> dict[str, Any]:
    """The predictions of a results file; see `digest_of_tracks`.

    Tracks of categories that ``annotations`` do not list do not count, as in scoring. Raises `UserError` for faulty
    records and unknown videos.
    """
    split = GroundTruthArrays(replace(annotations, truth=None, lists_truth=False))
    split.owned[:] = True  # masks are read of every category, as if all had truth

    def tracks() -> Iterator[tuple[int, bytes]]:
        for block in read_blocks(path):
            batch = read_batch(block, split, str(path), Warnings(False))
            columns = split.video_ids[batch.video], split.category_ids[batch.category], batch.score
            table = batch.masks
            for track, (video, category, score) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
                rows = table.frame_mask[table.track[track] : table.track[track + 1]].tolist()
                masks = (None if row < 0 else _text_of(mask_of(table, row)) for row in rows)
                yield video, _track_digest(video, category, score, masks)

    return digest_of_tracks(tracks())


def _text_of(mask: Any) -> bytes:
    (height, width), counts = mask
    return b"%dx%d:" % (height, width) + bytes(counts)


def _track_digest(video: int, category: int, score: float, masks: Iterable[bytes | None]) -> bytes:
    found = hashlib.sha256(f"{video} {category} {score!r}".encode())
    for mask in masks:
        found.update(b" -" if mask is None else b" " + mask)
    return found.digest()


def digest_of_tracks(tracks: Iterable[tuple[int, bytes]]) -> dict[str, Any]:
    """One digest of predictions, whatever file they are in: by ascending video id, and in the order of the video.

    The digest of a track is SHA-256 of its ids, its score in shortest decimal form, and per frame size and compressed
    counts of the mask or ``-``, separated by spaces. The digest of all is SHA-256 of those, one after the other.
    """
    found = sorted(tracks, key=lambda one: one[0])
    digest = hashlib.sha256(b"".join(one for _, one in found)).hexdigest()
    return {"digest": digest, "tracks": len(found), "videos": len({video for video, _ in found})}


class HubEntry(NamedTuple):
    """How a record is named on the Hugging Face Hub: the benchmark's id, its tasks by metric, and where it is from."""

    dataset: str
    tasks: Mapping[str, str] = {}
    source: str | None = None


def eval_results(record: Mapping[str, Any], hub: HubEntry) -> str:
    """A record as Hugging Face's ``.eval_results`` YAML: an entry, in percent, per task of a benchmark.

    Without ``tasks`` the first metric of each protocol is one, named ``protocol/metric``. Raises `UserError` for a
    metric that the record does not have.
    """
    keys = {protocol_key(one["protocol"]): one for one in record["protocols"]}
    known = {f"{key}/{name}": (one, value) for key, one in keys.items() for name, value in one["metrics"].items()}
    firsts = [f"{key}/{next(iter(one['metrics']))}" for key, one in keys.items()]
    entries = []
    for metric, task in (hub.tasks or {name: name for name in firsts if known[name][1] is not None}).items():
        if metric not in known or known[metric][1] is None:
            raise UserError(f"--task {metric}", "is no number of this record", f"name one of {', '.join(firsts)}, ...")
        score, value = known[metric]
        version = score["protocol"]["version"]
        notes = f"percent; ovvis-harness {record['harness']}, protocol {score['protocol']['name']} version {version}"
        entry: dict[str, Any] = {"dataset": {"id": hub.dataset, "task_id": task}, "value": 100 * value}
        if record["environment"].get("time"):
            entry["date"] = record["environment"]["time"][:10]
        if hub.source is not None:
            entry["source"] = {"url": hub.source, "name": "Record for harness verify"}
        partly = "; not comparable: " + "; ".join(record["not_comparable"]) if record["not_comparable"] else ""
        entries.append({**entry, "notes": f"{notes}; record sha256 {record['sha256']}{partly}"})
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=1000)


def read_record(path: Path) -> tuple[SignedRecord, str]:
    """Read a record; the second value is the digest of its content, which its ``sha256`` should be.

    Raises `UserError` for what is no record.
    """
    try:
        data = read_file(path, RECORD_BYTES, is_text=True)
        raw = decode_json(data)
        record = msgspec.convert(raw, SignedRecord)
    except OSError as error:
        raise UnreadableFileError(str(path), error.strerror or "cannot be read", "check the path") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(
            str(path), other_version(data, (RECORD_FORMAT,)) or f"is not a record: {error}", _HINT
        ) from error
    if not record.protocols:
        raise UserError(str(path), "has no numbers", _HINT)
    for one in record.protocols:
        if one.protocol.name not in (*PROTOCOL_NAMES, *BURST_TASKS):
            what = f'has numbers by protocol "{one.protocol.name}", which is unknown here'
            raise UserError(str(path), what, "install the version of the harness that wrote it")
    return record, content_digest({key: value for key, value in raw.items() if key != "sha256"})


class Deviation(NamedTuple):
    """What is not as recorded: a digest, a version, or a number with the difference (obtained less recorded)."""

    what: str
    recorded: Any
    obtained: Any
    difference: float | None = None


class Verification(NamedTuple):
    """The outcome: what else differs (digests, versions) and which numbers do, of ``compared`` numbers."""

    inputs: tuple[Deviation, ...]
    metrics: tuple[Deviation, ...]
    compared: int

    @property
    def equal(self) -> bool:
        """Whether all is as recorded."""
        return not self.inputs and not self.metrics

    def record(self) -> dict[str, Any]:
        """As data for JSON."""
        parts = {"inputs": self.inputs, "metrics": self.metrics}
        lists = {key: [one._asdict() for one in found] for key, found in parts.items()}
        return {"equal": self.equal, "compared": self.compared, **lists}


def verify_record(
    record: SignedRecord, own_digest: str, predictions: Path | PredictionStore, truth: Annotations
) -> Verification:
    """Score predictions as a record says and compare everything with it.

    Raises `UserError` for predictions that cannot be read, and for protocols that this version does not have.
    """
    data = record.dataset
    inputs = _other_inputs(record, own_digest, truth.digest, digest_of_predictions(predictions, truth, data.scored))
    stated = [one.protocol for one in record.protocols]
    settings = Settings(  # one of each at most, as given to a command; the threshold of TETA is no setting
        next((p.score_threshold for p in stated if p.name == HOTA), None),
        next((p.tracks_per_category for p in stated if p.tracks_per_category is not None), None),
    )

    def source() -> ShardReader | Path:
        return predictions if isinstance(predictions, Path) else ShardReader(predictions, data.scored)

    outcomes = score_all([one.name for one in stated], truth, source, videos=data.scored, settings=settings)
    return _compared(record, inputs, outcomes)


def verify_burst_record(record: SignedRecord, own_digest: str, predictions: Path, annotations: Path) -> Verification:
    """The same for a record of predictions in BURST's own form, with the folder of its annotation files.

    Raises `UserError` also for a record of tracks, which has other protocols, too.
    """
    names = [one.protocol.name for one in record.protocols]
    if others := [name for name in names if name not in BURST_TASKS]:
        what = f"is in BURST's own form; the record is of tracks, scored by {others[0]}, too"
        raise UserError(str(predictions), what, "name the run folder, or its results in YouTube-VIS form")
    truth = _burst_truth(names, annotations)
    inputs = _other_inputs(record, own_digest, truth["digest"], digest_of_burst(predictions))
    return _compared(record, inputs, score_tasks(names, annotations, predictions))


def _other_inputs(
    record: SignedRecord, own_digest: str, annotations: str, predictions: Mapping[str, Any]
) -> list[Deviation]:
    return [
        Deviation("record", record.sha256, own_digest),
        Deviation("annotations", record.dataset.digest, annotations),
        Deviation("predictions", record.predictions.digest, predictions["digest"]),
        Deviation("number of tracks", record.predictions.tracks, predictions["tracks"]),
    ]


def _compared(record: SignedRecord, inputs: list[Deviation], outcomes: Mapping[str, Any]) -> Verification:
    """The numbers of a record and those obtained now, by protocol; raises the `UserError` of one that refuses."""
    metrics: list[Deviation] = []
    compared = 0
    for one in record.protocols:
        name = one.protocol.name
        outcome = outcomes[name]
        if isinstance(outcome, UserError):
            raise outcome
        again = outcome.record()
        inputs.append(Deviation(f"version of {name}", str(one.protocol.version), str(again["protocol"]["version"])))
        for tool, recorded in (("metrics", one.metrics), ("corrected", one.corrected)):
            compared += len(recorded)
            suffix = "" if tool == "metrics" else " corr."
            metrics += _deviations(name, suffix, recorded, again[tool])
    return Verification(tuple(d for d in inputs if d.recorded != d.obtained), tuple(metrics), compared)


def _deviations(
    protocol: str, suffix: str, recorded: Mapping[str, float | None], obtained: Mapping[str, float | None]
) -> Iterator[Deviation]:
    for name in dict.fromkeys([*recorded, *obtained]):
        before, after = recorded.get(name), obtained.get(name)
        difference = None if before is None or after is None else after - before
        if before != after and not (difference is not None and abs(difference) <= RECORD_TOLERANCE):
            yield Deviation(f"{protocol}/{name}{suffix}", before, after, difference)
