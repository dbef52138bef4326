"""Names of frames in a user's own annotation file: one rule for every way to write them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dataset_copies import write_frames
from vis_documents import document

from harness.datasets.frame_paths import FramePaths, tail
from harness.datasets.youtube_vis_format import open_custom
from harness.errors import UserError

CUSTOM = Path(__file__).parent.parent / "data" / "field_inputs" / "custom"
FRAMES = [tuple(f"0000{video}/0000{frame}.jpg" for frame in range(3)) for video in (1, 2)]
NOT_FOUND = {"flat.json": "00000.jpg", "pngnames.json": "00001/00000.png"}
"""Files whose frames are not there, with the first."""


@pytest.mark.parametrize("name", sorted(path.name for path in CUSTOM.glob("*.json")))
def test_every_way_to_write_the_names(tmp_path: Path, name: str) -> None:
    frames = shutil.copytree(CUSTOM / "frames", tmp_path / "frames")
    file = tmp_path / "my data_(v2) 50%&x#é.json"
    file.write_text((CUSTOM / name).read_text(encoding="utf-8").replace("@FRAMES@", str(frames)), encoding="utf-8")
    dataset = open_custom(file, frames, "ytvis")
    if name in NOT_FOUND:
        with pytest.raises(UserError, match=rf"{NOT_FOUND[name]} \(video 1, frame 0\): frame is missing"):
            list(dataset.videos[0].read())
        return
    assert [video.frames.file_names for video in dataset.videos] == FRAMES  # type: ignore[attr-defined]
    assert [frame.shape for video in dataset.videos for frame in video.read()] == [(24, 32, 3)] * 6


WAYS: dict[str, Callable[[str], str]] = {
    "relative": lambda name: name,
    "dot": lambda name: f"./{name}",
    "doubled slash": lambda name: name.replace("/", "//"),
    "back slashes": lambda name: name.replace("/", "\\"),
    "a drive of Windows": lambda name: "D:\\data\\" + name.replace("/", "\\"),
    "JPEGImages": lambda name: f"JPEGImages/{name}",
    "absolute elsewhere": lambda name: f"/data/ytvis/train/JPEGImages/{name}",
    "absolute here": lambda name: f"@FRAMES@/{name}",
    "up and down": lambda name: f"../frames/{name}",
}


@pytest.mark.parametrize("way", WAYS)
def test_one_rule(tmp_path: Path, way: str) -> None:
    frames = tmp_path / "frames"
    write_frames(frames)
    truth = document()
    for video in truth["videos"]:
        video["file_names"] = [WAYS[way](name).replace("@FRAMES@", str(frames)) for name in video["file_names"]]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    dataset = open_custom(tmp_path / "gt.json", frames, "ytvis")
    assert [int(frame[0, 0, 0]) for video in dataset.videos for frame in video.read()] == [40, 41, 80, 81]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_ways_may_differ_within_a_file(tmp_path: Path) -> None:
    paths = FramePaths(touch(tmp_path, "a/0.jpg", "b/c/0.jpg", "d/0.jpg"))
    assert paths.of_video(["train/a/0.jpg", "train/a/1.jpg"], "v") == ["a/0.jpg", "a/1.jpg"]
    assert paths.of_video(["/data/b/c/0.jpg"], "v") == ["b/c/0.jpg"]
    assert paths.of_video(["./d/0.jpg"], "v") == ["d/0.jpg"]
    assert paths.of_video(["e/0.jpg"], "v") == ["e/0.jpg"]  # said to be missing when it is read


def test_the_longest_end_counts(tmp_path: Path) -> None:
    paths = FramePaths(touch(tmp_path, "JPEGImages/a/0.jpg", "a/0.jpg"))
    assert paths.of_video(["x/JPEGImages/a/0.jpg"], "v") == ["JPEGImages/a/0.jpg"]


def test_two_folders_are_never_taken_for_one(tmp_path: Path) -> None:
    paths = FramePaths(touch(tmp_path, "a/0.jpg"))
    paths.of_video(["train/a/0.jpg"], "v")
    with pytest.raises(UserError, match=r"video 2: frames of train/a and of valid/a are in one folder"):
        paths.of_video(["valid/a/0.jpg"], "gt.json, video 2")


@pytest.mark.parametrize(
    "name", ["", "/", "/data/a/0.jpg", "../a/0.jpg", "a/../../0.jpg", "a/\0.jpg", "\\\\host\\a.jpg"]
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "b/0.jpg")
    (tmp_path.parent / "0.jpg").touch()
    with pytest.raises(UserError, match="is not a path below its folder"):
        FramePaths(tmp_path).of_video([name], "v")


def test_names_longer_than_a_file_system_allows_are_missing_frames(tmp_path: Path) -> None:
    long = "v" * 5000
    assert FramePaths(tmp_path).of_video([f"{long}/0.jpg"], "v") == [f"{long}/0.jpg"]


def test_tails() -> None:
    assert tail(r".\data\JPEGImages\v1\0.jpg", 2) == "v1/0.jpg"
    assert tail("./v1//0.jpg", None) == "v1/0.jpg"
    assert tail("/v1/0.jpg", None) == "/v1/0.jpg"
