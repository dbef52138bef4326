"""Datasets whose annotations are in YouTube-VIS form: one declaration each; opening and checking are shared."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.datasets import discovery
from harness.datasets.categories import LISTS, difference, in_groups, packaged
from harness.datasets.completeness import (
    CopyCounts,
    CopyReport,
    CountSource,
    SplitReport,
    StatedFrame,
    check_frames,
    declared_split,
    refuse_missing_files,
)
from harness.datasets.discovery import FileContent, Match
from harness.datasets.frame_paths import FramePaths, tail
from harness.errors import UserError
from harness.formats.youtube_vis import Annotations, VideoRecord, read_annotations
from harness.image_files import ImageFrames
from harness.paths import in_unicode
from harness.types import Category, Dataset, Video

if TYPE_CHECKING:
    from harness.training.video_sets import VideoFrames

log = logging.getLogger(__name__)

_SHOWN = 4
"""Number of files that a message lists."""


@dataclass(frozen=True, slots=True)
class Release:
    """A revision of an annotation file: the places where it may be below the dataset's folder, best first.

    ``tracks`` are how many it holds, by ``source``. Numbers on a ``superseded`` revision are not comparable.
    """

    label: str
    files: tuple[str, ...]
    tracks: int | None = None
    superseded: bool = False
    source: CountSource | None = None


@dataclass(frozen=True, slots=True)
class TruthPlace:
    """Where the truth of a split is, with the source: in public files, with a server that scores (it may be closed),
    or nowhere. ``place`` is the file, or the server in words that can follow "submit it to"."""

    state: Literal["public", "server", "closed server", "withheld"]
    place: str
    source: CountSource | None = None

    def __str__(self) -> str:
        said = f" ({self.source})" if self.source else ""
        head = {
            "public": f"public: {self.place}" if self.place else "public",
            "server": f"server only: {self.place}",
            "closed server": f"withheld; its server is closed: {self.place}",
            "withheld": "withheld",
        }
        return head[self.state] + said

    @property
    def reason(self) -> str:
        """Why the split cannot be scored."""
        if self.state == "closed server":
            said = f" ({self.source})" if self.source else ""
            return f"the truth is withheld, and {self.place} takes no submissions any more{said}"
        if self.state == "public":
            return f"the annotation file has no truth; the truth is public: {self.place}"
        return "the truth is withheld"


@dataclass(frozen=True, slots=True)
class Split:
    """A split: its releases in order of preference, the folders where its frames may be, and what it holds.

    ``public`` says whether its annotation file has the truth; else ``truth`` says where that is, by default with the
    dataset's server. ``videos`` and ``frame_count`` are by ``source``; ``stated_videos`` is another number of videos in
    circulation, by ``stated_source``, which a complete file may also have. ``terms`` are those under which the data may
    be used.
    """

    name: str
    releases: tuple[Release, ...]
    frames: tuple[str, ...]
    public: bool
    videos: int | None = None
    frame_count: int | None = None
    stated_videos: int | None = None
    source: CountSource | None = None
    stated_source: CountSource | None = None
    truth: TruthPlace | None = None
    terms: str = ""


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
    ``file_categories`` says that the file's own list rules; without a list there is only the file's. ``frame_depth`` is
    how many trailing components of a file name count (``None``: all). ``home`` is where a user gets the data,
    ``server`` where hidden truth is scored, in words that can follow "submit it to". Of datasets with the same category
    list, a file is of the one whose ``path_words`` are in its path, and of one without such words unless
    ``other_words`` are in its path.
    """

    name: str
    title: str
    summary: str
    declared: tuple[Split, ...]
    default_split: str
    folders: tuple[str, ...]
    category_list: str | None
    protocol: str
    home: str
    server: str | None = None
    file_categories: bool = False
    frame_depth: int | None = None
    spellings: Mapping[str, str] = field(default_factory=dict)
    path_words: tuple[str, ...] = ()
    other_words: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(split.name for split in self.declared)

    def open(self, data_root: Path, split: str) -> Dataset:
        """Read the annotations of a split; frames stay on disk and are first looked at when they are read.

        Raises `UserError` for an unknown split, a missing or malformed annotation file, or one of another dataset.
        """
        declared = self._split(split)
        return self._open_place(self._place(Path(data_root), declared), declared, Path(data_root))

    def open_files(self, annotations: Path, frames: Path | None, split: str, data_root: Path) -> Dataset:
        """Read an annotation file that the user names for a split; see `open`.

        Without ``frames`` their folder is looked for below the data root.
        """
        declared = self._split(split)
        release = next((r for r in declared.releases if annotations.name in map(_file_name, r.files)), None)
        place = _Place(annotations, release or Release("named by hand", ()), frames or annotations.parent)
        return self._open_place(place, declared, Path(data_root), frames is not None)

    def _open_place(self, place: _Place, declared: Split, data_root: Path, frames_given: bool = False) -> Dataset:
        split = declared.name
        annotations = self._withheld(read_annotations(place.annotations), declared)
        if not frames_given:
            place = self._with_frames(place, data_root, declared, annotations)
        log.info("%s %s: %s, %s", self.name, split, place.release.label, place.annotations)
        for remark in annotations.remarks:
            log.info("%s: %s", place.annotations, remark)
        if place.release.superseded:
            log.warning("%s: %s", place.annotations, _not_comparable(place.release, declared))
        if not place.frames.is_dir():
            # Not refused: scoring a results file needs no frames.
            log.warning("%s %s: there is no folder of frames %s", self.name, split, place.frames)
        if annotations.truth is None and declared.public:
            hint = f"get the file with annotations from {self.home}"
            raise UserError(str(place.annotations), "has no annotations, though this split's truth is public", hint)
        categories = self._categories(annotations)
        videos = _videos(annotations, place.frames, self.frame_depth)
        server, reason = (None, "") if annotations.truth is not None else self.server_of(split)
        if reason:
            log.warning("%s %s: %s", self.name, split, reason)
        differences = self.differences(annotations, split)
        data = {"data_root": str(data_root.absolute())}
        return Dataset(
            self.name, split, categories, videos, self.protocol, annotations, server, differences, reason, data
        )

    def server_of(self, split: str) -> tuple[str | None, str]:
        """The server that scores a split whose file has no truth; without one, why it cannot be scored."""
        truth = self.truth_of(self._split(split))
        return (truth.place, "") if truth.state == "server" else (None, truth.reason)

    def truth_of(self, split: Split) -> TruthPlace:
        """Where the truth of a split is, if not in its file."""
        if split.truth is not None:
            return split.truth
        if split.public:
            return TruthPlace("public", "")
        return TruthPlace("server", self.server) if self.server else TruthPlace("withheld", "")

    def takes(self, content: FileContent, words: Sequence[str]) -> Match | None:
        """The split of this dataset that a file is, by what it contains; see `harness.datasets.discovery`."""
        why = self._holds(content)
        if why is None or not self._is_named(words, content):
            return None
        reasons, is_part = [why], any(word in discovery.PART_WORDS for word in discovery.words(content.path.stem))
        if content.split in self.splits:
            return Match(self.name, content.split, (why, f"it says that it is {content.split}"), is_part)
        of_release = [s.name for s in self.declared if content.path.name in _release_names(s)]
        if len(of_release) == 1:
            return Match(self.name, of_release[0], (why, "its name is that of the release"), is_part)
        named = discovery.split_named(words, self.splits)
        counts = [s.name for s in self.declared if content.videos in (s.videos, s.stated_videos)]
        if named is not None:
            reasons.append(f'its path says "{named[1]}"')
            return Match(self.name, named[0], tuple(reasons), is_part)
        if len(counts) == 1:
            return Match(self.name, counts[0], (why, f"it has that split's {content.videos} videos"), is_part)
        if len(self.declared) == 1:
            return Match(self.name, self.declared[0].name, (why, "there is no other split"), is_part)
        return Match(self.name, None, (why, "neither its path nor its number of videos tells the split"), is_part)

    def _holds(self, content: FileContent) -> str | None:
        """Why a file belongs to this dataset, in any split; ``None`` if it does not."""
        if self.category_list is None:
            return "it lists the phrases that are asked for in its videos" if content.has_phrases else None
        if self.file_categories:
            names = {c.name for c in packaged(self.category_list)}
            if content.is_burst and any(c.name in names for c in content.categories):
                return f"it is in {self.title}'s own form"
            if content.converted and any(c.name in names for c in content.categories):
                return f"it has the keys and categories of a converted {self.title} file"
            return None
        if content.is_burst or content.converted:
            return None
        if difference(content.categories, packaged(self.category_list), self.spellings) is not None:
            return None
        return f"its {len(content.categories)} categories are {self.title}'s"

    def _is_named(self, words: Sequence[str], content: FileContent) -> bool:
        """Whether the path of a file is that of this dataset, where another one has the same categories."""
        if not self.path_words:
            return not any(word in self.other_words for word in words)
        counts = {s.videos for s in self.declared} - {None}
        return any(word in self.path_words for word in words) or content.videos in counts

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
        found, sentences = found_counts(annotations), []
        if declared.videos is not None and found.videos not in (declared.videos, declared.stated_videos):
            sentences.append(_other_count(found.videos, declared.videos, "videos"))
        else:  # fewer videos have fewer frames and tracks: report only the videos
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
        if release.superseded:
            sentences.append(f"{release.label} of the annotations ({file})")
        return tuple(sentences)

    def _other_categories(self, annotations: Annotations) -> str | None:
        """How the categories differ from the dataset's; numbers count only where they mean the same in every file."""
        if self.category_list is None:
            return None
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
        declared = self._split(split)
        place = self._place(Path(data_root), declared)
        frames = self._with_frames(place, Path(data_root), declared, dataset.annotations).frames
        names = (tail(f, self.frame_depth) for v in dataset.annotations.videos for f in v.file_names)
        refuse_missing_files(frames, names, f"expected {self.tree(Path(data_root), split)}; get them from {self.home}")
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
        return declared_split(self.name, self.declared, name)

    def _place(self, data_root: Path, split: Split) -> _Place:
        place = self._find(data_root, split)
        if place is None:
            what = f"no annotations of the {split.name} split under {data_root}{self._lying(data_root)}"
            raise UserError(self.name, what, f"expected {self.tree(data_root, split.name)}; get it from {self.home}")
        return place

    def _find(self, data_root: Path, split: Split) -> _Place | None:
        """The place of a split: at a declared place, else in the one file whose content is the split's.

        Raises `UserError` where several files are.
        """
        for release in split.releases:
            for folder in (*(data_root / name for name in self.folders), data_root):
                for file in release.files:
                    if (folder / file).is_file():
                        frames = [folder / f for f in split.frames if (folder / f).is_dir()]
                        return _Place(folder / file, release, frames[0] if frames else folder / split.frames[0])
        return self._by_content(data_root, split)

    def _by_content(self, data_root: Path, split: Split) -> _Place | None:
        found = [
            one
            for one in discovery.survey(data_root, [self])
            if one.content is not None and one.matches and one.matches[0].split == split.name
        ]
        if not found:
            return None

        def rank(one: discovery.FoundFile) -> tuple[bool, bool, bool]:
            content = one.content
            assert content is not None
            counts = (split.videos, split.stated_videos)
            return one.matches[0].is_part, not content.has_truth, content.videos not in counts

        best = [one for one in found if rank(one) == min(map(rank, found))]
        if len(best) > 1:
            listed = ", ".join(str(one.path) for one in best)
            what = f"{len(best)} files may be the {split.name} split: {listed}"
            hint = f"name one: harness datasets add NAME --like {self.name} --split {split.name} --annotations FILE"
            raise UserError(self.name, what, hint)
        path = best[0].path
        release = next((r for r in split.releases if path.name in map(_file_name, r.files)), None)
        release = release or Release("found by its content", (), None)
        return _Place(path, release, best[0].frames or data_root / self.folders[0] / split.frames[0])

    def _with_frames(self, place: _Place, data_root: Path, split: Split, annotations: Annotations) -> _Place:
        """The place with the folder of the annotations' first frames, if there is one below the data root."""
        names = [v.file_names[0] for v in annotations.videos if v.file_names][: discovery.PROBED]
        if not names or discovery.holds(place.frames, names, self.frame_depth):
            return place
        for folder in (*(data_root / name for name in self.folders), data_root):
            for frames in split.frames:
                if discovery.holds(folder / frames, names, self.frame_depth):
                    return place._replace(frames=folder / frames)
        found = discovery.folder_of_frames(
            discovery.tree(data_root), place.annotations, names, split.name, self.frame_depth
        )
        return place if found is None else place._replace(frames=found)

    def _lying(self, data_root: Path) -> str:
        """The annotation files that are below a data root in place of a split's, in words."""
        found = [one for one in discovery.survey(data_root, [self]) if one.content is not None]
        if not found:
            return ""
        described = [
            f"{one.path.relative_to(data_root)} ({one.matches[0].split or 'split unknown'})"
            if one.matches
            else f"{one.path.relative_to(data_root)} (another dataset's)"
            for one in found[:_SHOWN]
        ]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return f", where {', '.join(described)}{more} are; `harness datasets check --data-root` identifies them"

    def _categories(self, annotations: Annotations) -> tuple[Category, ...]:
        if self.file_categories or self.category_list is None:
            return _asked_categories(annotations, self.protocol)
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
        truth = str(self.truth_of(split))
        expected, sources = self._expected(split, split.releases[0])
        try:
            place = self._find(data_root, split)
        except UserError as error:
            return SplitReport(split.name, None, None, truth, expected=expected, faults=(str(error),), sources=sources)
        if place is None:
            fault = f"no annotation file; expected {self.tree(data_root, split.name)}{self._lying(data_root)}"
            return SplitReport(split.name, None, None, truth, expected=expected, faults=(fault,), sources=sources)
        expected, sources = self._expected(split, place.release)
        path = str(place.annotations)
        report = SplitReport(split.name, path, place.release.label, truth, expected=expected, sources=sources)
        try:
            annotations = self._withheld(read_annotations(place.annotations), split)
        except UserError as error:
            return replace(report, faults=(str(error),))
        place = self._with_frames(place, data_root, split, annotations)
        stated = (
            StatedFrame(tail(name, self.frame_depth), video.height, video.width)
            for video in annotations.videos
            for name in video.file_names
        )
        missing, truncated, resized = check_frames(place.frames, stated)
        found = found_counts(annotations)
        if found.videos is not None and found.videos == split.stated_videos:
            expected = replace(expected, videos=found.videos)
        return replace(
            report,
            truth=_truth_found(annotations, self.truth_of(split)),
            found=found,
            expected=expected,
            missing_frames=missing,
            truncated_frames=truncated,
            resized_frames=resized,
            frames=str(place.frames),
            faults=self._faults(annotations, split, place),
            notes=self._notes(annotations, split, place),
        )

    def _expected(self, split: Split, release: Release) -> tuple[CopyCounts, dict[str, CountSource]]:
        categories = None if self.category_list is None else len(packaged(self.category_list))
        counts = CopyCounts(split.videos, split.frame_count, release.tracks, categories)
        stated = {"videos": split.source, "frames": split.source, "tracks": release.source or split.source}
        known = dict(counts.items())
        sources = {what: source for what, source in stated.items() if source is not None and known[what] is not None}
        return counts, sources

    def _faults(self, annotations: Annotations, split: Split, place: _Place) -> tuple[str, ...]:
        """What is missing, and what a run would refuse."""
        faults = []
        if not place.frames.is_dir():
            faults.append(f"no folder of frames; expected {place.frames}")
        if annotations.truth is None and split.public:
            faults.append("the file has no annotations, though this split's truth is public")
        return (*faults, *refusals(annotations, self.protocol))

    def _notes(self, annotations: Annotations, split: Split, place: _Place) -> tuple[str, ...]:
        notes = []
        if split.stated_videos is not None:
            notes.append(_two_counts(split, len(annotations.videos)))
        if place.release.superseded:
            notes.append(_not_comparable(place.release, split))
        differs = self._other_categories(annotations)
        if differs is not None:
            notes.append(f"the category list differs from {self.title}'s: {differs}")
        notes += annotations.remarks
        notes += [f"{note.kind}: {note.count}, first: {note.first}" for note in annotations.notes]
        if split.terms:
            notes.append(f"terms of use: {split.terms}")
        return tuple(notes)


