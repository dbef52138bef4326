"""HTML pages that are safe for untrusted files: escaping templates, embedded data, a content security policy.

A page makes no network requests. Text enters it in three ways only: through a template, which escapes it; as `embedded`
JSON, which cannot end its element; and by the scripts of this package, which set text and never markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.plain_text import escaped, plain
from harness.reports.table_rows import in_print, percent_of

_FOLDERS = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:;,]+[/\\])+")
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&'"}


def render_page(template: str, **values: Any) -> str:
    """Fill a template of ``reports/templates``: every text is put on one line, without control characters, escaped."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_in_one_line,
    )
    environment.filters["percent"] = percent
    environment.filters["points"] = points
    environment.filters["number"] = number_text
    environment.filters["printed"] = percentage_text
    environment.filters["piece"] = piece
    environment.filters["without_folders"] = without_folders
    return environment


def _in_one_line(value: Any) -> Any:
    return plain(value) if type(value) is str else value  # Markup from this package stays as it is


def without_folders(text: str) -> str:
    """A text with absolute paths cut to their last part, because the page may be published."""
    return _FOLDERS.sub("", text)


def piece(text: str) -> Markup:
    """A piece of a sentence in one line, which keeps the blanks at its ends."""
    return escape(escaped(re.sub(r"\s+", " ", text)))


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction in percent with one decimal, rounded as tables do it; an en dash if undefined."""
    return "–" if fraction is None else str(in_print(percent_of(fraction), digits))


def points(fraction: float | None, digits: int = 1) -> str:
    """A difference of fractions in percentage points with its sign; an en dash where undefined."""
    if fraction is None:
        return "–"
    shown = in_print(percent_of(fraction), digits)
    return (f"{shown:+}" if shown else str(shown)).replace("-", "−")


def percentage_text(percentage: Decimal | None) -> str:
    """An exact percentage as tables print it; an en dash where undefined."""
    return "–" if percentage is None else str(in_print(percentage))


def number_text(value: float | None, digits: int = 1) -> str:
    """A number with decimals; an en dash where undefined."""
    return "–" if value is None else f"{value:,.{digits}f}"


def embedded(data: Any) -> Markup:
    """JSON for a ``<script type="application/json">``: no character in it is special to an HTML parser.

    Escaped are ``<``, ``>``, ``&``, ``'`` and all that is not ASCII, so neither ``</script>`` nor ``<!--`` nor U+2028
    can occur.
    """
    return Markup(json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_ESCAPES))


def assets(*names: str) -> Markup:
    """The text of files in ``reports/assets``, one after the other."""
    folder = files("harness.reports").joinpath("assets")
    return Markup("\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names))


def policy(style: str, script: str) -> str:
    """The content security policy of a page in one file: this style, this script, images inside it, nothing else."""
    allowed = f"style-src '{_source(style)}'; script-src '{_source(script)}'; img-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
