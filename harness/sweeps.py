"""Variations of a configuration: the Cartesian product of sweeps, and one change at a time for ablations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import yaml

from harness.errors import UserError


def variations(sweeps: Sequence[str], ablations: Sequence[str]) -> list[list[str]]:
    """Return the settings (``key=value``, see `harness.config.read_config`) of every run, in order.

    Both arguments are ``key=value,value,...``. Sweeps are combined with each other. For every combination there is a
    run without ablations, then one for each ablated value alone. Raises `UserError` for text of another form.
    """
    combined = product(*(_settings(text, "--sweep") for text in sweeps))
    changes: list[list[str]] = [[], *([setting] for text in ablations for setting in _settings(text, "--ablate"))]
    return [[*chosen, *change] for chosen in combined for change in changes]


def _settings(text: str, option: str) -> list[str]:
    """Split ``a=1,2`` into ``a=1`` and ``a=2``; values are split like a YAML list and keep their spelling."""
    key, equals, values = text.partition("=")
    where, hint = f"{option} {text}", f"for example {option} topk=1,3,5"
    if not equals or not key.strip():
        raise UserError(where, "is not key=value,value,...", hint)
    listed = f"[{values}\n]"
    try:
        node = yaml.compose(listed, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(where, f"values are not YAML: {' '.join(str(error).split())}", "quote them") from error
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise UserError(where, "names no values", hint)
    return [f"{key.strip()}={listed[part.start_mark.index : part.end_mark.index]}" for part in node.value]
