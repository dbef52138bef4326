"""What a run is known by besides what the user chose: plugin code and variables; and how two runs' identities differ.

`harness.runner.Run.content` is the identity of a run; docs/runs.md says what is in it and what is not, and why.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from harness import plugins
from harness.errors import UserError
from harness.paths import Location
from harness.run_folder.provenance import changed_files, file_digest, git_commit
from harness.types import ModelPlugin

NUMBER_FORMATS = (
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
)
"""Environment variables that make libraries compute in another number format than ``--precision`` says."""
SOURCES = (".py", ".pyx", ".cu", ".cuh", ".cpp", ".c", ".h", ".json", ".yaml", ".yml", ".toml")
"""Ends of the names of files that count as code."""
_CODE = (".py", ".pyx", ".cu", ".cuh", ".cpp", ".c", ".h")
"""Of those, what is code and never data: results and settings that a program leaves beside its code are not."""
_TOLD_ELSEWHERE = ("format", "model", "dataset", "split")
_READERS = 8
_DIGITS, _SHOWN = 12, 60

Code = dict[str, str | None]


def variables() -> dict[str, str]:
    """Those of `NUMBER_FORMATS` that are set."""
    return {name: os.environ[name] for name in NUMBER_FORMATS if os.environ.get(name)}


def code_of(plugin: ModelPlugin) -> Code | None:
    """Distribution and version of a third party's plugin, and the digest of its source files; ``None`` for our own.

    Ours say by ``version`` that the same settings may give other tracks. What is not known is ``None``.
    """
    source = plugins.source_of(plugin)
    if source is None:
        return None
    return {"distribution": source.distribution, "version": source.version, "sources": module_digest(source.module)}


def commit_of(plugin: ModelPlugin) -> dict[str, Any]:
    """The git commit of a third party's plugin and whether its files differ from it: ``plugin_commit`` and
    ``plugin_changed`` as in ``environment.json``; nothing for our own, and outside of git.
    """
    source = plugins.source_of(plugin)
    file = getattr(sys.modules.get(source.module), "__file__", None) if source is not None else None
    if file is None:
        return {}
    path = Path(file).resolve()
    commit, is_changed = git_commit(path.parent, path)
    return {} if commit is None else {"plugin_commit": commit, "plugin_changed": is_changed}


def module_digest(name: str) -> str | None:
    """SHA-256 of the files of a module, or of all of the package that it is in."""
    module = sys.modules.get(name)
    for package in _packages(name):
        if getattr(sys.modules.get(package), "__file__", None):  # others are shared by several distributions
            module = sys.modules[package]
            break
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return None
    folders = getattr(module, "__path__", None)
    return files_digest(Path(file)) if folders is None else files_digest(*map(Path, folders))


def code_state(folder: Path) -> dict[str, str | None]:
    """What the code in a folder is known by: its git commit and the digest of what differs from that, `git_state`.

    Outside of git: the digest of its source files.
    """
    commit, changes = git_state(folder)
    return {"sources": files_digest(folder)} if commit is None else {"commit": commit, "changes": changes}


def git_state(folder: Path) -> tuple[str | None, str | None]:
    """The last commit that changed a folder, and SHA-256 of the files that differ from it (``None``: none does).

    Those are files that git knows and new source files. ``None`` twice where git is not there or knows no file in it.
    """
    found = changed_files(folder)
    if found is None:
        return None, None
    commit, changed = found
    counted = sorted((name, path) for name, path, is_known in changed if is_known or name.endswith(_CODE))
    if not counted:
        return commit, None
    lines = "".join(f"{_known_by(path)}  {name}\n" for name, path in counted)
    return commit, hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def _known_by(path: Path) -> str:
    """What a file is known by, a repository inside of another one, or what is not there any more."""
    if path.is_dir():
        return str(git_state(path))
    return file_digest(path) if path.is_file() else "removed"


def _packages(name: str) -> Iterator[str]:
    """``a``, ``a.b`` and so on, the packages that a module is in, the outermost first."""
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts) - 1))


def files_digest(*places: Path) -> str | None:
    """SHA-256 of files, and of the code below folders: of names below the place, and contents; ``None`` for no file.

    Hidden folders are passed over. Raises `UserError` where a file cannot be read.
    """
    found = [(path.name if path == place else path.relative_to(place).as_posix(), path)
             for place in places for path in _code_files(place)]  # fmt: skip
    lines = "".join(f"{file_digest(path)}  {name}\n" for name, path in sorted(found))
    return hashlib.sha256(lines.encode()).hexdigest() if lines else None


def _code_files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    for folder, inner, names in os.walk(place):
        inner[:] = [name for name in inner if not name.startswith((".", "__pycache__"))]
        paths = (Path(folder) / name for name in names if name.endswith(SOURCES))
        yield from (path for path in paths if path.is_file())


class Difference(NamedTuple):
    """A setting that two runs do not share; ``None`` where it is not set."""

    name: str
    before: Any
    after: Any

    def told(self, before: str, after: str) -> str:
        """As in ``topk (5 there, 3 here)``."""
        return f"{self.name} ({_shown(self.before)} {before}, {_shown(self.after)} {after})"


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a run as flat settings: keys of the model's configuration, and ``seed``, ``precision``, ...

    Keys of the configuration that are called like one of the others are ``config.KEY``. What is not set is left out.
    """
    rest = {key: value for key, value in content.items() if key != "config" and key not in _TOLD_ELSEWHERE}
    found = dict(_leaves(rest))
    own = dict(_leaves(content.get("config") or {}))
    return found | {f"config.{key}" if key in content else key: value for key, value in own.items()}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Where two runs' `settings_of` differ: in the order of ``after``, then what only ``before`` has."""
    names = dict.fromkeys([*after, *before])
    return [Difference(n, before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n)]


def _shown(value: Any) -> str:
    """A value in few characters; digests are cut."""
    if value is None:
        return "not set"
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return text[:_DIGITS]
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def other_runs(folder: Location, content: Mapping[str, Any], besides: Iterable[Location] = ()) -> str:
    """Say of a new run which others of its model and data lie beside its ``folder``, and where the nearest differs.

    Empty where there are none; those of ``besides`` do not count.
    """
    names = {folder.name, *(other.name for other in besides)}
    alike = folder.name.rpartition("-")[0]
    found = [path for path in folder.parent.glob(f"{alike}-*") if path.name not in names]
    with ThreadPoolExecutor(_READERS) as pool:
        contents = [one for one in pool.map(_content, found) if one and _same_data(one, content)]
    if not contents:
        return ""
    here = settings_of(content)
    nearest = min((differences(settings_of(one), here) for one in contents), key=len)
    told = ", ".join(d.told("there", "here") for d in nearest) or "nothing but the harness's version"
    what = f"of {content['model']} on {content['dataset']} {content['split']} in {folder.parent}"
    if len(contents) == 1:
        return f"1 other run {what}; differs in {told}"
    return f"{len(contents)} other runs {what}; the nearest differs in {told}"


def _content(folder: Location) -> dict[str, Any] | None:
    """The content of a run folder; ``None`` where it cannot be had: the run goes on without."""
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except (OSError, UserError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _same_data(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("model", "dataset", "split"))
