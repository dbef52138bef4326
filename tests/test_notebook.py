"""The notebook of the examples, and the Python of README and docs, run from top to bottom."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples/python_api.ipynb"


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = 0
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        assert not cell["outputs"], "outputs are of one machine and one day: clear them"
        tree = ast.parse("".join(cell["source"]), f"cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)
        if last is not None:  # what a notebook shows: by its HTML where there is one
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
            made = value._repr_html_() if hasattr(value, "_repr_html_") else repr(value)
            assert len(made) < 20_000
            shown += 1
    assert shown >= 8
    assert names["run"].metrics["AP"] == names["meter"].compute()["AP"]


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_the_python_of_documents_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (NOTEBOOK.parents[1] / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), {"__name__": "__main__"})
