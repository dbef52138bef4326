"""Datasets that a small YAML file describes: a user's own data, files that are not recognised, and hold-outs.

    name: mine                     # its name in --dataset and tables
    like: ytvis2019                # a known dataset whose categories and protocol it has; or
    protocol: lvvis                # how it is scored
    splits:
      val: {annotations: val.json, frames: frames, videos: ids.txt}
    groups: {novel: [red fox, 7]}  # names or ids, or a file with one on each line

Paths are relative to the file's folder. `harness datasets add` writes such files below the data root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from harness import plugins
from harness.atomic_write import write_atomically
from harness.config import read_yaml
from harness.datasets.categories import in_groups
from harness.datasets.completeness import CopyReport, SplitReport
from harness.datasets.own_data import check_own, checked, open_own, with_groups
from harness.datasets.youtube_vis_format import VisDataset, open_custom
from harness.errors import UserError, near
from harness.formats.youtube_vis import Annotations, read_annotations
from harness.frames import MissingFrames
from harness.input_files import ANNOTATION_BYTES, TABLE_BYTES, decode_json, read_file
from harness.paths import in_unicode
from harness.scoring.dispatch import protocol_name
from harness.types import Dataset, Video


class SplitFiles(BaseModel):
    """The place of a split. ``of`` is the split of the dataset that it is like; ``videos`` a file that names the videos
    that are taken, ``without`` one that names those that are not, and ``videos_sha256`` and ``without_sha256`` the
    digests of these files when they were added. Such a file lists ids or names, or is an annotation file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    annotations: str | None = None
    frames: str | None = None
    of: str | None = None
    videos: str | None = None
    videos_sha256: str | None = None
    without: str | None = None
    without_sha256: str | None = None

    @property
    def is_part(self) -> bool:
        """Whether only some of the videos are taken."""
        return self.videos is not None or self.without is not None


