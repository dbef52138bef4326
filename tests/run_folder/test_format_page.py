"""docs/run-folder.md names every file that a run writes, and every field that its schemas have.

Tests of `harness/run_folder/layout.py` and `harness/run_folder/schemas.py`.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from msgspec import Struct

from harness.run_folder import layout, lock, schemas
from harness.run_folder.progress import Snapshot, WorkerProgress
from harness.run_folder.store import schema
from harness.runner import SCRATCH
from harness.scoring import contributions, match_table

PAGE = (Path(__file__).parents[2] / "docs/run-folder.md").read_text(encoding="utf-8")
SCHEMAS: dict[str, tuple[type[Struct], ...]] = {
    "config.json": (schemas.RunContent,),
    "environment.json": (schemas.RunEnvironment, schemas.Cpu),
    "videos.json": (schemas.VideoIds,),
    "failures.json": (schemas.Failures, schemas.Failure),
    "weights.json": (schemas.Weights, schemas.WeightsRecord),
    "metrics.json": (schemas.RunRecord, schemas.ScoreRecord, schemas.ProtocolRecord, schemas.VideosRecord),
    "per_category.csv": (schemas.CategoryRow,),
    "timings.json": (schemas.Times,),
    "bench.json": (schemas.BenchRecord, schemas.BenchAxis, schemas.BenchPoint, schemas.BenchFit),
    "progress.json": (Snapshot, WorkerProgress),
    "matches.msgpack": (match_table._File,),
    "contributions.msgpack": (contributions._File,),
}


def section(name: str) -> str:
    found = re.search(rf"^## `{re.escape(name)}`\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"docs/run-folder.md has no section on {name}"
    return found[1]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_of_a_file_is_on_the_page(name: str) -> None:
    named = set(re.findall(r"`([\w.]+)`", section(name)))
    fields = {field for schema in SCHEMAS[name] for field in schema.__struct_fields__}
    assert fields - named == set()


def test_the_tables_name_no_field_that_a_file_does_not_have() -> None:
    for name, kinds in SCHEMAS.items():
        rows = re.findall(r"^\| (`[^|]*`) \|", section(name), re.MULTILINE)
        named = {field for row in rows for field in re.findall(r"`([\w.]+)`", row)}
        assert named - {field for schema in kinds for field in schema.__struct_fields__} == set(), name


def test_every_schema_belongs_to_a_file_of_the_page() -> None:
    known = {schema for kinds in SCHEMAS.values() for schema in kinds}
    own = {kind for _, kind in inspect.getmembers(schemas, inspect.isclass) if issubclass(kind, Struct)} - {Struct}
    assert own <= known


def test_columns_of_predictions_are_on_the_page() -> None:
    assert set(schema().names) <= set(re.findall(r"`(\w+)`", section("predictions/")))


@pytest.mark.parametrize("name", [*layout.RUN_FILES, f"{layout.SCORES}/PROTOCOL/", f"{SCRATCH}/", lock._LOCK])
def test_every_file_is_listed(name: str) -> None:
    assert f"| `{name}` |" in PAGE
