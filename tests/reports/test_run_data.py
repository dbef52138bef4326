"""Finding the data of a run folder again, and refusing other data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from run_folders import make_record
from vis_documents import document

from harness.datasets.shapes import PLUGIN as SHAPES
from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations
from harness.reports.run_data import dataset_of_run
from harness.run_folder.finished_run import FinishedRun


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document()))
    return path


def run_folder(parent: Path, **content: Any) -> Path:
    folder = parent / "run"
    folder.mkdir()
    fields = {"format": 2, "model": "oracle", "dataset": "mine", "split": "custom"}
    (folder / "config.json").write_text(json.dumps(fields | content))
    (folder / "metrics.json").write_text(json.dumps(make_record("oracle", "mine", "custom", AP=0.5)))
    return folder


def test_a_dataset_is_found_by_name_and_split(tmp_path: Path) -> None:
    expected = SHAPES.open(Path(), "test")
    folder = run_folder(tmp_path, dataset="shapes", split="test", digest=expected.digest)
    assert dataset_of_run(FinishedRun(folder), tmp_path) == expected


def test_a_file_takes_the_name_and_the_protocol_of_the_run(tmp_path: Path, annotations: Path) -> None:
    folder = run_folder(tmp_path, digest=read_annotations(annotations).digest)
    found = dataset_of_run(FinishedRun(folder), tmp_path, annotations)
    assert (found.name, found.split, found.protocol) == ("mine", "custom", "lvvis")
    assert [len(video.frames) for video in found.videos] == [2, 2]
    with pytest.raises(UserError, match="is not available"):
        found.videos[0].frames[0]
    assert [c.groups for c in found.categories] == [("base",), ("novel",)]


def test_frames_bring_the_videos(tmp_path: Path, annotations: Path) -> None:
    folder = run_folder(tmp_path, digest=read_annotations(annotations).digest)
    found = dataset_of_run(FinishedRun(folder), tmp_path, annotations, tmp_path)
    assert (found.name, found.split) == ("mine", "custom")
    assert [len(v.frames) for v in found.videos] == [2, 2]


def test_other_annotations_are_refused(tmp_path: Path, annotations: Path) -> None:
    folder = run_folder(tmp_path, digest="0" * 64)
    with pytest.raises(
        UserError, match=r"instances.json: is not the file that .*run was run on.*the run's 000000000000"
    ):
        dataset_of_run(FinishedRun(folder), tmp_path, annotations)


def test_the_users_own_data_has_to_be_named(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, digest="0" * 64)
    with pytest.raises(UserError, match=r"was run on a user's own data \(mine\); name the annotation file"):
        dataset_of_run(FinishedRun(folder), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a run folder: it has no config.json"),
        ("{", "is not the configuration of a run"),
        ('{"model": "oracle"}', "is not the configuration of a run"),
        ('{"model": 7, "dataset": "x", "split": "x", "digest": "x", "protocol": "x"}', "is not the configuration"),
    ],
)
def test_what_is_no_run_folder_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=message):
        assert FinishedRun(tmp_path).content
