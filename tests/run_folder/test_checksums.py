"""Checksums of run folders: what they see, what they leave alone, and that the system's own tool reads them."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UnreadableFileError, UserError
from harness.run_folder.checksums import SUMMED, SUMS_FILE, CheckedFiles, parse_sums, write_sums

DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.text("abcXYZ019._-", min_size=1, max_size=20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose files and sums fit; some of the files that could be there are not."""
    (tmp_path / "metrics.json").write_text('{"AP": 0.5}')
    (tmp_path / "table.md").write_text("")
    (tmp_path / "run.log").write_text("is not summed")
    write_sums(tmp_path)
    return tmp_path


def test_what_fits_is_read_and_what_is_absent_is_none(folder: Path) -> None:
    assert CheckedFiles(folder).read("metrics.json") == b'{"AP": 0.5}'
    assert CheckedFiles(folder).read_json("metrics.json", dict[str, float]) == {"AP": 0.5}
    assert CheckedFiles(folder).read("table.md") == b""
    assert CheckedFiles(folder).read("config.json") is None
    assert CheckedFiles(folder / "metrics.json").read("config.json") is None


def test_a_changed_file_is_refused_in_one_line(folder: Path) -> None:
    (folder / "metrics.json").write_text('{"AP": 0.6}')
    for read in (
        lambda: CheckedFiles(folder).read("metrics.json"),
        lambda: CheckedFiles(folder).read_json("metrics.json", dict),
    ):
        with pytest.raises(UnreadableFileError, match=r"metrics\.json: is damaged: .*; repeat its `harness run`$"):
            read()
    (folder / SUMS_FILE).unlink()  # as in the folders of earlier versions
    assert CheckedFiles(folder).read("metrics.json") == b'{"AP": 0.6}'


def test_a_file_that_the_sums_do_not_know_is_refused_where_a_run_writes_it(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "run.log").write_text("goes on")
    with pytest.raises(UnreadableFileError, match=r"config\.json: is damaged"):
        CheckedFiles(folder).read("config.json")
    assert CheckedFiles(folder).read("run.log") == b"goes on"


def test_what_is_not_of_its_kind_is_refused_without_sums_too(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("[1]")
    with pytest.raises(UnreadableFileError, match=r"metrics\.json: is damaged: Expected `object`"):
        CheckedFiles(tmp_path).read_json("metrics.json", dict)
    (tmp_path / "table.md").mkdir()
    with pytest.raises(UserError, match=r"table\.md: cannot be read"):
        CheckedFiles(tmp_path).read("table.md")


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_the_systems_tool_says_the_same(folder: Path) -> None:
    def check() -> int:
        return subprocess.run(
            ["sha256sum", "--check", "--strict", SUMS_FILE], cwd=folder, capture_output=True
        ).returncode

    assert check() == 0
    (folder / "table.md").write_text("|")
    assert check() == 1


def known(data: bytes) -> dict[str, str]:
    """What a list says; nothing where it is refused."""
    with suppress(UnreadableFileError):
        return parse_sums(data, "here")
    return {}


@given(st.dictionaries(NAMES, DIGESTS))
def test_lists_come_back(sums: dict[str, str]) -> None:
    assert parse_sums("".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode(), "here") == sums


@given(st.dictionaries(NAMES, DIGESTS, min_size=1), st.data())
def test_a_damaged_list_never_says_that_other_bytes_fit(sums: dict[str, str], data: st.DataObject) -> None:
    whole = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(st.sampled_from((whole[:at], whole[:at] + b"\xff" + whole[at + 1 :], whole + whole[at:])))
    assert known(damaged).items() <= sums.items()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_list_or_refused(data: bytes) -> None:
    assert all("/" not in name for name in known(data))


def test_a_list_without_end_is_refused() -> None:
    with pytest.raises(UnreadableFileError):
        parse_sums(b"".join(b"%064x  %d\n" % (n, n) for n in range(2000)), "here")


def test_only_plain_names_are_summed() -> None:
    assert all("/" not in name for name in SUMMED)
    assert sorted(SUMMED) == list(SUMMED)
