"""The faulty model as a third party's package, for runs that are separate commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture
def faulty_environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which the model ``faulty`` is installed."""
    about = tmp_path / "site" / "faulty-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[harness.models]\nfaulty = worker_models:PLUGIN\n")
    path = [str(about.parent), str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


@pytest.fixture
def faulty_command() -> list[str]:
    """The command that runs it over four videos; settings may follow."""
    start = [sys.executable, "-c", "from harness.cli.main import main; main()", "run", "--model", "faulty"]
    return [*start, "--dataset", "shapes", "--limit", "4", "--no-mlflow", "--device", "cpu"]
