"""Sets of tracks of other tools: how tests compare them, and some to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner, Result

from harness.cli.convert import convert
from harness.convert.tracks import ConvertedVideo, ObjectTrack, TrackSet, decoded, encoded

HEIGHT, WIDTH = 20, 30


def command(*arguments: str | Path) -> Result:
    import typer

    app = typer.Typer()
    app.command()(convert)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def shapes(tracks: TrackSet) -> list[tuple[str, str, list[int | None]]]:
    """Video, category and areas of every track."""
    return [
        (v.name, tracks.categories[t.category_id], [None if m is None else int(decoded(m).sum()) for m in t.masks])
        for v in tracks.videos
        for t in v.tracks
    ]


def pixels(tracks: TrackSet) -> list[np.ndarray]:
    return [decoded(m) for v in tracks.videos for t in v.tracks for m in t.masks if m is not None]


def same(a: TrackSet, b: TrackSet) -> bool:
    return shapes(a) == shapes(b) and all(np.array_equal(x, y) for x, y in zip(pixels(a), pixels(b), strict=True))


def label_studio_images(*, tracks: bool, kind: str = "polygonlabels") -> list[dict[str, Any]]:
    """Two frames with two cats each."""
    tasks = []
    for frame in (0, 1):
        results: list[dict[str, Any]] = []
        for number, x in enumerate((10, 60)):
            points = [[x, 10], [x + 20, 10], [x + 20, 60], [x, 60]]
            size = {"original_width": WIDTH, "original_height": HEIGHT}
            one = {"id": f"{frame}{number}", "type": kind, "from_name": "label", **size}
            results.append(one | {"value": {"points": points, "polygonlabels": ["cat"], "rle": [1], "format": "rle"}})
            if tracks:
                value = {"number": 7 - number}
                results.append({"id": f"{frame}{number}", "type": "number", "from_name": "track", "value": value})
        data = {"image": f"/data/local-files/?d=clips/v1/{frame}.jpg"}
        tasks.append({"data": data, "annotations": [{"was_cancelled": True}, {"result": results}]})
    return tasks


def two_on_top(scores: tuple[float, float]) -> TrackSet:
    """Two tracks of one frame that share a column."""
    masks = [np.zeros((HEIGHT, WIDTH), np.bool_) for _ in range(2)]
    masks[0][:, :3], masks[1][:, 2:5] = True, True
    tracks = [ObjectTrack(i + 1, 1, [encoded(masks[i])], scores[i]) for i in range(2)]
    return TrackSet([ConvertedVideo(1, "a/b", HEIGHT, WIDTH, ("a/b/0.jpg",), tracks)], {1: "cat"})
