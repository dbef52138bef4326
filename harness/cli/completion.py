"""Tab completion of models, datasets, protocols and run folders; nothing of it is loaded unless a shell asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints

from typer.models import ParameterInfo

from harness.plain_text import plain

ASKED = "_HARNESS_COMPLETE"
"""The variable that a shell sets when it asks for completions."""
_RUN_FILES = ("config.json", "metrics.json")


def completed(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command whose parameters complete by their names, where a shell asks for that."""
    if ASKED not in os.environ:
        return command
    hints = get_type_hints(command, include_extras=True)
    for name, hint in hints.items():
        for info in getattr(hint, "__metadata__", ()):
            if isinstance(info, ParameterInfo) and name in _BY_NAME:
                info.autocompletion = _BY_NAME[name]
    command.__annotations__ = hints  # as text they would be read again
    return command


def models(incomplete: str) -> list[str]:
    """Names of installed models, after a comma too."""
    from harness import plugins

    return _after_comma(incomplete, plugins.names(plugins.MODEL_ENTRY_POINTS))


def datasets(incomplete: str) -> list[str]:
    """Names of known datasets, after a comma too."""
    from harness import plugins

    return _after_comma(incomplete, plugins.names(plugins.DATASET_ENTRY_POINTS))


def protocols(incomplete: str) -> list[str]:
    """Names of protocols, after a comma too."""
    from harness.scoring import BURST_TASKS, EVERY, FIXED_AP
    from harness.scoring.dispatch import PROTOCOL_NAMES

    return _after_comma(incomplete, (*PROTOCOL_NAMES, FIXED_AP, *BURST_TASKS, EVERY))


def runs(incomplete: str) -> list[str]:
    """Run folders, and the folders on the way to them, which end in a slash; what is in the only one of these."""
    found = _folders(incomplete)
    while len(found) == 1 and found[0].endswith("/"):
        inner = _folders(found[0])
        if not inner:
            break
        found = inner
    return found


def _folders(incomplete: str) -> list[str]:
    folder, _, start = incomplete.rpartition("/")
    place = Path(folder or ("/" if incomplete.startswith("/") else "."))
    before = incomplete[: len(incomplete) - len(start)]
    found = []
    with suppress(OSError):
        for entry in sorted(place.iterdir()):
            name = entry.name
            hidden = name.startswith(".") and not start
            if not name.startswith(start) or hidden or plain(name) != name or not entry.is_dir():
                continue
            is_run = any((entry / file).is_file() for file in _RUN_FILES)
            found.append(f"{before}{name}" + ("" if is_run else "/"))
    return found


def _after_comma(incomplete: str, names: Iterable[str]) -> list[str]:
    """Completions of the last of several names; those that are there already are left out."""
    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    return [f"{before}{comma}{name}" for name in sorted(names) if name.startswith(last) and name not in given]


_BY_NAME: dict[str, Callable[[str], list[str]]] = {
    "model": models,
    "dataset": datasets,
    "validate": datasets,
    "protocol": protocols,
    "run": runs,
    "runs": runs,
}
