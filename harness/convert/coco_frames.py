"""COCO files with one annotation per image and object; annotations of one object share a track id.

CocoVID (``instance_id``), TAO (``track_id``), CVAT's COCO export (``attributes.track_id``) and users' own files.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from harness.convert.tracks import (
    MOST_TRACK_PIXELS,
    ConvertedVideo,
    ObjectTrack,
    TrackSet,
    area,
    box,
    boxed,
    drawn,
    mask_record,
    read_document,
    read_integer,
    record_list,
    rle_fault,
)
from harness.errors import UserError
from harness.formats import lenient
from harness.frame_folder import natural_key
from harness.masks import Rle
from harness.warnings import Warnings

TRACK_KEYS = ("instance_id", "track_id", "object_id", "tracking_id")
FRAME_KEYS = ("frame_id", "frame_index", "frame_number")


def read_coco(file: Path) -> TrackSet:
    """The tracks of a COCO file of frames.

    Frames belong to the video that ``video_id`` names, else to their folder; they are ordered by a frame number,
    else by name. Raises `UserError` where annotations have no track id.
    """
    document = read_document(file)
    if not isinstance(document, dict):
        raise UserError(str(file), "is not an object with images and annotations", "name a COCO file of frames")
    where, warnings = str(file), Warnings()
    images, annotations = record_list(document, "images", where), record_list(document, "annotations", where)
    categories = {
        read_integer(one.get("id"), f"{where}, categories[{i}]", "id"): str(one.get("name"))
        for i, one in enumerate(record_list(document, "categories", where))
    }
    named = record_list(document, "videos", where) if document.get("videos") else []
    names = {str(one.get("id")): one.get("name") for one in named}
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for i, image in enumerate(images):
        if not isinstance(image.get("file_name"), str):
            raise UserError(f"{where}, images[{i}]", "has no file_name", "name its file")
        folder = str(Path(image["file_name"].replace("\\", "/")).parent)
        groups[str(image["video_id"]) if image.get("video_id") is not None else folder].append(image)
    numbers = [lenient.whole(int(key) if key.lstrip("-").isdigit() else None) for key in groups]
    are_numbers = all(found is not None for found in numbers)
    frame_of: dict[str, tuple[ConvertedVideo, int]] = {}
    videos: list[ConvertedVideo] = []
    for key in sorted(groups, key=int if are_numbers else str):
        ordered = _ordered(groups[key])
        place = f"{where}, video {key}"
        sizes = {tuple(read_integer(one.get(side), place, side) for side in ("height", "width")) for one in ordered}
        if len(sizes) != 1:
            raise UserError(f"{where}, video {key}", "has images of several sizes", "give frames of one size")
        height, width = sizes.pop()
        if height <= 0 or width <= 0 or height * width >= MOST_TRACK_PIXELS:
            raise UserError(place, f"size {height}x{width} is not a frame's", "correct it")
        files = tuple(str(one["file_name"]) for one in ordered)
        video = ConvertedVideo(
            int(key) if are_numbers else len(videos) + 1, str(names.get(key) or key), height, width, files
        )
        videos.append(video)
        for index, one in enumerate(ordered):
            frame_of[str(one.get("id"))] = video, index
    _add_tracks(annotations, frame_of, categories, where, warnings)
    return TrackSet(videos, categories, warnings)


def _ordered(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for key in FRAME_KEYS:
        if all(isinstance(one.get(key), int) for one in images):
            return sorted(images, key=lambda one: int(one[key]))
    return sorted(images, key=lambda one: natural_key(str(one["file_name"])))


def _add_tracks(
    annotations: list[dict[str, Any]],
    frame_of: dict[str, tuple[ConvertedVideo, int]],
    categories: dict[int, str],
    where: str,
    warnings: Warnings,
) -> None:
    tracks: dict[tuple[int, str], ObjectTrack] = {}
    for i, one in enumerate(annotations):
        place = f"{where}, annotations[{i}]"
        if str(one.get("image_id")) not in frame_of:
            raise UserError(place, f"unknown image {one.get('image_id')}", "add the image or remove the annotation")
        video, index = frame_of[str(one.get("image_id"))]
        category = read_integer(one.get("category_id"), place, "category_id")
        if category not in categories:
            raise UserError(place, f"unknown category {category}", "add it to categories")
        key = (video.id, str(_track_id(one, place)))
        if key not in tracks:
            tracks[key] = ObjectTrack(len(video.tracks) + 1, category, [None] * len(video.file_names))
            tracks[key].is_crowd = one.get("iscrowd") in (1, True)
            score = one.get("score")
            tracks[key].score = float(score) if isinstance(score, (int, float)) else None
            video.tracks.append(tracks[key])
        track = tracks[key]
        if track.category_id != category:
            raise UserError(
                place, f"track {key[1]} has category {category} here, {track.category_id} before", "correct it"
            )
        if track.masks[index] is not None:
            raise UserError(place, f"track {key[1]} occurs twice in one image", "give each object its own track id")
        track.masks[index] = _mask(one, video.height, video.width, place, warnings)


def _track_id(one: dict[str, Any], place: str) -> Any:
    attributes = one.get("attributes") if isinstance(one.get("attributes"), dict) else {}
    for source in (one, attributes or {}):
        for key in TRACK_KEYS:
            if source.get(key) is not None:
                return source[key]
    raise UserError(
        place, "has no track id", f"write one of {', '.join(TRACK_KEYS)}, the same in all frames of an object"
    )


def _mask(one: dict[str, Any], height: int, width: int, place: str, warnings: Warnings) -> Rle | None:
    segmentation = one.get("segmentation")
    if isinstance(segmentation, dict):
        stated = segmentation.get("size")
        size = [lenient.whole(v) for v in stated] if isinstance(stated, list) else []
        if [v and v[0] for v in size] != [height, width]:
            raise UserError(place, f"its mask is of size {stated}, its image {height}x{width}", "encode it again")
        return _compressed(segmentation, height, width, place)
    if isinstance(segmentation, list) and segmentation:
        return drawn(segmentation, height, width, place)
    bbox = one.get("bbox")
    if isinstance(bbox, list) and len(bbox) == 4:
        warnings.add("boxes are used as masks of all their pixels", place)
        return boxed(bbox, height, width, place)
    raise UserError(place, "has neither segmentation nor bbox", "write a mask")


def _compressed(segmentation: dict[str, Any], height: int, width: int, place: str) -> Rle | None:
    from pycocotools import mask as coco

    counts = segmentation.get("counts")
    if isinstance(counts, list):
        runs = [read_integer(run, place, "counts") for run in counts]
        if min(runs, default=0) < 0 or sum(runs) != height * width:
            raise UserError(place, "its counts do not fill the image", "encode it again")
        found = coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"]
    else:
        found = str(counts).encode()
        fault = rle_fault(found, height, width)
        if fault:
            raise UserError(place, fault, "encode it again")
    mask = Rle((height, width), bytes(found))
    return mask if area(mask) else None


def coco_document(tracks: TrackSet) -> dict[str, Any]:
    """COCO per frame with videos and track ids (CocoVID): ``frame_id`` is from 0, ``instance_id`` over all videos."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    instances = 0
    for video in tracks.videos:
        start = len(images) + 1
        for index, name in enumerate(video.file_names):
            size = {"height": video.height, "width": video.width}
            images.append({"id": start + index, "video_id": video.id, "frame_id": index, "file_name": name, **size})
        for track in video.tracks:
            instances += 1
            for index, mask in enumerate(track.masks):
                if mask is not None:
                    one = {
                        "id": len(annotations) + 1,
                        "image_id": start + index,
                        "video_id": video.id,
                        "category_id": track.category_id,
                        "instance_id": instances,
                        "track_id": instances,
                        "segmentation": mask_record(mask),
                        "area": area(mask),
                        "bbox": box(mask),
                        "iscrowd": int(track.is_crowd),
                    }
                    annotations.append(one if track.score is None else one | {"score": track.score})
    videos = [{"id": v.id, "name": v.name, "height": v.height, "width": v.width} for v in tracks.videos]
    categories = [{"id": number, "name": name} for number, name in sorted(tracks.categories.items())]
    return {"videos": videos, "images": images, "annotations": annotations, "categories": categories}
