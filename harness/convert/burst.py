"""BURST's own form, as its official tasks take predictions: sequences with the masks of every annotated frame."""

from __future__ import annotations

from typing import Any

from harness.convert.tracks import ConvertedVideo, TrackSet
from harness.errors import UserError
from harness.scoring.burst_tracks import class_table


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
