"""Settings in which runs differ: the row labels of an ablation table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.tracking.fields import flat

RUN_SETTINGS = ("weights", "precision", "seed")
"""Settings of a run besides its model's configuration and its data."""
_DIGESTS = ("results_sha256",)
"""Settings that identify a file, and tell a reader nothing."""


def varying_settings(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the settings in which runs of one model differ, as text, for each record (`harness.run_folder.records`).

    Nested keys have dots. Every record with such a setting has it, in the order of the configuration; records of other
    models do not have the key. Records of earlier versions have no settings and are not compared.
    """
    known = [flat({**record.get("config", {}), **_run_settings(record)}) for record in records]
    chosen: dict[str, None] = {}
    for model in dict.fromkeys(record["model"] for record in records):
        own = [found for record, found in zip(records, known, strict=True) if record["model"] == model and found]
        keys = dict.fromkeys(key for settings in own for key in settings if key not in _DIGESTS)
        chosen |= dict.fromkeys(key for key in keys if len({settings.get(key) for settings in own}) > 1)
    return [{key: settings[key] for key in chosen if key in settings} for settings in known]


def called(record: Mapping[str, Any]) -> str:
    """The user's name for the run's model, else the model's name with backbone and training data, if known."""
    return str(record.get("name") or ", ".join(filter(None, (record["model"], *variant_of(record)))))


def variant_of(record: Mapping[str, Any]) -> tuple[str, str]:
    """Backbone and training data of a run's weights, empty where they are not known."""
    return record.get("backbone") or "", record.get("trained_on") or ""


def _run_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in RUN_SETTINGS if record.get(key) is not None}
