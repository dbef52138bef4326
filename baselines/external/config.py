"""Configuration of a command that is run as a model; see docs/external-models.md."""

from __future__ import annotations

import shlex
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, computed_field

from harness.input_files import open_file
from harness.run_folder.provenance import file_digest

MOST_BYTES = 64 << 20
"""Larger files in a command (container images, data) are identified by name only."""


def _words(value: Any) -> Any:
    """Split a string as a shell does, without any other function of a shell."""
    return shlex.split(value) if isinstance(value, str) else value


class ExternalConfig(BaseModel):
    """The command, and where and how it runs.

    ``chunk`` and ``timeout_s`` do not change the results: they do not belong to a run's identity and may change when it
    is resumed. All other keys are recorded with the run, so they must not contain passwords.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        min_length=1,
        description="Program and arguments, run without a shell; a string is split at blanks, quotes hold. {job}"
        " becomes the job file, {folder} its folder; without {job} the job file is the last argument.",
    )
    working_directory: Path | None = Field(None, description="Its working directory; default: that of the harness.")
    environment: dict[str, str | None] = Field(
        {}, description="Variables added to the inherited environment; null removes one."
    )
    revision: str = Field(
        "",
        description="Any text; change it when the same command may give other tracks. The commit and changes of a"
        " working_directory in git are already included.",
    )
    chunk: int = Field(10, ge=1, exclude=True, description="Videos per start of the command, at most.")
    timeout_s: float | None = Field(
        None, gt=0, exclude=True, description="Seconds after which one start is stopped; default: never."
    )

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def command_files_sha256(self) -> dict[str, str]:
        """SHA-256 of the files in the command, by position and name, so that an edited script is another run.

        Binary programs and files of more than `MOST_BYTES` are left out.
        """
        words = (Path(word.rpartition("=")[2]) for word in self.command)
        files = [(self.working_directory or Path()) / word for word in words]
        return {f"{i} {file.name}": file_digest(file) for i, file in enumerate(files) if _counts(file, i == 0)}


def _counts(file: Path, is_program: bool) -> bool:
    try:
        if not file.is_file() or file.stat().st_size > MOST_BYTES:
            return False
        with open_file(file, MOST_BYTES) as opened:
            return not is_program or opened.read(2) == b"#!"
    except (OSError, ValueError):
        return False
