"""A report opens each file of a run folder once, and each shard once per pass over the masks."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from oracle_runs import oracle_run

from harness.datasets.shapes import PLUGIN as SHAPES
from harness.reports.html import Options, report

PASSES = 3
"""Over the masks: the analysis, the quality of videos, and the videos that the viewer shows."""
_listeners: list[list[str]] = []


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """The paths of the files that are opened meanwhile."""
    if not _listeners:
        sys.addaudithook(_hear)  # for the whole process: it cannot be taken away
    found: list[str] = []
    _listeners.append(found)
    try:
        yield found
    finally:
        _listeners.append([])


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _listeners:
        _listeners[-1].append(str(arguments[0]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return oracle_run(tmp_path_factory.mktemp("runs"), SHAPES.open(Path(), "val"), limit=12, score_noise=0.5)


def test_a_report_of_one_run_opens_each_file_once(run: Path) -> None:
    with opened_files() as found:
        assert report([run], Options(videos=3))
    counts = Counter(Path(path).name for path in found if path.startswith(str(run)))
    shards = {name: count for name, count in counts.items() if name.endswith(".parquet")}
    files = {name: count for name, count in counts.items() if name not in shards}
    assert set(files.values()) == {1}, files
    assert {"metrics.json", "config.json", "SHA256SUMS", "matches.msgpack"} <= files.keys()
    assert len(shards) == 12
    assert max(shards.values()) <= PASSES, shards
    assert sum(shards.values()) <= 2 * 12 + 3, shards
