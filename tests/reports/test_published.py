"""Published results: typed, matched by what their source states, and never lost on the way into a table.

Tests of `reports/published/vocabulary.py`.
"""

from __future__ import annotations

from importlib.resources import files

import pytest

from harness.errors import UserError
from harness.reports.published import PublishedResult, parse_results, published, published_rows, results
from harness.reports.published.vocabulary import column_name


def test_every_row_of_the_file_is_read() -> None:
    text = files("harness.reports.published").joinpath("published_results.csv").read_text(encoding="utf-8")
    assert len(results()) == len(text.splitlines()) - 1
    assert {result.source_kind for result in results()} == {"paper", "repo", "rebuttal", "issue", "secondary"}
    assert all(result.source for result in results())


@pytest.mark.parametrize("dataset", ["lvvis", "ytvis2019", "ytvis2021", "ovis", "burst"])
def test_every_dataset_has_results_of_the_main_method_on_val(dataset: str) -> None:
    assert "CLIP-VIS" in {result.method for result in published(dataset, "val")}


def test_known_rows() -> None:
    found = {row.label: row for row in published_rows(published("lvvis", "val"))}
    assert found["CLIP-VIS, ConvNeXt-B, LVIS"].values == {"AP": 32.2, "APn": 40.2}
    assert len(found["CLIP-VIS, ConvNeXt-B, LVIS"].citations) == 2
    assert found["GLEE-Plus, Swin-L, GLEE stage-2 image mixture"].values == {"AP": 30.3, "APb": 31.6, "APn": 29.3}


def test_a_split_is_matched_only_where_the_source_states_it() -> None:
    splits = {result.split for result in published("lvvis", "val")}
    assert splits == {"val", "val (inferred: OV2Seg's row equals its val numbers)"}
    assert "SAM3-ASH (training-free)" not in {result.method for result in published("lvvis", "val")}
    assert {result.split for result in published("lvvis", "not stated")} == {"not stated"}
    assert published("shapes", "val") == []
    assert published("lvvis", "va") == []


def test_a_remark_on_the_split_and_a_weak_source_show_in_the_citation() -> None:
    citations = [citation for row in published_rows(published("lvvis", "val")) for citation in row.citations]
    assert any("split: val (inferred" in citation for citation in citations)
    assert any("context only" in citation for citation in citations)
    assert {"second-hand" in result.citation for result in results() if result.source_kind == "secondary"} == {True}


def test_no_number_is_lost_in_rows() -> None:
    for dataset, split in {(result.dataset, result.split) for result in results()}:
        here = [result for result in results() if (result.dataset, result.split) == (dataset, split)]
        made = published_rows(here)
        for result in here:
            same = [row for row in made if row.label == result.label and result.cited in row.remarks]
            assert any(row.values.get(result.metric) == result.value for row in same), result
            assert any(set(result.source.split("; ")[1:]) <= set(row.remarks[result.cited]) for row in same), result


def test_numbers_that_were_added_and_their_place() -> None:
    new = {(r.method, r.dataset, r.split, r.metric): r.value for r in results()}
    assert new["SAM 3.1", "LV-VIS", "test", "AP"] == 34.3
    assert new["SAM 3", "SA-Co/VEval SA-V", "test", "cgF1"] == 30.3
    assert new["VidEoMT (closed vocabulary)", "YTVIS22", "val", "AP_L"] in (42.6, 42.8)
    (pair,) = [[row.values["TETA"] for row in published_rows(published("tao", "not stated")) if row.label == "TETer"]]
    assert pair == [33.3, 34.6]  # both sources


def test_domains_of_veval_are_splits_of_ours() -> None:
    found = {result.method: result.value for result in published("saco-veval", "sav-test") if result.metric == "cgF1"}
    assert found["SAM 3.1"] == 30.5
    assert {result.dataset for result in published("saco-veval", "smartglasses-val")} == {"SA-Co/VEval SmartGlasses"}
    assert published("saco-veval", "not stated") == published("saco-veval", "xyz-val") == []
    assert published("lvvis", "sav-test") == []


def test_the_old_names_of_metrics_and_splits_are_gone() -> None:
    words = {word for result in results() for word in result[:6]}
    old = {
        "HOTA_all", "mAP_all", "FPS_amortised", "VL_MCC", "AR_L10", "timing", "phone", "BURST and LV-VIS",
        "split not stated", "split not stated in table", "not stated in table",
    }  # fmt: skip
    assert not words & old
    assert not any("not stated in text" in result.backbone for result in results())


