"""The runs of an MLflow experiment as records for tables. The tracking store is untrusted input."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import UserError, near
from harness.run_folder.schemas import FORMAT, RunRecord
from harness.tracking.calls import call_with_deadline, cause_of, reach_database
from harness.tracking.credentials import redact, safe_uri
from harness.tracking.mlflow import embedded_uri

_RESULT = re.compile(r"A[PR]\w*")
_CORRECTED = "corrected."
_PAGE = 1000
SEARCH_SECONDS = 300.0
"""Wall-clock limit of reading an experiment, which may have many runs."""


def tracking_uri(runs_dir: Path) -> str:
    """The address of the tracking store: ``MLFLOW_TRACKING_URI``, else the embedded one of ``runs_dir``."""
    return os.environ.get("MLFLOW_TRACKING_URI") or embedded_uri(runs_dir)


def records_of(experiment: str, runs_dir: Path) -> list[dict[str, Any]]:
    """Return the scored runs of an experiment, oldest first, with the keys of `harness.run_folder.schemas.RunRecord`.

    An experiment has the name of the dataset, unless its runs set another one. The last logged numbers count; runs that
    were never scored, such as trainings, are left out. Raises `UserError` if the store does not answer or has no such
    experiment or no runs in it.
    """
    uri = tracking_uri(runs_dir)
    where = f"MLflow at {safe_uri(uri)}"
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise UserError(
            where, "does not exist", "name the folder of the runs with --runs-dir, or set MLFLOW_TRACKING_URI"
        )
    try:
        known, runs = call_with_deadline(lambda: _search(experiment, uri), SEARCH_SECONDS)
    # MLflow, its transports and its database have their own types of exceptions
    except Exception as error:
        raise UserError(
            where, f"cannot be read: {redact(cause_of(error), uri)}", "check MLFLOW_TRACKING_URI"
        ) from error
    if runs is None:
        raise UserError(where, f'has no experiment "{experiment}"', near(experiment, known))
    records = [_record(run) for run in runs if "protocol.name" in run.data.tags]
    for record in records:
        try:
            record |= {**msgspec.to_builtins(msgspec.convert(record, RunRecord)), **record}
        except msgspec.MsgspecError as error:
            raise UserError(
                f"{where}, run {record['folder']}", f"is not the record of a run: {error}", "delete it"
            ) from error
    if not records:
        raise UserError(where, f'the experiment "{experiment}" has no scored run', "log runs with harness run")
    return records


def _search(experiment: str, uri: str) -> tuple[list[str], list[Any] | None]:
    """Return the names of all experiments, and the runs of this one, ``None`` if it does not exist."""
    from mlflow import MlflowClient

    reach_database(uri)
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None or found.lifecycle_stage != "active":
        return [one.name for one in client.search_experiments(max_results=_PAGE)], None
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs(
            [found.experiment_id], order_by=["attributes.start_time ASC"], max_results=_PAGE, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return [], runs


def _record(run: Any) -> dict[str, Any]:
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    values = {key: value for key, value in metrics.items() if _RESULT.fullmatch(key)}
    corrected = {key.removeprefix(_CORRECTED): value for key, value in metrics.items() if key.startswith(_CORRECTED)}
    limit = tags.get("limit", "null")
    config = {key.removeprefix("config."): value for key, value in params.items() if key.startswith("config.")}
    return {
        "format": FORMAT,
        "model": tags.get("model", "unknown"),
        "dataset": tags.get("dataset", "unknown"),
        "split": tags.get("split", "unknown"),
        "folder": tags.get("run", run.info.run_name or run.info.run_id),
        "complete": tags.get("complete") == "true",
        "protocol": {"name": tags["protocol.name"], "version": tags.get("protocol.version", "unknown")},
        "metrics": values,
        "corrected": corrected,
        "protocols": [],
        "videos": {
            "total": int(metrics.get("videos.total", 0)), "done": int(metrics.get("videos.done", 0)), "failed": []
        },
        "limit": int(limit) if limit.isdecimal() else None,
        "config": config,
        "precision": params.get("precision"),
        "seed": int(seed) if (seed := params.get("seed", "")).isdecimal() else None,
        **_comparability(tags),
    }  # fmt: skip


def _comparability(tags: Mapping[str, str]) -> dict[str, Any]:
    """Whether a run is comparable; empty for runs of earlier versions, which did not log it."""
    if "comparable" not in tags:
        return {}
    value = {"true": True, "false": False}.get(tags["comparable"])
    return {"comparable": value, "not_comparable": [tags.get("not_comparable", "")] if value is False else []}
