"""Lenient reading: values in another form than the specified one that can be read without loss.

Ids and sizes as text or as ``1.0``, ``false`` for 0, names that are numbers: official tools score them. They are read
when strict reading fails, and counted by kind; well-formed files pay nothing.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from harness import rle
from harness.errors import UserError, near
from harness.formats.scan import LARGEST

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.0{1,30})?")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?")
TEXT, DECIMAL, TRUTH_VALUE, BEYOND_64_BITS = "text", "a decimal number", "true or false", "beyond 64 bits"
"""Other ways to write a number."""

VIDEO_SIZE_LIMIT = 1 << 50
"""Heights, widths and lengths of videos are below it."""
NO_ID = -LARGEST - 1
"""No id of a video or a category."""
StatedId = int | str
"""An id as a file states it: a number, or text."""


@dataclass(frozen=True, slots=True)
class Note:
    """A kind of value that was read leniently: how often it occurs, and where first.

    ``field`` is the annotation field, if only some protocols read it; else empty.
    """

    kind: str
    count: int
    first: str
    field: str = ""


@dataclass
class Notes:
    """Notes by kind, counted."""

    found: dict[str, Note] = field(default_factory=dict)

    def add(self, kind: str, first: str, count: int = 1, field: str = "") -> None:
        """Count ``count`` more of a kind; ``first`` names the first one."""
        before = self.found.get(kind, Note(kind, 0, first, field))
        self.found[kind] = replace(before, count=before.count + count)

    def record(self) -> tuple[Note, ...]:
        """All notes, by first occurrence of their kinds."""
        return tuple(self.found.values())


def loads(text: bytes, name: str) -> Any:
    """Parse JSON with Python's ``NaN`` and ``Infinity``; raises `UserError` for text that is not JSON in UTF-8."""
    try:
        return json.loads(text.decode())
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text[error.pos :].lstrip()[:1] == b"{":
            what = "holds several JSON values, one after the other (JSON lines?)"
            raise UserError(name, what, "write it as one") from error
        raise UserError(name, f"malformed or truncated JSON ({error})", "write the file again") from error
    except (ValueError, RecursionError) as error:
        raise UserError(name, f"malformed or truncated JSON ({error})", "write the file again") from error


def whole(value: Any) -> tuple[int, str] | None:
    """A value as an integer, and how it is written (empty: as a plain integer); ``None`` if it is none."""
    if isinstance(value, bool):
        return int(value), TRUTH_VALUE
    if isinstance(value, int):
        return value, ""
    if isinstance(value, float) and value.is_integer():
        return int(value), DECIMAL
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value.partition(".")[0]), TEXT
    return None


def decimal_number(value: Any) -> tuple[float, str] | None:
    """A value as a number, and how it is written (empty: as a number); ``None`` if it is none."""
    if isinstance(value, str):
        return (float(value), TEXT) if _NUMBER.fullmatch(value) else None
    if isinstance(value, bool):
        return float(value), TRUTH_VALUE
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return math.inf, ""
    return (value, "") if isinstance(value, (int, float)) else None


def key_of(value: Any, where: str, what: str) -> tuple[StatedId, str]:
    """An id as a number or as text, and how it is written. Raises `UserError` for values of other kinds."""
    if isinstance(value, str):
        return _valid(value), TEXT
    found = whole(value)
    if found is None:
        shown = "null" if value is None else json.dumps(value)[:40]
        raise UserError(where, f"{what} is {shown}", "write an integer")
    key, form = found
    return key, form or (BEYOND_64_BITS if abs(key) > LARGEST else "")


@dataclass(frozen=True)
class Ids:
    """Ids of videos or of categories as a file states them, and the ascending integers used for them here.

    64-bit integers stay unchanged. If any id of the file is something else, all are numbered from 1 in ascending
    order, as the official tools order them: text by its characters.
    """

    by_key: Mapping[StatedId, int]
    by_id: Mapping[int, StatedId]

    @property
    def are_themselves(self) -> bool:
        """Whether every id is used as the file states it."""
        return all(key == number for key, number in self.by_key.items())

    def find(self, value: Any, where: str, what: str) -> tuple[int | None, str]:
        """The integer used for an id, ``None`` for an unknown one, and how the id is written.

        Text ``"7"`` is found as the number 7, and 7 as the text, where a file has only the one.
        """
        key, form = key_of(value, where, what)
        if key in self.by_key:
            return self.by_key[key], form
        if isinstance(key, int):
            return self.by_key.get(str(key)), form or TEXT
        as_number = whole(key)
        return (None if as_number is None else self.by_key.get(as_number[0])), form

    def near(self, value: Any) -> str:
        """The hint of an error: some of the known ids."""
        return f"some {near(str(value), map(str, list(self.by_key)[:20]))}"


def number_ids(keys: Iterable[StatedId], name: str, what: str) -> Ids:
    """The `Ids` of a file. Raises `UserError` where some are numbers and some are text."""
    distinct = set(keys)
    texts = {key for key in distinct if isinstance(key, str)}
    if texts and len(texts) < len(distinct):
        example = f'"{min(texts)}", {min(key for key in distinct if isinstance(key, int))}'
        raise UserError(name, f"some ids of {what} are text and some are numbers ({example})", "write all alike")
    ordered: list[Any] = sorted(distinct)
    if not texts and all(abs(key) <= LARGEST for key in ordered):
        by_key = {key: key for key in ordered}
    else:
        by_key = {key: position for position, key in enumerate(ordered, 1)}
    return Ids(by_key, {position: key for key, position in by_key.items()})


