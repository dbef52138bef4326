"""Messages that docs/faq.md explains are those that the code prints."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MESSAGES = re.findall(r"^(?:### |- )`([^`]+)`", (ROOT / "docs/faq.md").read_text(encoding="utf-8"), re.MULTILINE)


@cache
def texts() -> str:
    """All texts of the code, a line each; a text is cut where a value is put into it."""
    files = [
        path
        for part in ("harness", "models", "baselines", "datasets", "reports")
        for path in ROOT.glob(f"{part}/**/*.py")
    ]
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 10


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_of_the_code(message: str) -> None:
    assert message in texts()
