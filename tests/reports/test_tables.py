"""Tables: exact text of small ones in every format, marks, escapes, published rows.

Tests of `reports/table_rows.py`.
"""

from __future__ import annotations

import csv
import io
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import make_record

from harness.errors import UserError
from harness.reports.layouts import TABLE_FORMATS, TableFormat
from harness.reports.table_layout import Layout
from harness.reports.table_rows import table_rows
from harness.reports.tables import comparison_table

ODD = "<script>&_%"
TWO = [
    make_record("clip_vis", AP=0.3225, APb=0.25, APn=None, AP50=0.5, AP75=0.29, AR100=0.4),
    make_record(ODD, AP=0.2, APb=0.25, APn=None, AP50=0.7, AP75=0.1, AR100=None),
]


def test_terminal() -> None:
    assert comparison_table(TWO) == (
        "Method         AP    APb    APn    AP50    AP75    AR\n"
        "-----------  ----  -----  -----  ------  ------  ----\n"
        "clip_vis     32.3   25.0      –    50.0    29.0  40.0\n"
        "<script>&_%  20.0   25.0      –    70.0    10.0     –\n"
    )


def test_terminal_in_color_marks_best_and_second() -> None:
    first, second = comparison_table(TWO, columns=("AP", "APb"), color=True).splitlines()[2:]
    assert first.split()[1:] == ["\x1b[1m32.3\x1b[0m", "\x1b[1m25.0\x1b[0m"]
    assert second.split()[1:] == ["\x1b[4m20.0\x1b[0m", "\x1b[1m25.0\x1b[0m"]


def test_markdown() -> None:
    assert comparison_table(TWO, "markdown", columns=("AP", "APb", "APn")) == (
        "| Method                 |          AP |      APb |   APn |\n"
        "|:-----------------------|------------:|---------:|------:|\n"
        "| clip\\_vis              |    **32.3** | **25.0** |     – |\n"
        "| &lt;script&gt;&amp;\\_% | <u>20.0</u> | **25.0** |     – |\n"
    )


def test_latex() -> None:
    assert comparison_table(TWO, "latex", columns=("AP", "APb", "APn")) == (
        "% needs \\usepackage{booktabs, siunitx}\n"
        "\\begin{table}\n"
        "\\caption{Results on lvvis val in percent, by the lvvis protocol (version 1). The best is bold, the"
        " second underlined.}\n"
        "\\label{tab:lvvis-val}\n"
        "\\centering\n"
        "\\small\n"
        "\\setlength{\\tabcolsep}{3pt}\n"
        "\\begin{tabular}{@{}lS[table-format=2.1]S[table-format=2.1]r@{}}\n"
        "\\toprule\n"
        "Method & {AP} & {APb} & APn \\\\\n"
        "\\midrule\n"
        "clip\\_vis & {\\textbf{32.3}} & {\\textbf{25.0}} & -- \\\\\n"
        "\\textless{}script\\textgreater{}\\&\\_\\% & {\\underline{20.0}} & {\\textbf{25.0}} & -- \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
    )


def test_html() -> None:
    text = comparison_table(TWO, "html", columns=("AP", "APn"))
    assert "<td>&lt;script&gt;&amp;_%</td>" in text
    assert "<td><strong>32.3</strong></td>" in text
    assert "<td><u>20.0</u></td>" in text
    assert "<td>–</td>" in text
    assert "<script>" not in text


def test_csv_is_exact_percent_without_marks() -> None:
    assert list(csv.reader(io.StringIO(comparison_table(TWO, "csv", columns=("AP", "APn"))))) == [
        [
            "Method",
            "Backbone",
            "Training data",
            "Dataset",
            "Split",
            "AP",
            "APn",
            "Comparable",
            "Not comparable",
            "Source",
        ],
        ["clip_vis", "", "", "lvvis", "val", "32.25", "", "yes", "", "runs/clip_vis-lvvis-val-0123abcd"],
        [ODD, "", "", "lvvis", "val", "20", "", "yes", "", f"runs/{ODD}-lvvis-val-0123abcd"],
    ]


def test_incomplete_runs_have_a_dagger_a_footnote_and_no_rank() -> None:
    text = comparison_table(
        [make_record("a", AP=0.5), make_record("b", done=7, AP=0.9), make_record("c", AP=0.4)], "markdown"
    )
    assert "| b†       |        90.0 |" in text
    assert "**50.0**" in text
    assert "<u>40.0</u>" in text
    assert text.endswith("\n- † b: not comparable: 5 of 12 videos failed\n")


