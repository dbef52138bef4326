"""A model and a dataset as a third party would write them, with the public nouns of the harness only."""

import numpy as np
from pycocotools import mask as coco
from pydantic import BaseModel, ConfigDict

from harness.errors import UserError
from harness.formats.youtube_vis import annotations_from_document
from harness.masks import Rle
from harness.types import Category, Dataset, Track, Video

HEIGHT, WIDTH, LENGTH = 20, 30, 4


class Config(BaseModel):
    """Where pixels count as bright."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    threshold: int = 128


class BrightPixels:
    """Finds what is bright."""

    def __init__(self, config):
        self.config = config

    def predict(self, video, vocabulary):
        if not vocabulary.categories:
            return
        masks = []
        for image in video.read():
            bright = np.asfortranarray((image.max(axis=2) > self.config.threshold).astype(np.uint8))
            masks.append(Rle((video.height, video.width), coco.encode(bright)["counts"]))
        yield Track(video.id, vocabulary.categories[0].id, 0.9, tuple(masks))


class CornersPlugin:
    """The model plugin."""

    name = "corners"
    version = "1"
    summary = "Finds bright pixels"
    Config = Config

    def load(self, config, context):
        return BrightPixels(config)


class Dot:
    """Frames with one white square that moves."""

    def __init__(self, video_id):
        self.video_id = video_id

    def __len__(self):
        return LENGTH

    def __getitem__(self, frame_index):
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        image[4:10, self.video_id + frame_index : self.video_id + frame_index + 8] = 255
        return image


class DotsPlugin:
    """The dataset plugin."""

    name = "dots"
    summary = "White squares"
    splits = ("val",)
    default_split = "val"

    def open(self, data_root, split):
        if split not in self.splits:
            raise UserError(f"dots {split}", "is no split", "use val")
        videos = tuple(Video(v, f"dot {v}", HEIGHT, WIDTH, Dot(v)) for v in (1, 2))
        annotations = annotations_from_document(self.document(videos), "dots val")
        return Dataset("dots", split, (Category(1, "dot"),), videos, "ytvis", annotations)

    def document(self, videos):
        size = {"height": HEIGHT, "width": WIDTH, "length": LENGTH}
        tracks = []
        for video in videos:
            images = [np.asfortranarray((image[:, :, 0] > 0).astype(np.uint8)) for image in video.read()]
            masks = [{"size": [HEIGHT, WIDTH], "counts": coco.encode(image)["counts"].decode()} for image in images]
            tracks.append({"id": video.id, "video_id": video.id, "category_id": 1, "iscrowd": 0, "areas": [48] * LENGTH,
                           "segmentations": masks, **size})  # fmt: skip
        names = [f"{frame}.png" for frame in range(LENGTH)]
        return {
            "videos": [{"id": v.id, **size, "file_names": names} for v in videos],
            "categories": [{"id": 1, "name": "dot"}],
            "annotations": tracks,
        }

    def check(self, data_root, split=None):
        raise UserError("dots", "are generated", "there is nothing to check")


CORNERS = CornersPlugin()
DOTS = DotsPlugin()
