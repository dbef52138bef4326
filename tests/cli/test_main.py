"""The ``harness`` command itself: help and version, exit codes, one line per error, tracebacks with ``--debug``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness import __version__
from harness.cli import main
from harness.errors import UserError
from harness.plugin_code import PluginExitError


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["harness", *arguments])
    return main._run()


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"ovvis-harness {__version__}\n"


@pytest.mark.parametrize("arguments", [("evil",), ("eval", "--preditions", "x"), ("run", "--limit", "many")])
def test_a_command_line_that_is_wrong(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    assert run(monkeypatch, *arguments) == 2


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("a.json", "is empty", "name another file"), 2, "harness: a.json: is empty; name another file"),
        (PluginExitError("model x wants to exit"), 1, "harness: model x wants to exit"),
        (PermissionError(13, "Permission denied", "a"), 1, "harness: a: Permission denied (--debug shows where)"),
        (MemoryError(), 1, "harness: the memory is full; use a smaller part of the data, or a machine with more"),
        (KeyboardInterrupt(" by SIGTERM"), 130, "harness: interrupted by SIGTERM"),
    ],
)
def test_an_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(main, "build", lambda only="": fail)
    assert run(monkeypatch, "run") == code
    told = capsys.readouterr().err
    assert told.startswith(line)
    assert told.count("\n") == 1
    assert run(monkeypatch, "--debug", "run") == code
    assert ("Traceback" in capsys.readouterr().err) == (code != 130)


def test_help_does_not_import_torch() -> None:
    code = "import sys; sys.argv = ['harness', '--help']\nfrom harness.cli.main import _run\ncode = _run()\n"
    check = "heavy = {'torch', 'numba', 'pyarrow', 'pandas', 'mlflow'} & set(sys.modules)\nsys.exit(str(heavy or code))"
    done = subprocess.run([sys.executable, "-P", "-c", code + check], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "0"
    assert "Usage" in done.stdout
