"""The detectron2 model of a run, and how it is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, DirectoryPath, Field, FilePath, JsonValue

from harness.config import BY_NAME


def _one_or_several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_several)]
"""Several texts, or a single one."""


class Detectron2Config(BaseModel):
    """A config file of a project that is built on detectron2. The weights are the run's ``--checkpoint``.

    The merged content of the files and the code are also part of a run's identity (`depends_on`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config_file: Annotated[FilePath, BY_NAME] = Field(description="The project's YAML file for the model.")
    project: Annotated[DirectoryPath | None, BY_NAME] = Field(
        None, description="The project's folder: its modules can be imported then."
    )
    setup: Texts = Field(
        (),
        description="Setup of the project, in order: MODULE is imported (it registers its models),"
        " MODULE:FUNCTION is called with the config (it adds the project's keys).",
    )
    options: dict[str, JsonValue] = Field(
        {}, description="Values for keys of the config, as in options.MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD=0.8."
    )
    class_counts: Texts = Field(
        (), description="Keys of the config that are set to the number of words, as in TEST.TEST_NUM_CLASSES."
    )
    words: str | None = Field(
        None,
        description="MODULE:FUNCTION(network, metadata) for models that get their words after they are built;"
        " metadata.thing_classes has the words. Others find them through DATASETS.TEST or the video's dataset_name.",
    )
    outputs: str | None = Field(
        None,
        description="MODULE:FUNCTION(outputs, inputs) for models with another form of output; it returns one"
        " of the forms that docs/external-models.md lists.",
    )
    allow_missing: Texts = Field(
        (),
        description="Weights that the checkpoint may lack or have in another shape, by name or pattern"
        " (backbone.clip_model.*): they keep the model's initial values. All others are required.",
    )
    revision: str = Field("", description="Any text; change it when the same settings may give other tracks.")

    def settings(self) -> list[tuple[str, JsonValue]]:
        """``options`` as pairs of a dotted key and a value."""
        return list(_flat(self.options))


def _flat(values: Mapping[str, JsonValue], above: str = "") -> Iterator[tuple[str, JsonValue]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
