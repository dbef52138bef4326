"""A trial on one video before a long run: whether the model loads, finds the words and returns valid tracks."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.engines.local import weights_of
from harness.engines.seeding import seed_everything
from harness.plugin_code import convert_plugin_errors
from harness.run_folder.results import refuse_unscorable
from harness.run_folder.store import tabulate, tracks_of
from harness.runner import Run
from harness.types import BatchModel, Model, Track, Video

_NAMES = 8
"""Largest number of categories that are listed."""


def try_video(run: Run) -> dict[str, Any]:
    """Run the first video of a run and return a summary as data; `lines` makes it text.

    Raises `UserError` for everything that would make the run fail: annotations that cannot be scored, a model that does
    not load or fails on the video, and invalid tracks.
    """
    aborts = refuse_unscorable(run.dataset, run.scored_by, run.videos if run.limit is not None else None)
    (video,), vocabulary = run.videos[:1], run.dataset.vocabulary
    began = time.perf_counter()
    model = run.spec.load()
    loaded = time.perf_counter()
    scratch = Path(tempfile.mkdtemp(prefix="harness-try-"))  # kept if the model fails, for inspection
    with convert_plugin_errors(run.name, "its predict fails"):
        if isinstance(model, BatchModel):
            model.prepare([video], scratch)
        seed_everything(run.seed, video.id)
        found = [track for words in run.dataset.vocabularies(video.id) for track in model.predict(video, words)]
        table = tabulate(video, found, vocabulary)
    shutil.rmtree(scratch, ignore_errors=True)
    seconds, frames = time.perf_counter() - loaded, sum(len(v.frames) for v in run.videos)
    tracks = list(tracks_of(table))
    return {
        "model": run.plugin.name,
        "dataset": run.dataset.name,
        "split": run.dataset.split,
        "video": {"id": video.id, "name": video.name, "frames": len(video.frames), "height": video.height,
                  "width": video.width},
        "words": sum(len(words.categories) for words in run.dataset.vocabularies(video.id)),
        "seconds": {"load": round(loaded - began, 3), "video": round(seconds, 3),
                    "run": round(seconds * frames / max(len(video.frames), 1))},
        "tracks": len(tracks),
        "scores": [min(t.score for t in tracks), max(t.score for t in tracks)] if tracks else None,
        "found": _counted(run, [track.category_id for track in tracks]),
        "annotated": _annotated(run, video),
        "visible": _visible(tracks),
        "facts": _facts(run, model),
        "warnings": [
            *(f"official numbers will be undefined: {line}" for line in aborts),
            *_warnings(tracks, vocabulary_size=len(vocabulary.categories)),
        ],
    }  # fmt: skip


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of text for the result of `try_video`."""
    video, seconds = found["video"], found["seconds"]
    yield f"{found['model']} on {found['dataset']} {found['split']}, video {video['id']} ({video['name']})"
    yield f"  frames      {video['frames']} of {video['width']}x{video['height']}; every mask has this size"
    yield f"  asked for   {found['words']} words"
    for name, text in found["facts"].items():
        yield f"  {name:<10}  {text}"
    scores = "" if found["scores"] is None else ", scores {:.3g} to {:.3g}".format(*found["scores"])
    yield f"  tracks      {found['tracks']}{scores}, masks in {100 * found['visible']:.0f} % of their frames"
    yield f"  found       {_named(found['found'])}"
    if found["annotated"] is not None:
        yield f"  annotated   {_named(found['annotated'])}"
    yield f"  time        {seconds['load']:.1f} s to load, {seconds['video']:.1f} s; all videos: {seconds['run']} s"
    for warning in found["warnings"]:
        yield f"  warning: {warning}"


def _facts(run: Run, model: Model) -> dict[str, str]:
    with convert_plugin_errors(run.name, "its facts fails"):
        facts_of = getattr(model, "facts", None)
        facts = {str(name): str(text) for name, text in facts_of().items()} if facts_of is not None else {}
    weights = str(weights_of(model) or "the model does not report how they were loaded")
    return {"weights": weights, "words": "the model does not report which it has seen", **facts}


def _annotated(run: Run, video: Video) -> dict[str, int] | None:
    truth = run.dataset.truth
    return None if truth is None else _counted(run, [track.category_id for track in truth.tracks_of(video.id)])


def _counted(run: Run, categories: Sequence[int]) -> dict[str, int]:
    """Tracks by the name of their category, the most frequent first."""
    names = {category.id: category.name for category in run.dataset.categories}
    return {names.get(number, str(number)): count for number, count in Counter(categories).most_common()}


def _visible(tracks: Sequence[Track]) -> float:
    """Share of the masks of all tracks that have a pixel."""
    from pycocotools import mask as coco

    masks = [mask for track in tracks for mask in track.masks]
    filled = [m for m in masks if m is not None and coco.area({"size": list(m.size), "counts": m.counts})]
    return len(filled) / max(len(masks), 1)


def _warnings(tracks: Sequence[Track], vocabulary_size: int) -> list[str]:
    if not tracks:
        return ["the model has found nothing in this video"]
    found = []
    if not _visible(tracks):
        found.append("every mask is empty: are logits thresholded, and at the right value?")
    if len({track.category_id for track in tracks}) == 1 and len(tracks) > 1 and vocabulary_size > 1:
        found.append("all tracks are of one category: has the model seen the words?")
    if len({track.score for track in tracks}) == 1 and len(tracks) > 1:
        found.append("all tracks have one score")
    return found


def _named(counts: Mapping[str, int]) -> str:
    shown = [name if count == 1 else f"{name} ({count})" for name, count in list(counts.items())[:_NAMES]]
    rest = len(counts) - len(shown)
    return (", ".join(shown) + (f" and {rest} other categories" if rest > 0 else "")) or "nothing"
