"""Text and marks in each format of a table, escaped so that no name breaks out of its cell."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.plain_text import csv_text, plain

DAGGER, UNDEFINED = "†", "–"


class Style(NamedTuple):
    """One format: functions for plain text, marks of the best and the second, half an interval, and significance."""

    text: Callable[[str], str]
    best: str
    second: str
    half: str = " ± {}"
    significant: str = "*"


def dagger_notes(found: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """The footnotes for daggers: ``found`` has each name with its reasons, which are empty without a dagger.

    Names with the same reasons share a line.
    """
    names: dict[str, list[str]] = {}
    for name, reasons in found:
        if reasons:
            names.setdefault("; ".join(reasons), []).append(name.removesuffix(DAGGER))
    return [f"{DAGGER} {', '.join(dict.fromkeys(named))}: not comparable: {why}" for why, named in names.items()]


def _markdown(text: str) -> str:
    text = html.escape(plain(text), quote=False)
    return re.sub(r"([\\`*_{}\[\]|~$#])", r"\\\1", text)


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: "\\" + character for character in "&%$#_{}"}
# Braces keep "[" and "*" at the start of a row from being taken as arguments of the line break before it.
_LATEX |= {"[": "{[}", "]": "{]}", "*": "{*}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
_LATEX |= {UNDEFINED: "--", DAGGER: r"\textdagger{}", "±": r"$\pm$", "−": "$-$"}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in plain(text))


def _csv(text: str) -> str:
    return csv_text(plain(text))


def csv_line(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a CSV file; every text in it is on one line and cannot be a formula."""
    return {_csv(key): _csv(value) if isinstance(value, str) else value for key, value in line.items()}


def _html(text: str) -> str:
    return html.escape(plain(text))


STYLES = {
    "terminal": Style(plain, "{}", "{}"),
    "color": Style(plain, "\x1b[1m{}\x1b[0m", "\x1b[4m{}\x1b[0m"),
    "markdown": Style(_markdown, "**{}**", "<u>{}</u>", significant=r"\*"),
    "latex": Style(_latex, r"\textbf{{{}}}", r"\underline{{{}}}", r"$_{{\pm{}}}$", "$^{*}$"),
    "csv": Style(_csv, "{}", "{}"),
    "html": Style(_html, "<strong>{}</strong>", "<u>{}</u>", significant="<sup>*</sup>"),
}
