"""The boundary around code of plugins, models and datasets alike: anybody's code, which may do and raise anything."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import UserError
from harness.standard_output import printed_to_stderr

_HINT = "--debug shows the traceback"


class PluginExitError(Exception):
    """A plugin has raised what ends a program, such as `SystemExit`, or a generator."""


@contextmanager
def isolate_plugin(name: str) -> Iterator[None]:
    """Run code of the plugin ``name``: only `Exception` comes out, and nothing is printed to standard output.

    What ends a program or a generator (`SystemExit`, `GeneratorExit`, ...) becomes a `PluginExitError`. Only Ctrl-C
    passes as it is, `KeyboardInterrupt`, also where the plugin has made another exception of it. ``os._exit`` ends the
    process: nothing in it can prevent that.
    """
    try:
        with printed_to_stderr():
            yield
    except BaseException as error:
        if _is_interrupt(error):
            raise KeyboardInterrupt from error
        if isinstance(error, Exception):
            raise
        raise PluginExitError(f"{name} has raised {describe_error(error)}, which no plugin may") from error


@contextmanager
def convert_plugin_errors(name: str, what: str, hint: str = _HINT) -> Iterator[None]:
    """Run code of the plugin ``name``, of whom nobody else can be asked: what it raises becomes a `UserError`.

    A `UserError` of its own keeps its words; for others the plugin is named, ``what`` says what it has failed to do.
    """
    try:
        with isolate_plugin(name):
            yield
    except UserError as error:
        if type(error).__module__ == UserError.__module__:
            raise
        raise UserError("", describe_error(error)) from error  # a class of the plugin's own may not be known elsewhere
    except Exception as error:
        cause = error.__cause__ if isinstance(error, PluginExitError) and error.__cause__ else error
        raise UserError(name, f"{what}: {describe_error(cause)}", hint) from error


def describe_error(error: BaseException) -> str:
    """An exception in one line, with its type unless it is one of ours."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # its own code again
        text = "its text cannot be read"
    if isinstance(error, (UserError, PluginExitError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an exception. Workers do not get it: there it is the plugin's own doing."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return False
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
