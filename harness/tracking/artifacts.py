"""Logs files to the MLflow runs of finished run folders: a report, figures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from harness.errors import UnreadableFileError
from harness.input_files import NOTE_BYTES, decode_json, read_file
from harness.paths import Location
from harness.tracking.calls import call_with_deadline, cause_of, reach_database
from harness.tracking.credentials import redact, safe_uri
from harness.tracking.mlflow import LINK, Link

UPLOAD_SECONDS = 300.0
"""Wall-clock limit of logging the files of one run."""


def log_files(folders: Iterable[Location], files: Sequence[Path]) -> list[str]:
    """Log files as artifacts of the MLflow run of each run folder; return a line for each run for which that failed.

    A folder's ``mlflow.json`` names its MLflow run. If the store needs a password, ``MLFLOW_TRACKING_URI`` must have
    it: addresses are stored without credentials.
    """
    return [line for folder in folders if (line := _log(folder if folder.is_dir() else folder.parent, files))]


def _log(folder: Location, files: Sequence[Path]) -> str:
    path, names = folder / LINK, ", ".join(file.name for file in files)
    try:
        link = decode_json(read_file(path, NOTE_BYTES, is_text=True), Link)
    except FileNotFoundError:
        return f"{folder}: was not logged to MLflow, so {names} cannot be added to it"
    except (OSError, UnreadableFileError, msgspec.MsgspecError) as error:
        return f"{path}: cannot be read: {error}; not logged to MLflow: {names}"
    named = os.environ.get("MLFLOW_TRACKING_URI", "")
    uri = named if safe_uri(named) == link.tracking_uri else link.tracking_uri

    def log() -> None:
        from mlflow import MlflowClient

        reach_database(uri)
        client = MlflowClient(tracking_uri=uri)
        for file in files:
            client.log_artifact(link.run_id, str(file))

    try:
        call_with_deadline(log, UPLOAD_SECONDS)
    # As in `MlflowTracker`: MLflow, its transports and its database have their own types of exceptions.
    except Exception as error:
        return f"MLflow at {safe_uri(uri)} cannot be used: {redact(cause_of(error), uri)}; not logged: {names}"
    return ""
