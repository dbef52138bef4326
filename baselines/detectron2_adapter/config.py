"""Which detectron2 model is run, and how it is put together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, DirectoryPath, Field, FilePath, JsonValue, computed_field


class Detectron2Config(BaseModel):
    """A config file of a project that is built on detectron2. The weights are the run's ``--checkpoint``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config_file: FilePath = Field(description="The project's YAML file for the model.")
    project: DirectoryPath | None = Field(None, description="The project's folder: its modules can be imported then.")
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
        """Part of what a run is known by: another content of the file is another run."""
        return hashlib.sha256(self.config_file.read_bytes()).hexdigest()

    def settings(self) -> list[JsonValue]:
        """``options`` as detectron2 takes them: key, value, key, value, ... with dotted keys."""
        return [word for pair in _flat(self.options) for word in pair]


def _flat(values: Mapping[str, JsonValue], above: str = "") -> Iterator[tuple[str, JsonValue]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
