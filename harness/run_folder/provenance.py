"""Provenance of a run: versions, hardware, commits and hashes of its inputs. Environment variables are not recorded."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import msgspec

import harness
from harness.errors import UserError
from harness.input_files import UNBOUNDED, decode_json, open_file

_COMMAND_SECONDS = 5
_HEADER_BYTES = 100_000_000
"""The largest header of a safetensors file, by its specification."""


def environment(inputs: dict[str, str] | None = None) -> dict[str, Any]:
    """Return versions of packages, interpreter, platform, CPU, memory in bytes, GPUs, git commits, and the time (UTC).

    ``inputs`` are hashes by name of the input. Unknown values are ``None``.
    """
    source = Path(harness.__file__).resolve()
    commit, is_changed = git_commit(source.parent, source)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "harness": harness.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"model": cpu_model(), "count": os.cpu_count()},
        "memory_bytes": _memory_bytes(),
        "gpus": gpus(),
        "git_commit": commit,
        "git_changed": is_changed,
        "working_directory_commit": git_commit(Path.cwd())[0],
        "packages": dict(packages()),
        "inputs": dict(inputs or {}),
    }


@cache  # reading the metadata of about 200 distributions takes half a second
def packages() -> dict[str, str]:
    """Versions of all installed distributions by name, as needed to recreate the environment."""
    metadata = [d.metadata for d in distributions()]
    found = {one["Name"]: one["Version"] for one in metadata if one["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def cpu_model() -> str | None:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or None


def _memory_bytes() -> int | None:
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().total)


def gpus() -> list[str]:
    """Names of the GPUs: from torch if it is imported, else from ``nvidia-smi``."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    listed = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return [line.strip() for line in (listed or "").splitlines() if line.strip()]


def git_commit(folder: Path, tracked: Path | None = None) -> tuple[str | None, bool | None]:
    """Return the commit checked out in ``folder``, and whether tracked files differ from it.

    ``None`` outside of git, and if git does not track the file ``tracked``: a package that is installed inside another
    repository does not belong to it.
    """
    git = ("git", "-c", "core.fsmonitor=false", "-C", str(folder))
    if tracked is not None and _output(*git, "ls-files", "--error-unmatch", str(tracked)) is None:
        return None, None
    commit = _output(*git, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    changes = _output(*git, "status", "--porcelain", "--untracked-files=no")
    return commit.strip(), None if changes is None else bool(changes)


def changed_files(folder: Path) -> tuple[str, list[tuple[str, Path, bool]]] | None:
    """Return the last commit that changed ``folder``, and the files below it that differ from the current commit.

    Each file has its name in the repository, its path, and whether git tracks it; ignored files are left out. ``None``
    if git is not installed, fails, or tracks no file below the folder.
    """
    git = ("git", "-c", "core.fsmonitor=false", "-C", str(folder))
    commit, top = _output(*git, "log", "-1", "--format=%H", "--", "."), _output(*git, "rev-parse", "--show-toplevel")
    status = _output(*git, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".")
    if not commit or top is None or status is None:
        return None
    entries = [entry for entry in status.split("\0") if entry]
    root = Path(top.rstrip("\n"))
    return commit.strip(), [(entry[3:], root / entry[3:], entry[:2] != "??") for entry in entries]


def file_digest(path: Path, most: int = UNBOUNDED) -> str:
    """SHA-256 of the bytes of a file, at most ``most``; raises `UserError` if it is larger or cannot be read."""
    try:
        with open_file(path, most) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(str(path), error.strerror or "cannot be read", "check the path") from error


def weights_digest(path: Path) -> str:
    """SHA-256 of a checkpoint: of a file's bytes, or of the names and digests of the files in a folder."""
    if not path.is_dir():
        return file_digest(path)
    files = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
    lines = "".join(f"{file_digest(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _output(command: str, *arguments: str) -> str | None:
    """The output of a command; ``None`` if it is not installed, fails or hangs."""
    found = shutil.which(command)
    if found is None:
        return None
    try:
        done = subprocess.run(
            [found, *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # names of files are bytes
            timeout=_COMMAND_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def trained_on_in(weights: Path) -> str | None:
    """The name of the training data that `harness train` wrote into a file of weights; ``None`` for other files."""
    if weights.suffix != ".safetensors" or not weights.is_file():
        return None
    try:
        with open_file(weights, UNBOUNDED) as file:
            length = int.from_bytes(file.read(8), "little")
            header = decode_json(file.read(length)) if length <= _HEADER_BYTES else {}
        return str(decode_json(header["__metadata__"]["harness"].encode())["dataset"])
    except (OSError, msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return None
