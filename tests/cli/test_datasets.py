"""``harness datasets``: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_copies import write_copy
from PIL import Image
from typer.testing import CliRunner, Result

from harness.cli.datasets import app
from harness.errors import UserError


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_list_names_every_dataset() -> None:
    listed = {row["name"]: row for row in json.loads(invoke("list", "--json").stdout)["datasets"]}
    assert {"lvvis", "ytvis2019", "ytvis2021", "ovis", "burst", "shapes"} <= set(listed)
    assert listed["lvvis"]["splits"] == ["train", "val", "test"]
    assert listed["lvvis"]["default_split"] == "val"
    shown = invoke("list")
    assert shown.exit_code == 0
    assert "ytvis2021" in shown.stdout


def test_check_of_a_complete_dataset_succeeds() -> None:
    result = invoke("check", "shapes", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["complete"] is True
    assert "shapes in generated: complete" in invoke("check", "shapes").stdout


def test_check_of_an_incomplete_copy_fails_and_says_what_is_missing(tmp_path: Path) -> None:
    write_copy(tmp_path, "lvvis/val_instances_.json", "lvvis/val/JPEGImages", "lvvis")
    (tmp_path / "lvvis/val/JPEGImages/v2/1.jpg").unlink()
    result = invoke("check", "lvvis", "--data-root", tmp_path, "--split", "val")
    assert result.exit_code == 1
    for words in ("corrected release", "2 of 837", "missing frames: 1, first: v2/1.jpg", "get the rest from https"):
        assert words in result.stdout
    record = json.loads(invoke("check", "lvvis", "--data-root", tmp_path, "--split", "val", "--json").stdout)
    assert record["splits"][0]["missing_frames"] == {"count": 1, "first": ["v2/1.jpg"]}


def test_check_of_an_empty_folder_fails(tmp_path: Path) -> None:
    result = invoke("check", "ovis", "--data-root", tmp_path)
    assert result.exit_code == 1
    assert result.stdout.count("no annotation file") == 3


@pytest.mark.parametrize("arguments", [("check", "lvviz"), ("check", "lvvis", "--split", "vale")])
def test_unknown_names_are_user_errors(arguments: tuple[str, ...]) -> None:
    error = invoke(*arguments).exception
    assert isinstance(error, UserError)
    assert "did you mean" in str(error)


def test_show_draws_frames_and_their_truth(tmp_path: Path) -> None:
    path = tmp_path / "shapes.png"
    result = invoke("show", "shapes", "--videos", "2", "--frames", "3", "--out", path, "--json")
    assert json.loads(result.stdout)["picture"] == str(path)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (4 * (192 + 4), 3 * (256 + 4), 3)
    plain, drawn = sheet[:192, :256], sheet[196 : 196 + 192, :256]
    assert 0.01 < (plain != drawn).any(-1).mean() < 0.7


def test_show_of_a_split_without_truth_says_so(tmp_path: Path) -> None:
    write_copy(tmp_path, "lvvis/test_instances.json", "lvvis/test/JPEGImages", "lvvis", truth=False)
    result = invoke("show", "lvvis", "--split", "test", "--data-root", tmp_path)
    assert isinstance(result.exception, UserError)
    assert "truth is withheld" in str(result.exception)
