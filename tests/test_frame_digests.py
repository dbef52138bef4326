"""Frames are known by their content and not by their place, cheaply; and a run that resumes refuses other ones."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_runs import HEIGHT, LENGTH, WIDTH, BlackFrames, SmallModel, interrupting, make_dataset, make_run
from typer.testing import CliRunner

from harness.cli.main import build
from harness.datasets.shapes import PLUGIN as SHAPES
from harness.errors import UserError
from harness.frame_digests import SAMPLE_BYTES, FrameDigests, digests_of
from harness.frames import DigestedFrames
from harness.frames import Image as Pixels
from harness.image_files import ImageFrames
from harness.runner import Run, execute
from harness.types import Dataset
from harness.video_file import VideoFileFrames, write_video

NAMES = [f"{frame}.png" for frame in range(LENGTH)]


def write_frames(root: Path, videos: int = 4, shade: int = 0) -> Path:
    """Frames of one size in bytes whatever the shade, which is that of every frame."""
    for video in range(1, videos + 1):
        (root / str(video)).mkdir(parents=True)
        for frame, name in enumerate(NAMES):
            pixels = np.full((HEIGHT, WIDTH, 3), 10 * video + frame + shade, np.uint8)
            Image.fromarray(pixels).save(root / str(video) / name, compress_level=0)
    return root


def frames_of(root: Path, video: int = 1) -> ImageFrames:
    return ImageFrames(root, [f"{video}/{name}" for name in NAMES], HEIGHT, WIDTH, str(video))


def dataset_on(root: Path) -> Dataset:
    plain = make_dataset()
    return replace(plain, videos=tuple(replace(v, frames=frames_of(root, v.id)) for v in plain.videos))


def run_on(root: Path, runs: Path, model: SmallModel | None = None, verify: bool = False) -> Run:
    return make_run(runs, model, dataset_on(root), verify_frames=verify)


def test_the_same_frames_elsewhere_and_deeper_are_known_by_the_same(tmp_path: Path) -> None:
    write_frames(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "deeper")
    deeper = ImageFrames(tmp_path / "b", [f"deeper/1/{name}" for name in NAMES], HEIGHT, WIDTH)
    for whole in (False, True):
        assert digests_of(frames_of(tmp_path / "a"), whole) == digests_of(deeper, whole)


def test_frames_of_other_content_or_size_are_told_one_by_one(tmp_path: Path) -> None:
    root = write_frames(tmp_path)
    before = digests_of(frames_of(root))
    for frame, name in enumerate(NAMES):
        path = root / "1" / name
        kept = path.read_bytes()
        path.write_bytes(bytes(reversed(kept)))  # of the same size
        now = digests_of(frames_of(root))
        assert [a == b for a, b in zip(before.sampled, now.sampled, strict=True)] == [i != frame for i in range(LENGTH)]
        path.unlink()
        assert digests_of(frames_of(root)).sampled[frame] != before.sampled[frame]
        path.write_bytes(kept)
    assert digests_of(frames_of(root)) == before


def test_what_lies_between_the_samples_counts_as_a_whole_only(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(5)]
    for name in names:
        (tmp_path / name).write_bytes(bytes(3 * SAMPLE_BYTES))
    frames = ImageFrames(tmp_path, names, HEIGHT, WIDTH)
    before = digests_of(frames, whole=True)
    for name, place in (("0.png", 3 * SAMPLE_BYTES // 2), ("1.png", 0)):
        changed = bytearray(3 * SAMPLE_BYTES)
        changed[place] = 1
        (tmp_path / name).write_bytes(changed)
    now = digests_of(frames, whole=True)
    assert now.sampled == before.sampled
    assert [a == b for a, b in zip(before.whole, now.whole, strict=True)] == [False, False, True, True, True]


def test_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"1")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "0.png").symlink_to(tmp_path / "secret")
    found = [digests_of(ImageFrames(tmp_path / "root", ["0.png"], 1, 1), whole=True) for _ in range(2)]
    (tmp_path / "secret").write_bytes(b"2")
    assert found[0] == found[1] == digests_of(ImageFrames(tmp_path / "root", ["0.png"], 1, 1), whole=True)


def test_a_video_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [np.full((32, 48, 3), 9, np.uint8)] * 3, 5)
    shutil.copy(tmp_path / "a.mp4", tmp_path / "b.mp4")
    write_video(tmp_path / "c.mp4", [np.full((32, 48, 3), 90, np.uint8)] * 3, 5)
    a, b, c = (digests_of(VideoFileFrames(tmp_path / name), whole=True) for name in ("a.mp4", "b.mp4", "c.mp4"))
    assert a == b != c


def test_generated_frames_are_known_by_what_they_are_drawn_from() -> None:
    one, two = SHAPES.open(Path(), "val").videos[:2]
    assert isinstance(one.frames, DigestedFrames)
    assert digests_of(one.frames) == digests_of(one.frames) != digests_of(two.frames)
    assert len(set(digests_of(one.frames, whole=True).whole)) == len(one.frames)


def test_frames_of_others_are_known_by_some_of_their_pixels_or_by_what_they_say() -> None:
    class Grey(BlackFrames):
        def __getitem__(self, frame_index: int, /) -> Pixels:
            return super().__getitem__(frame_index) + np.uint8(100 if frame_index == self.at else 0)

        at = 2

    class Named(BlackFrames):
        def digests(self, whole: bool) -> list[str]:
            return ["sha256=" + "0" * 64]  # looks like the mark of a shard's checksum

    assert digests_of(BlackFrames()) == digests_of(BlackFrames()) != digests_of(Grey())
    late = Grey(9)
    assert digests_of(BlackFrames(9)) == digests_of(late)
    assert digests_of(BlackFrames(9), whole=True) != digests_of(late, whole=True)
    (digest,) = digests_of(Named()).sampled
    assert len(digest) == 12


@pytest.mark.parametrize("at", [3, 5])
def test_other_frames_are_refused_whether_the_run_was_finished_or_not(tmp_path: Path, at: int) -> None:
    a, b = write_frames(tmp_path / "a"), write_frames(tmp_path / "b", shade=1)
    try:
        execute(run_on(a, tmp_path / "runs", interrupting(at)))
    except KeyboardInterrupt:
        assert at == 3
    run, model = run_on(b, tmp_path / "runs", SmallModel()), SmallModel()
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file() and path.name != "run.log"}
    with pytest.raises(UserError) as caught:
        execute(run_on(b, tmp_path / "runs", model))
    assert str(caught.value) == (
        f"{b / '1' / '0.png'} (video 1, frame 0): not what its predictions in {run.folder} were made from;"
        f" the same holds for {at - 1} of the {at - 1} videos that are done;"
        " restore the earlier frames, start over (fresh),"
        " or name another runs_dir"
    )
    assert (model.loads, model.seen) == (0, [])
    assert {path: path.read_bytes() for path in before} == before
    execute(run_on(b, tmp_path / "runs", model), fresh=True)
    assert model.seen == [1, 2, 3, 4]
    with pytest.raises(UserError, match="video 1, frame 0"):
        execute(run_on(a, tmp_path / "runs"))


def test_one_frame_that_was_exchanged_is_named(tmp_path: Path) -> None:
    root = write_frames(tmp_path / "a")
    execute(run_on(root, tmp_path / "runs"))
    shutil.copy(root / "2" / "0.png", root / "3" / "2.png")
    with pytest.raises(UserError, match=r"3/2\.png \(video 3, frame 2\): not what its predictions in"):
        execute(run_on(root, tmp_path / "runs"))
    (root / "3" / "2.png").unlink()
    with pytest.raises(UserError, match=r"3/2\.png \(video 3, frame 2\)"):
        execute(run_on(root, tmp_path / "runs"))


def test_moved_frames_resume_without_a_word(tmp_path: Path) -> None:
    root = write_frames(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        execute(run_on(root, tmp_path / "runs", interrupting(3)))
    root.rename(tmp_path / "b")
    model = SmallModel()
    outcome = execute(run_on(tmp_path / "b", tmp_path / "runs", model))
    assert (model.seen, outcome.exit_code, outcome.messages) == ([3, 4], 0, ())
    whole = run_on(tmp_path / "b", tmp_path / "other")
    execute(whole)
    for video in range(1, 5):
        assert run_on(root, tmp_path / "runs").store.path(video).read_bytes() == whole.store.path(video).read_bytes()


def test_frames_that_are_added_by_and_by_are_no_others(tmp_path: Path) -> None:
    """Videos that are not done yet may get their frames later."""
    root = write_frames(tmp_path / "a", videos=2)

    def before(video_id: int) -> None:
        if video_id > 2:
            raise UserError("frames", "are missing")

    assert execute(run_on(root, tmp_path / "runs", SmallModel(before))).exit_code == 2
    shutil.rmtree(root)
    write_frames(root)
    assert execute(run_on(root, tmp_path / "runs")).exit_code == 0


def test_all_content_is_compared_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("harness.frame_digests.SAMPLE_BYTES", 16)
    root = write_frames(tmp_path / "a")
    changed = root / "2" / "1.png"
    kept = changed.read_bytes()
    middle = len(kept) // 2
    other = kept[:middle] + bytes([kept[middle] ^ 1]) + kept[middle + 1 :]

    execute(run_on(root, tmp_path / "sampled"))
    changed.write_bytes(other)
    assert execute(run_on(root, tmp_path / "sampled", verify=True)).exit_code == 0
    assert "predictions of 4 of 4 videos were made without --verify-frames" in caplog.text

    execute(run_on(root, tmp_path / "whole", verify=True))
    changed.write_bytes(kept)
    assert execute(run_on(root, tmp_path / "whole")).exit_code == 0
    with pytest.raises(UserError, match=r"2/1\.png \(video 2, frame 1\)"):
        execute(run_on(root, tmp_path / "whole", verify=True))


def test_predictions_of_a_version_that_noted_no_frames_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    execute(run)
    assert run.store.read_frames(1) == digests_of(run.videos[0].frames)
    run.store.write_video(run.videos[1], run.store.read_video(2))
    assert run.store.read_frames(2) is None
    with pytest.raises(UserError, match=r"2\.parquet: was written by a version that did not record the frames"):
        execute(make_run(tmp_path))
    assert execute(make_run(tmp_path), fresh=True).exit_code == 0


def test_digests_of_any_text_leave_a_shards_checksum_alone(tmp_path: Path) -> None:
    store, video = make_run(tmp_path).store, make_dataset().videos[0]
    from harness.run_folder.store import tabulate

    frames = FrameDigests(("sha256=" + "0" * 64,), ("sha256=" + "1" * 64,))
    store.write_table(video, tabulate(video, []), frames)
    assert store.read_frames(1) == frames
    assert store.read_video(1) == []


def test_the_command_refuses_other_frames_of_the_same_annotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "a", 2), write_frames(tmp_path / "b", 2, shade=1)
    size = {"height": HEIGHT, "width": WIDTH, "length": LENGTH}
    box = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
    document = {
        "videos": [{"id": v, **size, "file_names": [f"{v}/{name}" for name in NAMES]} for v in (1, 2)],
        "categories": [{"id": 1, "name": "box"}],
        "annotations": [
            {"id": v, "video_id": v, "category_id": 1, "iscrowd": 0, "areas": [9] * LENGTH, "segmentations": [box] * 3}
            for v in (1, 2)
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(document))

    def run(folder: str, *options: str) -> tuple[int, str]:
        given = ["--model", "oracle", "--annotations", "gt.json", "--frames", folder, "--protocol", "ytvis"]
        result = CliRunner().invoke(build(), ["run", *given, "--no-mlflow", "--json", *options])
        return result.exit_code, str(result.exception) if isinstance(result.exception, UserError) else ""

    assert run("a") == (0, "")
    assert "b/1/0.png (video 1, frame 0): not what its predictions" in run("b")[1]
    (tmp_path / "a").rename(tmp_path / "moved")
    assert run("moved") == (0, "")
    assert run("b", "--fresh") == (0, "")
    assert run("b", "--runs-dir", "elsewhere") == (0, "")
