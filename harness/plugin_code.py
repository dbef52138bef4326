"""Isolation of plugin code, of models and datasets: it is third-party code and may raise any exception."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import UserError, shortened
from harness.standard_output import printed_to_stderr

MOST_CHARACTERS, MOST_DETAILS = 2000, 16_000
"""Most characters of an error's line, and of its traceback: what plugins raise may hold whole arrays."""
_HINT = "see the traceback (on the command line with --debug)"


class PluginExitError(Exception):
    """A plugin has raised an exception that ends a program or a generator, such as `SystemExit`."""


@contextmanager
def isolate_plugin(name: str) -> Iterator[None]:
    """Run code of the plugin ``name`` so that it raises only `Exception` and prints nothing to standard output.

    Exceptions that end a program or a generator (`SystemExit`, `GeneratorExit`, ...) become a `PluginExitError`. Only
    Ctrl-C stays a `KeyboardInterrupt`, even if the plugin converted it to another exception. ``os._exit`` still ends
    the process.
    """
    try:
        with printed_to_stderr():
            yield
    except BaseException as error:
        stop = _interrupt_behind(error)
        if stop is not None:
            raise KeyboardInterrupt(*stop.args) from error
        if isinstance(error, Exception):
            raise
        raise PluginExitError(f"{name} has raised {describe_error(error)}, which no plugin may") from error


@contextmanager
def convert_plugin_errors(name: str, what: str, hint: str = _HINT) -> Iterator[None]:
    """Run code of the plugin ``name``, see `isolate_plugin`; convert its exceptions to `UserError`.

    A `UserError` keeps its text; for others the error names the plugin, and ``what`` says what has failed.
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
    """An exception in one line of bounded length, with its type unless it is a class of the harness."""
    try:
        text = " ".join(shortened(str(error), MOST_CHARACTERS).split())
    except Exception:  # its __str__ is plugin code, too
        text = "its text cannot be read"
    if isinstance(error, (UserError, PluginExitError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def describe_place() -> str:
    """The traceback of the exception that is handled, of bounded length."""
    return shortened(traceback.format_exc(), MOST_DETAILS)


def _interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that caused an exception, if one did. Workers ignore Ctrl-C, so there the plugin itself raised it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return None
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
