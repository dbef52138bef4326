"""COCO 2017 (Lin et al., ECCV 2014): images with instances of 80 categories, to train on.

{data root}/coco/annotations/instances_train2017.json   instances_val2017.json
{data root}/coco/train2017/{number}.jpg   val2017/{number}.jpg            (or images/train2017)
"""

from __future__ import annotations

from harness.datasets.coco_format import ImageDataset, ImageSplit


def _split(name: str, images: int, objects: int) -> ImageSplit:
    file = f"instances_{name}2017.json"
    return ImageSplit(name, (f"annotations/{file}", file), f"{name}2017", images, objects)


PLUGIN = ImageDataset(
    name="coco",
    title="COCO 2017",
    summary="COCO 2017, to train on: 118287 images, 80 categories",
    declared=(_split("train", 118_287, 860_001), _split("val", 5000, 36_781)),
    folders=("coco", "COCO"),
    image_folders=("coco", "COCO", "coco/images", "images"),
    categories=80,
    home="https://cocodataset.org/#download",
)
