"""Progress of a run on standard error: a bar with the time left on a terminal, else a line every half minute."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from harness.errors import shortened
from harness.plain_text import one_line
from harness.standard_output import tell

if TYPE_CHECKING:
    from harness.events import Event

SECONDS_BETWEEN_LINES = 30.0
_OF_WORKER = r"^worker \d+: "
_MOST_SHOWN = 10_000
"""Warnings that are remembered, so as to be shown once."""
_STEPS = {"done": 1, "failed": 1, "retried": 0, "lost": -1}
"""Change of the number of ended videos by kind of event."""


class ProgressDisplay(Protocol):
    """Shows the progress of a run."""

    def advance(self, event: Event) -> None: ...


class _Warnings(logging.Handler):
    """Shows warnings of the harness as lines on standard error, above the bar where there is one.

    Each is shown once, however many workers and videos it comes from: the log of the run has them all.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.lower()}: {re.sub(_OF_WORKER, '', record.getMessage()).splitlines()[0]}"
        line = shortened(line, 2000)
        if line not in self._shown:
            if len(self._shown) < _MOST_SHOWN:
                self._shown.add(line)
            tell(line)


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Show warnings of the harness's log on standard error."""
    handler, logger = _Warnings(logging.WARNING), logging.getLogger("harness")
    logger.addHandler(handler)
    propagates, logger.propagate = logger.propagate, False  # libraries add a handler to the root logger
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)


@contextmanager
def progress(title: str, total: int, done: int) -> Iterator[ProgressDisplay]:
    """Show the progress of ``total`` videos of which ``done`` are done already."""
    if not sys.stderr.isatty():
        yield _Lines(title, total, done)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("videos,"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    console = Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR")))
    with Bar(*columns, console=console, redirect_stdout=False) as bar:
        task = bar.add_task(title, total=total, completed=done)

        class Shown:
            def advance(self, event: Event) -> None:
                bar.advance(task, _STEPS[event.kind])

        yield Shown()


class _Lines:
    """Plain lines: one at the start, one every half minute, and one at the end."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self.title, self.total, self.done = title, total, done
        self.first, self.began, self.shown = done, time.monotonic(), time.monotonic()
        self._say(f"{done} of {total} videos done" if done else f"{total} videos")

    def advance(self, event: Event) -> None:
        self.done += _STEPS[event.kind]
        if event.kind == "lost":
            self.first, self.began = self.done, time.monotonic()
        if event.kind in ("retried", "lost"):
            return
        now = time.monotonic()
        if self.done == self.total or now - self.shown >= SECONDS_BETWEEN_LINES:
            self.shown = now
            left = (now - self.began) / (self.done - self.first) * (self.total - self.done)
            self._say(f"{self.done} of {self.total} videos, {left:.0f} s left")

    def _say(self, text: str) -> None:
        tell(f"{self.title}: {text}")


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Show what a command is at, on standard error: a line that moves on a terminal, else a line every half minute."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from rich.console import Console
        from rich.markup import escape

        with Console(stderr=True).status("") as status:
            yield lambda doing: status.update(escape(one_line(f"{doing} ...")))
        return
    last = time.monotonic()

    def line(doing: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            tell(f"{doing} ...")

    yield line
