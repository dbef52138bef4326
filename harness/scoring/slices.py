"""AP and recall over slices of the truth: what objects, videos and categories a model is good at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Slice:
    """One slice; ``ap`` and ``recall`` (AR100) are over IoU thresholds and fractions, ``None`` without truths."""

    name: str
    truths: int
    ap: float | None
    ap50: float | None
    recall: float | None


@dataclass(frozen=True)
class Slicing:
    """The truth cut along one quantity: ``about`` defines it in a sentence, ``outside`` counts the truths that have
    none of it (and are in no slice)."""

    name: str
    about: str
    slices: tuple[Slice, ...]
    outside: int
