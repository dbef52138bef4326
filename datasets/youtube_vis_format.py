"""Datasets whose annotations are in YouTube-VIS form: one declaration each, one way to open and to check them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

from harness.datasets.categories import LISTS, difference, in_groups, packaged
from harness.datasets.completeness import CopyReport, Counts, SplitReport, check_frames, refuse_missing
from harness.datasets.frame_paths import FramePaths, tail
from harness.errors import UserError, near
from harness.formats.youtube_vis import Annotations, VideoRecord, read_annotations
from harness.image_files import ImageFrames
from harness.paths import in_unicode
from harness.types import Category, Dataset, Video

if TYPE_CHECKING:
    from harness.training.video_sets import VideoFrames

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Release:
    """A revision of an annotation file: the places where it may lie below the dataset's folder, best first."""

    label: str
    files: tuple[str, ...]
    tracks: int | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """A split: its releases in order of preference, the folders where its frames may lie, and what it holds.

    ``public`` says whether the truth is public; if not, only the dataset's server can score it. ``stated_videos`` is
    the number of videos that the paper states, where the released file has another.
    """

    name: str
    releases: tuple[Release, ...]
    frames: tuple[str, ...]
    public: bool
    videos: int | None = None
    frame_count: int | None = None
    stated_videos: int | None = None


class _Place(NamedTuple):
    """Where a split was found."""

    annotations: Path
    release: Release
    frames: Path


