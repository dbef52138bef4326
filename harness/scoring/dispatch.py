"""Scoring by name: any protocols over one set of predictions, each independent of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import UnreadableFileError, UserError, near
from harness.scoring import BURST_TASKS, EVERY, FIXED_AP, HOTA, TETA_TASKS, VEVAL
from harness.scoring.metrics import undefined_note
from harness.scoring.protocols import PROTOCOLS, choose_protocol, expand_protocols
from harness.scoring.score import Score, check_truth, score_by_protocols

if TYPE_CHECKING:
    from harness.formats.coco_video import CocoVideo
    from harness.formats.youtube_vis import Annotations
    from harness.scoring.burst_tasks import BurstScore
    from harness.scoring.shard_reader import ShardReader
    from harness.scoring.teta_score import TetaScore
    from harness.scoring.veval import VevalScore

    Result = Score | TetaScore | VevalScore | BurstScore
    Source = Callable[[], ShardReader | Path]

PROTOCOL_NAMES = (*PROTOCOLS, HOTA, *TETA_TASKS, VEVAL)
"""Every protocol that can be a dataset's own; BURST's tasks score tracks on BURST's own files only."""
_ALL_CLASSES = "all_classes.json"
_GUIDED, _EXEMPLAR, _OPEN_WORLD = BURST_TASKS
_AP_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_FIXED_METRICS = ("AP", "AP50", "AP75", "AR")


class Settings(NamedTuple):
    """Settings of protocols: the least score that counts for ``hota``, and the cut of Fixed AP (``None``: 10,000)."""

    score_threshold: float | None = None
    tracks_per_category: int | None = None


DEFAULTS = Settings()
"""The defaults of every protocol."""


def protocol_name(name: str, own: str | None = None) -> str:
    """Return the name of the one protocol that ``name`` is; raises `UserError` with near names.

    ``own`` is the dataset's protocol, if it is known: ``fixed-ap`` is then its Fixed AP.
    """
    if name == FIXED_AP or (name == EVERY and own is None):
        return expand_protocols([name], own)[0]
    if name == EVERY or (isinstance(name, str) and "," in name):
        raise UserError(f'protocol "{name}"', "is more than one", "name one protocol")
    if name not in PROTOCOL_NAMES:
        raise UserError(f'protocol "{name}"', "is unknown", near(name, PROTOCOL_NAMES))
    return name


def listed_names(given: str | Iterable[str]) -> list[str]:
    """The names of protocols in a list or in a text with commas, each once; raises `UserError` if there is none."""
    parts: Any = given.split(",") if isinstance(given, str) else given
    parts = list(parts) if isinstance(parts, Iterable) else [parts]
    if not all(isinstance(one, str) for one in parts):
        raise UserError("protocol", f"is of type {type(given).__name__}", "give a name, or a list of names")
    names = list(dict.fromkeys(name.strip() for name in parts if name.strip()))
    if not names:
        raise UserError("protocol", "names nothing", "name one: lvvis, ytvis, ovis, burst, hota")
    return names


def track_protocols(given: str | Iterable[str], own: str | None, further: Sequence[str] = ()) -> tuple[str, ...]:
    """The protocols that ``given`` names, ``own`` first if it is one of them; arguments as of `expand_names`.

    ``given`` is a list of names, or a text with commas.
    """
    found = expand_names(listed_names(given), own, further)
    return tuple(dict.fromkeys([*(one for one in (own,) if one in found and one is not None), *found]))


def protocols_for(given: str | Iterable[str], own: str | None, annotations: Annotations) -> tuple[str, ...]:
    """The protocols that ``given`` names, see `track_protocols`; raises `UserError` where one cannot score this truth.

    That is so for BURST's tasks on other files than BURST's own.
    """
    found = track_protocols(given, own, further_protocols(annotations))
    refuse_tasks(found, annotations)
    return found


def further_protocols(annotations: Annotations) -> tuple[str, ...]:
    """The protocols that these annotations allow and others do not: of phrases, and BURST's tasks on its own files.

    Tracks are no exemplars, and the open world needs the files of common and of uncommon classes.
    """
    found = [VEVAL] if annotations.pairs is not None else []
    found += [name for name in (_GUIDED, _OPEN_WORLD) if not _task_refusal(name, annotations)]
    return tuple(found)


