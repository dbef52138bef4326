"""Reads a model's configuration into a typed model: defaults, then a YAML file, then ``--set key=value``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, PlainSerializer, ValidationError

from harness.errors import UserError, near
from harness.input_files import UNBOUNDED, open_file
from harness.plugin_code import convert_plugin_errors

Config = TypeVar("Config", bound=BaseModel)


def _file_name(value: Any) -> Any:
    return Path(value).name if isinstance(value, str | Path) and Path(value).exists() else value


BY_NAME = PlainSerializer(_file_name, return_type=Any, when_used="json")
"""For keys that may name a file: only the file's name, not its folder, becomes part of a run's identity."""

_LONGEST_FILE, _MOST_VALUES, _LONGEST_NUMBER = 1 << 20, 100_000, 400
_SHOWN = 80
_LISTS = ("tuple_type", "list_type", "set_type", "frozen_set_type")
"""pydantic's error types for a value that should be a list."""


def read_config(
    kind: type[Config],
    file: Path | None = None,
    settings: Iterable[str] = (),
    model: str = "",
    others: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    explained: str = "`harness models show MODEL` explains the keys",
) -> Config:
    """Return the configuration ``kind`` with the values of ``file`` and ``settings``; the latter take precedence.

    ``defaults`` come before both; ``explained`` says where a user finds the keys. Settings are ``key=value``, nested
    keys with dots, values in YAML. If the type of a key is text, its value is the text as written; if it is a list, a
    single value becomes a list of one.

    Keys below ``model.`` are for the model of that name; keys below the name of one of the ``others`` in the same run
    are for that one. Raises `UserError` for an unreadable file, an unknown key (with a near one) and a value that does
    not fit.
    """
    values, texts = dict(defaults or {}), dict[str, Any]()
    if file is not None:
        for into, loader in ((values, _Loader), (texts, _TextLoader)):
            _merge(into, _of_model(read_yaml(file, loader), model, others))
    chosen: dict[str, Any] = {}
    written: dict[str, Any] = {}
    for setting in settings:
        _merge(chosen, _setting(setting))
        _merge(written, _setting(setting, _TextLoader))
    chosen = _of_model(chosen, model, others)
    _merge(values, chosen)
    _merge(texts, _of_model(written, model, others))
    try:
        with convert_plugin_errors(f"model {model}", "its Config fails"):
            try:
                read = _validated(kind, values, texts)
            except ValidationError as error:
                raise _fault_of(error, kind, chosen, file, explained) from error
            content = read.model_dump(mode="json")
        json.dumps(content, allow_nan=False)
    except ValueError as error:  # the configuration is part of a run's identity as JSON, which has no such numbers
        where = str(file) if file is not None and not chosen else "settings"
        raise UserError(
            where, "a number is not finite", "write a finite one, or null where the key takes it"
        ) from error
    return read


def _validated(kind: type[Config], values: dict[str, Any], texts: Mapping[str, Any]) -> Config:
    """Return the configuration from ``values``, or from ``texts`` (the values as written) for keys of type text."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        if not _adapt(values, texts, error):
            raise
    return _validated(kind, values, texts)


def _adapt(values: dict[str, Any], texts: Mapping[str, Any], error: ValidationError) -> bool:
    """Replace scalars by texts or by lists of one where ``error`` reports these types; return whether any was."""
    changed = False
    for fault in error.errors(include_url=False):
        last: Any = fault["loc"][-1]
        node = _at(values, fault["loc"][:-1])
        written = _at(texts, fault["loc"])
        if not isinstance(node, (dict, list)) or isinstance(fault["input"], (dict, list, type(None))):
            continue
        if fault["type"] == "string_type" and isinstance(written, str):
            node[last] = written
            changed = True
        elif fault["type"] in _LISTS:
            node[last] = [fault["input"]]
            changed = True
    return changed


def _at(tree: Any, place: Sequence[int | str]) -> Any:
    """The value at a place in a tree of dictionaries and lists, or ``None``; a scalar counts as a list of one."""
    for part in place:
        if isinstance(tree, str) and part == 0:
            continue
        is_there = part in tree if isinstance(tree, dict) else isinstance(tree, list) and part in range(len(tree))
        tree = tree[part] if is_there else None
    return tree


def read_yaml(file: Path, loader: type[_Loader] | None = None) -> dict[str, Any]:
    """Return the mapping in a YAML file; raises `UserError` for any other content."""
    try:
        with open_file(file, UNBOUNDED, is_text=True) as opened:
            value = loaded_yaml(opened.read(_LONGEST_FILE + 1), loader)
    except OSError as error:
        raise UserError(str(file), error.strerror or "cannot be read", "check the path") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(str(file), f"is not YAML: {_one_line(error)}", "correct it") from error
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UserError(str(file), "is not a mapping of names to values", "write one `key: value` per line")
    return value


class _Loader(yaml.SafeLoader):
    """A safe loader that also limits nested aliases, and numbers that take long to read."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _values_in(node, {})
        return node


