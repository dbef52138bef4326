"""The scoring protocols as data: the settings of LV-VIS, YouTube-VIS, OVIS and BURST (as AP).

All of them are declarations over one AP core. An official protocol reproduces the official tool with its quirks; its
corrected variant, named ``<name>-corrected``, has them off; ``<name>-fixed`` gives Fixed AP by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.errors import UserError, near
from harness.formats.youtube_vis import CategoryRecord
from harness.scoring import BURST_TASKS, EVERY, FIXED_AP, HOTA, TETA_TASKS, VEVAL
from harness.scoring.average_precision import Range
from harness.scoring.quirks import Quirks

AREAS = (
    Range("all", "area", 0, 1e10),
    Range("small", "area", 0, 128**2),
    Range("medium", "area", 128**2, 256**2),
    Range("large", "area", 256**2, 1e10),
)
"""Ranges of the average area in square pixels; not COCO's 32 and 96."""
OCCLUSIONS = (
    Range("light occlusion", "occlusion", 0, 0.25, bounds_tracks=False, within=AREAS[0]),
    Range("medium occlusion", "occlusion", 0.25, 0.5, bounds_tracks=False, within=AREAS[0]),
    Range("heavy occlusion", "occlusion", 0.5, 1, bounds_tracks=False, within=AREAS[0]),
)
"""The official tool computes its occlusion numbers with the area range "all", which ends at 1e10 square pixels."""
LENGTHS = (
    Range("short", "length", 0, 3),
    Range("medium length", "length", 3, 10),
    Range("long", "length", 10, 1e10),
)
"""Ranges of the number of frames in which an object is seen, as BURST's track mAP has them; a slice, not a metric."""

FIXED_AP_TRACKS = 10_000
"""The cut of Fixed AP (Dave et al. 2021; the LVIS challenge of 2021)."""
_FIXED, _CORRECTED = "-fixed", "-corrected"

Grouping = Callable[[tuple[CategoryRecord, ...]], dict[str, tuple[int, ...]]]
"""Category ids by the suffix of their group: b (base), n (novel), c (common), u (uncommon)."""


