"""Label Studio's JSON export: boxes on videos, and polygons, boxes and brush masks on frames as images.

A box on a video is drawn at key frames and moves evenly between them, as Label Studio shows it. An image belongs
to the video named by its folder, and a region's track is the value of its number or text of the name ``track`` (or
``track_id``); without one, each label may occur once per frame.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from harness.convert.tracks import (
    MOST_TRACK_PIXELS,
    CategoryIds,
    ConvertedVideo,
    ObjectTrack,
    TrackSet,
    boxed,
    drawn,
    encoded,
    frame_paths,
    frame_size,
    read_document,
    read_integer,
)
from harness.errors import UserError
from harness.frame_folder import natural_key
from harness.masks import Rle
from harness.warnings import Warnings

_MOST_PERCENT = 10_000
TRACK_NAMES = ("track", "track_id")


def read_label_studio(file: Path, frames: Path | None = None) -> TrackSet:
    """The tracks of an export; boxes become masks of all their pixels, counted.

    Videos need ``frames``, the folder of their frames, since an export does not state their size. Raises `UserError`
    for other files.
    """
    tasks = read_document(file)
    hint = "export the project from Label Studio as JSON (not JSON-MIN)"
    if not isinstance(tasks, list) or not all(isinstance(one, dict) and "annotations" in one for one in tasks):
        raise UserError(str(file), "is not a list of tasks with annotations", hint)
    categories, warnings = CategoryIds(), Warnings()
    videos: list[ConvertedVideo] = []
    images: dict[str, list[tuple[str, str, list[dict[str, Any]]]]] = defaultdict(list)
    for i, task in enumerate(tasks):
        where = f"{file}, tasks[{i}]"
        results = _results(task, where, warnings)
        source = _source(task, where)
        if any(str(one.get("type")).lower() == "videorectangle" for one in results):
            videos.append(_video(results, source, len(videos) + 1, where, frames, categories, warnings))
        else:
            images[PurePosixPath(source).parent.name or "video"].append((source, where, results))
    for name in sorted(images):
        ordered = sorted(images[name], key=lambda one: natural_key(PurePosixPath(one[0]).name))
        videos.append(_video_of_images(name, ordered, len(videos) + 1, categories, warnings))
    if not videos:
        raise UserError(str(file), "has no task", hint)
    return TrackSet(videos, categories.by_id(), warnings)


def _results(task: dict[str, Any], where: str, warnings: Warnings) -> list[dict[str, Any]]:
    """The regions of a task: those of its first annotation that was not cancelled."""
    given = _list(task["annotations"])
    done = [one for one in given if isinstance(one, dict) and not one.get("was_cancelled")]
    if len(done) > 1:
        warnings.add("of several annotations of a task the first is used", where)
    found = _list(done[0].get("result")) if done else []
    return [one for one in found if isinstance(one, dict)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _source(task: dict[str, Any], where: str) -> str:
    """The path of the video or image of a task."""
    data = task.get("data")
    values = (
        [v for v in data.values() if isinstance(v, str) and re.search(r"\.\w{2,5}($|\?|&)", v)]
        if isinstance(data, dict)
        else []
    )
    if not values:
        raise UserError(where, "names no video or image in its data", "export the project as JSON")
    split = urlsplit(values[0])
    inner = split.query.rpartition("d=")[2] if split.query.startswith("d=") else split.path
    return unquote(inner)


def _label(value: dict[str, Any]) -> str:
    for key in ("labels", "rectanglelabels", "polygonlabels", "brushlabels", "videorectanglelabels"):
        if isinstance(value.get(key), list) and value[key]:
            return str(value[key][0])
    return "object"


def _video(
    results: list[dict[str, Any]],
    source: str,
    number_of_video: int,
    where: str,
    frames: Path | None,
    categories: CategoryIds,
    warnings: Warnings,
) -> ConvertedVideo:
    name = PurePosixPath(source).stem
    if frames is None:
        raise UserError(where, "does not state the size of its video", "name the folder of its frames with --frames")
    files = frame_paths(frames, name)
    height, width = frame_size(frames / files[0])
    video = ConvertedVideo(number_of_video, name, height, width, tuple(files))
    for one in results:
        if str(one.get("type")).lower() != "videorectangle":
            continue
        region = f"{where}, region {one.get('id')}"
        value = _value(one)
        count = value.get("framesCount")
        if isinstance(count, int) and count != len(files):
            warnings.add("the video has another number of frames than its folder", f"{region}: {count}, {len(files)}")
        masks: list[Rle | None] = [None] * len(files)
        for index, (x, y, w, h) in _boxes(value, len(files), region):
            masks[index] = _boxed((x, y, w, h), height, width, region)
            warnings.add("boxes are used as masks of all their pixels", region)
        video.tracks.append(ObjectTrack(len(video.tracks) + 1, categories.of(_label(value)), masks))
    return video


def _boxes(value: dict[str, Any], length: int, where: str) -> Iterator[tuple[int, tuple[float, float, float, float]]]:
    """Frame index and box in percent, at key frames and evenly between; none after a key frame that is not enabled."""
    given = [key for key in _list(value.get("sequence")) if isinstance(key, dict)]
    keys = sorted(given, key=lambda key: read_integer(key.get("frame"), where, "frame"))
    if any(key.get("rotation") for key in keys):
        raise UserError(where, "is rotated", "draw it upright, or export masks")
    for i, key in enumerate(keys):
        start = read_integer(key.get("frame"), where, "frame") - 1
        here = _four(key, where)
        if 0 <= start < length:
            yield start, here
        if not key.get("enabled", True):
            continue
        if i + 1 == len(keys):
            for index in range(max(start + 1, 0), length):
                yield index, here
            continue
        stop, there = read_integer(keys[i + 1].get("frame"), where, "frame") - 1, _four(keys[i + 1], where)
        for index in range(max(start + 1, 0), min(stop, length)):
            part = (index - start) / (stop - start)
            a, b, c, d = (old + part * (new - old) for old, new in zip(here, there, strict=True))
            yield index, (a, b, c, d)


def _four(key: dict[str, Any], where: str) -> tuple[float, float, float, float]:
    values = [key.get(name) for name in ("x", "y", "width", "height")]
    if not all(isinstance(v, (int, float)) and abs(v) <= _MOST_PERCENT for v in values):
        raise UserError(where, "a key frame has no box", "export the project again")
    x, y, w, h = (float(v) for v in values if v is not None)
    return x, y, w, h


def _video_of_images(
    folder: str,
    ordered: list[tuple[str, str, list[dict[str, Any]]]],
    number_of_video: int,
    categories: CategoryIds,
    warnings: Warnings,
) -> ConvertedVideo:
    sizes = {_size(one, where) for _, where, results in ordered for one in results if "original_width" in one}
    if len(sizes) != 1:
        what = "has no region that states its size" if not sizes else "has images of several sizes"
        raise UserError(f"{ordered[0][1]} ({folder})", what, "give frames of one size, with at least one region")
    height, width = sizes.pop()
    files = tuple(f"{folder}/{PurePosixPath(source).name}" for source, _, _ in ordered)
    video = ConvertedVideo(number_of_video, folder, height, width, files)
    tracks: dict[str, ObjectTrack] = {}
    for index, (_, where, results) in enumerate(ordered):
        named = {str(one.get("id")): name for one in results if (name := _track_of(one)) is not None}
        for one in results:
            mask, known = _mask(one, height, width, where, warnings)
            if not known:
                continue
            value = _value(one)
            label = _label(value)
            key = named.get(str(one.get("id")), f"label {label}")
            track = tracks.setdefault(key, ObjectTrack(len(tracks) + 1, categories.of(label), [None] * len(ordered)))
            if track.masks[index] is not None:
                hint = "give each region a number or text named track, the same in all frames of an object"
                raise UserError(f"{where}, region {one.get('id')}", f"is the second of {key} in one frame", hint)
            track.masks[index] = mask
    video.tracks = list(tracks.values())
    return video


def _size(one: dict[str, Any], where: str) -> tuple[int, int]:
    height = read_integer(one.get("original_height"), where, "original_height")
    width = read_integer(one.get("original_width"), where, "original_width")
    if height <= 0 or width <= 0 or height * width >= MOST_TRACK_PIXELS:
        raise UserError(where, f"size {height}x{width} is not a frame's", "export the project again")
    return height, width


def _track_of(one: dict[str, Any]) -> str | None:
    """The track that a region's number or text names."""
    if one.get("from_name") not in TRACK_NAMES:
        return None
    value = _value(one)
    found = value.get("number", value.get("text"))
    found = found[0] if isinstance(found, list) and found else found
    return None if found is None else f"track {found}"


