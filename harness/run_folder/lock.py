"""Who runs a run folder: one process at a time.

On a disk the lock is the operating system's, which ends with the process that holds it. An object store knows no such
lock: there a process holds a lease, which it renews for as long as it lives.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import psutil

from harness.errors import UserError
from harness.paths import Location, ObjectPath

log = logging.getLogger(__name__)

_LOCK = "run.lock"
LEASE_SECONDS = 30.0
"""After so long without a renewal the holder of a lease is taken for dead."""
_RENEW_SECONDS = LEASE_SECONDS / 4
_PATIENCE_SECONDS = 5.0
"""So long the end of a run waits for the thread that renews: it may hang on a store that does not answer."""


@contextmanager
def locked(folder: Location) -> Iterator[Callable[[], None]]:
    """Make the folder and keep other processes from running it; raises `UserError` where another one does.

    What it yields raises `UserError` once another process has the lock, which may happen to a lease after a while
    without a network.
    """
    if isinstance(folder, ObjectPath):
        with _leased(folder) as check:
            yield check
        return
    assert isinstance(folder, Path)
    with _file_locked(folder):
        yield lambda: None


def is_locked(folder: Location) -> bool:
    """Whether a process runs the folder, as far as this machine can tell: some network file systems keep locks apart.

    A run that starts in the very moment of the question may be refused; do not ask without need.
    """
    if isinstance(folder, ObjectPath):
        with suppress(OSError):
            leases = _leases(folder)
            holder = _read(leases[-1]) if leases else None
            return holder is not None and holder.held and _age(leases[-1]) < LEASE_SECONDS
        return False
    assert isinstance(folder, Path)
    return _is_file_locked(folder)


@contextmanager
def _file_locked(folder: Path) -> Iterator[None]:
    path = folder / _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # no link: the folder may come from elsewhere, and what the lock's name leads to is emptied
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise UserError(str(folder), f"cannot be written: {error.strerror}", "name another --runs-dir") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            what = f"is being run by process {holder}"
            raise UserError(str(folder), what, "wait for it, stop it, or name another --runs-dir") from error
        with suppress(OSError):  # a full disk: the lock holds without the number, and what must be kept will say it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _is_file_locked(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # this file system has no locks
        return False
    finally:
        os.close(descriptor)
    return False


class _Holder(msgspec.Struct, frozen=True):
    """Content of a lease: who holds it. ``beat`` counts the renewals; a lease that was given back is not ``held``."""

    host: str
    pid: int
    word: str
    beat: int = 0
    held: bool = True


@contextmanager
def _leased(folder: ObjectPath) -> Iterator[Callable[[], None]]:
    """Hold the lease ``run.lock.<number>`` with the highest number.

    Who wants the folder makes the next number, which the store lets only one process do, and may do so once the lease
    with the last one was given back or has run out by the store's own clock. Who sees a number higher than its own has
    lost the folder. So no lease is ever taken from a holder by writing to it.
    """
    try:
        lease = _Lease(folder, _next_number(folder))
    except OSError as error:
        hint = "check its name, and the environment with the credentials; or name another --runs-dir"
        raise UserError(str(folder), f"cannot be written: {error.strerror}", hint) from error
    with lease.kept():
        yield lease.check


def _next_number(folder: ObjectPath) -> int:
    """Wait until the last lease is free, unless it is renewed; return the number that follows it."""
    leases = _leases(folder)
    if not leases:
        return 1
    last, first = leases[-1], None
    while (holder := _read(last)) is not None and holder.held and not _is_gone(holder):
        left = LEASE_SECONDS - _age(last)
        if left <= 0:
            break
        if first is None:
            first = holder
            log.warning("%s: process %s on %s has it, or has died: waiting up to %.0f s to see which",
                        folder, holder.pid, _name(holder), left)  # fmt: skip
        if holder.beat != first.beat:
            _refuse(folder, holder)
        time.sleep(min(left, 1.0))
    return _number(last) + 1


def _refuse(folder: ObjectPath, holder: _Holder | None) -> None:
    who = "another process" if holder is None else f"process {holder.pid} on {_name(holder)}"
    raise UserError(str(folder), f"is being run by {who}", "wait for it, stop it, or name another --runs-dir")


class _Lease:
    """A lease from when it is made until it is given back. Raises `UserError` where somebody else was quicker."""

    def __init__(self, folder: ObjectPath, number: int) -> None:
        self._folder, self._path = folder, folder / f"{_LOCK}.{number}"
        self._holder = _Holder(_here(), os.getpid(), secrets.token_hex(8))
        self._over, self._is_lost = threading.Event(), False
        try:
            self._path.create(msgspec.json.encode(self._holder))
        except FileExistsError:
            found = _read(self._path)
            if found != self._holder:  # ours it is where the answer was lost on its way and the client asked again
                _refuse(folder, found)
        for older in _leases(folder):
            if _number(older) < number:
                older.unlink(missing_ok=True)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease from a thread until the block ends, then give it back."""
        thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(_PATIENCE_SECONDS)
            if not self._is_lost and not thread.is_alive():
                with suppress(OSError):  # it runs out by itself
                    self._put(held=False)

    def check(self) -> None:
        """Raise `UserError` once another process has the folder."""
        if self._is_lost:
            what = "was taken over by another process while this one did not reach the store"
            raise UserError(str(self._folder), what, "see harness status; repeat the command if nobody runs it")

    def _keep(self) -> None:
        while not self._is_lost and not self._over.wait(_RENEW_SECONDS):
            try:
                last = _leases(self._folder)
                mine = _read(self._path)
                self._is_lost = not last or last[-1] != self._path or mine is None or mine.word != self._holder.word
                if not self._is_lost:
                    self._put(held=True)
            except OSError as error:
                if not self._over.is_set():
                    log.warning("the lease of %s cannot be renewed: %s", self._folder, error.strerror)

    def _put(self, held: bool) -> None:
        self._holder = msgspec.structs.replace(self._holder, beat=self._holder.beat + 1, held=held)
        self._path.write(msgspec.json.encode(self._holder))


def _leases(folder: ObjectPath) -> list[ObjectPath]:
    """The leases of a folder by ascending number."""
    found = [path for path in folder.glob(f"{_LOCK}.*") if path.name.removeprefix(f"{_LOCK}.").isdecimal()]
    return sorted(found, key=_number)


def _number(lease: ObjectPath) -> int:
    return int(lease.name.removeprefix(f"{_LOCK}."))


def _read(lease: ObjectPath) -> _Holder | None:
    """Who holds a lease; ``None`` where it is gone or was not written by us."""
    try:
        return msgspec.json.decode(lease.read_bytes(), type=_Holder)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _age(lease: ObjectPath) -> float:
    """Seconds since a lease was renewed, by the clock of the store: it is asked what time it is.

    Infinite where the lease is gone: who has made the next one removes it.
    """
    probe = lease.with_name(f".{_LOCK}.{secrets.token_hex(8)}.tmp")
    probe.write(b"")
    try:
        now = probe.modified()
    except FileNotFoundError:  # a run that begins removes what was left unfinished, and thinks that this was
        return 0.0
    finally:
        probe.unlink(missing_ok=True)
    try:
        return now - lease.modified()
    except FileNotFoundError:
        return math.inf


def _here() -> str:
    """This machine and its present life: process numbers mean nothing elsewhere, nor after a restart."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _name(holder: _Holder) -> str:
    return holder.host.partition(" ")[0]


def _is_gone(holder: _Holder) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    return holder.host == _here() and " " in holder.host and not psutil.pid_exists(holder.pid)
