"""Words that plain modern English or the field replaces do not return to the text of the package and its pages."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("harness", "models", "baselines", "datasets", "reports", "docs", "scripts", "benchmarks", "examples")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Dockerfile", "pyproject.toml")
MADE = {"docs/reference/commands.md"}
SUFFIXES = {".py", ".md", ".j2", ".js", ".css", ".svg", ".sh", ".sbatch", ".yaml", ".toml", ".ipynb"}
REPLACED = {
    "lies?": "is, are",
    "beside": "next to, with, besides",
    "of (its|his|her|their|one's) own": "separate, different, its",
    "anew": "again",
    "mend(s|ed|ing)?": "fix",
    "heed(s|ed)?": "handle",
    "(is|are|be) told": "gets, is printed",
    "told otherwise": "by default",
    "speaks? of": "describes",
    "tells? of": "reports",
    "becomes? of": "happens to",
    "taken for": "recognised as, used as",
    "at hand": "available, found",
    "without a word": "without a message",
    "strangers?": "others, untrusted files",
    "house": "package, module",
    "doors?": "interface, entry point",
    "goes on with": "continues with",
    "for ever": "forever",
    "(thus|hence|whence|upon|shall|ought|nought|whilst|amongst|thereof|therein|herein)": "leave it out",
    "(?<!there )is no (metric|dataset|axis|plain|model|path|report)": "is not a",
}
"""Words, as patterns, and what the field or modern English says."""


@cache
def texts() -> dict[str, str]:
    """The text of every file by its path; files that are made from others are left out."""
    found = [ROOT / page for page in PAGES]
    for folder in FOLDERS:
        found += [path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES and path.is_file()]
    names = {path.relative_to(ROOT).as_posix(): path for path in found}
    return {name: path.read_text("utf-8") for name, path in names.items() if "/data/" not in name and name not in MADE}


@pytest.mark.parametrize("pattern", REPLACED)
def test_replaced_words_stay_replaced(pattern: str) -> None:
    word = re.compile(rf"(?<![\w.'-]){pattern}(?![\w'-])", re.IGNORECASE)
    found = []
    for name, text in texts().items():
        for match in word.finditer(text):
            number = text.count("\n", 0, match.start()) + 1
            found.append(f"{name}:{number}: {text.splitlines()[number - 1].strip()[:100]}")
    assert not found, f"write {REPLACED[pattern]}:\n" + "\n".join(found)
