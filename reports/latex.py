"""Writes a table in LaTeX: numbers aligned at their decimal points, an environment that fits one or two columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from harness.plain_text import plain
from harness.reports.styles import STYLES, UNDEFINED

ONE_COLUMN, TWO_COLUMNS = 234.0, 492.0
"""Widths in points of a column and of a page of the usual conference styles: 3.25 and 6.83 inches."""
_SIZES = (("small", 9.0), ("footnotesize", 8.0), ("scriptsize", 7.0))
_GAP = 3.0
"""Points on either side of a column."""
_NARROWEST = 9
"""Characters that a column of texts keeps where it is wrapped."""

_LATIN, _PUNCTUATION, _MAPPED = 0x17F, "–—‘’“”„…•", "–†±−"
"""The last letter that pdfLaTeX's T1 fonts have, other characters that they have, and those that become commands."""
_NAMED = 20
"""Characters that a comment names."""
_NUMBER = re.compile(r"(?:\\(textbf|underline)\{)?([+-]?)(\d+)(\.\d+)?(\})?((?:\$.*\$)*)")
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table: headers and groups as plain text, and which ones hold numbers."""

    names: Sequence[str]
    groups: Sequence[str]
    numbers: Sequence[bool]


@dataclass(frozen=True)
class TableBody:
    """The lines of a table, cells in LaTeX; ``blocks`` are headings, plain text, each above the line of that number."""

    lines: Sequence[Sequence[str]]
    blocks: Mapping[int, str] = field(default_factory=dict)


class Title(NamedTuple):
    """The caption, plain text, and the label of a table; an empty one is left out."""

    caption: str = ""
    label: str = ""


class _Number(NamedTuple):
    """A cell with a number: its mark, its parts, and what stands behind it."""

    mark: str
    sign: str
    whole: str
    fraction: str
    behind: str


def table_environment(
    columns: TableColumns, body: TableBody, notes: Sequence[str], provenance: Sequence[str], title: Title | None = None
) -> str:
    """Return a table in a separate environment, ending in a newline; comments say what it needs to compile.

    It is ``table``, or ``table*`` where one column is too narrow; the letters become smaller, then texts are wrapped,
    until it fits. What no size makes fit is scaled. ``notes`` are plain text and stand below.
    """
    text = STYLES["latex"].text
    fitted = _fitted(columns, body)
    forms, cells = _formed(columns, body, fitted.wrapped)
    packages = "booktabs, siunitx" + (", array" if fitted.wrapped else "") + (", graphicx" if fitted.scaled else "")
    title = title or Title()
    written = "".join([*columns.names, *columns.groups, *(c for line in body.lines for c in line), title.caption,
                       *body.blocks.values(), *notes])  # fmt: skip
    top = [*(f"% {plain(line)}" for line in provenance), f"% needs \\usepackage{{{packages}}}", *_letters(written)]
    top += [f"\\begin{{{fitted.name}}}"]
    top += [f"\\caption{{{text(title.caption)}}}"] if title.caption else []
    top += [f"\\label{{tab:{_slug(title.label)}}}"] if title.caption and title.label else []
    top += ["\\centering", f"\\{fitted.size}", f"\\setlength{{\\tabcolsep}}{{{_GAP:g}pt}}"]
    inner = [f"\\begin{{tabular}}{{@{{}}{''.join(forms)}@{{}}}}", "\\toprule", *_group_lines(columns)]
    inner += [_line([_header(text(name), is_s) for name, is_s in zip(columns.names, _are_aligned(forms), strict=True)])]
    inner.append("\\midrule")
    for number, line in enumerate(cells):
        if number in body.blocks:
            heading = rf"\multicolumn{{{len(forms)}}}{{@{{}}l}}{{{text(body.blocks[number])}}} \\"
            inner += [*(["\\midrule"] if number else []), heading]
        inner.append(_line(line))
    inner += ["\\bottomrule", "\\end{tabular}"]
    if fitted.scaled:
        inner = ["\\resizebox{\\textwidth}{!}{%", *inner[:-1], inner[-1] + "}"]
    below = [r"\par\smallskip", r"\begin{minipage}{\linewidth}", r"\footnotesize\raggedright"] if notes else []
    below += [rf"{text(note)}\par" for note in notes]
    below += [r"\end{minipage}"] if notes else []
    return "\n".join([*top, *inner, *below, f"\\end{{{fitted.name}}}"]) + "\n"


def figure(file: str, wide: bool, title: Title) -> str:
    """Return an environment that shows a file of a figure, over one column or ``wide``, with caption and label."""
    name, width = ("figure*", "\\textwidth") if wide else ("figure", "\\columnwidth")
    return "\n".join([
        *_letters(title.caption),
        f"\\begin{{{name}}}",
        "\\centering",
        f"\\includegraphics[width={width}]{{{file}}}",
        f"\\caption{{{STYLES['latex'].text(title.caption)}}}",
        f"\\label{{fig:{_slug(title.label)}}}",
        f"\\end{{{name}}}",
    ]) + "\n"  # fmt: skip


def _letters(written: str) -> list[str]:
    """Comments on what the letters need that are in no standard font of pdfLaTeX."""
    found = dict.fromkeys(c for c in written if ord(c) > 0x7F and c not in _MAPPED)
    lines = []
    if any(ord(c) <= _LATIN or c in _PUNCTUATION for c in found):
        lines.append("% needs \\usepackage[T1]{fontenc}")
    other = [c for c in found if ord(c) > _LATIN and c not in _PUNCTUATION]
    if other:
        shown = "".join(other[:_NAMED]) + (f" and {len(other) - _NAMED} more" if len(other) > _NAMED else "")
        lines.append(f"% needs LuaLaTeX or XeLaTeX, not pdfLaTeX, with a font (fontspec) that has {shown}")
    return lines


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _header(name: str, is_aligned: bool) -> str:
    return f"{{{name}}}" if is_aligned else name


def _are_aligned(forms: Sequence[str]) -> list[bool]:
    return [form.startswith("S") for form in forms]


def _group_lines(columns: TableColumns) -> list[str]:
    """The line of group names and the rules under them; nothing where there are no groups."""
    groups = [(name, len(list(found))) for name, found in groupby(columns.groups)]
    if not any(name for name, _ in groups):
        return []
    cells, rules, first = [], [], 1
    for name, width in groups:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{STYLES['latex'].text(name)}}}")
        if name:
            rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    return [_line(cells), " ".join(rules)]


def _formed(columns: TableColumns, body: TableBody, wrapped: Mapping[int, int]) -> tuple[list[str], list[list[str]]]:
    """The column specification of each column, and the cells in its form."""
    forms: list[str] = []
    cells: list[list[str]] = [[] for _ in body.lines]
    for place, is_number in enumerate(columns.numbers):
        column = [line[place] for line in body.lines]
        numbers = [_number(cell) for cell in column]
        undefined = STYLES["latex"].text(UNDEFINED)
        others = [cell for number, cell in zip(numbers, column, strict=True) if number is None]
        if is_number and any(numbers) and all(cell in ("", undefined) for cell in others):
            form, made = _aligned([n for n in numbers if n], numbers, column)
        elif is_number:
            form, made = "r", [_MINUS.sub("$-$", cell) for cell in column]
        else:
            form = "l" if place not in wrapped else rf">{{\raggedright\arraybackslash}}p{{{wrapped[place] / 2:g}em}}"
            made = column
        forms.append(form)
        for line, cell in zip(cells, made, strict=True):
            line.append(cell)
    return forms, cells


def _number(cell: str) -> _Number | None:
    found = _NUMBER.fullmatch(cell)
    if found is None or bool(found[1]) != bool(found[5]):
        return None
    return _Number(found[1] or "", found[2], found[3], found[4] or "", found[6])


def _aligned(
    known: Sequence[_Number], numbers: Sequence[_Number | None], column: Sequence[str]
) -> tuple[str, list[str]]:
    """A column of numbers for siunitx; marked numbers are set by hand in a box as wide as the others."""
    whole = max(len(one.whole) for one in known)
    fraction = max(len(one.fraction) for one in known)
    sign = "-" if any(one.sign for one in known) else ""
    behind = max((one.behind for one in known), key=len)
    form = f"{sign}{whole}" + (f".{fraction - 1}" if fraction else "")
    options = [f"table-format={form}", *([f"table-space-text-post={{{behind}}}"] if behind else [])]
    made = []
    for number, cell in zip(numbers, column, strict=True):
        if number is None:
            made.append(f"{{{cell}}}")
        elif not number.mark:
            made.append(
                f"{number.sign}{number.whole}{number.fraction}" + (f"{{{number.behind}}}" * bool(number.behind))
            )
        else:
            pad = "0" * (whole - len(number.whole))
            left = rf"\phantom{{{pad}}}" if pad else ""
            left += r"\phantom{$-$}" if sign and not number.sign else ""
            shown = {"-": "$-$", "+": "$+$", "": ""}[number.sign] + number.whole + number.fraction
            right = rf"\rlap{{{number.behind}}}" if number.behind else ""
            right += rf"\phantom{{{behind}}}" if behind else ""
            made.append(rf"{{{left}\{number.mark}{{{shown}}}{right}}}")
    return f"S[{', '.join(options)}]", made


class _Fit(NamedTuple):
    """How a table fits: its environment and size of letters, the characters that texts are wrapped to, by column."""

    name: str
    size: str
    wrapped: dict[int, int]
    scaled: bool = False


def _fitted(columns: TableColumns, body: TableBody) -> _Fit:
    widths = _widths(columns, body)
    for name, limit, sizes in (("table", ONE_COLUMN, _SIZES[:2]), ("table*", TWO_COLUMNS, _SIZES)):
        for size, points in sizes:
            if _total(widths, points) <= limit:
                return _Fit(name, size, {})
    size, points = _SIZES[1]
    texts = [place for place, is_number in enumerate(columns.numbers) if not is_number]
    wrapped = dict(enumerate(widths))
    while _total(wrapped.values(), points) > TWO_COLUMNS:
        longest = max(texts, key=lambda place: wrapped[place], default=None)
        if longest is None or wrapped[longest] <= _NARROWEST:
            return _Fit("table*", size, {}, scaled=True)
        wrapped[longest] -= 1
    return _Fit("table*", size, {place: int(wrapped[place]) for place in texts if wrapped[place] < widths[place]})


def _total(widths: Iterable[float], points: float) -> float:
    """Width in points of columns, given in characters of half an em."""
    columns = list(widths)
    return sum(columns) * points / 2 + 2 * _GAP * (len(columns) - 1)


def _widths(columns: TableColumns, body: TableBody) -> list[float]:
    """The widest cell of each column, in characters of half an em."""
    return [
        max((_width(cell) for cell in (name, *(line[place] for line in body.lines))), default=0.0)
        for place, name in enumerate(columns.names)
    ]


def _width(cell: str) -> float:
    seen = re.sub(r"\\text[a-z]+\{\}|\\[&%$#_{}]|\\pm", "M", cell)
    seen = re.sub(r"\\[A-Za-z]+|[{}$\\]", "", seen)
    wide = sum(1.5 if c.isupper() else 0.65 if c in " .,;:'|ilt()[]" else 1.06 for c in seen)
    return wide * (1.15 if "\\textbf" in cell else 1.0) + 0.3
