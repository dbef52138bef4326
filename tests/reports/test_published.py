"""Published results: typed, matched by what their source states, and never lost on the way into a table."""

from __future__ import annotations

from importlib.resources import files

import pytest

from harness.reports.published import PublishedResult, published, results, rows


def test_every_row_of_the_file_is_read() -> None:
    text = files("harness.reports.published").joinpath("published_results.csv").read_text(encoding="utf-8")
    assert len(results()) == len(text.splitlines()) - 1
    assert {result.source_kind for result in results()} == {"paper", "repo", "rebuttal", "issue", "secondary"}
    assert all(result.source for result in results())


@pytest.mark.parametrize("dataset", ["lvvis", "ytvis2019", "ytvis2021", "ovis", "burst"])
def test_every_dataset_has_results_of_the_main_method_on_val(dataset: str) -> None:
    assert "CLIP-VIS" in {result.method for result in published(dataset, "val")}


def test_known_rows() -> None:
    found = {row.label: row for row in rows(published("lvvis", "val"))}
    assert found["CLIP-VIS, ConvNeXt-B, LVIS"].values == {"AP": 32.2, "APn": 40.2}
    assert len(found["CLIP-VIS, ConvNeXt-B, LVIS"].citations) == 2
    assert found["GLEE-Plus, Swin-L, GLEE stage-2 image mixture"].values == {"AP": 30.3, "APb": 31.6, "APn": 29.3}


def test_a_split_is_matched_only_where_the_source_states_it() -> None:
    splits = {result.split for result in published("lvvis", "val")}
    assert splits == {"val", "val (split inferred: OV2Seg row equals its val numbers)"}
    assert "SAM3-ASH (training-free)" not in {result.method for result in published("lvvis", "val")}
    assert {result.split for result in published("lvvis", "not stated")} == {"not stated"}
    assert published("shapes", "val") == []
    assert published("lvvis", "va") == []


def test_a_remark_on_the_split_and_a_weak_source_show_in_the_citation() -> None:
    citations = [citation for row in rows(published("lvvis", "val")) for citation in row.citations]
    assert any("split inferred" in citation for citation in citations)
    assert any("context only" in citation for citation in citations)
    assert {"second-hand" in result.citation for result in results() if result.source_kind == "secondary"} == {True}


def test_no_number_is_lost_in_rows() -> None:
    for dataset, split in {(result.dataset, result.split) for result in results()}:
        here = [result for result in results() if (result.dataset, result.split) == (dataset, split)]
        made = rows(here)
        for result in here:
            same = [row for row in made if row.label == result.label and result.citation in row.citations]
            assert any(row.values.get(result.metric) == result.value for row in same), result


def one(source: str, metric: str, value: float, kind: str = "paper") -> PublishedResult:
    return PublishedResult("M", "R50", "LVIS", "LV-VIS", "val", metric, value, source, kind, 2024)


def test_sources_that_disagree_or_share_nothing_keep_rows_of_their_own() -> None:
    made = rows(
        [one("a", "AP", 20.0), one("b", "AP", 20.0), one("b", "APn", 9.0), one("c", "AP", 21.0), one("d", "APb", 1)]
    )
    assert [(row.values, len(row.citations)) for row in made] == [
        ({"AP": 20.0, "APn": 9.0}, 2),
        ({"AP": 21.0}, 1),
        ({"APb": 1}, 1),
    ]
