"""The rules of the contract between a model and the harness. Each returns how it is broken, or an empty string."""

from __future__ import annotations

import gc
import math
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator

from harness.errors import UserError
from harness.masks import Rle
from harness.run_folder.store import as_integer, as_real, tabulate
from harness.testing.trials import Trial, TrialOutcome, attempt
from harness.types import Model, Track

REPEATS = 4
GROWTH = 0.25
"""Share of a video's decoded frames by which memory may grow with every video."""
GROWTH_BYTES = 32 << 10
"""Growth that is always allowed: log records and counters, also those of the test framework."""

OutcomeRule = Callable[[Iterable[TrialOutcome]], str]


def no_error(outcomes: Iterable[TrialOutcome]) -> str:
    """`predict` raises no exception, does not end the program, and returns `Track` objects."""
    return next((f"on {o.trial.name}: {o.error}" for o in outcomes if o.error), "")


def finds_something(outcomes: Iterable[TrialOutcome]) -> str:
    """The model finds at least one track: without tracks the other rules test nothing."""
    if any(o.tracks for o in outcomes):
        return ""
    return "no track was found on any video; give a dataset with objects in its first two videos, or lower thresholds"


def finds_nothing(outcomes: Iterable[TrialOutcome]) -> str:
    """With an empty vocabulary there are no tracks, or a `UserError` says that the vocabulary must not be empty."""
    outcomes = [o for o in outcomes if not o.refused]
    found = next((f"{len(o.tracks)} tracks on {o.trial.name}" for o in outcomes if o.tracks), "")
    return no_error(outcomes) or found


def ids_of_the_video(outcomes: Iterable[TrialOutcome]) -> str:
    """Every track has the id of the given video."""
    for where, outcome, track in _tracks(outcomes):
        if as_integer(track.video_id) != outcome.trial.video.id:
            return f"{where}: video_id is {track.video_id!r}, the video's id is {outcome.trial.video.id}"
    return ""


def frame_counts(outcomes: Iterable[TrialOutcome]) -> str:
    """Every track has one entry per frame."""
    for where, outcome, track in _tracks(outcomes):
        if len(track.masks) != len(outcome.trial.video.frames):
            frames = len(outcome.trial.video.frames)
            return f"{where}: {len(track.masks)} masks for {frames} frames; give None where the object is absent"
    return ""


def mask_sizes(outcomes: Iterable[TrialOutcome]) -> str:
    """Every mask is an `Rle` in the size of the video, (height, width)."""
    for where, outcome, track in _tracks(outcomes):
        shape = outcome.trial.video.height, outcome.trial.video.width
        for frame, mask in enumerate(track.masks):
            if mask is not None and not isinstance(mask, Rle):
                return f"{where}, frame {frame}: mask is a {type(mask).__name__}, not a harness.masks.Rle"
            if mask is not None and tuple(mask.size) != shape:
                hint = "; that is (width, height)" if tuple(mask.size) == shape[::-1] else ""
                return f"{where}, frame {frame}: mask size is {tuple(mask.size)}, the video's {shape}{hint}"
    return ""


def mask_encodings(outcomes: Iterable[TrialOutcome]) -> str:
    """Every mask is COCO's compressed run-length encoding, as bytes, and covers the frame exactly."""
    for where, outcome, track in _tracks(outcomes):
        video = outcome.trial.video
        masks = [m for m in track.masks if isinstance(m, Rle) and tuple(m.size) == (video.height, video.width)]
        text = next((m.counts for m in masks if not isinstance(m.counts, bytes)), None)
        if text is not None:
            return f"{where}: counts are a {type(text).__name__}, not bytes; pycocotools' encode gives bytes"
        for start in range(0, len(masks), len(video.frames)):
            part = masks[start : start + len(video.frames)]
            whole = (*part, *[None] * (len(video.frames) - len(part)))
            try:
                tabulate(video, [Track(video.id, 0, 0.5, whole)])
            except UserError as error:
                return f"{where}: {error.what}"
    return ""


def finite_scores(outcomes: Iterable[TrialOutcome]) -> str:
    """Every score is a finite real number in [0, 1]."""
    for where, _, track in _tracks(outcomes):
        score = as_real(track.score)
        if score is None:
            return f"{where}: score is a {type(track.score).__name__}, not a real number"
        if not math.isfinite(score) or not 0 <= score <= 1:
            return f"{where}: score is {track.score}, not in [0, 1]"
    return ""


