"""The ``harness`` command: commands are loaded when they are used, so that help answers at once."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import signal
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer

from harness import __version__
from harness.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, UserError
from harness.plugin_code import PluginExitError
from harness.standard_output import end_output, open_closed_streams, print_in_any_locale


def _version(value: bool) -> None:
    if value:
        typer.echo(f"ovvis-harness {__version__}")
        raise typer.Exit


def build() -> typer.Typer:
    """Put the command line together."""
    app = typer.Typer(
        name="harness",
        help="Run, score and compare models for open-vocabulary video instance segmentation.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def options(
        version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Version.")] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    ) -> None:
        """Run, score and compare models for open-vocabulary video instance segmentation."""

    for name in (
        "run",
        "eval",
        "table",
        "compare",
        "figures",
        "analyse",
        "export",
        "convert",
        "predict",
        "bench",
        "doctor",
        "train",
        "regress",
        "status",
        "log",
        "report",
        "view",
        "leaderboard",
    ):
        app.command(name)(getattr(importlib.import_module(f"harness.cli.{name}"), name.replace("eval", "evaluate")))
    for name in ("datasets", "models"):
        app.add_typer(importlib.import_module(f"harness.cli.{name}").app, name=name)
    return app


def main() -> None:
    """Entry point of the ``harness`` script; the exit code is 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    end_by_signals_as_by_ctrl_c()
    open_closed_streams()
    print_in_any_locale()
    _leave(_run())


def end_by_signals_as_by_ctrl_c() -> None:
    """Let SIGTERM (of a cluster's scheduler) and SIGHUP (of a terminal that closes) end a command as Ctrl-C does.

    Those that are ignored, as with ``nohup``, stay so.
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
        build()()
    except SystemExit as leaving:
        cause = getattr(leaving.__context__, "__cause__", None)
        if isinstance(cause, KeyboardInterrupt):  # of a command that says nothing of it itself
            _say(f"interrupted{cause}")
        return leaving.code if isinstance(leaving.code, int) else 0
    except (UserError, PluginExitError) as error:
        if debug:
            traceback.print_exc()
        print(f"harness: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT if isinstance(error, UserError) else EXIT_FAILED
    except KeyboardInterrupt as stop:
        _say(f"interrupted{stop}")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal is gone
        print(f"harness: {text}", file=sys.stderr, flush=True)


def _leave(code: int) -> NoReturn:
    """End the process after what is registered for its end, without taking the interpreter apart.

    Freeing LLVM and some thousand modules one by one takes a fifth of a second, as long as scoring a small dataset.
    """
    end_output()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)