def refusals(annotations: Annotations, protocol: str) -> tuple[str, ...]:
    """What a run with annotations would refuse or fail on, or have no official numbers for, one sentence each."""
    from harness.scoring.dispatch import check_truth_for

    found = []
    if annotations.renumbered:
        found.append(f"ids of {annotations.renumbered} are text or beyond 64 bits, which runs do not take")
    nameless = [v.id for v in annotations.videos if not v.file_names]
    if nameless:
        found.append(f"{len(nameless)} videos list no file names, first: video {nameless[0]}")
    other = [v for v in annotations.videos if v.file_names and len(v.file_names) != v.length]
    if other:
        first = f"video {other[0].id}: {len(other[0].file_names)} for {other[0].length} frames"
        found.append(f"{len(other)} videos list another number of file names than frames, first: {first}")
    for needed in (
        lambda: in_groups(annotations.categories, protocol),
        lambda: check_truth_for([protocol], annotations, strict=True),
    ):
        try:
            needed()
        except UserError as error:
            found.append(str(error))
    return tuple(dict.fromkeys(found))


def open_custom(annotations: Path, frames: Path, protocol: str, name: str | None = None) -> Dataset:
    """Open a user's own data in YouTube-VIS form; its name is ``name``, else the file's; its split is ``custom``.

    Frames are below ``frames``, where `harness.datasets.frame_paths.FramePaths` says. Raises `UserError` for missing or
    malformed input.
    """
    read = read_annotations(Path(annotations))
    frames = Path(frames)
    if not frames.is_dir():
        raise UserError(str(frames), "is not a folder", "name the folder to which file_names in the file are relative")
    categories = _asked_categories(read, protocol)
    paths = FramePaths(frames)
    videos = tuple(
        _video(video, frames, paths.of_video(video.file_names, f"{read.path}, video {video.id}"))
        for video in _runnable(read)
    )
    title = name or in_unicode(Path(annotations).stem)
    data = {"annotations": in_unicode(Path(annotations).absolute()), "frames": in_unicode(frames.absolute())}
    return Dataset(title, "custom", categories, videos, protocol, read, data=data)


