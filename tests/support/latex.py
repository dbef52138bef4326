"""A small reader of LaTeX tables: what would keep them from compiling is an error."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\(?:[A-Za-z]+|.)|[{}$&#%^_~]|[^\\{}$&#%^_~]+", re.DOTALL)
_KNOWN = {
    "\\begin", "\\end", "\\toprule", "\\midrule", "\\bottomrule", "\\cmidrule", "\\multicolumn", "\\textbf",
    "\\underline", "\\textbackslash", "\\textasciitilde", "\\textasciicircum", "\\textless", "\\textgreater",
    "\\textbar", "\\textdagger", "\\small", "\\footnotesize", "\\scriptsize", "\\raggedright", "\\arraybackslash",
    "\\caption", "\\label",
    "\\centering", "\\setlength", "\\tabcolsep", "\\smallskip", "\\linewidth", "\\textwidth", "\\resizebox",
    "\\phantom", "\\rlap", "\\par", "\\pm", "\\\\", "\\&", "\\%", "\\$", "\\#", "\\_", "\\{", "\\}",
}  # fmt: skip
_COLUMN = r"[lr]|S\[(?:[^\[\]{}]|\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})*\]|>\{\\raggedright\\arraybackslash\}p\{[\d.]+em\}"
_FORM = rf"\{{@\{{\}}((?:{_COLUMN})+)@\{{\}}\}}"


def check(text: str) -> list[list[list[str]]]:
    """The tables in ``text`` as rows of cells; fails where LaTeX would, and where a row has another number of cells."""
    text = "\n".join(line.removesuffix("%") for line in text.split("\n") if not line.startswith("%"))
    _check_tokens(text)
    tables = []
    for body in re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        form = re.match(_FORM, body)
        assert form, "no column format"
        columns = len(re.findall(_COLUMN, form[1]))
        lines = body[form.end() :].strip().split("\\\\\n")
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)&", _content(line))] for line in lines if _content(line)]
        for row in rows:
            width = sum(int(found[1]) if (found := re.match(r"\\multicolumn\{(\d+)\}", c)) else 1 for c in row)
            assert width == columns, row
        tables.append(rows)
    return tables


def _content(line: str) -> str:
    return re.sub(r"\\(toprule|midrule|bottomrule|cmidrule\(lr\)\{[\d-]+\})", "", line).strip()


def _check_tokens(text: str) -> None:
    """Braces and environments are closed, only known commands are used, special characters are escaped."""
    depth, is_math, environments = 0, False, []
    tokens = _TOKEN.findall(text)
    for place, token in enumerate(tokens):
        if token == "{":
            depth += 1
        elif token == "}":
            depth -= 1
            assert depth >= 0, "a brace too many"
        elif token == "$":
            is_math = not is_math
        elif token in ("^", "_", "\\pm"):
            assert is_math, f"{token} outside of a formula"
        elif token == "&":
            assert environments[-1:] == [("{tabular}", depth)], "& outside of a table"
        elif token in ("#", "%", "~"):
            raise AssertionError(f"{token} is not escaped")
        elif token.startswith("\\"):
            assert token in _KNOWN, token
            if token in ("\\begin", "\\end"):
                name = "".join(tokens[place + 1 : place + 4])
                if token == "\\begin":
                    environments.append((name, depth))
                else:
                    assert environments.pop() == (name, depth)
    assert (depth, is_math, environments) == (0, False, [])
