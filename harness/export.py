"""Export: predictions as the official results file, and as the zip that an evaluation server takes."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from typing import IO, cast

import msgspec

from harness.atomic_write import atomic_write
from harness.errors import UserError
from harness.paths import Location
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.store import PredictionStore

RESULTS = "results.json"
_NEVER = (1980, 1, 1, 0, 0, 0)
"""The earliest time of a zip: the same predictions give the same bytes."""


def export_results(run: Location, out: Location) -> int:
    """Write the official results list of a run's videos; return the number of tracks.

    Raises `UserError` where ``run`` is no run folder, videos are missing, or ``out`` cannot be written.
    """
    found = FinishedRun(run)
    _refuse_missing(found, found.video_ids.run)
    return write_results_file(found.store, out, found.video_ids.run)


def write_results_file(store: PredictionStore, out: Location, videos: Iterable[int] | None = None) -> int:
    """Write tracks of a store as a results list, by video id and in order of prediction; return their number.

    One video is held at a time, whatever the size of the store.
    """
    with atomic_write(out) as file:
        return _write_list(store, sorted(store.done() if videos is None else videos), file)


def write_submission(run: Location, out: Location) -> int:
    """Write the zip of a run with ``results.json`` at its top; return the number of tracks.

    Raises `UserError` where videos of the split are missing: a server would count them as failures of the model.
    """
    found = FinishedRun(run)
    _refuse_missing(found, found.video_ids.split)
    entry = zipfile.ZipInfo(RESULTS, _NEVER)
    entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
    with (
        atomic_write(out) as file,
        zipfile.ZipFile(file, "w") as archive,
        archive.open(entry, "w", force_zip64=True) as text,
    ):
        return _write_list(found.store, found.video_ids.split, text)


def _refuse_missing(run: FinishedRun, videos: Sequence[int]) -> None:
    missing = sorted(set(videos) - run.store.done())
    if missing:
        first = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        what = f"{len(missing)} of {len(videos)} videos have no predictions: {first}"
        raise UserError(str(run.folder), what, "repeat its harness run (without --limit) to finish it")


def _write_list(store: PredictionStore, videos: Iterable[int], file: IO[bytes]) -> int:
    """Write a JSON list of tracks, one to a line."""
    tracks = 0
    for video in videos:
        text = io.BytesIO()
        for row in store.read_table(video).to_pylist():
            text.write(b"[\n" if not tracks else b",\n")
            text.write(_record(row))
            tracks += 1
        text.seek(0)
        shutil.copyfileobj(text, file)
    file.write(b"\n]\n" if tracks else b"[]\n")
    return tracks


def _record(row: dict[str, object]) -> bytes:
    size = [row["height"], row["width"]]
    masks = cast(list[bytes | None], row["masks"])
    segmentations = [None if m is None else {"size": size, "counts": m.decode("ascii")} for m in masks]
    track = {"video_id": row["video_id"], "category_id": row["category_id"], "score": row["score"]}
    return msgspec.json.encode({**track, "segmentations": segmentations})
