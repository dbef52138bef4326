"""Locations of run folders: on a disk, or in an object store by URL (``s3://bucket/runs``, ``gs://bucket/runs``)."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from harness.errors import UserError, near

EXTRAS = {"s3": "s3", "gs": "gcs"}
"""Object stores by URL scheme, with the extra of this package that each needs."""

SILENT_SECONDS = 30.0
"""After a store did not answer, a thread does not call it again for this time."""
REQUEST_SECONDS, LIST_SECONDS, READ_SECONDS = 300.0, 1800.0, 3600.0
"""Wall-clock limits of a small request, of listing a folder, and of reading an object.

The limits of the clients are for silence only: a store that sends a byte now and then would be waited for forever."""
_IN_ONE_REQUEST: dict[str, dict[str, int]] = {"s3": {"max_concurrency": 1}, "gs": {}}


class StoreError(UserError, OSError):
    """An object store refuses a request or does not answer; ``strerror`` is one line.

    It is an `OSError` for callers that can do without the file, and a `UserError` for all others.
    """

    def __init__(self, path: ObjectPath, error: Exception) -> None:
        self.errno = errno.EACCES if isinstance(error, PermissionError) else errno.EIO
        self.strerror = " ".join(str(error).split()) or type(error).__name__
        hint = "check its name, the network, and the environment with the credentials; then repeat the command"
        super().__init__(str(path), self.strerror, hint)


class Location(Protocol):
    """A file or folder: the methods that `pathlib.Path` and `ObjectPath` share.

    They raise `OSError`; those of an object store `StoreError` or `FileNotFoundError`. To write, see
    `harness.atomic_write`.
    """

    @property
    def name(self) -> str: ...
    @property
    def stem(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    @property
    def parent(self) -> Self: ...
    def __truediv__(self, name: str, /) -> Self: ...
    def __lt__(self, other: Self, /) -> bool: ...
    def with_name(self, name: str, /) -> Self: ...
    def relative_to(self, other: Self, /) -> PurePosixPath | Path: ...
    def absolute(self) -> Self: ...
    def resolve(self) -> Self: ...
    def exists(self) -> bool: ...
    def is_file(self) -> bool: ...
    def is_dir(self) -> bool: ...
    def glob(self, pattern: str, /) -> Iterator[Self]: ...
    def rglob(self, pattern: str, /) -> Iterator[Self]: ...
    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None: ...
    def read_bytes(self) -> bytes: ...
    def unlink(self, missing_ok: bool = False) -> None: ...


def location(text: str | Path) -> Location:
    """Return the location that a user names: a URL of an object store, or else a path.

    Raises `UserError` for URLs of other schemes, without a bucket, or with a query or credentials.
    """
    protocol, mark, rest = str(text).partition("://")
    if not mark or isinstance(text, Path):
        return Path(text)
    if protocol not in EXTRAS:
        raise UserError(str(text), f'"{protocol}" is no object store', near(protocol, EXTRAS))
    if urlsplit(str(text)).query or "@" in rest.partition("/")[0]:
        hint = "give credentials and addresses through the store's usual environment variables and files"
        raise UserError(f"{protocol}://", "takes a bucket and a path only", hint)
    if not rest.partition("/")[0]:
        raise UserError(str(text), "names no bucket", f"for example {protocol}://bucket/runs")
    return ObjectPath(str(text))


def in_unicode(path: Location | str) -> str:
    """A path as valid Unicode, for messages and records; in locales other than UTF-8, ``str`` of a path is not."""
    return os.fsencode(str(path)).decode("utf-8", "replace")


class ObjectPath:
    """An object in a store, or the folder of all names with this prefix; see `Location`.

    Writes are atomic, because each is a single request: readers see the old object or the new one. Nothing is cached:
    every call is a request to the store.
    """

    __slots__ = ("_path", "protocol")

    def __init__(self, url: str) -> None:
        self.protocol, _, path = url.partition("://")
        self._path = PurePosixPath(path)

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def stem(self) -> str:
        return self._path.stem

    @property
    def suffix(self) -> str:
        return self._path.suffix

    @property
    def parent(self) -> Self:
        return self._at(self._path.parent)

    @property
    def key(self) -> str:
        """Bucket and name, as fsspec takes them."""
        return str(self._path)

    def __truediv__(self, name: str) -> Self:
        return self._at(self._path / name)

    def with_name(self, name: str) -> Self:
        return self._at(self._path.with_name(name))

    def relative_to(self, other: Self) -> PurePosixPath:
        return self._path.relative_to(other._path)

    def absolute(self) -> Self:
        return self

    def resolve(self) -> Self:
        return self

    def __str__(self) -> str:
        return f"{self.protocol}://{self._path}"

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and str(self) == str(other)

    def __lt__(self, other: Self) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[type[ObjectPath], tuple[str]]:
        return ObjectPath, (str(self),)

    def exists(self) -> bool:
        """Whether there is an object or folder with this name."""
        with self._store() as store:
            return bool(store.exists(self.key, timeout=REQUEST_SECONDS))

    def is_file(self) -> bool:
        """Whether there is an object with this name."""
        with self._store() as store:
            return bool(store.isfile(self.key, timeout=REQUEST_SECONDS))

    def is_dir(self) -> bool:
        """Whether there are objects below this name."""
        with self._store() as store:
            return bool(store.isdir(self.key, timeout=REQUEST_SECONDS))

    def glob(self, pattern: str) -> Iterator[Self]:
        """Objects and folders directly in this folder whose name matches."""
        with self._store() as store:
            try:
                found = [PurePosixPath(name) for name in store.ls(self.key, detail=False, timeout=LIST_SECONDS)]
            except FileNotFoundError:
                found = []
        return (self._at(path) for path in sorted(found) if path != self._path and fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str) -> Iterator[Self]:
        """Objects at any depth whose name matches."""
        with self._store() as store:
            found = [PurePosixPath(name) for name in store.find(self.key, timeout=LIST_SECONDS)]
        return (self._at(path) for path in found if fnmatchcase(path.name, pattern))

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: object stores have no folders."""

    def read_bytes(self) -> bytes:
        with self._store() as store:
            return bytes(store.cat_file(self.key, timeout=READ_SECONDS, **_IN_ONE_REQUEST[self.protocol]))

    def write(self, data: bytes) -> None:
        """Write an object, replacing an existing one."""
        with self._store() as store:
            store.pipe_file(self.key, data, timeout=_longest(len(data)))

    def create(self, data: bytes) -> None:
        """Write a new object; of several processes one succeeds, the others get `FileExistsError`."""
        with self._store() as store:
            store.pipe_file(self.key, data, mode="create", timeout=_longest(len(data)))

    def upload(self, file: Path) -> None:
        """Upload a file of any size, replacing an existing object; it appears when the upload is complete."""
        with self._store() as store:
            store.put_file(str(file), self.key, timeout=_longest(file.stat().st_size))

    def download(self, file: Path) -> None:
        """Copy the object to a file."""
        with self._store() as store:
            store.get_file(self.key, str(file), timeout=READ_SECONDS)

    def modified(self) -> float:
        """Time of the last write by the store's clock, in seconds since 1970."""
        with self._store() as store:
            found = store.info(self.key, timeout=REQUEST_SECONDS)
            return float((found.get("LastModified") or found["mtime"]).timestamp())

    def unlink(self, missing_ok: bool = False) -> None:
        with self._store() as store:
            if missing_ok and not store.exists(self.key, timeout=REQUEST_SECONDS):
                return
            store.rm_file(self.key, timeout=REQUEST_SECONDS)

    def remove_tree(self) -> None:
        """Remove all objects below this name."""
        with self._store() as store:
            found = store.find(self.key, timeout=LIST_SECONDS)
            if found:
                store.rm(found, timeout=LIST_SECONDS)

    def _at(self, path: PurePosixPath) -> Self:
        return type(self)(f"{self.protocol}://{path}")

    @contextmanager
    def _store(self) -> Iterator[Any]:
        """Yield the file system; convert its exceptions to `FileNotFoundError`, `FileExistsError` or `StoreError`."""
        client = _client(self.protocol, os.getpid())
        failure = client.recent_failure()
        if failure is not None:
            raise StoreError(self, failure) from failure
        try:
            yield client.files
        except UserError:
            raise
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "there is no such object or bucket", str(self)) from error
        except FileExistsError as error:
            raise FileExistsError(errno.EEXIST, "there is such an object", str(self)) from error
        # The clients of stores have their own types of exceptions: no credentials, no connection, an invalid answer.
        except Exception as error:
            client.record_failure(error)
            raise StoreError(self, error) from error


