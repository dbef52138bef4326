"""Settings in which runs differ: what the rows of a table of ablations are known by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.tracking.fields import flat

RUN_SETTINGS = ("precision", "seed")
"""What a run is given besides its model's configuration and its data."""


def varying_settings(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """For each record (see `harness.run_folder.records`) those settings in which runs of one model differ, as text.

    Nested keys have dots. Every record with such a setting shows it, in the order of the configuration; records
    without it, of other models, lack the key. Records of earlier versions tell nothing and are compared with nothing.
    """
    known = [flat({**record.get("config", {}), **_run_settings(record)}) for record in records]
    chosen: dict[str, None] = {}
    for model in dict.fromkeys(record["model"] for record in records):
        own = [found for record, found in zip(records, known, strict=True) if record["model"] == model and found]
        keys = dict.fromkeys(key for settings in own for key in settings)
        chosen |= dict.fromkeys(key for key in keys if len({settings.get(key) for settings in own}) > 1)
    return [{key: settings[key] for key in chosen if key in settings} for settings in known]


def _run_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in RUN_SETTINGS if record.get(key) is not None}