def refuse_tasks(names: Iterable[str], annotations: Annotations) -> None:
    """Raise `UserError` for the first of BURST's tasks among ``names`` by which these annotations cannot be scored."""
    for name in names:
        if name in BURST_TASKS and (refusal := _task_refusal(name, annotations)):
            raise refusal


def _task_refusal(task: str, annotations: Annotations) -> UserError | None:
    """Why tracks cannot be scored by one of BURST's tasks on these annotations; ``None`` where they can."""
    path = Path(annotations.path)
    if task == _EXEMPLAR:
        hint = "write predictions in BURST's own form, with the exemplars' numbers, and score them with `harness eval`"
        return UserError(f"protocol {task}", "needs tracks that are named by exemplars", hint)
    if not (annotations.in_burst_form and path.name == _ALL_CLASSES):
        hint = f"name the {_ALL_CLASSES} of BURST as the annotations"
        return UserError(annotations.path, f"is not the file of BURST that {task} reads", hint)
    missing = [name for name in ("common", "uncommon") if not (path.parent / f"{name}_classes.json").is_file()]
    if task == _OPEN_WORLD and missing:
        file = path.parent / f"{missing[0]}_classes.json"
        return UserError(str(file), f"does not exist; {task} reads it", "copy it from BURST's annotations")
    return None


def expand_names(names: Sequence[str], own: str | None, further: Sequence[str] = ()) -> list[str]:
    """The protocols that ``names`` are, each once; ``fixed-ap`` and ``all`` are those of a dataset whose own is given.

    ``further`` are the `further_protocols` of its annotations. Raises `UserError` for unknown names and where the
    dataset lacks a protocol.
    """
    known = (*PROTOCOL_NAMES, *BURST_TASKS, FIXED_AP, EVERY)
    for name in names:
        if name not in known:
            raise UserError(f'protocol "{name}"', "is unknown", near(name, known))
    return expand_protocols(names, own, (HOTA, TETA_TASKS[0], *further))


def check_settings(names: Sequence[str], settings: Settings) -> None:
    """Raise `UserError` for settings that none of the protocols uses."""
    if settings.score_threshold is not None:
        if HOTA not in names:
            raise UserError("score_threshold", f"is a setting of {HOTA}", f"add {HOTA} to the protocols")
        if not math.isfinite(settings.score_threshold):
            raise UserError("score_threshold", f"is {settings.score_threshold}", "write a finite number")
    if settings.tracks_per_category is not None and not any("-fixed" in name for name in names):
        hint = f"add {FIXED_AP} or a protocol such as lvvis-fixed to the protocols"
        raise UserError("tracks_per_category", "is a setting of Fixed AP", hint)


def check_truth_for(
    names: Iterable[str], annotations: Annotations, videos: Sequence[int] | None = None, strict: bool = False
) -> list[str]:
    """Return why official tools abort on ``videos`` (all if that is ``None``), one line for each that does.

    Raises `UserError` where the truth alone keeps them from being scored; with ``strict`` also for such an abort.
    """
    restricted, aborts = annotations if videos is None else annotations.restrict(videos), []
    for name in names:
        if name in TETA_TASKS:
            from harness.scoring.teta_score import check_frames_of

            check_frames_of(restricted)
        elif name == VEVAL:
            from harness.scoring.phrase_units import read_phrase_truth

            read_phrase_truth(restricted)
        elif name in BURST_TASKS:
            refuse_tasks([name], annotations)
        else:
            aborts.append(check_truth(choose_protocol(name), annotations, videos, strict))
    return [line for line in aborts if line]