@dataclass(frozen=True)
class VisDataset:
    """A dataset in YouTube-VIS annotation form; satisfies `harness.types.DatasetPlugin`.

    ``folders`` are names that its folder may have below the data root (the data root itself counts too).
    ``category_list`` names a list in ``datasets/data``; a file whose list differs is refused, unless
    ``file_categories`` says that the file's own list rules. ``frame_depth`` is how many trailing components of a file
    name count (``None``: all). ``home`` is where a user gets the data, ``server`` where hidden truth is scored, in
    words that can follow "submit it to".
    """

    name: str
    title: str
    summary: str
    declared: tuple[Split, ...]
    default_split: str
    folders: tuple[str, ...]
    category_list: str
    protocol: str
    home: str
    server: str | None = None
    file_categories: bool = False
    frame_depth: int | None = None
    spellings: Mapping[str, str] = field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(split.name for split in self.declared)

    def open(self, data_root: Path, split: str) -> Dataset:
        """Read the annotations of a split; frames stay on disk and are first looked at when they are read.

        Raises `UserError` for an unknown split, a missing or malformed annotation file, or one of another dataset.
        """
        declared = self._split(split)
        place = self._place(Path(data_root), declared)
        annotations = self._withheld(read_annotations(place.annotations), declared)
        log.info("%s %s: %s, %s", self.name, split, place.release.label, place.annotations)
        if place.release != declared.releases[0]:
            log.warning("%s: %s", place.annotations, _not_comparable(place.release, declared))
        if not place.frames.is_dir():
            # Not refused: scoring a results file needs no frames.
            log.warning("%s %s: there is no folder of frames %s", self.name, split, place.frames)
        if annotations.truth is None and declared.public:
            hint = f"get the file with annotations from {self.home}"
            raise UserError(str(place.annotations), "has no annotations, though this split's truth is public", hint)
        categories = self._categories(annotations)
        videos = _videos(annotations, place.frames, self.frame_depth)
        server = None if annotations.truth is not None else self.server
        differences = self.differences(annotations, split)
        return Dataset(self.name, split, categories, videos, self.protocol, annotations, server, differences)

    def differences(self, annotations: Annotations, split: str) -> tuple[str, ...] | None:
        """How annotations differ from the split that published numbers are on, one sentence each; none: not at all.

        ``None`` where the split declares no size. Videos, categories, frames and tracks are counted as parsed, no frame
        file is looked at. The release is known by the name of the file.
        """
        declared = self._split(split)
        file = PurePath(annotations.path).name
        release = next((r for r in declared.releases if file in map(_file_name, r.files)), declared.releases[0])
        if declared.videos is None and declared.frame_count is None and release.tracks is None:
            return None
        found, sentences = _found(annotations), []
        if declared.videos is not None and found.videos not in (declared.videos, declared.stated_videos):
            sentences.append(_other_count(found.videos, declared.videos, "videos"))
        else:  # fewer videos have fewer frames and tracks: said once
            counts = (
                (found.frames, declared.frame_count, "frames"),
                (found.tracks, release.tracks, "annotated tracks"),
            )
            sentences += [
                _other_count(count, expected, what)
                for count, expected, what in counts
                if None not in (count, expected) and count != expected
            ]
        differs = self._other_categories(annotations)
        if differs is not None:
            sentences.append(f"the categories are not {self.title}'s: {differs}")
        if release != declared.releases[0]:
            sentences.append(f"{release.label} of the annotations ({file})")
        return tuple(sentences)

    def _other_categories(self, annotations: Annotations) -> str | None:
        """How the categories differ from the dataset's; numbers count only where they mean the same in every file."""
        known = packaged(self.category_list)
        if not self.file_categories:
            return difference(annotations.categories, known, self.spellings)
        found, names = {c.name for c in annotations.categories}, {c.name for c in known}
        if found == names:
            return None
        counted = f"({len(found)} categories, {len(names)} expected)"
        odd = min(names - found, default=None)
        return f'lacks "{odd}" {counted}' if odd is not None else f'has an unknown "{min(found - names)}" {counted}'

    def training_set(self, data_root: Path, split: str) -> VideoFrames:
        """The frames of a split's videos, to train on; raises `UserError` as `open` does, and for missing frames."""
        from harness.training.video_sets import VideoFrames

        dataset = self.open(data_root, split)
        frames = self._place(Path(data_root), self._split(split)).frames
        names = (tail(f, self.frame_depth) for v in dataset.annotations.videos for f in v.file_names)
        refuse_missing(frames, names, f"expected {self.tree(Path(data_root), split)}; get them from {self.home}")
        return VideoFrames(dataset)

    def check(self, data_root: Path, split: str | None = None) -> CopyReport:
        """Compare a copy with what it should hold: all splits, or the named one. Every frame file is looked at."""
        chosen = self.declared if split is None else (self._split(split),)
        reports = tuple(self._check(Path(data_root), one) for one in chosen)
        return CopyReport(self.name, str(data_root), reports, self.home)

    def tree(self, data_root: Path, split: str) -> str:
        """The files that a split needs, in words and on one line."""
        declared = self._split(split)
        folder = data_root / self.folders[0]
        files = " or ".join(f"{folder / r.files[0]} ({r.label})" for r in declared.releases)
        return f"{files}, with frames in {folder / declared.frames[0]}/<video>/<frame>.jpg"

    def _split(self, name: str) -> Split:
        for split in self.declared:
            if split.name == name:
                return split
        raise UserError(f'{self.name}, split "{name}"', "there is no such split", near(name, self.splits))

    def _place(self, data_root: Path, split: Split) -> _Place:
        place = self._find(data_root, split)
        if place is None:
            what = f"no annotations of the {split.name} split under {data_root}"
            raise UserError(self.name, what, f"expected {self.tree(data_root, split.name)}; get it from {self.home}")
        return place

    def _find(self, data_root: Path, split: Split) -> _Place | None:
        for release in split.releases:
            for folder in (*(data_root / name for name in self.folders), data_root):
                for file in release.files:
                    if (folder / file).is_file():
                        frames = [folder / f for f in split.frames if (folder / f).is_dir()]
                        return _Place(folder / file, release, frames[0] if frames else folder / split.frames[0])
        return None

    def _categories(self, annotations: Annotations) -> tuple[Category, ...]:
        if self.file_categories:
            return in_groups(annotations.categories, self.protocol)
        known = packaged(self.category_list)
        differs = difference(annotations.categories, known, self.spellings)
        if differs is None:
            return in_groups(known, self.protocol)
        for other in LISTS:
            if other != self.category_list and difference(annotations.categories, packaged(other)) is None:
                hint = f"name the dataset {other}, or use {self.title}'s own file"
                raise UserError(annotations.path, f"has the categories of {other}, not of {self.name}", hint)
        log.warning("%s: not %s's category list (%s); the file's own is used, and its numbers are not comparable",
                    annotations.path, self.title, differs)  # fmt: skip
        return in_groups(annotations.categories, self.protocol)

    def _withheld(self, annotations: Annotations, split: Split) -> Annotations:
        """An empty list of annotations means withheld truth where only the server has it."""
        if not split.public and annotations.truth is not None and not annotations.truth.records:
            return replace(annotations, truth=None)
        return annotations

    def _check(self, data_root: Path, split: Split) -> SplitReport:
        truth = "public" if split.public else f"server only: {self.server}"
        categories = len(packaged(self.category_list))
        expected = Counts(split.videos, split.frame_count, split.releases[0].tracks, categories)
        place = self._find(data_root, split)
        if place is None:
            fault = f"no annotation file; expected {self.tree(data_root, split.name)}"
            return SplitReport(split.name, None, None, truth, expected=expected, faults=(fault,))
        expected = replace(expected, tracks=place.release.tracks)
        report = SplitReport(split.name, str(place.annotations), place.release.label, truth, expected=expected)
        try:
            annotations = self._withheld(read_annotations(place.annotations), split)
        except UserError as error:
            return replace(report, faults=(str(error),))
        names = [tail(f, self.frame_depth) for v in annotations.videos for f in v.file_names]
        missing, truncated = check_frames(place.frames, names)
        return replace(
            report,
            found=_found(annotations),
            missing_frames=missing,
            truncated_frames=truncated,
            faults=self._faults(annotations, split, place),
            notes=self._notes(annotations, split, place),
        )

    def _faults(self, annotations: Annotations, split: Split, place: _Place) -> tuple[str, ...]:
        faults = []
        if not place.frames.is_dir():
            faults.append(f"no folder of frames; expected {place.frames}")
        if annotations.truth is None and split.public:
            faults.append("the file has no annotations, though this split's truth is public")
        nameless = [v.id for v in annotations.videos if not v.file_names]
        if nameless:
            faults.append(f"{len(nameless)} videos list no file names, first: video {nameless[0]}")
        return tuple(faults)

    def _notes(self, annotations: Annotations, split: Split, place: _Place) -> tuple[str, ...]:
        notes = []
        if split.stated_videos is not None:
            notes.append(f"the released file has {split.videos} videos, the paper states {split.stated_videos}")
        if place.release != split.releases[0]:
            notes.append(_not_comparable(place.release, split))
        differs = difference(annotations.categories, packaged(self.category_list), self.spellings)
        if differs is not None:
            notes.append(f"the category list differs from {self.title}'s: {differs}")
        return tuple(notes)


