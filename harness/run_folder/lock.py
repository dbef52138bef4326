"""The lock of a run folder: only one process at a time can write a run to it.

On a disk it is a lock of the operating system, which ends with the process that holds it. Object stores have no locks:
there a process holds a lease, which it renews while it runs.
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

from harness.errors import UnreadableFileError, UserError
from harness.input_files import NOTE_BYTES, decode_json, read_file
from harness.paths import Location, ObjectPath

log = logging.getLogger(__name__)

_LOCK = "run.lock"
LEASE_SECONDS = 30.0
"""A lease that is not renewed for this time has expired: its holder is assumed to have died."""
_RENEW_SECONDS = LEASE_SECONDS / 4
_PATIENCE_SECONDS = 5.0
"""The end of a run waits this long for the renewing thread, which may hang on a store that does not answer."""


@contextmanager
def locked(folder: Location) -> Iterator[Callable[[], None]]:
    """Create the folder and lock it; raises `UserError` if another process holds the lock.

    Yields a function that raises `UserError` once another process has taken the lock over, which can happen to a lease
    after a network failure.
    """
    if isinstance(folder, ObjectPath):
        with _leased(folder) as check:
            yield check
        return
    assert isinstance(folder, Path)
    with _file_locked(folder):
        yield lambda: None


def is_locked(folder: Location) -> bool:
    """Whether a process holds the lock. Some network file systems do not show the locks of other machines.

    The check itself takes the lock for a moment, and a run that starts in that moment is refused: call it only when
    needed.
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
        # links are not followed: the folder is untrusted, and the file is truncated
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise UserError(str(folder), f"cannot be written: {error.strerror}", "name another runs_dir") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            what = f"is being run by process {holder}"
            raise UserError(str(folder), what, "wait for it, stop it, or name another runs_dir") from error
        with suppress(OSError):  # a full disk: the lock works without the process id; later writes report the disk
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _is_file_locked(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
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
    """Content of a lease: its holder. ``beat`` counts the renewals; ``held`` is false once the lease is released."""

    host: str
    pid: int
    word: str
    beat: int = 0
    held: bool = True


@contextmanager
def _leased(folder: ObjectPath) -> Iterator[Callable[[], None]]:
    """Hold the lease ``run.lock.<number>`` with the highest number.

    Once the last lease is released, or has expired by the clock of the store, a process may create the next number;
    the store lets only one process succeed. A process that sees a higher number than that of its lease has lost the
    lock. So no process ever writes to the lease of another.
    """
    try:
        lease = _Lease(folder, _next_number(folder))
    except OSError as error:
        hint = "check its name, and the environment with the credentials; or name another runs_dir"
        raise UserError(str(folder), f"cannot be written: {error.strerror}", hint) from error
    with lease.kept():
        yield lease.check


def _next_number(folder: ObjectPath) -> int:
    """Wait until the last lease expires; return the next number. Raises `UserError` if the lease is renewed."""
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
    raise UserError(str(folder), f"is being run by {who}", "wait for it, stop it, or name another runs_dir")


class _Lease:
    """A lease, from creation to release. Raises `UserError` if another process created it first."""

    def __init__(self, folder: ObjectPath, number: int) -> None:
        self._folder, self._path = folder, folder / f"{_LOCK}.{number}"
        self._holder = _Holder(_here(), os.getpid(), secrets.token_hex(8))
        self._over, self._is_lost = threading.Event(), False
        try:
            self._path.create(msgspec.json.encode(self._holder))
        except FileExistsError:
            found = _read(self._path)
            if found != self._holder:  # equal if the store's answer was lost and the client sent the request again
                _refuse(folder, found)
        for older in _leases(folder):
            if _number(older) < number:
                older.unlink(missing_ok=True)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease from a thread until the block ends, then release it."""
        thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(_PATIENCE_SECONDS)
            if not self._is_lost and not thread.is_alive():
                with suppress(OSError):  # if this fails, the lease expires
                    self._put(held=False)

    def check(self) -> None:
        """Raise `UserError` once another process has taken over the folder."""
        if self._is_lost:
            what = "was taken over by another process while this one could not reach the store"
            raise UserError(str(self._folder), what, "run `harness status`; repeat the command if no process runs it")

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
    """The holder of a lease; ``None`` if it is gone or is not a lease of the harness."""
    try:
        return decode_json(read_file(lease, NOTE_BYTES), _Holder)
    except (FileNotFoundError, UnreadableFileError, msgspec.MsgspecError):
        return None


def _age(lease: ObjectPath) -> float:
    """Seconds since a lease was renewed, by the clock of the store: the time of a file that is written now.

    Infinite if the lease is gone: the holder of the next one has removed it.
    """
    probe = lease.with_name(f".{_LOCK}.{secrets.token_hex(8)}.tmp")
    probe.write(b"")
    try:
        now = probe.modified()
    except FileNotFoundError:  # a starting run removes temporary files, including this one
        return 0.0
    finally:
        probe.unlink(missing_ok=True)
    try:
        return now - lease.modified()
    except FileNotFoundError:
        return math.inf


def _here() -> str:
    """This machine, boot and process namespace: process ids are unique only within them."""
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
