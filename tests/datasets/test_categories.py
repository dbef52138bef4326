"""Category lists of datasets: the shipped ones, and how a file's list may differ from them."""

from __future__ import annotations

import pytest

from harness.datasets.categories import difference, packaged
from harness.formats.youtube_vis import CategoryRecord


def test_other_spellings_of_the_same_names_are_not_a_difference() -> None:
    ours = (CategoryRecord(1, "giant_panda"), CategoryRecord(25, "Vehical"))
    assert difference([CategoryRecord(1, "Giant panda"), CategoryRecord(25, "vehical")], ours) is None
    assert difference([ours[0], CategoryRecord(25, "Vehicle")], ours, {"Vehical": "Vehicle"}) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([CategoryRecord(0, "cat", 0), CategoryRecord(1, "cat", 0)], "unknown category 0"),
        ([], "lacks category 1"),
        ([CategoryRecord(1, "dog", 0)], '"dog", "cat" expected'),
        ([CategoryRecord(1, "cat", 3)], "partition 3, 0 expected"),
    ],
)
def test_a_difference_is_named(found: list[CategoryRecord], words: str) -> None:
    assert words in str(difference(found, [CategoryRecord(1, "cat", 0)]))


def test_packaged_lists_have_the_published_sizes() -> None:
    sizes = {name: len(packaged(name)) for name in ("lvvis", "ytvis2019", "ytvis2021", "ovis", "burst")}
    assert sizes == {"lvvis": 1196, "ytvis2019": 40, "ytvis2021": 40, "ovis": 25, "burst": 482}
    frequencies = [c.frequency for c in packaged("burst")]
    assert {f: frequencies.count(f) for f in "fcr"} == {"f": 195, "c": 191, "r": 96}
    assert next(c for c in packaged("burst") if c.name == "airplane").synonyms == ("aeroplane",)
