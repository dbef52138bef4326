"""Sphinx: the documentation site. ``pip install -e ".[docs]" && sphinx-build -W docs site`` builds it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click

sys.path.insert(0, str(Path(__file__).parents[1]))  # the code of this checkout, installed or not

import harness
from harness.cli.main import build

project = "ovvis-harness"
copyright = "2025-2026, the ovvis-harness authors"
version = release = harness.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["images/*.py"]
html_theme = "furo"
html_title = f"{project} {version}"
html_static_path: list[str] = []
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
# Docstrings write `Name` for a name of the package; what is no documented name is shown as code.
default_role = "any"
suppress_warnings = ["ref.any"]
autodoc_typehints = "signature"
maximum_signature_line_length = 100
autodoc_member_order = "bysource"

_REFERENCE = Path(__file__).parent / "reference"


def _write_commands(app: Any) -> None:
    """Write ``reference/commands.md`` from the commands themselves."""
    command = typer.main.get_command(build())
    context = typer.Context(command, info_name="harness")
    text = get_docs_for_click(obj=command, ctx=context, name="harness", title="Commands")
    _REFERENCE.mkdir(exist_ok=True)
    (_REFERENCE / "commands.md").write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("builder-inited", _write_commands)
