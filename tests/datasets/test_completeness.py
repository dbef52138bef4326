"""Whether a copy is complete: what is found against what there should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_copies import Write
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.datasets.completeness import CopyCounts, CopyReport, SplitReport, check_frames
from harness.datasets.lvvis import PLUGIN as LVVIS
from harness.datasets.youtube_vis_format import Release, Split, VisDataset
from harness.errors import UserError

JPEG_OF_ONE_PIXEL = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")


def tiny(train: int = 2) -> VisDataset:
    """A dataset of two videos per split in one release."""
    splits = tuple(
        Split(name, (Release("only release", (f"{name}.json",), 2),), (name,), name == "train", videos, 4)
        for name, videos in (("train", train), ("val", 2))
    )
    return VisDataset("tiny", "Tiny", "a test's", splits, "train", ("tiny",), "ovis", "ytvis", "the shop", "the server")


def train_report(root: Path, dataset: VisDataset | None = None) -> SplitReport:
    report = (dataset or tiny()).check(root, "train")
    assert len(report.splits) == 1
    return report.splits[0]


@pytest.fixture
def copy(tmp_path: Path, write: Write) -> Path:
    write("tiny/train.json", "tiny/train", "ovis")
    return tmp_path


def test_a_complete_copy(copy: Path) -> None:
    report = train_report(copy)
    assert report.complete
    assert report.found == report.expected == CopyCounts(2, 4, 2, 25)
    assert report.release == "only release"
    assert report.truth == "in the file: 2 tracks"


def test_all_splits_are_checked_unless_one_is_named(copy: Path, write: Write) -> None:
    report = tiny().check(copy)
    assert [s.complete for s in report.splits] == [True, False]
    assert not report.complete
    assert "no annotation file" in report.splits[1].faults[0]
    write("tiny/val.json", "tiny/val", "ovis", truth=False)
    report = tiny().check(copy)
    assert report.splits[1].truth == "not in the file; server only: the server"
    assert report.splits[1].found.tracks is None
    assert report.complete


def test_missing_and_truncated_frames_are_counted_and_named(copy: Path) -> None:
    (copy / "tiny/train/v1/0.jpg").unlink()
    path = copy / "tiny/train/v2/1.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    report = train_report(copy)
    assert not report.complete
    assert (report.missing_frames.count, report.missing_frames.first) == (1, ("v1/0.jpg",))
    assert (report.truncated_frames.count, report.truncated_frames.first) == (1, ("v2/1.jpg",))


def test_only_the_first_few_are_named(tmp_path: Path) -> None:
    missing, truncated, _ = check_frames(tmp_path, (f"v/{n}.jpg" for n in range(1000)))
    assert (missing.count, len(missing.first), truncated.count) == (1000, 5, 0)


def test_frames_outside_of_their_folder_are_faults(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "0.jpg").write_bytes(JPEG_OF_ONE_PIXEL)
    (tmp_path / "root/link.jpg").symlink_to(tmp_path / "0.jpg")
    missing, truncated, _ = check_frames(tmp_path / "root", ["../0.jpg", "link.jpg"])
    assert (missing.count, truncated.count) == (0, 2)
    assert "leads out of" in truncated.first[1]


@given(st.binary(max_size=80), st.integers(1, len(JPEG_OF_ONE_PIXEL) - 3))
def test_a_jpeg_cut_anywhere_is_truncated(tmp_path_factory: pytest.TempPathFactory, scan: bytes, cut: int) -> None:
    # In a JPEG scan 0xff is followed by 0, so that the end marker cannot stand in it.
    whole = JPEG_OF_ONE_PIXEL[:-2] + scan.replace(b"\xff", b"\xff\x00") + b"\xff\xd9"
    folder = tmp_path_factory.mktemp("frames")
    (folder / "whole.jpg").write_bytes(whole)
    (folder / "cut.jpg").write_bytes(whole[:-cut])
    missing, truncated, _ = check_frames(folder, ["whole.jpg", "cut.jpg"])
    assert (missing.count, truncated.first) == (0, ("cut.jpg",))


def test_a_png_without_its_end_and_an_empty_file_are_truncated(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    (tmp_path / "1.webp").write_bytes(b"")
    assert check_frames(tmp_path, ["0.png", "1.webp"]).truncated.count == 2


def test_frames_of_another_format_are_told(tmp_path: Path) -> None:
    for name, kind in (("0.jpg", "BMP"), ("1.png", "TIFF"), ("2.webp", "WEBP"), ("3.jpg", "WEBP")):
        Image.new("RGB", (9, 6)).save(tmp_path / name, format=kind)
    (tmp_path / "3.jpg").write_bytes((tmp_path / "3.jpg").read_bytes()[:-1])
    (tmp_path / "4.jpg").write_text("version https://git-lfs.github.com/spec/v1")
    faults = check_frames(tmp_path, [path.name for path in sorted(tmp_path.iterdir())])
    assert faults.truncated.count == 4
    assert faults.truncated.first == (
        "0.jpg (a BMP image, which is not read)",
        "1.png (a TIFF image, which is not read)",
        "3.jpg",
        "4.jpg (not an image)",
    )


def test_fewer_videos_than_there_should_be(copy: Path) -> None:
    report = train_report(copy, tiny(train=3))
    assert not report.complete
    assert report.shortfall == ("2 videos, 3 expected",)


def test_truncated_annotations_are_a_fault(copy: Path) -> None:
    path = copy / "tiny/train.json"
    path.write_text(path.read_text()[:-50])
    report = train_report(copy)
    assert not report.complete
    assert "truncated JSON" in report.faults[0]


def test_a_missing_folder_of_frames_is_a_fault(tmp_path: Path, write: Write) -> None:
    write("tiny/train.json", "tiny/val", "ovis")  # those of another split are not taken
    report = train_report(tmp_path)
    assert report.missing_frames.count == 4
    assert "no folder of frames" in report.faults[0]


def test_truth_that_should_be_there_is_a_fault(tmp_path: Path, write: Write) -> None:
    write("tiny/train.json", "tiny/train", "ovis", truth=False)
    assert "has no annotations" in train_report(tmp_path).faults[0]


def test_another_category_list_is_a_note(tmp_path: Path, write: Write) -> None:
    write("tiny/train.json", "tiny/train", "ytvis2019")
    report = train_report(tmp_path)
    assert "category list differs" in report.notes[0]
    assert report.complete


def test_the_release_in_use_is_named(tmp_path: Path, write: Write) -> None:
    write("lvvis/val_instances.json", "lvvis/val/JPEGImages", "lvvis")
    report = LVVIS.check(tmp_path, "val").splits[0]
    assert report.release == "first release"
    assert "not comparable" in report.notes[0]
    assert report.expected == CopyCounts(837, 19_139, None, 1196)
    files = "the corrected release's files, 2026-09-01"
    assert report.shortfall == (f"2 videos, 837 expected ({files})", f"4 frames, 19139 expected ({files})")


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="known: train, val"):
        tiny().check(tmp_path, "holdout")


def test_the_report_as_data(copy: Path) -> None:
    report = tiny().check(copy, "train")
    assert isinstance(report, CopyReport)
    record = report.to_dict()
    assert record["complete"] is True
    assert record["home"] == "the shop"
    assert record["splits"][0]["found"] == {"videos": 2, "frames": 4, "tracks": 2, "categories": 25}
    assert record["splits"][0]["missing_frames"] == {"count": 0, "first": []}
