"""Runs a command: passes its output on line by line, and ends it at its timeout or with the harness."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from harness.baselines.external import watch

GRACE_S = 10.0
"""Time that a command has to end before it is killed."""
LAST_LINES = 8
_LINE_BYTES = 1 << 16
_SHOWN_CHARACTERS = 300
_ESCAPES = re.compile(r"\x1b(\[[0-9;:?]*[ -/]*[@-~]|[@-Z\\-_])")


class Ending(NamedTuple):
    """How a command ended: its exit code (128 + n: by signal n), or ``None`` after a timeout."""

    code: int | None
    seconds: float
    last_lines: tuple[str, ...]


def run_command(
    command: Sequence[str],
    cwd: Path | None,
    environment: Mapping[str, str],
    timeout_s: float | None,
    on_line: Callable[[str], None],
    grace_s: float = GRACE_S,
) -> Ending:
    """Run ``command`` without a shell until it ends or for ``timeout_s`` seconds; then end all processes of its group.

    ``environment`` is the whole environment. ``on_line`` gets every line of output and error output, without escape
    sequences; of lines that overwrite themselves (progress bars) the last state.
    """
    watched = [sys.executable, "-I", "-S", watch.__file__, str(grace_s), *command]
    last: deque[str] = deque(maxlen=LAST_LINES)
    began = time.perf_counter()
    process = subprocess.Popen(
        watched,
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C goes to the harness, which ends the command
    )
    assert process.stdin is not None  # for the type checker: they are pipes
    assert process.stdout is not None
    reader = threading.Thread(target=_read, args=(process.stdout, last, on_line), daemon=True)
    reader.start()
    code: int | None = None
    try:
        with suppress(subprocess.TimeoutExpired):
            ended = process.wait(timeout_s)
            code = ended if ended >= 0 else 128 - ended
    finally:
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s + 5)
        process.kill()
        process.wait()
        reader.join(2)  # a process that left the command's group may hold its output open forever
    return Ending(code, time.perf_counter() - began, tuple(last))


def _read(stream: IO[bytes], last: deque[str], on_line: Callable[[str], None]) -> None:
    with stream:
        while raw := stream.readline(_LINE_BYTES):
            text = _plain(raw)
            if text:
                last.append(text[:_SHOWN_CHARACTERS])
                on_line(text)


def _plain(raw: bytes) -> str:
    """A line as printable text: its final state on a terminal, without colours."""
    text = raw.decode(errors="replace").rstrip().rpartition("\r")[2]
    return "".join(c if c.isprintable() else " " for c in _ESCAPES.sub("", text)).rstrip()
