"""Data of the video viewer: selected videos with small frames, and tracks of the truth and of each run as outlines."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as Pillow

from harness.errors import UserError
from harness.formats.youtube_vis import TruthTrack
from harness.masks import Rle
from harness.plain_text import plain
from harness.reports.evidence import Shows
from harness.reports.outlines import OUTLINE_UNIT, outline
from harness.reports.overlay import colour
from harness.reports.pages import percent, points
from harness.run_folder.store import PredictionStore
from harness.scoring.analysis import HIT, Verdicts
from harness.scoring.errors_breakdown import (
    BACKGROUND,
    BOTH,
    CLASSIFICATION,
    DUPLICATE,
    IDENTITY,
    LOCALISATION,
    TEMPORAL,
)
from harness.types import Dataset, Video

FRAME_WIDTHS = (480, 360, 240)
"""Widths of frames in pixels, tried in this order until a video fits into its share of the page."""
QUALITY = 60
VIEWED_FRAMES = 24
"""Largest number of frames per video; a longer one is subsampled evenly."""
VIEWED_TRACKS = 20
"""Largest number of tracks per run and video: those with the highest scores."""
TRACKS_SHOWN = 5
"""Number of tracks shown at first: this many, or as many as there are annotated objects."""
VERDICT_TEXTS = {
    HIT: "right",
    "ignored": "not counted by the protocol",
    CLASSIFICATION: "wrong category: it is {}",
    LOCALISATION: "poor mask of {}",
    IDENTITY: "changes between objects, mostly {}",
    TEMPORAL: "right object {}, wrong frames",
    BOTH: "wrong category and poor mask, nearest {}",
    DUPLICATE: "duplicate: {} is already found",
    BACKGROUND: "no object there",
}
"""The assessment of a track, see `harness.scoring.analysis.Verdicts`."""


@dataclass(frozen=True)
class ViewedRun:
    """A run in the viewer; without ``verdicts`` its tracks are not assessed."""

    label: str
    store: PredictionStore
    verdicts: Verdicts | None = None


@dataclass(frozen=True)
class Choice:
    """A video to show, and why it was selected: the kind of selection, a short measure, and a sentence."""

    video_id: int
    group: str
    mark: str
    reason: str


def chosen(
    labels: Sequence[str],
    quality: Sequence[Mapping[int, float]],
    influence: Mapping[int, float],
    videos: Sequence[int],
    count: int,
    named: Sequence[Shows] = (),
) -> list[Choice]:
    """Choose about ``count`` videos: those that show what is ``named`` in the summary, then the most different ones
    where two runs are compared, the worst and the best.

    ``quality`` has one mapping from video id to `[0, 1]` per run, ``influence`` is what a video contributes to the
    difference of the second run from the first, both of ``labels``. Without qualities the first ``videos`` by id are
    taken.
    """
    known = [v for v in videos if all(v in run for run in quality)] if quality else []
    if not known:
        return [Choice(v, "First", "", "one of the first by id") for v in sorted(videos)[:count]]
    mean = {v: sum(run[v] for run in quality) / len(quality) for v in known}
    made = _named(named[:count])

    def take(ranked: Sequence[int], number: int, choice: Callable[[int], Choice]) -> None:
        free = [v for v in ranked if v not in made]
        made.update({v: choice(v) for v in free[:number]})

    left = count - len(made)
    share = left // 3
    if influence:
        ranked = sorted((v for v in known if influence.get(v)), key=lambda v: (-abs(influence[v]), v))
        take(ranked, left - 2 * share, lambda v: _different(v, influence[v], labels))
    by_quality = sorted(known, key=lambda v: (mean[v], v))
    take(by_quality, share, lambda v: _by_quality(v, "Worst", mean[v]))
    take(by_quality[::-1], count - len(made), lambda v: _by_quality(v, "Best", mean[v]))
    return list(made.values())


def _named(named: Sequence[Shows]) -> dict[int, Choice]:
    """The videos that show what the summary names, each once."""
    by_video: dict[int, list[Shows]] = {}
    for one in named:
        by_video.setdefault(one.video_id, []).append(one)
    return {
        video: Choice(
            video, "Named above", ", ".join(s.named.text for s in several), "; ".join(s.reason for s in several)
        )
        for video, several in by_video.items()
    }


def _different(video_id: int, influence: float, labels: Sequence[str]) -> Choice:
    favoured = labels[1] if influence > 0 else labels[0]
    reason = f"it favours {favoured} by {percent(abs(influence))} points of AP, which are lost without it"
    return Choice(video_id, "Most different", points(influence), reason)


def _by_quality(video_id: int, group: str, mean: float) -> Choice:
    reason = f"the mean IoU of its objects with the best tracks of their category is {mean:.2f}"
    return Choice(video_id, group, f"IoU {mean:.2f}", reason)


def viewer_data(
    dataset: Dataset, shown: Sequence[ViewedRun], choices: Sequence[Choice], max_mb: float
) -> dict[str, Any]:
    """Return the data for the page's script; frames take at most ``max_mb`` megabytes of the page in total."""
    videos = {video.id: video for video in dataset.videos}
    share = int(max_mb * 1e6 / max(len(choices), 1))
    made = [_video(dataset, videos[choice.video_id], shown, choice, share) for choice in choices]
    return {"unit": OUTLINE_UNIT, "videos": made}


