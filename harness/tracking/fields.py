"""The parameters, tags and metrics of a run: flat, with keys that MLflow accepts."""

from __future__ import annotations

import base64
import getpass
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from harness import __version__
from harness.errors import UserError
from harness.run_folder.schemas import protocol_key

_NOT_TAGS = ("packages", "inputs", "harness")
"""Parts of ``environment.json`` that are not tags: nobody searches by them, or they are a tag already."""
KEY_METRICS = ("AP", "APb", "APn")
"""The metrics that the list of runs shows first; of a protocol without them its first three."""
RUN_LIST = "harness"
"""The key of the saved view of an experiment's runs, as addresses name it."""
_OWN_TAGS = ("run", "model", "dataset", "split", "limit", "complete", "comparable", "not_comparable", "harness.version")
"""Reserved tags, which the harness sets and reads, besides those of MLflow and of the protocol."""


def result_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the defined metrics of a ``metrics.json`` record: ``AP``, ``corrected.AP``, ``slices.…``, ``videos.…``.

    Those of other protocols than the run's own are ``hota@0.5/HOTA`` and so on.
    """
    values = dict(record.get("metrics") or {})
    values |= {f"corrected.{key}": value for key, value in (record.get("corrected") or {}).items()}
    for scored in record.get("protocols", ())[1:]:
        name = protocol_key(scored["protocol"])
        values |= {f"{name}/{key}": value for key, value in (scored.get("metrics") or {}).items()}
    values |= _leaves(record.get("slices") or {}, "slices")
    videos = record.get("videos") or {}
    values |= {f"videos.{key}": videos.get(key) for key in ("total", "done")}
    values["videos.failed"] = len(videos.get("failed", ()))
    return {key: float(value) for key, value in values.items() if value is not None}


def _leaves(tree: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Return the numbers in nested mappings under dotted keys."""
    found: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{prefix}.{key}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}.{key}"] = float(value)
    return found


def run_list_view(metrics: Sequence[str], now_ms: int) -> dict[str, str]:
    """Return the tag of an experiment that saves a view of its runs: ``metrics`` are the first columns, best run first.

    MLflow's own list has no column of a metric. Its pages (tried: 3.17) offer the view under *Views*, and open it at
    ``/#/experiments/ID/runs?viewStateShareKey=harness``.
    """
    columns = [f"metrics.`{legal(key)}`" for key in metrics]
    state = {
        "orderByKey": columns[0],
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": ["attributes.`Run Name`", *columns, "runDateAndNestInfo", "duration"],
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    view = {"name": ", ".join(metrics), "createdAt": now_ms, "state": f"deflate;{packed}"}
    return {f"mlflow.sharedViewState.{RUN_LIST}": json.dumps(view)}


def key_metrics(record: Mapping[str, Any]) -> list[str]:
    """The metrics of a record that the list of runs shows first."""
    found = list(record.get("metrics") or ())
    return [key for key in KEY_METRICS if key in found] or found[:3]


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested mappings as text under dotted keys; lists as JSON."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return found


def tags_of(record: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that runs are searched by: names, versions, hardware, git commit."""
    tags = {key: str(record[key]) for key in ("model", "dataset", "split") if key in record}
    tags |= {"harness.version": __version__, "mlflow.source.name": "harness run", "mlflow.source.type": "LOCAL"}
    known = {key: value for key, value in environment.items() if key not in _NOT_TAGS and value is not None}
    tags |= flat(known)
    commit = environment.get("git_commit")
    return tags | ({"mlflow.source.git.commit": str(commit)} if commit else {})


def user_name() -> str:
    """The user's name on this system; empty if there is none, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user, no such database
        return ""


def read_tags(texts: Sequence[str]) -> dict[str, str]:
    """Parse tags written as ``key=value``; raises `UserError` for other forms, and for reserved keys."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key, where = key.strip(), f"--tag {text}"
        if not equals or not key:
            raise UserError(where, "is not key=value", "for example --tag project=tracking")
        if legal(key) != key:
            raise UserError(where, "MLflow does not accept this key", f"write it as {legal(key)}")
        if key in _OWN_TAGS or key.startswith(("mlflow.", "protocol.")):
            raise UserError(where, f'"{key}" is a tag that every run has', "choose another key")
        if key in found:
            raise UserError(where, "names a key twice", "leave one out")
        found[key] = value
    return found


def result_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a scored run: protocol name and version, and whether it is complete and comparable.

    ``not_comparable`` has the reasons; it is empty if the run is comparable with published numbers.
    """
    protocol = record.get("protocol") or {}
    tags = {f"protocol.{key}": str(value) for key, value in protocol.items()}
    tags["limit"] = json.dumps(record.get("limit"))
    tags["complete"] = "true" if record.get("complete") else "false"
    if "comparable" in record:
        tags["comparable"] = {True: "true", False: "false", None: "unknown"}[record["comparable"]]
        tags["not_comparable"] = "; ".join(record["not_comparable"])
    return tags


def legal(key: str) -> str:
    """Return ``key`` with every character that MLflow rejects replaced, at most 250 characters long."""
    key = re.sub(r"[^\w./ -]", "_", key)
    # MLflow also uses a key as a path, which must be normalised.
    return "/".join(part for part in key.split("/") if part.strip(".")).strip("/")[:250] or "_"
