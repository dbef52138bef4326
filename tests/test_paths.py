"""Locations: paths and URLs, and what objects of real (if local) stores do."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from object_stores import BadLine, environment

from harness.atomic_write import atomic_write, write_atomically, write_json, write_unflushed
from harness.errors import UserError
from harness.paths import ObjectPath, StoreError, local_copy, location


def test_a_path_is_a_path_and_a_url_an_object() -> None:
    assert location("runs/a") == Path("runs/a")
    assert location(Path("s3:/odd")) == Path("s3:/odd")
    found = location("s3://bucket/runs/a.b.json")
    assert isinstance(found, ObjectPath)
    assert (found.name, found.stem, found.suffix) == ("a.b.json", "a.b", ".json")
    assert str(found.parent) == "s3://bucket/runs"
    assert str(location("gs://bucket/runs/") / "x") == "gs://bucket/runs/x"
    assert found.parent / "a.b.json" == found.resolve() == pickle.loads(pickle.dumps(found))
    assert len({found, found.with_name("a.b.json"), found.with_name("c")}) == 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s4://bucket/runs", '"s4" is no object store; known: gs, s3'),
        ("http://host/runs", '"http" is no object store'),
        ("s3://", "names no bucket"),
        ("s3:///runs", "names no bucket"),
        ("s3://key:secret@bucket/runs", "takes a bucket and a path only"),
        ("s3://bucket/runs?secret=1", "takes a bucket and a path only"),
    ],
)
def test_odd_urls_are_refused_without_their_secrets(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        location(url)
    assert "secret" not in str(refusal.value)


def test_objects_are_written_read_listed_and_removed(store_folder: ObjectPath) -> None:
    path = store_folder / "run" / "a.json"
    assert not path.exists()
    assert not store_folder.is_dir()
    assert list(store_folder.glob("*")) == []
    with pytest.raises(FileNotFoundError):
        path.read_bytes()
    write_atomically(path, b"1")
    write_unflushed(path, b"22")
    write_json(store_folder / "run" / "deep" / "b.json", {"c": [1, None]})
    assert path.read_bytes() == b"22"
    assert (path.is_file(), path.is_dir(), store_folder.is_dir()) == (True, False, True)
    assert [p.name for p in (store_folder / "run").glob("*")] == ["a.json", "deep"]
    assert list(store_folder.rglob("b.*")) == [store_folder / "run" / "deep" / "b.json"]
    assert [p.relative_to(store_folder).as_posix() for p in store_folder.rglob("a.json")] == ["run/a.json"]
    assert abs(path.modified() - time.time()) < 60
    path.unlink()
    path.unlink(missing_ok=True)
    assert not path.exists()
    store_folder.remove_tree()
    store_folder.remove_tree()
    assert not store_folder.is_dir()


def test_what_another_client_writes_is_seen_at_once(store_folder: ObjectPath) -> None:
    import fsspec

    assert list(store_folder.glob("*")) == []
    other = fsspec.filesystem(store_folder.protocol, skip_instance_cache=True)
    other.pipe_file((store_folder / "new").key, b"1")
    assert [p.name for p in store_folder.glob("*")] == ["new"]
    assert (store_folder / "new").exists()


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # of gcsfs
def test_an_unfinished_file_never_has_the_name(store_folder: ObjectPath) -> None:
    path = store_folder / "whole.bin"
    write_atomically(path, b"old")
    with suppress(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    data = os.urandom(11 << 20)  # arrives in several parts
    with atomic_write(path) as file:
        file.write(data)
        assert path.read_bytes() == b"old"
    with local_copy(path) as copy:
        assert copy.read_bytes() == data
    assert not copy.exists()
    with pytest.raises(UserError, match="does not exist"), local_copy(store_folder / "no"):
        pass


def test_of_several_who_create_an_object_one_succeeds(s3_folder: ObjectPath) -> None:
    path = s3_folder / "once"
    path.create(b"1")
    with pytest.raises(FileExistsError):
        path.create(b"2")
    assert path.read_bytes() == b"1"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "Could not connect to the endpoint"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": "/none"}, "credentials"),
    ],
)
def test_a_store_that_cannot_be_reached_is_one_line(s3: str, values: dict[str, Any], message: str) -> None:
    path = location("s3://bucket/runs/x")
    with environment({k: v for k, v in values.items() if v}):
        for name in (name for name, value in values.items() if not value):
            del os.environ[name]
        with pytest.raises(StoreError, match=message) as refusal:
            path.exists()
        assert "\n" not in str(refusal.value)
        assert isinstance(refusal.value, OSError)
        assert refusal.value.strerror
        with pytest.raises(UserError, match=r"s3://bucket/runs/x: cannot be written: .*" + message):
            write_atomically(path, b"1")


def test_a_thread_that_was_not_answered_does_not_ask_again_for_a_while(
    s3: str, s3_folder: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = s3_folder / "x"
    with BadLine(s3).open() as line, environment({"AWS_ENDPOINT_URL": line.address, "AWS_MAX_ATTEMPTS": "1"}):
        path.write(b"1")
        line.is_down = True
        with pytest.raises(StoreError):
            path.read_bytes()
        line.is_down = False
        with pytest.raises(StoreError):
            path.read_bytes()
        with ThreadPoolExecutor(1) as other:
            assert other.submit(path.read_bytes).result() == b"1"
        monkeypatch.setattr("harness.paths.SILENT_SECONDS", 0.0)
        assert path.read_bytes() == b"1"


def test_a_write_to_a_store_that_swallows_it_has_an_end(s3_folder: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.paths._longest", lambda nbytes: 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with environment({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_MAX_ATTEMPTS": "1"}):
            for number in range(2):
                with pytest.raises(StoreError):
                    (s3_folder / f"{number}").write(b"1" * (5 << 20))


def test_an_absent_bucket_holds_nothing_and_takes_nothing(s3: str) -> None:
    path = location("s3://nobody-has-this/runs/x")
    assert not path.exists()
    with pytest.raises(UserError, match="cannot be written"):
        write_atomically(path, b"1")


def test_without_its_package_a_store_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "gs", raising=False)
    with environment({}), pytest.raises(UserError, match=r"pip install \"ovvis-harness\[gcs\]\""):
        location("gs://bucket/runs").exists()
