"""Pages of the documentation that code cites exist, with the section that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("harness", "models", "baselines", "datasets", "reports", "scripts", "benchmarks")
CITED = re.compile(r"docs/(?P<page>[\w/-]+\.md)(?:,\s+\*(?P<section>[^*]+)\*)?")
SOURCES = sorted({path.resolve() for part in FOLDERS for path in (ROOT / part).glob("**/*.py")})


def citations(text: str) -> set[tuple[str, str]]:
    return {(found["page"], " ".join((found["section"] or "").split())) for found in CITED.finditer(text)}


def is_section(page: Path, name: str) -> bool:
    text = page.read_text(encoding="utf-8")
    return bool(re.search(rf"^#+ {re.escape(name)}$|^\*\*{re.escape(name)}\.\*\*", text, re.MULTILINE))


@pytest.mark.parametrize("path", [p for p in SOURCES if citations(p.read_text(encoding="utf-8"))], ids=lambda p: p.name)
def test_a_cited_page_and_its_section_exist(path: Path) -> None:
    for page, section in citations(path.read_text(encoding="utf-8")):
        assert (ROOT / "docs" / page).is_file(), page
        assert not section or is_section(ROOT / "docs" / page, section), f"{page} has no section {section}"


def test_nothing_cites_what_a_reader_cannot_look_up() -> None:
    assert [
        p.name for p in SOURCES if re.search(r"\bspec, sections? \d|\bspec, \d", p.read_text(encoding="utf-8"))
    ] == []
