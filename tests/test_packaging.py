"""What ``pyproject.toml`` asks for: requirements that an installer can meet without trying release after release."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def bounds(requirements: list[str], package: str) -> set[str]:
    """The bounds on a package, ``{">=1", "<2"}``."""
    (found,) = (r for r in requirements if re.match(rf"{package}\b", r))
    return set(found.removeprefix(package).replace(" ", "").split(","))


def test_boto3_is_bounded_as_aiobotocore_bounds_botocore() -> None:
    pytest.importorskip("aiobotocore")
    assert bounds(PROJECT["optional-dependencies"]["test"], "boto3") == bounds(
        requires("aiobotocore") or [], "botocore"
    )