def _video(dataset: Dataset, video: Video, shown: Sequence[ViewedRun], choice: Choice, share: int) -> dict[str, Any]:
    total = len(video.frames)
    spread = (
        np.unique(np.linspace(0, total - 1, min(total, VIEWED_FRAMES)).round().astype(int)).tolist() if total else []
    )
    frames, width, missing = _frames(video, spread, share)
    indices = list(frames)
    size = width, max(1, round(video.height * width / video.width))
    names = {category.id: category.name for category in dataset.categories}
    truth = dataset.truth.tracks_of(video.id) if dataset.truth is not None else None
    panes = [_truth_pane(truth, shown, video, names, indices, size)] if truth is not None else []
    return {
        "id": video.id,
        "name": plain(video.name),
        "group": choice.group,
        "mark": choice.mark,
        "reason": choice.reason,
        "width": size[0],
        "height": size[1],
        "total": total,
        "indices": indices,
        "frames": list(frames.values()),
        "missing": missing,
        "panes": panes + [_pane(one, video, truth, names, indices, size) for one in shown],
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _frames(video: Video, indices: Sequence[int], share: int) -> tuple[dict[int, str | None], int, str]:
    """Return data URIs by frame index (``None``: cannot be read), the width in pixels, and a text on missing frames.

    The width is the largest at which the frames fit into ``share`` bytes; if none fits, every second frame is left out
    until they do.
    """
    pictures: dict[int, Pillow.Image | None] = {}
    faults: list[str] = []
    for index in indices:
        try:
            pictures[index] = Pillow.fromarray(video.frames[index])
        except UserError as error:  # the message names a path of this machine, and the page may be published
            pictures[index] = None
            faults.append(error.what)
    missing = f"{len(faults)} of {len(indices)} frames cannot be read: {plain(faults[0])}" if faults else ""
    for width in dict.fromkeys(min(video.width, w) for w in FRAME_WIDTHS):
        made = {index: _data_uri(picture, width) for index, picture in pictures.items()}
        if _bytes(made) <= share:
            return made, width, missing
    while _bytes(made) > share and len(made) > 1:
        made = dict(list(made.items())[::2])
    return made, width, missing


def _bytes(made: Mapping[int, str | None]) -> int:
    return sum(len(text) for text in made.values() if text is not None)


def _data_uri(picture: Pillow.Image | None, width: int) -> str | None:
    if picture is None:
        return None
    if picture.width != width:
        size = width, max(1, round(picture.height * width / picture.width))
        picture = picture.resize(size, Pillow.Resampling.BOX)
    data = io.BytesIO()
    picture.save(data, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()


def _pane(
    one: ViewedRun,
    video: Video,
    truth: Sequence[TruthTrack] | None,
    names: Mapping[int, str],
    indices: Sequence[int],
    size: tuple[int, int],
) -> dict[str, Any]:
    """A run's tracks in a video; a track that matches an annotated object has the object's colour."""
    if video.id not in one.store.done():
        return {"title": one.label, "note": "this run has no predictions for the video", "tracks": []}
    everything = sorted(enumerate(one.store.read_video(video.id)), key=lambda item: (-item[1].score, item[0]))
    objects = {t.id: number for number, t in enumerate(truth or ())}
    called = {t.id: names[t.category_id] for t in truth or ()}
    known = one.verdicts.of_video(video.id) if one.verdicts is not None else {}
    own = len(objects)
    drawn: list[dict[str, Any]] = []
    for row, track in everything[:VIEWED_TRACKS]:
        kind, truth_id = known.get(row, ("", None))
        number = objects.get(truth_id, own) if truth_id is not None else own
        own += number == own
        note = VERDICT_TEXTS.get(kind, kind).format(called.get(truth_id, "?") if truth_id is not None else "")
        more = {"score": round(track.score, 4), "note": note, "on": len(drawn) < max(TRACKS_SHOWN, len(objects))}
        drawn.append(_drawn(names.get(track.category_id, "?"), track.masks, number, indices, size, **more))
    note = _count(len(everything), "track")
    if len(everything) > len(drawn):
        note += f", the {len(drawn)} with the highest scores are shown"
    return {"title": one.label, "note": note, "tracks": drawn}


def _truth_pane(
    truth: Sequence[TruthTrack],
    shown: Sequence[ViewedRun],
    video: Video,
    names: Mapping[int, str],
    indices: Sequence[int],
    size: tuple[int, int],
) -> dict[str, Any]:
    """The annotated objects, with those runs that missed them."""
    judged = [one for one in shown if one.verdicts is not None and video.id in one.store.done()]
    hits = [
        {truth_id for kind, truth_id in one.verdicts.of_video(video.id).values() if kind == HIT}
        for one in judged
        if one.verdicts is not None
    ]
    drawn = []
    for number, track in enumerate(truth):
        missing = [one.label for one, found in zip(judged, hits, strict=True) if track.id not in found]
        note = f"missed by {' and '.join(missing)}" if missing else "found" if judged else ""
        drawn.append(_drawn(names[track.category_id], track.masks, number, indices, size, note=note, on=True))
    return {"title": "Truth", "note": _count(len(truth), "object"), "tracks": drawn}


def _drawn(
    name: str, masks: Sequence[Rle | None], number: int, indices: Sequence[int], size: tuple[int, int], **more: Any
) -> dict[str, Any]:
    """A track as the script draws it; ``masks`` may be shorter than the video."""
    here = [masks[index] if index < len(masks) else None for index in indices]
    tint = "#{:02x}{:02x}{:02x}".format(*colour(number))
    paths = ["" if mask is None else outline(mask, *size) for mask in here]
    return {"name": plain(name), "colour": tint, "paths": paths, **more}