@dataclass(frozen=True)
class ApProtocol:
    """A way to turn tracks into numbers. ``needs`` are annotation fields without which the official tool aborts."""

    name: str
    version: str
    quirks: Quirks
    ranges: tuple[Range, ...] = AREAS
    needs: tuple[str, ...] = ("iscrowd", "areas")
    equal_lengths: bool = False
    """Whether a track whose number of frames differs from the truth's is refused."""
    reads_crowd: bool = True
    reads_partition: bool = False
    reads_split: bool = False
    groups: Grouping = field(default=lambda categories: {})
    novel_lists: bool = False
    """Whether base and novel come from YouTube-VIS's published id lists."""
    tracks_per_category: int | None = None
    """Fixed AP: this many tracks of a category count over all videos, without a limit per video."""

    def corrected(self) -> ApProtocol:
        """The variant with the quirks off; of such a variant, itself."""
        if self.name.endswith(_CORRECTED):
            return self
        return replace(
            self, name=f"{self.name}{_CORRECTED}", quirks=self.quirks.corrected(), needs=(), equal_lengths=False
        )

    def fixed(self, tracks_per_category: int = FIXED_AP_TRACKS) -> ApProtocol:
        """The variant that gives Fixed AP."""
        return replace(self, name=f"{self.name}{_FIXED}", tracks_per_category=tracks_per_category)

    @property
    def tool(self) -> str:
        """The name of the official protocol that this one is a variant of."""
        return self.name.removesuffix(_CORRECTED).removesuffix(_FIXED)

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON: name, version and the settings that change the numbers."""
        cut = {} if self.tracks_per_category is None else {"tracks_per_category": self.tracks_per_category}
        return {"name": self.name, "version": self.version, **cut}


def _lvvis_groups(categories: tuple[CategoryRecord, ...]) -> dict[str, tuple[int, ...]]:
    """Base: partitions 0 and 1 (COCO, frequent and common LVIS); novel: 2 and 3 (rare LVIS, new)."""
    return {
        "b": tuple(c.id for c in categories if c.partition in (0, 1)),
        "n": tuple(c.id for c in categories if c.partition in (2, 3)),
    }


def _burst_groups(categories: tuple[CategoryRecord, ...]) -> dict[str, tuple[int, ...]]:
    """Base: frequency c or f; novel: r; common and uncommon by the split of the challenge."""
    return {
        "b": tuple(c.id for c in categories if c.frequency in ("c", "f")),
        "n": tuple(c.id for c in categories if c.frequency == "r"),
        "c": tuple(c.id for c in categories if c.split == "common"),
        "u": tuple(c.id for c in categories if c.split == "uncommon"),
    }


NOVEL_BY_ID = {
    "2019": {6: "sedan", 7: "ape", 9: "snake", 11: "hand", 23: "leopard", 24: "fox", 39: "earless_seal"},
    "2021": {11: "earless_seal", 14: "flying_disc", 15: "fox", 20: "leopard", 30: "snake", 39: "whale"},
}
"""Novel categories of YouTube-VIS (OVFormer's ids)."""
NOVEL_WORDS = {
    "2019": {"sedan", "ape", "snake", "hand", "leopard", "fox", "earless", "seal"},
    "2021": {"earless", "seal", "flying", "disk", "fox", "leopard", "snake", "whale"},
}
"""CLIP-VIS's list, which splits compound names, so that they match no category."""


def ytvis_release(categories: tuple[CategoryRecord, ...]) -> str | None:
    """The YouTube-VIS release that a category list belongs to (by its novel categories), or ``None``."""
    names = {c.id: c.name.lower().replace(" ", "_") for c in categories}
    for release, novel in NOVEL_BY_ID.items():
        if all(names.get(i) == name for i, name in novel.items()):
            return release
    return None


def novel_lists(categories: tuple[CategoryRecord, ...]) -> dict[str, tuple[int, ...]]:
    """The two novel lists in use for YouTube-VIS: ``by_id`` and ``by_name``; empty for other category lists."""
    release = ytvis_release(categories)
    if release is None:
        return {}
    words = NOVEL_WORDS[release]
    return {
        "by_id": tuple(NOVEL_BY_ID[release]),
        "by_name": tuple(c.id for c in categories if c.name.lower() in words),
    }


def _ytvis_groups(categories: tuple[CategoryRecord, ...]) -> dict[str, tuple[int, ...]]:
    novel = novel_lists(categories).get("by_id")
    if novel is None:
        return {}
    return {"b": tuple(c.id for c in categories if c.id not in novel), "n": novel}


LVVIS = ApProtocol(
    "lvvis",
    "1",
    Quirks(areas_cut_to_int=True, crowd_counts=True, groups_by_position=True),
    reads_partition=True,
    groups=_lvvis_groups,
)
YTVIS = ApProtocol("ytvis", "1", Quirks(), groups=_ytvis_groups, novel_lists=True)
OVIS = ApProtocol(
    "ovis", "1", Quirks(), ranges=AREAS + OCCLUSIONS, needs=("iscrowd", "areas", "occlusion"), equal_lengths=True
)
BURST = ApProtocol(
    "burst",
    "1",
    Quirks(truth_reusable=True, areas_are_zero=True, groups_by_position=True),
    needs=(),
    reads_crowd=False,
    reads_split=True,
    groups=_burst_groups,
)

OFFICIAL = {p.name: p for p in (LVVIS, YTVIS, OVIS, BURST)}
FIXED = {p.name: p for p in (official.fixed() for official in OFFICIAL.values())}
PROTOCOLS = {p.name: p for one in (*OFFICIAL.values(), *FIXED.values()) for p in (one, one.corrected())}


@dataclass(frozen=True)
class HotaProtocol:
    """Mask HOTA as TrackEval's class YouTubeVIS gives it; a track counts from ``score_threshold`` on, or any does."""

    name: str = HOTA
    version: str = "1"
    score_threshold: float | None = None

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON: name, version and the settings that change the numbers."""
        return {"name": self.name, "version": self.version, "score_threshold": self.score_threshold}


AnyProtocol = ApProtocol | HotaProtocol


def groups_by_fields(categories: tuple[CategoryRecord, ...]) -> dict[str, tuple[int, ...]]:
    """The groups that the categories themselves state, in the form of any dataset; none where they state none."""
    if categories and all(c.partition is not None for c in categories):
        return _lvvis_groups(categories)
    if categories and all(c.frequency is not None and c.split is not None for c in categories):
        return _burst_groups(categories)
    return _ytvis_groups(categories)


def choose_protocol(
    name: str, score_threshold: float | None = None, tracks_per_category: int | None = None
) -> AnyProtocol:
    """The protocol of a name with the settings that it has. Raises `UserError` with near names."""
    if name == HOTA:
        return HotaProtocol(score_threshold=score_threshold)
    if name not in PROTOCOLS:
        raise UserError(f'protocol "{name}"', "is unknown", near(name, (*PROTOCOLS, HOTA)))
    chosen = PROTOCOLS[name]
    if chosen.tracks_per_category is None or tracks_per_category is None:
        return chosen
    return replace(chosen, tracks_per_category=tracks_per_category)


def expand_protocols(names: Sequence[str], own: str | None, further: Sequence[str] = ()) -> list[str]:
    """The protocols that ``names`` stand for, each once.

    ``own`` is the dataset's protocol, ``None`` where none is known: then `FIXED_AP` is that of the first protocol of
    average precision among the names. `EVERY` is the dataset's protocol, its Fixed AP, and the ``further`` ones. Raises
    `UserError` where a name has no protocol.
    """
    by_ap = [PROTOCOLS[name].tool for name in (own, *names) if name in PROTOCOLS]
    found: list[str] = []
    for name in names:
        if name == EVERY and own is None:
            raise UserError(f"protocol {EVERY}", "needs a dataset", "name a dataset, or the protocols")
        if name == FIXED_AP and not by_ap:
            hint = f"name a dataset, or a protocol such as {YTVIS.name}{_FIXED}"
            raise UserError(f"protocol {FIXED_AP}", "needs a dataset", hint)
        if name == EVERY:
            fixed = [f"{tool}{_FIXED}" for tool in by_ap[:1]]
            found += [*(p for p in (own,) if p is not None), *fixed, *further]
        else:
            found.append(f"{by_ap[0]}{_FIXED}" if name == FIXED_AP else name)
    return list(dict.fromkeys(found))


ADD_AP = "score the run by an AP protocol, too, named first, as in ytvis,{}"
"""The fix where a run was scored by another protocol alone."""


def get_protocol(name: str | ApProtocol) -> ApProtocol:
    """The protocol of a name (a protocol is given back); raises `UserError` with near names."""
    if isinstance(name, ApProtocol):
        return name
    if name in (HOTA, VEVAL, *TETA_TASKS, *BURST_TASKS):
        raise UserError(f'protocol "{name}"', "has no average precision of categories", ADD_AP.format(name))
    if name not in PROTOCOLS:
        raise UserError(f'protocol "{name}"', "is unknown", near(name, PROTOCOLS))
    return PROTOCOLS[name]
