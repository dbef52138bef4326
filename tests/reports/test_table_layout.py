"""Layouts of tables from YAML: what they change, and how faults in them are told."""

from __future__ import annotations

from pathlib import Path

import latex
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import make_record

from harness.errors import UserError
from harness.reports.table_layout import Layout, read_layout
from harness.reports.table_rows import table_rows
from harness.reports.tables import comparison_table

RECORDS = [
    make_record("a", AP=0.5, APn=0.4, AR100=0.6),
    make_record("b", AP=0.4, APn=0.45),
    make_record("a", "ovis", AP=0.1, APn=0.2),
    make_record("c", "ovis", AP=0.3),
]


def layout_of(folder: Path, text: str) -> Layout:
    (folder / "layout.yaml").write_text(text)
    return read_layout(folder / "layout.yaml")


def error_of(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as error:
        comparison_table(RECORDS, layout=layout_of(folder, text))
    return str(error.value)


def test_datasets_stand_side_by_side_under_their_names(tmp_path: Path) -> None:
    layout = layout_of(
        tmp_path,
        """
        side_by_side: true
        datasets:
          - {dataset: lvvis, name: LV-VIS, columns: [AP, {key: APn, name: novel}]}
          - {dataset: ovis, columns: [AP]}
        """,
    )
    (made,) = latex.check(comparison_table(RECORDS, "latex", layout=layout))
    assert made == [
        [r"\multicolumn{1}{c}{}", r"\multicolumn{2}{c}{LV-VIS}", r"\multicolumn{1}{c}{ovis val}"],
        ["Method", "{AP}", "{novel}", "{AP}"],
        ["a", r"{\textbf{50.0}}", r"{\underline{40.0}}", r"{\underline{10.0}}"],
        ["b", r"{\underline{40.0}}", r"{\textbf{45.0}}", "{--}"],
        ["c", "{--}", "{--}", r"{\textbf{30.0}}"],
    ]
    assert comparison_table(RECORDS, layout=layout).splitlines()[0].split("  ")[0] == "Method"
    assert len(comparison_table(RECORDS, "csv", layout=layout).splitlines()) == 5  # a line per run, whatever the layout


def test_every_dataset_has_the_common_columns_unless_it_has_its_own() -> None:
    text = comparison_table(RECORDS, "html", layout=Layout(side_by_side=True, columns=[{"key": "AP"}]))
    assert text.count("<th>AP</th>") == 2
    assert "<th>lvvis val</th>" in text.replace(' halign="left"', "")


def test_published_results_join_by_method(tmp_path: Path) -> None:
    records = [make_record("mine", AP=0.3), make_record("mine", "ovis", AP=0.2)]
    (made,) = latex.check(comparison_table(records, "latex", published="all", layout=Layout(side_by_side=True)))
    assert [row[0] for row in made].count("mine") == 1
    both = next(row for row in made if row[:3] == ["CLIP-VIS", "R50", "LVIS"])
    assert both[3] == "19.5"
    assert both[-1].startswith("{[}1")
    assert made[2][-1] == "this run"


def test_rows_are_chosen_ordered_and_renamed(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, "rows: [{run: b, name: Ours}, {run: 'a-lvvis-*'}]\ndatasets: [{dataset: lvvis}]")
    assert [row.method for row in table_rows(RECORDS, layout=layout)] == ["Ours", "a"]


def test_columns_settings_and_decimals(tmp_path: Path) -> None:
    records = [
        {**make_record("a", AP=0.12345), "config": {"topk": k, "other": k}, "folder": f"runs/a-{k}"} for k in (1, 2)
    ]
    layout = layout_of(
        tmp_path, "decimals: 2\ncolumns: [{key: AP, name: all}, corrected.AP]\nsettings: [{key: topk, name: K}]"
    )
    assert comparison_table(records, layout=layout).splitlines()[0].split() == ["Method", "K", "all", "AP", "corr."]
    assert comparison_table(records, layout=layout).splitlines()[2].split() == ["a", "1", "12.35", "6.17"]
    assert (
        comparison_table(records, "csv", layout=layout).splitlines()[0]
        == "Method,Backbone,Training data,Dataset,Split,K,all,AP corr.,Comparable,Not comparable,Source"
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("colums: [AP]", 'is not a key of a layout; did you mean "columns"'),
        ("columns: [{kee: AP, name: x}]", "columns.0"),
        ("datasets: [{dataset: lvvis, nam: x}]", 'did you mean "name"'),
        ("datasets: [{dataset: lvvis, columns: [{key: AP, nane: x}]}]", 'did you mean "name"'),
        ("decimals: 9", "decimals"),
        ("columns: [APP]", '"APP" is not a metric of these runs; did you mean "AP"'),
        ("rows: [{run: zzz}]", 'no row is named "zzz"'),
        ("datasets: [{dataset: burst}]", "no run is on burst val; runs are on lvvis val, ovis val"),
        ("- a", "is not a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_faults_are_told(tmp_path: Path, text: str, what: str) -> None:
    assert what in error_of(tmp_path, text)


@given(content=st.binary(max_size=60))
def test_arbitrary_bytes_are_a_layout_or_a_user_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("layout") / "layout.yaml"
    path.write_bytes(content)
    told = ""
    try:
        read_layout(path)
    except UserError as error:
        told = str(error)
    assert told == "" or "layout.yaml" in told