def open_custom(annotations: Path, frames: Path, protocol: str) -> Dataset:
    """Open a user's own data in YouTube-VIS form; its name is the annotation file's stem, its split ``custom``.

    Frames lie below ``frames``, where `harness.datasets.frame_paths.FramePaths` says. Raises `UserError` for missing or
    malformed input.
    """
    read = read_annotations(Path(annotations))
    frames = Path(frames)
    if not frames.is_dir():
        raise UserError(str(frames), "is not a folder", "name the folder to which file_names in the file are relative")
    categories = in_groups(read.categories, protocol)
    paths = FramePaths(frames)
    videos = tuple(
        _video(video, frames, paths.of_video(video.file_names, f"{read.path}, video {video.id}"))
        for video in _runnable(read)
    )
    return Dataset(in_unicode(Path(annotations).stem), "custom", categories, videos, protocol, read)


def _videos(annotations: Annotations, frames: Path, depth: int | None) -> tuple[Video, ...]:
    """Videos whose frames' names are all relative to one folder, by their last ``depth`` components."""
    return tuple(
        _video(record, frames, [tail(name, depth) for name in record.file_names]) for record in _runnable(annotations)
    )


def _runnable(annotations: Annotations) -> tuple[VideoRecord, ...]:
    """The videos, if they can be run on: ids are integers of 64 bits, and each names all of its frames."""
    if annotations.renumbered:
        what = f"ids of {annotations.renumbered} are text, or numbers beyond 64 bits"
        hint = "runs need integers: number them in the file; harness eval scores results with such ids as they are"
        raise UserError(annotations.path, what, hint)
    for video in annotations.videos:
        if len(video.file_names) != video.length:
            what = f"{len(video.file_names)} file names for {video.length} frames"
            raise UserError(f"{annotations.path}, video {video.id}", what, "list one file name per frame")
    return annotations.videos


def _video(record: VideoRecord, frames: Path, names: list[str]) -> Video:
    read = ImageFrames(frames, names, record.height, record.width, str(record.id))
    return Video(record.id, record.name, record.height, record.width, read)


def _found(annotations: Annotations) -> Counts:
    tracks = None if annotations.truth is None else len(annotations.truth.records)
    frames = sum(video.length for video in annotations.videos)
    return Counts(len(annotations.videos), frames, tracks, len(annotations.categories))


def _file_name(path: str) -> str:
    return PurePath(path).name


def _other_count(found: int | None, expected: int | None, what: str) -> str:
    if found is not None and expected is not None and found > expected:
        return f"{found} {what}, {expected} expected"
    return f"{found} of {expected} {what}"


def _not_comparable(release: Release, split: Split) -> str:
    best = split.releases[0]
    return f"this is the {release.label}; numbers on it and on the {best.label} ({best.files[0]}) are not comparable"
