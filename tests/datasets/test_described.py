"""Datasets that a YAML file describes, hold-outs, and data of a user's own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from dataset_copies import Write, write_frames
from oracle_runs import oracle_run
from typer.testing import CliRunner, Result
from vis_documents import document

from harness import plugins
from harness.cli.datasets import app
from harness.datasets.described import read
from harness.datasets.own_data import check_own, faults, open_own, with_groups
from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations
from harness.reports.run_data import dataset_of_run
from harness.run_folder.finished_run import FinishedRun

BEST: dict[str, Any] = dict.fromkeys(
    ("drop_tracks", "erode_px", "drop_frames", "switch_identity", "wrong_label", "duplicate", "score_noise"), 0
)


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with data of a user's own, whose categories have no partition."""
    made = document()
    made["categories"] = [{"id": c["id"], "name": c["name"]} for c in made["categories"]]
    (tmp_path / "mine.json").write_text(json.dumps(made))
    (tmp_path / "novel.txt").write_text("# the rare one\nYak\n")
    write_frames(tmp_path / "frames")
    return tmp_path


def add(root: Path, name: str, *arguments: str | Path) -> Result:
    return invoke("add", name, "--data-root", root, *arguments)


def files(root: Path) -> tuple[str | Path, ...]:
    return "--annotations", root / "mine.json", "--frames", root / "frames", "--protocol", "lvvis"


def test_own_data_is_added_with_groups(own: Path) -> None:
    result = add(own, "zoo", *files(own), "--novel", own / "novel.txt")
    assert result.exit_code == 0, result.exception
    assert yaml.safe_load((own / "zoo.yaml").read_text()) == {
        "name": "zoo",
        "protocol": "lvvis",
        "groups": {"novel": "novel.txt"},
        "splits": {"val": {"annotations": "mine.json", "frames": "frames"}},
    }
    dataset = plugins.opened("zoo", own)
    assert (dataset.name, dataset.split, dataset.protocol) == ("zoo", "val", "lvvis")
    assert [c.groups for c in dataset.categories] == [("base",), ("novel",)]
    assert [int(frame[0, 0, 0]) for video in dataset.videos for frame in video.read()] == [40, 41, 80, 81]
    assert plugins.opened(str(own / "zoo.yaml"), Path("elsewhere")).digest == dataset.digest
    assert dataset.digest != read_annotations(own / "mine.json").digest
    listed = json.loads(invoke("list", "--data-root", own, "--json").stdout)["datasets"]
    assert [row["splits"] for row in listed if row["name"] == "zoo"] == [["val"]]
    assert invoke("check", "zoo", "--data-root", own).exit_code == 0
    assert invoke("show", "zoo", "--data-root", own, "--out", own / "sheet.png").exit_code == 0


def test_a_run_with_groups_has_their_numbers_and_is_found_again(own: Path, tmp_path: Path) -> None:
    add(own, "zoo", *files(own), "--novel", own / "novel.txt")
    run = oracle_run(tmp_path, plugins.opened("zoo", own), **BEST)
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert [metrics[key] for key in ("AP", "APb", "APn")] == pytest.approx([1, 1, 1])
    found = dataset_of_run(FinishedRun(run), Path("nowhere"))
    assert (found.name, [c.groups for c in found.categories]) == ("zoo", [("base",), ("novel",)])


@pytest.fixture
def holdout(tmp_path: Path, write: Write) -> Path:
    write("ytvis2019/train.json", "ytvis2019/train/JPEGImages", "ytvis2019")
    (tmp_path / "ids.txt").write_text("2\n")
    return tmp_path


