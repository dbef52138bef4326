"""What a run was made with: versions, hardware, commits and the hashes of its inputs. Never environment variables."""

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

import harness
from harness.errors import UserError

_COMMAND_SECONDS = 5


def environment(inputs: dict[str, str] | None = None) -> dict[str, Any]:
    """Return versions of packages, interpreter, platform, CPU, memory in bytes, GPUs, git commits, and the time (UTC).

    ``inputs`` are hashes by the name of the input. What cannot be found out is ``None``.
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


@cache  # reading the metadata of some 200 distributions takes half a second
def packages() -> dict[str, str]:
    """Versions of all installed distributions by name: what it takes to make the environment again."""
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
    """Names of the GPUs: as torch sees them if it is in use already, else as ``nvidia-smi`` does."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    listed = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return [line.strip() for line in (listed or "").splitlines() if line.strip()]


def git_commit(folder: Path, tracked: Path | None = None) -> tuple[str | None, bool | None]:
    """The commit checked out in ``folder``, and whether tracked files differ from it.

    ``None`` outside of git, and where git does not know the file ``tracked``: a package that is installed inside
    somebody's repository is no part of it.
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
    """The last commit that changed ``folder``, and the files below it that differ from the one checked out.

    Of each its name in the repository, its path, and whether git knows it; files that git ignores are left out.
    ``None`` where git is not there, does not answer, or knows no file below the folder.
    """
    git = ("git", "-c", "core.fsmonitor=false", "-C", str(folder))
    commit, top = _output(*git, "log", "-1", "--format=%H", "--", "."), _output(*git, "rev-parse", "--show-toplevel")
    told = _output(*git, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".")
    if not commit or top is None or told is None:
        return None
    entries = [entry for entry in told.split("\0") if entry]
    root = Path(top.rstrip("\n"))
    return commit.strip(), [(entry[3:], root / entry[3:], entry[:2] != "??") for entry in entries]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes; raises `UserError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(str(path), error.strerror or "cannot be read", "check the path") from error


def weights_digest(path: Path) -> str:
    """SHA-256 of a checkpoint: of a file's bytes; of a folder, of the names and digests of the files in it."""
    if not path.is_dir():
        return file_digest(path)
    files = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
    lines = "".join(f"{file_digest(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _output(command: str, *arguments: str) -> str | None:
    """What a command prints; ``None`` where it is not installed, fails or hangs."""
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
