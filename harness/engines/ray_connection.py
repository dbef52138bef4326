"""Connections to Ray: to a cluster, or to a Ray that is started here and always ends with this process."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from harness.engines import ray_guard
from harness.errors import UserError, first_line

DAEMONS = ("gcs_server", "raylet")
"""Ray needs all of these."""
GUARD_SECONDS = 60.0
"""How long the end of a run waits for Ray's processes to be killed; the guard continues by itself."""
INLINE_BYTES = 100 << 20
"""A Ray that is started here passes smaller objects inline, not through its object store."""


def connect(address: str | None) -> tuple[Any, OwnRay | None]:
    """Return the module ``ray``, connected to a cluster; without an address, a Ray is started on this machine.

    A Ray that is started here accepts no other machines or users and sends no usage statistics; the caller has to end
    it. Raises `UserError` if Ray is not installed or does not start.
    """
    is_here = address in (None, "local")
    # Ray reads these from the environment only, some of them when it is imported
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # no warning for workers without GPUs
    if is_here:
        os.environ["RAY_AUTH_MODE"] = "token"  # keeps out other users of this machine
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray keeps the first one that it reads
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # keeps out other machines: only loopback addresses
        for limit in ("RAY_max_direct_call_object_size", "RAY_task_rpc_inlined_bytes_limit"):
            os.environ.setdefault(limit, str(INLINE_BYTES))
        os.environ.setdefault(
            "RAY_worker_niceness", "0"
        )  # 15 by default: workers would have a lower priority than all other processes
    try:
        import ray
    except ImportError as error:
        raise UserError("engine ray", "Ray is not installed", 'pip install "ovvis-harness[ray]"') from error
    if ray.is_initialized():
        return ray, None
    own = OwnRay() if is_here else None
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        # Ray's workers import from the driver's working directory first; it may hold another harness/ folder.
        with chdir("/"), _handler_of_sigterm_kept():
            ray.init(address=address or "local", include_dashboard=False if is_here else None, **quiet)
    except Exception as error:  # Ray raises Exception itself, too
        if own is not None:
            own.kill()
        hint = "run `ray status` there to see whether it is started" if address else "read Ray's logs"
        raise UserError(f"Ray at {address or 'this machine'}", f"does not start: {first_line(error)}", hint) from error
    if own is not None:
        own.has_started()
    return ray, own


@contextmanager
def _handler_of_sigterm_kept() -> Iterator[None]:
    """Keep this process's handler of SIGTERM: with Ray's it would end without a message."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class OwnRay:
    """A Ray that is started here. Created before it: from then on `harness.engines.ray_guard` watches this process."""

    def __init__(self) -> None:
        self._daemons: dict[str, psutil.Process] = {}
        others = sorted({session for _, session in ray_guard.members(os.getpid())})
        # Run by its path, so that nothing in the working directory takes its place; in its own session, because Ctrl-C
        # and the end of a terminal reach all processes of a session.
        program = [sys.executable, "-P", str(Path(ray_guard.__file__)), str(os.getpid()), *others]
        self._guard = subprocess.Popen(program, stdin=subprocess.PIPE, start_new_session=True)

    def has_started(self) -> None:
        """Find Ray's daemons among the child processes."""
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                if child.name() in DAEMONS:
                    self._daemons[child.name()] = child

    def lost(self) -> str:
        """Return the name of a daemon that has ended; empty if all are alive."""
        return next((name for name, daemon in self._daemons.items() if not _is_alive(daemon)), "")

    def check(self) -> None:
        """Raise `UserError` if Ray has ended: any further call to it would end this process, or hang."""
        name = self.lost()
        if name:
            hint = "repeat the command to resume the run; if memory ran out, use fewer workers"
            raise UserError("Ray on this machine", f"its {name} has ended", hint)

    def kill(self) -> None:
        """Kill all its processes."""
        self._wait_for_guard()

    def end(self, ray: Any) -> None:
        """Shut it down in order, or kill the rest if a daemon has ended."""
        is_lost = bool(self.lost())
        if is_lost:
            self.kill()
        ray.shutdown()
        if not is_lost:
            self._wait_for_guard(b"ended")

    def _wait_for_guard(self, word: bytes | None = None) -> None:
        """Close the guard's input, and wait until it has done its work."""
        with suppress(subprocess.TimeoutExpired):  # a process that ignores all signals waits for a disk or a device
            self._guard.communicate(word, GUARD_SECONDS)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
