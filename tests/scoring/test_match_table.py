"""Match tables: they give the official numbers again, and what is read from a file is checked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from match_populations import make_population

from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations
from harness.scoring.jackknife import JACKKNIFE_METRICS, replicate
from harness.scoring.match_table import MatchTable, precision_over_recall, read_table, write_table
from harness.scoring.protocols import OFFICIAL
from harness.scoring.score import score_results

GOLDEN = Path(__file__).parents[1] / "data" / "protocols"
MARK = b"harness-matches\n"


def cases() -> list[Any]:
    """(case, protocol) of every AP case that the official tools score by a protocol that has a name."""
    manifest = json.loads((GOLDEN / "manifest.json").read_text())
    found = []
    for case in manifest["cases"]:
        named = [name for name in case["protocols"] if name in OFFICIAL]
        if named:
            expected = json.loads((GOLDEN / case["case"] / "expected.json").read_text())["protocols"]
            scored = [name for name in named if not expected[name]["error"]]
            found += [pytest.param(case["case"], name, id=f"{case['case']}-{name}") for name in scored]
    return found


@pytest.mark.parametrize(("case", "protocol"), cases())
def test_weights_of_one_give_the_official_numbers(case: str, protocol: str) -> None:
    annotations = read_annotations(GOLDEN / case / "gt.json")
    for name in (protocol, f"{protocol}-corrected"):
        try:
            score = score_results(name, annotations, GOLDEN / case / "results.json")
        except UserError:  # the corrected protocol can be asked for fields that the official one does not need
            continue
        table = score.matches
        replicates = replicate(table, np.ones((1, len(table.video_ids)), np.int32))
        for suffix, rows in {"": None, **table.groups}.items():
            for metric in JACKKNIFE_METRICS:
                value, expected = replicates.mean(metric, rows)[0], score.metrics.values[metric + suffix]
                assert (None if np.isnan(value) else value) == (expected and pytest.approx(expected, abs=1e-12)), metric
        ap = score.metrics.values["AP"]
        assert precision_over_recall(table).mean() == pytest.approx(ap or 0.0, abs=1e-12)


@pytest.fixture
def table() -> MatchTable:
    return make_population(0, 12, 5).table(0)


def test_a_table_is_read_as_it_was_written(table: MatchTable, tmp_path: Path) -> None:
    write_table(tmp_path / "a", table)
    read = read_table(tmp_path / "a")
    write_table(tmp_path / "b", read)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read.category_names == table.category_names
    assert read.groups["n"].tolist() == [1, 3]
    for name, values in vars(table.matches).items():
        assert np.array_equal(getattr(read.matches, name), values), name


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_table(tmp_path / "none")
    with pytest.raises(UserError, match="cannot be read"):
        read_table(tmp_path)


@settings(max_examples=40)
@given(at=st.integers(0, 10_000), byte=st.integers(1, 255))
def test_any_damaged_byte_is_seen(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    path = tmp_path_factory.mktemp("table") / "matches"
    write_table(path, make_population(0, 4, 3).table(0))
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= byte
    path.write_bytes(data)
    with pytest.raises(UserError):
        read_table(path)


@given(content=st.binary(max_size=200))
def test_arbitrary_bytes_are_a_user_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("table") / "matches"
    for data in (content, MARK + hashlib.sha256(content).digest() + content):
        path.write_bytes(data)
        with pytest.raises(UserError):
            read_table(path)


@pytest.mark.parametrize(
    ("array", "kind", "change"),
    [
        ("video", "<i4", 12),
        ("video", "<i4", -1),
        ("pair_video", "<i4", 12),
        ("pair_positives", "<i4", -1),
        ("hits", "<u2", 1024),
        ("score", "<f8", float("nan")),
        ("first", "<i8", 1 << 40),
        ("pair_first", "<i8", -1),
    ],
)
def test_positions_outside_are_refused_even_with_a_checksum(
    table: MatchTable, tmp_path: Path, array: str, kind: str, change: float
) -> None:
    values = getattr(table.matches, array).copy()
    values[1] = change
    write_table(tmp_path / "matches", replace(table, matches=replace(table.matches, **{array: values})))
    with pytest.raises(UserError, match="do not fit"):
        read_table(tmp_path / "matches")


def test_missing_and_odd_arrays_are_refused(table: MatchTable, tmp_path: Path) -> None:
    path = tmp_path / "matches"
    write_table(path, table)
    content = msgspec.msgpack.decode(path.read_bytes()[len(MARK) + 32 :])
    changes: list[dict[str, Any]] = [
        {"format": 2},
        {"arrays": {}},
        {"arrays": {**content["arrays"], "video": b"123"}},
        {"category_names": []},
        {"groups": {"b": [99]}},
    ]
    for change in changes:
        data = msgspec.msgpack.encode({**content, **change})
        path.write_bytes(MARK + hashlib.sha256(data).digest() + data)
        with pytest.raises(UserError, match=r"is not a match table \(|was written by another version"):
            read_table(path)
