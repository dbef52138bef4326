"""The package as it is released: one version, a small checkout, and requirements that an installer can meet at once."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml

import harness

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def bounds(requirements: list[str], package: str) -> set[str]:
    """The bounds on a package, ``{">=1", "<2"}``."""
    (found,) = (r for r in requirements if re.match(rf"{package}\b", r))
    return set(found.removeprefix(package).replace(" ", "").split(","))


def test_boto3_is_bounded_as_aiobotocore_bounds_botocore() -> None:
    pytest.importorskip("aiobotocore")
    assert bounds(PROJECT["optional-dependencies"]["test"], "boto3") == bounds(
        requires("aiobotocore") or [], "botocore"
    )


def test_the_version_is_that_of_the_package_everywhere() -> None:
    assert "version" not in PROJECT
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == harness.__version__
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == harness.__version__


def test_the_data_of_the_tests_stay_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "tests/data").rglob("*") if path.is_file()) < 12e6
