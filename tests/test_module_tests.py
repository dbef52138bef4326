"""Every module has a test that is found by its name, as CONTRIBUTING says under *Tests*."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .test_import_order import ROOT, modules

TESTS = ROOT / "tests"
TESTED = re.compile(r"^Tests of (?P<modules>`[^`]+`(?:(?:,| and|, and)\s+`[^`]+`)*)\.$", re.MULTILINE)
"""The line of a test file's docstring that names the modules it tests besides the one of its own name."""


def own_test(module: Path) -> Path:
    """``tests/scoring/test_match.py`` for ``harness/scoring/match.py``."""
    *folders, name = module.parts
    return Path(*folders[folders[:1] == ["harness"] :]) / f"test_{name}"


def named_modules(docstring: str) -> list[str]:
    return [name for found in TESTED.finditer(docstring) for name in re.findall(r"`([^`]+)`", found["modules"])]


def test_every_module_has_a_test_that_is_found_by_its_name() -> None:
    paths = {path.relative_to(ROOT) for path in modules().values() if not path.name.startswith("__")}
    named: dict[str, list[str]] = {}
    for file in TESTS.rglob("test_*.py"):
        for name in named_modules(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""):
            named.setdefault(name, []).append(file.relative_to(TESTS).as_posix())
    assert sorted(set(named) - {path.as_posix() for path in paths}) == [], "named by a test, and no module"
    own = {path.as_posix() for path in paths if (TESTS / own_test(path)).is_file()}
    missing = sorted({path.as_posix() for path in paths} - own - set(named))
    assert missing == [], "write a test for each, or name it in the docstring of the file that tests it"


def test_a_docstring_names_modules() -> None:
    docstring = "Layouts.\n\nTests of `reports/styles.py`,\n`reports/svg.py` and `reports/sections.py`.\n"
    assert named_modules(docstring) == ["reports/styles.py", "reports/svg.py", "reports/sections.py"]
    assert named_modules("Tests of `a.py` on a disk.") == []