def test_records_of_earlier_versions_are_judged_by_what_they_say() -> None:
    made = [make_record("a", AP=0.5), make_record("b", AP=0.9), make_record("c", AP=0.4)]
    old = [{key: value for key, value in one.items() if "comparable" not in key} for one in made]
    text = comparison_table([old[0], old[2], {**old[1], "limit": 5}, make_record("e", done=7, AP=0.1)], "markdown")
    assert "**50.0**" in text
    assert "| b†       |        90.0 |" in text
    assert "- † b: not comparable: first 5 videos only (--limit 5)" in text
    assert table_rows(old[:1], published="all")[0].marks == {}  # nothing says that it saw the whole split


def test_datasets_are_named_when_there_are_several_and_ranked_apart() -> None:
    records = [make_record("a", AP=0.5), make_record("a", "ovis", AP=0.1), make_record("b", AP=0.4)]
    made = table_rows(records)
    assert [(row.method, row.data, row.marks) for row in made] == [
        ("a", "lvvis val", {"AP": "best"}),
        ("b", "lvvis val", {"AP": "second"}),
        ("a", "ovis val", {}),
    ]
    assert "Dataset" in comparison_table(records)
    assert "Dataset" not in comparison_table(records[:1])


def test_two_configurations_of_a_model_are_told_apart() -> None:
    second = {**make_record("a", AP=0.5), "folder": "runs/a-lvvis-val-ffff0000"}
    assert [row.method for row in table_rows([make_record("a", AP=0.4), second])] == ["a (1)", "a (2)"]


def run_of(model: str, folder: str = "0", **config: Any) -> dict[str, Any]:
    record = {**make_record(model, AP=0.5), "folder": f"runs/{model}-lvvis-val-{folder}"}
    return {**record, "config": config, "precision": "fp32", "seed": 0}


def test_settings_that_differ_within_a_model_are_columns() -> None:
    records = [
        run_of("a", topk=5, matching="topk", window=10),
        {**run_of("a", topk=1, matching="topk", window=10), "precision": "bf16"},
        run_of("b", window=4, other=1),
    ]
    assert comparison_table(records, columns=("AP",)) == (
        "Method    topk    precision      AP\n"
        "--------  ------  -----------  ----\n"
        "a         5       fp32         50.0\n"
        "a         1       bf16         50.0\n"
        "b         –       fp32         50.0\n"
    )
    assert "\nb,,,lvvis,val,,fp32,50.0," in comparison_table(records, "csv", columns=("AP",)).replace(",50,", ",50.0,")


def test_nested_settings_have_dots() -> None:
    text = comparison_table(
        [run_of("a", part={"size": 1, "kind": "x_y"}), run_of("a", part={"size": 2, "kind": "x_y"})], "latex"
    )
    assert "Method & part.size & {AP}" in text
    text = comparison_table([run_of("a", part=None), run_of("a", part={"kind": "x_y"})], "latex")
    assert "x\\_y" in text


def test_runs_that_differ_in_nothing_shown_are_numbered() -> None:
    records = [run_of("a", "f0", topk=1), run_of("a", "f1", topk=1), run_of("a", "f2", topk=2)]
    assert [row.method for row in table_rows(records)] == ["a (1)", "a (2)", "a"]


def test_records_of_earlier_versions_do_not_make_every_setting_a_column() -> None:
    assert all(not row.settings for row in table_rows([make_record("a", AP=0.4), run_of("a", "f1", topk=1, window=10)]))


def test_corrected_columns_stand_beside_the_official_ones() -> None:
    text = comparison_table(TWO, "csv", columns=("AP",), corrected=True)
    assert (
        text.splitlines()[0]
        == "Method,Backbone,Training data,Dataset,Split,AP,AP corr.,Comparable,Not comparable,Source"
    )
    assert text.splitlines()[2].startswith(f"{ODD},,,lvvis,val,20,10,")
    assert "corr.:" in comparison_table(TWO, corrected=True)


@pytest.mark.parametrize("format", TABLE_FORMATS)
def test_published_rows_come_with_their_sources(format: TableFormat) -> None:
    text = comparison_table([make_record("mine", AP=0.25, APn=0.24)], format, published="all")
    assert "ConvNeXt-B" in text
    assert "Training" in text
    assert "2403.12455" in text
    assert "GLEE paper" in text


def test_published_rows_take_part_in_the_ranking() -> None:
    made = table_rows([make_record("mine", AP=0.31, APn=0.5)], published="all")
    assert made[0].marks == {"APn": "best"}
    assert [row.label for row in made if row.marks.get("AP") == "best"] == ["CLIP-VIS, ConvNeXt-B, LVIS"]
    assert all(row.sources for row in made)


