"""Connections to Ray: to a cluster, or to a Ray that is started here and ends with this process, whatever ends that."""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any

import psutil

from harness.engines import ray_guard
from harness.errors import UserError

DAEMONS = ("gcs_server", "raylet")
"""Without any of these there is no Ray."""
INLINE_BYTES = 100 << 20
"""A Ray of our own keeps this much out of its object store."""


def connect(address: str | None) -> tuple[Any, OwnRay | None]:
    """The module ``ray``, connected to a cluster, or to one that is started here: quiet, for this machine alone, and
    reporting to nobody; that one is to be ended here. Raises `UserError` where Ray is not there or does not start.
    """
    is_here = address in (None, "local")
    # Ray takes these from the environment only, some of them when it is imported
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # workers without GPUs of their own: no warning
    if is_here:
        os.environ["RAY_AUTH_MODE"] = "token"  # for other users of this machine
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray keeps the first one that it has seen
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # for other machines: all listens to the loopback address
        for limit in ("RAY_max_direct_call_object_size", "RAY_task_rpc_inlined_bytes_limit"):
            os.environ.setdefault(limit, str(INLINE_BYTES))
        os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default: workers would wait for everybody else here
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray", "Ray is not installed", 'pip install "ovvis-harness[ray]"') from error
    if ray.is_initialized():
        return ray, None
    own = OwnRay() if is_here else None
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        # Ray's workers look for modules in the driver's folder first. It may hold anything, a checkout's harness/ too.
        with chdir("/"):
            ray.init(address=address or "local", include_dashboard=False if is_here else None, **quiet)
    except Exception as error:  # bare ones, too
        if own is not None:
            own.kill()
        hint = "is it started there? `ray status` tells" if address else "look into Ray's logs"
        raise UserError(f"Ray at {address or 'this machine'}", f"does not start: {first_line(error)}", hint) from error
    if own is not None:
        own.has_started()
    return ray, own


class OwnRay:
    """Made before Ray is started: from then on `harness.engines.ray_guard` waits for the end of this process."""

    def __init__(self) -> None:
        self._daemons: dict[str, psutil.Process] = {}
        others = sorted({session for _, session in ray_guard.members(os.getpid())})
        # By its path: however this package was found, and whatever else has its name in the driver's folder. In a
        # session of its own: Ctrl-C and the end of a terminal reach all processes there.
        program = [sys.executable, "-P", str(Path(ray_guard.__file__)), str(os.getpid()), *others]
        self._guard = subprocess.Popen(program, stdin=subprocess.PIPE, start_new_session=True)

    def has_started(self) -> None:
        """Look which daemons there are."""
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                if child.name() in DAEMONS:
                    self._daemons[child.name()] = child

    def lost(self) -> str:
        """The name of a daemon that has ended; empty: all is well."""
        return next((name for name, daemon in self._daemons.items() if not _is_alive(daemon)), "")

    def check(self) -> None:
        """Raises `UserError` where there is no Ray any more: asked for anything, it would end this process, or hang."""
        name = self.lost()
        if name:
            hint = "the same command goes on where this run was; was there enough memory?"
            raise UserError("Ray on this machine", f"its {name} has ended", hint)

    def kill(self) -> None:
        """End all its processes at once."""
        self._guard.communicate()

    def end(self, ray: Any) -> None:
        """End it in an orderly way, if there still is a way."""
        is_lost = bool(self.lost())
        if is_lost:
            self.kill()
        ray.shutdown()
        if not is_lost:
            self._guard.communicate(b"ended")


def first_line(error: Exception) -> str:
    """What Ray says, without its tracebacks."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
