"""Which detectron2 model is run, and how it is put together."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, DirectoryPath, Field, FilePath, JsonValue, computed_field

from harness.config import BY_NAME
from harness.run_folder.identity import files_digest

_BASE = re.compile(r"^_BASE_:\s*[\"']?([^\"'#\n]+)", re.MULTILINE)


class Detectron2Config(BaseModel):
    """A config file of a project that is built on detectron2. The weights are the run's ``--checkpoint``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config_file: Annotated[FilePath, BY_NAME] = Field(description="The project's YAML file for the model.")
    project: Annotated[DirectoryPath | None, BY_NAME] = Field(
        None, description="The project's folder: its modules can be imported then."
    )
    setup: tuple[str, ...] = Field(
        (),
        description="What the project needs first, in order: MODULE is imported (it registers its models),"
        " MODULE:FUNCTION is called with the config (it adds the project's keys).",
    )
    options: dict[str, JsonValue] = Field(
        {}, description="Values for keys of the config, as in options.MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD=0.8."
    )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def config_file_sha256(self) -> str:
        """Of the file and of those that it builds on (``_BASE_``): another content of them is another run."""
        digests = [hashlib.sha256(text).hexdigest() for text in _with_bases(self.config_file)]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def project_sha256(self) -> str | None:
        """Of the project's code: a run is known by it."""
        return files_digest(self.project) if self.project is not None else None

    def settings(self) -> list[JsonValue]:
        """``options`` as detectron2 takes them: key, value, key, value, ... with dotted keys."""
        return [word for pair in _flat(self.options) for word in pair]


def _with_bases(path: Path) -> list[bytes]:
    """The text of a config file, of the one that it builds on, and so on; those that are not there are left out."""
    texts: list[bytes] = []
    known: set[Path] = set()
    while path.is_file() and path.resolve() not in known:
        known.add(path.resolve())
        texts.append(path.read_bytes())
        base = _BASE.search(texts[-1].decode(errors="replace"))
        if base is None:
            break
        path = path.parent / Path(base[1].strip()).expanduser()
    return texts


def _flat(values: Mapping[str, JsonValue], above: str = "") -> Iterator[tuple[str, JsonValue]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