def test_a_dataset_without_published_results_has_only_its_runs() -> None:
    records = [make_record("mine", "shapes", AP=0.3)]
    assert comparison_table(records, "markdown", published="all") == comparison_table(records, "markdown")


BLOCK = "split not stated by the source"


@pytest.mark.parametrize("format", TABLE_FORMATS)
def test_rows_of_an_unstated_split_are_a_block_of_their_own(format: TableFormat) -> None:
    text = comparison_table([make_record("mine", AP=0.99)], format, published="all", columns=("AP",))
    stated, heading, unstated = text.partition("not stated" if format == "csv" else BLOCK)
    assert heading
    assert text.count(BLOCK) == (0 if format == "csv" else 1)
    assert "CLIP-VIS" in stated
    assert "SAM3-ASH" in text
    assert "SAM3-ASH" in unstated.partition("[1]")[0]
    (line,) = [line for line in text.splitlines() if "SAM3-ASH (" in line and "digest" not in line] or [""]
    assert not any(mark in line for mark in ("**", "<strong>", "textbf"))


def test_an_unstated_row_is_never_ranked_and_does_not_take_a_rank() -> None:
    made = table_rows([make_record("mine", AP=0.4)], ("AP",), published="all")
    assert made[0].marks == {"AP": "best"}  # 47.3 of a row without a split is not above it
    unstated = [row for row in made if row.block]
    assert unstated
    assert made[-len(unstated) :] == unstated
    assert {row.split for row in unstated} == {"not stated"}
    assert all(row.marks == {} and row.comparable is None for row in unstated)


def test_blocks_of_several_datasets_come_last_and_name_their_dataset() -> None:
    records = [make_record("mine", AP=0.4), make_record("mine", "burst", AP=0.1)]
    text = comparison_table(records, published="all", columns=("AP",))
    assert text.count(BLOCK) == 1
    last = [line for line in text.partition(BLOCK)[2].splitlines() if line.startswith(("SegFS", "BriVIS"))]
    assert [["lvvis", "burst"][" burst " in line] for line in last] == ["lvvis", "burst"]


def test_unstated_rows_side_by_side_have_columns_of_their_own() -> None:
    records = [make_record("mine", AP=0.4), make_record("mine", "burst", AP=0.1)]
    text = comparison_table(records, "latex", published="all", columns=("AP",), layout=Layout(side_by_side=True))
    groups = ["{c}{lvvis val}", "{c}{burst val}", f"{{c}}{{lvvis, {BLOCK}}}", f"{{c}}{{burst, {BLOCK}}}"]
    places = [text.index(group) for group in groups]
    assert places == sorted(places)


def scored_by(name: str, threshold: float | None = None, **metrics: float) -> dict[str, Any]:
    protocol = {"name": name, "version": "1"} | ({} if threshold is None else {"score_threshold": threshold})
    return {"protocol": protocol, "metrics": metrics, "corrected": {key: value / 2 for key, value in metrics.items()}}


def test_metrics_of_other_protocols_join_published_columns_under_their_name() -> None:
    record = make_record("mine", "burst", AP=0.05)
    others = [
        scored_by("burst-class-guided", HOTA_all=0.2),
        scored_by("hota", 0.5, HOTA=0.3),
        scored_by("hota", HOTA=0.4),
    ]
    record["protocols"] = [*record["protocols"], *others]
    columns = ("AP", "HOTA", "HOTA@0.5", "hota/HOTA", "corrected.HOTA@0.5")
    lines = list(csv.DictReader(io.StringIO(comparison_table([record], "csv", published="all", columns=columns))))
    mine = [lines[0][key] for key in ("AP", "HOTA", "HOTA@0.5", "HOTA (all scores)", "HOTA@0.5 corr.")]
    assert mine == ["5", "20", "30", "40", "15"]
    assert {line["HOTA"] for line in lines if line["Method"].startswith("GLEE-Lite")} >= {"22.6"}
    assert ("CLIP-VIS", "R50", "LVIS") in {(line["Method"], line["Backbone"], line["Training data"]) for line in lines}


def test_hota_without_a_threshold_is_not_that_with_one() -> None:
    record = make_record("mine", AP=0.05)
    record["protocols"] = [*record["protocols"], scored_by("hota", 0.5, HOTA=0.3)]
    with pytest.raises(UserError, match='"hota/HOTA" is not a metric of these runs'):
        comparison_table([record], columns=("hota/HOTA",))
    assert "30.0" in comparison_table([record], columns=("hota@0.5/HOTA",))


