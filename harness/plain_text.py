"""Text from files and programs of others, made safe for a terminal, a log, or a cell of a spreadsheet."""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+\-]?(\d+\.?\d*|\.\d+)(e[+\-]?\d+)?", re.IGNORECASE)
_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


def escaped(text: str) -> str:
    """Return ``text`` with ``\\x1b`` and the like for every character that a terminal or a viewer would interpret.

    These are control characters, line breaks, marks that turn the direction of writing, and bytes that are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def plain(text: str) -> str:
    """Return ``text`` in one line, white space made single blanks, and `escaped`."""
    return escaped(" ".join(text.split()))


def one_line(text: str) -> str:
    """Return ``text`` with a blank for each line break with the white space around it, and `escaped`."""
    return text if text.isprintable() else escaped(_BREAKS.sub(" ", text.strip()))


def indented(text: str) -> str:
    """Return text of several lines, each `escaped`, and all but the first indented: none looks like a new record."""
    return text if text.isprintable() else "\n    ".join(map(escaped, text.replace("\t", "    ").splitlines()))


def utf8(text: str) -> bytes:
    """Return ``text`` in UTF-8; bytes of a file's name that are not UTF-8 become ``\\udcff`` and the like."""
    return text.encode(errors="backslashreplace")


def csv_text(text: str) -> str:
    """Return ``text`` for a cell of a CSV file: `escaped`, and with ``'`` before what a spreadsheet runs as a formula.

    Numbers stay unchanged. `without_guard` takes the ``'`` away.
    """
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    return escaped(text)


def without_guard(cell: str) -> str:
    """Return the text of a cell without the ``'`` of `csv_text`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
