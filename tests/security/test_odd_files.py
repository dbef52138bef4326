"""What is no file, or far too large, or not text, is refused before it is read: it would not end, or not fit.

Tests of `harness/input_files.py`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from mutations import error_text
from PIL import Image
from pydantic import BaseModel
from vis_documents import document

from harness import input_files
from harness.config import read_config
from harness.convert.cvat import _parsed as read_cvat
from harness.datasets.described import _bytes as read_list
from harness.datasets.discovery import content_of
from harness.errors import UnreadableFileError
from harness.formats.youtube_vis import annotations_from_document, read_annotations
from harness.frame_digests import UNREADABLE, digest_of_file
from harness.image_files import ImageFrames
from harness.input_files import decode_json, open_file, read_file
from harness.models.shared import checkpoint_files
from harness.models.shared.checkpoint_files import read_tensors
from harness.models.shared.inert_pickle import LongPickleError, refuse_long_pickle
from harness.reports.regression import read_baseline
from harness.run_folder.checksums import CheckedFiles
from harness.run_folder.provenance import file_digest
from harness.run_folder.status import read_status
from harness.run_folder.store import PredictionStore
from harness.scoring.contributions import read_contributions
from harness.scoring.match_table import read_table
from harness.scoring.score import score_results
from harness.training.instance_file import read_instances
from harness.video_file import MOST_PIXELS, open_video


class Threshold(BaseModel):
    """A configuration of one number."""

    threshold: float = 0.5


TRUTH = annotations_from_document(document(), "gt")
READERS: dict[str, Callable[[Path], Any]] = {
    "gt.json": read_annotations,
    "found.json": content_of,
    "instances.json": read_instances,
    "results.json": lambda path: score_results("lvvis", TRUTH, path),
    "c.yaml": lambda path: read_config(Threshold, path),
    "w.pth": lambda path: checkpoint_files._read(path, "give another"),
    "w.safetensors": lambda path: checkpoint_files._read(path, "give another"),
    "1.parquet": lambda path: PredictionStore(path.parent).read_table(1),
    "matches.msgpack": read_table,
    "contributions.msgpack": read_contributions,
    "0.png": lambda path: ImageFrames(path.parent, ["0.png"], 4, 4)[0],
    "clip.mp4": lambda path: __import__("harness.video_file").video_file.VideoFileFrames(path),
    "baseline.json": read_baseline,
    "metrics.json": lambda path: CheckedFiles(path.parent).read("metrics.json"),
    "videos.json": lambda path: read_status(path.parent),
    "cvat.xml": read_cvat,
    "list.txt": read_list,
    "weights.bin": file_digest,
}
TEXT = ("gt.json", "found.json", "instances.json", "results.json", "c.yaml", "baseline.json", "metrics.json",
        "videos.json")  # fmt: skip


def pipe(path: Path) -> str:
    os.mkfifo(path)
    return "is a named pipe, not a regular file"


def endless(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "is a device, not a regular file"


@pytest.mark.parametrize("make", [pipe, endless])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, make: Callable[[Path], str]) -> None:
    said = make(tmp_path / name)
    if name == "0.png" and make is endless:
        said = "leads out of"
    assert said in error_text(lambda: READERS[name](tmp_path / name))


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # its path has to be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("s.json")
        assert "is a socket" in error_text(lambda: read_annotations(Path("s.json")))


@pytest.mark.parametrize("name", TEXT)
def test_a_sparse_file_is_refused_unread(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b'[{"a": [')
    os.truncate(path, 40 << 30)  # more than this machine's memory, and nothing on the disk
    said = error_text(lambda: READERS[name](path))
    assert "holds NUL bytes" in said or "files of its kind at most" in said


@pytest.mark.parametrize(
    "name", ["1.parquet", "matches.msgpack", "contributions.msgpack", "0.png", "cvat.xml", "list.txt"]
)
def test_a_file_is_too_large_for_its_kind(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"PAR1")
    os.truncate(path, 40 << 30)
    assert f"has {40 << 30} bytes or more, and files of its kind at most" in error_text(lambda: READERS[name](path))


@pytest.mark.parametrize("text", [b'[{"a": ["%b', b'[{"video_id": 1}, %b', b'[{"a": 1} %b', b"[   %b"])
def test_nul_bytes_that_are_stored_are_refused_too(
    tmp_path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.input_files._has_hole", lambda descriptor: False)
    path = tmp_path / "results.json"
    path.write_bytes(text % bytes(20 << 20))
    assert "NUL bytes" in error_text(lambda: READERS["results.json"](path))
    assert "NUL bytes" in error_text(lambda: read_annotations(path))


def test_files_without_holes_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": 1}\n')
    assert read_file(path, 9, is_text=True) == b'{"a": 1}\n'
    assert read_file(path, 9) == b'{"a": 1}\n'
    with open_file(path, 9, is_text=True) as file:
        assert (file.read(3), file.tell()) == (b'{"a', 3)
    with pytest.raises(UnreadableFileError, match="has 9 bytes or more, and files of its kind at most 8"):
        read_file(path, 8)


def test_a_file_whose_system_does_not_know_its_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "_CHUNK", 64)
    maps = Path("/proc/self/maps")  # of size 0
    if not maps.exists():
        pytest.skip("no /proc")
    assert len(read_file(maps, 1 << 20)) > 1000
    with pytest.raises(UnreadableFileError, match="at most 1000"):
        read_file(maps, 1000)


def test_folders_and_missing_files_are_errors_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path, 10)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none", 10)


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "name", ["gt.json", "found.json", "instances.json", "results.json", "baseline.json", "videos.json", "list.txt"]
)
@pytest.mark.parametrize("text", [DEEP, b'{"videos": %b}' % DEEP, b'[{"segmentations": %b}]' % DEEP])
def test_json_of_many_levels(tmp_path: Path, name: str, text: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(text)
    error_text(lambda: READERS[name](path))  # a value or a `UserError`


def test_json_of_many_levels_is_named(tmp_path: Path) -> None:
    for kind in (Any, dict[str, list[Any]], msgspec.Raw):
        with pytest.raises(msgspec.DecodeError, match="nested too deeply"):
            decode_json(b'{"a": %b}' % DEEP, kind)
    (tmp_path / "videos.json").write_bytes(b'{"format": 2, "of": %b}' % DEEP)
    assert "nested too deeply" in error_text(lambda: read_status(tmp_path))


@pytest.mark.parametrize("number", [b"9" * 1_000_000, b"0." + b"9" * 1_000_000, b"1e" + b"9" * 1_000_000])
def test_numbers_of_many_digits(tmp_path: Path, number: bytes) -> None:
    text = json.dumps(document()).replace('"id": 1', '"id": NUMBER', 1).encode().replace(b"NUMBER", number)
    for name in ("gt.json", "found.json", "baseline.json", "results.json"):
        (tmp_path / name).write_bytes(text)
        error_text(lambda name=name: READERS[name](tmp_path / name))  # type: ignore[misc]


def test_a_frame_that_is_no_file_has_no_digest(tmp_path: Path) -> None:
    endless(tmp_path / "0.png")
    assert digest_of_file(tmp_path / "0.png", "0.png", "whole") == UNREADABLE


def test_a_video_of_absurd_frames(tmp_path: Path) -> None:
    Image.new("P", (14_000, 14_000)).save(tmp_path / "a.gif")
    assert (tmp_path / "a.gif").stat().st_size < 1 << 18
    said = error_text(lambda: open_video(tmp_path / "a.gif"))
    assert f"a.gif: has frames of 14000x14000 (height x width), more than {MOST_PIXELS} pixels" in said


def test_a_video_whose_later_frames_are_absurd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("P", (64, 64)).save(tmp_path / "a.gif")
    monkeypatch.setattr("harness.video_file._refuse_size", lambda *size: None)
    monkeypatch.setattr("harness.video_file.MOST_PIXELS", 1000)
    assert "cannot be decoded" in error_text(lambda: open_video(tmp_path / "a.gif"))


def test_many_tensors_of_one_storage(tmp_path: Path) -> None:
    storage, path = torch.arange(1 << 16, dtype=torch.float16), tmp_path / "w.pth"
    torch.save({f"w{i}": storage[i:-1] for i in range(400)}, path)
    assert "its 400 tensors share values and together state more than 2 times the file" in error_text(
        lambda: read_tensors(path, "give another")
    )


def test_tied_weights_stay_one_tensor(tmp_path: Path) -> None:
    weight, path = torch.arange(1 << 16, dtype=torch.float16), tmp_path / "w.pth"
    torch.save({f"w{i}": weight for i in range(400)}, path)
    state = read_tensors(path, "give another")
    assert len({t.data_ptr() for t in state.values()}) == 1
    assert torch.equal(state["w7"], weight.float())


@pytest.mark.parametrize("form", ["zip", "old", "pkl"])
def test_more_tensors_than_any_model_has(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.models.shared.inert_pickle.MOST_OBJECTS", 500)
    path = tmp_path / "w.pth"
    many = {f"w{i}": torch.zeros(1) for i in range(501)}
    if form == "pkl":
        import pickle

        import numpy as np

        path.write_bytes(pickle.dumps({name: np.zeros(1, np.float32) for name in many}, protocol=2))
    else:
        torch.save(many, path, _use_new_zipfile_serialization=form == "zip")
    assert "holds more than 500 objects" in error_text(lambda: read_tensors(path, "give another"))


def test_more_names_than_any_model_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.models.shared.checkpoint_files.MOST_NAMES", 500)
    one = torch.zeros(1)
    torch.save({f"w{i}": one for i in range(501)}, tmp_path / "w.pth")
    assert "holds 501 tensors, and checkpoints at most 500" in error_text(
        lambda: read_tensors(tmp_path / "w.pth", "give another")
    )


def test_a_pickle_of_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("harness.models.shared.inert_pickle.MOST_STEPS", 1000)
    refuse_long_pickle(io.BytesIO(b"\x80\x02" + b"N0" * 400 + b"N."))
    with pytest.raises(LongPickleError, match="takes more than 1000 steps"):
        refuse_long_pickle(io.BytesIO(b"\x80\x02" + b"N0" * 1000 + b"N."))
