"""BURST's own form, as its official tasks take predictions: sequences with the masks of every annotated frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.convert.tracks import ConvertedVideo, ObjectTrack, TrackSet
from harness.convert.youtube_vis import read_truth
from harness.errors import UserError
from harness.formats.burst import BurstMask, File, Sequence, areas_of, read_burst
from harness.formats.youtube_vis import read_annotations
from harness.masks import Rle
from harness.scoring.burst_tracks import class_table
from harness.warnings import Warnings

_SEVERAL_SCORES = "track whose masks have different scores, which are averaged"
_SEVERAL_CATEGORIES = "track whose masks are of different categories: that of the first mask is kept"
_NO_SCORE = "track without a mask, which has no score in this form: it has 1"


def burst_document(tracks: TrackSet) -> dict[str, Any]:
    """Tracks in BURST's form, numbered from 1 in each sequence; those without a score have none.

    A file name is ``DATASET/SEQUENCE/FRAME``, as in BURST's annotations, and categories have the ids of LVIS 0.5, found
    by name. Raises `UserError` for other file names and for categories with tracks that LVIS 0.5 does not have.
    """
    ids = {name: number for number, name in class_table()[0].items()}
    return {"sequences": [_sequence(video, tracks.categories, ids) for video in tracks.videos]}


def _sequence(video: ConvertedVideo, categories: dict[int, str], ids: dict[str, int]) -> dict[str, Any]:
    parts = [name.rsplit("/", 1) for name in video.file_names]
    folders = {folder for folder, *_ in parts}
    dataset, slash, sequence = min(folders, default="").partition("/")
    if len(folders) != 1 or not slash or any(len(one) != 2 for one in parts):
        hint = "name BURST's own annotation file with --annotations"
        raise UserError(f"video {video.name}", "has frames that are not DATASET/SEQUENCE/FRAME", hint)
    frames: list[dict[str, Any]] = [{} for _ in parts]
    numbers: dict[str, int] = {}
    for track in video.tracks:
        name = categories[track.category_id]
        if name not in ids:
            raise UserError(f"category {track.category_id} ({name})", "is not in LVIS 0.5", "rename it in the file")
        numbers[str(track.id)] = ids[name]
        score = {} if track.score is None else {"score": track.score}
        for frame, mask in zip(frames, track.masks, strict=True):
            if mask is not None:
                frame[str(track.id)] = {"rle": mask.counts.decode("ascii"), **score}
    return {
        "id": video.id,
        "dataset": dataset,
        "seq_name": sequence,
        "width": video.width,
        "height": video.height,
        "annotated_image_paths": [name for _, name in parts],
        "segmentations": frames,
        "track_category_ids": numbers,
    }


def read_burst_tracks(file: Path, annotations: Path | None = None) -> TrackSet:
    """The tracks of a file in BURST's own form: annotations, or predictions as `burst_document` writes them.

    Predictions have scores, or do not list their categories. Their tracks keep their numbers. ``annotations``, if
    given, says how categories are numbered; otherwise they have the ids of LVIS 0.5. Raises `UserError` for a faulty
    file, and for categories that are not known.
    """
    read = read_burst(file, default_split="any")
    masks = (mask for sequence in read.sequences for frame in sequence.segmentations for mask in frame.values())
    if read.categories and annotations is None and all(mask.score is None for mask in masks):
        return read_truth(file)
    tracks = TrackSet([], {}, Warnings())
    names = _names(read, file)
    listed = None if annotations is None else {c.name: c.id for c in read_annotations(annotations).categories}
    for sequence in read.sequences:
        tracks.videos.append(_video(sequence, names, listed, str(file), tracks))
    if annotations is not None and listed is not None:
        tracks.categories = {number: name for name, number in listed.items()}
    return tracks


def _names(read: File, file: Path) -> Mapping[int, str]:
    """Names of categories by their number in the file: as it lists them, else those of LVIS 0.5."""
    if not read.categories:
        return class_table()[0]
    for place, one in enumerate(read.categories):
        if type(one.get("id")) is not int or not isinstance(one.get("name"), str):
            raise UserError(f"{file}, categories[{place}]", "has no id or no name", "state both")
    return {one["id"]: one["name"] for one in read.categories}


def _video(
    sequence: Sequence, names: Mapping[int, str], listed: Mapping[str, int] | None, file: str, tracks: TrackSet
) -> ConvertedVideo:
    """A sequence; adds its categories and what is lost to ``tracks``."""
    where = f"{file}, sequence {sequence.id} ({sequence.seq_name})"
    areas_of(sequence, where)
    size = sequence.height, sequence.width
    frames = tuple(sequence.frame(i) for i in range(len(sequence.annotated_image_paths)))
    video = ConvertedVideo(sequence.id, f"{sequence.dataset}/{sequence.seq_name}", *size, frames)
    numbers = dict.fromkeys([*sequence.track_category_ids, *(t for frame in sequence.segmentations for t in frame)])
    for number in numbers:
        place = f"{where}, track {number}"
        masks = [frame.get(number) for frame in sequence.segmentations]
        found = [mask for mask in masks if mask is not None]
        category = _category(sequence.track_category_ids.get(number), found, place, tracks.warnings)
        if category not in names:
            raise UserError(place, f"category {category} is unknown", "list it in categories, with its name")
        name = names[category]
        if listed is not None and name not in listed:
            hint = "name the annotation file that the predictions are for"
            raise UserError(place, f"category {category} ({name}) is not in the annotations", hint)
        chosen = category if listed is None else listed[name]
        tracks.categories[chosen] = name
        encoded = [None if mask is None else Rle(size, mask.rle.encode()) for mask in masks]
        score = _score(found, place, tracks.warnings)
        video.tracks.append(ObjectTrack(int(number), chosen, encoded, score))
    return video


def _category(of_track: int | None, masks: list[BurstMask], place: str, warnings: Warnings) -> int:
    """The category of a track: a mask's own one counts, as in BURST's tasks."""
    stated = [of_track if mask.category_id is None else mask.category_id for mask in masks] or [of_track]
    if len(set(stated)) > 1:
        warnings.add(_SEVERAL_CATEGORIES, place)
    if stated[0] is None:
        raise UserError(place, "has no category", "list it in track_category_ids")
    return stated[0]


def _score(masks: list[BurstMask], place: str, warnings: Warnings) -> float:
    """The score of a track: the mean of its masks', as in the track mAP of BURST's tasks; 1 where none is stated."""
    scores = [1.0 if mask.score is None else mask.score for mask in masks]
    if not scores:
        warnings.add(_NO_SCORE, place)
        return 1.0
    if len(set(scores)) > 1:
        warnings.add(_SEVERAL_SCORES, place)
    return scores[0] if len(set(scores)) == 1 else fmean(scores)
