"""Annotation files of images in COCO's format (COCO 2017, LVIS v1), indexed without keeping the outlines in memory.

LVIS's training file has more than 1 GB, nearly all of it polygons. Every record is checked once; only the position of
its outline in the file is kept, so that memory and worker processes stay small.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.arrays import Ints
from harness.errors import UserError
from harness.formats.segmentations import decode_record
from harness.formats.youtube_vis import record_spans
from harness.input_files import ANNOTATION_BYTES, open_file
from harness.training.outlines import Encoded, Written, compressed, has_area

SEGMENTATION = np.frombuffer(b'segmentation"', np.uint8)
RECORDS_AT_ONCE = 4096
"""Number of annotations that are parsed together: some tens of megabytes."""

Id = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Side = Annotated[int, msgspec.Meta(ge=1, le=2**15)]


class ImageRecord(msgspec.Struct, frozen=True):
    """An image record of the file: size in pixels, and name."""

    id: Id
    height: Side
    width: Side
    file_name: str | None = None
    coco_url: str | None = None


class InstanceCategory(msgspec.Struct, frozen=True):
    """A category; ``frequency`` (frequent, common, rare) and ``synonyms`` occur in LVIS only."""

    id: Id
    name: str
    frequency: Literal["f", "c", "r"] | None = None
    synonyms: tuple[str, ...] = ()


class _Annotation(msgspec.Struct):
    id: Id
    image_id: Id
    category_id: Id
    segmentation: Written
    iscrowd: Literal[0, 1] = 0


class _File(msgspec.Struct):
    images: list[ImageRecord]
    annotations: msgspec.Raw
    categories: list[InstanceCategory]


class _Named(msgspec.Struct):
    id: Any = None


class Stamp(NamedTuple):
    """Size in bytes and time of modification (ns) of a file, to detect changes."""

    size: int
    written: int


@dataclass(frozen=True)
class InstanceFile:
    """A checked file: images and categories by ascending id, annotations ``(annotations,)`` in file order."""

    path: Path
    digest: str
    """SHA-256 of the file."""
    stamp: Stamp
    images: tuple[ImageRecord, ...]
    categories: tuple[InstanceCategory, ...]
    image: NDArray[np.int32]
    """Position of each annotation's image in ``images``."""
    category: NDArray[np.int32]
    """Position of each annotation's category in ``categories``."""
    is_crowd: NDArray[np.bool_]
    has_area: NDArray[np.bool_]
    """False if every polygon has fewer than three points."""
    place: Ints
    """``(annotations, 2)``: first byte of each annotation's ``segmentation`` in the file, and the byte after it."""


def stamp_of(file: Any) -> Stamp:
    """The stamp of an open file."""
    status = os.fstat(file.fileno())
    return Stamp(status.st_size, status.st_mtime_ns)


def read_instances(path: Path) -> InstanceFile:
    """Read a file and check all of it: ids, sizes, polygons and encodings.

    Raises `UserError`, which names the record, for a missing, malformed or inconsistent file.
    """
    try:
        with open_file(path, ANNOTATION_BYTES, is_text=True) as file:
            stamp = stamp_of(file)
            text = np.memmap(file, np.uint8, "r") if stamp.size else np.empty(0, np.uint8)
    except OSError as error:
        raise UserError(str(path), error.strerror or "cannot be read", "check the path") from error
    name = str(path)
    digest = hashlib.sha256(text.data).hexdigest()
    read = decode_record(msgspec.Raw(text.data), _File, name)
    images = tuple(sorted(read.images, key=lambda image: image.id))
    categories = tuple(sorted(read.categories, key=lambda category: category.id))
    _refuse_repeated(np.array([image.id for image in images], np.int64), "image", name)
    _refuse_repeated(np.array([category.id for category in categories], np.int64), "category", name)
    annotations = np.frombuffer(memoryview(read.annotations), np.uint8)
    spans = record_spans(annotations, name, SEGMENTATION)
    image, category, is_crowd, outlined = _Checked(images, categories, name).read(annotations, spans)
    # the array of annotations is a view of the mapped file: the difference of their addresses is its offset
    place = spans[:, 2:] + (annotations.ctypes.data - text.ctypes.data)
    return InstanceFile(path, digest, stamp, images, categories, image, category, is_crowd, outlined, place)


def _refuse_repeated(ids: Ints, what: str, name: str) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        at = int(np.argmax(counts > 1))
        raise UserError(f"{name}, {what} {values[at]}", f"is listed {counts[at]} times", "give each its own id")


class _Checked:
    """Checks annotations against the images and categories of their file."""

    def __init__(self, images: tuple[ImageRecord, ...], categories: tuple[InstanceCategory, ...], name: str) -> None:
        self.images, self.name = images, name
        self.image_at = {image.id: i for i, image in enumerate(images)}
        self.category_at = {category.id: i for i, category in enumerate(categories)}

    def read(
        self, text: NDArray[np.uint8], spans: Ints
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_], NDArray[np.bool_]]:
        """Return image, category, crowd flag and presence of an outline of each annotation; ids must be unique."""
        image, category = np.empty(len(spans), np.int32), np.empty(len(spans), np.int32)
        is_crowd, outlined = np.empty(len(spans), np.bool_), np.empty(len(spans), np.bool_)
        ids = np.empty(len(spans), np.int64)
        for first in range(0, len(spans), RECORDS_AT_ONCE):
            for i, record in enumerate(self._records(text, spans[first : first + RECORDS_AT_ONCE]), first):
                image[i], category[i] = self._owners(record)
                ids[i], is_crowd[i], outlined[i] = record.id, record.iscrowd, has_area(record.segmentation)
        _refuse_repeated(ids, "annotation", self.name)
        return image, category, is_crowd, outlined

    def _records(self, text: NDArray[np.uint8], spans: Ints) -> list[_Annotation]:
        joined = b"[" + text[spans[0, 0] : spans[-1, 1]].tobytes() + b"]"
        try:
            return decode_record(joined, list[_Annotation], self.name)
        except UserError:
            for start, stop in spans[:, :2].tolist():  # again, one by one, to name the record
                record = text[start:stop].tobytes()
                decode_record(
                    record, _Annotation, f"{self.name}, annotation {decode_record(record, _Named, self.name).id}"
                )
            raise

    def _owners(self, record: _Annotation) -> tuple[int, int]:
        image, category = self.image_at.get(record.image_id), self.category_at.get(record.category_id)
        where = f"{self.name}, annotation {record.id}"
        if image is None:
            raise UserError(where, f"unknown image {record.image_id}", "add the image or remove the annotation")
        if category is None:
            raise UserError(where, f"unknown category {record.category_id}", "add it to categories")
        if isinstance(record.segmentation, Encoded) and not record.iscrowd:
            compressed(record.segmentation, (self.images[image].height, self.images[image].width), where)
        return image, category
