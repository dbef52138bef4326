"""Finding models and datasets by name through entry points: the same door for our own and for third parties."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import cast

from harness.errors import UserError, near
from harness.types import DatasetPlugin, ModelPlugin

MODELS = "harness.models"
DATASETS = "harness.datasets"


def model(name: str) -> ModelPlugin:
    """Load the model plugin ``name``; raises `UserError` if there is none or it does not load."""
    return cast(ModelPlugin, _load(MODELS, "model", name, ("Config", "load", "version")))


def dataset(name: str) -> DatasetPlugin:
    """Load the dataset plugin ``name``; raises `UserError` if there is none or it does not load."""
    return cast(DatasetPlugin, _load(DATASETS, "dataset", name, ("open", "check", "splits", "default_split")))


def names(group: str) -> dict[str, str]:
    """Names in an entry-point group, each with the distribution that brings it, without importing any."""
    return {p.name: p.dist.name if p.dist else "" for p in sorted(entry_points(group=group), key=lambda p: p.name)}


def _load(group: str, kind: str, name: str, needs: tuple[str, ...]) -> object:
    found: dict[str, EntryPoint] = {p.name: p for p in entry_points(group=group)}
    if name not in found:
        raise UserError(f'{kind} "{name}"', "is not installed", near(name, found))
    point = found[name]
    source = f"entry point {group}:{name} ({point.value})"
    try:
        plugin = point.load()
    except Exception as error:
        raise UserError(source, f"does not load: {error}", "reinstall or repair the package that brings it") from error
    missing = [attribute for attribute in needs if not hasattr(plugin, attribute)]
    if missing:
        raise UserError(source, f"lacks {', '.join(missing)}", f"a {kind} plugin has {', '.join(needs)}")
    return cast(object, plugin)