def test_the_notes_name_what_is_above_the_main_method_on_lvvis() -> None:
    """The sentence in the notes is checked against the table, since a new row can outdate it."""
    ap = [result for result in results() if (result.dataset, result.metric) == ("LV-VIS", "AP")]
    above = set()
    for split in ("val", "test", "not stated"):
        best = 25.3 if split == "test" else 32.2
        above |= {(r.method, r.value) for r in ap if r.split.partition(" (")[0] == split and r.value > best}
    notes = files("harness.reports.published").joinpath("published_results.md").read_text(encoding="utf-8")
    (sentence,) = [part for part in notes.split("\n\n") if part.startswith("Above CLIP-VIS ConvNeXt-B on LV-VIS")]
    assert len(above) == 4
    sentence = " ".join(sentence.split())
    for method, value in above:
        assert method in sentence
        assert f"{value}" in sentence


HEAD = ",".join(PublishedResult._fields)
LINE = "M,R50,LVIS,LV-VIS,val,AP,20,a paper,paper,2024"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",AP,", ",mAP_all,", '"mAP_all" is not a known metric; did you mean "mAP"?'),
        ("LV-VIS", "LVVIS", '"LVVIS" is not a known dataset; did you mean "LV-VIS"?'),
        (",val,", ",phone,", '"phone" is not a known split'),
        (",paper,2024", ",blog,2024", '"blog" is not a known source_kind'),
        (",20,", ",100.1,", "AP 100.1 is not within 0 to 100"),
        (",20,", ",nan,", "AP nan is not within 0 to 100"),
        (",AP,20,", ",IL_MCC,44.1,", "IL_MCC 44.1 is not within -1 to 1"),
        (",AP,20,", ",FPS,-1,", "FPS -1.0 is not within 0 to inf"),
    ],
)
def test_what_breaks_the_vocabulary_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_results(f"{HEAD}\n{LINE}\n{LINE.replace(old, new)}\n", "table.csv")
    assert str(caught.value).startswith("table.csv, line 3: ")
    assert message in str(caught.value)


def test_a_number_stated_twice_by_a_source_is_refused() -> None:
    with pytest.raises(UserError, match="line 3: repeats an earlier line"):
        parse_results(f"{HEAD}\n{LINE}\n{LINE.replace(',20,', ',21,')}\n", "table.csv")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("AP", "AP"),
        ("hota/HOTA", "HOTA (all scores)"),
        ("hota@0.5/HOTA", "HOTA@0.5"),
        ("hota@0.5/LocA", "LocA_HOTA@0.5"),
        ("burst-class-guided/HOTA_all", "HOTA"),
        ("burst-class-guided/HOTA_common", "HOTA_common"),
        ("burst-class-guided/AP_all", "mAP"),
        ("burst-class-guided/AP_uncommon", "mAP_uncommon"),
        ("teta/LocA", "LocA"),
        ("teta-exhaustive/TETA", "TETA"),
        ("lvvis-fixed/AP", "AP_fixed"),
        ("burst-open-world/OWTA_all", "burst-open-world/OWTA_all"),
    ],
)
def test_our_metrics_join_only_what_is_measured_alike(ours: str, theirs: str) -> None:
    assert column_name(ours) == theirs


def one(source: str, metric: str, value: float, kind: str = "paper") -> PublishedResult:
    return PublishedResult("M", "R50", "LVIS", "LV-VIS", "val", metric, value, source, kind, 2024)


def test_sources_that_disagree_or_share_nothing_keep_rows_of_their_own() -> None:
    made = published_rows(
        [one("a", "AP", 20.0), one("b", "AP", 20.0), one("b", "APn", 9.0), one("c", "AP", 21.0), one("d", "APb", 1)]
    )
    assert [(row.values, len(row.citations)) for row in made] == [
        ({"AP": 20.0, "APn": 9.0}, 2),
        ({"AP": 21.0}, 1),
        ({"APb": 1}, 1),
    ]


def test_one_source_that_states_two_numbers_keeps_both_and_remarks_stay_with_their_source() -> None:
    first, second = published_rows([one("a; on x", "AP", 20.0), one("a; on y", "AP", 21.0)])
    assert (first.values, first.citations) == ({"AP": 20.0}, ["a, 2024 (on x)"])
    assert (second.values, second.citations) == ({"AP": 21.0}, ["a, 2024 (on y)"])
    (joined,) = published_rows([one("a", "AP", 20.0), one("a; printed as XYZ", "APn", 9.0), one("b; z", "AP", 20.0)])
    assert joined.citations == ["a, 2024 (printed as XYZ)", "b, 2024 (z)"]
