"""MLflow tracking: an embedded SQLite store by default, or the server of ``MLFLOW_TRACKING_URI``.

A run never depends on it. A background thread logs it, and the end of the run waits for the thread up to a deadline;
the first failure ends tracking with one warning. `log_finished` catches up later.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from harness.atomic_write import write_json
from harness.errors import UnreadableFileError, UserError
from harness.input_files import NOTE_BYTES, RECORD_BYTES, TABLE_BYTES, decode_json, read_file
from harness.paths import Location, location
from harness.tracking.calls import (
    CALL_SECONDS,
    ONE_AT_A_TIME,
    BackgroundThread,
    cause_of,
    no_answer,
    quiet_with_time_limits,
    reach_database,
)
from harness.tracking.credentials import redact, safe_uri
from harness.tracking.fields import (
    RUN_LIST,
    flat,
    key_metrics,
    legal,
    result_metrics,
    result_tags,
    run_list_view,
    tags_of,
    user_name,
)
from harness.tracking.system_metrics import Sample, SystemMetrics

ARTIFACTS = (
    "config.json",
    "environment.json",
    "experiment.yaml",
    "metrics.json",
    "per_category.csv",
    "per_pair.csv",
    "table.md",
    "timings.json",
    "failures.json",
)
"""Files of the run folder that are logged if they exist; all are text."""

LINK = "mlflow.json"
"""File of a run folder that holds a `Link`."""

_STORE = ".mlflow"
"""Folder of the embedded store inside the folder of the runs; hidden, so that ``runs/*`` does not match it."""

_CREATE_LOCK = "create.lock"
CREATE_SECONDS = 45.0
"""How long a run waits for another one that opens or creates the embedded store."""
_TABLE = "per_category.json"
_DESCRIPTION = "table.md"
_MOST_WAITING = 10_000
"""Steps of a training that may wait for a slow store; samples of the machine's use wait for nothing."""
FINISH_SECONDS, STOPPED_SECONDS = 60.0, 10.0
"""How long the end of a run waits for what is still to be logged; and that of one that is interrupted or has failed."""
_BATCH, _PARAM_LENGTH, _TAG_LENGTH, _DIGEST_LENGTH = 100, 6000, 5000, 36


class Link(msgspec.Struct, frozen=True):
    """``mlflow.json`` in a run folder: the MLflow run that it is logged to, so that a resumed run continues there."""

    tracking_uri: str
    experiment_id: str
    run_id: str


class _Logged(NamedTuple):
    """The MLflow run being written; ``started_ms`` is its start in milliseconds since the epoch."""

    client: Any
    run_id: str
    experiment_id: str
    started_ms: int
    is_resumed: bool


def embedded_uri(runs_dir: Path) -> str:
    """Address of the store that is used without ``MLFLOW_TRACKING_URI``."""
    return f"sqlite:///{runs_dir.resolve() / _STORE / 'mlflow.db'}"


class MlflowTracker:
    """Logs one run after another: `start`, `log_result`, `finish`.

    ``uri`` defaults to ``MLFLOW_TRACKING_URI``, then to ``.mlflow/mlflow.db`` in ``runs_dir`` with ``artifacts`` next
    to it; ``experiment`` to ``MLFLOW_EXPERIMENT_NAME``, then to the name of each run's dataset. ``tags`` are for every
    run. A background thread does the work, and only `finish` waits for it. Nothing here raises for a store that
    cannot be reached: `finish` returns what could not be logged. A server has 5 seconds to answer and one more try;
    ``MLFLOW_HTTP_REQUEST_TIMEOUT`` and ``MLFLOW_HTTP_REQUEST_MAX_RETRIES`` set other limits. ``later`` is how to log a
    run later on, by default with ``harness log``.
    """

    def __init__(
        self,
        runs_dir: Path,
        uri: str | None = None,
        experiment: str | None = None,
        tags: Mapping[str, str] | None = None,
        later: str = "",
    ) -> None:
        self._later, self._thread = later, BackgroundThread("mlflow")
        self._run_list = ""
        self._embedded = embedded_uri(runs_dir)
        self._store = runs_dir.resolve() / _STORE
        self._uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or self._embedded
        self._experiment_name = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        self._tags = dict(tags or {})
        self._is_lost = False
        self._runs = self._runs_logged = 0
        self._warnings: list[str] = []
        self._logged: _Logged | None = None
        self._system_metrics: SystemMetrics | None = None
        self._status, self._folder = "KILLED", ""

    @property
    def uri(self) -> str:
        """The tracking address without credentials."""
        return safe_uri(self._uri)

    @property
    def missing(self) -> int:
        """Number of runs so far that were not logged."""
        return self._runs - self._runs_logged

    @property
    def outcome(self) -> str:
        """Text on whether and where the runs so far were logged, for the last line of a command."""
        missing, where = self.missing, self._run_list or self.uri
        if not missing:
            return where
        if not self._runs_logged:
            return f"not logged ({self.uri} cannot be used)"
        return f"{where}, {missing} of {self._runs} runs not logged"

    def start(self, record: Mapping[str, Any]) -> None:
        """Create the MLflow run of ``record["folder"]``, or resume the one that earlier sessions were logged to.

        ``record`` has ``model``, ``dataset``, ``split`` and ``folder``; the folder holds ``config.json`` and
        ``environment.json``, which become parameters, dataset input and tags.
        """
        self._status = "KILLED"  # until there is a result
        self._folder = str(record["folder"])
        self._do(lambda: self._start(record, with_samples=True))

    def log_finished(
        self, run_folder: Location, record: Mapping[str, Any], per_category: Sequence[Mapping[str, Any]], seconds: float
    ) -> list[str]:
        """Log a run that has ended, within ``seconds``; return the warnings as `finish` does."""
        self._folder = str(run_folder)
        self._do(lambda: self._start({**record, "folder": self._folder}, with_samples=False))
        self.log_result(run_folder, record, per_category)
        return self.finish(seconds)

    def log_result(
        self, run_folder: Location, record: Mapping[str, Any], per_category: Sequence[Mapping[str, Any]]
    ) -> None:
        """Log the metrics of ``record`` (what ``metrics.json`` holds) in one batch, and the files of the run folder.

        Undefined metrics (``None``) are left out; corrected ones are ``corrected.AP`` and so on. ``per_category`` has
        one mapping per category, all with the same keys.
        """
        self._status = "FINISHED" if record.get("complete") else "FAILED"
        self._do(lambda: self._log_result(run_folder, record, per_category))

    def log_step(self, values: Mapping[str, float], step: int) -> None:
        """Log the metrics of a training step, in one batch."""
        if self._thread.waiting < _MOST_WAITING:
            self._do(lambda: self._log_step(values, step))

    def finish(self, seconds: float | None = None) -> list[str]:
        """End the MLflow run; return the warnings since the last call, one line each, at most one per cause.

        Waits ``seconds`` at most, by default `FINISH_SECONDS` after a result and else `STOPPED_SECONDS`.
        """
        limit = seconds or (STOPPED_SECONDS if self._status == "KILLED" else FINISH_SECONDS)
        if not self._is_lost:
            self._thread.do(self._end)
            if not self._thread.wait(limit, max(limit, CALL_SECONDS)):
                self._give_up(TimeoutError(no_answer(limit)))
        if self._system_metrics is not None:
            self._system_metrics.abandon()
        self._runs += 1
        self._runs_logged += not self._is_lost
        self._system_metrics = self._logged = None
        warnings, self._warnings = self._warnings, []
        return warnings

    def _do(self, action: Callable[[], None]) -> None:
        if not self._is_lost:
            self._thread.do(lambda: self._attempt(action))

    def _attempt(self, action: Callable[[], None]) -> None:
        with ONE_AT_A_TIME:
            if self._is_lost:
                return
            try:
                with quiet_with_time_limits():
                    action()
            # MLflow, its transports and its database have their own types of exceptions, and none may stop a run:
            # `finish` reports the failure once, and a store that has failed is not used again.
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Use the store no more, and say so, once."""
        if self._is_lost:  # what was still under way has failed after its deadline
            return
        self._is_lost = True
        cause = redact(cause_of(error), self._uri)
        later = self._later or f"run `harness log {self._folder}` to log it"
        advice = f"the run folder has everything: {later} once MLflow answers"
        self._warnings.append(f"MLflow at {self.uri} cannot be used: {cause}; {advice}")

    def _start(self, record: Mapping[str, Any], with_samples: bool) -> None:
        from mlflow import MlflowClient

        folder = location(record["folder"])
        with self._created():
            reach_database(self._uri)
            client = MlflowClient(tracking_uri=self._uri)
            client.search_experiments(max_results=1)  # the first request creates the tables of a database
        logged = self._logged = self._resume(client, folder) or self._create(client, folder, record)
        config, environment = _read_json(folder / "config.json"), _read_json(folder / "environment.json")
        self._log_params(logged, flat(config))
        self._log_tags(logged, {"run": folder.name, **tags_of(record, environment), **self._tags})
        client.log_inputs(logged.run_id, datasets=[_dataset_input(record, config)])
        if with_samples:
            self._system_metrics = SystemMetrics(self._log_system_metrics)
            self._system_metrics.start()

    def _end(self) -> None:
        if self._system_metrics is not None:
            self._system_metrics.stop()
        self._attempt(self._finish)

    @contextmanager
    def _created(self) -> Iterator[None]:
        """Let one process at a time open the embedded store: several that create its tables spoil each other's.

        Raises `TimeoutError` if that takes another process `CREATE_SECONDS`.
        """
        if self._uri != self._embedded:
            yield
            return
        self._store.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._store / _CREATE_LOCK, flags, 0o644)
        end = time.monotonic() + CREATE_SECONDS
        try:
            while not _is_locked(descriptor):
                if time.monotonic() > end:
                    raise TimeoutError(f"another run has been opening it for {CREATE_SECONDS:.0f} s")
                time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)

    def _resume(self, client: Any, folder: Location) -> _Logged | None:
        from mlflow.exceptions import MlflowException

        link = self._read_link(folder)
        if link is None or link.tracking_uri != self.uri:
            return None
        try:
            run = client.get_run(link.run_id)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None  # the store was emptied or replaced meanwhile
            raise
        if run.info.lifecycle_stage != "active":
            return None
        if self._experiment_name and run.info.experiment_id != self._experiment(client, self._experiment_name):
            return None  # the user has named another experiment
        client.update_run(link.run_id, status="RUNNING")
        return _Logged(client, link.run_id, run.info.experiment_id, run.info.start_time, is_resumed=True)

    def _read_link(self, folder: Location) -> Link | None:
        path = folder / LINK
        if not path.exists():
            return None
        try:
            return decode_json(read_file(path, NOTE_BYTES, is_text=True), Link)
        except (UnreadableFileError, msgspec.MsgspecError):
            self._warnings.append(f"{path}: is not a record of an MLflow run; a new MLflow run was started")
            return None

    def _create(self, client: Any, folder: Location, record: Mapping[str, Any]) -> _Logged:
        experiment_id = self._experiment(client, self._experiment_name or str(record["dataset"]))
        name = f"{record['model']}-{folder.name.rpartition('-')[2]}"
        user = user_name()
        run = client.create_run(experiment_id, run_name=name, tags={"mlflow.user": user} if user else None)
        link = Link(self.uri, experiment_id, run.info.run_id)
        if self._is_lost:  # meanwhile: the folder may be another's by now
            raise TimeoutError(no_answer(FINISH_SECONDS))
        write_json(folder / LINK, msgspec.to_builtins(link))
        return _Logged(client, run.info.run_id, experiment_id, run.info.start_time, is_resumed=False)

    def _experiment(self, client: Any, name: str) -> str:
        from mlflow.exceptions import MlflowException

        location = (self._store / "artifacts").as_uri() if self._uri == self._embedded else None
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)  # another run has just created it
        if found.lifecycle_stage != "active":
            raise MlflowException(f'experiment "{name}" is deleted; restore it with `mlflow experiments restore`')
        return str(found.experiment_id)

    def _log_params(self, logged: _Logged, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        # A logged parameter cannot be changed, and a resumed run has already logged its own.
        known = logged.client.get_run(logged.run_id).data.params if logged.is_resumed else {}
        legal_params = {legal(key): redact(value, self._uri)[:_PARAM_LENGTH] for key, value in params.items()}
        entities = [Param(key, value) for key, value in legal_params.items() if key not in known]
        for batch in _batches(entities):
            logged.client.log_batch(logged.run_id, params=batch)

    def _log_tags(self, logged: _Logged, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entities = [RunTag(legal(key), redact(value, self._uri)[:_TAG_LENGTH]) for key, value in tags.items()]
        for batch in _batches(entities):
            logged.client.log_batch(logged.run_id, tags=batch)

    def _log_system_metrics(self, take_sample: Callable[[], Sample]) -> None:
        """Log a sample, unless earlier work waits; called from the sampling thread.

        The step is seconds since the start of the MLflow run.
        """

        def log() -> None:
            if self._logged is not None:
                step = (time.time_ns() // 1_000_000 - self._logged.started_ms) // 1000
                self._logged.client.log_batch(self._logged.run_id, metrics=_metrics(take_sample(), step))

        if not self._thread.waiting:
            self._do(log)

    def _log_result(
        self, run_folder: Location, record: Mapping[str, Any], per_category: Sequence[Mapping[str, Any]]
    ) -> None:
        if self._logged is None:
            return
        client, run_id = self._logged.client, self._logged.run_id
        client.log_batch(run_id, metrics=_metrics(result_metrics(record), step=0))
        self._save_view(self._logged, key_metrics(record))
        self._log_tags(self._logged, result_tags(record) | _description(run_folder))
        for name in ARTIFACTS:
            if (run_folder / name).is_file():
                client.log_text(run_id, read_file(run_folder / name, TABLE_BYTES).decode(), name)
        if per_category:
            # The format of MLflow's `log_table`, which itself would append to the table of a run that is logged again.
            columns = list(per_category[0])
            rows = [[row.get(column) for column in columns] for row in per_category]
            client.log_dict(run_id, {"columns": columns, "data": rows}, _TABLE)
            client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([{"path": _TABLE, "type": "table"}]))

    def _save_view(self, logged: _Logged, metrics: Sequence[str]) -> None:
        """Save the view of the experiment's runs, unless one of this name is there."""
        experiment = logged.client.get_experiment(logged.experiment_id)
        for key, value in run_list_view(metrics, time.time_ns() // 1_000_000).items() if metrics else ():
            if key not in experiment.tags:
                logged.client.set_experiment_tag(logged.experiment_id, key, value)
            if self.uri.startswith("http"):
                page = f"#/experiments/{logged.experiment_id}/runs?viewStateShareKey={RUN_LIST}"
                self._run_list = f"{self.uri.rstrip('/')}/{page}"

    def _log_step(self, values: Mapping[str, float], step: int) -> None:
        if self._logged is not None:
            self._logged.client.log_batch(self._logged.run_id, metrics=_metrics(values, step))

    def _finish(self) -> None:
        if self._logged is not None:
            self._logged.client.set_terminated(self._logged.run_id, status=self._status)


def _is_locked(descriptor: int) -> bool:
    """Lock a file if no other process has; on a file system without locks there is none to wait for."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _batches(entities: list[Any]) -> list[list[Any]]:
    """Split into batches of 100, MLflow's limit of parameters or tags in one request."""
    return [entities[first : first + _BATCH] for first in range(0, len(entities), _BATCH)]


def _metrics(values: Mapping[str, float], step: int) -> list[Any]:
    from mlflow.entities import Metric

    now_ms = time.time_ns() // 1_000_000
    return [Metric(legal(key), value, now_ms, step) for key, value in values.items()]


def _dataset_input(record: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    digest = str(config.get("digest", ""))
    source = {"tags": {"dataset": record["dataset"], "split": record.get("split"), "annotations_sha256": digest}}
    dataset = Dataset(
        name=f"{record['dataset']}-{record.get('split', '')}",
        digest=digest[:_DIGEST_LENGTH] or "unknown",
        source_type="code",  # MLflow's type for data without a single address
        source=json.dumps(source),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", "evaluation")])


def _description(run_folder: Location) -> dict[str, str]:
    """The run's table as the description that MLflow shows at the top of the run's page, in Markdown."""
    path = run_folder / _DESCRIPTION
    return {"mlflow.note.content": read_file(path, TABLE_BYTES).decode()} if path.is_file() else {}


def _read_json(path: Location) -> dict[str, Any]:
    return decode_json(read_file(path, RECORD_BYTES, is_text=True), dict[str, Any]) if path.exists() else {}


def tracker_in(folder: Path, hint: str, **options: Any) -> MlflowTracker:
    """A tracker with its embedded store in ``folder``; raises `UserError`, with ``hint``, where that cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(str(folder), f"cannot be created: {error.strerror}", hint) from error
    return MlflowTracker(folder, **options)
