"""``harness predict``: words on a video file or a folder of frames, to results.json and an overlay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from harness.cli.predict import predict
from harness.errors import UserError
from harness.video_file import VideoFileFrames, open_video, write_video


def invoke(*arguments: Any) -> Result:
    app = typer.Typer()
    app.command()(predict)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def pictures(frames: int = 5, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """A bright box that moves over a dark ground."""
    out = []
    for f in range(frames):
        image = np.full((height, width, 3), 30, np.uint8)
        image[10:30, 5 * f : 5 * f + 20] = (220, 120, 40)
        out.append(image)
    return out


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    write_video(path, pictures(), 5)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "frames"
    path.mkdir()
    for f, image in enumerate(pictures()):
        Image.fromarray(image).save(path / f"{f:03d}.png")
    return path


def test_words_on_a_video_file(clip: Path, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    options = ("--set", "short_edge=64", "--set", "detections_per_video=4", "--threshold", 0, "--json")
    done = invoke("--model", "clipvis", "--checkpoint", saved, "--video", clip, "--words", "red box, cat", "--out", out,
                  "--device", "cpu", *options)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["tracks"] == 4
    results = json.loads((out / "results.json").read_text())
    assert len(results) == 4
    assert {r["category"] for r in results} <= {"red box", "cat"}
    assert all(len(r["segmentations"]) == 5 and r["segmentations"][0]["size"] == [48, 64] for r in results)
    drawn = VideoFileFrames(out / "overlay.mp4")
    assert (len(drawn), drawn.height, drawn.width) == (5, 48, 64)


def test_a_folder_of_frames_gives_frames(folder: Path, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    done = invoke("--model", "clipvis", "--checkpoint", saved, "--video", folder, "--words", "box", "--out", out,
                  "--set", "short_edge=64", "--set", "detections_per_video=2", "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert len(list((out / "overlay").glob("*.jpg"))) == 5


def test_a_phone_video_gives_masks_and_overlay_of_the_turned_frames(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    video = Path(__file__).parents[1] / "data/video/rot90.mp4"
    done = invoke("--model", "clipvis", "--checkpoint", saved, "--video", video, "--words", "red box", "--out", out,
                  "--device", "cpu", "--set", "short_edge=64", "--set", "detections_per_video=1")  # fmt: skip
    assert done.exit_code == 0, done.output
    masks = json.loads((out / "results.json").read_text())[0]["segmentations"]
    assert [mask["size"] for mask in masks] == [[96, 64]] * 6
    drawn = VideoFileFrames(out / "overlay.mp4")
    assert (drawn.height, drawn.width) == (96, 64)


@pytest.mark.parametrize(("words", "message"), [(" , ", "names nothing"), ("cat, dog, Cat", '"Cat" is given twice')])
def test_words_that_are_none_or_repeated_are_refused(clip: Path, tmp_path: Path, words: str, message: str) -> None:
    done = invoke("--model", "clipvis", "--video", clip, "--words", words, "--out", tmp_path / "o")
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert not (tmp_path / "o").exists()


def test_no_weights_no_video_and_no_frames_are_refused(clip: Path, tmp_path: Path) -> None:
    base = ("--model", "clipvis", "--words", "cat", "--out", tmp_path / "o", "--video")
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "empty").mkdir()
    for video, message in (
        (clip, "has no weights"),
        (tmp_path / "nowhere.mp4", "neither a video file nor a folder"),
        (tmp_path / "text.mp4", "is not a video"),
        (tmp_path / "empty", "has no frames"),
    ):
        done = invoke(*base, video)
        assert isinstance(done.exception, UserError)
        assert message in str(done.exception)


def test_frames_of_a_video_file_in_any_order(clip: Path) -> None:
    frames = VideoFileFrames(clip)
    inorder = [frames[i] for i in range(5)]
    assert np.array_equal(frames[1], inorder[1])  # back: opened again
    assert np.array_equal(frames[4], inorder[4])
    assert np.array_equal(frames[2], inorder[2])  # asked for late, kept meanwhile
    video, rate = open_video(clip)
    assert rate == 5
    ahead = list(video.read())
    assert all(np.array_equal(a, b) for a, b in zip(ahead, inorder, strict=True))
    assert np.abs(ahead[0].astype(int) - pictures()[0]).mean() < 12  # lossy, but the same picture
    with pytest.raises(IndexError):
        frames[5]