class Description(BaseModel):
    """The content of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    summary: str = ""
    like: str | None = None
    protocol: str | None = None
    default_split: str | None = None
    splits: dict[str, SplitFiles]
    groups: dict[Literal["base", "novel", "common", "uncommon"], list[str | int] | str] = {}


@dataclass(frozen=True)
class DescribedDataset:
    """A dataset by its description; satisfies `harness.types.DatasetPlugin`."""

    file: Path
    description: Description

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def summary(self) -> str:
        like = f"like {self.description.like}" if self.description.like else f"scored by {self.description.protocol}"
        return self.description.summary or f"described by {self.file.name}, {like}"

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.description.splits)

    @property
    def default_split(self) -> str:
        return self.description.default_split or self.splits[0]

    @property
    def protocol(self) -> str:
        """How it is scored."""
        return self.description.protocol or str(getattr(self._like(), "protocol", ""))

    def open(self, data_root: Path, split: str) -> Dataset:
        """Open a split; raises `UserError` for an unknown one, missing files, and a list of videos that has changed."""
        files = self._files(split)
        opened = self._opened(Path(data_root), split, files)
        if self.description.groups:
            annotations = with_groups(opened.annotations, self._groups(), opened.protocol)
            categories = in_groups(annotations.categories, opened.protocol)
            opened = replace(opened, annotations=annotations, categories=categories)
        if files.is_part:
            opened = self._held_out(opened, files)
        data = {**opened.data, "data_root": str(Path(data_root).absolute()), "file": str(self.file.absolute())}
        return replace(opened, name=self.name, split=split, data=data)

    def training_set(self, data_root: Path, split: str) -> Any:
        """The frames of a split's videos, to train on."""
        from harness.training.video_sets import VideoFrames

        return VideoFrames(self.open(data_root, split))

    def check(self, data_root: Path, split: str | None = None) -> CopyReport:
        """What the splits hold and lack; every frame file is checked."""
        chosen = self.splits if split is None else (split,)
        reports = tuple(self._check(Path(data_root), one) for one in chosen)
        return CopyReport(self.name, str(data_root), reports, "")

    def _check(self, data_root: Path, split: str) -> SplitReport:
        files = self._files(split)
        is_plain = self.description.like is None and not self.description.groups and not files.is_part
        if is_plain and files.annotations is not None and files.frames is not None:
            own = check_own(self._path(files.annotations), self._path(files.frames), self.protocol, self.name)
            return replace(own.splits[0], split=split)
        try:
            opened = self.open(data_root, split)
        except UserError as error:
            return SplitReport(split, files.annotations, None, "unknown", faults=(str(error),))
        folder = next((getattr(video.frames, "root", None) for video in opened.videos), None)
        label = f"like {self.description.like}" if self.description.like else "own data"
        report = SplitReport(split, opened.annotations.path, label, "", notes=opened.differences or ())
        return checked(report, opened.annotations, folder, opened.protocol)

    def _opened(self, data_root: Path, split: str, files: SplitFiles) -> Dataset:
        """A split as its annotation file has it."""
        like = self._like()
        if like is None:
            if files.annotations is None or files.frames is None:
                raise UserError(self._where(split), "lacks annotations or frames", "name both, or a dataset it is like")
            annotations, frames = self._path(files.annotations), self._path(files.frames)
            if not self.description.groups:
                return open_own(annotations, frames, self.protocol, self.name)
            return self._opened_with_groups(annotations, frames)
        of = files.of or split
        if of not in like.splits:
            raise UserError(self._where(split), f"{like.name} has no split {of}", near(of, like.splits))
        if files.annotations is None:
            return plugins.opened(like.name, data_root, of)
        if not isinstance(like, VisDataset):
            raise UserError(
                self._where(split), f"{like.name} does not read other annotation files", "leave out annotations"
            )
        frames_folder = None if files.frames is None else self._path(files.frames)
        return like.open_files(self._path(files.annotations), frames_folder, of, data_root)

    def _opened_with_groups(self, annotations: Path, frames: Path) -> Dataset:
        """Own data whose file need not have the fields of groups, which the description gives."""
        opened = open_custom(annotations, frames, "ytvis", self.name)
        return replace(opened, protocol=self.protocol)

    def _held_out(self, opened: Dataset, files: SplitFiles) -> Dataset:
        """The named videos only. Their numbers are not comparable with those on another list."""
        keep, lists = {v.id for v in opened.annotations.videos}, []
        if files.videos is not None:
            named, description = self._named(opened.annotations, files.videos, files.videos_sha256)
            keep &= named
            lists.append(description)
        if files.without is not None:
            named, description = self._named(opened.annotations, files.without, files.without_sha256, may_lack=True)
            keep -= named
            lists.append(f"without {description}")
        if not keep:
            raise UserError(str(self.file), "takes no video", "give other lists")
        whole = len(opened.annotations.videos)
        chosen = opened.annotations.restrict(keep)
        chosen = replace(chosen, digest=hashlib.sha256(f"{chosen.digest}\n{sorted(keep)}".encode()).hexdigest())
        of = f"{self.description.like or self.name} {files.of or ''}".strip()
        said = f"a hold-out: {len(keep)} of {whole} videos of {of} ({'; '.join(lists)})"
        videos = tuple(video for video in opened.videos if video.id in keep)
        reasons = (f"{said}, which no server scores",)
        return replace(opened, annotations=chosen, videos=videos, differences=reasons, server=None)

    def _named(
        self, annotations: Annotations, file: str, sha256: str | None, may_lack: bool = False
    ) -> tuple[set[int], str]:
        """The ids of the videos that a file names, and what the file is called, with its digest.

        A list must name videos of the split; with ``may_lack`` it may name others too.
        """
        path = self._path(file)
        text = _bytes(path, ANNOTATION_BYTES)
        digest = hashlib.sha256(text).hexdigest()
        if sha256 not in (None, digest):
            what = f"has changed since the dataset was added: its SHA-256 is {digest[:12]}, not {sha256}"
            raise UserError(str(path), what, "restore it, or add the dataset under another name")
        by_name = {v.name: v.id for v in annotations.videos}
        by_id = {str(annotations.stated_video(v.id)): v.id for v in annotations.videos}
        if text.lstrip()[:1] == b"{":  # another file may number the same videos otherwise
            listed, by_id = [v.name for v in read_annotations(path).videos], {}
        else:
            listed = _lines(text, path)
        unknown = [one for one in listed if one not in by_id and one not in by_name]
        if unknown and not may_lack:
            what = f'{len(unknown)} of {len(listed)} videos are not in {annotations.path}, first: "{unknown[0]}"'
            raise UserError(str(path), what, "list ids or names of its videos, one on each line")
        named = {by_id.get(one, by_name.get(one, 0)) for one in listed if one in by_id or one in by_name}
        return named, f"{path.name}, SHA-256 {digest[:12]}"

    def _groups(self) -> dict[str, list[str | int]]:
        def listed(value: list[str | int] | str) -> list[str | int]:
            if not isinstance(value, str):
                return value
            path = self._path(value)
            return list(_lines(_bytes(path), path))

        return {group: listed(value) for group, value in self.description.groups.items()}

    def _files(self, split: str) -> SplitFiles:
        if split not in self.description.splits:
            raise UserError(f'{self.name}, split "{split}"', "there is no such split", near(split, self.splits))
        return self.description.splits[split]

    def _like(self) -> Any:
        return None if self.description.like is None else plugins.dataset(self.description.like)

    def _path(self, name: str) -> Path:
        return self.file.parent / name

    def _where(self, split: str) -> str:
        return f"{self.file}, split {split}"