def categories(outcomes: Iterable[TrialOutcome]) -> str:
    """Every category id is in the vocabulary; it is the id, not the position."""
    for where, outcome, track in _tracks(outcomes):
        allowed = [c.id for c in outcome.trial.vocabulary.categories]
        category_id = as_integer(track.category_id)
        if category_id is None:
            return f"{where}: category_id is {track.category_id!r}, a {type(track.category_id).__name__}, not an int"
        if category_id not in allowed:
            known = ", ".join(map(str, allowed[:5])) + (", ..." if len(allowed) > 5 else "")
            position = " (a position in the vocabulary?)" if 0 <= category_id <= len(allowed) else ""
            return f"{where}: category {category_id}{position} is not in the vocabulary, which has {known}"
    return ""


def _tracks(outcomes: Iterable[TrialOutcome]) -> Iterator[tuple[str, TrialOutcome, Track]]:
    for outcome in outcomes:
        for number, track in enumerate(outcome.tracks):
            yield f"on {outcome.trial.name}, track {number}", outcome, track


TRACK_RULES: dict[str, OutcomeRule] = {
    "video ids": ids_of_the_video,
    "frame counts": frame_counts,
    "mask sizes": mask_sizes,
    "mask encodings": mask_encodings,
    "scores": finite_scores,
    "categories": categories,
}
"""Rules for every track of every trial."""


def deterministic(model: Model, trial: Trial) -> str:
    """The same video gives the same tracks; random numbers of Python, numpy and torch are seeded before each trial."""
    attempt(model, trial)
    second, third = (attempt(model, trial) for _ in range(2))
    return _difference(second, third, f"{trial.name}, twice in a row with the same seed")


def independent(model: Model, before: TrialOutcome, other: Trial) -> str:
    """Tracks of a video do not depend on the videos before it; ``before`` is the outcome of a fresh model."""
    attempt(model, other)
    after = attempt(model, before.trial)
    return _difference(before, after, f"{before.trial.name}, by a fresh model and after {other.name}")


def _difference(one: TrialOutcome, two: TrialOutcome, what: str) -> str:
    if one.error or two.error:
        return f"{what}: {one.error or two.error}"
    if len(one.tracks) != len(two.tracks):
        return f"{what}: {len(one.tracks)} tracks and {len(two.tracks)} tracks"
    for number, (a, b) in enumerate(zip(one.tracks, two.tracks, strict=True)):
        if a.category_id != b.category_id:
            return f"{what}: category of track {number} differs ({a.category_id!r} and {b.category_id!r})"
        if a.score != b.score and a.score == a.score:  # another rule reports NaN
            return f"{what}: score of track {number} differs ({a.score!r} and {b.score!r})"
        if _encoded(a) != _encoded(b):
            return f"{what}: masks of track {number} differ"
    return ""


def _encoded(track: Track) -> list[Rle | None]:
    """The masks that can be compared; another rule reports the others."""
    return [mask if isinstance(mask, Rle) else None for mask in track.masks]


def memory(model: Model, trial: Trial) -> str:
    """Memory does not grow from video to video: of Python and numpy, and of torch tensors on any device."""
    frames = trial.video.frames
    decoded = sum(frames[i].nbytes for i in range(len(frames)))
    gc.collect()
    gc.freeze()  # existing objects are not searched again after every prediction
    tracemalloc.start()
    try:
        held = []
        for _ in range(REPEATS + 1):
            outcome = attempt(model, trial)
            if outcome.error:
                return f"on {trial.name}: {outcome.error}"
            del outcome
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0] + _tensor_bytes())
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    growth = (held[-1] - held[0]) / REPEATS
    if growth <= max(GROWTH * decoded, GROWTH_BYTES):
        return ""
    return f"{growth / 1024:.0f} KiB more are held after every video of {decoded / 1024:.0f} KiB of decoded frames"


def _tensor_bytes() -> int:
    """Bytes of the torch tensors that were created since `gc.freeze`; each storage counts once."""
    torch = sys.modules.get("torch")
    if torch is None:
        return 0
    storages = {}
    for thing in gc.get_objects():
        if type(thing) in (torch.Tensor, torch.nn.Parameter) and thing.layout == torch.strided:
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())
