"""LVIS v1 (Gupta et al., CVPR 2019): images of COCO 2017 with 1203 categories; models train without the rare ones.

    {data root}/lvis/lvis_v1_train.json   lvis_v1_val.json            (or in annotations/)
    {data root}/coco/train2017/{number}.jpg   coco/val2017/{number}.jpg

The val split has images of both folders.
"""

from __future__ import annotations

from harness.datasets.coco_format import ImageDataset, ImageSplit


def _split(name: str, images: int, objects: int) -> ImageSplit:
    file = f"lvis_v1_{name}.json"
    return ImageSplit(name, (file, f"annotations/{file}"), f"{name}2017", images, objects)


PLUGIN = ImageDataset(
    name="lvis",
    title="LVIS v1",
    summary="LVIS v1, to train on: 100170 images, 1203 categories, objects of the 337 rare ones left out",
    declared=(_split("train", 100_170, 1_270_141), _split("val", 19_809, 244_707)),
    folders=("lvis", "LVIS", "lvis_v1", "coco"),
    image_folders=("coco", "COCO", "coco/images", "lvis", "LVIS", "images"),
    categories=1203,
    home="https://www.lvisdataset.org/dataset (annotations) and https://cocodataset.org/#download (2017 images)",
    left_out=("r",),
)
