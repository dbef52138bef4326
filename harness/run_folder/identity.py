"""The parts of a run's identity that the user does not choose (plugin code, variables), and differences of identities.

`harness.runner.Run.content` is the identity of a run; docs/runs.md says what belongs to it, and why.
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

import msgspec

from harness import plugins
from harness.errors import UserError
from harness.input_files import RECORD_BYTES, decode_json, read_file
from harness.paths import Location
from harness.run_folder.provenance import changed_files, file_digest, git_commit
from harness.types import ModelPlugin

NUMBER_FORMATS = (
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
)
"""Environment variables that make libraries compute in a number format other than that of ``--precision``."""
SOURCES = (".py", ".pyx", ".cu", ".cuh", ".cpp", ".c", ".h", ".json", ".yaml", ".yml", ".toml")
"""Suffixes of files that count as code."""
_CODE = (".py", ".pyx", ".cu", ".cuh", ".cpp", ".c", ".h")
"""Suffixes of code that is never data: a program may write results and settings next to its code."""
_SAME_BY_NAME = ("format", "model", "dataset", "split")
_READERS = 8
_DIGITS, _SHOWN = 12, 60

Code = dict[str, str | None]


def variables() -> dict[str, str]:
    """Return the variables of `NUMBER_FORMATS` that are set."""
    return {name: os.environ[name] for name in NUMBER_FORMATS if os.environ.get(name)}


def code_of(plugin: ModelPlugin) -> Code | None:
    """Return distribution and version of a third-party plugin, and the digest of its source files.

    ``None`` for plugins of the harness, whose ``version`` changes if the same settings may give other tracks. Unknown
    values are ``None``.
    """
    source = plugins.source_of(plugin)
    if source is None:
        return None
    return {"distribution": source.distribution, "version": source.version, "sources": module_digest(source.module)}


def commit_of(plugin: ModelPlugin) -> dict[str, Any]:
    """Return the git commit of a third-party plugin, and whether its files differ from the commit.

    The keys are those of ``environment.json``: ``plugin_commit`` and ``plugin_changed``. Empty for plugins of the
    harness, and outside of git.
    """
    source = plugins.source_of(plugin)
    file = getattr(sys.modules.get(source.module), "__file__", None) if source is not None else None
    if file is None:
        return {}
    path = Path(file).resolve()
    commit, is_changed = git_commit(path.parent, path)
    return {} if commit is None else {"plugin_commit": commit, "plugin_changed": is_changed}


def module_digest(name: str) -> str | None:
    """SHA-256 of the outermost package that a module is in, or of the module's file if it is in none."""
    module = sys.modules.get(name)
    for package in _packages(name):
        if getattr(sys.modules.get(package), "__file__", None):  # namespace packages are shared by distributions
            module = sys.modules[package]
            break
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return None
    folders = getattr(module, "__path__", None)
    return files_digest(Path(file)) if folders is None else files_digest(*map(Path, folders))


def code_state(folder: Path) -> dict[str, str | None]:
    """Return the state of the code in a folder: its git commit and the digest of all differences, see `git_state`.

    Outside of git: the digest of its source files.
    """
    commit, changes = git_state(folder)
    return {"sources": files_digest(folder)} if commit is None else {"commit": commit, "changes": changes}


def git_state(folder: Path) -> tuple[str | None, str | None]:
    """Return the last commit that changed a folder, and SHA-256 of the files that differ from it (``None``: none).

    Tracked files and new source files count. ``None`` twice without git, or if git tracks no file in the folder.
    """
    found = changed_files(folder)
    if found is None:
        return None, None
    commit, changed = found
    counted = sorted((name, path) for name, path, is_known in changed if is_known or name.endswith(_CODE))
    if not counted:
        return commit, None
    lines = "".join(f"{_state_of(path)}  {name}\n" for name, path in counted)
    return commit, hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def _state_of(path: Path) -> str:
    """The digest of a file, the git state of a nested repository, or ``removed``."""
    if path.is_dir():
        return str(git_state(path))
    return file_digest(path) if path.is_file() else "removed"


def _packages(name: str) -> Iterator[str]:
    """Yield the packages that a module is in, the outermost first: ``a``, ``a.b``, ..."""
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts) - 1))


def files_digest(*places: Path) -> str | None:
    """SHA-256 over names and contents of files, and of the code files below folders; ``None`` if there is no file.

    Names are relative to the folder. Hidden folders are skipped. Raises `UserError` if a file cannot be read.
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


class SettingDifference(NamedTuple):
    """A setting in which two runs differ; ``None`` if it is not set."""

    name: str
    before: Any
    after: Any

    def describe(self, before: str, after: str) -> str:
        """Return a text like ``topk (5 there, 3 here)``; ``before`` and ``after`` name the runs."""
        return f"{self.name} ({_shown(self.before)} {before}, {_shown(self.after)} {after})"


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a run as flat settings: keys of the model's configuration, and ``seed``, ``precision``, ...

    A configuration key with the name of another setting becomes ``config.KEY``. Settings without a value are left out.
    """
    rest = {key: value for key, value in content.items() if key != "config" and key not in _SAME_BY_NAME}
    found = dict(_leaves(rest))
    own = dict(_leaves(content.get("config") or {}))
    return found | {f"config.{key}" if key in content else key: value for key, value in own.items()}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def setting_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[SettingDifference]:
    """Return the differences of two runs' `settings_of`: in the order of ``after``, then those only in ``before``."""
    names = dict.fromkeys([*after, *before])
    return [SettingDifference(n, before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n)]


def _shown(value: Any) -> str:
    """A value as short text; digests are truncated."""
    if value is None:
        return "not set"
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return text[:_DIGITS]
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def other_runs(folder: Location, content: Mapping[str, Any], besides: Iterable[Location] = ()) -> str:
    """Describe the other runs of the same model and data in the parent folder of a new run's ``folder``.

    The description lists the settings in which the most similar of them differs. Empty if there are none. Folders in
    ``besides`` do not count.
    """
    names = {folder.name, *(other.name for other in besides)}
    alike = folder.name.rpartition("-")[0]
    found = [path for path in folder.parent.glob(f"{alike}-*") if path.name not in names]
    with ThreadPoolExecutor(_READERS) as pool:
        contents = [one for one in pool.map(_content, found) if one and _same_data(one, content)]
    if not contents:
        return ""
    here = settings_of(content)
    nearest = min((setting_differences(settings_of(one), here) for one in contents), key=len)
    listed = ", ".join(d.describe("there", "here") for d in nearest) or "nothing but the harness's version"
    what = f"of {content['model']} on {content['dataset']} {content['split']} in {folder.parent}"
    if len(contents) == 1:
        return f"1 other run {what}; differs in {listed}"
    return f"{len(contents)} other runs {what}; the nearest differs in {listed}"


def _content(folder: Location) -> dict[str, Any] | None:
    """The content of a run folder; ``None`` if it cannot be read."""
    try:
        found = decode_json(read_file(folder / "config.json", RECORD_BYTES, is_text=True))
    except (OSError, UserError, msgspec.MsgspecError):
        return None
    return found if isinstance(found, dict) else None


def _same_data(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("model", "dataset", "split"))
