"""A results file made elsewhere: checked against a split without its truth, and written as a server takes it."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dataset_copies import annotation_document
from typer.testing import CliRunner
from vis_documents import box, document, perfect

from harness.cli.main import build
from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations
from harness.submission import Submission, write_checked


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """The annotation file of a split whose truth only a server has."""
    data = document()
    del data["annotations"]
    (tmp_path / "test.json").write_text(json.dumps(data))
    return tmp_path / "test.json"


def write(folder: Path, results: Any) -> Path:
    file = folder / "results.json"
    file.write_text(results if isinstance(results, str) else json.dumps(results))
    return file


def checked(split: Path, results: Any, protocol: str = "ytvis", strict: bool = False) -> tuple[Submission, Any]:
    """What is told of a results file, and what is in the zip."""
    out = split.parent / "out.zip"
    told = write_checked(
        read_annotations(split), protocol, write(split.parent, results), out, zipped=True, strict=strict
    )
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ["results.json"]
        return told, json.loads(archive.read("results.json"))


def kinds(told: Submission) -> dict[str, int]:
    return {warning["kind"]: warning["count"] for warning in told.warnings}


def test_a_whole_file_is_written_as_it_is(split: Path) -> None:
    results = perfect(document())
    told, written = checked(split, results, strict=True)
    assert written == results
    assert (told.tracks, told.videos, told.warnings) == (2, 2, [])


def test_the_same_file_gives_the_same_zip(split: Path) -> None:
    checked(split, perfect(document()))
    first = (split.parent / "out.zip").read_bytes()
    checked(split, perfect(document()))
    assert (split.parent / "out.zip").read_bytes() == first


def test_other_forms_are_written_in_the_official_one(split: Path) -> None:
    results = perfect(document())
    odd = copy.deepcopy(results)
    odd[0]["video_id"], odd[0]["category_id"] = "1", 1.0
    odd[1]["segmentations"][0]["size"] = [20.0, "30"]
    odd[1]["more"] = {"note": "left out"}
    told, written = checked(split, odd)
    assert written == results
    assert len(told.warnings) == 3
    with pytest.raises(UserError, match="turn off strict"):
        checked(split, odd, strict=True)


def test_counts_with_a_backslash_survive(split: Path) -> None:
    mask = box(20, 30, 8, 3, 10, 5)
    results = perfect(document())
    results[0]["segmentations"] = [mask | {"counts": "\\" + mask["counts"][1:]}, None]
    with pytest.raises(UserError, match="frame 0: counts"):
        checked(split, results)  # it is read, in whichever way it is escaped
    text = json.dumps(perfect(document()))
    assert checked(split, text.replace("`", "\\u0060"))[1] == json.loads(text)


def change(at: int, **values: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda results: results[at].update(values)


def other_size(results: list[dict[str, Any]]) -> None:
    results[1]["segmentations"][0] = box(30, 20, 0, 0, 4, 4)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lambda results: results.pop(), "video without any prediction"),
        (change(1, category_id=9), "category not in the annotations, track dropped"),
        (change(1, score=3.0), "score outside [0, 1]"),
        (other_size, "mask size differs from the video's"),
        (lambda results: results[1]["segmentations"].pop(), "number of frames differs from the video's"),
        (lambda results: results.append(results[0]), "track repeated with the same video, category, score and masks"),
    ],
)
def test_what_is_odd_is_counted_and_refused_when_strict(
    split: Path, fault: Callable[[list[dict[str, Any]]], object], kind: str
) -> None:
    results = perfect(document())
    fault(results)
    assert kinds(checked(split, results)[0])[kind] == 1
    with pytest.raises(UserError) as caught:
        checked(split, results, strict=True)
    assert kind in str(caught.value)
    assert "turn off strict" in str(caught.value)


def test_tracks_of_other_categories_are_not_written(split: Path) -> None:
    results = perfect(document())
    results[1]["category_id"] = 9
    assert [track["category_id"] for track in checked(split, results)[1]] == [1]


def test_tracks_beyond_the_cap_are_counted(split: Path) -> None:
    results = perfect(document())
    results += [results[0] | {"score": 0.001 * n} for n in range(1, 102)]
    assert kinds(checked(split, results)[0])["track beyond the best 100 of its video and category, not counted"] == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (change(1, video_id=7), "record 1: unknown video 7"),
        (change(1, score=float("nan")), "record 1: score is"),
        (change(1, segmentations=[{"size": [20, 30], "counts": "0"}] * 2), "record 1, frame 0: counts end before"),
        (change(1, segmentations=[{"size": [20, 30], "counts": [600]}] * 2), "record 1, frame 0: mask is not a comp"),
        (list.clear, "has no tracks of this split's categories"),
    ],
)
def test_faults_are_refused_and_nothing_is_written(
    split: Path, fault: Callable[[list[dict[str, Any]]], object], message: str
) -> None:
    results = perfect(document())
    fault(results)
    with pytest.raises(UserError) as caught:
        checked(split, results)
    assert message in str(caught.value)
    assert not (split.parent / "out.zip").exists()


def test_masks_of_every_category_are_checked_though_there_is_no_truth(split: Path) -> None:
    data = document()
    data["annotations"] = data["annotations"][:1]  # the second category has no truth
    split.write_text(json.dumps(data))
    results = json.loads(json.dumps(perfect(document())))  # no shared masks
    results[1]["segmentations"][0]["counts"] = "0"
    with pytest.raises(UserError, match="record 1, frame 0"):
        checked(split, results)


def test_a_track_with_too_few_frames_is_refused_where_the_official_tool_aborts(split: Path) -> None:
    results = perfect(document())
    results[1]["segmentations"].pop()
    with pytest.raises(UserError, match="record 1: has 1 frames, video 2 has 2; write one mask or null per frame"):
        checked(split, results, protocol="ovis")


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(build(), ["export", *map(str, arguments)])


def test_the_command(split: Path) -> None:
    file = write(split.parent, perfect(document()))
    done = run("--predictions", file, "--dataset", "ytvis2021", "--annotations", split)
    assert done.exit_code == 0, done.exception
    assert done.stdout == (
        f"{split.parent}/results-checked.zip: 2 tracks, 2 videos; the truth is withheld, and the dataset's CodaLab"
        " server, linked from https://youtube-vos.org/dataset/vis/ takes no submissions any more (submissions ended on"
        " 31 December 2025: codalab/codalab-competitions #3625 and #3627, 2026-01-22)\n"
    )
    done = run("--predictions", file, "--dataset", "lvvis", "--split", "test", "--annotations", split)
    assert "2 videos; submit it to Codabench competition 1748" in done.stdout
    as_list = split.parent / "mine.json"
    run("--predictions", split.parent / "results-checked.zip", "--dataset", "ytvis2021", "--annotations", split,
        "--format", "results", "--out", as_list)  # fmt: skip
    assert json.loads(as_list.read_text()) == perfect(document())


def test_the_command_opens_the_dataset_below_the_data_root(split: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "ytvis2021" / "valid"
    folder.mkdir(parents=True)
    (folder / "instances.json").write_text(json.dumps(annotation_document("ytvis2021", truth=False)))
    file = write(tmp_path, perfect(annotation_document("ytvis2021")))
    done = run("--predictions", file, "--dataset", "ytvis2021", "--data-root", tmp_path / "data", "--strict")
    assert "2 tracks, 2 videos; the truth is withheld, and the dataset's" in done.stdout, done.exception


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs a run, or a results file"),
        (("run", "--predictions", "r.json"), "takes a run or --predictions, not both"),
        (("--predictions", "r.json"), "needs the dataset that it is for"),
        (("run", "--dataset", "lvvis"), "need --predictions"),
        (("--predictions", "r.json", "--dataset", "lvviss"), 'did you mean "lvvis"'),
    ],
)
def test_what_does_not_go_together(arguments: tuple[str, ...], message: str) -> None:
    assert message in str(run(*arguments).exception)