def _asked_categories(annotations: Annotations, protocol: str) -> tuple[Category, ...]:
    """The categories of a file; of a file that lists phrases by video, only those listed or annotated.

    Raises `UserError` for a phrase without a category, which has no text to ask for.
    """
    if annotations.pairs is None:
        return in_groups(annotations.categories, protocol)
    known = {category.id for category in annotations.categories}
    for at, (_, phrase) in enumerate(annotations.pairs):
        if phrase not in known:
            where = f"{annotations.path}, video_np_pairs[{at}]"
            raise UserError(where, f"unknown category {phrase}", "add it to categories, with its name")
    records = annotations.truth.records if annotations.truth is not None else ()
    asked = {phrase for _, phrase in annotations.pairs} | {record.category_id for record in records}
    return in_groups((category for category in annotations.categories if category.id in asked), protocol)


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


def found_counts(annotations: Annotations) -> CopyCounts:
    """The counts of annotations."""
    tracks = None if annotations.truth is None else len(annotations.truth.records)
    frames = sum(video.length for video in annotations.videos)
    return CopyCounts(len(annotations.videos), frames, tracks, len(annotations.categories))


def _truth_found(annotations: Annotations, truth: TruthPlace) -> str:
    """What the file says about the truth, then what is known about it."""
    if annotations.truth is None:
        return f"not in the file; {truth}"
    return f"in the file: {len(annotations.truth.records)} tracks"


def _two_counts(split: Split, found: int) -> str:
    def said(source: CountSource | None, otherwise: str) -> str:
        return str(source) if source else otherwise

    first = f"{split.videos} videos by {said(split.source, 'the released file')}"
    second = f"{split.stated_videos} by {said(split.stated_source, 'the paper')}"
    return f"{first}, {second}; this file has {found}"


def _release_names(split: Split) -> set[str]:
    return {_file_name(file) for release in split.releases for file in release.files}


def _file_name(path: str) -> str:
    return PurePath(path).name


def _other_count(found: int | None, expected: int | None, what: str) -> str:
    if found is not None and expected is not None and found > expected:
        return f"{found} {what}, {expected} expected"
    return f"{found} of {expected} {what}"


def _not_comparable(release: Release, split: Split) -> str:
    best = split.releases[0]
    return f"this is the {release.label}; numbers on it and on the {best.label} ({best.files[0]}) are not comparable"
