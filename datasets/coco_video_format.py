"""Datasets whose annotations are boxes in COCO-video form: one declaration each; opening and checking are shared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.datasets.completeness import (
    CopyCounts,
    CopyReport,
    CountSource,
    SplitReport,
    StatedFrame,
    check_frames,
    declared_split,
)
from harness.errors import UserError
from harness.formats.coco_video import CocoVideo, ImageEntry, VideoEntry, read_coco_video
from harness.formats.youtube_vis import Annotations, annotations_from_document
from harness.image_files import ImageFrames
from harness.input_files import decode_json
from harness.scoring.metrics import GROUP_NAMES
from harness.types import Category, Dataset, Video


@dataclass(frozen=True, slots=True)
class BoxSplit:
    """A split: the possible paths of its annotation file below the dataset's folder, best first, and its expected
    counts.

    ``boxes`` is the number of annotated boxes; both numbers are ``None`` where no source states them.
    """

    name: str
    files: tuple[str, ...]
    videos: int | None = None
    boxes: int | None = None


class _Place(NamedTuple):
    """Where a split was found."""

    annotations: Path
    frames: Path


@dataclass(frozen=True)
class CocoVideoDataset:
    """A dataset of boxes; satisfies `harness.types.DatasetPlugin`. Models are asked for the file's own categories.

    ``folders`` are names that its folder may have below the data root (the data root itself counts too), ``frames``
    names of the folder to which file names are relative. ``protocol`` scores it; ``categories`` is the number of
    categories that ``source`` states, which all numbers are from. ``home`` is where a user gets the data.
    """

    name: str
    title: str
    summary: str
    declared: tuple[BoxSplit, ...]
    default_split: str
    folders: tuple[str, ...]
    frames: tuple[str, ...]
    home: str
    categories: int | None = None
    source: CountSource | None = None
    protocol: str = "teta-tao"

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(split.name for split in self.declared)

    def frame_truth(self, data_root: Path, split: str) -> CocoVideo:
        """The annotations of a split, as results per frame are scored by them.

        Raises `UserError` for an unknown split, and a file that is missing, malformed or in another form.
        """
        return _read(self._place(Path(data_root), self._split(split)).annotations)

    def open(self, data_root: Path, split: str) -> Dataset:
        """Read the annotations of a split, as tracks through videos; raises `UserError` as `frame_truth` does."""
        declared = self._split(split)
        place = self._place(Path(data_root), declared)
        file = _read(place.annotations)
        annotations = as_tracks(file, federated=self.protocol == "teta-tao")
        videos = tuple(
            Video(v.id, v.name, v.height, v.width,
                  ImageFrames(place.frames, list(v.file_names), v.height, v.width, str(v.id)))
            for v in annotations.videos
        )  # fmt: skip
        categories = tuple(Category(c.id, c.name, c.synonyms, _groups(c.frequency)) for c in annotations.categories)
        return Dataset(self.name, split, categories, videos, self.protocol, annotations, None,
                       self._differences(file, declared))  # fmt: skip

    def differences(self, annotations: CocoVideo, split: str) -> tuple[str, ...] | None:
        """How annotations differ from the split that published numbers are on; ``None`` where it declares no size."""
        return self._differences(annotations, self._split(split))

    def check(self, data_root: Path, split: str | None = None) -> CopyReport:
        """Compare a copy with what it should hold: all splits, or the named one. Every frame file is looked at."""
        chosen = self.declared if split is None else (self._split(split),)
        reports = tuple(self._check(Path(data_root), one) for one in chosen)
        return CopyReport(self.name, str(data_root), reports, self.home)

    def tree(self, data_root: Path, split: str) -> str:
        """The files that a split needs, in words and on one line."""
        folder = data_root / self.folders[0]
        files = " or ".join(str(folder / file) for file in self._split(split).files)
        return f"{files}, with frames below {folder / self.frames[0]}"

    def _split(self, name: str) -> BoxSplit:
        return declared_split(self.name, self.declared, name)

    def _place(self, data_root: Path, split: BoxSplit) -> _Place:
        place = self._find(data_root, split)
        if place is None:
            what = f"no annotations of the {split.name} split under {data_root}"
            raise UserError(self.name, what, f"expected {self.tree(data_root, split.name)}; get it from {self.home}")
        return place

    def _find(self, data_root: Path, split: BoxSplit) -> _Place | None:
        for folder in (*(data_root / name for name in self.folders), data_root):
            for file in split.files:
                if (folder / file).is_file():
                    frames = [folder / f for f in self.frames if (folder / f).is_dir()]
                    return _Place(folder / file, frames[0] if frames else folder / self.frames[0])
        return None

    def _differences(self, file: CocoVideo, split: BoxSplit) -> tuple[str, ...] | None:
        if split.videos is None and split.boxes is None:
            return None
        counts = ((len(file.videos), split.videos, "videos"), (len(file.annotations), split.boxes, "annotated boxes"))
        return tuple(
            f"{found} {what}, {stated} expected" for found, stated, what in counts if stated not in (None, found)
        )

    def _check(self, data_root: Path, split: BoxSplit) -> SplitReport:
        expected = CopyCounts(split.videos, None, None, self.categories)
        sources = {} if self.source is None else dict.fromkeys(("videos", "categories"), self.source)
        place = self._find(data_root, split)
        if place is None:
            fault = f"no annotation file; expected {self.tree(data_root, split.name)}"
            return SplitReport(split.name, None, None, "public", expected=expected, faults=(fault,), sources=sources)
        path = str(place.annotations)
        report = SplitReport(split.name, path, place.annotations.name, "public", expected=expected, sources=sources)
        try:
            file = _read(place.annotations)
        except UserError as error:
            return replace(report, faults=(str(error),))
        missing, truncated, resized = check_frames(place.frames, (_stated(image) for image in file.images))
        faults = [] if place.frames.is_dir() else [f"no folder of frames; expected {place.frames}"]
        if split.boxes is not None and len(file.annotations) != split.boxes:
            faults.append(f"{len(file.annotations)} annotated boxes, {split.boxes} expected")
        return replace(
            report,
            found=CopyCounts(len(file.videos), len(file.images), _track_count(file), len(file.categories)),
            missing_frames=missing,
            truncated_frames=truncated,
            resized_frames=resized,
            faults=tuple(faults),
        )


def as_tracks(file: CocoVideo, federated: bool) -> Annotations:
    """The same truth as tracks through videos, a box or null per frame, and a mask where there is one.

    In the ``federated`` variant categories are merged. Raises `UserError` for videos and images without the sizes
    and file names that a run needs.
    """
    merged = {m.id: c.id for c in file.categories for m in c.merged} if federated else {}
    images: dict[int, list[ImageEntry]] = defaultdict(list)
    for image in file.images:
        images[image.video_id].append(image)
    position: dict[int, tuple[int, int]] = {}
    for listed in images.values():
        listed.sort(key=lambda image: image.number(federated))
        position |= {image.id: (image.video_id, at) for at, image in enumerate(listed)}
    videos = []
    for video in file.videos:
        frames = images[video.id]
        where = f"{file.path}, video {video.id}"
        width, height = (_size(video, frames, key) for key in ("width", "height"))
        names = [image.file_name for image in frames]
        if width is None or height is None or None in names:
            raise UserError(where, "has no width, no height or frames without file_name", "add them")
        videos.append({"id": video.id, "name": video.name, "width": width, "height": height, "file_names": names})
    tracks: dict[tuple[int, int], dict[str, Any]] = {}
    for one in file.annotations:
        video_id, at = position[one.image_id]
        n = len(images[video_id])
        track = tracks.setdefault(
            (video_id, one.track or 0),
            {"id": one.track, "video_id": video_id, "category_id": merged.get(one.category_id, one.category_id),
             "iscrowd": 0, "segmentations": [None] * n, "bboxes": [None] * n, "areas": [None] * n},
        )  # fmt: skip
        track["segmentations"][at] = decode_json(one.segmentation)
        track["bboxes"][at] = one.bbox
        track["areas"][at] = None if one.bbox is None else one.bbox[2] * one.bbox[3]
    categories = [{"id": c.id, "name": c.name, "frequency": c.frequency} for c in file.categories]
    document = {"videos": videos, "categories": categories, "annotations": list(tracks.values())}
    return replace(annotations_from_document(document, file.path), per_frame=True)


def _stated(image: ImageEntry) -> str | StatedFrame:
    """A frame as it should be on disk."""
    name = image.file_name or ""
    return name if image.width is None or image.height is None else StatedFrame(name, image.height, image.width)


def _size(video: VideoEntry, frames: Sequence[ImageEntry], key: str) -> int | None:
    """The width or height of a video: its own, or that of its first frame."""
    first = getattr(frames[0], key) if frames else None
    return getattr(video, key) or first


def _read(path: Path) -> CocoVideo:
    file = read_coco_video(path)
    if file is None:
        hint = "name the file that has images and one annotation per object and frame"
        raise UserError(str(path), "is not in COCO-video form", hint)
    return file


def _track_count(file: CocoVideo) -> int:
    video_of = {image.id: image.video_id for image in file.images}
    return len({(video_of[one.image_id], one.track) for one in file.annotations})


def _groups(frequency: str | None) -> tuple[str, ...]:
    """Open-vocabulary trackers use LVIS's rare categories as novel (Li et al., OVTrack, CVPR 2023)."""
    return () if frequency is None else (GROUP_NAMES["n" if frequency == "r" else "b"],)
