"""What average precision would be if each kind of error were repaired: TIDE (Bolya et al., ECCV 2020) for tracks.

Kinds, rules and repairs are defined in ``docs/error-analysis.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

CLASSIFICATION = "classification"
LOCALISATION = "localisation"
IDENTITY = "identity"
TEMPORAL = "temporal extent"
BOTH = "both"
DUPLICATE = "duplicate"
BACKGROUND = "background"
MISSED = "missed"
KINDS = (CLASSIFICATION, LOCALISATION, IDENTITY, TEMPORAL, BOTH, DUPLICATE, BACKGROUND, MISSED)
"""All kinds, in the order in which they are shown. `MISSED` is of truths, the others are of tracks."""
FALSE_POSITIVES = "false positives"
FALSE_NEGATIVES = "false negatives"
SUMMARIES = (FALSE_POSITIVES, FALSE_NEGATIVES)
"""TIDE's two repairs of everything."""


@dataclass(frozen=True)
class Example:
    """One error: ``track`` is its row in the shard of the video (``None`` for a missed truth), ``truth_id`` the
    annotation that it is about (``None`` for background); ``score`` is the track's."""

    video_id: int
    track: int | None
    truth_id: int | None
    score: float | None


@dataclass(frozen=True)
class ErrorKind:
    """One kind of error at IoU 0.5, and what repairing all errors of the kind is worth.

    ``dap50`` is AP50 after the repair minus AP50 before, ``dap`` the mean of such differences over the ten IoU
    thresholds, each with its own kinds; ``None`` where AP is undefined. ``count`` is how many there are at IoU 0.5,
    ``free`` how many of them cost nothing, being tracks of a category without truth. ``examples`` are some of them,
    the highest scores first; a missed truth has none, so the first in the file.
    """

    kind: str
    dap50: float | None
    dap: float | None
    count: int
    free: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Breakdown:
    """The errors of one run: ``ap50`` and ``ap`` before any repair are the protocol's own AP50 and AP.

    ``kinds`` has one entry for each of `KINDS`, ``summaries`` one for each of `SUMMARIES` (without examples).
    """

    ap50: float | None
    ap: float | None
    kinds: dict[str, ErrorKind]
    summaries: dict[str, ErrorKind]
