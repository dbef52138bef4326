"""Tables in LaTeX: what they need, how they fit, and that TeX compiles them where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import latex
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import make_record

from harness.reports.layouts import Column, Sheet, render_table
from harness.reports.styles import STYLES
from harness.reports.table_layout import Layout
from harness.reports.table_rows import Intervals
from harness.reports.tables import comparison_table

ODD = "<script>&_% {$x^2} \\end{tabular} ~#|"
RECORDS = [
    {**make_record("clip_vis", AP=0.3225, APb=0.25, APn=0.0525), "backbone": "ConvNeXt-B", "trained_on": "LVIS"},
    make_record(ODD, AP=0.2, APb=0.25, APn=None),
]
INTERVALS = [Intervals({"AP": 0.012, "APb": 0.1}, frozenset({"AP"})), Intervals({"AP": 0.008, "APb": 0.005})]
HEAD = r"""\documentclass[twocolumn]{article}
\usepackage[textwidth=6.875in, columnsep=0.3125in]{geometry}
\usepackage{array, booktabs, graphicx, siunitx}
\begin{document}
"""


def sheet_of(*cells: str) -> Sheet:
    return Sheet([Column("a"), Column("b", True)], [["x", cell] for cell in cells])


def column_of(*cells: str) -> tuple[str, list[str]]:
    """The specification of a column of numbers, and its cells."""
    text = render_table(sheet_of(*cells), "latex")
    (rows,) = latex.check(text)
    form = re.search(r"@\{\}l(.*)@\{\}\}", text)
    assert form
    return form[1], [row[1] for row in rows[1:]]


def test_numbers_are_aligned_at_their_points_and_marked_ones_are_as_wide() -> None:
    assert column_of("1.5", r"\textbf{12.5}", r"\underline{2.5}", "--") == (
        "S[table-format=2.1]",
        ["1.5", r"{\textbf{12.5}}", r"{\phantom{0}\underline{2.5}}", "{--}"],
    )


def test_signs_are_minus_signs() -> None:
    assert column_of("-1.5", "+12.5", r"\textbf{-0.5}") == (
        "S[table-format=-2.1]",
        ["-1.5", "+12.5", r"{\phantom{0}\textbf{$-$0.5}}"],
    )
    assert column_of("-1.5 to 2.5", "0.1 [-3.0, 1.0]") == ("r", ["$-$1.5 to 2.5", "0.1 [$-$3.0, 1.0]"])
    assert STYLES["latex"].text("a − b") == "a $-$ b"


def test_half_intervals_have_room_behind_the_number() -> None:
    form, (first, second) = column_of(r"\textbf{1.5}$_{\pm10.2}$$^{*}$", r"2.5$_{\pm0.2}$")
    assert form == r"S[table-format=1.1, table-space-text-post={$_{\pm10.2}$$^{*}$}]"
    assert second == r"2.5{$_{\pm0.2}$}"
    assert first.endswith(r"\phantom{$_{\pm10.2}$$^{*}$}}")


@pytest.mark.parametrize(
    ("methods", "environment"), [(["a"], "table"), (["a method with a longer name"], "table*"), (["x" * 90], "table*")]
)
def test_a_table_takes_one_column_or_two(methods: list[str], environment: str) -> None:
    text = comparison_table([make_record(name, AP=0.3, APb=0.3) for name in methods], "latex")
    assert f"\\begin{{{environment}}}" in text
    assert text.endswith(f"\\end{{{environment}}}\n")


def test_long_texts_are_wrapped_and_too_many_numbers_are_scaled() -> None:
    wide = Sheet([Column("a"), Column("b"), Column("AP", True)], [["some words " * 12, "other words " * 12, "1.0"]])
    text = render_table(wide, "latex")
    assert text.count(r"\raggedright\arraybackslash}p{") == 2
    assert "siunitx, array" in text.splitlines()[0]
    many = Sheet([Column("a"), *(Column("AP50", True) for _ in range(40))], [["x", *["12.5"] * 40]])
    assert r"\resizebox{\textwidth}{!}{%" in render_table(many, "latex")


@given(st.lists(st.text(max_size=200), min_size=1, max_size=6))
def test_texts_of_any_length_give_one_table(texts: list[str]) -> None:
    text = STYLES["latex"].text
    sheet = Sheet([Column("a"), *(Column(one) for one in texts)], [["x", *map(text, texts)]])
    (rows,) = latex.check(render_table(sheet, "latex"))
    assert len(rows[-1]) == 1 + len(texts)


def test_a_caption_says_data_rules_and_marks_and_a_label_is_given() -> None:
    part = {**make_record("partial", AP=0.3), "comparable": False, "not_comparable": ["2 of 12 videos"]}
    text = comparison_table([*RECORDS, part], "latex")
    latex.check(text)
    (caption,) = re.findall(r"^\\caption\{(.*)\}$", text, re.MULTILINE)
    data = f"{RECORDS[0]['dataset']} {RECORDS[0]['split']}"
    version = RECORDS[0]["protocol"]["version"]
    assert caption.startswith(f"Results on {data} in percent, by the lvvis protocol (version {version}).")
    assert "not comparable" in caption
    assert "not comparable" not in comparison_table(RECORDS, "latex")
    assert f"\\label{{tab:{data.replace(' ', '-')}}}" in text
    assert "\\caption" not in render_table(sheet_of("1.0"), "latex")


def test_letters_that_pdflatex_lacks_are_named_with_what_has_them() -> None:
    def needs(name: str) -> list[str]:
        text = comparison_table([make_record(name, AP=0.3)], "latex")
        latex.check(text)
        return [line for line in text.splitlines() if line.startswith("% needs")][1:]

    assert needs("plain – †") == []
    assert needs("Wałęsa") == ["% needs \\usepackage[T1]{fontenc}"]
    assert needs("猫 and 犬") == ["% needs LuaLaTeX or XeLaTeX, not pdfLaTeX, with a font (fontspec) that has 猫犬"]
    assert needs("".join(map(chr, range(0x4E00, 0x4E00 + 30))))[0].endswith(" and 10 more")


def test_tables_compile_and_fit(tmp_path: Path) -> None:
    """By the TeX of this machine; CI installs one."""
    if shutil.which("pdflatex") is None:
        pytest.skip(
            "no pdflatex on this machine; Debian's is `apt-get install texlive-latex-recommended texlive-science`"
        )
    side_by_side = Layout(side_by_side=True)
    on_three = [*RECORDS, *(make_record("clip_vis", name, AP=0.1) for name in ("ovis", "burst"))]
    tables = [
        comparison_table(RECORDS, "latex"),
        comparison_table(RECORDS, "latex", columns=("AP", "APb"), intervals=INTERVALS, notes=[ODD], provenance=[ODD]),
        comparison_table(RECORDS, "latex", published="main", corrected=True),
        comparison_table(RECORDS, "latex", published="all"),
        comparison_table(on_three, "latex", published="main", layout=side_by_side),
        render_table(sheet_of("-1.5", "+12.5", r"\textbf{-0.5}"), "latex"),
    ]
    (tmp_path / "paper.tex").write_text(HEAD + "\n".join(f"{one}\\clearpage" for one in tables) + "\\end{document}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    missing = re.search(r"File `([a-z]+\.sty)' not found", done.stdout)
    if missing:
        pytest.skip(f"this TeX has no {missing[1]}; Debian's is in texlive-science and texlive-latex-recommended")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in (tmp_path / "paper.log").read_text(errors="replace")
