"""TrackEval's and MOTS's text form: one file per video, one line per mask.

frame id class_id height width counts        frames count from 1, ids from 1 within a video
"""

from __future__ import annotations

from pathlib import Path

from harness.arrays import Mask
from harness.convert.tracks import ConvertedVideo, TrackSet, decoded, encoded
from harness.errors import UserError


def write_mots(tracks: TrackSet, out: Path) -> list[str]:
    """Write ``{video}.txt`` files and ``classes.txt`` (number and name); return warnings.

    The form has no overlaps: a pixel is of the track with the highest score, and of equal ones of the first. Slashes
    in names of videos become underscores. Raises `UserError` where two videos would be one file.
    """
    out.mkdir(parents=True, exist_ok=True)
    cut, seen = 0, set()
    for video in tracks.videos:
        name = video.name.replace("/", "_")
        if name in seen:
            raise UserError(f"video {video.name}", "has a name that another video has", "give each video its own name")
        seen.add(name)
        text, overlaps = _lines(video)
        cut += overlaps
        (out / f"{name}.txt").write_text(text, encoding="utf-8")
    listed = "".join(f"{number} {category}\n" for number, category in sorted(tracks.categories.items()))
    (out / "classes.txt").write_text(listed, encoding="utf-8")
    return [f"{cut} masks overlapped others and were cut"] if cut else []


def _lines(video: ConvertedVideo) -> tuple[str, int]:
    order = sorted(range(len(video.tracks)), key=lambda i: (-(video.tracks[i].score or 0), i))
    lines, cut = [], 0
    for index in range(len(video.file_names)):
        taken: Mask | None = None
        for i in order:
            track = video.tracks[i]
            mask = track.masks[index] if index < len(track.masks) else None
            if mask is None:
                continue
            pixels = decoded(mask)
            if taken is not None and (pixels & taken).any():
                cut += 1
                pixels = pixels & ~taken
                mask = encoded(pixels)
            taken = pixels if taken is None else taken | pixels
            if mask is not None:
                counts = mask.counts.decode("ascii")
                lines.append((index + 1, i + 1, f"{track.category_id} {video.height} {video.width} {counts}"))
    return "".join(f"{frame} {number} {rest}\n" for frame, number, rest in sorted(lines)), cut
