"""MOTS text files."""

from __future__ import annotations

from pathlib import Path

from track_sets import HEIGHT, two_on_top

from harness.convert.mots import write_mots


def test_mots_text_has_no_overlaps(tmp_path: Path) -> None:
    from pycocotools import mask as coco

    assert write_mots(two_on_top((0.2, 0.9)), tmp_path / "out") == ["1 masks overlapped others and were cut"]
    lines = [line.split() for line in (tmp_path / "out/a_b.txt").read_text().splitlines()]
    assert [line[:5] for line in lines] == [["1", "1", "1", "20", "30"], ["1", "2", "1", "20", "30"]]
    areas = [int(coco.area({"size": [20, 30], "counts": line[5].encode()})) for line in lines]
    assert areas == [2 * HEIGHT, 3 * HEIGHT]
    assert (tmp_path / "out/classes.txt").read_text() == "1 cat\n"
