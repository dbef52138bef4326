"""Running a command: its output line by line, and the ways in which it is ended."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from harness.baselines.external.process import LAST_LINES, Ending, run_command


def run(program: str, timeout_s: float | None = None, grace_s: float = 5) -> tuple[Ending, list[str]]:
    lines: list[str] = []
    command = [sys.executable, "-c", program]
    return run_command(command, None, os.environ, timeout_s, lines.append, grace_s), lines


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and is not collected yet does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_output_and_errors_come_line_by_line_and_the_last_ones_stay() -> None:
    ending, lines = run(
        "import sys\nfor i in range(20): print('line', i, file=(sys.stdout, sys.stderr)[i % 2], flush=True)"
    )
    assert ending.code == 0
    assert lines == [f"line {i}" for i in range(20)]
    assert ending.last_lines == tuple(lines[-LAST_LINES:])


def test_lines_are_plain_text_whatever_is_printed() -> None:
    text = r"b'\x1b[31mred\x1b[0m\x07\n\xff\xfe\n 1 %\r 99 %\r100 %\n\n\x1b]0;title\x07no newline'"
    _, lines = run(f"import sys; sys.stdout.buffer.write({text})")
    assert lines[0] == "red"
    assert lines[1] == "\ufffd\ufffd"
    assert lines[2] == "100 %"
    assert lines[3].endswith("no newline")
    assert all(line.isprintable() for line in lines)


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    ending, lines = run("print('x' * 1_000_000)")
    assert sum(map(len, lines)) == 1_000_000
    assert max(map(len, lines)) <= 1 << 16
    assert max(map(len, ending.last_lines)) <= 300


def test_exit_codes_and_signals_are_told() -> None:
    assert run("raise SystemExit(7)")[0].code == 7
    assert run("import os; os.kill(os.getpid(), 9)")[0].code == 128 + 9


def test_a_command_that_is_not_there_says_so() -> None:
    lines: list[str] = []
    ending = run_command(["/no/such/program"], None, os.environ, None, lines.append)
    assert ending.code == 127
    assert lines == ["/no/such/program: No such file or directory"]


def test_a_command_gets_no_input() -> None:
    assert run("import sys; print(repr(sys.stdin.read()))")[1] == ["''"]


def test_a_command_may_tidy_up_when_its_time_is_over() -> None:
    program = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("tidied up", flush=True), sys.exit(0)))
print("ready", flush=True)
time.sleep(600)
"""
    ending, lines = run(program, timeout_s=3)
    assert ending.code is None
    assert lines == ["ready", "tidied up"]


def test_one_that_does_not_want_to_end_is_killed_with_its_children() -> None:
    program = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
os.write(1, b"%d\\n" % os.getpid())  # in one piece: two processes write to the same pipe
time.sleep(600)
"""
    ending, lines = run(program, timeout_s=3, grace_s=0.5)
    assert ending.code is None
    assert len(lines) == 2
    deadline = time.monotonic() + 10
    while any(is_alive(int(line)) for line in lines):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_daemon_that_holds_the_output_open_does_not_hold_us() -> None:
    program = """
import os, time
if os.fork() == 0:
    os.setsid()
    time.sleep(40)
print("done", flush=True)
"""
    ending, lines = run(program)
    assert (ending.code, lines) == (0, ["done"])
    assert ending.seconds < 30