def test_metrics_have_their_protocol_in_their_name_too() -> None:
    record = make_record("mine", AP=0.05)
    teta = {**scored_by("teta", 0.5, TETA=0.3), "undefined": {"metrics": {"LocA": "the official tool aborts"}}}
    teta["metrics"]["LocA"] = None
    record["protocols"] = [*record["protocols"], teta]
    columns = ("lvvis/AP", "teta/TETA", "teta@0.5/TETA", "corrected.teta/TETA", "teta/LocA")
    line = comparison_table([record], "markdown", columns=columns).splitlines()[2]
    assert line.split()[3::2] == ["5.0", "30.0", "30.0", "15.0", "–"]


def with_presence(name: str, mcc: float, fpr: float) -> dict[str, Any]:
    record = make_record(name, AP=0.05)
    rates = {"IL_MCC": mcc, "IL_FPR": fpr, "IL_recall": 0.5}
    record["protocols"] = [{**record["protocols"][0], "slices": {"presence": {"by_threshold": {"0.5": rates}}}}]
    return record


def test_false_alarms_are_columns_with_their_condition_and_the_lower_rate_is_best() -> None:
    records = [with_presence("eager", 0.5, 0.25), with_presence("careful", 0.75, 0.125)]
    text = comparison_table(records, "markdown", columns=("IL_MCC@0.5", "presence@0.5/IL_FPR"))
    header, _, eager, careful = text.splitlines()[:4]
    assert header.replace("\\", "").split()[1::2] == ["Method", "IL_MCC@0.5", "IL_FPR@0.5"]
    assert eager.split()[3::2] == ["<u>50.0</u>", "<u>25.0</u>"]
    assert careful.split()[3::2] == ["**75.0**", "**12.5**"]
    assert "IL_MCC@0.5, IL_FPR@0.5: over videos and categories known to be present or absent" in text.replace("\\", "")
    assert "(lower is better)" in text
    assert "lower is better" not in comparison_table(records, "markdown")
    with pytest.raises(UserError, match=r'"IL_FPR@0.55" is not a metric of these runs; did you mean "IL_FPR@0.5"'):
        comparison_table(records, columns=("IL_FPR@0.55",))


def test_no_runs_make_no_table() -> None:
    assert comparison_table([]) == ""


@pytest.mark.parametrize("format", TABLE_FORMATS)
def test_a_name_cannot_break_out_of_its_cell(format: TableFormat) -> None:
    name = "a|b\n\x1b[31mc\u202ed\t\\end{tabular}"
    text = comparison_table([make_record(name, AP=0.1), make_record("plain", AP=0.2)], format)
    assert "\x1b[31m" not in text
    assert "\u202e" not in text
    if format == "markdown":
        assert len([line for line in text.splitlines() if line.startswith("|")]) == 4
        assert "a\\|b" in text
    if format == "latex":
        assert text.count("\\end{tabular}") == 1


def test_a_long_name_is_never_cut() -> None:
    for format in TABLE_FORMATS:
        assert "x" * 300 in comparison_table([make_record("x" * 300, AP=0.1)], format)


FRACTION = st.floats(0, 1)


@given(FRACTION)
def test_print_is_within_half_a_tenth_and_csv_is_exact(value: float) -> None:
    record = make_record("m", AP=value)
    printed = comparison_table([record], columns=("AP",)).split()[-1]
    assert abs(Fraction(printed) - 100 * Fraction(repr(value))) <= Fraction(5, 100)
    exact = next(csv.DictReader(io.StringIO(comparison_table([record], "csv", columns=("AP",)))))["AP"]
    assert Fraction(exact) == 100 * Fraction(repr(value))


@given(st.lists(st.one_of(st.none(), FRACTION), min_size=1, max_size=8))
def test_marks_follow_the_printed_numbers(values: list[float | None]) -> None:
    records: list[dict[str, Any]] = [make_record(f"m{number}", AP=value) for number, value in enumerate(values)]
    made = table_rows(records, ("AP",))
    shown = {row.method: row for row in made}
    numbers = [
        (float(comparison_table([record], columns=("AP",)).split()[-1]), shown[record["model"]].marks.get("AP"))
        for record in records
        if record["metrics"]["AP"] is not None
    ]
    ranks = sorted({number for number, _ in numbers}, reverse=True)
    for number, mark in numbers:
        expected = {0: "best", 1: "second"}.get(ranks.index(number)) if len(numbers) > 1 else None
        assert mark == expected
    assert all(row.marks == {} for row in made if row.percents["AP"] is None)
