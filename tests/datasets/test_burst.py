"""BURST is read in its own form: sequences, categories by LVIS numbers, groups by frequency and split."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_copies import write_burst

from harness.datasets.burst import PLUGIN


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_burst(tmp_path)
    return tmp_path


def test_it_opens_with_truth_groups_and_annotated_frames(root: Path) -> None:
    dataset = PLUGIN.open(root, "val")
    assert [(c.id, c.name, c.groups) for c in dataset.categories] == [
        (1, "airplane", ("base", "common")),
        (2, "apricot", ("novel", "uncommon")),
        (3, "apron", ("base", "uncommon")),
    ]
    assert [v.id for v in dataset.videos] == [10, 11]
    assert [int(image[0, 0, 0]) for image in dataset.videos[1].read()] == [12, 13]
    assert dataset.truth is not None
    assert [[m is not None for m in t.masks] for t in dataset.truth.tracks_of(10)] == [[True, False]]


def test_its_check_counts_and_notes_that_categories_are_the_files_own(root: Path) -> None:
    report = PLUGIN.check(root, "val").splits[0]
    assert (report.found.videos, report.found.frames, report.found.tracks) == (2, 4, 2)
    assert report.missing_frames.count == 0
    assert report.notes[0] == (
        "988 videos by its author on the released file, Ali2500/BURST-benchmark #8, 2023-07-19,"
        " 993 by Athar et al., WACV 2023, 2023-01-03; this file has 2"
    )
    assert "category list differs" in report.notes[1]
    assert report.shortfall[0].startswith("2 videos, 988 expected (its author")
