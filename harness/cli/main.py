"""The ``harness`` command: commands are loaded on use, so that help is fast."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from harness import __version__
from harness.cli.completion import completed
from harness.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, UserError
from harness.plugin_code import PluginExitError
from harness.standard_output import (
    end_output,
    lost_output,
    open_closed_streams,
    print_in_any_locale,
    survive_lost_streams,
    tell,
)
from harness.warnings import tolerate_warnings_of_libraries

OBJECTS_BETWEEN_COLLECTIONS = 10_000
"""Python's own 700 cost an eighth of the time of importing PyTorch and of compiling, where hardly anything is freed."""
LEAST_ADDRESS_SPACE = 3 << 29
"""Bytes; with less, compilers and linear algebra libraries crash or hang while they load."""
OF_MACHINE = {
    "can't start new thread": "the machine starts no more threads; raise the limits that `ulimit -u` and `ulimit -v`"
    " show",
    "cannot cache function": "compiled code can be kept neither in the package's folder nor in the home folder; set"
    " NUMBA_CACHE_DIR to a folder that can be written to",
}
"""How a `RuntimeError` begins that Python or numba raises for a limit of the machine, and what is printed for it."""


def _version(value: bool) -> None:
    if value:
        typer.echo(f"ovvis-harness {__version__}")
        raise typer.Exit


COMMANDS = (
    "run", "eval", "table", "compare", "figures", "analyse", "export", "record", "verify", "reproduce", "convert",
    "predict", "bench", "doctor", "train", "regress", "status", "log", "report", "view", "leaderboard",
)  # fmt: skip
_GROUPS = ("datasets", "models")
"""Commands with subcommands."""


def build(only: str = "") -> typer.Typer:
    """Build the command line, or for speed only the part with the one command that is used."""
    app = typer.Typer(
        name="harness",
        help="Run, score and compare models for open-vocabulary video instance segmentation.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
        ] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    ) -> None:
        """Run, score and compare models for open-vocabulary video instance segmentation."""

    for name in COMMANDS:
        if only in ("", name):
            module = importlib.import_module(f"harness.cli.{name}")
            app.command(name)(completed(getattr(module, name.replace("eval", "evaluate"))))
    for name in _GROUPS:
        if only in ("", name):
            app.add_typer(importlib.import_module(f"harness.cli.{name}").app, name=name)
    return app


def main() -> None:
    """Entry point of the ``harness`` script; the exit code is 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    end_by_signals_as_by_ctrl_c()
    tolerate_warnings_of_libraries()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    open_closed_streams()
    survive_lost_streams()
    print_in_any_locale()
    _leave(_with_its_output(_run()))


def _with_its_output(code: int) -> int:
    """The exit code of a command whose output may have been lost: a closed pipe does not change it."""
    lost = lost_output()
    if lost is None or isinstance(lost, BrokenPipeError):
        return code
    tell(f"harness: standard output cannot be written: {lost.strerror}; the output is lost")
    return code or EXIT_FAILED


def end_by_signals_as_by_ctrl_c() -> None:
    """Let SIGTERM (from a scheduler) and SIGHUP (from a closing terminal) end a command as Ctrl-C does.

    Signals that are ignored, as with ``nohup``, stay ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt(f" by {signal.Signals(number).name}")


def _run() -> int:
    debug = "--debug" in sys.argv[1:]
    if debug:
        sys.argv.remove("--debug")
    try:
        _refuse_lost_directory()
        _refuse_little_memory()
        build(_asked())()
    except SystemExit as leaving:
        cause = getattr(leaving.__context__, "__cause__", None)
        if isinstance(cause, KeyboardInterrupt):  # for commands without their own message
            tell(f"harness: interrupted{cause}")
        return leaving.code if isinstance(leaving.code, int) else 0
    except (UserError, PluginExitError) as error:
        if debug:
            traceback.print_exc()
        tell(f"harness: {error}")
        return EXIT_BAD_INPUT if isinstance(error, UserError) else EXIT_FAILED
    except (OSError, MemoryError, RuntimeError) as error:  # a limit of the machine: the place does not matter
        if isinstance(error, RuntimeError) and (debug or not str(error).startswith(tuple(OF_MACHINE))):
            raise
        if debug:
            traceback.print_exc()
        tell(f"harness: {_of_machine(error)} (--debug shows where)")
        return EXIT_FAILED
    except KeyboardInterrupt as stop:
        tell(f"harness: interrupted{stop}")
        return EXIT_INTERRUPTED
    return 0


def _asked() -> str:
    """The command that comes first on the command line; empty if that is none."""
    first = "".join(sys.argv[1:2])
    return first if first in (*COMMANDS, *_GROUPS) else ""


def _of_machine(error: OSError | MemoryError | RuntimeError) -> str:
    if isinstance(error, RuntimeError):
        return next(text for begins, text in OF_MACHINE.items() if str(error).startswith(begins))
    if isinstance(error, MemoryError):
        return "the memory is full; use a smaller part of the data, or a machine with more"
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes, os.PathLike)) else ""
    return f"{where}{error.strerror or error or type(error).__name__}"


def _refuse_little_memory() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESS_SPACE:
        what = f"has {limit >> 20} MiB of address space, and needs {LEAST_ADDRESS_SPACE >> 20} MiB to start"
        raise UserError("this process", what, "raise the limit that `ulimit -v` shows")


def _refuse_lost_directory() -> None:
    try:
        Path.cwd()
    except OSError as error:
        where = "the working directory"
        raise UserError(where, f"cannot be used: {error.strerror}", "change to a folder that exists") from error


def _leave(code: int) -> NoReturn:
    """Run the exit handlers and end the process, without finalising the interpreter.

    Freeing LLVM and some thousand modules one by one takes a fifth of a second, as long as scoring a small dataset.
    """
    end_output()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)
