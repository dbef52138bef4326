"""CVAT for video 1.1: an XML file of tracks with boxes, polygons and masks by frame.

Libraries for CVAT's files fail on masks in tracks (datumaro 1.13) or read boxes of images only (labelformat 0.1).
So this module reads the file itself, without a DTD.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from harness.convert.tracks import (
    CategoryIds,
    ConvertedVideo,
    ObjectTrack,
    TrackSet,
    boxed,
    drawn,
    encoded,
    frame_paths,
)
from harness.errors import UserError
from harness.formats.containers import DAMAGED_ARCHIVE, UNSUPPORTED_ARCHIVE
from harness.input_files import ANNOTATION_BYTES, read_file
from harness.masks import Rle
from harness.warnings import Warnings

_LARGEST = 1 << 30
_MOST_FRAMES = 1 << 20
_FRAME_NAME = "frame_{:06d}.jpg"


def read_cvat(file: Path, frames: Path | None = None) -> TrackSet:
    """The tracks of a CVAT export (XML, or the zip with it); boxes become masks of all their pixels, counted.

    The video has the name of the task. Frame n is the n-th file below ``frames``; without it names are CVAT's own.
    Raises `UserError` for other files.
    """
    root = _parsed(file)
    task = root.find("meta/task")
    if task is None:
        task = root.find("meta/job")
    if task is None or not root.findall("track"):
        hint = 'export the task from CVAT as "CVAT for video 1.1"'
        raise UserError(str(file), "has no tracks of one video", hint)
    name = (task.findtext("name") or file.stem).strip() or file.stem
    size = next(iter(root.iter("original_size")), None)
    if size is None:
        raise UserError(str(file), "states no original_size", "export the task again")
    height, width = (_whole(size.findtext(key), f"{file}, original_size", key) for key in ("height", "width"))
    first = _whole(task.findtext("start_frame") or "0", f"{file}, task", "start_frame")
    step = _whole((task.findtext("frame_filter") or "").rpartition("=")[2] or "1", f"{file}, task", "frame_filter")
    numbers = [_index(shape, track, file, first, step) for track in root.findall("track") for shape in track]
    stated = task.findtext("size")
    length = max(_whole(stated, f"{file}, task", "size") if stated else 0, max(numbers, default=-1) + 1)
    if length > _MOST_FRAMES:
        raise UserError(str(file), f"has {length} frames, more than {_MOST_FRAMES}", "export the task in parts")
    names = _file_names(file, name, length, frames, first, step)
    video = ConvertedVideo(1, name, height, width, names)
    labels = [label.findtext("name") or "" for label in root.iter("label")]
    categories, warnings = CategoryIds(label for label in labels if label), Warnings()
    for track in root.findall("track"):
        where = f"{file}, track {track.get('id')}"
        masks: list[Rle | None] = [None] * length
        for shape in track:
            frame = _index(shape, track, file, first, step)
            if shape.get("outside") != "1":
                masks[frame] = _mask(shape, height, width, f"{where}, frame {frame}", warnings)
        if any(mask is not None for mask in masks):
            label = (track.get("label") or "").strip() or "object"
            video.tracks.append(ObjectTrack(len(video.tracks) + 1, categories.of(label), masks))
        else:
            warnings.add("track without any mask is left out", where)
    return TrackSet([video], categories.by_id(), warnings)


class _DocumentTypeError(Exception):
    """The XML declares a document type."""


class _NoDoctypeBuilder(ElementTree.TreeBuilder):
    """A tree of XML without a document type, whose entities may grow without bound."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse what comes before any entity is declared, in any encoding."""
        raise _DocumentTypeError


def _parsed(file: Path) -> ElementTree.Element:
    try:
        data = read_file(file, ANNOTATION_BYTES)
        if data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                inner = [one for one in archive.infolist() if one.filename.endswith("annotations.xml")]
                if len(inner) != 1 or inner[0].file_size > _LARGEST:
                    raise UserError(str(file), "has no single annotations.xml", "name CVAT's export itself")
                data = archive.read(inner[0])
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoDoctypeBuilder()))
    except OSError as error:
        raise UserError(str(file), error.strerror or "cannot be read", "check the path") from error
    except _DocumentTypeError as error:
        what = "declares a document type, which CVAT's exports do not"
        raise UserError(str(file), what, "export the task again") from error
    except (ElementTree.ParseError, LookupError, *DAMAGED_ARCHIVE, *UNSUPPORTED_ARCHIVE) as error:
        raise UserError(str(file), f"is not XML that can be read: {error}", "export the task again") from error
    if root.tag != "annotations":
        raise UserError(str(file), f"is XML of <{root.tag}>, not CVAT's <annotations>", "name CVAT's export")
    return root


def _file_names(file: Path, name: str, length: int, frames: Path | None, first: int, step: int) -> tuple[str, ...]:
    if frames is None:
        return tuple(f"{name}/{_FRAME_NAME.format(first + step * index)}" for index in range(length))
    found = frame_paths(frames, name)
    if len(found) > first + step * (length - 1):  # the frames of the whole video
        return tuple(found[first : first + step * length : step])
    if len(found) < length:
        what = f"has {length} frames, {frames} holds {len(found)}"
        raise UserError(str(file), what, "name the folder of all of its frames with --frames")
    return tuple(found[:length])


def _index(shape: Any, track: Any, file: Path, first: int, step: int) -> int:
    """The position of a shape's frame among the task's: numbers in the file are those of the whole video."""
    where = f"{file}, track {track.get('id')}"
    frame = _whole(shape.get("frame"), where, "frame")
    if frame < first or (frame - first) % step:
        raise UserError(where, f"frame {frame} is not one of the task's", "export the task again")
    return (frame - first) // step


def _mask(shape: Any, height: int, width: int, where: str, warnings: Warnings) -> Rle | None:
    if shape.tag == "box":
        left, top, right, bottom = (_number(shape.get(key), where, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        warnings.add("boxes are used as masks of all their pixels", where)
        return boxed((left, top, right - left, bottom - top), height, width, where)
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";") if pair]
        return drawn([[_number(value, where, "points") for pair in pairs for value in pair]], height, width, where)
    if shape.tag == "mask":
        return _mask_of_runs(shape, height, width, where)
    warnings.add(f"shapes of kind {shape.tag} have no area and are left out", where)
    return None


def _mask_of_runs(shape: Any, height: int, width: int, where: str) -> Rle | None:
    """CVAT's masks: lengths of runs by rows within a box, beginning with background."""
    left, top, w, h = (_whole(shape.get(key), where, key) for key in ("left", "top", "width", "height"))
    runs = [_whole(run, where, "rle") for run in (shape.get("rle") or "").split(",")]
    if sum(runs) != w * h or min(runs, default=0) < 0 or left < 0 or top < 0 or left + w > width or top + h > height:
        raise UserError(where, "its mask does not fill its box inside of the frame", "export the task again")
    inner = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(h, w)
    whole = np.zeros((height, width), np.bool_)
    whole[top : top + h, left : left + w] = inner
    return encoded(whole)


def _whole(text: str | None, where: str, what: str) -> int:
    value = _number(text, where, what)
    if value != int(value):
        raise UserError(where, f"{what} is {text}, not a whole number", "export the task again")
    return int(value)


def _number(text: str | None, where: str, what: str) -> float:
    try:
        value = float((text or "").strip())
    except ValueError as error:
        raise UserError(where, f"{what} is {text!r}, not a number", "export the task again") from error
    if not np.isfinite(value):
        raise UserError(where, f"{what} is {text}, not a finite number", "export the task again")
    return value
