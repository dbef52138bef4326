"""Export: predictions as the official results file, and as the zip that an evaluation server takes."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, cast

import msgspec

from harness.atomic_write import atomic_write
from harness.errors import UserError
from harness.paths import Location
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.layout import PER_PAIR
from harness.run_folder.store import PredictionStore

RESULTS = "results.json"
_NEVER = (1980, 1, 1, 0, 0, 0)
"""The earliest time of a zip, so that the same predictions give the same bytes."""


def export_results(run: Location, out: Location) -> int:
    """Write the official results list of a run's videos; return the number of tracks.

    Of a run that was scored over phrases tracks have ``bboxes`` and ``areas`` too, which those evaluators read. Raises
    `UserError` where ``run`` is no run folder, videos are missing, or ``out`` cannot be written.
    """
    found = FinishedRun(run)
    _refuse_missing(found, found.video_ids.run)
    with_boxes = (found.folder / PER_PAIR).exists()
    return write_tracks(_tracks(found.store, sorted(found.video_ids.run), with_boxes), out, zipped=False)


def write_results_file(store: PredictionStore, out: Location, videos: Iterable[int] | None = None) -> int:
    """Write tracks of a store as a results list, by video id and in order of prediction; return their number.

    One video is held at a time, whatever the size of the store.
    """
    return write_tracks(_tracks(store, sorted(store.done() if videos is None else videos)), out, zipped=False)


def write_submission(run: Location, out: Location) -> int:
    """Write the zip of a run with ``results.json`` at its top; return the number of tracks.

    Raises `UserError` if videos of the split are missing: a server would count them as failures of the model.
    """
    found = FinishedRun(run)
    _refuse_missing(found, found.video_ids.split)
    return write_tracks(_tracks(found.store, found.video_ids.split), out, zipped=True)


def write_tracks(tracks: Iterable[bytes], out: Location, *, zipped: bool) -> int:
    """Write tracks, each as JSON, as a results list or as the zip that holds it; return their number.

    The file appears when it is complete: an error that ``tracks`` raises leaves none.
    """
    with atomic_write(out) as file:
        if not zipped:
            return _write_list(tracks, file)
        entry = zipfile.ZipInfo(RESULTS, _NEVER)
        entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
        with zipfile.ZipFile(file, "w") as archive, archive.open(entry, "w", force_zip64=True) as text:
            return _write_list(tracks, text)


def _refuse_missing(run: FinishedRun, videos: Sequence[int]) -> None:
    missing = sorted(set(videos) - run.store.done())
    if missing:
        first = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        what = f"{len(missing)} of {len(videos)} videos have no predictions: {first}"
        raise UserError(str(run.folder), what, "repeat its `harness run` (without --limit) to finish it")


def _tracks(store: PredictionStore, videos: Iterable[int], with_boxes: bool = False) -> Iterator[bytes]:
    for video in videos:
        for row in store.read_table(video).to_pylist():
            yield _record(row, with_boxes)


def _write_list(tracks: Iterable[bytes], file: IO[bytes]) -> int:
    """Write a JSON list of tracks, one to a line."""
    number = 0
    for track in tracks:
        file.write(b",\n" if number else b"[\n")
        file.write(track)
        number += 1
    file.write(b"\n]\n" if number else b"[]\n")
    return number


def _record(row: dict[str, object], with_boxes: bool) -> bytes:
    size = [row["height"], row["width"]]
    masks = cast(list[bytes | None], row["masks"])
    segmentations = [None if m is None else {"size": size, "counts": m.decode("ascii")} for m in masks]
    track = {"video_id": row["video_id"], "category_id": row["category_id"], "score": row["score"]}
    further = _boxes_and_areas(size, masks) if with_boxes else {}
    return msgspec.json.encode({**track, "segmentations": segmentations, **further})


def _boxes_and_areas(size: list[object], masks: list[bytes | None]) -> dict[str, object]:
    """The box ``[x, y, w, h]`` and the area in pixels of every mask, 0 where there is none."""
    from pycocotools import mask as coco

    entries = [None if m is None else {"size": size, "counts": m} for m in masks]
    boxes = [[0.0] * 4 if entry is None else coco.toBbox(entry).tolist() for entry in entries]
    return {"bboxes": boxes, "areas": [0 if entry is None else int(coco.area(entry)) for entry in entries]}