def test_a_hold_out_takes_the_listed_videos_and_is_not_comparable(holdout: Path) -> None:
    arguments = ("--like", "ytvis2019", "--of", "train", "--videos", holdout / "ids.txt")
    result = add(holdout, "held", *arguments)
    assert result.exit_code == 0, result.exception
    digest = hashlib.sha256(b"2\n").hexdigest()
    split = yaml.safe_load((holdout / "held.yaml").read_text())["splits"]["val"]
    assert split == {"videos": "ids.txt", "of": "train", "videos_sha256": digest}
    whole, dataset = plugins.opened("ytvis2019", holdout, "train"), plugins.opened("held", holdout)
    assert [v.id for v in dataset.videos] == [2]
    assert dataset.truth is not None
    assert [record.video_id for record in dataset.truth.records] == [2]
    assert dataset.digest != whole.digest
    assert dataset.differences == (
        f"a hold-out: 1 of 2 videos of ytvis2019 train (ids.txt, SHA-256 {digest[:12]}), which no server scores",
    )
    run = oracle_run(holdout, dataset)
    assert json.loads((run / "metrics.json").read_text())["not_comparable"] == list(dataset.differences)


def test_an_annotation_file_names_the_videos_that_are_taken_or_left_out(holdout: Path) -> None:
    """As YouTube-VIS 2021's validation file tells the short videos of 2022 from the long ones: by name, not by id."""
    made = json.loads((holdout / "ytvis2019" / "train.json").read_text())
    first, second = made["videos"]
    other = {"videos": [{**first, "id": 70}, {**second, "id": 71, "file_names": ["zz/0.jpg"]}], "categories": []}
    (holdout / "other.json").write_text(json.dumps(other))
    arguments = ("--like", "ytvis2019", "--of", "train")
    assert "1 of 2 videos are not in" in str(
        add(holdout, "odd", *arguments, "--videos", holdout / "other.json").exception
    )
    assert add(holdout, "long", *arguments, "--without", holdout / "other.json").exit_code == 0
    (left,) = plugins.opened("long", holdout).videos
    assert left.id == second["id"]
    digest = hashlib.sha256((holdout / "other.json").read_bytes()).hexdigest()
    (told,) = plugins.opened("long", holdout).differences or ()
    assert told.startswith(f"a hold-out: 1 of 2 videos of ytvis2019 train (without other.json, SHA-256 {digest[:12]})")
    (holdout / "other.json").write_text(json.dumps({**other, "videos": other["videos"][:1]}))
    with pytest.raises(UserError, match=r"other\.json: has changed since the dataset was added"):
        plugins.opened("long", holdout)
    assert add(holdout, "short", *arguments, "--videos", holdout / "other.json").exit_code == 0
    (left,) = plugins.opened("short", holdout).videos
    assert left.id == first["id"]
    (holdout / "all.txt").write_text("1\n2\n")
    assert "takes no video" in str(add(holdout, "none", *arguments, "--without", holdout / "all.txt").exception)


def test_a_changed_or_foreign_list_is_refused(holdout: Path) -> None:
    arguments = ("--like", "ytvis2019", "--of", "train", "--videos", holdout / "ids.txt")
    add(holdout, "held", *arguments)
    (holdout / "ids.txt").write_text("1\n")
    with pytest.raises(UserError, match=r"ids\.txt: has changed since the dataset was added"):
        plugins.opened("held", holdout)
    (holdout / "ids.txt").write_text("1\n17\n18\n")
    result = add(holdout, "other", *arguments)
    assert "2 of 3 videos are not in" in str(result.exception)
    assert 'first: "17"' in str(result.exception)
    assert not (holdout / "other.yaml").exists()
    for text, words in (("", "lists nothing"), ("[1,", "is not a JSON list")):
        (holdout / "ids.txt").write_text(text)
        assert words in str(add(holdout, "other", *arguments).exception)
    (holdout / "ids.txt").write_text('["v1"]')  # names of videos do as well
    assert add(holdout, "other", *arguments).exit_code == 0
    assert [v.id for v in plugins.opened("other", holdout).videos] == [1]


