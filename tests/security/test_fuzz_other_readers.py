"""Readers of all other untrusted files, on mutated bytes of valid files: a value or a `UserError`.

These are containers, other tools' annotations, images, rows of a table, records, and the files of a run folder.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import error_text, fuzzed, mutated
from oracle_runs import oracle_run
from PIL import Image
from small_runs import make_dataset
from vis_documents import document, perfect

from harness.cli.experiment import read_experiment
from harness.convert.coco_frames import coco_document, read_coco
from harness.convert.cvat import read_cvat
from harness.convert.label_studio import read_label_studio
from harness.convert.palette import read_palette
from harness.convert.youtube_vis import read_truth
from harness.datasets.described import read as read_description
from harness.formats.coco_video import read_coco_video, read_detections
from harness.formats.youtube_vis import annotations_from_document, read_annotations
from harness.image_files import opened_image, pixels
from harness.reports.published import read_given
from harness.reports.regression import read_baseline
from harness.result_record import read_record, record_of_run, write_record
from harness.run_folder.checksums import SUMS_FILE
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.status import read_status
from harness.scoring.score import score_results
from harness.training.instance_file import read_instances

CVAT = b"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>clip</name><size>3</size><start_frame>10</start_frame>
<frame_filter>step=2</frame_filter><original_size><width>30</width><height>20</height></original_size></task></meta>
<track id="0" label="dog"><polygon frame="10" outside="0" points="1,1;11,1;11,11;1,11"/></track>
<track id="1" label="cat"><box frame="14" outside="0" xtl="15" ytl="3" xbr="20" ybr="9"/></track>
<track id="2" label="dog"><mask frame="12" outside="0" rle="1, 4, 1" left="4" top="5" width="3" height="2"/></track>
</annotations>"""
ROWS_CSV = b"""method,dataset,split,metric,value,source,source_kind
Mine,LV-VIS,val,AP,31.5,"a talk, 2026",paper
Mine,LV-VIS,val,APn,20.5,"a talk, 2026",paper
"""
ROWS_YAML = (
    b"- {method: Mine, dataset: LV-VIS, split: val, metric: AP, value: 31.5, source: a talk, source_kind: paper}\n"
)
DESCRIPTION = (
    b"name: mine\nprotocol: lvvis\nsplits:\n  val: {annotations: gt.json, frames: frames}\ndefault_split: val\n"
)
EXPERIMENT = b"models: {oracle: {settings: {erode_px: 1}}}\ndatasets: [shapes]\nlimit: 2\nseed: 1\n"
BASELINE = b"""{"format": 1, "model": "m", "dataset": "d", "split": "val", "digest": "d", "content": "c", "limit": null,
"protocol": {"name": "lvvis", "version": "1"}, "metrics": {"AP": 0.5, "APn": null}, "undefined": {"APn": "no video"}}"""


class Reader(NamedTuple):
    """A valid file, its name, and what reads it."""

    name: str
    whole: Callable[[], bytes]
    read: Callable[[Path], object]


def _zipped(data: bytes, name: str = "results.json", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def _results() -> bytes:
    return json.dumps(perfect(document())).encode()


def _score(path: Path) -> None:
    score_results("lvvis", annotations_from_document(document(), "gt"), path)


def _boxes() -> bytes:
    """A task of Label Studio: a video with boxes."""
    here = {"x": 0, "y": 0, "width": 20, "height": 50, "rotation": 0}
    sequence = [{"frame": 1, "enabled": True, **here}, {"frame": 3, "enabled": False, **here}]
    value = {"framesCount": 4, "sequence": sequence, "labels": ["cat"]}
    result = {"id": "a", "type": "videorectangle", "from_name": "box", "value": value}
    return json.dumps([{"id": 1, "data": {"video": "clip.mp4"}, "annotations": [{"result": [result]}]}]).encode()


def _polygons() -> bytes:
    """A task of Label Studio: a frame with a polygon."""
    points = {"points": [[10, 10], [30, 10], [30, 60]], "polygonlabels": ["cat"]}
    size = {"original_width": 30, "original_height": 20}
    region = {"id": "b", "type": "polygonlabels", "from_name": "label", **size, "value": points}
    return json.dumps([{"data": {"image": "clips/v1/0.jpg"}, "annotations": [{"result": [region]}]}]).encode()


def _label_studio(path: Path) -> None:
    (path.parent / "clip").mkdir(exist_ok=True)
    for number in range(4):
        (path.parent / "clip" / f"{number}.png").write_bytes(_palette())
    read_label_studio(path, path.parent)


@functools.cache
def _coco(folder: Path) -> bytes:
    path = folder / "vis.json"
    path.write_text(json.dumps(document()))
    return json.dumps(coco_document(read_truth(path))).encode()


def _detections(path: Path) -> None:
    if read_coco_video(path) is None:
        for _ in read_detections(path):
            pass


def _image(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(20, 20, 3)).save(file, kind)
    return file.getvalue()


@functools.cache
def _palette() -> bytes:
    file = io.BytesIO()
    image = Image.fromarray((np.arange(600).reshape(20, 30) // 200).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0] + 254 * [9, 9, 9])
    image.save(file, "PNG")
    return file.getvalue()


def _pixels(path: Path) -> None:
    with opened_image(path, str(path), "give another") as image:
        pixels(image, str(path))


def _masks(path: Path) -> None:
    folder = path.parent / "Annotations" / "clip"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder / "00000.png")
    read_palette(folder.parent)


def _experiment(path: Path) -> None:
    read_experiment(path, [])


def _instances() -> bytes:
    square = [10, 10, 30, 10, 30, 30, 10, 30]
    one = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20], "area": 400, "segmentation": [square]}
    image = {"id": 1, "height": 40, "width": 60, "file_name": "a.jpg"}
    whole = {"images": [image], "categories": [{"id": 3, "name": "cat"}], "annotations": [{**one, "iscrowd": 0}]}
    return json.dumps(whole).encode()


