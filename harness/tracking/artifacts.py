"""Files put into the MLflow runs of run folders afterwards: a report made when the runs are long over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from harness.tracking.calls import ONE_AT_A_TIME, brief_and_quiet, cause_of, reach_database
from harness.tracking.credentials import redact, safe_uri
from harness.tracking.mlflow import LINK, Link


def log_file(folders: Iterable[Path], file: Path) -> list[str]:
    """Log ``file`` as an artifact of the MLflow run of each run folder; return a line for each where that failed.

    A folder's ``mlflow.json`` says which run is its own. Where the store needs a password, ``MLFLOW_TRACKING_URI`` has
    to name it: addresses are kept without.
    """
    return [line for folder in folders if (line := _log(folder if folder.is_dir() else folder.parent, file))]


def _log(folder: Path, file: Path) -> str:
    path = folder / LINK
    try:
        link = msgspec.json.decode(path.read_bytes(), type=Link)
    except FileNotFoundError:
        return f"{folder}: was not logged to MLflow, so {file.name} is not either"
    except (OSError, msgspec.MsgspecError) as error:
        return f"{path}: cannot be read: {error}; {file.name} is not logged to MLflow"
    named = os.environ.get("MLFLOW_TRACKING_URI", "")
    uri = named if safe_uri(named) == link.tracking_uri else link.tracking_uri
    with ONE_AT_A_TIME:
        try:
            with brief_and_quiet():
                from mlflow import MlflowClient

                reach_database(uri)
                MlflowClient(tracking_uri=uri).log_artifact(link.run_id, str(file))
        # As in `MlflowTracker`: MLflow, its transports and its database raise types of their own.
        except Exception as error:
            return f"MLflow at {safe_uri(uri)} could not be used: {redact(cause_of(error), uri)}; {file} is there"
    return ""
