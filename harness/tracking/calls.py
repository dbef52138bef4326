"""Calls to MLflow: with short time limits, without its log messages, and with one-line errors."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# MLflow reads these at every request, from the environment only. The user's own values are kept.
_REQUEST_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output belongs to --json
    "MLFLOW_DISABLE_TELEMETRY": "true",  # users decide whether a benchmark run is reported
}
_CONNECT_LIMIT = {"connect_timeout": 5}
_DRIVERS_WITH_LIMIT = ("", "psycopg", "psycopg2", "mysqldb", "pymysql")
_MESSAGE_LENGTH = 300
_LOGGERS = ("mlflow", "alembic", "urllib3")

# The environment and the loggers belong to the process, so one call into MLflow at a time.
ONE_AT_A_TIME = threading.RLock()


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
