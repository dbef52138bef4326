"""Whether a result may stand beside published numbers: true, false with the reasons, or unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Comparability(NamedTuple):
    """``comparable`` is ``None`` where no published size of the data is known; ``reasons`` say why it is false."""

    comparable: bool | None
    reasons: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """As the keys ``comparable`` and ``not_comparable`` of a record."""
        return {"comparable": self.comparable, "not_comparable": list(self.reasons)}


def comparability(differences: Iterable[str] | None, reasons: Iterable[str] = ()) -> Comparability:
    """Judge a result: by the ``differences`` of its data (see `harness.types.Dataset`), and by ``reasons`` of its own.

    Any of them makes it false: what covers only a part is comparable with nothing, whatever is known of the data.
    """
    found = (*(differences or ()), *reasons)
    return Comparability(False if found else None if differences is None else True, found)


def comparability_of(record: Mapping[str, Any]) -> Comparability:
    """What a run's ``metrics.json`` says of it; of a record of an earlier version only what cannot be compared is
    known."""
    if record.get("comparable") is False:
        return Comparability(False, tuple(record.get("not_comparable") or ["its record gives no reason"]))
    if "comparable" in record:
        return Comparability(record["comparable"], ())
    return comparability(None, parts_missing(record["videos"]["done"], record["videos"]["total"], record.get("limit")))


def parts_missing(done: int, total: int, limit: int | None) -> list[str]:
    """Sentences on the videos of a split that a run has no predictions for."""
    first = "first video" if limit == 1 else f"first {limit} videos"
    sentences = [] if limit is None else [f"{first} only (--limit {limit})"]
    return sentences + ([f"{total - done} of {total} videos failed"] if done < total else [])
