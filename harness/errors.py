"""Errors that a user can fix, and exit codes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from harness.plain_text import one_line

V = TypeVar("V")
EXIT_FAILED = 1
"""The command has run but failed: an incomplete run, a failed gate."""
EXIT_BAD_INPUT = 2
"""The input or the command line has to be changed first."""
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """An error that the user can fix; printed as one line, without a traceback.

    Names and values from files may be put into it as they are: its text has no control characters and no line breaks.

    ``where`` names file and record, ``what`` states the fault, ``hint`` says what to do, as an imperative.
    """

    def __init__(self, where: str, what: str, hint: str = "") -> None:
        self.where, self.what, self.hint = where, what, hint
        super().__init__(where, what, hint)

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        return one_line(f"{line}; {self.hint}" if self.hint else line)


class OfficialAbortError(UserError):
    """The official tool aborts on this input before it prints numbers, so its numbers are undefined."""


class FrameError(UserError):
    """A frame of one video cannot be read; other videos may be intact."""


class OfficialFaultError(OfficialAbortError):
    """The same, because of a fault in the annotations or predictions; a run tells it beforehand."""


class UnreadableFileError(UserError):
    """A file of the harness is damaged, missing or unreadable."""


class NamedValues(dict[str, V]):
    """Values by name. Names that are in neither of the two mappings raise a `UserError` with near names.

    For a name ``A/B`` these are the others that begin with ``A/``, or the beginnings of the others where none does.

    ``others`` can be looked up too, but are not among the items. ``kind`` and ``owner`` are words for the message:
    "metric" and "this run".
    """

    def __init__(self, values: Mapping[str, V], others: Mapping[str, V], kind: str, owner: str) -> None:
        super().__init__(values)
        self._others, self._kind, self._owner = dict(others), kind, owner

    def __missing__(self, key: str) -> V:
        if key in self._others:
            return self._others[key]
        name, known = str(key), list(self)
        if "/" in name and self._others:
            alike = [one for one in self._others if one.startswith(name[: name.index("/") + 1])]
            known = alike or [f"{one}/..." for one in {one.partition("/")[0] for one in self._others}]
        raise UserError(f'{self._kind} "{key}"', f"is not a {self._kind} of {self._owner}", near(name, known))

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a name, or ``default``."""
        return self[key] if key in self or key in self._others else default


def shortened(text: str, most: int) -> str:
    """``text``, without its middle if it is longer than ``most`` characters; with the number of those left out."""
    if len(text) <= most:
        return text
    head = most // 4
    return f"{text[:head]} ... ({len(text) - most} characters left out) ... {text[head - most :]}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters; its type if the text is empty."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def near(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean "x"?`` or the list of known names, for use as a hint."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f'did you mean "{close[0]}"? known: {", ".join(known)}'
    return f"known: {', '.join(known) if known else 'none'}"