def test_a_file_that_may_be_several_splits_is_named_by_hand(tmp_path: Path, write: Write) -> None:
    write("x/a.json", "x/pictures", "ovis")
    write("x/b.json", "x/pictures", "ovis")
    result = add(tmp_path, "mine", "--like", "ovis", "--split", "train", "--annotations", tmp_path / "x/a.json")
    assert result.exit_code == 0, result.exception
    dataset = plugins.opened("mine", tmp_path)
    assert (dataset.name, dataset.split, dataset.protocol) == ("mine", "train", "ovis")
    assert dataset.videos[0].frames[0].shape == (20, 30, 3)
    assert dataset.differences == ("2 of 607 videos",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lvvis", "--like", "ovis"), "is already a dataset"),
        (("mine",), "needs one of --like and --protocol"),
        (("mine", "--like", "ovis", "--protocol", "ovis"), "needs one of --like and --protocol"),
        (("mine", "--protocol", "ovis"), "needs --annotations and --frames"),
        (("mine", "--like", "oviss"), 'dataset "oviss": is not installed; did you mean "ovis"'),
        (("mine", "--like", "ovis", "--of", "vale"), "ovis has no split vale"),
        (("mine", "--like", "ovis", "--annotations", "no.json"), "no.json: does not exist"),
    ],
)
def test_what_cannot_be_added(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    result = add(tmp_path, *arguments)
    assert isinstance(result.exception, UserError)
    assert words in str(result.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"name": "a", "like": "ovis", "splits": {"val": {"frame": "x"}}}, 'is not a key; did you mean "frames"'),
        ({"name": "a", "like": "ovis", "splits": {}}, "names no split"),
        ({"name": "a", "splits": {"val": {}}}, "needs one of like and protocol"),
        ({"name": "a", "protocol": "lvviz", "splits": {"val": {}}}, 'protocol "lvviz"'),
        ({"name": "a", "like": "ovis", "default_split": "x", "splits": {"val": {}}}, "is not one of its splits"),
        ({"like": "ovis", "splits": {"val": {}}}, "name: field required"),
    ],
)
def test_a_faulty_description_is_refused_in_words(tmp_path: Path, content: dict[str, Any], words: str) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"a\.yaml|protocol") as error:
        read(tmp_path / "a.yaml")
    assert words in str(error.value)


def test_groups_are_checked(own: Path) -> None:
    annotations = read_annotations(own / "mine.json")
    grouped = with_groups(annotations, {"base": ["cat"], "novel": []}, "lvvis")
    assert [c.partition for c in grouped.categories] == [0, -1]
    burst = with_groups(annotations, {"novel": [2], "common": ["cat"]}, "burst")
    assert [(c.frequency, c.split) for c in burst.categories] == [("f", "common"), ("r", "uncommon")]
    with pytest.raises(UserError, match='1 of 2 are not names or ids of categories, first: "dog"'):
        with_groups(annotations, {"novel": ["cat", "dog"]}, "lvvis")
    with pytest.raises(UserError, match="category 1: is listed as base and as novel"):
        with_groups(annotations, {"base": ["cat"], "novel": [1]}, "lvvis")
    with pytest.raises(UserError, match="are not read by protocol ytvis"):
        with_groups(annotations, {"base": ["cat"]}, "ytvis")


