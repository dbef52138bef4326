"""Errors that Python and the command line share name an argument as Python has it: ``runs_dir``, not ``--runs-dir``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness.errors import UserError

ROOT = Path(__file__).parents[1]
FOLDERS = ("harness", "models", "datasets", "baselines", "reports")
ONLY_COMMANDS = (
    "harness/cli/", "harness/convert/", "harness/training/", "harness/tracking/", "harness/export.py",
    "harness/sweeps.py", "harness/result_record.py", "reports/ceilings.py", "reports/regression.py",
    "reports/reproduction.py", "datasets/discovery.py",
)  # fmt: skip
"""Modules that only commands use."""
OPTION = re.compile(r"(?<![\w-])--(?!debug|upgrade|no-build-isolation)[a-z]")
"""Except for the traceback of a command, and options of pip."""
COMMAND = re.compile(r"`?harness [a-z]+[^`;]*`?|pip install .*")


def texts_in(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines and texts of the strings in a node; values in f-strings are left out."""
    if isinstance(node, ast.JoinedStr):
        yield node.lineno, "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts_in(child)


def errors_of(path: Path) -> Iterator[tuple[int, str]]:
    """Lines and texts of the errors that a module makes, and of its hints."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Error"):
            yield from texts_in(node)
        if isinstance(node, ast.Assign) and any("hint" in ast.unparse(one).lower() for one in node.targets):
            yield from texts_in(node.value)


def test_errors_name_no_options_of_the_command_line() -> None:
    found = []
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(ONLY_COMMANDS) or (ROOT / "harness").is_relative_to(path):
            continue
        found += [f"{name}:{line}: {text}" for line, text in errors_of(path) if OPTION.search(COMMAND.sub("", text))]
    assert not found, "\n".join(found)


def test_words_are_named() -> None:
    with pytest.raises(UserError, match="words: names nothing"):
        harness.predict("clip", [], model="oracle")


def test_the_oracle_asks_for_a_dataset() -> None:
    with pytest.raises(UserError, match="model oracle: needs a dataset, whose truth it reads; give a dataset with"):
        harness.load_model("oracle")


def test_settings_are_named() -> None:
    with pytest.raises(UserError, match="setting drop_track: is not a configuration key; did you mean"):
        harness.load_model("oracle", drop_track=1)
