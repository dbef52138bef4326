"""The prediction of one video as files: ``results.json`` and the video with its tracks drawn on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image as Pillow

from harness.atomic_write import write_json
from harness.errors import UserError
from harness.reports.overlay import overlay
from harness.types import Track, Video
from harness.video_file import write_video


def write_prediction(
    out: Path,
    video: Video,
    names: Mapping[int, str],
    tracks: Sequence[Track],
    threshold: float,
    rate: float,
    as_frames: bool,
) -> dict[str, str]:
    """Write ``results.json`` and the overlay, an MP4 or with ``as_frames`` JPEGs, into a folder; return their paths.

    Tracks below ``threshold`` are not drawn; ``rate`` is the video's frames per second, ``names`` the categories' by
    id. Raises `UserError` if the folder cannot be created.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(str(out), f"cannot be created: {error.strerror}", "name another folder") from error
    results = [
        {
            "video_id": t.video_id,
            "category_id": t.category_id,
            "category": names[t.category_id],
            "score": t.score,
            "segmentations": [m and {"size": list(m.size), "counts": m.counts.decode()} for m in t.masks],
        }
        for t in tracks
    ]
    write_json(out / "results.json", results)
    pictures = overlay(video, [t for t in tracks if t.score >= threshold], names)
    if not as_frames:
        write_video(out / "overlay.mp4", pictures, rate)
        return {"results": str(out / "results.json"), "overlay": str(out / "overlay.mp4")}
    folder = out / "overlay"
    folder.mkdir(exist_ok=True)
    for index, picture in enumerate(pictures):
        Pillow.fromarray(picture).save(folder / f"{index:05d}.jpg", quality=92)
    return {"results": str(out / "results.json"), "overlay": str(folder)}
