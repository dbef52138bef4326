"""The boundary around code of plugins: what comes out of it, whatever was raised inside."""

from __future__ import annotations

import signal

import pytest

from harness.errors import UserError
from harness.plugin_code import PluginExitError, convert_plugin_errors, describe_error, isolate_plugin


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


class TheirError(UserError):
    """A class that only the plugin knows."""

    def __init__(self) -> None:
        super().__init__("weights.pt", "are too old", "get others")


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit("bye"), GeneratorExit(), BaseException("odd")])
def test_what_ends_a_program_becomes_a_failure(error: BaseException) -> None:
    with (
        pytest.raises(PluginExitError, match=r"^model x has raised \w+(: \w+)?, which no plugin may$"),
        isolate_plugin("model x"),
    ):
        raise error


def test_ordinary_exceptions_pass() -> None:
    with pytest.raises(ValueError, match="of its own"), isolate_plugin("model x"):
        raise ValueError("of its own")
    with pytest.raises(StopIteration), isolate_plugin("model x"):
        raise StopIteration


def test_only_the_interrupt_passes_also_in_disguise() -> None:
    with pytest.raises(KeyboardInterrupt), isolate_plugin("model x"):
        raise KeyboardInterrupt
    for other in (SystemExit(1), RuntimeError("a worker of mine has ended")):
        other.__context__ = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt), isolate_plugin("model x"):
            raise other


def test_where_ctrl_c_is_ignored_it_is_the_plugins_own() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(PluginExitError, match="KeyboardInterrupt"), isolate_plugin("model x"):
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            ZeroDivisionError("of\n zero"),
            "model x: fails: ZeroDivisionError: of zero; see the traceback (on the command line with --debug)",
        ),
        (SystemExit(0), "model x: fails: SystemExit: 0; see the traceback (on the command line with --debug)"),
        (KeyError(), "model x: fails: KeyError; see the traceback (on the command line with --debug)"),
        (
            UnreadableError(),
            "model x: fails: UnreadableError: its text cannot be read; see the traceback (on the command line with"
            " --debug)",
        ),
        (UserError("weights.pt", "are not there", "get them"), "weights.pt: are not there; get them"),
        (TheirError(), "weights.pt: are too old; get others"),
    ],
)
def test_a_plugin_that_is_asked_answers_with_one_line(error: BaseException, line: str) -> None:
    with pytest.raises(UserError) as raised, convert_plugin_errors("model x", "fails"):
        raise error
    assert type(raised.value) is UserError
    assert str(raised.value) == line


def test_an_exception_is_described_in_one_line() -> None:
    assert describe_error(ValueError("a\nb")) == "ValueError: a b"
