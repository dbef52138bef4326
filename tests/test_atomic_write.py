"""Atomic writes: the whole new file or the whole old one, nothing beside it, the same bytes for the same value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.atomic_write import atomic_write, discard_unfinished, write_json, write_unflushed
from harness.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_name_appears_with_the_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_after_an_exception_the_old_file_is_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no/a: cannot be written: No such file or directory; free disk space"):
        write_json(tmp_path / "no/a", 1)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    for name in (".a.12.ab.tmp", "a.tmp", ".a"):
        (tmp_path / name).touch()
    discard_unfinished(tmp_path)
    assert names(tmp_path) == [".a", "a.tmp"]


def test_json_is_utf_8_in_the_order_given(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {"b": "Füchse", "a": [1, 0.1]}
    write_json(path, value)
    assert path.read_bytes() == '{\n "b": "Füchse",\n "a": [\n  1,\n  0.1\n ]\n}\n'.encode()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, float("nan"))
    assert json.loads(path.read_bytes()) == value


def test_files_that_may_be_lost_are_whole_too(tmp_path: Path) -> None:
    write_unflushed(tmp_path / "a", b"1")
    write_unflushed(tmp_path / "a", b"22")
    assert (tmp_path / "a").read_bytes() == b"22"
    assert names(tmp_path) == ["a"]
