"""Writing sheets: grouped headers in every format, comments that nothing ends, LaTeX that compiles.

Tests of `reports/styles.py` and `reports/table_sheets.py`.
"""

from __future__ import annotations

import latex
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reports.layouts import Column, Sheet, TableFormat, render_table
from harness.reports.styles import STYLES

GROUPED = Sheet(
    [Column("Method"), Column("AP", True, "A & B"), Column("APn", True, "A & B"), Column("AP", True, "C")],
    [["one", "1.0", "2.0", "3.0"], ["two", "4.0", "5.0", "6.0"]],
    ["a note"],
    ["harness table --out x", "run a: protocol lvvis version 1"],
)


def test_terminal_and_markdown_name_the_group_in_each_column() -> None:
    assert " ".join(render_table(GROUPED, "terminal").splitlines()[0].split()) == "Method A & B AP A & B APn C AP"
    lines = render_table(GROUPED, "markdown").splitlines()
    assert lines[:4] == ["<!--", "harness table --out x", "run a: protocol lvvis version 1", "-->"]
    assert "A &amp; B AP" in lines[4]


def test_latex_groups_have_a_rule_below() -> None:
    text = render_table(GROUPED, "latex")
    assert text.splitlines()[:2] == ["% harness table --out x", "% run a: protocol lvvis version 1"]
    assert r"\multicolumn{1}{c}{} & \multicolumn{2}{c}{A \& B} & \multicolumn{1}{c}{C} \\" in text
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}" in text
    (table,) = latex.check(text)
    assert table[2] == ["one", "1.0", "2.0", "3.0"]


def test_html_groups_span_their_columns() -> None:
    text = render_table(GROUPED, "html")
    assert '<th colspan="2" halign="left">A &amp; B</th>' in text
    assert text.startswith("<!--\nharness table --out x\n")


@given(st.text(max_size=40), st.sampled_from(["markdown", "html", "latex"]))
def test_nothing_ends_the_comment_or_leaves_its_line(text: str, format: TableFormat) -> None:
    made = render_table(Sheet([Column("a")], [["1"]], [], [text]), format)
    if format == "latex":
        assert made.splitlines()[0].startswith("%")
        assert made.splitlines()[1] == "% needs \\usepackage{booktabs, siunitx}"
    else:
        comment, _, rest = made.partition("-->")
        assert len(comment.splitlines()) == 2
        assert "<!--" not in comment[4:]
        assert "-->" not in rest


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_any_text_in_latex_compiles(name: str, cell: str, note: str) -> None:
    text = STYLES["latex"].text
    sheet = Sheet([Column(name), Column(name, True, cell)], [[text(cell), text(note)]], [note], [note])
    tables = latex.check(render_table(sheet, "latex"))
    assert len(tables) == 1


@pytest.mark.parametrize("bad", ["a & b", "50%", "x_1", "$x", "{", r"\input{x}", "a#b", r"\end{tabular}"])
def test_the_reader_of_latex_sees_what_does_not_compile(bad: str) -> None:
    with pytest.raises((AssertionError, IndexError)):
        latex.check(f"\\begin{{tabular}}{{@{{}}l@{{}}}}\n{bad} \\\\\n\\end{{tabular}}")
