"""Annotated images as a training set: what is left out, where images lie, and the objects of a draw.

Tests of `harness/training/outlines.py` and `harness/training/types.py`.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from instance_documents import HEIGHT, SQUARE, WIDTH, document, region, write_images
from PIL import Image
from pycocotools.coco import COCO

from harness.errors import UserError
from harness.training.augment import ShortestEdge
from harness.training.image_sets import ImageSet
from harness.training.instance_file import read_instances
from harness.training.loader import Share, Stream, batches
from harness.training.sampling import Order, repeat_factors
from harness.training.types import TrainingImage

AS_IT_IS = ShortestEdge(HEIGHT, WIDTH)


class NeverMirrored:
    """A generator whose numbers are high."""

    def random(self) -> float:
        return 0.9


def image_set(folder: Path, content: dict[str, Any] | None = None, left_out: str = "r") -> ImageSet:
    write_images(folder / "train2017")
    (folder / "instances.json").write_text(json.dumps(content or document()))
    return ImageSet("set", read_instances(folder / "instances.json"), folder, "train2017", tuple(left_out))


def draw(chosen: ImageSet, item: int) -> TrainingImage:
    return chosen.draw(item, np.random.default_rng(0))


def test_images_without_an_object_to_train_on_are_dropped(tmp_path: Path) -> None:
    chosen = image_set(tmp_path)  # image 30 shows a crowd only, 40 a rare category, 50 nothing
    assert [image.id for image in chosen.images] == [10, 20]
    assert [chosen.categories_of(item) for item in range(2)] == [[1, 2], [2]]
    assert [image.id for image in image_set(tmp_path, left_out="").images] == [10, 20, 40]
    assert [image.id for image in image_set(tmp_path, left_out="rf").images] == [10]


def test_the_list_of_categories_stays_whole(tmp_path: Path) -> None:
    categories = image_set(tmp_path).categories
    assert [(c.id, c.name, c.synonyms, c.groups) for c in categories] == [
        (1, "awl", (), ("novel",)),
        (2, "bat", (), ("base",)),
        (3, "cup", ("mug",), ("base",)),
    ]


def test_a_draw_has_the_image_and_its_objects(tmp_path: Path) -> None:
    chosen = image_set(tmp_path)
    first, second = draw(chosen, 0), draw(chosen, 1)
    assert first.name == str(tmp_path / "train2017/000000000010.jpg")
    assert first.image.shape == (HEIGHT, WIDTH, 3)
    assert (first.image == 10).all()
    assert [instance.category for instance in first.instances] == [2, 1]
    polygons = [[polygon.tolist() for polygon in instance.outline] for instance in first.instances]
    assert polygons[0][0] == np.reshape(SQUARE, (-1, 2)).tolist()
    assert [len(parts) for parts in polygons] == [2, 1]  # two points are no polygon
    boxes = region(5, 5, 20, 25), region(0, 0, 8, 60)
    for instance, box in zip(second.instances, boxes, strict=True):
        assert np.array_equal(instance.outline, box.astype(bool))


def test_masks_are_those_of_pycocotools(tmp_path: Path) -> None:
    plain = document()
    del plain["annotations"][1]["segmentation"][1]  # of two points
    chosen = image_set(tmp_path, plain, left_out="")
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO(str(tmp_path / "instances.json"))
    for item, image in enumerate(chosen.images):
        sample = AS_IT_IS(draw(chosen, item), NeverMirrored())
        annotations = official.loadAnns(official.getAnnIds(image.id, iscrowd=False))
        for mask, annotation in zip(sample.masks, annotations, strict=True):
            assert np.array_equal(mask, official.annToMask(annotation).astype(bool))


def test_images_are_named_by_the_url_or_by_the_file_name(tmp_path: Path) -> None:
    by_url, by_name = image_set(tmp_path), image_set(tmp_path, document("file_name"))
    assert by_url.names == by_name.names == ("train2017/000000000010.jpg", "train2017/000000000020.jpg")
    elsewhere = document()
    for image in elsewhere["images"]:
        image["coco_url"] = image["coco_url"].replace("train2017", "val2017")
    assert image_set(tmp_path, elsewhere).names[0] == "val2017/000000000010.jpg"
    for nameless in ({"coco_url": None}, {"coco_url": "picture.jpg"}, {"coco_url": "http://host/train2017/"}):
        with pytest.raises(UserError, match="image 10: has neither file_name nor coco_url"):
            image_set(tmp_path, document() | {"images": [i | nameless for i in document()["images"]]})


def test_what_is_left_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    flat = document()
    flat["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    image_set(tmp_path, flat)
    assert "1 outlines have fewer than three points" in caplog.text
    assert "left out 1 crowds and 1 objects of rare categories" in caplog.text
    assert "2 of 5 images show an object to train on" in caplog.text


def test_rare_objects_cannot_be_left_out_without_frequencies(tmp_path: Path) -> None:
    plain = document()
    plain["categories"] = [{"id": c["id"], "name": c["name"]} for c in plain["categories"]]
    assert len(image_set(tmp_path, plain, left_out="")) == 3
    with pytest.raises(UserError, match=r"have no frequency.*lvis_v1_train\.json"):
        image_set(tmp_path, plain)


def test_a_file_without_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image shows an object"):
        image_set(tmp_path, document() | {"annotations": []})


def test_the_digest_follows_from_the_file_and_from_what_is_left_out(tmp_path: Path) -> None:
    digests = {image_set(tmp_path).digest, image_set(tmp_path, left_out="").digest}
    changed = document()
    changed["annotations"][0]["segmentation"][0][0] += 1
    assert len(digests | {image_set(tmp_path, changed).digest}) == 3


def test_a_file_that_is_written_during_a_training_is_noticed(tmp_path: Path) -> None:
    chosen = image_set(tmp_path)
    os.utime(tmp_path / "instances.json", ns=(1, 1))
    with pytest.raises(UserError, match="has changed since"):
        draw(chosen, 0)


def test_images_of_other_sizes_are_refused(tmp_path: Path) -> None:
    chosen = image_set(tmp_path)
    Image.new("RGB", (WIDTH, 50)).save(tmp_path / chosen.names[0])
    with pytest.raises(UserError, match=r"000000000010\.jpg.*is 50x60.*say 40x60"):
        draw(chosen, 0)


def test_images_to_train_on_have_8_bits(tmp_path: Path) -> None:
    chosen = image_set(tmp_path)
    deep = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 27
    Image.fromarray(deep).save(tmp_path / chosen.names[0], format="PNG")
    np.testing.assert_array_equal(draw(chosen, 0).image, (deep >> 8)[..., None].repeat(3, 2))


def test_names_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    leaving = document("file_name")
    for image in leaving["images"]:
        image["file_name"] = "../../" + image["file_name"]
    with pytest.raises(UserError, match="not a path below its folder"):
        draw(image_set(tmp_path, leaving), 0)


def test_a_set_travels_to_other_processes(tmp_path: Path) -> None:
    chosen = image_set(tmp_path)
    copy = pickle.loads(pickle.dumps(chosen))
    assert np.array_equal(draw(copy, 1).instances[0].outline, draw(chosen, 1).instances[0].outline)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_is_lost_during_a_training_is_named_in_its_turn(tmp_path: Path, workers: int) -> None:
    chosen = image_set(tmp_path)
    stream = Stream(chosen, AS_IT_IS, Order(repeat_factors(chosen, 0.001), 0), seed=0)
    lost = stream.order.item(1)
    (tmp_path / chosen.names[lost]).unlink()
    feed = batches(stream, Share(1), 0, workers)
    sample = next(feed)[0]
    assert sample.masks.dtype == np.bool_
    assert sample.masks.shape == (2, HEIGHT, WIDTH)
    with pytest.raises(UserError, match=r"\.jpg.* is missing"):
        next(feed)
