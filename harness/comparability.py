"""Whether a result can be compared with published numbers: true, false with the reasons, or unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Comparability(NamedTuple):
    """``comparable`` is ``None`` if the size of the published data is unknown; ``reasons`` say why it is false."""

    comparable: bool | None
    reasons: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """As the keys ``comparable`` and ``not_comparable`` of a record."""
        return {"comparable": self.comparable, "not_comparable": list(self.reasons)}


def comparability(differences: Iterable[str] | None, reasons: Iterable[str] = ()) -> Comparability:
    """Return the comparability of a result from ``differences`` of its data (`harness.types.Dataset`) and ``reasons``.

    Any of them makes it false. ``differences`` is ``None`` if the size of the published data is unknown.
    """
    found = (*(differences or ()), *reasons)
    return Comparability(False if found else None if differences is None else True, found)


def comparability_of(record: Mapping[str, Any]) -> Comparability:
    """The comparability in a run's ``metrics.json``; records of earlier versions only show missing videos."""
    if record.get("comparable") is False:
        return Comparability(False, tuple(record.get("not_comparable") or ["its record gives no reason"]))
    if "comparable" in record:
        return Comparability(record["comparable"], ())
    return comparability(None, parts_missing(record["videos"]["done"], record["videos"]["total"], record.get("limit")))


def parts_missing(done: int, total: int, limit: int | None) -> list[str]:
    """Sentences on the videos of a split without predictions."""
    first = "first video" if limit == 1 else f"first {limit} videos"
    sentences = [] if limit is None else [f"{first} only (--limit {limit})"]
    return sentences + ([f"{total - done} of {total} videos failed"] if done < total else [])