def _longest(nbytes: int) -> float:
    """Timeout of an upload in seconds: the clients of stores do not time out while they send."""
    return REQUEST_SECONDS + nbytes / 100_000


class _Client:
    """The client of a process for a kind of store; it remembers, per thread, that the store did not answer.

    A client waits about half a minute for a store that does not answer. The next requests of the thread mostly clean
    up: they fail immediately, instead of waiting as long again for every file.
    """

    def __init__(self, files: Any) -> None:
        self.files = files
        self._of_thread = threading.local()

    def recent_failure(self) -> Exception | None:
        """The error if the store did not answer this thread within the last `SILENT_SECONDS`, else ``None``."""
        when, error = getattr(self._of_thread, "failure", (0.0, None))
        return error if time.monotonic() - when < SILENT_SECONDS else None

    def record_failure(self, error: Exception) -> None:
        """Remember an error of the connection; errors that are answers of the store are ignored."""
        if type(error).__module__.partition(".")[0] in ("aiohttp", "asyncio", "botocore", "fsspec"):
            self._of_thread.failure = time.monotonic(), error


@cache
def _client(protocol: str, process: int) -> _Client:
    """The client of this process; a forked child needs its own."""
    # gcsfs needs more permissions, and logs more, with its experimental features
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    for name in ("asyncio", "gcsfs", "s3fs"):  # they also log the tracebacks of exceptions that they raise or retry
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        import fsspec

        options = _s3_options() if protocol == "s3" else {}
        return _Client(fsspec.filesystem(protocol, use_listings_cache=False, skip_instance_cache=True, **options))
    except ImportError as error:
        hint = f'pip install "ovvis-harness[{EXTRAS[protocol]}]"'
        raise UserError(f"{protocol}://", f"needs a package that is not installed ({error})", hint) from error


def _s3_options() -> dict[str, Any]:
    """A session that sends no ``Expect: 100-continue``: without an answer aiohttp would wait for it forever."""
    from aiobotocore.session import AioSession
    from botocore.handlers import add_expect_header

    session = AioSession()
    session.unregister("before-call.s3", add_expect_header)
    return {"session": session}


def cache_folder(name: str) -> Path:
    """The user's cache folder ``name`` on this machine: below ``XDG_CACHE_HOME``, ``~/.cache`` if unset.

    Raises `UserError` for a user without a home folder, as in some containers.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "ovvis-harness" / name
    except RuntimeError as error:
        what = "is not known, because this user has no home folder"
        raise UserError("the folder for caches", what, "set XDG_CACHE_HOME to a folder, or HOME") from error


@contextmanager
def local_copy(path: Location) -> Iterator[Path]:
    """Yield a local file with the content of a location: itself, or a temporary copy. Raises `UserError`."""
    if not isinstance(path, ObjectPath):
        assert isinstance(path, Path)
        yield path
        return
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="harness-") as folder:
        file = Path(folder) / path.name
        try:
            path.download(file)
        except FileNotFoundError as error:
            raise UserError(str(path), "does not exist", "check its name") from error
        yield file
