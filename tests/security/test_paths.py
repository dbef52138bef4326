"""No name in a file leads out of the folder it belongs to, and nothing is written through a link in a run folder.

What leaves the root of frames is in `test_image_files`; names of run folders are in `test_runner`, of pages in
`test_leaderboard`, of frames for training in `test_image_sets`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mutations import error_text
from small_runs import make_run
from vis_documents import box, document

from harness.datasets.youtube_vis_format import open_custom
from harness.runner import execute
from harness.video_file import open_video, write_video

OUTSIDE = ("../secret.png", "v1/../../secret.png", "/secret.png", "..\\secret.png", "v1/..")


@pytest.mark.parametrize("name", OUTSIDE)
def test_frames_of_annotations(tmp_path: Path, name: str) -> None:
    truth = document()
    truth["videos"][0]["file_names"][1] = name
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "frames").mkdir()
    said = error_text(lambda: open_custom(tmp_path / "gt.json", tmp_path / "frames", "lvvis"))
    assert "video 1" in said
    assert "is not a path below its folder" in said


@pytest.mark.parametrize("part", ["dataset", "seq_name", "annotated_image_paths"])
def test_frames_of_a_burst_file(tmp_path: Path, part: str) -> None:
    sequence = {
        "id": 1, "dataset": "d", "seq_name": "s", "height": 20, "width": 30, "track_category_ids": {"7": 13},
        "annotated_image_paths": ["frame0001.jpg"],
        "segmentations": [{"7": {"rle": box(20, 30, 2, 2, 9, 9)["counts"]}}],
        part: ["../../../frame0001.jpg"] if part == "annotated_image_paths" else "../..",
    }  # fmt: skip
    file = {"split": "val", "categories": [{"id": 13, "name": "apple", "frequency": "c"}], "sequences": [sequence]}
    (tmp_path / "gt.json").write_text(json.dumps(file))
    (tmp_path / "frames").mkdir()
    said = error_text(lambda: open_custom(tmp_path / "gt.json", tmp_path / "frames", "burst"))
    assert "is not a path below its folder" in said


def test_a_playlist_reads_no_other_file(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.mp4", [np.zeros((32, 48, 3), np.uint8)] * 3, 5)
    assert error_text(lambda: open_video(tmp_path / "secret.mp4")) == ""
    playlists = (
        "ffconcat version 1.0\nfile secret.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><BaseURL>secret.mp4</BaseURL></MPD>',
    )
    for number, text in enumerate(playlists):
        for suffix in ("mp4", "m3u8", "mpd", "txt"):
            path = tmp_path / f"{number}.{suffix}"
            path.write_text(text)
            assert f"{path}: is not a video" in error_text(lambda path=path: open_video(path))  # type: ignore[misc]


@pytest.mark.parametrize("name", ["run.lock", "run.log"])
def test_a_link_in_a_run_folder_is_not_written_through(tmp_path: Path, name: str) -> None:
    run, kept = make_run(tmp_path / "runs"), tmp_path / "kept.txt"
    execute(run)
    kept.write_text("mine")
    (run.folder / name).unlink()
    (run.folder / name).symlink_to(kept)
    said = error_text(lambda: execute(make_run(tmp_path / "runs")))
    assert str(run.folder) in said
    assert kept.read_text() == "mine"


def test_links_in_place_of_other_files_are_replaced(tmp_path: Path) -> None:
    run, kept = make_run(tmp_path / "runs"), tmp_path / "kept.txt"
    execute(run)
    kept.write_text("mine")
    names = [p.name for p in run.folder.iterdir() if p.is_file() and p.name not in ("run.lock", "run.log")]
    for name in names:
        (run.folder / name).unlink()
        (run.folder / name).symlink_to(kept)
    assert "metrics.json" in names
    error_text(lambda: execute(make_run(tmp_path / "runs"), fresh=True))
    assert kept.read_text() == "mine"
