"""Datasets are found by what their files contain, in whatever folders users have put them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dataset_copies import Write, annotation_document, burst_sequence, write_burst, write_frames
from typer.testing import CliRunner

from harness import plugins
from harness.cli.datasets import app
from harness.datasets.burst import PLUGIN as BURST
from harness.datasets.categories import packaged
from harness.datasets.discovery import FoundFile, survey, tree, words
from harness.datasets.ovis import PLUGIN as OVIS
from harness.datasets.uvo import PLUGIN as UVO
from harness.datasets.ytvis import YTVIS2019, YTVIS2021, YTVIS2022
from harness.errors import UserError
from harness.formats import burst as burst_form

KNOWN: list[Any] = [p for p in map(plugins.dataset, plugins.names(plugins.DATASET_ENTRY_POINTS)) if hasattr(p, "takes")]


def found(root: Path) -> dict[str, FoundFile]:
    return {str(one.path.relative_to(root)): one for one in survey(root, KNOWN)}


LAYOUTS = [
    # after public READMEs: annotation file, folder of frames, category list, what it is
    ("ytvis2019/train.json", "ytvis2019/train/JPEGImages", "ytvis2019", "ytvis2019", "train"),
    ("youtube_vis_2019/annotations/valid.json", "youtube_vis_2019/valid/JPEGImages", "ytvis2019", "ytvis2019", "val"),
    ("ytvis19/valid.json", "ytvis19/valid/JPEGImages", "ytvis2019", "ytvis2019", "val"),
    ("ytvis21/train/instances.json", "ytvis21/train/JPEGImages", "ytvis2021", "ytvis2021", "train"),
    ("ytvis_2019/annotations/instances_train_sub.json", "ytvis_2019/train", "ytvis2019", "ytvis2019", "train"),
    ("OVIS/annotation_valid.json", "OVIS/valid_images", "ovis", "ovis", "val"),
    ("ovis/annotations_valid.json", "ovis/Images/valid", "ovis", "ovis", "val"),
    ("somewhere/validGT.json", "pictures", "ovis", "ovis", "val"),
    ("LVVIS/Annotations/val_instances_.json", "LVVIS/JPEGImages/val", "lvvis", "lvvis", "val"),
    ("ytvis_2022/valid.json", "ytvis_2022/valid/JPEGImages", "ytvis2021", "ytvis2022", "val"),
    ("UVO/VideoDenseSet/UVO_video_val_dense_with_label.json", "UVO/uvo_videos_dense_frames", "uvo", "uvo", "val"),
]


@pytest.mark.parametrize(("annotations", "frames", "categories", "dataset", "split"), LAYOUTS)
def test_layouts_of_public_readmes(
    tmp_path: Path, write: Write, annotations: str, frames: str, categories: str, dataset: str, split: str
) -> None:
    write(annotations, frames, categories)
    one = found(tmp_path)[annotations]
    assert one.recognised is not None
    assert (one.recognised.dataset, one.recognised.split) == (dataset, split)
    assert one.frames == tmp_path / frames
    opened = plugins.opened(dataset, tmp_path, split)
    assert opened.annotations.path == str(tmp_path / annotations)
    assert [int(frame[0, 0, 0]) for video in opened.videos for frame in video.read()] == [40, 41, 80, 81]


def test_names_do_not_matter_where_the_content_tells(tmp_path: Path, write: Write) -> None:
    """The number of videos tells the split of a file whose path does not."""
    document = annotation_document("ytvis2019")
    size = {"height": 20, "width": 30, "length": 1}
    document["videos"] = [{"id": v, **size, "file_names": [f"v{v}/0.jpg"]} for v in range(1, 303)]
    (tmp_path / "a.json").write_text(json.dumps(document))
    taken = found(tmp_path)["a.json"].recognised
    assert taken is not None
    assert taken.split == "val"
    assert taken.reasons[1] == "it has that split's 302 videos"
    document["videos"] = document["videos"][:2]
    (tmp_path / "a.json").write_text(json.dumps(document))
    one = found(tmp_path)["a.json"]
    assert one.recognised is None
    assert one.recognised_as == "ytvis2019 (split unknown)"
    to_do = one.record(tmp_path)["name_by_hand"]
    assert to_do == "harness datasets add NAME --like ytvis2019 --split SPLIT --annotations a.json --frames DIR"


def test_the_same_categories_are_told_apart_by_path(tmp_path: Path, write: Write) -> None:
    write("ytvis21/valid.json", "ytvis21/valid", "ytvis2021")
    write("ytvis22/valid.json", "ytvis22/valid", "ytvis2021")
    taken = [one.recognised for one in found(tmp_path).values()]
    assert [t and t.dataset for t in taken] == ["ytvis2021", "ytvis2022"]
    assert YTVIS2021.open(tmp_path, "val").annotations.path.endswith("ytvis21/valid.json")
    assert YTVIS2022.open(tmp_path, "val").annotations.path.endswith("ytvis22/valid.json")


def test_of_several_files_the_whole_one_with_truth_is_taken(tmp_path: Path, write: Write) -> None:
    write("x/valid.json", "x/valid", "ovis", truth=False)
    write("x/validGT.json", "x/valid", "ovis")
    write("x/valid_sub.json", "x/valid", "ovis")
    dataset = OVIS.open(tmp_path, "val")
    assert dataset.annotations.path.endswith("validGT.json")
    assert (dataset.truth is not None, dataset.no_truth) == (True, "")
    write("y/validGT.json", "y/valid", "ovis")
    with pytest.raises(UserError, match=r"2 files may be the val split: .*x/validGT.json, .*harness datasets add"):
        OVIS.open(tmp_path, "val")


def test_validation_truth_that_is_public_is_pointed_to(tmp_path: Path, write: Write) -> None:
    write("ovis/annotations_valid.json", "ovis/valid", "ovis", truth=False)
    dataset = OVIS.open(tmp_path, "val")
    assert dataset.truth is None
    assert "the truth is public: get validGT.json" in dataset.no_truth
    report = OVIS.check(tmp_path, "val").splits[0]
    assert report.truth.startswith("not in the file; public: get validGT.json")
    assert "CMaskTrack-RCNN #9, 2026-02-22" in report.truth


def test_other_json_files_are_named(tmp_path: Path, write: Write) -> None:
    write("ovis/annotations_train.json", "ovis/train", "ovis")
    per_image = {"videos": [{"id": 1}], "images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}]}
    for name, document in (
        ("results.json", []),
        ("coco.json", {"images": [{"id": 1}], "categories": [], "annotations": []}),
        ("cocovid.json", per_image | {"annotations": [{"id": 1, "segmentation": []}]}),
        ("config.json", {"model": 1}),
        ("mine.json", annotation_document("ovis") | {"categories": [{"id": 1, "name": "my own"}]}),
    ):
        (tmp_path / name).write_text(json.dumps(document))
    (tmp_path / "cut.json").write_text('{"videos": [')
    (tmp_path / "nan.json").write_text(json.dumps(annotation_document("ovis") | {"info": float("nan")}))
    here = found(tmp_path)
    assert {name: one.recognised_as for name, one in here.items() if one.recognised is None} == {
        "cocovid.json": "in CocoVID or TAO form, with one annotation per image",
        "coco.json": "a COCO file of images, without videos",
        "config.json": "not an annotation file: it has no videos",
        "cut.json": here["cut.json"].what,
        "mine.json": "annotations of no known dataset",
        "nan.json": "ovis (split unknown)",
        "results.json": "a list (results, or a list of categories)",
    }
    assert "truncated" in here["cut.json"].what
    shown = CliRunner().invoke(app, ["check", "--data-root", str(tmp_path)])
    assert shown.exit_code == 0
    assert "1 annotation files of known splits, 7 other JSON files" in shown.stdout
    assert "to do: harness datasets add NAME --annotations mine.json --frames DIR --protocol PROTOCOL" in shown.stdout


def test_a_missing_split_says_what_lies_there(tmp_path: Path, write: Write) -> None:
    write("stuff/train.json", "stuff/train", "ytvis2019")
    write("stuff/ovis_valid.json", "stuff/valid", "ovis")
    with pytest.raises(UserError) as error:
        YTVIS2019.open(tmp_path, "val")
    assert "where stuff/ovis_valid.json (another dataset's), stuff/train.json (train) are" in str(error.value)


def test_check_of_a_data_root_without_anything(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", "--data-root", str(tmp_path), "--json"])
    assert (result.exit_code, json.loads(result.stdout)["files"]) == (1, [])
    with pytest.raises(UserError, match="is not a folder"):
        CliRunner().invoke(app, ["check", "--data-root", str(tmp_path / "no")], catch_exceptions=False)


def test_burst_in_its_own_form_and_converted(tmp_path: Path) -> None:
    write_burst(tmp_path / "a")
    own = tmp_path / "a/burst/annotations/val/all_classes.json"
    converted = burst_form.convert_file(own).document
    (tmp_path / "b").mkdir()
    (tmp_path / "b/b2y_val.json").write_text(json.dumps(converted))
    taken = [one.recognised for one in found(tmp_path).values()]
    assert [(t.dataset, t.split) for t in taken if t] == [("burst", "val"), ("burst", "val")]
    (tmp_path / "a/burst/frames").rename(tmp_path / "b/frames")
    dataset = BURST.open(tmp_path / "b", "val")
    assert [int(image[0, 0, 0]) for image in dataset.videos[1].read()] == [12, 13]


def test_bursts_training_file_has_another_name(tmp_path: Path) -> None:
    write_burst(tmp_path)
    document = {"split": "train", "categories": [{"id": 4, "name": "airplane"}], "sequences": [burst_sequence(1, 4)]}
    (tmp_path / "burst/annotations/train").mkdir()
    (tmp_path / "burst/annotations/train/train.json").write_text(json.dumps(document))
    assert BURST.open(tmp_path, "train").split == "train"


@pytest.mark.parametrize(("videos", "complete"), [(988, True), (993, True), (990, True), (987, False)])
def test_what_a_paper_states_is_no_fault_of_a_release(tmp_path: Path, videos: int, complete: bool) -> None:
    """988 videos of the released file are whole, whatever the paper says; fewer lack something."""
    categories = [{"id": i, "name": c.name} for i, c in enumerate(packaged("burst"), 1)]
    sequences = [burst_sequence(number, 1) | {"seq_name": "seq"} for number in range(videos)]
    path = tmp_path / "burst/annotations/val/all_classes.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"split": "val", "categories": categories, "sequences": sequences}))
    folder = tmp_path / "burst/frames/val/AVA"
    write_frames(folder)
    (folder / "seq").mkdir()
    for frame, name in (("0", "frame0030.jpg"), ("1", "frame0060.jpg")):
        (folder / f"v1/{frame}.jpg").rename(folder / "seq" / name)
    report = BURST.check(tmp_path, "val").splits[0]
    assert (report.faults, report.complete) == ((), complete)
    notes = " ".join((*report.notes, *report.other_counts))
    assert "988 videos by its author" in notes
    assert "993 by Athar et al., WACV 2023" in notes
    assert "common classes are the 78 of the official script" in notes


def test_frames_of_another_size_are_told_as_a_run_would(tmp_path: Path, write: Write) -> None:
    document = write("ovis/annotations_train.json", "ovis/train", "ovis")
    document["videos"][1] |= {"width": 31}
    document["videos"][0] |= {"length": 3}
    (tmp_path / "ovis/annotations_train.json").write_text(json.dumps(document))
    report = OVIS.check(tmp_path, "train").splits[0]
    assert report.resized_frames.count == 2
    assert report.resized_frames.first[0] == "v2/0.jpg is 20x30, stated 20x31"
    assert any("first: video 1: 2 for 3 frames" in fault for fault in report.faults)
    assert not report.complete
    shown = CliRunner().invoke(app, ["check", "ovis", "--split", "train", "--data-root", str(tmp_path)])
    assert "resized frames: 2, first: v2/0.jpg is 20x30" in shown.stdout


def test_sizes_carry_their_source_and_date() -> None:
    for plugin in KNOWN:
        for split in getattr(plugin, "declared", ()):
            if getattr(split, "videos", None) is not None:
                assert split.source is not None, (plugin.name, split.name)
                assert split.source.text
                assert len(split.source.date.split("-")) == 3
            if getattr(split, "stated_videos", None) is not None:
                assert split.stated_source is not None
    assert all(split.videos is None for split in YTVIS2022.declared)
    assert [split.videos for split in UVO.declared] == [503, 256]


def test_words_and_trees(tmp_path: Path) -> None:
    assert words("validGT") == ("valid", "gt")
    assert words("youtube_vis_2019-TRAIN") == ("youtube", "vis", "2019", "train")
    for number in range(101):
        (tmp_path / f"videos/{number:03d}").mkdir(parents=True)
    (tmp_path / "videos/000/a.json").write_text("{}")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / ".hidden").mkdir()
    assert tree(tmp_path).folders == (tmp_path, tmp_path / "videos")
    assert tree(tmp_path).files == ()
