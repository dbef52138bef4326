"""Which categories are known to be absent from which videos: what the data says, in each form.

An annotated category is there. One without annotation is known to be absent only where the data says so: all of them
(``exhaustive``), those that a video lists (``neg_category_ids``, as BURST, TAO and LVIS do), or those that are asked of
a video (SA-Co's ``video_np_pairs``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

VideoPhrases = frozenset[tuple[int, int]]
"""Ids of a video and of a category."""


@dataclass(frozen=True)
class Absence:
    """Where a category without annotation is absent: everywhere but in ``unknown`` pairs, if that is known of the data
    as a whole (``exhaustive``), else in the ``listed`` pairs alone."""

    exhaustive: bool
    listed: VideoPhrases = frozenset()
    unknown: VideoPhrases = frozenset()


def absence_of(
    exhaustive: Any,
    videos: Iterable[tuple[int, Any, Any]],
    pairs: Iterable[tuple[int, int]] | None,
    number: Callable[[Any], int | None],
) -> Absence | None:
    """What a file says; ``None`` where it says nothing.

    ``videos`` are their ids with ``neg_category_ids`` and ``not_exhaustive_category_ids``; ``number`` gives the id that
    stands for one in those lists, ``None`` for a category that the file does not have. Values of other forms say
    nothing.
    """
    listed, unknown = set(pairs or ()), set()
    for video, absent, partly in videos:
        listed |= {(video, one) for one in map(number, _ids(absent)) if one is not None}
        unknown |= {(video, one) for one in map(number, _ids(partly)) if one is not None}
    if exhaustive is not True and not listed:
        return None
    return Absence(exhaustive is True, frozenset(listed - unknown), frozenset(unknown))


def source_numbers(source_categories: Any) -> dict[Any, int] | None:
    """The ids of a converted file's categories by those of the file it was made from, which its lists have: the
    converter of BURST numbers categories by position and keeps the original ones in ``cate_ori``."""
    if not isinstance(source_categories, list):
        return None
    return {one["id"]: at for at, one in enumerate(source_categories, 1) if isinstance(one, dict) and "id" in one}


def _ids(value: Any) -> list[Any]:
    return [one for one in value if isinstance(one, (int, str))] if isinstance(value, list) else []
