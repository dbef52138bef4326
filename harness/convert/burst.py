"""BURST's own form, as its official tasks take predictions: sequences with the masks of every annotated frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from harness.convert.tracks import ConvertedVideo, ObjectTrack, TrackSet
from harness.convert.youtube_vis import read_truth, without_tracks
from harness.errors import UserError
from harness.formats.burst import BurstMask, File, Sequence, areas_of, place_of_frames, read_burst
from harness.formats.youtube_vis import read_annotations
from harness.masks import Rle
from harness.scoring.burst_tracks import class_table
from harness.warnings import Warnings

_SEVERAL_SCORES = "track whose masks have different scores, which are averaged"
_SEVERAL_CATEGORIES = "track whose masks are of different categories: that of the first mask is kept"
_NO_SCORE = "track without a mask, which has no score in this form: it has 1"
_PERSON, _BABY = "person", "baby"
"""BURST's name of the class that LVIS 0.5 calls baby."""
_UNKNOWN_SEQUENCE = "sequence that the annotations do not have, left out"
_UNKNOWN_FRAME = "mask in a frame that the annotations do not have, left out"
_UNKNOWN_CATEGORY = "track of a category that the annotations do not have, left out"


def burst_document(tracks: TrackSet) -> dict[str, Any]:
    """Tracks in BURST's form, numbered from 1 in each sequence; those without a score have none.

    A file name is ``DATASET/SEQUENCE/FRAME``, as in BURST's annotations, and categories have the ids of LVIS 0.5, found
    by name. Raises `UserError` for other file names and for categories with tracks that LVIS 0.5 does not have.
    """
    ids = {name: number for number, name in class_table()[0].items()}
    ids[_PERSON] = ids[_BABY]
    return {"sequences": [_sequence(video, tracks.categories, ids) for video in tracks.videos]}


def _sequence(video: ConvertedVideo, categories: dict[int, str], ids: dict[str, int]) -> dict[str, Any]:
    dataset, sequence, paths = place_of_frames(video.file_names, f"video {video.name}")
    frames: list[dict[str, Any]] = [{} for _ in paths]
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
        "annotated_image_paths": paths,
        "segmentations": frames,
        "track_category_ids": numbers,
    }


def read_burst_tracks(file: Path, annotations: Path | None = None) -> TrackSet:
    """The tracks of a file in BURST's own form: annotations, or predictions as `burst_document` writes them.

    Predictions have scores, or do not list their categories. Their tracks keep their numbers, and their categories
    those of LVIS 0.5. With ``annotations`` videos, frames and categories are those of that file, in its numbering;
    sequences and frames are found by name, and what the file does not have is left out with a warning. Raises
    `UserError` for a faulty file, and for categories without a name.
    """
    read = read_burst(file, default_split="any")
    masks = (mask for sequence in read.sequences for frame in sequence.segmentations for mask in frame.values())
    if read.categories and annotations is None and all(mask.score is None for mask in masks):
        return read_truth(file)
    tracks = TrackSet([], {}, Warnings()) if annotations is None else without_tracks(read_annotations(annotations))
    listed = None if annotations is None else {name: number for number, name in tracks.categories.items()}
    if listed is not None and _BABY in listed:
        listed.setdefault(_PERSON, listed[_BABY])
    places = {name: (video, at) for video in tracks.videos for at, name in enumerate(video.file_names)}
    names = _names(read, file)
    for sequence in read.sequences:
        where = f"{file}, sequence {sequence.id} ({sequence.seq_name})"
        areas_of(sequence, where)
        frames = [sequence.frame(i) for i in range(len(sequence.annotated_image_paths))]
        if annotations is None:
            name = f"{sequence.dataset}/{sequence.seq_name}"
            video = ConvertedVideo(sequence.id, name, sequence.height, sequence.width, tuple(frames))
            tracks.videos.append(video)
            at = list(range(len(frames)))
        else:
            found = next((places[name][0] for name in frames if name in places), None)
            if found is None:
                tracks.warnings.add(_UNKNOWN_SEQUENCE, where)
                continue
            if (found.height, found.width) != (sequence.height, sequence.width):
                what = f"has masks of {sequence.height}x{sequence.width}, its video is {found.height}x{found.width}"
                raise UserError(where, what, "encode the masks at the video's size")
            video, at = found, [places.get(name, (None, -1))[1] for name in frames]
        _add_tracks(video, sequence, at, _Categories(names, listed), where, tracks)
    return tracks


