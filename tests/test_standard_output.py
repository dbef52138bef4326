"""What is printed meanwhile goes elsewhere, from Python, from the system and from C; afterwards all is as before."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from worker_models import print_everywhere

from harness.standard_output import printed_to_log, printed_to_stderr

THREE = ["x by Python", "x by write", "x by C"]


def lines(text: str) -> list[str]:
    return sorted(text.splitlines())


def test_it_goes_to_standard_error_and_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    print("first")
    with printed_to_stderr(), printed_to_stderr():
        print_everywhere("x")
        subprocess.run(["echo", "x by a child"], check=True)
    assert sys.stdout is before
    print("last")
    out, err = capfd.readouterr()
    assert out == "first\nlast\n"
    assert lines(err) == sorted([*THREE, "x by a child"])


def test_it_goes_to_the_log_when_it_is_asked_for(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "harness")
    with printed_to_log() as log_printed:
        print_everywhere("x")
        sys.stdout.buffer.write(b"bytes\n")
        with printed_to_stderr():
            print("inside", end="")
        assert caplog.messages == []
        log_printed()
        log_printed()
        kept = sys.stdout
    kept.write("by a thread that goes on\n")
    assert sorted(caplog.messages) == sorted(f"printed: {line}" for line in [*THREE, "bytes", "inside"])
    assert capfd.readouterr() == ("", "")


def test_without_a_log_it_is_shown_in_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    with printed_to_log():
        print("why it fails")
    assert capfd.readouterr() == ("", "why it fails\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_worker_writes_a_line_and_its_end_at_once(unbuffered: str) -> None:
    code = "from harness.standard_output import stay_with_driver; stay_with_driver(); print('one'); print('two')"
    # each write is a message of its own there
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
            subprocess.run([sys.executable, "-c", code], stdout=theirs, env=environment, check=True)
        assert list(iter(lambda: ours.recv(100), b"")) == [b"one\n", b"two\n"]


def test_what_is_printed_in_masses_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "harness")
    with printed_to_log() as log_printed:
        os.write(1, b"x" * (1 << 20) + b"y" * 10)
        log_printed()
    assert caplog.messages[1:] == ["printed: 10 bytes more, which are left out"]


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_command_with_closed_streams_ends_well(closed: str) -> None:
    command = f'"{sys.executable}" -m harness run --model oracle --dataset shapes --limit 1 --help {closed}'
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0


def test_what_runs_at_exit_does_not_print_behind_the_result() -> None:
    program = (
        "import atexit, sys; from worker_models import print_everywhere; from harness.cli.main import main;"
        "atexit.register(print_everywhere, 'x'); sys.argv = ['harness', '--version']; main()"
    )
    path = os.pathsep.join([str(Path(__file__).parent / "support"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.startswith("ovvis-harness ")
    assert len(done.stdout.splitlines()) == 1
    assert "x by Python" in done.stderr
