"""Finds models and datasets by name through entry points, those of the harness and of third parties alike."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple, cast

import harness
from harness.errors import UserError, near
from harness.plugin_code import convert_plugin_errors
from harness.types import Dataset, DatasetPlugin, ModelPlugin

MODEL_ENTRY_POINTS = "harness.models"
DATASET_ENTRY_POINTS = "harness.datasets"
DATASET_FILES = "harness.dataset_files"
"""Entry points of what reads data by its files: ``read(file)`` one that describes a dataset,
``open_annotations(annotations, frames, protocol)`` a user's own annotations."""


def model(name: str) -> ModelPlugin:
    """Load the model plugin ``name``; raises `UserError` if there is none or it does not load."""
    return cast(
        ModelPlugin, _load(MODEL_ENTRY_POINTS, "model", name, ("name", "version", "summary"), ("Config", "load"))
    )


def dataset(name: str, data_root: Path | None = None) -> DatasetPlugin:
    """Load the dataset plugin ``name``, or the dataset that a YAML file describes.

    ``name`` may be the path of the file, or stand for ``name.yaml`` in the data root. Raises `UserError` if there is no
    such dataset or it does not load.
    """
    needs = ("open", "check", "splits")
    file = _description(name, data_root)
    if file is not None:
        return cast(DatasetPlugin, _reader().read(file))
    return cast(
        DatasetPlugin, _load(DATASET_ENTRY_POINTS, "dataset", name, ("name", "summary", "default_split"), needs)
    )


def opened(name: str, data_root: Path, split: str | None = None) -> Dataset:
    """Open a split of the dataset ``name``, by default its default split; raises `UserError` if that fails."""
    plugin, where = dataset(name, Path(data_root)), f"dataset {name}"
    with convert_plugin_errors(where, "cannot be opened"):
        found: object = plugin.open(Path(data_root), split or plugin.default_split)
    if not isinstance(found, Dataset):
        what = f"its open gives a {type(found).__name__}, not a harness.types.Dataset"
        raise UserError(where, what, "correct the plugin")
    return found


def own_data(annotations: Path, frames: Path | None, protocol: str) -> Dataset:
    """Open a user's own annotations; without ``frames`` the frames of its videos cannot be read."""
    return cast(Dataset, _reader().open_annotations(annotations, frames, protocol))


def _reader() -> Any:
    return _load(DATASET_FILES, "reader of dataset files", "yaml", (), ("read", "open_annotations"))


def _description(name: str, data_root: Path | None) -> Path | None:
    """The YAML file that describes a dataset, if one does."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    if data_root is None or Path(name).name != name or name in names(DATASET_ENTRY_POINTS):
        return None
    file = data_root / f"{name}.yaml"
    return file if file.is_file() else None


def names(group: str) -> dict[str, str]:
    """Names in an entry-point group, each with its distribution; nothing is imported."""
    return {p.name: p.dist.name if p.dist else "" for p in sorted(_points(group), key=lambda p: p.name)}


class PluginSource(NamedTuple):
    """The origin of a plugin's code; a plugin that is not an entry point has no distribution."""

    module: str
    distribution: str | None = None
    version: str | None = None


def source_of(plugin: ModelPlugin) -> PluginSource | None:
    """The origin of a model plugin's code; ``None`` for plugins of the harness."""
    for source in _sources(plugin):
        if source.module.partition(".")[0] != harness.__name__:
            return source
    return None


def _sources(plugin: ModelPlugin) -> Iterator[PluginSource]:
    for point in _points(MODEL_ENTRY_POINTS):
        if point.name == plugin.name and _is(point, plugin):
            yield PluginSource(point.module, *((point.dist.name, point.dist.version) if point.dist else ()))
    # a plugin that is given as an object; it may combine classes of the harness with its own configuration
    yield from (PluginSource(kind.__module__) for kind in (type(plugin), plugin.Config))


def _is(point: EntryPoint, plugin: ModelPlugin) -> bool:
    try:
        return point.load() is plugin
    except Exception:  # third-party code that cannot be imported is not this plugin
        return False


def _points(group: str) -> list[EntryPoint]:
    """Entry points of installed packages; in a checkout that is not installed, also those of its pyproject.toml."""
    found = list(entry_points(group=group))
    project = Path(harness.__file__).parents[1] / "pyproject.toml"
    if not project.is_file():
        return found
    table = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
    if table.get("name") != "ovvis-harness":
        return found
    declared = table.get("entry-points", {}).get(group, {})
    known = {point.name for point in found}
    return [*found, *(EntryPoint(name, value, group) for name, value in declared.items() if name not in known)]


def _load(group: str, kind: str, name: str, texts: tuple[str, ...], others: tuple[str, ...]) -> object:
    """Load a plugin and check its attributes: ``texts`` are strings, ``others`` of any type."""
    found: dict[str, EntryPoint] = {p.name: p for p in _points(group)}
    if name not in found:
        raise UserError(f'{kind} "{name}"', "is not installed", near(name, found))
    point = found[name]
    source = f"entry point {group}:{name} ({point.value})"
    with convert_plugin_errors(source, "does not load", "reinstall or repair its package"):
        plugin = point.load()
        missing = [attribute for attribute in (*texts, *others) if not hasattr(plugin, attribute)]
        wrong = [a for a in texts if a not in missing and not isinstance(getattr(plugin, a), str)]
    if missing:
        raise UserError(source, f"lacks {', '.join(missing)}", f"a {kind} plugin has {', '.join((*texts, *others))}")
    if wrong:
        raise UserError(source, f"its {wrong[0]} is not a string", "correct the plugin")
    return cast(object, plugin)
