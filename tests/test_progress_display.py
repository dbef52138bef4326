"""Progress on standard error: plain lines where nobody watches, a bar on a terminal, colours only where wanted."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from harness import progress_display
from harness.events import Event
from harness.progress_display import progress, shown_warnings


class Terminal(io.StringIO):
    """Standard error as a terminal has it."""

    def isatty(self) -> bool:
        return True


def shown(done: int = 0) -> None:
    with progress("oracle on shapes val", 3, done) as bar:
        for video in range(done, 3):
            bar.advance(Event("retried", video, 0.1, 8))
            bar.advance(Event("failed" if video == 1 else "done", video, 0.1, 8))


def test_plain_lines_begin_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    shown()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "oracle on shapes val: 3 videos",
        "oracle on shapes val: 3 of 3 videos, 0 s left",
    ]


def test_a_warning_of_several_workers_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("harness.test")
    with shown_warnings():
        for line in (
            "worker 0: 3 weights are of no use",
            "worker 1: 3 weights are of no use",
            "4 weights",
            "4 weights",
        ):
            log.warning("%s", line)
    assert capsys.readouterr().err.splitlines() == ["warning: 3 weights are of no use", "warning: 4 weights"]


def test_plain_lines_say_what_is_done_already(capsys: pytest.CaptureFixture[str]) -> None:
    shown(done=2)
    assert capsys.readouterr().err.startswith("oracle on shapes val: 2 of 3 videos done\n")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_videos_that_are_computed_anew_are_counted_once(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", said := Terminal() if is_terminal else io.StringIO())
    with progress("oracle on shapes val", 3, 3) as bar:
        for kind in ("lost", "lost", "done", "failed"):
            bar.advance(Event(kind, 1, 0.1, 8))  # type: ignore[arg-type]
    assert "3/3" in said.getvalue() if is_terminal else "3 of 3 videos, 0 s left\n" in said.getvalue()
    assert "4/3" not in said.getvalue()


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, no_color: str) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    shown()
    text = terminal.getvalue()
    assert "3/3" in text
    assert "left" in text
    assert ("\x1b[32m" in text) is not bool(no_color)


def test_steps_without_a_terminal_are_a_line_every_half_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 31.0, 31.0, 32.0])
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: next(clock))
    with progress_display.steps() as step:
        step("one")
        step("two\x1b[1m")
        step("three")
    assert capsys.readouterr().err == "two\\x1b[1m ...\n"