class _TextLoader(_Loader):
    """Reads all scalars as texts, as written."""


_TextLoader.yaml_implicit_resolvers = {}  # they convert scalars to numbers, dates and booleans


def loaded_yaml(text: bytes, loader: type[_Loader] | None = None) -> Any:
    """The value of a YAML document. Raises `yaml.YAMLError`, and `ValueError` for a document over the limits."""
    if len(text) > _LONGEST_FILE:
        raise ValueError(f"it is longer than {_LONGEST_FILE >> 20} MiB")
    return yaml.load(text, loader or _Loader)


def _values_in(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values of a node with expanded aliases; ``known`` has those of earlier nodes."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = 1  # an alias inside its own value
    total = 1
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > _LONGEST_NUMBER and node.tag != "tag:yaml.org,2002:str":
            raise ValueError(f"a number is longer than {_LONGEST_NUMBER} characters")
        total += len(node.value) // _LONGEST_NUMBER  # a long text counts as several
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_values_in(part, known) for part in node.value)
    elif isinstance(node, yaml.MappingNode):
        total += sum(_values_in(key, known) + _values_in(part, known) for key, part in node.value)
    if total > _MOST_VALUES:
        raise ValueError(f"it has more than {_MOST_VALUES} values with aliases expanded")
    known[id(node)] = total
    return total


def _setting(text: str, loader: type[_Loader] | None = None) -> dict[str, Any]:
    """``a.b=1`` as nested mappings."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UserError(f"setting {text}", "is not key=value", "for example drop_tracks=0.2")
    try:
        tree: Any = loaded_yaml(value.encode(), loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"setting {text}", f"value is not YAML: {_one_line(error)}", "quote it") from error
    for part in reversed(parts):
        tree = {part: tree}
    return dict(tree)


def _of_model(values: Mapping[str, Any], model: str, others: Sequence[str]) -> dict[str, Any]:
    """The values for all models, overridden by those for ``model``."""
    sections = {name for name in (model, *others) if isinstance(values.get(name), dict)}
    chosen = {key: value for key, value in values.items() if key not in sections}
    if model in sections:
        _merge(chosen, values[model])
    return chosen


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _fault_of(
    error: ValidationError, kind: type[BaseModel], chosen: Mapping[str, Any], file: Path | None, explained: str
) -> UserError:
    """The first fault as an error that names the key, where it was set, and the hint."""
    fault = error.errors(include_url=False)[0]
    place = [str(part) for part in fault["loc"]]
    key = ".".join(place)
    where = f"setting {key}" if _has(chosen, place) or file is None else f"{file}, {key}"
    if fault["type"] == "extra_forbidden":
        return UserError(where, "is not a configuration key", near(place[-1], _fields(kind, place[:-1])))
    what = fault["msg"][:1].lower() + fault["msg"][1:]
    text = repr(fault["input"])
    given = "" if fault["type"] == "missing" else f", not {text if len(text) <= _SHOWN else text[:_SHOWN] + '...'}"
    return UserError(where, what + given, f"correct it; {explained}")


def _has(values: Any, place: Sequence[str]) -> bool:
    for part in place:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def _fields(kind: type[BaseModel], place: Sequence[str]) -> list[str]:
    """The keys known at a place; an entry of a mapping or a list is passed through."""
    inside: Any = kind
    for part in place:
        if isinstance(inside, type) and issubclass(inside, BaseModel):
            field = inside.model_fields.get(part)
            inside = None if field is None else field.annotation
        else:  # dict[str, Part], tuple[Part, ...]
            inside = next((one for one in get_args(inside) if isinstance(one, type) and one is not str), None)
    return list(inside.model_fields) if isinstance(inside, type) and issubclass(inside, BaseModel) else []


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
