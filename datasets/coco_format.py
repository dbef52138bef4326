"""Sets of annotated images in COCO's form: one declaration each; checking and training are shared."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from harness.datasets.completeness import (
    CopyReport,
    ImageCounts,
    SplitReport,
    check_frames,
    declared_split,
    refuse_missing_files,
)
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.training.image_sets import ImageSet


@dataclass(frozen=True, slots=True)
class ImageSplit:
    """A split: the possible paths of its annotation file below the set's folder, and its expected counts.

    ``folder`` is the folder of its images below that of all images.
    """

    name: str
    files: tuple[str, ...]
    folder: str
    images: int
    objects: int


class _Place(NamedTuple):
    """Where a split was found; ``images`` is the folder of all images."""

    annotations: Path
    images: Path


@dataclass(frozen=True)
class ImageDataset:
    """A set of images to train on; satisfies `harness.types.DatasetPlugin`, but holds no videos to open.

    ``folders`` and ``image_folders`` are names that the folders of annotations and of images may have below the data
    root (the data root itself counts too). Objects of ``left_out`` frequencies (LVIS's f, c, r) are not trained on.
    """

    name: str
    title: str
    summary: str
    declared: tuple[ImageSplit, ...]
    folders: tuple[str, ...]
    image_folders: tuple[str, ...]
    categories: int
    home: str
    left_out: Collection[str] = ()
    default_split: str = "train"

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(split.name for split in self.declared)

    def open(self, data_root: Path, split: str) -> NoReturn:
        """Always raises `UserError`: the set has no videos to run a model on."""
        what = f"{self.title} is a set of images to train on, without videos"
        raise UserError(self.name, what, f"use it with harness train --dataset {self.name}")

    def training_set(self, data_root: Path, split: str) -> ImageSet:
        """The images of a split that show an object, without crowds and ``left_out`` frequencies.

        Raises `UserError` for an unknown split, a missing or malformed file, and where images are missing.
        """
        from harness.training.image_sets import ImageSet
        from harness.training.instance_file import read_instances

        declared = self._split(split)
        place = self._find(Path(data_root), declared)
        hint = f"expected {self.tree(Path(data_root), split)}; get it from {self.home}"
        if place is None:
            raise UserError(self.name, f"no annotations of the {split} split under {data_root}", hint)
        if not (place.images / declared.folder).is_dir():
            raise UserError(self.name, f"no images of the {split} split under {data_root}", hint)
        found = ImageSet(self.name, read_instances(place.annotations), place.images, declared.folder, self.left_out)
        refuse_missing_files(place.images, found.names, f"get them from {self.home}")
        return found

    def check(self, data_root: Path, split: str | None = None) -> CopyReport:
        """Compare a copy with what it should hold: all splits, or the named one. Every image file is looked at."""
        chosen = self.declared if split is None else (self._split(split),)
        reports = tuple(self._check(Path(data_root), one) for one in chosen)
        return CopyReport(self.name, str(data_root), reports, self.home)

    def tree(self, data_root: Path, split: str) -> str:
        """The files that a split needs, in words and on one line."""
        declared = self._split(split)
        images = data_root / self.image_folders[0] / declared.folder
        return f"{data_root / self.folders[0] / declared.files[0]}, with images in {images}/<number>.jpg"

    def _split(self, name: str) -> ImageSplit:
        return declared_split(self.name, self.declared, name)

    def _find(self, data_root: Path, split: ImageSplit) -> _Place | None:
        roots = [*(data_root / name for name in self.image_folders), data_root]
        images = next((root for root in roots if (root / split.folder).is_dir()), roots[0])
        for folder in (*(data_root / name for name in self.folders), data_root):
            for file in split.files:
                if (folder / file).is_file():
                    return _Place(folder / file, images)
        return None

    def _check(self, data_root: Path, split: ImageSplit) -> SplitReport:
        from harness.training.image_sets import image_name
        from harness.training.instance_file import read_instances

        expected = ImageCounts(frames=split.images, tracks=split.objects, categories=self.categories)
        place = self._find(data_root, split)
        if place is None:
            fault = f"no annotation file; expected {self.tree(data_root, split.name)}"
            return SplitReport(split.name, None, None, "public", ImageCounts(), expected, faults=(fault,))
        path = str(place.annotations)
        report = SplitReport(split.name, path, "public release", "public", ImageCounts(), expected)
        try:
            file = read_instances(place.annotations)
            names = [image_name(image, split.folder, file.path) for image in file.images]
        except UserError as error:
            return replace(report, faults=(str(error),))
        missing, truncated, _ = check_frames(place.images, names)
        folder = place.images / split.folder
        return replace(
            report,
            found=ImageCounts(frames=len(file.images), tracks=len(file.image), categories=len(file.categories)),
            missing_frames=missing,
            truncated_frames=truncated,
            faults=() if folder.is_dir() else (f"no folder of images; expected {folder}",),
            notes=_notes(int(file.is_crowd.sum()), int(np.count_nonzero(~file.has_area))),
        )


def _notes(crowds: int, flat: int) -> tuple[str, ...]:
    counts = ((crowds, "crowds"), (flat, "outlines of fewer than three points"))
    return tuple(f"{count} {what}, which are not trained on" for count, what in counts if count)
