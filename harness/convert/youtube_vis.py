"""Tracks from files that the harness reads: annotations, results, and the predictions of a run folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.convert.tracks import (
    ConvertedVideo,
    ObjectTrack,
    TrackSet,
    read_document,
    read_integer,
    record_list,
    rle_fault,
)
from harness.errors import UserError
from harness.formats.youtube_vis import Annotations, read_annotations
from harness.masks import Rle
from harness.run_folder.store import PredictionStore
from harness.warnings import Warnings


def read_truth(file: Path) -> TrackSet:
    """The annotated tracks of a file in YouTube-VIS or BURST's own form."""
    annotations = read_annotations(file)
    tracks = without_tracks(annotations)
    if annotations.truth is None:
        raise UserError(str(file), "has no annotations", "name a file with truth, or results with --annotations")
    for video in tracks.videos:
        for one in annotations.truth.tracks_of(video.id):
            masks = _of_length(one.masks, len(video.file_names))
            video.tracks.append(ObjectTrack(len(video.tracks) + 1, one.category_id, masks, None, one.is_crowd))
    return tracks


def read_results(file: Path, annotations: Path) -> TrackSet:
    """The tracks of a results file; the annotation file names videos, frames and categories."""
    tracks = without_tracks(read_annotations(annotations))
    videos = {video.id: video for video in tracks.videos}
    document = read_document(file)
    for i, one in enumerate(record_list({"results": document}, "results", str(file))):
        where = f"{file}, record {i}"
        video_id, category = (read_integer(one.get(key), where, key) for key in ("video_id", "category_id"))
        if video_id not in videos or category not in tracks.categories:
            what = f"video {video_id} or category {category} is not in {annotations}"
            raise UserError(where, what, "name the annotation file that the results are for")
        video, score = videos[video_id], one.get("score")
        masks = list(_masks(one.get("segmentations"), video, where))
        track = ObjectTrack(len(video.tracks) + 1, category, _of_length(masks, len(video.file_names)))
        track.score = float(score) if isinstance(score, (int, float)) else 1.0
        video.tracks.append(track)
    return tracks


def read_predictions(store: PredictionStore, annotations: Annotations) -> TrackSet:
    """The predictions of a run for the videos that it has predictions of."""
    tracks = without_tracks(annotations)
    done = store.done()
    tracks.videos = [video for video in tracks.videos if video.id in done]
    for video in tracks.videos:
        for row in store.read_table(video.id).to_pylist():
            size = (int(row["height"]), int(row["width"]))
            if size != (video.height, video.width):
                what = f"has masks of {size[0]}x{size[1]}, its video is {video.height}x{video.width}"
                raise UserError(str(store.path(video.id)), what, "name the annotations of the run")
            masks = _of_length([None if m is None else Rle(size, m) for m in row["masks"]], len(video.file_names))
            video.tracks.append(ObjectTrack(len(video.tracks) + 1, int(row["category_id"]), masks, float(row["score"])))
    return tracks


def is_results(file: Path) -> bool:
    """Whether a file of JSON is a list."""
    from harness.formats.containers import open_json

    with open_json(file) as opened:
        return opened.read(256).lstrip()[:1] == b"["


def without_tracks(annotations: Annotations) -> TrackSet:
    """The videos and categories of annotations, and what was read leniently."""
    names: dict[str, int] = defaultdict(int)
    videos = []
    for one in annotations.videos:
        names[one.name] += 1
        name = one.name if names[one.name] == 1 else f"{one.name}_{names[one.name]}"
        files = one.file_names or tuple(f"{name}/{index:05d}.jpg" for index in range(one.length))
        videos.append(ConvertedVideo(one.id, name, one.height, one.width, files))
    warnings = Warnings()
    for note in annotations.notes:
        warnings.add(note.kind, note.first, note.count)
    return TrackSet(videos, {c.id: c.name for c in annotations.categories}, warnings)


def _of_length(masks: Iterable[Rle | None], length: int) -> list[Rle | None]:
    found = list(masks)[:length]
    return found + [None] * (length - len(found))


def _masks(segmentations: Any, video: ConvertedVideo, where: str) -> Iterator[Rle | None]:
    if not isinstance(segmentations, list):
        raise UserError(where, "has no segmentations", "write one mask or null per frame")
    for index, one in enumerate(segmentations):
        if one is None:
            yield None
            continue
        counts = one.get("counts") if isinstance(one, dict) else None
        if not isinstance(counts, str):
            raise UserError(
                f"{where}, frame {index}", "its mask is not a compressed run-length encoding", "encode it again"
            )
        text = counts.encode(errors="surrogatepass")  # JSON may have half a pair, which is no run-length encoding
        fault = rle_fault(text, video.height, video.width)
        if (size := one.get("size")) is not None and size != [video.height, video.width]:
            fault = f"its mask has size {size}, its video [{video.height}, {video.width}]"
        if fault:
            raise UserError(f"{where}, frame {index}", fault, "encode it at the video's size")
        yield Rle((video.height, video.width), text)