def score_all(
    names: Sequence[str],
    truth: Annotations | CocoVideo,
    source: Source,
    strict: bool = False,
    videos: Iterable[int] | None = None,
    settings: Settings = DEFAULTS,
) -> dict[str, Result | UserError]:
    """Score predictions by several protocols: by name its result, or the `UserError` with which it refuses.

    ``source`` gives the results file or a new reader of a prediction store. Protocols of tracks share one pass over the
    masks; TETA and VEval need a pass each, BURST's tasks one together. Raises `UnreadableFileError` where predictions
    cannot be read.
    """
    from harness.formats.coco_video import CocoVideo

    of_tracks = [
        choose_protocol(name, settings.score_threshold, settings.tracks_per_category)
        for name in names
        if name not in (*TETA_TASKS, VEVAL, *BURST_TASKS)
    ]
    outcomes: dict[str, Result | UserError] = {}
    if isinstance(truth, CocoVideo):
        hint = f"score it with protocol {' or '.join(TETA_TASKS)}"
        for name in names:
            if name not in TETA_TASKS:
                outcomes[name] = UserError(truth.path, f"is in COCO-video form, which {name} does not read", hint)
    elif of_tracks:
        found = score_by_protocols(of_tracks, truth, source(), strict, videos)
        outcomes |= {one.name: outcome for one, outcome in zip(of_tracks, found, strict=True)}
    if not isinstance(truth, CocoVideo):
        outcomes |= _by_tasks([name for name in names if name in BURST_TASKS], truth, source, strict, videos)
    for name in names:
        if name not in outcomes:
            try:
                outcomes[name] = _alone(name, truth, source, strict, videos)
            except UnreadableFileError:
                raise
            except UserError as error:
                outcomes[name] = error
    return {name: outcomes[name] for name in names}


def _by_tasks(
    tasks: Sequence[str], truth: Annotations, source: Source, strict: bool, videos: Iterable[int] | None
) -> dict[str, Result | UserError]:
    """The results of BURST's tasks on its own files, or why they refuse."""
    refused = {name: _task_refusal(name, truth) for name in tasks}
    scored = [name for name, refusal in refused.items() if refusal is None]
    outcomes: dict[str, Result | UserError] = {name: refusal for name, refusal in refused.items() if refusal}
    if scored:
        from harness.scoring.burst_from_tracks import score_tracks_by_tasks

        outcomes |= score_tracks_by_tasks(scored, truth, source, strict, videos)
    return outcomes


def _alone(name: str, truth: Any, source: Source, strict: bool, videos: Iterable[int] | None) -> Result:
    if name == VEVAL:
        from harness.scoring.veval import score_veval

        return score_veval(truth, source(), strict, videos)
    from harness.scoring.teta_score import score_teta

    return score_teta(name, truth, source(), strict, videos)


def note_of(result: Result) -> str:
    """Why the first metric is undefined although nothing is wrong; empty where it is defined."""
    if isinstance(result, Score):
        if "AP" in result.metrics.values:
            return undefined_note(result.metrics.values, result.metrics.undefined)
        reasons = result.metrics.undefined
        return f"HOTA is undefined: {reasons['HOTA']}" if "HOTA" in reasons else ""
    name = next(iter(result.metrics))
    reason = result.undefined["metrics"].get(name, "")
    return f"{name} is undefined: {reason}" if reason and not any(result.metrics.values()) else ""


def undefined_record(name: str, reason: str, settings: Settings = DEFAULTS) -> dict[str, Any]:
    """The record of a protocol without numbers, and the reason."""
    protocol, metrics = _described(name, settings)
    nothing: dict[str, None] = dict.fromkeys(metrics)
    reasons = dict.fromkeys(nothing, reason)
    return {
        "protocol": protocol,
        "metrics": nothing,
        "corrected": dict(nothing),
        "undefined": {"metrics": reasons, "corrected": dict(reasons)},
        "warnings": [],
        "counts": {},
        "slices": {},
    }


def _described(name: str, settings: Settings) -> tuple[dict[str, Any], Sequence[str]]:
    if name == VEVAL:
        from harness.scoring import veval

        return {"name": name, "version": veval.VEVAL_VERSION}, veval.VEVAL_METRICS
    if name in TETA_TASKS:
        from harness.scoring import teta_score

        return {"name": name, "version": teta_score.TETA_VERSION}, teta_score.ALL_METRICS
    if name in BURST_TASKS:
        from harness.scoring import burst_tasks

        return {"name": name, "version": burst_tasks.BURST_VERSION}, burst_tasks.metric_names(name)
    chosen = choose_protocol(name, settings.score_threshold, settings.tracks_per_category)
    if name == HOTA:
        from harness.scoring.mask_hota import MASK_HOTA_METRICS

        return chosen.record(), MASK_HOTA_METRICS
    return chosen.record(), _FIXED_METRICS if "-fixed" in name else _AP_METRICS
