"""What many tests share: where the golden cases lie; and a guard against importing the checkout's folder."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

GOLDEN = Path(__file__).parent / "data" / "protocols"

if importlib.util.find_spec("harness.models") is None:
    pytest.exit(
        "`import harness` found the checkout's folder harness/ in place of the installed package, because"
        " `python -m pytest` puts the current folder first; run `pytest` after `pip install -e .[test]`",
        returncode=2,
    )


# the first call of a kernel compiles it, which no deadline for an example can know
settings.register_profile("harness", deadline=None)
settings.load_profile("harness")


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Finished runs to compare, see `compared_runs.Runs`; tests that change them take a copy."""
    from compared_runs import make_runs

    return make_runs(tmp_path_factory.mktemp("compared"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden protocol cases: those in the tree, or all of them where HARNESS_GOLDEN names a folder."""
    named = os.environ.get("HARNESS_GOLDEN")
    return Path(named) / "protocols" if named else GOLDEN
