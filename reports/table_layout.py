"""A table's layout, read from a YAML file: which rows, datasets, columns and settings it shows, under which names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.config import read_yaml
from harness.errors import UserError, near
from harness.reports.published.vocabulary import column_name


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Shown(_Part):
    """One item that is shown; in the file, a plain string is its key."""

    key: str
    name: str | None = None
    """Its header in the table; the key itself where it is left out."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"key": value} if isinstance(value, str) else value

    @property
    def header(self) -> str:
        return self.key if self.name is None else self.name


class ColumnLayout(_Shown):
    """A metric: a key of ``metrics.json``, ``AR`` for AR100, or ``corrected.AP`` and so on (named ``AP corr.``).

    A metric of another protocol (``burst-class-guided/HOTA_all``) is named as published tables name it.
    """

    @property
    def header(self) -> str:
        if self.name is not None:
            return self.name
        corrected = self.key.startswith("corrected.")
        return f"{self.key.removeprefix('corrected.')} corr." if corrected else column_name(self.key)


class SettingLayout(_Shown):
    """A setting, under its key with dots, that differs between the runs."""


class DatasetLayout(_Part):
    """A dataset and split, how it is named, and its columns where they are not those of the table."""

    dataset: str
    split: str = "val"
    name: str | None = None
    columns: tuple[ColumnLayout, ...] | None = None

    @property
    def header(self) -> str:
        return f"{self.dataset} {self.split}" if self.name is None else self.name


class RowLayout(_Part):
    """Rows by a pattern (``*``, ``?``) of the run folder's name or of the method's name, and what to call them.

    ``backbone`` and ``training_data`` take the place of what is known of these.
    """

    run: str
    name: str | None = None
    backbone: str | None = None
    training_data: str | None = None


class Layout(_Part):
    """What a table shows; keys that are left out have their defaults. Lists show only what they name, in order."""

    side_by_side: bool = False
    """Datasets side by side, one row per method, in place of one row per run."""
    decimals: int = Field(default=1, ge=0, le=4)
    columns: tuple[ColumnLayout, ...] = ()
    datasets: tuple[DatasetLayout, ...] = ()
    rows: tuple[RowLayout, ...] = ()
    settings: tuple[SettingLayout, ...] | None = None


def read_layout(file: Path) -> Layout:
    """Read a layout; raises `UserError` for unknown keys (with a near one) and values that do not fit."""
    try:
        return Layout.model_validate(read_yaml(file))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = [str(part) for part in fault["loc"]]
        where = f"{file}, {'.'.join(place)}"
        if fault["type"] == "extra_forbidden":
            raise UserError(where, "is not a key of a layout", near(place[-1], _keys(place))) from error
        what = fault["msg"][:1].lower() + fault["msg"][1:]
        raise UserError(where, what, "see docs/comparison.md for a layout") from error


def _keys(place: list[str]) -> list[str]:
    """The keys allowed at the place of an unknown one, whose path has list positions between names."""
    parts: dict[str, type[BaseModel]] = {
        "columns": ColumnLayout, "datasets": DatasetLayout, "rows": RowLayout, "settings": SettingLayout
    }  # fmt: skip
    names = [part for part in place[:-1] if part in parts]
    return list((parts[names[-1]] if names else Layout).model_fields)