def coerce_video(video: dict[str, Any], where: str, notes: Notes) -> dict[str, Any]:
    """A video of an annotation file with sizes and length as integers and a name as text, where possible.

    A height or width that cannot be read is 0, and such a length is ``None``: the official tools read neither.
    """
    out = dict(video)
    for key in ("width", "height", "length"):
        found = whole(out.get(key))
        if found is not None and found[0] >= (key != "length") and found[0] < VIDEO_SIZE_LIMIT:
            out[key] = found[0]
            if found[1]:
                notes.add(f"size or length of a video is {found[1]}", where)
        elif key != "length":
            out[key] = 0
            notes.add("height or width of a video cannot be read, those of its masks are used", f"{where}.{key}")
        elif out.get(key) is not None:
            out[key] = None
            notes.add("length of a video cannot be read, the number of its file names is used", f"{where}.{key}")
    names = out.get("file_names")
    if not (isinstance(names, list) and all(isinstance(one, str) for one in names)):
        # only runs read frames; they report missing names
        out["file_names"] = None
        if out.get("length") is None and isinstance(names, list):
            out["length"] = len(names)
    out["name"] = _name(out.get("name") or out.get("video_name"), "name of a video", where, notes)
    out["video_name"] = None
    return out


def coerce_category(category: dict[str, Any], where: str, notes: Notes) -> dict[str, Any]:
    """A category with a name as text. Fields that define groups are dropped where they have another form; the
    protocols that need them report that."""
    out = dict(category)
    out["name"] = _name(out.get("name"), "name of a category", where, notes) or ""
    partition = out.get("partition")
    found = None if isinstance(partition, str) else whole(partition)
    out["partition"] = None if found is None else found[0]
    if found is not None and found[1]:
        notes.add(f"partition is {found[1]}", where, field="partition")
    for key in ("frequency", "split"):
        out[key] = _valid(out[key]) if isinstance(out.get(key), str) else None
    synonyms = out.get("synonyms")
    if isinstance(synonyms, str):
        synonyms = [synonyms]
    are_text = isinstance(synonyms, list) and all(isinstance(one, str) for one in synonyms)
    out["synonyms"] = [_valid(one) for one in synonyms or ()] if are_text else None
    return out


def coerce_annotation(record: dict[str, Any], videos: Ids, categories: Ids, where: str, notes: Notes) -> dict[str, Any]:
    """An annotation with ids as integers of ``videos`` and ``categories``, `NO_ID` for those they lack, and flags and
    areas as numbers, where possible; other forms stay unchanged, and the protocols that read them refuse them."""
    out = dict(record)
    own = record.get("id")
    found = whole(own)
    if found is None:
        raise UserError(where, f"id is {json.dumps(own)[:40]}", "write an integer")
    out["id"] = found[0]
    where = f"{where.rpartition(', ')[0]}, annotation {own}"
    if found[1]:
        notes.add(f"id is {found[1]}", where)
    for key, ids in (("video_id", videos), ("category_id", categories)):
        position, form = ids.find(record.get(key), where, key)
        out[key] = NO_ID if position is None else position
        if form and position is not None:
            notes.add(f"id is {form}", where)
    crowd = record.get("iscrowd")
    flag = None if isinstance(crowd, str) else whole(crowd)
    if flag is not None:
        out["iscrowd"] = flag[0]
        if flag[1]:
            notes.add(f"iscrowd is {flag[1]}", where, field="iscrowd")
    if isinstance(record.get("areas"), list):
        out["areas"] = _areas(record["areas"], where, notes)
    return out


def _areas(areas: list[Any], where: str, notes: Notes) -> list[Any]:
    found = [(entry, "") if entry is None else decimal_number(entry) or (entry, "") for entry in areas]
    for form in {form for _, form in found if form}:
        notes.add(f"areas hold {form}", where, sum(form == other for _, other in found), "areas")
    values = [value for value, _ in found]
    strange = [v for v in values if isinstance(v, float) and not math.isfinite(v)]
    if strange:
        notes.add("areas hold a value that is not finite", where, len(strange), "areas")
    return values


class SizedMask(NamedTuple):
    """A mask whose size is written as ``form`` says; ``kind`` is the kind of ``counts``, see `harness.rle`."""

    height: int
    width: int
    kind: int
    counts: bytes
    form: str


def mask_entry(value: Any) -> SizedMask | None:
    """The mask of an entry whose size is written in another way; else ``None``."""
    if not isinstance(value, dict) or not isinstance(value.get("size"), list) or len(value["size"]) != 2:
        return None
    sides = [side for side in map(whole, value["size"]) if side is not None and 0 <= side[0] < 1e9]
    form = next((form for _, form in sides if form), "")
    counts = value.get("counts")
    if len(sides) < 2 or not form:
        return None
    height, width = sides[0][0], sides[1][0]
    if isinstance(counts, str):
        return SizedMask(height, width, rle.COMPRESSED, counts.encode("utf-8", "replace"), form)
    if isinstance(counts, list) and all(type(count) is int for count in counts):
        return SizedMask(height, width, rle.LISTED, ",".join(map(str, counts)).encode(), form)
    return None


def _name(value: Any, what: str, where: str, notes: Notes) -> str | None:
    if isinstance(value, str):
        return _valid(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        notes.add(f"{what} is a number", where)
        return str(value)
    return None


def _valid(text: str) -> str:
    """Text that can be written in UTF-8: halves of surrogate pairs become question marks."""
    return text.encode("utf-8", "replace").decode()
