"""Files in COCO's form: what is read of them, and that every fault is told with its record."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instance_documents import HEIGHT, WIDTH, document, write_large

from harness.errors import UserError
from harness.training.instance_file import read_instances


def write(folder: Path, content: Any) -> Path:
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def with_first(**changes: Any) -> dict[str, Any]:
    """The document with fields of its first annotation (id 20) changed."""
    changed = document()
    changed["annotations"][0] |= changes
    return changed


def test_a_file_is_indexed(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    file = read_instances(path)
    assert [image.id for image in file.images] == [10, 20, 30, 40, 50]
    assert [(c.id, c.frequency) for c in file.categories] == [(1, "r"), (2, "c"), (3, "f")]
    assert file.image.tolist() == [0, 0, 1, 1, 2, 3]
    assert file.category.tolist() == [2, 1, 2, 2, 1, 0]
    assert file.is_crowd.tolist() == [False] * 4 + [True, False]
    assert file.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    text = path.read_bytes()
    outlines = [json.loads(text[start:stop]) for start, stop in file.place.tolist()]
    assert outlines == [a["segmentation"] for a in document()["annotations"]]


def test_the_form_of_the_text_does_not_matter(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    plain = read_instances(path)
    path.write_text(json.dumps(document(), indent=3))
    spread = read_instances(path)
    assert np.array_equal(plain.image, spread.image)
    start, stop = spread.place[0].tolist()
    assert json.loads(path.read_bytes()[start:stop]) == document()["annotations"][0]["segmentation"]


def test_more_annotations_than_are_parsed_together(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    write_large(path, 300, 9000)
    file = read_instances(path)
    records = json.loads(path.read_text())["annotations"]
    assert [file.images[i].id for i in file.image.tolist()] == [r["image_id"] for r in records]
    start, stop = file.place[8999].tolist()
    assert json.loads(path.read_bytes()[start:stop]) == records[8999]["segmentation"]


def test_outlines_of_fewer_than_three_points_are_marked(tmp_path: Path) -> None:
    for flat in ([], [[]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]]):
        assert read_instances(write(tmp_path, with_first(segmentation=flat))).has_area.tolist() == [False] + [True] * 5


def test_a_mask_of_a_crowd_is_not_looked_at(tmp_path: Path) -> None:
    changed = document()
    changed["annotations"][4]["segmentation"] = {"size": [1, 1], "counts": [5]}
    assert read_instances(write(tmp_path, changed)).is_crowd.sum() == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_id": 11}, "annotation 20: unknown image 11"),
        ({"category_id": 9}, "annotation 20: unknown category 9"),
        ({"id": 21}, "annotation 21: is listed 2 times"),
        ({"iscrowd": 2}, "annotation 20, iscrowd: invalid enum value 2"),
        ({"segmentation": "polygon"}, "annotation 20, segmentation: expected"),
        ({"segmentation": None}, "annotation 20, segmentation: expected"),
        ({"segmentation": [[1, 2, 3, 4, 5, 1e300]]}, r"annotation 20, segmentation.*100000"),
        ({"segmentation": [[1, 2, "x", 4, 5, 6]]}, "annotation 20, segmentation.*expected `float`"),
        (
            {"segmentation": {"size": [WIDTH, HEIGHT], "counts": "0"}},
            "annotation 20: its mask is 60x40",
        ),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "0"}}, "annotation 20: counts end before the mask does"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [3]}}, "annotation 20: counts end before the mask does"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [2401]}}, "annotation 20: counts run past the end"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "\u00e9"}}, "annotation 20: counts are not a COCO"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [-1, 2401]}}, "annotation 20, segmentation"),
        ({"image_id": 2**70}, "annotation 20"),
    ],
)
def test_a_fault_names_its_annotation(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=f"instances.json, {words}") as error:
        read_instances(write(tmp_path, with_first(**changes)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["id", "image_id", "category_id", "segmentation"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    changed = document()
    del changed["annotations"][2][field]
    with pytest.raises(UserError, match=f"missing required field `{field}`"):
        read_instances(write(tmp_path, changed))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": [*document()["images"], document()["images"][1]]}, "image 10: is listed 2 times"),
        ({"categories": document()["categories"] * 2}, "category 1: is listed 2 times"),
        ({"images": [{"id": 10, "height": 0, "width": 3}]}, r"images\[0\].height"),
        ({"annotations": {}}, "annotations is not a list"),
        ({"annotations": [3]}, "record 0: is not an object"),
        ({"annotations": None}, "annotations is not a list"),
    ],
)
def test_a_fault_of_the_lists_is_told(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_instances(write(tmp_path, document() | changes))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b'{"images": []}'])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "instances.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"instances\.json"):
        read_instances(path)
    with pytest.raises(UserError, match="No such file"):
        read_instances(tmp_path / "other.json")


def test_a_file_without_annotations_has_none(tmp_path: Path) -> None:
    assert len(read_instances(write(tmp_path, document() | {"annotations": []})).image) == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_words(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(json.dumps(document()).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.sampled_from(b'0-.,"[]{}e \x00\xff\\n'))
    path = tmp_path / "instances.json"
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    with contextlib.suppress(UserError):
        file = read_instances(path)
        assert len(file.image) == len(file.place)