def test_the_first_refusal_lists_all_that_is_missing(own: Path) -> None:
    made = json.loads((own / "mine.json").read_text())
    for video in made["videos"]:
        del video["file_names"]
    del made["annotations"][1]["areas"]
    (own / "mine.json").write_text(json.dumps(made))
    with pytest.raises(UserError) as error:
        open_own(own / "mine.json", None, "lvvis")
    assert str(error.value) == (
        f"{own / 'mine.json'}: is not ready for a run:"
        " (1) frames is missing: name the folder to which file_names are relative;"
        " (2) 2 of 2 videos lack file_names, first: videos[0];"
        " (3) 2 of 2 categories lack partition, first: categories[0];"
        " (4) 1 of 2 annotations lack areas, first: annotations[1];"
        " see docs/adding-a-dataset.md for the form"
    )
    assert faults(own / "mine.json", own / "frames", "lvvis") == [
        "2 of 2 videos lack file_names, first: videos[0]",
        "2 of 2 categories lack partition, first: categories[0]",
        "1 of 2 annotations lack areas, first: annotations[1]",
    ]
    (own / "mine.json").write_text("[]")
    assert faults(own / "mine.json", None, None)[2:] == [
        "the file is not an object with videos, categories and annotations"
    ]
    assert "No such file" in faults(own / "no.json", own, "lvvis")[0]


def test_own_data_is_checked_and_shown_by_its_files(own: Path) -> None:
    arguments = "--annotations", own / "mine.json", "--frames", own / "frames", "--protocol"
    shown = invoke("check", *arguments, "ytvis", "--dataset-name", "zoo")
    assert (shown.exit_code, "zoo in" in shown.stdout, "in the file: 2 tracks" in shown.stdout) == (0, True, True)
    record = json.loads(invoke("check", *arguments, "lvvis", "--json").stdout)
    assert record["splits"][0]["faults"] == ["2 of 2 categories lack partition, first: categories[0]"]
    given = "--annotations", own / "mine.json", "--frames-folder", own / "frames", "--protocol", "ytvis"
    result = invoke("show", *given, "--videos", "1", "--frames", "1", "--out", own / "sheet.png")
    assert (result.exit_code, (own / "sheet.png").is_file()) == (0, True)
    (own / "frames/v1/0.jpg").unlink()
    report = check_own(own / "mine.json", own / "frames", "ytvis").splits[0]
    assert (report.complete, report.missing_frames.first) == (False, ("v1/0.jpg",))
    assert "replaces a dataset" in str(invoke("check", "ovis", *arguments, "ytvis").exception)
    assert "need --annotations" in str(invoke("check", "--protocol", "ytvis").exception)


@pytest.mark.parametrize(("protocol", "fault"), [("hota", ""), ("ytvis-fixed", ""), ("lvviz", 'no protocol "lvviz"')])
def test_own_data_is_scored_by_any_protocol(own: Path, protocol: str, fault: str) -> None:
    report = check_own(own / "mine.json", own / "frames", protocol).splits[0]
    assert (report.complete, fault in " ".join(report.faults)) == (not fault, True)
    if fault:
        with pytest.raises(UserError, match='protocol "lvviz": is unknown; did you mean "lvvis"'):
            open_own(own / "mine.json", own / "frames", protocol)
    else:
        assert open_own(own / "mine.json", own / "frames", protocol).protocol == protocol


def test_a_run_folder_remembers_where_its_data_lay(own: Path, tmp_path: Path) -> None:
    run = oracle_run(tmp_path, open_own(own / "mine.json", own / "frames", "ytvis", "zoo"))
    environment = json.loads((run / "environment.json").read_text())
    assert environment["data"] == {"annotations": str(own / "mine.json"), "frames": str(own / "frames")}
    dataset = dataset_of_run(FinishedRun(run), Path("nowhere"))
    assert (dataset.name, len(dataset.videos)) == ("zoo", 2)
    (own / "mine.json").rename(own / "moved.json")
    with pytest.raises(UserError, match=r"mine\.json now; name the annotation file as annotations"):
        dataset_of_run(FinishedRun(run), Path("nowhere"))
    assert dataset_of_run(FinishedRun(run), Path("nowhere"), own / "moved.json").digest == dataset.digest


def test_a_known_dataset_is_found_where_it_lay(holdout: Path) -> None:
    run = oracle_run(holdout, plugins.opened("ytvis2019", holdout, "train"))
    assert len(dataset_of_run(FinishedRun(run), Path("nowhere")).videos) == 2
