"""Files of another version of the harness are told as such, by every reader, and not as damage."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from small_runs import make_run
from toy_training import ALONE, CONFIG, Regression, batches

from harness.errors import UserError
from harness.reports.regression import baseline_of, read_baseline, write_baseline
from harness.run_folder import store
from harness.run_folder.checksums import remove_sums
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.status import read_status
from harness.runner import Run, execute
from harness.scoring import match_table
from harness.training.loop import Training, train
from harness.versions import other_version

WORDS = "was written by another version of the harness (format 1; this one reads 2); "
OTHER = "was written by another version of the harness (format 2; this one reads 1); "


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = make_run(tmp_path_factory.mktemp("runs"))
    execute(made)
    remove_sums(made.folder)
    return made


def changed(path: Path) -> bytes:
    """Give a JSON file the format 1, as an earlier version did; return what it was before."""
    before = path.read_bytes()
    path.write_text(json.dumps({**json.loads(before), "format": 1}))
    return before


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("videos.json", lambda folder: FinishedRun(folder).video_ids),
        ("metrics.json", FinishedRun.open),
        ("config.json", lambda folder: FinishedRun(folder).content),
        ("timings.json", lambda folder: FinishedRun(folder).times),
    ],
)
def test_files_of_a_run_folder(run: Run, name: str, read: Callable[[Any], object]) -> None:
    path = run.folder / name
    assert isinstance(path, Path)
    read(run.folder)
    before = changed(path)
    try:
        with pytest.raises(UserError, match=rf"{name}: {re.escape(WORDS)}"):
            read(run.folder)
    finally:
        path.write_bytes(before)


def test_status_lists_a_file_of_another_version(run: Run) -> None:
    before = changed(run.folder / "failures.json")  # type: ignore[arg-type]
    try:
        assert any(WORDS in str(fault) for fault in read_status(run.folder).damaged)
    finally:
        (run.folder / "failures.json").write_bytes(before)


def test_a_baseline(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    write_baseline(path, baseline_of(run.folder))
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "format": 3}))
    with pytest.raises(UserError) as refused:
        read_baseline(path)
    words = OTHER.replace("format 2; this one reads 1", "format 3; this one reads 2")
    assert str(refused.value) == f"{path}: {words}write it again with --update"


def test_a_match_table(run: Run, tmp_path: Path) -> None:
    data = (run.folder / match_table.MATCHES_FILE).read_bytes()
    begin = len(b"harness-matches\n") + 32
    content = msgspec.msgpack.encode({**msgspec.msgpack.decode(data[begin:]), "format": 2})
    path = tmp_path / match_table.MATCHES_FILE
    path.write_bytes(data[: begin - 32] + hashlib.sha256(content).digest() + content)
    with pytest.raises(UserError) as refused:
        match_table.read_table(path)
    assert str(refused.value) == f"{path}: {OTHER}delete it: it is made again from the predictions"


def test_a_shard(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = run.videos[0]
    other = store.PredictionStore(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(store, "SHARD_FORMAT", "harness-predictions-3")
        other.write_table(video, pq.read_table(run.store.path(video.id)))
    told = r"1\.parquet: was written by another version of the harness \(format harness-predictions-3; this one reads"
    with pytest.raises(UserError, match=told):
        other.read_table(video.id)


def test_a_training(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"format": 2}))
    with pytest.raises(UserError, match=re.escape("config.json: " + OTHER)):
        train(Training(Regression(None), batches, CONFIG, tmp_path, {"format": 1}), ALONE)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"format": "2"}', b'{"format": 1}', b'{"format": null}', b"\xff"]
)
def test_anything_else_is_no_other_version(data: bytes) -> None:
    assert other_version(data) == ""
