"""Fits tables and notes into the width of a terminal."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence

_GAPS = ("  ", " ")
"""Blanks between columns; fewer where all columns fit into the width only so."""
_PADDING = 2
"""Blanks next to a header, where there is room."""
_NARROWEST = 10
"""Characters that a column of texts keeps where it is wrapped."""
_MARKS = re.compile(r"\x1b\[\d*m")


def terminal_width() -> int:
    """Characters in a line: ``COLUMNS``, else what the terminal says, else 80."""
    return shutil.get_terminal_size((80, 24)).columns


def fitted(
    headers: Sequence[str],
    lines: Sequence[Sequence[str]],
    numbers: Sequence[bool],
    width: int,
    blocks: Mapping[int, str] | None = None,
) -> str:
    """Return a table in lines of at most ``width``: headers and texts are wrapped, then columns go below each other.

    ``numbers`` says of each column whether it goes to the right. Every part begins with the same texts. ``blocks``
    are headings above the line of that number. No word is cut, so that a part with long ones may still be wider.
    """
    columns = [[line[place] for line in lines] for place in range(len(headers))]
    inner = [max(map(_width, column), default=0) for column in columns]
    wide = [max(own, _width(header) + _PADDING) for own, header in zip(inner, headers, strict=True)]
    least = [
        max(own if is_number else min(own, max(_NARROWEST, _longest_word(column))), _longest_word([header]))
        for own, column, header, is_number in zip(inner, columns, headers, numbers, strict=True)
    ]
    gap = next((gap for gap in _GAPS if sum(least) + len(gap) * (len(least) - 1) <= width), _GAPS[0])
    wide = _narrowed(wide, least, width, len(gap))
    chosen = _parts(wide, numbers, width, len(gap))
    parts = [_part(headers, lines, numbers, wide, places, gap, blocks or {}) for places in chosen]
    return "\n\n".join(parts)


def folded(text: str, width: int) -> str:
    """Return a note in lines of at most ``width``, all but the first indented."""
    return "\n".join(_wrapped(text, width, "    "))


def _narrowed(wide: Sequence[int], least: Sequence[int], width: int, gap: int) -> list[int]:
    """The widths of columns, the widest made narrower one by one until they fit, none below its least."""
    made = list(wide)
    while sum(made) + gap * (len(made) - 1) > width:
        places = [place for place in range(len(made)) if made[place] > least[place]]
        if not places:
            break
        made[max(places, key=lambda place: made[place])] -= 1
    return made


def _parts(wide: Sequence[int], numbers: Sequence[bool], width: int, gap: int) -> list[list[int]]:
    """The columns of each table, none wider than ``width`` where that can be.

    All begin with the texts before the first number, or with the first column where these take more than half of it.
    """
    head = list(range([*numbers, True].index(True))) or [0]
    if sum(wide[place] + gap for place in head) > width / 2:
        head = [0]
    parts = [head[:]]
    for place in range(len(head), len(wide)):
        used = sum(wide[one] + gap for one in parts[-1])
        if used + wide[place] > width and len(parts[-1]) > len(head):
            parts.append(head[:])
        parts[-1].append(place)
    return parts


def _part(
    headers: Sequence[str],
    lines: Sequence[Sequence[str]],
    numbers: Sequence[bool],
    wide: Sequence[int],
    chosen: Sequence[int],
    gap: str,
    blocks: Mapping[int, str],
) -> str:
    """A table of the chosen columns, with a rule below the headers."""

    def rows(line: Sequence[str], from_below: bool) -> list[str]:
        cells = [_wrapped(line[place], wide[place]) for place in chosen]
        height = max(map(len, cells))
        filled = [[""] * (height - len(c)) + c if from_below else c + [""] * (height - len(c)) for c in cells]
        return [
            gap.join(
                _placed(cell, wide[place], numbers[place]) for cell, place in zip(row, chosen, strict=True)
            ).rstrip()
            for row in zip(*filled, strict=True)
        ]

    made = [*rows(headers, True), gap.join("-" * wide[place] for place in chosen)]
    for number, line in enumerate(lines):
        made += [*([blocks[number]] if number in blocks else []), *rows(line, False)]
    return "\n".join(made)


def _placed(cell: str, width: int, is_number: bool) -> str:
    blanks = " " * (width - _width(cell))
    return blanks + cell if is_number else cell + blanks


def _width(cell: str) -> int:
    from rich.cells import cell_len

    return cell_len(_MARKS.sub("", cell))


def _longest_word(cells: Sequence[str]) -> int:
    return max((_width(word) for cell in cells for word in cell.split()), default=0)


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    if _width(text) <= width:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
