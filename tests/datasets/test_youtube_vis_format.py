"""Opening datasets of the YouTube-VIS form: where files may lie, which list they must have, what is refused.

Tests of `datasets/lvvis.py`, `datasets/ovis.py`, `datasets/uvo.py` and `datasets/ytvis.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_copies import Write

from harness import plugins
from harness.datasets.lvvis import PLUGIN as LVVIS
from harness.datasets.ovis import PLUGIN as OVIS
from harness.datasets.youtube_vis_format import refusals
from harness.datasets.ytvis import YTVIS2019, YTVIS2021
from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations
from harness.types import Dataset

VAL = "lvvis/val_instances_.json", "lvvis/val/JPEGImages", "lvvis"


def group_sizes(dataset: Dataset) -> dict[str, int]:
    names = [group for category in dataset.categories for group in category.groups]
    return {name: names.count(name) for name in sorted(set(names))}


def test_lvvis_opens_with_truth_groups_and_frames(tmp_path: Path, write: Write) -> None:
    write(*VAL)
    dataset = LVVIS.open(tmp_path, "val")
    assert (dataset.name, dataset.split, dataset.protocol, dataset.server) == ("lvvis", "val", "lvvis", None)
    assert group_sizes(dataset) == {"base": 641, "novel": 555}
    assert dataset.truth is not None
    assert [track.category_id for track in dataset.truth.tracks_of(2)] == [2]
    assert [int(frame[0, 0, 0]) for video in dataset.videos for frame in video.read()] == [40, 41, 80, 81]


@pytest.mark.parametrize("name", ["..\\..\\data\\JPEGImages\\{video}\\{frame}.jpg", "/abs/val/{video}/{frame}.jpg"])
def test_lvvis_uses_the_last_two_parts_of_a_file_name(tmp_path: Path, write: Write, name: str) -> None:
    write(*VAL, file_name=name)
    video = LVVIS.open(tmp_path, "val").videos[1]
    assert video.frames[1].shape == (20, 30, 3)


def test_the_corrected_release_is_preferred_and_the_first_one_warned_about(
    tmp_path: Path, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write("lvvis/val_instances.json", *VAL[1:])
    assert LVVIS.open(tmp_path, "val").annotations.path.endswith("val_instances.json")
    assert "first release" in caplog.text
    caplog.clear()
    write(*VAL)
    assert LVVIS.open(tmp_path, "val").annotations.path.endswith("val_instances_.json")
    assert not caplog.text


def test_the_data_root_may_be_the_folder_of_the_dataset_itself(tmp_path: Path, write: Write) -> None:
    write(*VAL)
    assert len(LVVIS.open(tmp_path / "lvvis", "val").videos) == 2


def test_a_missing_file_says_what_is_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        LVVIS.open(tmp_path, "val")
    message = str(error.value)
    assert str(tmp_path / "lvvis/val_instances_.json") in message
    assert str(tmp_path / "lvvis/val/JPEGImages") in message
    assert LVVIS.home in message
    assert "\n" not in message


def test_an_unknown_split_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'did you mean "val".*train'):
        YTVIS2019.open(tmp_path, "valid")


@pytest.mark.parametrize("empty", [None, []])
def test_withheld_truth_says_who_scores_it(tmp_path: Path, write: Write, empty: list[int] | None) -> None:
    written = write("lvvis/test_instances_.json", "lvvis/test/JPEGImages", "lvvis", truth=False)
    (tmp_path / "lvvis/test_instances_.json").write_text(json.dumps(written | {"annotations": empty}))
    dataset = LVVIS.open(tmp_path, "test")
    assert dataset.truth is None
    assert "Codabench" in str(dataset.server)
    written = write("ytvis2019/valid.json", "ytvis2019/valid/JPEGImages", "ytvis2019", truth=False)
    (tmp_path / "ytvis2019/valid.json").write_text(json.dumps(written | {"annotations": empty}))
    dataset = YTVIS2019.open(tmp_path, "val")
    assert (dataset.truth, dataset.server) == (None, None)
    assert "takes no submissions any more (submissions ended on 31 December 2025" in dataset.no_truth
    assert group_sizes(dataset) == {"base": 33, "novel": 7}


def test_a_public_split_without_annotations_is_refused(tmp_path: Path, write: Write) -> None:
    write(*VAL, truth=False)
    with pytest.raises(UserError, match="has no annotations"):
        LVVIS.open(tmp_path, "val")


def test_ytvis2021_lies_in_a_folder_per_split(tmp_path: Path, write: Write) -> None:
    write("ytvis2021/train/instances.json", "ytvis2021/train/JPEGImages", "ytvis2021")
    assert group_sizes(YTVIS2021.open(tmp_path, "train")) == {"base": 34, "novel": 6}


def test_ovis_frames_may_lie_right_in_the_split_and_has_no_groups(tmp_path: Path, write: Write) -> None:
    write("ovis/annotations_train.json", "ovis/train", "ovis")
    dataset = OVIS.open(tmp_path, "train")
    assert group_sizes(dataset) == {}
    assert dataset.videos[0].frames[0].shape == (20, 30, 3)


def test_the_list_of_another_release_is_refused(tmp_path: Path, write: Write) -> None:
    write("ytvis2019/train.json", "ytvis2019/train/JPEGImages", "ytvis2021")
    with pytest.raises(UserError, match="categories of ytvis2021, not of ytvis2019"):
        YTVIS2019.open(tmp_path, "train")


def test_a_list_of_nobody_is_used_with_a_warning(
    tmp_path: Path, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    written = write(*VAL)
    written["categories"] = [{"id": 1, "name": "my own", "partition": 2}]
    written["annotations"] = [a | {"category_id": 1} for a in written["annotations"]]
    (tmp_path / VAL[0]).write_text(json.dumps(written))
    dataset = LVVIS.open(tmp_path, "val")
    assert [(c.name, c.groups) for c in dataset.categories] == [("my own", ("novel",))]
    assert "not LV-VIS's category list" in caplog.text


def test_a_check_names_the_truth_on_which_the_official_tool_aborts(tmp_path: Path, write: Write) -> None:
    written = write(*VAL)
    written["categories"][0]["partition"] = "tail"
    (tmp_path / VAL[0]).write_text(json.dumps(written))
    assert any("partition" in line for line in refusals(read_annotations(tmp_path / VAL[0]), "lvvis"))


def test_videos_without_file_names_are_refused(tmp_path: Path, write: Write) -> None:
    written = write(*VAL)
    del written["videos"][1]["file_names"]
    (tmp_path / VAL[0]).write_text(json.dumps(written))
    with pytest.raises(UserError, match=r"video 2: 0 file names for 2 frames"):
        LVVIS.open(tmp_path, "val")


def test_frames_that_leave_their_folder_are_refused(tmp_path: Path, write: Write) -> None:
    write("ovis/annotations_train.json", "ovis/train", "ovis", file_name="../{video}/{frame}.jpg")
    with pytest.raises(UserError, match="not a path below its folder"):
        OVIS.open(tmp_path, "train")


def test_a_split_with_truth_can_be_trained_on(tmp_path: Path, write: Write) -> None:
    write("ytvis2019/train.json", "ytvis2019/train/JPEGImages", "ytvis2019")
    frames = YTVIS2019.training_set(tmp_path, "train")
    drawn = frames.draw(1, np.random.default_rng(0))
    assert (len(frames), frames.categories_of(1)) == (2, [1])
    assert int(drawn.image[0, 0, 0]) in (80, 81)
    assert drawn.instances[0].outline.sum() == 10 * (10 + int(drawn.image[0, 0, 0]) - 80)


def test_what_a_training_needs_is_told_before_it_begins(tmp_path: Path, write: Write) -> None:
    write("ytvis2019/valid.json", "ytvis2019/valid/JPEGImages", "ytvis2019", truth=False)
    with pytest.raises(UserError, match="truth is withheld"):
        YTVIS2019.training_set(tmp_path, "val")
    write("ytvis2019/train.json", "ytvis2019/train/JPEGImages", "ytvis2019")
    (tmp_path / "ytvis2019/train/JPEGImages/v2/0.jpg").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of the files .* first: v2/0\.jpg"):
        YTVIS2019.training_set(tmp_path, "train")
    shutil.rmtree(tmp_path / "ytvis2019/train/JPEGImages")
    with pytest.raises(UserError, match=r"lacks 4 of the files"):
        YTVIS2019.training_set(tmp_path, "train")
    with pytest.raises(UserError, match=r"no annotations of the train split"):
        OVIS.training_set(tmp_path, "train")


@pytest.mark.parametrize("name", ["lvvis", "ytvis2019", "ytvis2021", "ovis", "burst", "shapes"])
def test_every_declaration_is_found_by_name(name: str) -> None:
    plugin = plugins.dataset(name)
    assert plugin.name == name
    assert plugin.default_split in plugin.splits
    assert plugin.summary
