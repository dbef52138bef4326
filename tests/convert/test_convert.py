"""Masks and tracks from and to the forms of other tools."""

from __future__ import annotations

import copy
import json
import random
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_copies import write_burst, write_frames
from oracle_runs import oracle_run
from PIL import Image
from typer.testing import CliRunner, Result
from vis_documents import box, document

from harness.cli.convert import convert
from harness.convert.coco_frames import coco_document, read_coco
from harness.convert.cvat import read_cvat
from harness.convert.label_studio import read_label_studio
from harness.convert.mots import write_mots
from harness.convert.palette import read_palette, write_palette
from harness.convert.tracks import ObjectTrack, TrackSet, VideoTracks, decoded, encoded, youtube_vis_document
from harness.convert.youtube_vis import read_results, read_truth
from harness.datasets.own_data import open_own
from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations

HEIGHT, WIDTH = 20, 30


def command(*arguments: str | Path) -> Result:
    import typer

    app = typer.Typer()
    app.command()(convert)
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.json").write_text(json.dumps(document()))
    write_frames(tmp_path / "frames")
    return tmp_path


def shapes(tracks: TrackSet) -> list[tuple[str, str, list[int | None]]]:
    """Video, category and areas of every track."""
    return [
        (v.name, tracks.categories[t.category_id], [None if m is None else int(decoded(m).sum()) for m in t.masks])
        for v in tracks.videos
        for t in v.tracks
    ]


def pixels(tracks: TrackSet) -> list[np.ndarray]:
    return [decoded(m) for v in tracks.videos for t in v.tracks for m in t.masks if m is not None]


def same(a: TrackSet, b: TrackSet) -> bool:
    return shapes(a) == shapes(b) and all(np.array_equal(x, y) for x, y in zip(pixels(a), pixels(b), strict=True))


@pytest.mark.parametrize(("form", "out"), [("coco", "frames.json"), ("masks", "masks"), ("vis", "again.json")])
def test_there_and_back(mine: Path, form: str, out: str) -> None:
    """A form that is written is read as the same tracks, by the command line."""
    there = command(mine / "mine.json", "--from", "vis", "--to", form, "--out", mine / out)
    assert (there.exit_code, there.exception) == (0, None)
    back = command(mine / out, "--from", form, "--out", mine / "back.json")
    assert (back.exit_code, back.exception) == (0, None)
    assert "2 videos, 2 tracks, 2 categories" in back.stdout
    assert same(read_truth(mine / "back.json"), read_truth(mine / "mine.json"))
    dataset = open_own(mine / "back.json", mine / "frames", "ytvis")
    assert [int(frame[0, 0, 0]) for video in dataset.videos for frame in video.read()] == [40, 41, 80, 81]


def test_the_same_input_gives_the_same_bytes(mine: Path) -> None:
    for form, out in (("coco", "c.json"), ("masks", "m"), ("mots", "t"), ("vis", "v.json"), ("results", "r.json")):
        made = []
        for number in (1, 2):
            target = mine / f"{number}{out}"
            assert command(mine / "mine.json", "--from", "vis", "--to", form, "--out", target).exit_code == 0
            files = sorted(target.rglob("*.*")) if target.is_dir() else [target]
            made.append([file.read_bytes() for file in files])
        assert made[0] == made[1]
        assert made[0]


