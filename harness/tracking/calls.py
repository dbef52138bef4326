"""Calls to MLflow: in a separate thread with a deadline, without its log messages, and with one-line errors."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

CALL_SECONDS = 60.0
"""Wall-clock limit of one piece of work with MLflow. The limits of its requests are for silence only: a server that
sends a byte now and then, or asks to wait, holds a request forever."""

# MLflow reads these at every request, from the environment only. The user's own values are kept.
_REQUEST_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # a server may ask for an hour
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output belongs to --json
    "MLFLOW_DISABLE_TELEMETRY": "true",  # users decide whether a benchmark run is reported
}
_CONNECT_LIMIT = {"connect_timeout": 5}
_DRIVERS_WITH_LIMIT = ("", "psycopg", "psycopg2", "mysqldb", "pymysql")
_MESSAGE_LENGTH = 300
_LOGGERS = ("mlflow", "alembic", "urllib3")

# The environment and the loggers belong to the process, so one call into MLflow at a time.
ONE_AT_A_TIME = threading.RLock()


class BackgroundThread:
    """Runs actions one after another in a background thread, which ends with the process even while it waits.

    Actions must not raise.
    """

    def __init__(self, name: str) -> None:
        self._actions: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._began: float | None = None
        self._name = name
        self._thread: threading.Thread | None = None

    def do(self, action: Callable[[], None]) -> None:
        """Do an action after those before it; within an action at once."""
        if self._thread is threading.current_thread():
            action()
            return
        with self._changed:
            self._actions.append(action)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of actions that have not begun."""
        return len(self._actions)

    def wait(self, seconds: float, longest: float = CALL_SECONDS) -> bool:
        """Wait until all is done; false after ``seconds``, or as soon as one action has taken ``longest`` seconds."""
        end = time.monotonic() + seconds
        with self._changed:
            while self._actions or self._began is not None:
                now = time.monotonic()
                stop = end if self._began is None else min(end, self._began + longest)
                if now >= stop:
                    return False
                self._changed.wait(stop - now)
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._actions:
                    self._thread = None
                    return
                action, self._began = self._actions.popleft(), time.monotonic()
            try:
                action()
            finally:
                with self._changed:
                    self._began = None
                    self._changed.notify_all()


def call_with_deadline(action: Callable[[], T], seconds: float = CALL_SECONDS) -> T:
    """Return what ``action`` does with MLflow; raises what it raises, and `TimeoutError` after ``seconds``."""
    found: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            with ONE_AT_A_TIME, quiet_with_time_limits():
                found.append(action())
        except BaseException as error:  # raised again by the caller's thread
            errors.append(error)

    thread = threading.Thread(target=call, name="mlflow", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(no_answer(seconds))
    if errors:
        raise errors[0]
    return found[0]


def no_answer(seconds: float) -> str:
    """The cause of giving up in words."""
    return f"it has not answered within {seconds:.0f} s"


@contextmanager
def quiet_with_time_limits() -> Iterator[None]:
    """Set short time limits and silence MLflow's loggers for the block; restore both afterwards."""
    added = {key: value for key, value in _REQUEST_ENVIRONMENT.items() if key not in os.environ}
    levels: dict[str, int] = {}
    os.environ.update(added)
    try:
        import mlflow.tracking  # noqa: F401  it sets the levels of its loggers, so it is imported first

        for name in _LOGGERS:
            levels[name] = logging.getLogger(name).level
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for key in added:
            os.environ.pop(key, None)


def reach_database(uri: str) -> None:
    """Connect once if the store is a database: MLflow itself would try ten times within 100 seconds."""
    from mlflow.store.db.db_types import DATABASE_ENGINES
    from sqlalchemy import create_engine

    kind, _, driver = uri.partition(":")[0].partition("+")
    if kind in DATABASE_ENGINES:
        has_limit = kind in ("postgresql", "mysql") and driver in _DRIVERS_WITH_LIMIT
        engine = create_engine(uri, connect_args=_CONNECT_LIMIT if has_limit else {})
        try:
            engine.connect().close()
        finally:
            engine.dispose()


def cause_of(error: BaseException) -> str:
    """Return the cause of an error in one line: "connection refused", not the errors that wrap it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):  # sockets, names, files: users can fix these; the innermost is the clearest
            error = cause
        cause = cause.__cause__ or cause.__context__
    line = " ".join(str(error).partition("(Background on this error")[0].split()) or type(error).__name__
    return line if len(line) <= _MESSAGE_LENGTH else line[: _MESSAGE_LENGTH - 1] + "…"
