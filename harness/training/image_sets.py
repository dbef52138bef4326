"""Annotated images in COCO's form as a training set: LVIS v1 and COCO 2017 (docs/training.md)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from harness.errors import UserError
from harness.image_files import ImageFrames
from harness.input_files import UNBOUNDED, decode_json, open_file
from harness.training.instance_file import ImageRecord, InstanceFile, stamp_of
from harness.training.outlines import Written, outline_of
from harness.training.types import Instance, TrainingImage
from harness.types import Category

log = logging.getLogger(__name__)

_GROUPS = {"f": ("base",), "c": ("base",), "r": ("novel",), None: ()}
"""Groups by frequency: as in open-vocabulary work on LVIS, rare categories are the novel ones."""


class ImageSet:
    """The images of a file that show an object, without crowds and without categories of ``left_out`` frequencies.

    The list of categories stays complete. Images are below ``root``, with the names of `image_name`.
    """

    def __init__(self, name: str, file: InstanceFile, root: Path, folder: str, left_out: Collection[str] = ()) -> None:
        self.name, self.path, self.stamp, self.root = name, file.path, file.stamp, root
        self.categories = tuple(
            Category(c.id, c.name, tuple(s for s in c.synonyms if s != c.name), _GROUPS[c.frequency])
            for c in file.categories
        )
        kept = _kept(file, left_out)
        chosen = np.flatnonzero(kept)
        chosen = chosen[np.argsort(file.image[chosen], kind="stable")]
        shown, first = np.unique(file.image[chosen], return_index=True)
        self._first = np.append(first, len(chosen))
        """Item i has the annotations ``_first[i]`` to ``_first[i + 1]``."""
        self._category, self._place = file.category[chosen], file.place[chosen]
        self.images = tuple(file.images[i] for i in shown.tolist())
        self.names = tuple(image_name(image, folder, file.path) for image in self.images)
        self.digest = hashlib.sha256(" ".join([file.digest, *sorted(left_out)]).encode()).hexdigest()
        if not len(self):
            raise UserError(str(file.path), "no image shows an object to train on", "name a file with annotations")
        log.info("%s: %d of %d images show an object to train on", file.path, len(self), len(file.images))

    def __len__(self) -> int:
        return len(self.images)

    def categories_of(self, item: int) -> Sequence[int]:
        """Positions of the categories that an image shows."""
        found: list[int] = np.unique(self._category[self._first[item] : self._first[item + 1]]).tolist()
        return found

    def draw(self, item: int, random: np.random.Generator) -> TrainingImage:
        """Return image ``item`` with its objects; ``random`` is not used.

        Raises `UserError` for an image that is missing, broken or of another size than its record, and if the
        annotation file has changed.
        """
        record, name = self.images[item], self.names[item]
        image = ImageFrames(self.root, (name,), record.height, record.width)[0]
        instances = []
        with open_file(self.path, UNBOUNDED) as file:
            if stamp_of(file) != self.stamp:
                raise UserError(str(self.path), "has changed since the training began", "repeat the command")
            for row in range(self._first[item], self._first[item + 1]):
                start, stop = self._place[row].tolist()
                file.seek(start)
                written = decode_json(file.read(stop - start), Written)
                outline = outline_of(written, (record.height, record.width), f"{self.path}, image {record.id}")
                instances.append(Instance(int(self._category[row]), outline))
        return TrainingImage(str(self.root / name), image, tuple(instances))


def image_name(image: ImageRecord, folder: str, path: Path) -> str:
    """The path of an image: its ``file_name`` in ``folder``, or else the last two parts of its ``coco_url``."""
    if image.file_name:
        return f"{folder}/{image.file_name}"
    tail = (image.coco_url or "").split("/")[-2:]
    if len(tail) < 2 or not all(tail):
        raise UserError(f"{path}, image {image.id}", "has neither file_name nor coco_url", "give it a file_name")
    return "/".join(tail)


def _kept(file: InstanceFile, left_out: Collection[str]) -> np.ndarray:
    """Which annotations are used, ``(annotations,)``; the log says how many are left out."""
    if left_out and not any(category.frequency for category in file.categories):
        hint = "use LVIS's own file, lvis_v1_train.json"
        raise UserError(str(file.path), "its categories have no frequency, so rare ones cannot be left out", hint)
    rare = np.array([category.frequency in left_out for category in file.categories], np.bool_)
    is_rare = rare[file.category]
    if not file.has_area.all():
        log.warning("%s: %d outlines have fewer than three points, left out", file.path, int((~file.has_area).sum()))
    log.info("%s: left out %d crowds and %d objects of rare categories", file.path, int(file.is_crowd.sum()),
             int(is_rare.sum()))  # fmt: skip
    return ~file.is_crowd & ~is_rare & file.has_area