def _mask(one: dict[str, Any], height: int, width: int, where: str, warnings: Warnings) -> tuple[Rle | None, bool]:
    """The mask of a region, and whether it is a region with one."""
    kind, value = str(one.get("type")).lower(), _value(one)
    region = f"{where}, region {one.get('id')}"
    if kind in ("polygonlabels", "polygon"):
        return drawn([_pixels(value.get("points"), height, width, region)], height, width, region), True
    if kind in ("rectanglelabels", "rectangle"):
        x, y, w, h = _four(value, region)
        if value.get("rotation"):
            raise UserError(region, "is rotated", "draw it upright, or as a polygon")
        warnings.add("boxes are used as masks of all their pixels", region)
        return _boxed((x, y, w, h), height, width, region), True
    if kind in ("brushlabels", "brush"):
        return _brushed(value.get("rle"), height, width, region), True
    return None, False


def _pixels(points: Any, height: int, width: int, where: str) -> list[float]:
    """Points in percent as ``[x, y, x, y, ...]`` in pixels."""
    found = []
    for point in points if isinstance(points, list) else ():
        if not (isinstance(point, list) and len(point) == 2 and all(isinstance(v, (int, float)) for v in point)):
            raise UserError(where, "has a point that is not two numbers", "export the project again")
        found += [point[0] * width / 100, point[1] * height / 100]
    return found


def _boxed(box: tuple[float, float, float, float], height: int, width: int, where: str) -> Rle | None:
    """The mask of a box in percent."""
    x, y, w, h = box
    return boxed((x * width / 100, y * height / 100, w * width / 100, h * height / 100), height, width, where)


def _value(one: dict[str, Any]) -> dict[str, Any]:
    value = one.get("value")
    return value if isinstance(value, dict) else {}


def _brushed(runs: Any, height: int, width: int, where: str) -> Rle | None:
    """A brush mask, unpacked by Label Studio's own library."""
    try:
        from label_studio_sdk.converter.brush import decode_rle
    except ImportError as error:
        hint = 'pip install "ovvis-harness[label-studio]", or export brush masks as COCO'
        raise UserError(
            where, f"is a brush mask, which needs a package that is not installed ({error})", hint
        ) from error
    if not isinstance(runs, list):
        raise UserError(where, "has no rle", "export the project again")
    try:
        values = np.asarray(decode_rle(runs))
        return encoded(values.reshape(height, width, 4)[:, :, 3] > 0)
    except (ValueError, IndexError, TypeError) as error:
        raise UserError(where, f"its brush mask is broken ({error})", "export the project again") from error