def test_davis_like_masks(tmp_path: Path) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[2:6, 3:9], values[10:12, 1:4], values[0] = 1, 3, 255
    for name, frames in (("bear", ("00000", "00005")), ("deep/clip", ("frame_2", "frame_10"))):
        (tmp_path / "Annotations" / name).mkdir(parents=True)
        for index, frame in enumerate(frames):
            image = Image.fromarray(np.where(values == 3, 3 * (index == 0), values).astype(np.uint8), "P")
            image.putpalette([0, 0, 0, 128, 0, 0] + 254 * [9, 9, 9])
            image.save(tmp_path / "Annotations" / name / f"{frame}.png")
    meta = {"videos": {"bear": {"objects": {"1": {"category": "bear"}, "3": {"category": "cub"}}}}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    tracks = read_palette(tmp_path / "Annotations")
    assert shapes(tracks) == [
        ("bear", "bear", [24, 24]),
        ("bear", "cub", [6, None]),
        ("deep/clip", "object", [24, 24]),
        ("deep/clip", "object", [6, None]),
    ]
    assert tracks.videos[0].file_names == ("bear/00000.jpg", "bear/00005.jpg")
    assert tracks.videos[1].file_names == ("deep/clip/frame_2.jpg", "deep/clip/frame_10.jpg")
    assert [w["count"] for w in tracks.warnings.record()] == [4]  # frames with void pixels
    strict = command(tmp_path / "Annotations", "--from", "masks", "--out", tmp_path / "o.json", "--strict")
    assert "void" in str(strict.exception)


def test_masks_of_one_object_are_0_and_255(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[:4] = 255
    Image.fromarray(values).save(tmp_path / "v/0.png")
    Image.fromarray(values > 0).save(tmp_path / "v/1.png")
    assert shapes(read_palette(tmp_path)) == [("v", "object", [120, 120])]


def test_frames_are_those_with_masks(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames")
    (tmp_path / "masks/v1").mkdir(parents=True)
    Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "masks/v1/1.png")
    assert read_palette(tmp_path / "masks", tmp_path / "frames").videos[0].file_names == ("v1/1.jpg",)
    (tmp_path / "masks/v1/1.png").rename(tmp_path / "masks/v1/7.png")
    with pytest.raises(UserError, match="1 of 1 masks have no frame"):
        read_palette(tmp_path / "masks", tmp_path / "frames")


def test_masks_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        read_palette(tmp_path / "no")
    with pytest.raises(UserError, match="holds no PNG masks"):
        read_palette(tmp_path)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "0.png")
    with pytest.raises(UserError, match="has RGB pixels, not numbers of objects"):
        read_palette(tmp_path)
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "0.png")
    Image.new("L", (WIDTH, HEIGHT + 1)).save(tmp_path / "1.png")
    with pytest.raises(UserError, match="is 21x30, the first mask is 20x30"):
        read_palette(tmp_path)


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><name>clip</name><size>3</size><start_frame>10</start_frame><frame_filter>step=2</frame_filter>
<labels><label><name>cat</name></label><label><name>dog</name></label></labels>
<original_size><width>30</width><height>20</height></original_size></task></meta>
<track id="0" label="dog"><polygon frame="10" outside="0" points="2.0,2.0;12.0,2.0;12.0,12.0;2.0,12.0"/>
<polygon frame="12" outside="1" points="2.0,2.0;12.0,2.0;12.0,12.0;2.0,12.0"/></track>
<track id="1" label="cat"><box frame="14" outside="0" xtl="15" ytl="3" xbr="20" ybr="9"/></track>
<track id="2" label="dog"><mask frame="12" outside="0" rle="1, 4, 1" left="4" top="5" width="3" height="2"/></track>
<track id="3" label="dog"><points frame="12" outside="0" points="1,1"/></track>
</annotations>"""


def test_cvat_for_video(tmp_path: Path) -> None:
    file = tmp_path / "annotations.xml"
    file.write_text(CVAT)
    tracks = read_cvat(file)
    assert tracks.categories == {1: "cat", 2: "dog"}
    assert shapes(tracks) == [
        ("clip", "dog", [100, None, None]),
        ("clip", "cat", [None, None, 30]),
        ("clip", "dog", [None, 4, None]),
    ]
    assert tracks.videos[0].file_names == tuple(f"clip/frame_0000{n}.jpg" for n in (10, 12, 14))
    drawn = tracks.videos[0].tracks[2].masks[1]
    assert drawn is not None
    mask = decoded(drawn)
    assert sorted(zip(*np.nonzero(mask), strict=True)) == [(5, 5), (5, 6), (6, 4), (6, 5)]
    assert {w["kind"]: w["count"] for w in tracks.warnings.record()} == {
        "boxes are taken as masks of all their pixels": 1,
        "shapes of kind points have no area and are left out": 1,
        "track without any mask is left out": 1,
    }
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.write(file, "annotations.xml")
    assert same(read_cvat(tmp_path / "export.zip"), tracks)
    (tmp_path / "clip").mkdir()
    for number in range(15):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"clip/{number}.jpg")
    assert read_cvat(file, tmp_path).videos[0].file_names == ("clip/10.jpg", "clip/12.jpg", "clip/14.jpg")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<annotations>", "<html>", "is not XML that can be read"),
        ('rle="1, 4, 1"', 'rle="1, 4"', "does not fill its box"),
        ('left="4"', 'left="29"', "does not fill its box"),
        ('xtl="15"', 'xtl="nan"', "not a finite number"),
        ('frame="14"', 'frame="13"', "frame 13 is not one of the task's"),
        ("<original_size>", "<x></x><original_sizes>", "is not XML"),
        ("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>', "declares a document type"),
        ("track", "image", "has no tracks of one video"),
        ('encoding="utf-8"', 'encoding="utf-9"', "is not XML that can be read: unknown encoding: utf-9"),
    ],
)
def test_faulty_cvat_files_are_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "a.xml").write_text(CVAT.replace(old, new))
    with pytest.raises(UserError) as error:
        read_cvat(tmp_path / "a.xml")
    assert words in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;&b;&b;">]><annotations>&d;'
    text = CVAT.replace("<annotations>", bomb).replace('encoding="utf-8"', f'encoding="{encoding}"')
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    with pytest.raises(UserError, match="declares a document type"):
        read_cvat(tmp_path / "a.xml")


def test_label_studio_boxes_on_a_video(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    for number in range(6):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"clip/{number}.jpg")
    here = {"x": 0, "y": 0, "width": 20, "height": 50, "rotation": 0}
    sequence = [
        {"frame": 1, "enabled": True, **here},
        {"frame": 3, "enabled": False, **here, "x": 40},
        {"frame": 5, "enabled": True, **here},
    ]
    value = {"framesCount": 6, "sequence": sequence, "labels": ["cat"]}
    result = {"id": "a", "type": "videorectangle", "from_name": "box", "value": value}
    task = {"id": 1, "data": {"video": "/data/upload/1/clip.mp4"}, "annotations": [{"result": [result]}]}
    (tmp_path / "ls.json").write_text(json.dumps([task]))
    tracks = read_label_studio(tmp_path / "ls.json", tmp_path)
    assert shapes(tracks) == [("clip", "cat", [60, 60, 60, None, 60, 60])]
    left = [None if m is None else int(np.nonzero(decoded(m))[1].min()) for m in tracks.videos[0].tracks[0].masks]
    assert left == [0, 6, 12, None, 0, 0]
    with pytest.raises(UserError, match="does not state the size of its video; name the folder of its frames"):
        read_label_studio(tmp_path / "ls.json")


def label_studio_images(*, tracks: bool, kind: str = "polygonlabels") -> list[dict[str, Any]]:
    """Two frames with two cats each."""
    tasks = []
    for frame in (0, 1):
        results: list[dict[str, Any]] = []
        for number, x in enumerate((10, 60)):
            points = [[x, 10], [x + 20, 10], [x + 20, 60], [x, 60]]
            size = {"original_width": WIDTH, "original_height": HEIGHT}
            one = {"id": f"{frame}{number}", "type": kind, "from_name": "label", **size}
            results.append(one | {"value": {"points": points, "polygonlabels": ["cat"], "rle": [1], "format": "rle"}})
            if tracks:
                value = {"number": 7 - number}
                results.append({"id": f"{frame}{number}", "type": "number", "from_name": "track", "value": value})
        data = {"image": f"/data/local-files/?d=clips/v1/{frame}.jpg"}
        tasks.append({"data": data, "annotations": [{"was_cancelled": True}, {"result": results}]})
    return tasks


def test_label_studio_polygons_on_frames(tmp_path: Path) -> None:
    file = tmp_path / "ls.json"
    file.write_text(json.dumps(label_studio_images(tracks=True)))
    tracks = read_label_studio(file)
    assert shapes(tracks) == [("v1", "cat", [60, 60]), ("v1", "cat", [60, 60])]
    assert tracks.videos[0].file_names == ("v1/0.jpg", "v1/1.jpg")
    file.write_text(json.dumps(label_studio_images(tracks=False)))
    with pytest.raises(UserError, match="is the second of label cat in one frame; give each region a number or text"):
        read_label_studio(file)


def test_label_studios_brush_needs_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ls.json"
    file.write_text(json.dumps(label_studio_images(tracks=True, kind="brushlabels")))
    monkeypatch.setitem(sys.modules, "label_studio_sdk", None)
    with pytest.raises(UserError, match=r"needs a package that is not installed .*ovvis-harness\[label-studio\]"):
        read_label_studio(file)
    unpacked = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    unpacked[3:5, :, 3] = 255
    brush = types.ModuleType("label_studio_sdk.converter.brush")
    brush.decode_rle = lambda runs: unpacked.ravel()  # type: ignore[attr-defined]
    for name in ("label_studio_sdk", "label_studio_sdk.converter"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, brush.__name__, brush)
    assert shapes(read_label_studio(file)) == [("v1", "cat", [60, 60]), ("v1", "cat", [60, 60])]


def test_coco_without_videos_goes_by_folders_and_numbers(tmp_path: Path) -> None:
    size = {"height": HEIGHT, "width": WIDTH}
    images = [{"id": n, "file_name": f"{v}/f{n}.jpg", **size} for n, v in ((10, "b"), (9, "b"), (1, "a"))]
    square = [[1, 1, 5, 1, 5, 5, 1, 5]]
    annotations = [
        {"id": 1, "image_id": 9, "category_id": 4, "segmentation": square, "attributes": {"track_id": "x"}},
        {"id": 2, "image_id": 10, "category_id": 4, "bbox": [0, 0, 3, 2], "attributes": {"track_id": "x"}},
        {"id": 3, "image_id": 1, "category_id": 4, "segmentation": box(HEIGHT, WIDTH, 0, 0, 2, 2), "track_id": 1},
    ]
    made = {"images": images, "annotations": annotations, "categories": [{"id": 4, "name": "cat"}]}
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(made))
    tracks = read_coco(file)
    assert shapes(tracks) == [("a", "cat", [4]), ("b", "cat", [16, 6])]
    assert tracks.videos[1].file_names == ("b/f9.jpg", "b/f10.jpg")
    for change, words in (
        ({"attributes": {}}, "annotations[0]: has no track id; write one of instance_id, track_id"),
        ({"image_id": 10}, "track x occurs twice in one image"),
        ({"image_id": 77}, "unknown image 77"),
        ({"category_id": 1}, "unknown category 1"),
        ({"segmentation": {"size": [3, 3], "counts": "x"}}, "its mask is of size [3, 3], its image 20x30"),
        ({"segmentation": {"size": [20, 30], "counts": "x"}}, "annotations[0]: "),
        ({"segmentation": {"size": [20, 30], "counts": [1, 2]}}, "its counts do not fill the image"),
        ({"segmentation": []}, "has neither segmentation nor bbox"),
    ):
        file.write_text(json.dumps(made | {"annotations": [annotations[0] | change, *annotations[1:]]}))
        with pytest.raises(UserError) as error:
            read_coco(file)
        assert words in str(error.value)


def two_on_top(scores: tuple[float, float]) -> TrackSet:
    """Two tracks of one frame that share a column."""
    masks = [np.zeros((HEIGHT, WIDTH), np.bool_) for _ in range(2)]
    masks[0][:, :3], masks[1][:, 2:5] = True, True
    tracks = [ObjectTrack(i + 1, 1, [encoded(masks[i])], scores[i]) for i in range(2)]
    return TrackSet([VideoTracks(1, "a/b", HEIGHT, WIDTH, ("a/b/0.jpg",), tracks)], {1: "cat"})


ODD = (None, -1, 0, 1.5, "x", [], {}, True, 1e300, 2**70, [None], [[1, 2]], {"a": 1}, float("nan"))


def broken(document: Any, chance: random.Random) -> Any:
    """A document with one value in another form, or without it."""
    made = copy.deepcopy(document)
    places = list(_places(made))
    holder, key = chance.choice(places)
    if chance.random() < 0.25:
        del holder[key]
    else:
        holder[key] = chance.choice(ODD)
    return made


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    keys = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        yield document, key
        yield from _places(document[key])


def test_broken_documents_are_refused_in_words(mine: Path) -> None:
    """Whatever a file holds, it is read or refused by a `UserError`."""
    coco = coco_document(read_truth(mine / "mine.json"))
    studio = label_studio_images(tracks=True)
    chance, refused = random.Random(3), 0
    file = mine / "broken.json"
    for made, reader in ((coco, read_coco), (studio, read_label_studio)):
        for _ in range(60):
            file.write_text(json.dumps(broken(made, chance)))
            try:
                youtube_vis_document(reader(file))
            except UserError:
                refused += 1
    assert 20 < refused < 120


def test_mots_text_has_no_overlaps(tmp_path: Path) -> None:
    from pycocotools import mask as coco

    assert write_mots(two_on_top((0.2, 0.9)), tmp_path / "out") == ["1 masks overlapped others and were cut"]
    lines = [line.split() for line in (tmp_path / "out/a_b.txt").read_text().splitlines()]
    assert [line[:5] for line in lines] == [["1", "1", "1", "20", "30"], ["1", "2", "1", "20", "30"]]
    areas = [int(coco.area({"size": [20, 30], "counts": line[5].encode()})) for line in lines]
    assert areas == [2 * HEIGHT, 3 * HEIGHT]
    assert (tmp_path / "out/classes.txt").read_text() == "1 cat\n"


def test_palette_masks_show_the_higher_score(tmp_path: Path) -> None:
    assert write_palette(two_on_top((0.9, 0.2)), tmp_path) == ["1 masks lie over others, which lose those pixels"]
    with Image.open(tmp_path / "a/b/0.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]  # type: ignore[index]
        assert np.asarray(image)[0, :6].tolist() == [1, 1, 1, 2, 2, 0]


def test_predictions_of_a_run_and_of_a_results_file(mine: Path) -> None:
    run = oracle_run(mine / "runs", open_own(mine / "mine.json", mine / "frames", "lvvis"))
    assert command(run, "--from", "run", "--to", "results", "--out", mine / "results.json").exit_code == 0
    made = read_results(mine / "results.json", mine / "mine.json")
    assert [t.score for v in made.videos for t in v.tracks]
    scores = [one["score"] for one in coco_document(made)["annotations"]]
    assert scores
    result = command(mine / "results.json", "--from", "vis", "--to", "mots", "--out", mine / "mots")
    assert "name the annotation file with --annotations" in str(result.exception)
    result = command(
        mine / "results.json",
        "--from",
        "vis",
        "--annotations",
        mine / "mine.json",
        "--to",
        "mots",
        "--out",
        mine / "mots",
    )
    assert sorted(p.name for p in (mine / "mots").iterdir()) == ["classes.txt", "v1.txt", "v2.txt"]
    result = command(mine / "mine.json", "--from", "vis", "--to", "mots", "--out", mine / "mots")
    assert "already exists and is not an empty folder" in str(result.exception)


def test_bursts_own_form(tmp_path: Path) -> None:
    write_burst(tmp_path)
    file = tmp_path / "burst/annotations/val/all_classes.json"
    assert command(file, "--from", "burst", "--out", tmp_path / "vis.json").exit_code == 0
    assert shapes(read_truth(tmp_path / "vis.json")) == shapes(read_truth(file))
    assert len(read_annotations(tmp_path / "vis.json").videos) == 2


def test_fiftyone_samples(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (mine / "mine.json", "--from", "vis", "--to", "fiftyone", "--frames", mine / "frames", "--out", "seen")
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    assert "needs a package that is not installed" in str(command(*arguments).exception)
    added: dict[str, list[Any]] = {}

    class Sample(dict[str, Any]):
        def __init__(self, filepath: str) -> None:
            super().__init__(filepath=filepath)

    class Dataset:
        def __init__(self, name: str, persistent: bool) -> None:
            self.samples = added.setdefault(name, [])

        def add_samples(self, samples: list[Any]) -> None:
            self.samples += samples

    stand_in = types.ModuleType("fiftyone")
    stand_in.__dict__.update(Sample=Sample, Dataset=Dataset, Detection=dict, Detections=dict,
                             dataset_exists=lambda name: name in added)  # fmt: skip
    monkeypatch.setitem(sys.modules, "fiftyone", stand_in)
    assert command(*arguments).exit_code == 0
    assert [sample["video"] for sample in added["seen"]] == ["v1", "v1", "v2", "v2"]
    first = added["seen"][0]
    assert Path(first["filepath"]) == mine / "frames/v1/0.jpg"
    (one,) = first["ground_truth"]["detections"]
    assert (one["label"], one["index"], one["mask"].shape, bool(one["mask"].all())) == ("cat", 1, (10, 10), True)
    assert one["bounding_box"] == pytest.approx([2 / 30, 2 / 20, 10 / 30, 10 / 20])
    assert "already exists" in str(command(*arguments).exception)


def test_names_that_lead_out_of_the_folder_are_refused(mine: Path) -> None:
    made = document()
    made["videos"][0]["name"] = "../../out"
    (mine / "mine.json").write_text(json.dumps(made))
    for form in ("masks", "mots"):
        result = command(mine / "mine.json", "--from", "vis", "--to", form, "--out", mine / form)
        assert "has a name that leads out of the folder" in str(result.exception)


def test_what_is_written_has_all_fields_that_protocols_read(mine: Path) -> None:
    made = youtube_vis_document(read_truth(mine / "mine.json"))
    assert {"id", "video_id", "category_id", "iscrowd", "segmentations", "areas", "bboxes"} <= set(
        made["annotations"][0]
    )
    assert made["annotations"][0]["areas"] == [100, 110]
    assert made["annotations"][0]["bboxes"][0] == [2, 2, 10, 10]