class _Categories(NamedTuple):
    """Names of categories by their number in a file, and the numbers to write by name; ``None``: those of the file."""

    names: Mapping[int, str]
    listed: Mapping[str, int] | None


def _names(read: File, file: Path) -> Mapping[int, str]:
    """Names of categories by their number in the file: as it lists them, else those of LVIS 0.5."""
    if not read.categories:
        return {number: _PERSON if name == _BABY else name for number, name in class_table()[0].items()}
    for place, one in enumerate(read.categories):
        if type(one.get("id")) is not int or not isinstance(one.get("name"), str):
            raise UserError(f"{file}, categories[{place}]", "has no id or no name", "state both")
    return {one["id"]: one["name"] for one in read.categories}


def _add_tracks(
    video: ConvertedVideo, sequence: Sequence, at: list[int], categories: _Categories, where: str, tracks: TrackSet
) -> None:
    """Add the tracks of a sequence to a video, whose frames are ``at`` (-1: none) by the sequence's frame.

    Adds its categories and what is lost to ``tracks``.
    """
    names, listed = categories
    size = sequence.height, sequence.width
    elsewhere = sum(len(frame) for place, frame in zip(at, sequence.segmentations, strict=True) if place < 0)
    tracks.warnings.add(_UNKNOWN_FRAME, where, elsewhere)
    numbers = dict.fromkeys([*sequence.track_category_ids, *(t for frame in sequence.segmentations for t in frame)])
    for number in numbers:
        place = f"{where}, track {number}"
        masks = [(i, frame[number]) for i, frame in zip(at, sequence.segmentations, strict=True) if number in frame]
        kept = [(i, mask) for i, mask in masks if i >= 0]
        category = _category(sequence.track_category_ids.get(number), [mask for _, mask in kept], place, tracks)
        if category not in names:
            raise UserError(place, f"category {category} is unknown", "list it in categories, with its name")
        name = names[category]
        if listed is not None and name not in listed:
            tracks.warnings.add(_UNKNOWN_CATEGORY, f"{place}, category {category} ({name})")
            continue
        chosen = category if listed is None else listed[name]
        tracks.categories.setdefault(chosen, name)
        encoded: list[Rle | None] = [None] * len(video.file_names)
        for i, mask in kept:
            encoded[i] = Rle(size, mask.rle.encode())
        score = _score([mask for _, mask in kept], place, tracks)
        video.tracks.append(ObjectTrack(int(number), chosen, encoded, score))


def _category(of_track: int | None, masks: list[BurstMask], place: str, tracks: TrackSet) -> int:
    """The category of a track: a mask's own one counts, as in BURST's tasks."""
    stated = [of_track if mask.category_id is None else mask.category_id for mask in masks] or [of_track]
    if len(set(stated)) > 1:
        tracks.warnings.add(_SEVERAL_CATEGORIES, place)
    if stated[0] is None:
        raise UserError(place, "has no category", "list it in track_category_ids")
    return stated[0]


def _score(masks: list[BurstMask], place: str, tracks: TrackSet) -> float:
    """The score of a track: the mean of its masks', as in the track mAP of BURST's tasks; 1 where none is stated."""
    scores = [1.0 if mask.score is None else mask.score for mask in masks]
    if not scores:
        tracks.warnings.add(_NO_SCORE, place)
        return 1.0
    if len(set(scores)) > 1:
        tracks.warnings.add(_SEVERAL_SCORES, place)
    return scores[0] if len(set(scores)) == 1 else fmean(scores)