READERS = (
    Reader("results.zip", lambda: _zipped(_results()), _score),
    Reader("stored.zip", lambda: _zipped(_results(), method=zipfile.ZIP_STORED), _score),
    Reader("lzma.zip", lambda: _zipped(_results(), method=zipfile.ZIP_LZMA), _score),
    Reader("bzip2.zip", lambda: _zipped(_results(), method=zipfile.ZIP_BZIP2), _score),
    Reader("results.json.gz", lambda: gzip.compress(_results(), mtime=0), _score),
    Reader("utf16.json", lambda: _results().decode().encode("utf-16"), _score),
    Reader("lines.json", lambda: b"\n".join(json.dumps(one).encode() for one in perfect(document())), _score),
    Reader("gt.json.gz", lambda: gzip.compress(json.dumps(document()).encode(), mtime=0), read_annotations),
    Reader("cvat.xml", lambda: CVAT, read_cvat),
    Reader("cvat.zip", lambda: _zipped(CVAT, "annotations.xml"), read_cvat),
    Reader("boxes.json", _boxes, _label_studio),
    Reader("polygons.json", _polygons, read_label_studio),
    Reader("photo.jpg", lambda: _image("JPEG"), _pixels),
    Reader("photo.png", lambda: _image("PNG"), _pixels),
    Reader("photo.webp", lambda: _image("WEBP"), _pixels),
    Reader("mask.png", _palette, _masks),
    Reader("rows.csv", lambda: ROWS_CSV, read_given),
    Reader("rows.yaml", lambda: ROWS_YAML, read_given),
    Reader("dataset.yaml", lambda: DESCRIPTION, read_description),
    Reader("experiment.yaml", lambda: EXPERIMENT, _experiment),
    Reader("instances.json", _instances, read_instances),
    Reader("baseline.json", lambda: BASELINE, read_baseline),
)


@pytest.mark.parametrize("reader", READERS, ids=[one.name for one in READERS])
@pytest.mark.filterwarnings("ignore")  # Pillow's, of what it finds in damaged files
@given(data=st.data())
@fuzzed
def test_files(tmp_path: Path, reader: Reader, data: st.DataObject) -> None:
    path = tmp_path / reader.name
    path.unlink(missing_ok=True)
    path.write_bytes(data.draw(mutated(reader.whole())))
    error_text(lambda: reader.read(path))


@pytest.mark.parametrize("reader", READERS, ids=[one.name for one in READERS])
def test_valid_files_are_read(tmp_path: Path, reader: Reader) -> None:
    """What is mutated is read as it is; otherwise mutations of it would show little."""
    path = tmp_path / reader.name
    path.write_bytes(reader.whole())
    assert error_text(lambda: reader.read(path)) == ""


@pytest.mark.parametrize("read", [read_coco, _detections])
@given(data=st.data())
@fuzzed
def test_frames_with_tracks(tmp_path: Path, read: Callable[[Path], object], data: st.DataObject) -> None:
    path = tmp_path / "frames.json"
    path.write_bytes(data.draw(mutated(_coco(tmp_path))))
    error_text(lambda: read(path))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return oracle_run(tmp_path_factory.mktemp("whole"), make_dataset())


def _whole_run(folder: Path) -> None:
    """Read all that a run folder holds; a fault of one part does not keep the others from being read."""
    for read in (
        lambda: read_status(folder),
        lambda: read_baseline(folder / "metrics.json"),
        *(
            functools.partial(getattr, FinishedRun(folder), name)
            for name in ("content", "environment", "times", "bench", "failures", "loaded_weights", "categories",
                         "reasons", "metrics", "per_category", "per_video", "data")
        ),
        lambda: record_of_run(FinishedRun(folder)),
    ):  # fmt: skip
        error_text(read)


RUN_FILES = ("config.json", "metrics.json", "environment.json", "videos.json", "per_category.csv", "progress")


@pytest.mark.parametrize("name", RUN_FILES)
@given(data=st.data())
@fuzzed
def test_files_of_a_run(tmp_path: Path, run: Path, name: str, data: st.DataObject) -> None:
    folder = tmp_path / "run"
    if not folder.exists():
        shutil.copytree(run, folder)
    for source in sorted(run.rglob(f"{name}*")):
        if source.is_file():
            (folder / source.relative_to(run)).write_bytes(data.draw(mutated(source.read_bytes())))
            break
    else:
        pytest.fail(f"the run has no {name}")
    (folder / SUMS_FILE).unlink(missing_ok=True)  # an attacker writes new sums
    _whole_run(folder)


@given(data=st.data())
@fuzzed
def test_records(tmp_path: Path, run: Path, data: st.DataObject) -> None:
    path = tmp_path / "record.json"
    write_record(path, record_of_run(FinishedRun(run)))
    path.write_bytes(data.draw(mutated(path.read_bytes())))
    error_text(lambda: read_record(path))