def open_annotations(annotations: Path, frames: Path | None, protocol: str) -> Dataset:
    """Open a user's own annotations; without ``frames`` the pictures of its videos cannot be read."""
    if frames is not None:
        return open_custom(annotations, frames, protocol)
    return without_frames(read_annotations(annotations), protocol)


def without_frames(read: Annotations, protocol: str) -> Dataset:
    """A dataset of annotations alone: its split is ``custom``, and its frames cannot be read."""
    videos = tuple(Video(v.id, v.name, v.height, v.width, MissingFrames(v.length)) for v in read.videos)
    file = Path(read.path)
    data = {"annotations": in_unicode(file.absolute())}
    categories = in_groups(read.categories, protocol)
    return Dataset(in_unicode(file.stem), "custom", categories, videos, protocol, read, data=data)


def read(file: Path) -> DescribedDataset:
    """The dataset that a YAML file describes. Raises `UserError` for an unknown key, and what is incomplete."""
    try:
        description = Description.model_validate(read_yaml(file))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = Description.model_fields if len(fault["loc"]) == 1 else SplitFiles.model_fields
            raise UserError(f"{file}, {key}", "is not a key", near(str(fault["loc"][-1]), known)) from error
        raise UserError(f"{file}, {key}", fault["msg"][:1].lower() + fault["msg"][1:], "correct it") from error
    if not description.splits:
        raise UserError(str(file), "names no split", "write at least one below splits")
    if (description.like is None) == (description.protocol is None):
        raise UserError(str(file), "needs one of like and protocol", "name a known dataset, or how to score it")
    if description.protocol is not None:
        protocol_name(description.protocol)
    default = description.default_split
    if default not in (None, *description.splits):
        raise UserError(f"{file}, default_split", "is not one of its splits", near(str(default), description.splits))
    return DescribedDataset(file, description)


def described_below(data_root: Path) -> Iterator[DescribedDataset]:
    """The datasets that files right below a data root describe; other YAML files are left out."""
    for path in sorted(data_root.glob("*.yaml")) if data_root.is_dir() else ():
        try:
            values = read_yaml(path)
            if "name" in values and "splits" in values:
                yield read(path)
        except UserError:
            continue


def add_split(
    file: Path, name: str, split: str, given: Mapping[str, Any], general: Mapping[str, Any]
) -> DescribedDataset:
    """Write a split to a description, which is made if it is not there; return it.

    Raises `UserError` for another split of that name, and for general keys that differ from the file's.
    """
    values: dict[str, Any] = read_yaml(file) if file.exists() else {"name": name}
    for key, value in general.items():
        if values.get(key, value) != value:
            raise UserError(f"{file}, {key}", f"is {values[key]}, not {value}", "choose another name, or edit the file")
        values[key] = value
    splits = values.setdefault("splits", {})
    if split in splits and splits[split] != dict(given):
        raise UserError(f"{file}, split {split}", "already exists", "choose another split name, or edit the file")
    splits[split] = dict(given)
    Description.model_validate(values)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    write_atomically(file, text.encode())
    return read(file)


def _bytes(path: Path, most: int = TABLE_BYTES) -> bytes:
    try:
        return read_file(path, most)
    except OSError as error:
        raise UserError(str(path), error.strerror or "cannot be read", "check the path") from error


def _lines(text: bytes, path: Path) -> list[str]:
    """The lines of a list, or the values of a JSON list; each once."""
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(str(path), "is not text in UTF-8", "write one id or name on each line") from error
    if decoded.lstrip().startswith("["):
        try:
            values = [str(one) for one in decode_json(decoded.encode(), list[Any])]
        except msgspec.MsgspecError as error:
            raise UserError(str(path), f"is not a JSON list: {error}", "write one id or name on each line") from error
    else:
        values = [line.strip() for line in decoded.splitlines() if line.strip() and not line.startswith("#")]
    if not values:
        raise UserError(str(path), "lists nothing", "write one id or name on each line")
    return list(dict.fromkeys(values))
